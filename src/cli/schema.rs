//! `vxgate schema`.

use std::io;
use std::process::ExitCode;

use clap::Args;
use clap::builder::PossibleValuesParser;
use serde_json::Value;

use super::output::OutputError;
use super::{config, explain, fail, print, print_json, trace};
use crate::doctor;
use crate::show::{
    Drops, Fdb, Flows, LastDropped, LogLevel, Observed, Peers, Perf, Rates, Reloaded, SCHEMA,
    Status, Traffic, Workers, schema_of,
};
use crate::state::{self, State};

/// A command that prints JSON, with the schema of what it prints.
struct Document {
    command: &'static str,
    schema: fn() -> serde_json::Result<Value>,
}

/// All of them, as they are asked for.
const DOCUMENTS: &[Document] = &[
    Document {
        command: "config-diff",
        schema: || {
            Ok(schema_of::<config::Differences>(
                "config diff",
                config::SCHEMA,
            ))
        },
    },
    Document {
        command: "config-show",
        schema: || {
            Ok(schema_of::<config::Shown<'_>>(
                "config show",
                config::SCHEMA,
            ))
        },
    },
    Document {
        command: "doctor",
        schema: doctor::schema,
    },
    Document {
        command: "drain",
        schema: || Ok(schema_of::<Traffic>("drain", SCHEMA)),
    },
    Document {
        command: "drops",
        schema: || Ok(schema_of::<Drops>("drops", SCHEMA)),
    },
    Document {
        command: "drops-last",
        schema: || Ok(schema_of::<LastDropped>("drops --last", SCHEMA)),
    },
    Document {
        command: "explain",
        schema: || Ok(schema_of::<explain::Answer>("explain", SCHEMA)),
    },
    Document {
        command: "fdb",
        schema: || Ok(schema_of::<Fdb>("fdb", SCHEMA)),
    },
    Document {
        command: "flows",
        schema: || Ok(schema_of::<Flows>("flows", SCHEMA)),
    },
    Document {
        command: "log-level",
        schema: || Ok(schema_of::<LogLevel>("log-level", SCHEMA)),
    },
    Document {
        command: "observe",
        schema: || Ok(schema_of::<Observed>("observe", SCHEMA)),
    },
    Document {
        command: "peers",
        schema: || Ok(schema_of::<Peers>("peers", SCHEMA)),
    },
    Document {
        command: "perf",
        schema: || Ok(schema_of::<Perf>("perf", SCHEMA)),
    },
    Document {
        command: "reload",
        schema: || Ok(schema_of::<Reloaded>("reload", SCHEMA)),
    },
    Document {
        command: "resume",
        schema: || Ok(schema_of::<Traffic>("resume", SCHEMA)),
    },
    Document {
        command: "state-dump",
        schema: || {
            let mut schema = schema_of::<State>("state dump", state::SCHEMA);
            // It prints nothing but JSON.
            schema["title"] = "vxgate state dump".into();
            Ok(schema)
        },
    },
    Document {
        command: "status",
        schema: || Ok(schema_of::<Status>("status", SCHEMA)),
    },
    Document {
        command: "top",
        schema: || Ok(schema_of::<Rates>("top --once", SCHEMA)),
    },
    Document {
        command: "trace",
        schema: || Ok(schema_of::<trace::Traces<'static>>("trace", SCHEMA)),
    },
    Document {
        command: "workers",
        schema: || Ok(schema_of::<Workers>("workers", SCHEMA)),
    },
];

/// Arguments of `vxgate schema`.
#[derive(Debug, Args)]
pub(super) struct PrintSchema {
    /// Whose; without one, those that have one are listed.
    #[arg(value_name = "COMMAND", value_parser = commands())]
    command: Option<String>,
}

fn commands() -> PossibleValuesParser {
    PossibleValuesParser::new(DOCUMENTS.iter().map(|document| document.command))
}

impl PrintSchema {
    pub(super) fn execute(self) -> ExitCode {
        let Some(command) = self.command else {
            let lines = DOCUMENTS
                .iter()
                .map(|document| format!("{}\n", document.command));
            print(&lines.collect::<String>());
            return ExitCode::SUCCESS;
        };
        let mut documents = DOCUMENTS.iter();
        // One of them: the command line has been judged.
        let schema = documents
            .find(|document| document.command == command)
            .map(|document| (document.schema)());
        match schema.transpose() {
            Ok(schema) => match print_json(&schema) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => fail(&error),
            },
            Err(error) => fail(&OutputError::of("the JSON Schema")(io::Error::from(error))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_schema_is_one_and_says_of_every_key_what_it_is() {
        for document in DOCUMENTS {
            let command = document.command;
            let schema = (document.schema)().unwrap();
            let mut compiler = boon::Compiler::new();
            compiler.add_resource("x.json", schema.clone()).unwrap();
            let mut schemas = boon::Schemas::new();
            compiler.compile("x.json", &mut schemas).unwrap();
            assert!(schema["title"].is_string(), "{command}");
            // The doctor's is written by hand: what says itself is left without words there.
            if command != "doctor" {
                described(command, &schema);
            }
        }
        assert!(DOCUMENTS.is_sorted_by_key(|document| document.command));
    }

    fn described(command: &str, schema: &Value) {
        match schema {
            Value::Object(keys) => {
                if let Some(Value::Object(own)) = keys.get("properties") {
                    for (key, value) in own {
                        assert!(value["description"].is_string(), "{command}: {key}");
                    }
                }
                keys.values().for_each(|inner| described(command, inner));
            }
            Value::Array(entries) => entries.iter().for_each(|inner| described(command, inner)),
            _ => {}
        }
    }
}

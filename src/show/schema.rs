//! What commands print with `--json`, as JSON Schema: derived from the types that they print, so that the two cannot drift apart,
//! with the words that stand beside the fields.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

/// The schema (draft 2020-12) of the document of this type, which `vxgate COMMAND --json` prints. `name` is what the document itself
/// calls its schema.
pub fn schema_of<T: JsonSchema>(command: &str, name: &str) -> Value {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    let generator = settings.into_generator();
    let mut schema = generator.into_root_schema_for::<T>().to_value();
    in_plain_words(&mut schema);
    if let Some(root) = schema.as_object_mut() {
        root.insert("title".into(), format!("vxgate {command} --json").into());
        set_name(root, name);
    }
    schema
}

/// Says what the key `schema` has, where there is one.
fn set_name(root: &mut Map<String, Value>, name: &str) {
    let keys = root.get_mut("properties").and_then(Value::as_object_mut);
    if let Some(own) = keys.and_then(|keys| keys.get_mut("schema")) {
        *own = json!({
            "description": "Which schema this is. Keys are added, never renamed.",
            "const": name,
        });
    }
}

/// Takes the marks of links off that stand in the sources' comments, and the line breaks.
fn in_plain_words(schema: &mut Value) {
    match schema {
        Value::Object(keys) => {
            for (key, value) in keys {
                match value {
                    Value::String(words) if key == "description" => {
                        *words = words.replace("[`", "`").replace("`]", "`");
                        *words = words.replace('\n', " ");
                    }
                    inner => in_plain_words(inner),
                }
            }
        }
        Value::Array(entries) => entries.iter_mut().for_each(in_plain_words),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde::Serialize;

    use super::*;
    use crate::show::metrics::samples;
    use crate::show::{Drops, LastDropped, Peers, SCHEMA, Since, Status, Workers};
    use crate::show::{fdb, last_dropped};

    /// The document is as its schema says, and is not when one of its keys has something else.
    fn judge<T: Serialize + JsonSchema>(document: &T, wrong: &str) -> Value {
        let schema = schema_of::<T>("x", SCHEMA);
        let mut compiler = boon::Compiler::new();
        compiler.add_resource("x.json", schema.clone()).unwrap();
        let mut schemas = boon::Schemas::new();
        let index = compiler.compile("x.json", &mut schemas).unwrap();
        let mut json = serde_json::to_value(document).unwrap();
        if let Err(error) = schemas.validate(&json, index) {
            panic!("{error}\n{json:#}");
        }
        *json.pointer_mut(wrong).unwrap() = json!({"x": 1});
        assert!(schemas.validate(&json, index).is_err(), "{wrong}");
        schema
    }

    #[test]
    fn documents_are_as_their_schemas_say() {
        for seen in [
            samples::observation(),
            samples::with_direct(),
            samples::crowd(),
        ] {
            let status = Status::new(seen, 7);
            let last = last_dropped::tests::frame("unknown_peer", "eth1", 5);
            let last = LastDropped::new(vec![last]);
            judge(&status, "/ports/0/received");
            judge(&Peers::of(&status, None).unwrap(), "/peers/0/received");
            judge(&Drops::of(&status, &last, Since::Hour), "/drops/0/count");
            judge(&Workers::of(&status), "/workers/0/turns");
            judge(&last, "/frames/0/bytes");
            judge(&fdb::tests::fdb(), "/entries/0/dst");
        }
    }

    #[test]
    fn a_schema_has_the_words_of_the_sources_and_the_documents_name() {
        let schema = schema_of::<Workers>("workers", SCHEMA);
        assert_eq!(schema["title"], "vxgate workers --json");
        assert_eq!(schema["properties"]["schema"]["const"], "vxgate/1");
        let received = &schema["$defs"]["Worker"]["properties"]["received"];
        assert_eq!(received["type"], "integer");
        let words = "Frames that it has taken from its queues since the takeover.";
        assert_eq!(received["description"], words);
    }
}

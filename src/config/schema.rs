//! What a configuration file may say, as JSON Schema: for editors, and for whoever makes the file by a program.

use serde_json::{Map, Value, json};

use super::key::Key;

/// The schema of the file.
pub fn schema() -> Value {
    let tables: Map<String, Value> = Key::tables()
        .map(|table| {
            let keys: Map<String, Value> = Key::of(table)
                .map(|key| (key.name().to_owned(), key.schema()))
                .collect();
            let table_schema = json!({
                "type": "object",
                "additionalProperties": false,
                "properties": keys,
            });
            (table.to_owned(), table_schema)
        })
        .collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "vxgate.toml",
        "description": "Settings of `vxgate run --config FILE`.",
        "type": "object",
        "additionalProperties": false,
        "properties": tables,
    })
}

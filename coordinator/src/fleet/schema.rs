//! JSON Schemas (draft 2020-12) of the files, made from the types that read them.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::files::{AppFile, ChannelsFile, FleetFile, GroupFile, NodeFile, PoliciesFile};

/// The schema of each kind of file, by the name under which it is kept in docs/schema.
pub fn schemas() -> BTreeMap<&'static str, Value> {
    [
        ("fleet.json", schema::<FleetFile>("fleet.toml")),
        ("channels.json", schema::<ChannelsFile>("channels.toml")),
        ("rollouts.json", schema::<PoliciesFile>("rollouts.toml")),
        ("app.json", schema::<AppFile>("apps/APP.toml")),
        ("group.json", schema::<GroupFile>("groups/GROUP.toml")),
        ("node.json", schema::<NodeFile>("nodes/NODE.toml")),
    ]
    .into()
}

fn schema<T: ToSchema>(file: &str) -> Value {
    let mut named: Vec<(String, RefOr<Schema>)> = Vec::new();
    T::schemas(&mut named);
    let named: Map<String, Value> = named.into_iter().map(|(name, schema)| (name, plain(&schema))).collect();
    let mut schema = plain(&<T as PartialSchema>::schema());
    if let Some(object) = schema.as_object_mut() {
        object.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
        object.insert("title".to_owned(), json!(file));
        if !named.is_empty() {
            object.insert("$defs".to_owned(), Value::Object(named));
        }
    }
    schema
}

/// As JSON, with references into the file itself.
fn plain(schema: &RefOr<Schema>) -> Value {
    // A schema always has a JSON form.
    let text = serde_json::to_string(schema).unwrap_or_default().replace("#/components/schemas/", "#/$defs/");
    serde_json::from_str(&text).unwrap_or_default()
}

//! docs/protocol.md is held to the code: its examples are read with the types of `wire`, and it names every route.

#![allow(clippy::unwrap_used)] // A test stops at the first surprise.

use std::collections::BTreeSet;

use orangery::api::{audience::Audience, routes};
use orangery_wire::messages::{Acked, Desired, Event, Health, Online, Reported};
use orangery_wire::rest::{AuditEntry, DeployRequest, ErrorBody, RolloutRequest, SessionView};
use orangery_wire::token::Token;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

fn page() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/protocol.md")).unwrap()
}

/// The code blocks that are marked ```` ```json NAME ````.
fn examples(page: &str) -> Vec<(String, Value)> {
    let blocks = page.split("```json ").skip(1);
    blocks
        .map(|block| {
            let (name, rest) = block.split_once('\n').unwrap();
            let (json, _) = rest.split_once("```").unwrap();
            (name.to_owned(), serde_json::from_str(json).unwrap_or_else(|error| panic!("{name}: {error}")))
        })
        .collect()
}

/// Reads an example and writes it again: nothing in it may get lost, so no field is misspelt.
fn read_again<T: DeserializeOwned + Serialize>(value: &Value) -> Value {
    serde_json::to_value(serde_json::from_value::<T>(value.clone()).unwrap()).unwrap()
}

fn check_is_in(name: &str, example: &Value, read: &Value) {
    match (example, read) {
        (Value::Object(example), Value::Object(read)) => {
            for (key, value) in example {
                check_is_in(&format!("{name}.{key}"), value, read.get(key).unwrap_or_else(|| panic!("{name}.{key}")));
            }
        }
        (Value::Array(example), Value::Array(read)) => {
            assert_eq!(example.len(), read.len(), "{name}");
            example.iter().zip(read).for_each(|(example, read)| check_is_in(name, example, read));
        }
        // A temperature is an f32 in code: it comes back with more digits.
        (Value::Number(example), Value::Number(read)) if example.is_f64() => {
            assert!((example.as_f64().unwrap() - read.as_f64().unwrap()).abs() < 1e-3, "{name}");
        }
        _ => assert_eq!(example, read, "{name}"),
    }
}

#[test]
fn every_example_is_what_the_code_reads() {
    let examples = examples(&page());
    for (name, value) in &examples {
        let read = match name.as_str() {
            "token" => read_again::<Token>(value),
            "desired" => read_again::<Desired>(value),
            "reported" => read_again::<Reported>(value),
            "event" => read_again::<Event>(value),
            "acked" => read_again::<Acked>(value),
            "online" => read_again::<Online>(value),
            "health" => read_again::<Health>(value),
            "deploy" => read_again::<DeployRequest>(value),
            "rollout" => read_again::<RolloutRequest>(value),
            "audit" => read_again::<AuditEntry>(value),
            "session" => read_again::<SessionView>(value),
            "error" => read_again::<ErrorBody>(value),
            other => panic!("nobody knows how to read {other}"),
        };
        check_is_in(name, value, &read);
    }
    assert_eq!(examples.len(), 12);
}

#[test]
fn every_route_is_in_the_table_with_its_audience_and_no_other() {
    let page = page();
    let rows = page.lines().filter(|line| line.starts_with("| `") && line.contains(" /"));
    let described: BTreeSet<(String, String)> = rows
        .filter_map(|row| {
            let mut cells = row.split('|').skip(1).map(str::trim);
            Some((cells.next()?.trim_matches('`').to_owned(), cells.next()?.to_owned()))
        })
        .collect();
    let exists = routes().into_iter().map(|route| {
        let audience = match (route.audience, route.path) {
            (Audience::Anyone, "/v1/join") => "an invite's secret",
            (Audience::Anyone, _) => "anyone",
            (Audience::Viewer, _) => "viewer",
            (Audience::Operator, _) => "operator",
            (Audience::Admin, _) => "admin",
            (Audience::ViewerOrScraper, _) => "viewer or scraper",
            (Audience::Node, _) => "node",
            (Audience::NodeEvenExpired, _) => "node, even expired",
            (Audience::NodeOrViewer, _) => "node or viewer",
            (Audience::NodeOrOperator, _) => "node or operator",
        };
        (format!("{} {}", route.method, route.path), audience.to_owned())
    });
    assert_eq!(described, exists.collect());
}

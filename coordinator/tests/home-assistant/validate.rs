//! As much of JSON Schema as the schemas beside this need. A keyword that is not known here ends the test: nothing is passed
//! over in silence.

use serde_json::Value;

/// Keywords that say nothing about values of another kind.
const OF_OTHER_KINDS: [&str; 13] = [
    "required",
    "properties",
    "additionalProperties",
    "propertyNames",
    "minProperties",
    "items",
    "minItems",
    "maxItems",
    "minLength",
    "maxLength",
    "pattern",
    "minimum",
    "maximum",
];

/// What of `value` breaks the schema `text`; empty if nothing does.
pub fn violations(text: &str, value: &Value) -> Vec<String> {
    let root: Value = serde_json::from_str(text).expect("a schema is JSON");
    let mut found = Vec::new();
    check(&root, &root, value, "", &mut found);
    found
}

fn check(root: &Value, schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    let Value::Object(rules) = schema else {
        if schema == &Value::Bool(false) {
            found.push(format!("{at}: is not allowed"));
        }
        return;
    };
    for (keyword, rule) in rules {
        let holds = match (keyword.as_str(), value) {
            ("$schema" | "$defs" | "title" | "description", _) => true,
            ("$ref", _) => {
                let path = rule.as_str().and_then(|rule| rule.strip_prefix('#')).expect("a reference into the file");
                check(root, root.pointer(path).expect("a reference to what is there"), value, at, found);
                true
            }
            ("type", _) => types(rule).iter().any(|name| is(name, value)),
            ("const", _) => rule == value,
            ("enum", _) => rule.as_array().expect("a list").contains(value),
            ("oneOf", _) => one_of(root, rule, value, at, found),
            ("required", Value::Object(fields)) => {
                rule.as_array().expect("a list").iter().all(|key| fields.contains_key(key.as_str().expect("a name")))
            }
            ("minProperties", Value::Object(fields)) => fields.len() as u64 >= rule.as_u64().expect("a number"),
            ("properties", Value::Object(fields)) => {
                for (key, inner) in rule.as_object().expect("an object") {
                    fields.get(key).inspect(|value| check(root, inner, value, &format!("{at}/{key}"), found));
                }
                true
            }
            ("additionalProperties", Value::Object(fields)) => {
                let known = rules.get("properties").and_then(Value::as_object);
                for (key, value) in fields.iter().filter(|(key, _)| known.is_none_or(|known| !known.contains_key(*key)))
                {
                    check(root, rule, value, &format!("{at}/{key}"), found);
                }
                true
            }
            ("propertyNames", Value::Object(fields)) => {
                for key in fields.keys() {
                    check(root, rule, &Value::from(key.as_str()), &format!("{at}/{key}"), found);
                }
                true
            }
            ("items", Value::Array(items)) => {
                for (n, item) in items.iter().enumerate() {
                    check(root, rule, item, &format!("{at}/{n}"), found);
                }
                true
            }
            ("minItems", Value::Array(items)) => items.len() as u64 >= rule.as_u64().expect("a number"),
            ("maxItems", Value::Array(items)) => items.len() as u64 <= rule.as_u64().expect("a number"),
            ("minLength", Value::String(text)) => text.chars().count() as u64 >= rule.as_u64().expect("a number"),
            ("maxLength", Value::String(text)) => text.chars().count() as u64 <= rule.as_u64().expect("a number"),
            ("pattern", Value::String(text)) => {
                regex::Regex::new(rule.as_str().expect("a pattern")).expect("a pattern that is one").is_match(text)
            }
            ("minimum", Value::Number(number)) => number.as_f64() >= rule.as_f64(),
            ("maximum", Value::Number(number)) => number.as_f64() <= rule.as_f64(),
            (keyword, _) if OF_OTHER_KINDS.contains(&keyword) => true,
            (keyword, _) => panic!("the keyword {keyword} is not known here"),
        };
        if !holds {
            found.push(format!("{at}: {value} breaks {keyword}: {rule}"));
        }
    }
}

fn one_of(root: &Value, rule: &Value, value: &Value, at: &str, found: &mut Vec<String>) -> bool {
    let tried = rule.as_array().expect("a list").iter().map(|schema| {
        let mut inner = Vec::new();
        check(root, schema, value, at, &mut inner);
        inner
    });
    let tried: Vec<_> = tried.collect();
    let fitting = tried.iter().filter(|inner| inner.is_empty()).count();
    if fitting == 0 {
        // The one that was meant has the fewest faults.
        found.extend(tried.into_iter().min_by_key(Vec::len).into_iter().flatten());
    }
    fitting == 1
}

fn types(rule: &Value) -> Vec<&str> {
    match rule {
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        name => name.as_str().into_iter().collect(),
    }
}

fn is(name: &str, value: &Value) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "null" => value.is_null(),
        other => panic!("the type {other} is not known here"),
    }
}

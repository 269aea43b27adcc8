//! JSON that means one thing: a name may stand once in an object, numbers are integers. Another reader of the same bytes
//! cannot see something else than we do.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::limits::JSON_VALUES_MAX;

/// Reads `bytes`. Nesting is bounded by the parser (128 levels), and so is how much memory a few bytes can ask for, by
/// [`JSON_VALUES_MAX`].
pub fn parse(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Strict(&Cell::new(JSON_VALUES_MAX)).deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// Knows how many values may still come.
#[derive(Clone, Copy)]
struct Strict<'a>(&'a Cell<u32>);

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let left = self.0.get().checked_sub(1);
        self.0.set(left.ok_or_else(|| D::Error::custom(format_args!("it has more than {JSON_VALUES_MAX} values")))?);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without fractions and repeated names")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            if map.contains_key(&name) {
                return Err(A::Error::custom(format_args!("the name {name:?} stands twice in one object")));
            }
            map.insert(name, members.next_value_seed(self)?);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_json_is_read_as_ever() {
        let text = r#"{"a":[1,-2,null,true,"x\n"],"b":{}}"#;
        assert_eq!(parse(text.as_bytes()).unwrap(), serde_json::from_str::<Value>(text).unwrap());
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for bad in [
            r#"{"a":1,"a":2}"#,
            r#"[{"a":1,"\u0061":1}]"#,
            "1.5",
            "[1e2]",
            "-0",
            "99999999999999999999",
            "{} {}",
            "",
            "\u{feff}{}",
        ] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(parse(b"\"\xff\"").is_err(), "not UTF-8");
        assert!(parse("[".repeat(100_000).as_bytes()).is_err(), "too deep");
    }

    #[test]
    fn a_few_bytes_cannot_ask_for_much_memory() {
        let zeros = |count: u32| format!("[0{}]", ",0".repeat(usize::try_from(count).unwrap() - 1));
        // The list itself is a value, too.
        assert!(parse(zeros(JSON_VALUES_MAX - 1).as_bytes()).is_ok());
        let refusal = parse(zeros(JSON_VALUES_MAX).as_bytes()).unwrap_err();
        assert!(refusal.to_string().contains("more than 262144 values"), "{refusal}");
    }
}

//! Canonical JSON, the form that signatures and key ids cover (TUF 4.1, OLPC's "Canonical JSON"): no white space, object
//! keys in the order of their code points, integers only, and in strings nothing escaped but `"` and `\`.
//!
//! It is not RFC 8785: a line break inside a string stands as it is.

mod check;

use serde_json::Value;

pub(crate) use check::is_canonical;

/// A number that is not an integer of at most 64 bits: it has no canonical form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a number is not an integer of at most 64 bits, so it has no canonical form")]
pub struct NotCanonical;

/// The canonical form of `value`.
///
/// # Errors
/// [`NotCanonical`] if there is a fraction or an exponent anywhere in it.
pub fn to_vec(value: &Value) -> Result<Vec<u8>, NotCanonical> {
    let mut out = Vec::new();
    write(value, &mut out)?;
    Ok(out)
}

fn write(value: &Value, out: &mut Vec<u8>) -> Result<(), NotCanonical> {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(number) => {
            if !(number.is_i64() || number.is_u64()) {
                return Err(NotCanonical);
            }
            out.extend_from_slice(number.to_string().as_bytes());
        }
        Value::String(text) => write_text(text, out),
        Value::Array(items) => {
            out.push(b'[');
            for (place, item) in items.iter().enumerate() {
                if place > 0 {
                    out.push(b',');
                }
                write(item, out)?;
            }
            out.push(b']');
        }
        Value::Object(members) => {
            // Sorted here, because the map's own order depends on a feature of serde_json. The order of UTF-8 bytes is
            // that of the code points.
            let mut members: Vec<_> = members.iter().collect();
            members.sort_unstable_by_key(|(name, _)| *name);
            out.push(b'{');
            for (place, (name, member)) in members.into_iter().enumerate() {
                if place > 0 {
                    out.push(b',');
                }
                write_text(name, out);
                out.push(b':');
                write(member, out)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        if byte == b'"' || byte == b'\\' {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, canonical: &str) {
        let value: Value = serde_json::from_str(json).unwrap();
        assert_eq!(String::from_utf8(to_vec(&value).unwrap()).unwrap(), canonical, "{json}");
    }

    #[test]
    fn vectors_of_the_reference_implementation_hold() {
        // securesystemslib, tests/test_formats.py, test_encode_canonical.
        check(r#""""#, r#""""#);
        check("[1, 2, 3]", "[1,2,3]");
        check("[]", "[]");
        check("{}", "{}");
        check(r#"{"A": [99]}"#, r#"{"A":[99]}"#);
        check(r#"{"A": {}}"#, r#"{"A":{}}"#);
        check(r#"{"y": 2, "x": 3}"#, r#"{"x":3,"y":2}"#);
        check(r#"{"x": 3, "y": null}"#, r#"{"x":3,"y":null}"#);
        check(r#"{"a": true, "b": false}"#, r#"{"a":true,"b":false}"#);
    }

    #[test]
    fn only_quotes_and_backslashes_are_escaped() {
        check(r#""a\"b\\c""#, r#""a\"b\\c""#);
        check(r#""a\nb\tc\u0000\u00e9\/""#, "\"a\nb\tc\0é/\"");
    }

    #[test]
    fn keys_are_ordered_by_code_point() {
        // U+FFFF comes before U+1F34A, though its UTF-16 form does not.
        check(
            r#"{"\ud83c\udf4a":1,"\uffff":2,"b":3,"B":4,"aa":5,"a":6}"#,
            "{\"B\":4,\"a\":6,\"aa\":5,\"b\":3,\"\u{ffff}\":2,\"🍊\":1}",
        );
    }

    #[test]
    fn integers_are_written_plainly_and_nothing_else_is_a_number() {
        check("[-1,0,18446744073709551615,-9223372036854775808]", "[-1,0,18446744073709551615,-9223372036854775808]");
        for bad in ["1.0", "1e3", "[0.5]", r#"{"a":18446744073709551616}"#, "-0.0"] {
            let value: Value = serde_json::from_str(bad).unwrap();
            assert_eq!(to_vec(&value), Err(NotCanonical), "{bad}");
        }
    }
}

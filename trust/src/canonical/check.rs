//! Whether text is in canonical form already, found out without taking it apart: hundreds of targets as a tree of values
//! take twenty times the memory of their text.

use crate::limits::JSON_VALUES_MAX;

/// Deeper nesting than `serde_json` reads is left to its own refusal.
const DEPTH_MAX: u32 = 120;

/// Whether `text` is one value in the canonical form that [`super::to_vec`] writes. Then no name stands twice in an object,
/// every number is an integer of at most 64 bits, and there are at most [`JSON_VALUES_MAX`] values.
///
/// `false` says nothing against the value; it may merely be written in another way. So may a text with control characters:
/// canonical form has them as they are, and JSON does not allow that.
pub fn is_canonical(text: &str) -> bool {
    let mut rest = Rest { bytes: text.as_bytes(), values: JSON_VALUES_MAX };
    rest.value(DEPTH_MAX).is_some() && rest.bytes.is_empty()
}

/// What is still to be looked at. `None` from any of its functions: not canonical.
struct Rest<'a> {
    bytes: &'a [u8],
    values: u32,
}

impl<'a> Rest<'a> {
    fn value(&mut self, depth: u32) -> Option<()> {
        self.values = self.values.checked_sub(1)?;
        let depth = depth.checked_sub(1)?;
        match *self.bytes.first()? {
            b'{' => self.object(depth),
            b'[' => self.list(depth),
            b'"' => self.text().map(drop),
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'n' => self.word(b"null"),
            _ => self.number(),
        }
    }

    fn object(&mut self, depth: u32) -> Option<()> {
        self.word(b"{")?;
        if self.word(b"}").is_some() {
            return Some(());
        }
        let mut before: Option<&[u8]> = None;
        loop {
            let name = self.text()?;
            if before.is_some_and(|before| unescaped(before).ge(unescaped(name))) {
                return None;
            }
            before = Some(name);
            self.word(b":")?;
            self.value(depth)?;
            if self.word(b",").is_none() {
                return self.word(b"}");
            }
        }
    }

    fn list(&mut self, depth: u32) -> Option<()> {
        self.word(b"[")?;
        if self.word(b"]").is_some() {
            return Some(());
        }
        loop {
            self.value(depth)?;
            if self.word(b",").is_none() {
                return self.word(b"]");
            }
        }
    }

    /// What stands between the quotes.
    fn text(&mut self) -> Option<&'a [u8]> {
        self.word(b"\"")?;
        let mut end = 0;
        loop {
            match *self.bytes.get(end)? {
                b'"' => break,
                b'\\' if matches!(self.bytes.get(end + 1)?, b'"' | b'\\') => end += 2,
                b'\\' | 0..0x20 => return None,
                _ => end += 1,
            }
        }
        let (text, rest) = self.bytes.split_at_checked(end)?;
        self.bytes = rest.get(1..)?;
        Some(text)
    }

    fn number(&mut self) -> Option<()> {
        let end = self.bytes.iter().position(|byte| !matches!(byte, b'-' | b'0'..=b'9'));
        let (digits, rest) = self.bytes.split_at_checked(end.unwrap_or(self.bytes.len()))?;
        let digits = std::str::from_utf8(digits).ok()?;
        let written = match digits.parse::<u64>() {
            Ok(number) => number.to_string(),
            Err(_) => digits.parse::<i64>().ok()?.to_string(),
        };
        self.bytes = rest;
        (written == digits).then_some(())
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        self.bytes = self.bytes.strip_prefix(word)?;
        Some(())
    }
}

/// The bytes of a text that [`Rest::text`] has found good.
fn unescaped(text: &[u8]) -> impl Iterator<Item = u8> {
    let mut escaped = false;
    text.iter().copied().filter(move |byte| {
        escaped = *byte == b'\\' && !escaped;
        !escaped
    })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::{canonical, json};

    /// Both ways of finding out must agree.
    #[track_caller]
    fn check(text: &str, expected: bool) {
        let value: Result<Value, _> = json::parse(text.as_bytes());
        let same = value.is_ok_and(|value| canonical::to_vec(&value).is_ok_and(|form| form == text.as_bytes()));
        assert_eq!((is_canonical(text), same), (expected, expected), "{text:?}");
    }

    #[test]
    fn what_the_writer_writes_is_canonical() {
        for text in [
            "null",
            "true",
            "[]",
            "{}",
            "0",
            "-1",
            "18446744073709551615",
            "-9223372036854775808",
            r#""""#,
            r#""a\"b\\c é🍊""#,
            r#"{"":1,"A":[false,{}],"a":6,"a\"":7,"aa":5,"b":"\\","🍊":1}"#,
            r#"{"a\"":1,"a#":2}"#,
            r#"[[[[1,2],3],"x"],null]"#,
        ] {
            check(text, true);
        }
    }

    #[test]
    fn what_is_written_in_any_other_way_is_not() {
        for text in [
            "",
            " 1",
            "1 ",
            "[1, 2]",
            r#"{"a": 1}"#,
            r#"{"b":1,"a":2}"#,
            r#"{"a":1,"a":2}"#,
            r#"{"a#":1,"a\"":2}"#,
            r#"{"\u0061":1}"#,
            r#""\n""#,
            r#""\/""#,
            "\"\n\"",
            "1.0",
            "1e3",
            "-0",
            "00",
            "01",
            "--1",
            "-",
            "1-1",
            "18446744073709551616",
            "-9223372036854775809",
            "tru",
            "truer",
            "[1",
            "[1,]",
            "[,1]",
            r#"{"a"}"#,
            r#"{"a":1,}"#,
            r"{1:1}",
            r#""a"#,
            r#""a\"#,
            "{}{}",
        ] {
            check(text, false);
        }
    }

    #[test]
    fn texts_changed_at_random_never_find_the_two_ways_apart() {
        let text = r#"{"a\"b":[1,-20,{"x":"é\\"},null,true],"b":{"c":"d","e":[[]]},"c":"0"}"#;
        let mut state: u64 = 7;
        let mut random = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap() % below
        };
        let mut agreed = 0;
        for _ in 0..20_000 {
            let mut changed = text.to_owned().into_bytes();
            for _ in 0..=random(2) {
                let at = random(changed.len());
                match random(3) {
                    0 => drop(changed.remove(at)),
                    1 => changed.insert(at, br#"{}[]",:\0a-"#[random(11)]),
                    _ => changed[at] = br#"{}[]",:\0a-"#[random(11)],
                }
            }
            let Ok(changed) = String::from_utf8(changed) else { continue };
            let value = json::parse(changed.as_bytes());
            let same = value.is_ok_and(|value| canonical::to_vec(&value).is_ok_and(|form| form == changed.as_bytes()));
            assert_eq!(is_canonical(&changed), same, "{changed}");
            agreed += usize::from(same);
        }
        assert!(agreed > 100, "some changes leave it canonical: {agreed}");
    }

    #[test]
    fn depth_and_count_have_limits() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(is_canonical(&nested(100)));
        assert!(!is_canonical(&nested(100_000)));
        let zeros = |count: u32| format!("[0{}]", ",0".repeat(usize::try_from(count).unwrap() - 1));
        assert!(is_canonical(&zeros(JSON_VALUES_MAX - 1)));
        assert!(!is_canonical(&zeros(JSON_VALUES_MAX)));
    }
}

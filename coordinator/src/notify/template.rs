//! Texts of an operator's own, with named places for what happened. Nothing is computed in them.

use super::Notice;
use crate::nearest::nearest;
use crate::output::moment;

/// Longest template, in characters.
const CHARS_MAX: usize = 2_000;
/// What a template can name.
const NAMES: [&str; 10] = ["title", "text", "kind", "severity", "node", "app", "version", "rollout", "code", "time"];

/// A text with places such as `{node}`, read and found sound; `{{` and `}}` are braces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Name(&'static str),
}

impl Template {
    /// Reads it, or says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.chars().count() > CHARS_MAX {
            return Err(format!("a template has 1 to {CHARS_MAX} characters"));
        }
        let (mut parts, mut literal, mut rest) = (Vec::new(), String::new(), text);
        while let Some(c) = rest.chars().next() {
            if let Some(after) = rest.strip_prefix("{{") {
                (literal, rest) = (literal + "{", after);
            } else if let Some(after) = rest.strip_prefix("}}") {
                (literal, rest) = (literal + "}", after);
            } else if let Some(after) = rest.strip_prefix('{') {
                let (name, after) = after.split_once('}').ok_or("a { has no }; for a brace itself write {{")?;
                parts.push(Part::Text(std::mem::take(&mut literal)));
                parts.push(Part::Name(known(name)?));
                rest = after;
            } else if c == '}' {
                return Err("a } has no {; for a brace itself write }}".to_owned());
            } else {
                literal.push(c);
                rest = rest.get(c.len_utf8()..).unwrap_or_default();
            }
        }
        parts.push(Part::Text(literal));
        Ok(Self(parts))
    }

    /// The text for one notice. What is filled in goes through `escape`; what the operator wrote does not.
    pub fn fill(&self, notice: &Notice, escape: fn(&str) -> String) -> String {
        let part = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Name(name) => escape(&value(notice, name)),
        };
        self.0.iter().map(part).collect()
    }
}

fn known(name: &str) -> Result<&'static str, String> {
    NAMES.into_iter().find(|known| *known == name).ok_or_else(|| {
        let meant = nearest(name, NAMES).map(|meant| format!("; did you mean {{{meant}}}?")).unwrap_or_default();
        let name: String = name.chars().take(40).collect();
        format!("{{{name}}} is not known{meant} There are {}", NAMES.map(|name| format!("{{{name}}}")).join(", "))
    })
}

fn value(notice: &Notice, name: &str) -> String {
    let or_nothing = |value: Option<String>| value.unwrap_or_default();
    match name {
        "title" => notice.title(),
        "text" => notice.text.clone(),
        "kind" => notice.kind.to_string(),
        "severity" => notice.severity.as_str().to_owned(),
        "node" => or_nothing(notice.node.as_ref().map(ToString::to_string)),
        "app" => or_nothing(notice.app.as_ref().map(ToString::to_string)),
        "version" => or_nothing(notice.version.as_ref().map(ToString::to_string)),
        "rollout" => or_nothing(notice.rollout.map(|id| id.to_string())),
        "code" => or_nothing(notice.code.clone()),
        _ => moment(notice.at),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Kind;
    use super::*;

    #[test]
    fn named_places_are_filled_and_escaped_and_braces_stay() {
        let mut notice = Notice::new(Kind::NodeSilent, "<!channel> {kind}");
        notice.node = Some("attic".parse().unwrap());
        let template = Template::parse("{{*{node}*}} <b> {text}{app}").unwrap();
        let filled = template.fill(&notice, |text| text.replace('<', "&lt;"));
        assert_eq!(filled, "{*attic*} <b> &lt;!channel> {kind}");
    }

    #[test]
    fn what_is_not_known_is_refused_with_what_was_meant() {
        assert!(Template::parse("{nod}").unwrap_err().contains("did you mean {node}?"));
        for wrong in ["", "{", "}", "{node", "node}", "{}", "{node.labels}", "{ node }", &"x".repeat(2_001)] {
            assert!(Template::parse(wrong).is_err(), "{wrong}");
        }
    }
}

//! `${NAME}` in a manifest.

use std::collections::BTreeMap;

/// Whether `name` can be an environment variable here: `A-Z`, `0-9`, `_`, not beginning with a digit.
pub fn is_variable(name: &str) -> bool {
    let good = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
    !name.is_empty() && name.len() <= 128 && name.bytes().all(good) && !name.as_bytes()[0].is_ascii_digit()
}

/// A `${NAME}` that nothing defines, or a `${` without its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} names the variable {name:?}, which neither the manifest's [run.env] nor the node's settings define")]
pub struct UnknownVariable {
    /// The text with the variable in it.
    pub text: String,
    /// The variable.
    pub name: String,
}

/// Replaces each `${NAME}` by its value. Values are not expanded again; `$` alone stands for itself.
pub fn expand(text: &str, variables: &BTreeMap<String, String>) -> Result<String, UnknownVariable> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        out.push_str(before);
        let unknown = |name: &str| UnknownVariable { text: text.to_owned(), name: name.to_owned() };
        let (name, after) = after.split_once('}').ok_or_else(|| unknown(after))?;
        out.push_str(variables.get(name).ok_or_else(|| unknown(name))?);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

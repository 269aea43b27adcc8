//! Secrets of targets: where they are, and what they are. Neither logs nor errors show one.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Longest secret, in bytes.
const BYTES_MAX: usize = 4_096;

/// A secret. Whatever prints it prints no letter of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// A text that nobody should see.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for whoever must send it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Where a secret is: in the settings themselves, in a file, or in a credential of systemd (`LoadCredential=`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `"text"`
    Inline(Secret),
    /// `{ file = "PATH" }`; relative to the settings.
    File(PathBuf),
    /// `{ credential = "NAME" }`
    Credential(String),
}

impl Source {
    /// The same, with a path below `directory`.
    pub(crate) fn below(self, directory: &Path) -> Self {
        match self {
            Self::File(path) => Self::File(directory.join(path)),
            other => other,
        }
    }

    /// Reads it. An error says where it should be, and never what is there.
    pub(crate) fn read(&self) -> Result<Secret, String> {
        let path = match self {
            Self::Inline(secret) => return checked(secret.expose()).map_err(str::to_owned),
            Self::File(path) => path.clone(),
            Self::Credential(name) => credentials()?.join(name),
        };
        let text =
            std::fs::read_to_string(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        checked(text.trim_end_matches(['\r', '\n'])).map_err(|rule| format!("{}: {rule}", path.display()))
    }
}

fn credentials() -> Result<PathBuf, String> {
    let directory = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    directory.ok_or_else(|| "systemd gave no credentials; add LoadCredential= to the service".to_owned())
}

fn checked(text: &str) -> Result<Secret, &'static str> {
    if text.is_empty() {
        Err("it is empty")
    } else if text.len() > BYTES_MAX {
        Err("a secret has at most 4096 bytes")
    } else if text.chars().any(char::is_control) {
        Err("a secret is one line, without control characters")
    } else {
        Ok(Secret::new(text))
    }
}

impl<'de> Deserialize<'de> for Source {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SourceVisitor)
    }
}

struct SourceVisitor;

impl<'de> Visitor<'de> for SourceVisitor {
    type Value = Source;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, { file = \"PATH\" } or { credential = \"NAME\" }")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Source, E> {
        Ok(Source::Inline(Secret::new(text)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Source, A::Error> {
        let Some((key, value)) = map.next_entry::<String, String>()? else {
            return Err(de::Error::custom("name a file or a credential"));
        };
        let source = match key.as_str() {
            "file" => Source::File(value.into()),
            "credential" if is_credential(&value) => Source::Credential(value),
            "credential" => {
                return Err(de::Error::custom("the name of a credential has letters, digits, '.', '_', '-'"));
            }
            other => return Err(de::Error::unknown_field(other, &["file", "credential"])),
        };
        match map.next_key::<String>()? {
            Some(_) => Err(de::Error::custom("name a file or a credential, not both")),
            None => Ok(source),
        }
    }
}

fn is_credential(name: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !name.is_empty() && name.len() <= 255 && !name.starts_with('.') && name.chars().all(letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Holder {
        secret: Source,
    }

    fn read(toml: &str) -> Result<Source, String> {
        toml::from_str::<Holder>(toml).map(|holder| holder.secret).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn a_secret_is_inline_or_in_a_file_or_a_credential() {
        assert_eq!(read("secret = 'x'"), Ok(Source::Inline(Secret::new("x"))));
        assert_eq!(read("secret = { file = 'a/b' }"), Ok(Source::File("a/b".into())));
        assert_eq!(read("secret = { credential = 'hook' }"), Ok(Source::Credential("hook".into())));
        for wrong in ["{}", "{ fil = 'x' }", "{ file = 'x', credential = 'y' }", "{ credential = '../x' }", "5"] {
            assert!(read(&format!("secret = {wrong}")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn nothing_prints_a_secret() {
        let source = read("secret = 'hunter2'").unwrap();
        assert!(!format!("{source:?}").contains("hunter2"));
    }

    #[test]
    fn a_file_holds_one_line() {
        let directory = tempfile::tempdir().unwrap();
        let at = |content: &str| {
            std::fs::write(directory.path().join("s"), content).unwrap();
            Source::File("s".into()).below(directory.path()).read()
        };
        assert_eq!(at("hunter2\n").unwrap().expose(), "hunter2");
        for wrong in ["", "\n", "a\nb", &"x".repeat(5_000)] {
            let error = at(wrong).unwrap_err();
            assert!(error.contains(directory.path().to_str().unwrap()), "{error}");
        }
        assert!(Source::File("/nowhere/at/all".into()).read().unwrap_err().contains("/nowhere/at/all"));
    }
}

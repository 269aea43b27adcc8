//! Why settings cannot be used.

use std::path::PathBuf;

/// The settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the settings {}: {source}; `orangery init` makes them, --config names another file", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not TOML, or has a key that is unknown, missing or of the wrong kind.
    #[error("the settings {} cannot be used: {reason}{}", path.display(), meant.as_ref().map(|m| format!("\ndid you mean `{m}`?")).unwrap_or_default())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        reason: String,
        /// The known key that is closest to an unknown one.
        meant: Option<String>,
    },
    /// A value breaks a rule.
    #[error("the settings {} cannot be used: {key} = {value:?}: {rule}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
        /// The rule that it breaks.
        rule: &'static str,
    },
    /// A target of notifications cannot be used.
    #[error("the settings {} cannot be used: {place}: {rule}", path.display())]
    Notify {
        /// The file.
        path: PathBuf,
        /// Which target.
        place: String,
        /// What is wrong with it.
        rule: String,
    },
}

//! The suite's command line: options in any order, and one word.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, bail};

/// What is to be done, and where the client lives.
pub struct Arguments {
    pub metadata_dir: PathBuf,
    pub command: Command,
}

/// What is to be done.
pub enum Command {
    Init { root: PathBuf },
    Refresh { metadata_url: String },
    Download { metadata_url: String, target_dir: PathBuf, target_base_url: String, target_names: Vec<String> },
}

impl Arguments {
    pub fn read(mut words: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let mut options: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut plain = Vec::new();
        while let Some(word) = words.next() {
            if word.starts_with("--") {
                let value = words.next().with_context(|| format!("{word} needs a value"))?;
                options.entry(word).or_default().push(value);
            } else {
                plain.push(word);
            }
        }
        let last = |name: &str| {
            options.get(name).and_then(|values| values.last()).cloned().with_context(|| format!("{name} is missing"))
        };
        let metadata_dir = PathBuf::from(last("--metadata-dir")?);
        let plain: Vec<&str> = plain.iter().map(String::as_str).collect();
        let command = match plain.as_slice() {
            ["init", root] => Command::Init { root: PathBuf::from(root) },
            ["refresh"] => Command::Refresh { metadata_url: last("--metadata-url")? },
            ["download"] => Command::Download {
                metadata_url: last("--metadata-url")?,
                target_dir: last("--target-dir")?.into(),
                target_base_url: last("--target-base-url")?,
                target_names: options.remove("--target-name").context("--target-name is missing")?,
            },
            other => bail!("{other:?} is no command; init ROOT, refresh and download are"),
        };
        Ok(Self { metadata_dir, command })
    }
}

//! Where the passphrase of the owner's keys comes from. Never from an argument, which every process on the machine can read.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The environment variable that holds a passphrase.
pub const VARIABLE: &str = "ORANGERY_PASSPHRASE";
/// Fewest characters of a new passphrase.
pub const CHARACTERS_MIN: usize = 8;
/// Most bytes of a passphrase.
const BYTES_MAX: usize = 1_024;
/// How often one may mistype.
const TRIES: usize = 3;

/// Why there is no passphrase.
#[derive(Debug, thiserror::Error)]
pub enum PassphraseError {
    /// Nobody can be asked.
    #[error(
        "a passphrase is needed and there is no terminal to ask for it; name a file with --passphrase-file, set {VARIABLE}, or, when \
         keys are made, choose --no-passphrase"
    )]
    NoSource,
    /// The file cannot be read.
    #[error("cannot read the passphrase from {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The terminal failed.
    #[error("cannot ask for the passphrase on the terminal")]
    Ask(#[source] io::Error),
    /// Too long, or nothing.
    #[error("the passphrase must have from 1 to {BYTES_MAX} bytes")]
    Length,
    /// Too short for a new one.
    #[error("a new passphrase must have at least {CHARACTERS_MIN} characters")]
    Short,
    /// The two that were typed differ.
    #[error("the two passphrases differ; nothing was changed")]
    Differ,
}

/// A passphrase. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Passphrase(String);

impl Passphrase {
    /// One line of text, without the line break.
    fn new(text: &str) -> Result<Self, PassphraseError> {
        let text = text.strip_suffix('\n').unwrap_or(text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        if text.is_empty() || text.len() > BYTES_MAX {
            return Err(PassphraseError::Length);
        }
        Ok(Self(text.to_owned()))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(..)")
    }
}

/// Where passphrases come from, and those that were given already: one is asked for once.
#[derive(Debug)]
pub struct Passphrases {
    source: Source,
    given: RefCell<Vec<Passphrase>>,
}

#[derive(Debug)]
enum Source {
    File(PathBuf),
    Environment,
    Terminal,
    Nowhere,
}

impl Passphrases {
    /// `file` if there is one, else the environment, else the terminal, if there is one.
    pub fn find(file: Option<&Path>) -> Self {
        let is_set = || std::env::var_os(VARIABLE).is_some_and(|value| !value.is_empty());
        let source = match file {
            Some(path) => Source::File(path.to_owned()),
            None if is_set() => Source::Environment,
            None if io::IsTerminal::is_terminal(&io::stdin()) => Source::Terminal,
            None => Source::Nowhere,
        };
        Self { source, given: RefCell::default() }
    }

    /// For keys that have none.
    pub fn none() -> Self {
        Self { source: Source::Nowhere, given: RefCell::default() }
    }

    /// A passphrase for new keys. On a terminal it is typed twice.
    pub fn choose(&self) -> Result<Passphrase, PassphraseError> {
        let chosen = match &self.source {
            Source::Terminal => {
                let chosen = ask("New passphrase for the owner's keys: ")?;
                if ask("The same again: ")? != chosen {
                    return Err(PassphraseError::Differ);
                }
                chosen
            }
            _ => self.fixed()?,
        };
        if chosen.0.chars().count() < CHARACTERS_MIN {
            return Err(PassphraseError::Short);
        }
        self.given.borrow_mut().push(chosen.clone());
        Ok(chosen)
    }

    /// Tries the passphrases that are known, then asks for the one of `what` until `open` takes it. `open` returns `None`
    /// for a wrong one; so does this when nobody has a right one.
    pub fn open<T>(&self, what: &Path, open: impl Fn(&Passphrase) -> Option<T>) -> Result<Option<T>, PassphraseError> {
        if let Some(opened) = self.given.borrow().iter().find_map(&open) {
            return Ok(Some(opened));
        }
        for _ in 0..self.tries() {
            let passphrase = match &self.source {
                Source::Terminal => ask(&format!("Passphrase of {}: ", what.display()))?,
                _ => self.fixed()?,
            };
            if let Some(opened) = open(&passphrase) {
                self.given.borrow_mut().push(passphrase);
                return Ok(Some(opened));
            }
        }
        Ok(None)
    }

    fn tries(&self) -> usize {
        if matches!(self.source, Source::Terminal) { TRIES } else { 1 }
    }

    fn fixed(&self) -> Result<Passphrase, PassphraseError> {
        match &self.source {
            Source::File(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|source| PassphraseError::Read { path: path.clone(), source })?;
                Passphrase::new(&text)
            }
            Source::Environment => Passphrase::new(&std::env::var(VARIABLE).unwrap_or_default()),
            Source::Terminal | Source::Nowhere => Err(PassphraseError::NoSource),
        }
    }
}

fn ask(question: &str) -> Result<Passphrase, PassphraseError> {
    Passphrase::new(&crate::output::ask_secret(question).map_err(PassphraseError::Ask)?)
}

//! The audit log's chain: how entries hang together, and the first place where they do not.
//!
//! Each entry holds the SHA-256 of the one before it, and is kept with its own. So nothing can be changed, taken out, put in or
//! moved without that every later entry is written anew. Whoever can do even that cannot change what somebody else has
//! noted: the sequence and digest of an entry, which [`Chain::noting`] looks for.

use orangery_wire::Digest;
use orangery_wire::rest::{AuditEntry, AuditLine};

use crate::sha256;

/// The format of entries.
pub const FORMAT: u32 = 1;
/// What the first entry holds in place of a digest.
pub const NOTHING: Digest = Digest([0; 32]);
/// The deed of entries that say which older ones were deleted, being too many or too old.
pub const PRUNE: &str = "audit.prune";
/// Names in their detail: the last one that was deleted, and its digest.
pub const PRUNED_LAST: &str = "last";
/// The digest of that one.
pub const PRUNED_DIGEST: &str = "digest";

/// Entries that are kept, unless the settings say otherwise.
pub const KEPT_MAX: u64 = 100_000;

/// For how long entries are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// So many of them.
    pub entries_max: u64,
    /// So long, in seconds; `None`: whatever their age.
    pub secs: Option<u64>,
}

impl Default for Kept {
    fn default() -> Self {
        Self { entries_max: KEPT_MAX, secs: None }
    }
}

/// An entry, by its place and digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Its place.
    pub sequence: u64,
    /// Its digest.
    pub digest: Digest,
}

impl Link {
    /// Before the first entry.
    pub const START: Self = Self { sequence: 0, digest: NOTHING };
}

impl std::fmt::Display for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.sequence, self.digest)
    }
}

impl std::str::FromStr for Link {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let read = || {
            let (sequence, digest) = text.split_once(':')?;
            Some(Self { sequence: sequence.parse().ok()?, digest: digest.parse().ok()? })
        };
        read().ok_or_else(|| "write it as SEQUENCE:DIGEST, as `orangery audit verify` prints it".to_owned())
    }
}

/// Where the chain is broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("entry {sequence}: {reason}")]
pub struct Broken {
    /// The entry at which it shows.
    pub sequence: u64,
    /// What is wrong with it.
    pub reason: String,
}

/// A chain that holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whole {
    /// The oldest entry that is there; 0 if none is.
    pub first: u64,
    /// The newest one.
    pub last: Link,
}

/// A chain, entry by entry.
#[derive(Debug, Default)]
pub struct Chain {
    first: u64,
    last: Option<Link>,
    /// What stood before the first entry that is there, until a later one says that it was deleted.
    before: Option<Link>,
    noted: Option<Link>,
}

impl Chain {
    /// A chain in which this entry must be, or must have been deleted since.
    #[must_use]
    pub fn noting(noted: Option<Link>) -> Self {
        Self { noted, ..Self::default() }
    }

    /// Takes the next entry.
    ///
    /// # Errors
    /// [`Broken`]
    pub fn push(&mut self, line: &AuditLine) -> Result<(), Broken> {
        let sequence = line.sequence;
        let broken = |reason: String| Broken { sequence, reason };
        let digest = sha256::digest(line.entry.as_bytes());
        if line.digest != digest.to_string() {
            return Err(broken("its bytes are not those whose digest was kept with it: it was changed".to_owned()));
        }
        let entry: AuditEntry =
            serde_json::from_str(&line.entry).map_err(|e| broken(format!("it is no entry: {e}")))?;
        if entry.canonical() != line.entry || entry.format != FORMAT {
            return Err(broken("it is not written as the coordinator writes entries: it was changed".to_owned()));
        }
        if entry.sequence != sequence {
            return Err(broken(format!("it says that it is entry {}: it was moved", entry.sequence)));
        }
        self.check_follows(&entry).map_err(broken)?;
        self.take_anchor(&entry);
        if self.noted.is_some_and(|noted| noted.sequence == sequence && noted.digest != digest) {
            return Err(broken(
                "it is not the one that was noted: it, or what is before it, was written anew".to_owned(),
            ));
        }
        self.last = Some(Link { sequence, digest });
        Ok(())
    }

    fn check_follows(&mut self, entry: &AuditEntry) -> Result<(), String> {
        let Some(last) = self.last else {
            let before = Link { sequence: entry.sequence.saturating_sub(1), digest: entry.previous };
            self.first = entry.sequence;
            self.before = (before != Link::START).then_some(before);
            return if before.sequence == 0 && before != Link::START {
                Err("it is the first and names one before it: it was changed".to_owned())
            } else {
                Ok(())
            };
        };
        let due = last.sequence + 1;
        if entry.sequence < due {
            return Err(format!("it stands after entry {}: it was moved", last.sequence));
        }
        if entry.sequence > due {
            let gone = if entry.sequence == due + 1 {
                format!("entry {due} is")
            } else {
                format!("entries {due} to {} are", entry.sequence.saturating_sub(1))
            };
            return Err(format!("{gone} missing before it"));
        }
        if entry.previous != last.digest {
            let last = last.sequence;
            return Err(format!("it does not hold the digest of entry {last}: one of the two was changed or put in"));
        }
        Ok(())
    }

    /// Entries are deleted from the oldest on, and one further on says up to which, and what that one's digest was.
    fn take_anchor(&mut self, entry: &AuditEntry) {
        let Some(before) = self.before else { return };
        let says = |name: &str, value: String| entry.detail.get(name) == Some(&value);
        if entry.deed == PRUNE
            && says(PRUNED_LAST, before.sequence.to_string())
            && says(PRUNED_DIGEST, before.digest.to_string())
        {
            self.before = None;
        }
    }

    /// All entries were taken.
    ///
    /// # Errors
    /// [`Broken`]
    pub fn end(self) -> Result<Whole, Broken> {
        if let Some(before) = self.before {
            let reason =
                format!("entries 1 to {} are missing, and no entry says that they were deleted", before.sequence);
            return Err(Broken { sequence: self.first, reason });
        }
        let last = self.last.unwrap_or(Link::START);
        if let Some(noted) = self.noted.filter(|noted| noted.sequence > last.sequence) {
            let reason = format!("it was noted, and the log ends with entry {}", last.sequence);
            return Err(Broken { sequence: noted.sequence, reason });
        }
        Ok(Whole { first: self.first, last })
    }
}

#[cfg(test)]
#[path = "audit/tests.rs"]
mod tests;

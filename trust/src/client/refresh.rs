//! One pass of the client workflow (TUF 5.1 to 5.6) as a machine that is asked what it needs and given it.

use orangery_wire::UnixTime;

use super::TrustedSet;
use crate::limits::ROOTS_PER_REFRESH_MAX;
use crate::metadata::Role;
use crate::refusal::Refusal;

/// One pass from the next root to targets, at one fixed time.
///
/// ```no_run
/// # use orangery_trust::{Keep, Refresh, Refusal, TrustedSet};
/// # fn fetch(file: &str, length_max: u64) -> Option<Vec<u8>> { None }
/// # fn store(keep: &Keep) {}
/// # fn pass(set: TrustedSet, now: u64) -> (TrustedSet, Result<(), Refusal>) {
/// let mut refresh = Refresh::begin(set, now);
/// let mut outcome = Ok(());
/// while let Some(request) = refresh.next() {
///     let bytes = fetch(&request.file, request.length_max); // below /metadata/; None if it is not there (404)
///     match refresh.supply(bytes.as_deref()) {
///         Ok(Some(keep)) => store(&keep), // durably, before the next request
///         Ok(None) => {}
///         Err(refusal) => outcome = Err(refusal), // nothing more is asked for
///     }
/// }
/// (refresh.finish(), outcome) // also after a refusal: a root that was verified stays
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Refresh {
    set: TrustedSet,
    /// Fixed for the whole pass (TUF 5.1).
    now: UnixTime,
    step: Step,
    roots_taken: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Root,
    Timestamp,
    Snapshot,
    Targets,
    Done,
}

/// A file that is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The role it belongs to; [`Role::Targets`] also for a delegated one.
    pub role: Role,
    /// The name of the delegated role, if it belongs to one.
    pub delegated: Option<String>,
    /// Its name below the metadata's address, such as `2.root.json` or `timestamp.json`.
    pub file: String,
    /// Most bytes that may be read of it, in bytes. One that is longer is refused; stop reading there.
    pub length_max: u64,
}

/// A file that is trusted now and must be on disk before the next request is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keep {
    /// The role; [`Role::Targets`] also for a delegated one.
    pub role: Role,
    /// The name of the delegated role, if it belongs to one. It may hold any character: [`role_file`](super::role_file)
    /// makes a file's name of it.
    pub delegated: Option<String>,
    /// Its version.
    pub version: u64,
    /// The bytes as served.
    pub bytes: Vec<u8>,
    /// Roles whose stored metadata is to be removed, in this order and only after `bytes` are durable: their keys were
    /// rotated (TUF 5.3.11). Copies kept for emergencies must go too, or a damaged file would bring them back.
    pub forget: Vec<Role>,
}

impl Refresh {
    /// Begins a pass over `set` at the time `now`.
    pub fn begin(set: TrustedSet, now: UnixTime) -> Self {
        Self { set, now, step: Step::Root, roots_taken: 0 }
    }

    /// The file that is needed next; `None` when the pass is over, well or not. Asking again gives the same answer.
    pub fn next(&self) -> Option<Request> {
        let (role, version, length) = match self.step {
            // 5.3.3
            Step::Root => (Role::Root, Some(self.set.root.version.checked_add(1)?), None),
            // 5.4.1
            Step::Timestamp => (Role::Timestamp, None, None),
            // 5.5.1
            Step::Snapshot => {
                let named = &self.set.timestamp.as_ref()?.content.snapshot;
                (Role::Snapshot, self.consistent(named.version), named.length)
            }
            // 5.6.1
            Step::Targets => {
                let named = &self.set.current_snapshot()?.content.targets;
                (Role::Targets, self.consistent(named.version), named.length)
            }
            Step::Done => return None,
        };
        let file = match version {
            Some(version) => format!("{version}.{role}.json"),
            None => format!("{role}.json"),
        };
        let length_max = length.map_or(role.length_max(), |length| length.min(role.length_max()));
        Some(Request { role, delegated: None, file, length_max })
    }

    /// The version to put before a file's name, if the root says so (TUF 5.3.12).
    fn consistent(&self, version: u64) -> Option<u64> {
        self.set.root.content.consistent_snapshot.then_some(version)
    }

    /// Takes the file that [`Refresh::next`] asked for; `None` if the repository does not have it. What is returned must
    /// be on disk before the next call.
    ///
    /// # Errors
    /// Why it is refused. The pass is over then, and what was trusted before it still is.
    pub fn supply(&mut self, bytes: Option<&[u8]>) -> Result<Option<Keep>, Refusal> {
        let outcome = self.take(bytes);
        match &outcome {
            Ok(_) => self.skip_current(),
            Err(_) => self.step = Step::Done,
        }
        outcome
    }

    /// The trusted set as it is now: also after a refusal, for a root that was verified stays trusted whatever follows.
    pub fn finish(self) -> TrustedSet {
        self.set
    }

    fn take(&mut self, bytes: Option<&[u8]>) -> Result<Option<Keep>, Refusal> {
        let request = self.next().ok_or(Refusal::NotAsked)?;
        let Some(bytes) = bytes else {
            return self.absent(request);
        };
        let length = bytes.len() as u64;
        if length > request.length_max {
            return Err(Refusal::TooLong { role: request.role, length, length_max: request.length_max });
        }
        let mut forget = Vec::new();
        match request.role {
            Role::Root => {
                forget = self.set.accept_root(bytes)?;
                self.roots_taken += 1;
                if self.roots_taken >= ROOTS_PER_REFRESH_MAX {
                    self.step = Step::Timestamp;
                }
            }
            Role::Timestamp => {
                let newer = self.set.accept_timestamp(bytes, self.now)?;
                self.step = Step::Snapshot;
                if !newer {
                    return Ok(None);
                }
            }
            Role::Snapshot => {
                self.set.accept_snapshot(bytes, self.now)?;
                self.step = Step::Targets;
            }
            Role::Targets => {
                self.set.accept_targets(bytes, self.now)?;
                self.step = Step::Done;
            }
        }
        for role in std::mem::take(&mut self.set.leftover) {
            if role != request.role && !forget.contains(&role) {
                forget.push(role);
            }
        }
        let (role, version) = (request.role, self.version(request.role));
        Ok(Some(Keep { role, delegated: None, version, bytes: bytes.to_vec(), forget }))
    }

    /// No further root is how the chain of roots ends (TUF 5.3.3, 5.3.10); no other file may be missing.
    fn absent(&mut self, request: Request) -> Result<Option<Keep>, Refusal> {
        if request.role != Role::Root {
            return Err(Refusal::Missing { file: request.file });
        }
        self.set.check_root_expiry(self.now)?;
        self.step = Step::Timestamp;
        Ok(None)
    }

    /// Passes over files that are here already and valid: the same version and content need not be fetched again.
    fn skip_current(&mut self) {
        if self.step == Step::Snapshot
            && self.set.current_snapshot().is_some_and(|snapshot| snapshot.expires > self.now)
        {
            self.step = Step::Targets;
        }
        if self.step == Step::Targets && self.set.current_targets().is_some_and(|targets| targets.expires > self.now) {
            self.step = Step::Done;
        }
    }

    fn version(&self, role: Role) -> u64 {
        let versions = self.set.versions();
        match role {
            Role::Root => versions.root,
            Role::Timestamp => versions.timestamp,
            Role::Snapshot => versions.snapshot,
            Role::Targets => versions.targets,
        }
    }
}

//! The client: what is trusted, and how newer metadata becomes so. Sans-IO: [`Refresh`] says which file it needs next, the
//! caller fetches it, and writes what comes back as [`Keep`] to disk before it goes on. [`Search`] does the same for one
//! target, through the roles that targets are delegated to.

mod accept;
mod load;
mod refresh;
mod search;

use std::collections::BTreeSet;
use std::sync::Arc;

use orangery_wire::UnixTime;

pub use refresh::{Keep, Refresh, Request};
pub use search::{Found, Search, role_file};

use crate::hash::Print;
use crate::key::PublicKey;
use crate::metadata::{Role, Root, Snapshot, Target, Targets, Timestamp};
use crate::refusal::Refusal;

/// Metadata as the caller has it on disk: byte for byte what was kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stored {
    /// Root metadata in ascending versions without a gap; the last one is the trusted one. The first may be of any
    /// version and is trusted as it stands, so it must come from enrolment or from an earlier [`Keep`].
    ///
    /// All that are kept should be given: a timestamp or snapshot that only an earlier root vouches for is then known as
    /// one whose keys were rotated, and not mistaken for a damaged file.
    pub roots: Vec<Vec<u8>>,
    /// `timestamp.json`
    pub timestamp: Option<Vec<u8>>,
    /// `snapshot.json`
    pub snapshot: Option<Vec<u8>>,
    /// `targets.json`
    pub targets: Option<Vec<u8>>,
}

/// Versions of what is trusted; 0 where there is nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Versions {
    /// Of root.
    pub root: u64,
    /// Of timestamp.
    pub timestamp: u64,
    /// Of snapshot.
    pub snapshot: u64,
    /// Of targets.
    pub targets: u64,
}

/// What a client trusts. It always has a root; the rest comes with the first refresh.
#[derive(Debug, Clone)]
pub struct TrustedSet {
    root: Trusted<Root>,
    timestamp: Option<Trusted<Timestamp>>,
    /// Never without a timestamp.
    snapshot: Option<Trusted<Snapshot>>,
    /// Shared, for a set is copied for each refresh and there may be thousands of targets.
    targets: Option<Arc<Trusted<Targets>>>,
    /// Roles whose files are still on disk though they count no more; the next [`Keep`] has them removed. If they stayed,
    /// the next load would take a newer timestamp for one of their time.
    leftover: Vec<Role>,
}

/// Metadata that was verified.
#[derive(Debug, Clone)]
struct Trusted<T> {
    content: T,
    version: u64,
    expires: UnixTime,
    signed_at: Option<UnixTime>,
    print: Print,
    /// The keys that vouched for it, to know whether a newer root still counts them.
    signers: BTreeSet<PublicKey>,
}

impl TrustedSet {
    /// Versions of what is trusted.
    pub fn versions(&self) -> Versions {
        Versions {
            root: self.root.version,
            timestamp: self.timestamp.as_ref().map_or(0, |trusted| trusted.version),
            snapshot: self.snapshot.as_ref().map_or(0, |trusted| trusted.version),
            targets: self.targets.as_ref().map_or(0, |trusted| trusted.version),
        }
    }

    /// When the metadata of `role` expires; `None` if there is none.
    pub fn expires(&self, role: Role) -> Option<UnixTime> {
        match role {
            Role::Root => Some(self.root.expires),
            Role::Timestamp => self.timestamp.as_ref().map(|trusted| trusted.expires),
            Role::Snapshot => self.snapshot.as_ref().map(|trusted| trusted.expires),
            Role::Targets => self.targets.as_ref().map(|trusted| trusted.expires),
        }
    }

    /// Roles whose metadata is there but no longer valid at `now`. Nothing new is trusted while there is one; what runs
    /// goes on running.
    pub fn expired(&self, now: UnixTime) -> Vec<Role> {
        Role::ALL.into_iter().filter(|role| self.expires(*role).is_some_and(|expires| expires <= now)).collect()
    }

    /// The newest time at which one of the owner's keys has certainly signed: no true clock shows an earlier one. Only root
    /// and targets are asked, for the keys of timestamp and snapshot lie with the coordinator, which could set the clock
    /// of every node forward for good.
    pub fn signed_at(&self) -> Option<UnixTime> {
        self.root.signed_at.max(self.targets.as_ref().and_then(|targets| targets.signed_at))
    }

    /// The target at `path`, if the whole chain from root to targets is there and valid at `now`, and the top-level targets
    /// list it. [`Search`] also asks the roles that they delegate to.
    ///
    /// # Errors
    /// [`Refusal::Incomplete`], [`Refusal::Expired`], [`Refusal::UnknownTarget`].
    pub fn target(&self, path: &str, now: UnixTime) -> Result<&Target, Refusal> {
        let targets = self.chain(now)?;
        targets
            .targets
            .get(path)
            .ok_or_else(|| Refusal::UnknownTarget { path: path.to_owned(), delegated: !targets.delegations.is_empty() })
    }

    /// Checks that the whole chain from root to targets is there, consistent, and valid at `now`.
    ///
    /// # Errors
    /// [`Refusal::Incomplete`], [`Refusal::Expired`].
    pub fn check(&self, now: UnixTime) -> Result<(), Refusal> {
        self.chain(now).map(|_| ())
    }

    fn chain(&self, now: UnixTime) -> Result<&Targets, Refusal> {
        self.root.check_expiry(Role::Root, now)?;
        let missing = |role| move || Refusal::Incomplete { role };
        self.timestamp.as_ref().ok_or_else(missing(Role::Timestamp))?.check_expiry(Role::Timestamp, now)?;
        self.current_snapshot().ok_or_else(missing(Role::Snapshot))?.check_expiry(Role::Snapshot, now)?;
        let targets = self.current_targets().ok_or_else(missing(Role::Targets))?;
        targets.check_expiry(Role::Targets, now)?;
        Ok(&targets.content)
    }

    /// The snapshot, if it is the one that the timestamp names. Otherwise it only serves to see a rollback.
    fn current_snapshot(&self) -> Option<&Trusted<Snapshot>> {
        let wanted = &self.timestamp.as_ref()?.content.snapshot;
        self.snapshot.as_ref().filter(|snapshot| snapshot.version == wanted.version && wanted.fits(&snapshot.print))
    }

    /// The targets, if they are those which the current snapshot names.
    fn current_targets(&self) -> Option<&Trusted<Targets>> {
        let wanted = &self.current_snapshot()?.content.targets;
        self.targets.as_deref().filter(|targets| targets.version == wanted.version && wanted.fits(&targets.print))
    }

    /// What the targets say, whether or not they are current.
    pub(crate) fn targets_content(&self) -> Option<&Targets> {
        self.targets.as_ref().map(|targets| &targets.content)
    }
}

impl<T> Trusted<T> {
    fn check_expiry(&self, role: Role, now: UnixTime) -> Result<(), Refusal> {
        if self.expires > now {
            return Ok(());
        }
        Err(Refusal::Expired { role, expired_at: self.expires, now })
    }
}

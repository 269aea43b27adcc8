//! What the node trusts: the rules of `orangery-trust`, a directory to remember in, and the coordinator to ask.
//!
//! Metadata that was accepted is on the disk before the next file is asked for, each with its previous copy, every root
//! for good. Beside it lies the *floor*: the highest versions ever accepted. Whatever happens to the metadata files,
//! nothing below the floor is believed, and a directory in which even the floor cannot be read vouches for nothing until
//! a person looks at it. Only a directory without any trace of a refresh counts as never used.

mod delegated;
mod pass;
mod shelf;
mod source;

use std::path::PathBuf;
use std::sync::Arc;

use orangery_trust::{Found, Refusal, Release, Role, Search, TrustedSet, Versions};
use orangery_wire::messages::{RefusalCode, ReleaseRef, TrustReport};
use orangery_wire::{AppName, UnixTime, Version, limits};

use crate::clock::Clock;
use crate::deployment::Reason;
use crate::disk::Disk;
use crate::errors::chain;
use crate::fetch::FetchError;
use pass::{Pass, on_disk};
use shelf::Shelf;
pub use source::Source;

/// Why nothing can be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustedError {
    /// The node never got a root.
    #[error("there is no trust root in {}, so no release can be verified; enrol the node again to get one", dir.display())]
    NoRoot {
        /// The directory of trusted metadata.
        dir: PathBuf,
    },
    /// There are roots, but none that can be read and verifies.
    #[error("no trust root in {} can be read; restore the directory from a backup, or enrol the node again", dir.display())]
    RootsDamaged {
        /// The directory of trusted metadata.
        dir: PathBuf,
    },
    /// Metadata was accepted here once, and nothing says any more how new it was.
    #[error(
        "the trusted metadata in {} is damaged, its floor included, so an old state could pass for a new one; restore the \
         directory from a backup, or enrol the node again",
        dir.display()
    )]
    FloorLost {
        /// The directory of trusted metadata.
        dir: PathBuf,
    },
}

impl TrustedError {
    fn reason(&self) -> Reason {
        let code = match self {
            Self::NoRoot { .. } | Self::RootsDamaged { .. } => RefusalCode::NoTrustRoot,
            Self::FloorLost { .. } => RefusalCode::Unverified,
        };
        Reason { code, text: limits::reason(self.to_string()) }
    }
}

/// Why the metadata was not brought up to date. What was trusted before still is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefreshFailure {
    /// Whether trying again later may help: the network is to blame, or the coordinator is not done publishing.
    pub again: bool,
    /// Why.
    pub reason: Reason,
}

impl RefreshFailure {
    fn is_unsigned(&self) -> bool {
        !self.again && self.reason.code == RefusalCode::Unsigned
    }

    fn refused(code: RefusalCode, text: String) -> Self {
        Self { again: false, reason: Reason { code, text: limits::reason(text) } }
    }
}

impl From<Refusal> for RefreshFailure {
    fn from(refusal: Refusal) -> Self {
        Self { again: is_missing(&refusal), ..Self::refused(refusal.code(), refusal.to_string()) }
    }
}

fn is_missing(refusal: &Refusal) -> bool {
    match refusal {
        Refusal::Missing { .. } => true,
        Refusal::Delegated { refusal, .. } => is_missing(refusal),
        _ => false,
    }
}

impl From<&TrustedError> for RefreshFailure {
    fn from(error: &TrustedError) -> Self {
        Self { again: false, reason: error.reason() }
    }
}

impl From<FetchError> for RefreshFailure {
    fn from(error: FetchError) -> Self {
        match error.refusal() {
            Some(code) => Self::refused(code, chain(&error)),
            // The code is not used as long as it is tried again.
            None => Self { again: true, ..Self::refused(RefusalCode::NotFound, chain(&error)) },
        }
    }
}

/// What is known, in memory as on the disk.
#[derive(Debug, Clone)]
struct Known {
    set: TrustedSet,
    /// Never lower than the set, but for targets that are left of a snapshot whose keys were rotated.
    floor: Versions,
    /// Whether the floor on the disk is this one.
    floor_saved: bool,
}

/// The trusted metadata of a node. There is one for a state directory.
#[derive(Debug)]
pub struct Trusted {
    shelf: Shelf,
    clock: Arc<Clock>,
    known: Result<Known, TrustedError>,
    /// Whether the last refresh came to its end. If not, the disk may know more than the memory.
    settled: bool,
}

impl Trusted {
    /// What lies in `dir`. Never fails: if there is nothing to trust, every release is refused, and says why. Reads only.
    /// Raises the floor of `clock` to the time at which the owner last signed.
    pub fn load(disk: Arc<dyn Disk>, dir: PathBuf, clock: Arc<Clock>) -> Self {
        let shelf = Shelf::new(disk, dir);
        let known = shelf.load();
        let trusted = Self { shelf, clock, known, settled: true };
        trusted.tell_clock();
        trusted
    }

    /// Brings the metadata up to date at the time `now` (Unix time), by the client workflow of TUF 5.3 to 5.6. May be
    /// repeated at any time, also after it was dropped half-way.
    pub async fn refresh(&mut self, source: &impl Source, now: UnixTime) -> Result<(), RefreshFailure> {
        if !std::mem::replace(&mut self.settled, false) {
            self.known = self.shelf.load();
        }
        let root = self.root_version();
        let mut outcome = self.pass(source, now).await;
        if outcome.as_ref().is_err_and(RefreshFailure::is_unsigned) {
            // The owner may have replaced keys between two of our questions; then asking anew shows the new root.
            outcome = self.pass(source, now).await;
        }
        if let Err(failure) = &mut outcome
            && failure.is_unsigned()
            && self.root_version() > root
        {
            // The root has just moved, and what must follow it is not there yet. It is held against the source next time.
            failure.again = true;
        }
        self.settled = true;
        self.tell_clock();
        outcome
    }

    async fn pass(&mut self, source: &impl Source, now: UnixTime) -> Result<(), RefreshFailure> {
        let known = self.known.as_ref()?.clone();
        let outcome = Pass::begin(self.shelf.clone(), known, now).run(source).await;
        // After a failure too a new root, or more, may have been accepted: it is on the disk.
        self.known = outcome.as_ref().map_or_else(|_| self.shelf.load(), |known| Ok(known.clone()));
        outcome.map(|_| ())
    }

    fn root_version(&self) -> u64 {
        self.known.as_ref().map_or(0, |known| known.set.versions().root)
    }

    /// The release as the owner, or a role that the owner delegates to, vouches for it, if all metadata is there, valid at
    /// `now`, and the floors allow it. Metadata of delegated roles that is not on the disk is asked for (TUF 5.6.7).
    pub async fn release(
        &self,
        source: &impl Source,
        app: &AppName,
        version: &Version,
        now: UnixTime,
    ) -> Result<Release, RefreshFailure> {
        let search = Search::for_release(self.floored()?, app, version, now)?;
        Ok(self.search(source, search).await?.release()?)
    }

    /// The target at `path`, as [`Trusted::release`].
    pub async fn target(&self, source: &impl Source, path: &str, now: UnixTime) -> Result<Found, RefreshFailure> {
        let search = Search::begin(self.floored()?, path, now)?;
        Ok(self.search(source, search).await?.finish()?)
    }

    /// Brings a search to its end. What is fetched for it is on the disk then.
    async fn search<'a>(&self, source: &impl Source, mut search: Search<'a>) -> Result<Search<'a>, RefreshFailure> {
        while let Some(request) = search.next() {
            if self.shelf.offer(&mut search, Search::try_stored) {
                continue;
            }
            let bytes = source.metadata(&request.file, request.length_max).await?;
            let keep = search.supply(bytes.as_deref())?;
            tracing::debug!(role = request.delegated, version = keep.version, "accepted delegated metadata");
            on_disk(self.shelf.clone(), move |shelf| shelf.keep_delegated(&keep)).await?;
        }
        Ok(search)
    }

    /// The set, if nothing in it is older than what was trusted before.
    fn floored(&self) -> Result<&TrustedSet, RefreshFailure> {
        let known = self.known.as_ref()?;
        check_floor(&known.set, &known.floor)?;
        Ok(&known.set)
    }

    /// Whether a release that is on the disk already may be used without asking anybody: `Some(Ok)` if nothing speaks
    /// against it, `Some(Err)` if the owner's word or the lack of any root does, `None` if only a refresh can tell.
    ///
    /// It was verified when it came. So the age of the metadata is no reason against it, nor is it that there are no
    /// targets yet; but targets that no longer list it are. Of a delegated role its last word that is on the disk counts.
    pub fn still_allows(&self, app: &AppName, want: &ReleaseRef) -> Option<Result<(), Reason>> {
        let known = match &self.known {
            Ok(known) => known,
            Err(error) => return Some(Err(error.reason())),
        };
        if known.floor.targets == 0 && known.set.versions().targets == 0 {
            return Some(Ok(()));
        }
        // At the beginning of time nothing has expired.
        let set = self.floored().ok().filter(|set| set.check(0).is_ok())?;
        let mut search = Search::for_release(set, app, &want.version, 0).ok()?;
        while search.next().is_some() {
            let taken = self.shelf.offer(&mut search, Search::try_stored)
                || self.shelf.offer(&mut search, Search::try_outdated);
            if !taken {
                return None;
            }
        }
        Some(match search.release() {
            Ok(release) => same(&release, want),
            Err(refusal) => Err(RefreshFailure::from(refusal).reason),
        })
    }

    /// What is reported of it, good for any time until the next refresh.
    pub fn standing(&self) -> Standing {
        let Ok(known) = &self.known else { return Standing::default() };
        let versions = known.set.versions();
        let expires = Role::ALL.into_iter().filter_map(|role| known.set.expires(role)).min();
        Standing { root: versions.root, targets: versions.targets, expires }
    }

    /// What is reported of it at the time `now`.
    pub fn report(&self, now: UnixTime) -> TrustReport {
        self.standing().report(now)
    }

    fn tell_clock(&self) {
        if let Some(signed_at) = self.known.as_ref().ok().and_then(|known| known.set.signed_at()) {
            self.clock.note_trusted(signed_at);
        }
        if let Some(expires) = self.standing().expires {
            self.clock.note_valid_until(expires);
        }
    }
}

/// Makes sure that the owner's `release` is the very one that is wanted.
pub fn same(release: &Release, want: &ReleaseRef) -> Result<(), Reason> {
    if release.id == want.id {
        return Ok(());
    }
    let text = format!(
        "version {} of {} is signed as release {}, not as {}; deploy what the owner signed",
        want.version,
        release.app,
        release.id.short(),
        want.id.short()
    );
    Err(Reason { code: RefusalCode::Unverified, text })
}

/// What is reported of the trusted metadata.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    root: u64,
    targets: u64,
    expires: Option<UnixTime>,
}

impl Standing {
    /// When the first of it expires.
    pub fn expires(&self) -> Option<UnixTime> {
        self.expires
    }

    /// The report at the time `now`.
    pub fn report(&self, now: UnixTime) -> TrustReport {
        let stale = self.expires.is_some_and(|expires| expires <= now);
        TrustReport { root: self.root, targets: self.targets, stale }
    }
}

/// Refuses a set in which anything is older than the floor.
fn check_floor(set: &TrustedSet, floor: &Versions) -> Result<(), Refusal> {
    let versions = set.versions();
    Role::ALL.into_iter().try_for_each(|role| refuse_below(role, version_of(&versions, role), version_of(floor, role)))
}

fn refuse_below(role: Role, offered: u64, trusted: u64) -> Result<(), Refusal> {
    if offered < trusted { Err(Refusal::Rollback { role, trusted, offered }) } else { Ok(()) }
}

fn version_of(versions: &Versions, role: Role) -> u64 {
    match role {
        Role::Root => versions.root,
        Role::Timestamp => versions.timestamp,
        Role::Snapshot => versions.snapshot,
        Role::Targets => versions.targets,
    }
}

fn set_version(versions: &mut Versions, role: Role, version: u64) {
    *match role {
        Role::Root => &mut versions.root,
        Role::Timestamp => &mut versions.timestamp,
        Role::Snapshot => &mut versions.snapshot,
        Role::Targets => &mut versions.targets,
    } = version;
}

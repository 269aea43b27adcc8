//! What the node remembers: one small file for itself and one for each app, each with its previous copy.
//!
//! A file is JSON that `cat` shows. Its first member is the SHA-256 of all that follows, so that a file that was torn, zeroed or
//! changed is known for what it is and the previous copy is used. Whoever repairs one by hand removes that line. See
//! `docs/disk.md`.

mod found;
mod kept;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use orangery_wire::manifest::Manifest;
use orangery_wire::{AppName, Digest, Generation, ReleaseId, UnixTime, Version, limits};
use serde::{Deserialize, Serialize};

use crate::deployment::{Phase, Record};
use crate::disk::{self, Disk};
use crate::layout::Layout;

pub use found::take_over;
pub(crate) use kept::{Formatted, Reader, load_kept, previous, save_kept};

/// The file format that this version reads and writes.
pub const FORMAT: u32 = 1;
/// Largest record file that is read, in bytes. Real ones have one or two thousand.
pub const RECORD_BYTES_MAX: usize = 256 * 1024;

const FILE_MODE: u32 = 0o644;
const DIR_MODE: u32 = 0o755;

/// What the node remembers of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppState {
    /// Always [`FORMAT`].
    pub format: u32,
    /// The deployment.
    pub record: Record,
    /// The release that was current before; what the node's operator can go back to.
    #[serde(default)]
    pub previous: Option<ReleaseId>,
    /// Versions of the releases that are named here, for messages and people.
    #[serde(default)]
    pub versions: BTreeMap<ReleaseId, Version>,
    /// Whether the node was connected to its coordinator when the present or latest trial began, so that it has to reach it
    /// again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub connected_before: bool,
    /// Whether the current release was proven by its probes alone, without the coordinator.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unwitnessed: bool,
}

/// What the node remembers of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeState {
    /// Always [`FORMAT`].
    pub format: u32,
    /// The newest generation of the whole desired state that was taken in.
    pub generation: Generation,
    /// The newest time that was certain.
    pub time_floor: UnixTime,
    /// How often the agent was started.
    pub starts: u64,
    /// The longest that the node took to reach its coordinator again, in seconds; see [`crate::link`].
    #[serde(default, skip_serializing_if = "is_zero")]
    pub reconnection_secs_max: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Where a state was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// In its file.
    Primary,
    /// In the copy that was kept of the one before, because its file is missing or damaged.
    Previous,
    /// Nowhere; the `current` link names the proven release.
    Link,
    /// Nowhere, and nothing says that there ever was one.
    Absent,
}

/// An app's state as found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedApp {
    /// The state.
    pub state: AppState,
    /// Where it was found.
    pub source: Source,
    /// What was wrong with the file, unless it was used or was never there.
    pub trouble: Option<String>,
}

/// Why the node cannot remember something.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// A state file cannot be saved. The file holds what it held before, or already what was to be saved.
    #[error("cannot save {path}")]
    Save {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something that is remembered cannot be read as it was written last.
    #[error("cannot read {path}: {reason}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The `current` link cannot be moved or removed.
    #[error("cannot move the link {link}")]
    Point {
        /// The link.
        link: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Default for AppState {
    fn default() -> Self {
        Self {
            format: FORMAT,
            record: Record::default(),
            previous: None,
            versions: BTreeMap::new(),
            connected_before: false,
            unwitnessed: false,
        }
    }
}

impl Default for NodeState {
    fn default() -> Self {
        Self { format: FORMAT, generation: 0, time_floor: 0, starts: 0, reconnection_secs_max: 0 }
    }
}

impl AppState {
    /// Remembers what was current in `before`, the record that this one follows, and forgets versions that nothing names.
    ///
    /// A release that lost its trust (it is refused now) is not remembered: nobody should go back to it.
    #[must_use]
    pub fn with_previous(mut self, before: &Record) -> Self {
        if self.record.current != before.current && before.current.is_some() {
            let refused = self.record.refused.as_ref().map(|refusal| refusal.release);
            self.previous = before.current.filter(|release| refused != Some(*release));
        }
        let named = self.named();
        self.versions.retain(|release, _| named.contains(release));
        self
    }

    /// Every release that this state names.
    pub fn named(&self) -> Vec<ReleaseId> {
        let record = &self.record;
        let refused = record.refused.as_ref().map(|refusal| refusal.release);
        [record.desired, record.current, record.subject(), refused, self.previous].into_iter().flatten().collect()
    }

    /// The state that a `current` link alone can tell: this release was proven, and nothing newer is known.
    fn from_link(release: ReleaseId, version: Version) -> Self {
        let record = Record {
            generation: 0,
            desired: Some(release),
            current: Some(release),
            refused: None,
            phase: Phase::Settled,
        };
        Self { record, versions: BTreeMap::from([(release, version)]), ..Self::default() }
    }
}

/// Loads what is remembered of an app: from its file, else the previous copy, else the `current` link, else nothing.
pub fn load_app(disk: &dyn Disk, layout: &Layout, app: &AppName) -> LoadedApp {
    let path = layout.record(app);
    let (found, source, trouble) = load_kept::<AppState>(disk, &path);
    // What a copy has as current may have made room for another release since; what the link names never has.
    let gone = |release: &ReleaseId| source == Source::Previous && !disk.exists(&layout.seal(app, release));
    let outdated = found.as_ref().is_some_and(|state| state.record.current.as_ref().is_some_and(gone));
    if (found.is_none() || outdated)
        && let Some(state) = linked(disk, layout, app)
    {
        let trouble = trouble.or_else(|| Some("it is missing".to_owned()));
        return LoadedApp { state, source: Source::Link, trouble };
    }
    match found {
        Some(state) => LoadedApp { state, source, trouble },
        None => LoadedApp { state: AppState::default(), source: Source::Absent, trouble },
    }
}

/// Saves what is remembered of an app. When this returns it is durable; before that a power cut leaves the old state.
pub fn save_app(disk: &dyn Disk, layout: &Layout, app: &AppName, state: &AppState) -> Result<(), RecordError> {
    let path = layout.record(app);
    save_kept::<AppState>(disk, &path, state).map_err(|source| RecordError::Save { path, source })
}

/// Loads what the node remembers of itself: from its file, else the previous copy, else nothing. None of it decides what runs,
/// so the loss is only logged.
pub fn load_node(disk: &dyn Disk, layout: &Layout) -> NodeState {
    let (found, source, trouble) = load_kept::<NodeState>(disk, &layout.node_state());
    let mut state = found.unwrap_or_default();
    if let Some(reason) = trouble {
        tracing::error!(reason, ?source, "the node's state was unreadable; its previous copy or none is used");
        // The copy may be from before the last start, whose reports must not look newer than those of the next. A file of
        // another version has at least that in it.
        let counted = kept::member::<u64>(disk, &layout.node_state(), "starts").unwrap_or(0);
        state.starts = state.starts.max(counted).saturating_add(1);
    }
    state
}

/// Saves what the node remembers of itself; as durable as [`save_app`].
pub fn save_node(disk: &dyn Disk, layout: &Layout, state: &NodeState) -> Result<(), RecordError> {
    let path = layout.node_state();
    save_kept::<NodeState>(disk, &path, state).map_err(|source| RecordError::Save { path, source })
}

/// Fails if anything of this is not as it was saved last. For an agent on trial, which must not go on from less: the agent
/// before it can read it.
pub fn ensure_readable(disk: &dyn Disk, layout: &Layout) -> Result<(), RecordError> {
    let node = layout.node_state();
    let of_node = (node.clone(), load_kept::<NodeState>(disk, &node).2);
    let of_apps = apps(disk, layout).into_iter().map(|app| (layout.record(&app), load_app(disk, layout, &app).trouble));
    let mut troubles = std::iter::once(of_node).chain(of_apps);
    match troubles.find_map(|(path, trouble)| Some((path, trouble?))) {
        Some((path, reason)) => Err(RecordError::Read { path, reason }),
        None => Ok(()),
    }
}

/// The apps that have a directory on this node, sorted.
pub fn apps(disk: &dyn Disk, layout: &Layout) -> Vec<AppName> {
    let names = disk.list(&layout.apps()).unwrap_or_default();
    names.iter().filter_map(|name| name.to_str()?.parse().ok()).collect()
}

/// Makes the `current` link name `release`, or removes it. Durable on return, and repeatable.
pub fn set_current(
    disk: &dyn Disk,
    layout: &Layout,
    app: &AppName,
    release: Option<&ReleaseId>,
) -> Result<(), RecordError> {
    let link = layout.current(app);
    let done = match release {
        None => disk::remove(disk, &link),
        Some(release) => {
            disk::make_dir(disk, &layout.app(app), DIR_MODE).and_then(|()| point(disk, &link, &link_target(release)))
        }
    };
    done.map_err(|source| RecordError::Point { link, source })
}

/// What the `current` link names, sealed or not; `None` if there is no link or it names no release.
pub fn current_link(disk: &dyn Disk, layout: &Layout, app: &AppName) -> Option<ReleaseId> {
    let target = disk.read_link(&layout.current(app)).ok()?;
    let release = target.file_name()?.to_str()?.parse().ok()?;
    (target == link_target(&release)).then_some(release)
}

fn link_target(release: &ReleaseId) -> PathBuf {
    Path::new("releases").join(release.to_string())
}

/// A link that says so already is only synced: whoever moved it may have died before that.
fn point(disk: &dyn Disk, link: &Path, target: &Path) -> io::Result<()> {
    if disk.read_link(link).is_ok_and(|found| found == target) {
        return link.parent().map_or(Ok(()), |dir| disk.sync_dir(dir));
    }
    disk::replace_link(disk, link, target)
}

/// The state that the `current` link tells, if the release that it names is sealed.
fn linked(disk: &dyn Disk, layout: &Layout, app: &AppName) -> Option<AppState> {
    let release = current_link(disk, layout, app)?;
    let seal = disk.read(&layout.seal(app, &release), limits::MANIFEST_BYTES_MAX).ok()?;
    let manifest = Manifest::parse(&seal).ok().filter(|_| digest(&seal) == release.0)?;
    Some(AppState::from_link(release, manifest.version))
}

/// SHA-256 (FIPS 180-4).
fn digest(bytes: &[u8]) -> Digest {
    let mut digest = [0; 32];
    digest.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref());
    Digest(digest)
}

impl Formatted for AppState {
    const READERS: &'static [Reader<Self>] = &[Reader::json(FORMAT)];
}

impl Formatted for NodeState {
    const READERS: &'static [Reader<Self>] = &[Reader::json(FORMAT)];
}

#[cfg(test)]
mod tests;

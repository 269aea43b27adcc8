//! From the name of a release to its files on the disk, verified and sealed.
//!
//! In this order, and each step only after the one before: the owner's word for the release, its manifest, whether it is
//! for this node, whether there is room for it, its bytes, its files, its seal. The release exists once the seal does. A
//! release that is here already and still is what was signed needs no network.

mod fit;
mod intact;
mod releases;
mod roads;
mod room;
mod space;
mod spare;

use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use orangery_trust::Release;
use orangery_wire::manifest::Tree;
use orangery_wire::messages::{RefusalCode, ReleaseRef, TrustReport};
use orangery_wire::{AppName, Digest, Manifest, ReleaseId, UnixTime, limits};
use tokio::sync::OwnedMutexGuard;
use tokio::task::spawn_blocking;

use crate::clock::Clock;
use crate::config::Settings;
use crate::deployment::Reason;
use crate::disk::{self, Disk};
use crate::errors::{chain, disk_code};
use crate::fetch::{FetchError, Http};
use crate::layout::Layout;
use crate::reserve::Reserve;
use crate::road::{Road, RoadError};
use crate::trusted::{RefreshFailure, Standing, Trusted, same};
use crate::unpack::{Directory, UnpackError, unpack};
use fit::Node;
use releases::clear;
pub use releases::{collect, sealed, sealed_durably};
use room::Room;

const SEAL_MODE: u32 = 0o444;
const DIR_MODE: u32 = 0o755;
/// Downloads are nobody else's business.
const PARTS_MODE: u32 = 0o700;

/// Why a release is not on the disk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InstallFailure {
    /// Trying again later may help; why it did not work this time.
    #[error("{0}")]
    Again(String),
    /// Trying again does not help.
    #[error("{}: {}", .0.code, .0.text)]
    Refused(Reason),
}

impl InstallFailure {
    fn refused(code: RefusalCode, text: impl Into<String>) -> Self {
        Self::Refused(Reason { code, text: limits::reason(text) })
    }

    /// Whether another road may do better: it is about what this one carries, not about the node or the release.
    fn is_of_the_road(&self) -> bool {
        use RefusalCode::{Expired, InvalidManifest, NotFound, Revoked};
        match self {
            Self::Again(_) => true,
            Self::Refused(reason) => {
                reason.code.is_unverified() || matches!(reason.code, Expired | InvalidManifest | NotFound | Revoked)
            }
        }
    }

    fn of_disk(deed: &str, error: &std::io::Error) -> Self {
        let help = match disk_code(error) {
            RefusalCode::NoSpace => "free space on the node's disk",
            _ => "check the node's disk and who may write to the state directory",
        };
        Self::refused(disk_code(error), format!("{deed} failed: {error}; {help}"))
    }
}

impl From<Reason> for InstallFailure {
    fn from(reason: Reason) -> Self {
        Self::Refused(reason)
    }
}

impl From<RefreshFailure> for InstallFailure {
    fn from(failure: RefreshFailure) -> Self {
        if failure.again { Self::Again(failure.reason.text) } else { Self::Refused(failure.reason) }
    }
}

impl From<FetchError> for InstallFailure {
    fn from(error: FetchError) -> Self {
        match error.refusal() {
            Some(code) => Self::refused(code, chain(&error)),
            None => Self::Again(limits::reason(chain(&error))),
        }
    }
}

impl From<RoadError> for InstallFailure {
    fn from(error: RoadError) -> Self {
        match &error {
            RoadError::NotABundle { .. } => Self::refused(RefusalCode::Unverified, chain(&error)),
            _ => Self::refused(RefusalCode::NotFound, chain(&error)),
        }
    }
}

impl From<UnpackError> for InstallFailure {
    fn from(error: UnpackError) -> Self {
        Self::refused(error.code(), chain(&error))
    }
}

/// Has releases on the disk. One for a state directory; shared by all apps.
#[derive(Debug)]
pub struct Installer {
    disk: Arc<dyn Disk>,
    layout: Layout,
    /// Asked in this order.
    roads: Vec<Road>,
    clock: Arc<Clock>,
    node: Node,
    /// What it shares with those who make room.
    room: Room,
    trusted: tokio::sync::Mutex<Trusted>,
    standing: Mutex<Standing>,
    /// Held while a release directory is made or removed; also by such work whose install was dropped meanwhile.
    placing: Arc<tokio::sync::Mutex<()>>,
    /// The pack that is being brought, and how large it will be.
    bringing: Mutex<Option<(PathBuf, u64)>>,
}

/// A release that the owner vouches for and that fits this node.
struct Vouched {
    want: ReleaseRef,
    manifest: Arc<Manifest>,
    seal: Vec<u8>,
    tree: Tree,
}

impl Installer {
    /// An installer for the node with these settings and this board model (the device tree's, if there is one).
    pub fn new(
        settings: &Settings,
        layout: Layout,
        disk: Arc<dyn Disk>,
        http: Http,
        trusted: Trusted,
        board: Option<String>,
        clock: Arc<Clock>,
    ) -> Self {
        let standing = Mutex::new(trusted.standing());
        let stall = std::time::Duration::from_secs(settings.fetch.stall_secs);
        let reserve = Arc::new(Reserve::new(&layout, settings.fetch.reserve_bytes));
        let room = Room { disk: disk.clone(), layout: layout.clone(), reserve, brought: Arc::default() };
        Self {
            disk,
            layout,
            roads: vec![http.stalling_after(stall).into()],
            clock,
            node: Node::this(settings.labels.clone(), board),
            room,
            trusted: tokio::sync::Mutex::new(trusted),
            standing,
            placing: Arc::default(),
            bringing: Mutex::default(),
        }
    }

    /// The same, asking `road` before all others.
    #[must_use]
    pub fn preferring(mut self, road: Road) -> Self {
        self.roads.insert(0, road);
        self
    }

    /// The same, with a reserve that others draw on too. `disk` is for removals, which may draw on it as well.
    #[must_use]
    pub fn with_reserve(mut self, reserve: Arc<Reserve>, disk: Arc<dyn Disk>) -> Self {
        (self.room.reserve, self.room.disk) = (reserve, disk);
        self
    }

    /// What is reported of the trusted metadata at the time `now`. Never waits.
    pub fn trust_report(&self, now: UnixTime) -> TrustReport {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).report(now)
    }

    /// Has the release `want` of `app` on the disk, verified and sealed, and returns its manifest. May be repeated, and
    /// dropped at any time: what was downloaded is used the next time.
    pub async fn install(&self, app: &AppName, want: &ReleaseRef) -> Result<Arc<Manifest>, InstallFailure> {
        if let Some(manifest) = self.held(app, want).await?
            && let Some(word) = self.trusted.lock().await.still_allows(app, want)
        {
            word?;
            self.node.tree_for(&manifest)?;
            return Ok(manifest);
        }
        let mut roads = self.roads.iter().peekable();
        while let Some(road) = roads.next() {
            let release = match self.owners_word(road, app, &want.version).await {
                Ok(release) => same(&release, want).map_err(InstallFailure::from).map(|()| release),
                Err(failure) => Err(failure),
            };
            let done = match release {
                Ok(release) => self.come_by(road, app, release).await,
                Err(failure) => Err(failure),
            };
            match done {
                Err(failure) if roads.peek().is_some() && failure.is_of_the_road() => {
                    tracing::warn!(%app, %road, reason = %failure, "a road did not bring the release; the next one is asked");
                }
                done => return done,
            }
        }
        Err(InstallFailure::Again("there is no road to ask".to_owned()))
    }

    /// From the owner's word for a release to the release.
    async fn come_by(&self, road: &Road, app: &AppName, release: Release) -> Result<Arc<Manifest>, InstallFailure> {
        let want = ReleaseRef { id: release.id, version: release.version.clone() };
        if let Some(manifest) = self.held(app, &want).await? {
            self.node.tree_for(&manifest)?;
            return Ok(manifest);
        }
        let vouched = self.manifest(road, app, want, &release).await?;
        tracing::debug!(%app, release = %vouched.want.id, "the release is vouched for and fits this node");
        self.make_room(app, &vouched).await?;
        let pack = self.download(road, &vouched.tree).await?;
        self.place(app, vouched, pack).await
    }

    /// The manifest of a release that is here and whole. One that is not whole is removed.
    async fn held(&self, app: &AppName, want: &ReleaseRef) -> Result<Option<Arc<Manifest>>, InstallFailure> {
        // Somebody whose install was dropped may be about to finish the very same release.
        let guard = self.placing.clone().lock_owned().await;
        let (disk, layout, platform) = (self.disk.clone(), self.layout.clone(), self.node.platform.clone());
        let (app, want) = (app.clone(), want.clone());
        in_background(move || {
            let _guard = guard;
            let found = sealed_durably(&*disk, &layout, &app, &want.id)
                .map_err(|e| InstallFailure::of_disk("making a release durable that was found on the disk", &e))?;
            let Some(manifest) = found else { return Ok(None) };
            let Some(tree) = manifest.platforms.get(&platform) else { return Ok(None) };
            if let Err(error) = intact::check(&layout, &app, &want.id, tree) {
                tracing::warn!(%app, release = %want.id, reason = %error, "a release on the disk is damaged; it is fetched anew");
                clear(&*disk, &layout, &app, &want.id)
                    .map_err(|e| InstallFailure::of_disk("removing a damaged release", &e))?;
                return Ok(None);
            }
            // An agent that was killed right after the seal had no time for it.
            drop_part(&*disk, &layout, tree);
            let wanted = manifest.app == app && manifest.version == want.version;
            Ok(wanted.then(|| Arc::new(manifest)))
        })
        .await
    }

    /// Gets the manifest and reads it: its digest is the release's id.
    async fn manifest(
        &self,
        road: &Road,
        app: &AppName,
        want: ReleaseRef,
        release: &Release,
    ) -> Result<Vouched, InstallFailure> {
        let name = format!("{app} {}", want.version);
        let length = release.length.min(limits::MANIFEST_BYTES_MAX as u64);
        let seal = road.get(&format!("/targets/{}", release.file), length).await?;
        let seal = seal.ok_or_else(|| {
            let text =
                format!("the manifest of {name} is not at {road}; publish the release again, or make the copy anew");
            InstallFailure::refused(RefusalCode::NotFound, text)
        })?;
        if sha256(&seal) != want.id.0 {
            let text = format!("the manifest of {name} at {road} is not the signed one; publish it again");
            return Err(InstallFailure::refused(RefusalCode::WrongManifest, text));
        }
        let invalid = |text: String| InstallFailure::refused(RefusalCode::InvalidManifest, text);
        let manifest = Manifest::parse(&seal).map_err(|e| invalid(format!("{name}: {e}; build the release again")))?;
        if manifest.app != *app || manifest.version != want.version {
            let text =
                format!("the manifest of {name} says {} {}; build the release again", manifest.app, manifest.version);
            return Err(invalid(text));
        }
        let tree = self.node.tree_for(&manifest)?.clone();
        Ok(Vouched { want, manifest: Arc::new(manifest), seal, tree })
    }

    async fn download(&self, road: &Road, tree: &Tree) -> Result<File, InstallFailure> {
        let part = self.layout.part(&tree.pack.digest);
        let bringing = |what| *self.bringing.lock().unwrap_or_else(PoisonError::into_inner) = what;
        bringing(Some((part.clone(), tree.pack.size_bytes)));
        let pack = road.pack(&tree.pack, &part).await;
        bringing(None);
        Ok(pack?)
    }

    /// Unpacks and seals. Goes on to its end even if nobody waits for it any more; the next one waits for that.
    async fn place(&self, app: &AppName, vouched: Vouched, pack: File) -> Result<Arc<Manifest>, InstallFailure> {
        let guard = self.placing.clone().lock_owned().await;
        let Vouched { want, manifest, seal, tree } = vouched;
        let place = Place { disk: self.disk.clone(), layout: self.layout.clone(), app: app.clone(), id: want.id };
        in_background(move || place.make(guard, pack, &tree, &seal)).await?;
        tracing::debug!(%app, release = %want.id, "the release is sealed");
        Ok(manifest)
    }
}

/// Where a release comes to lie.
struct Place {
    disk: Arc<dyn Disk>,
    layout: Layout,
    app: AppName,
    id: ReleaseId,
}

impl Place {
    fn make(&self, _guard: OwnedMutexGuard<()>, pack: File, tree: &Tree, seal: &[u8]) -> Result<(), InstallFailure> {
        let Self { disk, layout, app, id } = self;
        let disk = &**disk;
        let failed = |deed: &'static str| move |e: std::io::Error| InstallFailure::of_disk(deed, &e);
        clear(disk, layout, app, id).map_err(failed("removing an unfinished release"))?;
        let releases = layout.releases(app);
        let below = releases.strip_prefix(layout.root()).unwrap_or(&releases);
        let directory = Directory::open(layout.root(), below).map_err(failed("opening the app's directory"))?;
        unpack(pack, tree, &directory, &id.to_string()).inspect_err(|_| {
            // Neither is of use any more, and the disk may be full.
            drop_part(disk, layout, tree);
            let _ = clear(disk, layout, app, id);
        })?;
        // The last step: from here on the release exists.
        disk::replace(disk, &layout.seal(app, id), seal, SEAL_MODE).map_err(failed("sealing the release"))?;
        drop_part(disk, layout, tree);
        Ok(())
    }
}

/// Removes a download that is no longer needed. Should that fail, it is removed when it is old.
fn drop_part(disk: &dyn Disk, layout: &Layout, tree: &Tree) {
    let part = layout.part(&tree.pack.digest);
    if disk.exists(&part)
        && let Err(error) = disk.remove_file(&part)
    {
        tracing::debug!(reason = %error, "a download that is no longer needed was left behind");
    }
}

/// Does something slow on another thread, to its end.
async fn in_background<T: Send + 'static>(
    deed: impl FnOnce() -> Result<T, InstallFailure> + Send + 'static,
) -> Result<T, InstallFailure> {
    let done = spawn_blocking(deed).await;
    // The runtime is shutting down, or the deed panicked: neither is the release's fault.
    done.unwrap_or_else(|error| Err(InstallFailure::Again(format!("the installation was interrupted: {error}"))))
}

fn sha256(bytes: &[u8]) -> Digest {
    let mut digest = [0; 32];
    digest.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref());
    Digest(digest)
}

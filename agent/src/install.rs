//! From the name of a release to its files on the disk, verified and sealed.
//!
//! In this order, and each step only after the one before: the owner's word for the release, its manifest, whether it is
//! for this node, whether there is room for it, its bytes, its files, its seal. The release exists once the seal does. A
//! release that is here already and still is what was signed needs no network.

mod fit;
mod intact;
mod releases;
mod space;

use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};

use orangery_trust::Release;
use orangery_wire::manifest::Tree;
use orangery_wire::messages::{RefusalCode, ReleaseRef, TrustReport, blob_path};
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
use crate::trusted::{RefreshFailure, Standing, Trusted, same};
use crate::unpack::{Directory, UnpackError, unpack};
use fit::Node;
use releases::clear;
pub use releases::{collect, sealed};
use space::Need;

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
    http: Http,
    clock: Arc<Clock>,
    node: Node,
    reserve_bytes: u64,
    trusted: tokio::sync::Mutex<Trusted>,
    standing: Mutex<Standing>,
    /// Held while a release directory is made or removed; also by such work whose install was dropped meanwhile.
    placing: Arc<tokio::sync::Mutex<()>>,
}

/// A release that the owner vouches for and that fits this node.
struct Vouched {
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
        Self {
            disk,
            layout,
            http: http.stalling_after(std::time::Duration::from_secs(settings.fetch.stall_secs)),
            clock,
            node: Node::this(settings.labels.clone(), board),
            reserve_bytes: settings.fetch.reserve_bytes,
            trusted: tokio::sync::Mutex::new(trusted),
            standing,
            placing: Arc::default(),
        }
    }

    /// What is reported of the trusted metadata at the time `now`. Never waits.
    pub fn trust_report(&self, now: UnixTime) -> TrustReport {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).report(now)
    }

    /// Has the release `want` of `app` on the disk, verified and sealed, and returns its manifest. May be repeated, and
    /// dropped at any time: what was downloaded is used the next time.
    pub async fn install(&self, app: &AppName, want: &ReleaseRef) -> Result<Arc<Manifest>, InstallFailure> {
        if let Some(manifest) = self.held(app, want).await? {
            return self.use_held(app, want, manifest).await;
        }
        let release = self.owners_word(app, want).await?;
        let vouched = self.manifest(app, want, &release).await?;
        tracing::debug!(%app, release = %want.id, "the release is vouched for and fits this node");
        self.make_room(app, want, &vouched).await?;
        let pack = self.download(&vouched.tree).await?;
        self.place(app, want, vouched, pack).await
    }

    /// The manifest of a release that is here and whole. One that is not whole is removed.
    async fn held(&self, app: &AppName, want: &ReleaseRef) -> Result<Option<Arc<Manifest>>, InstallFailure> {
        // Somebody whose install was dropped may be about to finish the very same release.
        let guard = self.placing.clone().lock_owned().await;
        let (disk, layout, platform) = (self.disk.clone(), self.layout.clone(), self.node.platform.clone());
        let (app, want) = (app.clone(), want.clone());
        in_background(move || {
            let _guard = guard;
            let Some(manifest) = sealed(&*disk, &layout, &app, &want.id) else { return Ok(None) };
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

    /// Makes sure that nothing speaks against a release that is here.
    async fn use_held(
        &self,
        app: &AppName,
        want: &ReleaseRef,
        manifest: Arc<Manifest>,
    ) -> Result<Arc<Manifest>, InstallFailure> {
        let word = self.trusted.lock().await.still_allows(app, want);
        match word {
            Some(word) => word?,
            None => drop(self.owners_word(app, want).await?),
        }
        self.node.tree_for(&manifest)?;
        Ok(manifest)
    }

    /// Asks for fresh metadata and looks the release up in it.
    async fn owners_word(&self, app: &AppName, want: &ReleaseRef) -> Result<Release, InstallFailure> {
        let mut trusted = self.trusted.lock().await;
        let now = self.clock.now();
        let refreshed = trusted.refresh(&self.http, now).await;
        *self.standing.lock().unwrap_or_else(PoisonError::into_inner) = trusted.standing();
        refreshed?;
        let release = trusted.release(app, &want.version, now)?;
        same(&release, want)?;
        Ok(release)
    }

    /// Gets the manifest and reads it: its digest is the release's id.
    async fn manifest(&self, app: &AppName, want: &ReleaseRef, release: &Release) -> Result<Vouched, InstallFailure> {
        let name = format!("{app} {}", want.version);
        let length = release.length.min(limits::MANIFEST_BYTES_MAX as u64);
        let seal = self.http.get(&format!("/targets/{}", release.file), length).await?;
        let seal = seal.ok_or_else(|| {
            let text = format!("the coordinator does not have the manifest of {name}; push the release again");
            InstallFailure::refused(RefusalCode::NotFound, text)
        })?;
        if sha256(&seal) != want.id.0 {
            let text =
                format!("the manifest of {name} that the coordinator serves is not the signed one; push it again");
            return Err(InstallFailure::refused(RefusalCode::Unverified, text));
        }
        let invalid = |text: String| InstallFailure::refused(RefusalCode::InvalidManifest, text);
        let manifest = Manifest::parse(&seal).map_err(|e| invalid(format!("{name}: {e}; build the release again")))?;
        if manifest.app != *app || manifest.version != want.version {
            let text =
                format!("the manifest of {name} says {} {}; build the release again", manifest.app, manifest.version);
            return Err(invalid(text));
        }
        let tree = self.node.tree_for(&manifest)?.clone();
        Ok(Vouched { manifest: Arc::new(manifest), seal, tree })
    }

    /// Removes what an earlier attempt left, and makes sure that the release will fit before its first byte is fetched.
    async fn make_room(&self, app: &AppName, want: &ReleaseRef, vouched: &Vouched) -> Result<(), InstallFailure> {
        let guard = self.placing.clone().lock_owned().await;
        let (disk, layout, reserve_bytes) = (self.disk.clone(), self.layout.clone(), self.reserve_bytes);
        let (app, want, tree, seal_bytes) =
            (app.clone(), want.clone(), vouched.tree.clone(), vouched.seal.len() as u64);
        in_background(move || {
            let _guard = guard;
            let failed = |deed: &'static str| move |e: std::io::Error| InstallFailure::of_disk(deed, &e);
            disk::make_dir(&*disk, &layout.releases(&app), DIR_MODE).map_err(failed("making the app's directory"))?;
            disk::make_dir(&*disk, &layout.parts(), PARTS_MODE).map_err(failed("making the download directory"))?;
            clear(&*disk, &layout, &app, &want.id).map_err(failed("removing an unfinished release"))?;
            let need = Need { tree, seal_bytes, reserve_bytes };
            let fits = need.ensure(&layout).map_err(failed("looking for free space"))?;
            fits.map_err(|text| InstallFailure::refused(RefusalCode::NoSpace, format!("{app} {} {text}", want.version)))
        })
        .await
    }

    async fn download(&self, tree: &Tree) -> Result<File, InstallFailure> {
        let pack = &tree.pack;
        let part = self.layout.part(&pack.digest);
        Ok(self.http.download(&blob_path(&pack.digest), &pack.digest, pack.size_bytes, &part).await?)
    }

    /// Unpacks and seals. Goes on to its end even if nobody waits for it any more; the next one waits for that.
    async fn place(
        &self,
        app: &AppName,
        want: &ReleaseRef,
        vouched: Vouched,
        pack: File,
    ) -> Result<Arc<Manifest>, InstallFailure> {
        let guard = self.placing.clone().lock_owned().await;
        let place = Place { disk: self.disk.clone(), layout: self.layout.clone(), app: app.clone(), id: want.id };
        let Vouched { manifest, seal, tree } = vouched;
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

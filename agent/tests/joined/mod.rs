//! A node that has joined and an owner who publishes, with all that lies between them: a real origin, a real disk.

#![allow(dead_code, reason = "each test program uses its part of it")]
#![allow(clippy::unwrap_used, missing_docs, reason = "it is a part of tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use orangery_agent::clock::Clock;
use orangery_agent::config::Settings;
use orangery_agent::disk::{Disk, RealDisk};
use orangery_agent::fetch::{Http, Patience};
use orangery_agent::install::{InstallFailure, Installer, sealed};
use orangery_agent::layout::Layout;
use orangery_agent::trusted::Trusted;
use orangery_wire::messages::{RefusalCode, ReleaseRef};

use crate::origin::{Authority, Origin};
use crate::owner::{Owner, Release};

pub struct World {
    authority: Authority,
    pub origin: Origin,
    pub owner: Owner,
    _directory: tempfile::TempDir,
    pub settings: Settings,
}

/// Incompressible, and larger than several batches of the download.
pub fn content() -> Vec<u8> {
    let mut state = 1u64;
    let next = std::iter::repeat_with(move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    });
    next.take(1_000_003).collect()
}

pub fn greeter(version: &str) -> Release {
    Release::new("greeter", version, &content())
}

impl World {
    /// A node that has just joined, and an owner who has published nothing but the keys.
    pub async fn new() -> Self {
        let authority = Authority::new();
        let origin = Origin::start(&authority).await;
        let directory = tempfile::tempdir().unwrap();
        let mut settings = Settings { state_dir: directory.path().to_owned(), ..Settings::default() };
        settings.fetch.stall_secs = 1;
        settings.fetch.reserve_bytes = 0;
        let world = Self { authority, origin, owner: Owner::new(), _directory: directory, settings };
        world.join();
        world
    }

    pub fn join(&self) {
        fs::create_dir_all(self.layout().trust()).unwrap();
        fs::write(self.layout().trust().join("root.json"), self.owner.root()).unwrap();
    }

    pub fn layout(&self) -> Layout {
        Layout::new(&self.settings.state_dir)
    }

    /// The installer of an agent that was just started.
    pub fn installer_on(&self, disk: Arc<dyn Disk>) -> Installer {
        let patience = Patience { resumes_max: 0, answer: Duration::from_secs(3), ..Patience::default() };
        let http = Http::with_patience(&self.origin.url, self.authority.node("attic"), patience).unwrap();
        let clock = Clock::new(0);
        let trusted = Trusted::load(disk.clone(), self.layout().trust(), clock.clone());
        Installer::new(&self.settings, self.layout(), disk, http, trusted, None, clock)
    }

    pub fn installer(&self) -> Installer {
        self.installer_on(Arc::new(RealDisk))
    }

    /// Publishes a release and returns its name.
    pub fn publish(&mut self, release: &Release) -> ReleaseRef {
        self.owner.release(&self.origin, release)
    }

    pub async fn install(&self, release: &Release) -> Result<(), InstallFailure> {
        let manifest = self.installer().install(&release.app(), &release.wanted()).await?;
        assert_eq!(*manifest, release.manifest);
        Ok(())
    }

    pub async fn succeeds(&self, release: &Release) {
        self.install(release).await.unwrap();
        self.is_whole(release);
    }

    /// The release must be refused for good, and not exist.
    pub async fn is_refused(&self, release: &Release, code: RefusalCode) -> String {
        match self.install(release).await.unwrap_err() {
            InstallFailure::Refused(reason) => {
                assert_eq!(reason.code, code, "{}", reason.text);
                assert!(self.sealed(release).is_none());
                reason.text
            }
            InstallFailure::Again(reason) => panic!("it would be tried again: {reason}"),
        }
    }

    pub fn sealed(&self, release: &Release) -> Option<orangery_wire::Manifest> {
        sealed(&RealDisk, &self.layout(), &release.app(), &release.wanted().id)
    }

    pub fn directory_of(&self, release: &Release) -> PathBuf {
        self.layout().release(&release.app(), &release.wanted().id)
    }

    pub fn is_whole(&self, release: &Release) {
        assert_eq!(self.sealed(release).as_ref(), Some(&release.manifest));
        let tree = self.directory_of(release).join("tree");
        assert!(fs::read(tree.join("app")).unwrap() == content());
        assert_eq!(fs::read(tree.join("share/latest")).unwrap(), b"notes");
        assert_eq!(mode(&tree.join("app")), 0o555);
        assert_eq!(parts(&self.layout()), Vec::<PathBuf>::new(), "nothing is left of the download");
    }

    pub fn asked(&self) -> Vec<String> {
        let seen = self.origin.seen();
        self.origin.forget_seen();
        seen.into_iter().map(|seen| seen.path).collect()
    }

    /// As [`World::is_refused`], for a release of which nothing was served.
    pub async fn is_refused_anew(&self, release: &Release, code: RefusalCode) -> String {
        let failure = self.installer().install(&release.manifest.app, &release.wanted()).await.unwrap_err();
        let InstallFailure::Refused(reason) = failure else { panic!("{failure}") };
        assert_eq!(reason.code, code, "{}", reason.text);
        reason.text
    }
}

pub fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

pub fn parts(layout: &Layout) -> Vec<PathBuf> {
    let entries = fs::read_dir(layout.parts()).into_iter().flatten();
    entries.map(|entry| entry.unwrap().path()).collect()
}

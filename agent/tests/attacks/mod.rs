//! A node, its owner, and an attacker who has the coordinator with all of its keys, and every road to the node.

#![allow(dead_code, reason = "each test program uses its part of it")]
#![allow(clippy::unwrap_used, missing_docs, reason = "it is a part of tests")]

pub mod forger;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use orangery_agent::clock::Clock;
use orangery_agent::config::Settings;
use orangery_agent::disk::RealDisk;
use orangery_agent::fetch::{Http, Patience};
use orangery_agent::install::{InstallFailure, Installer, sealed};
use orangery_agent::layout::Layout;
use orangery_agent::road::{Place, Road};
use orangery_agent::trusted::Trusted;
use orangery_trust::time;
use orangery_wire::messages::ReleaseRef;
use orangery_wire::{AppName, UnixTime, container};
use serde_json::json;

use crate::origin::{Authority, Origin, sha256};
use crate::owner::{DAY, Owner, Release, now};

/// How releases come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    Coordinator,
    Site,
    Bundle,
}

pub const ROADS: [By; 3] = [By::Coordinator, By::Site, By::Bundle];

pub struct World {
    authority: Authority,
    /// The coordinator, and the copy of it that the other roads carry.
    pub origin: Origin,
    /// A static web server with the same files.
    pub site: Origin,
    pub owner: Owner,
    directory: tempfile::TempDir,
    settings: Settings,
}

/// A release whose pack takes a while at one byte after the other.
pub fn greeter(version: &str) -> Release {
    let digests = (0..200).flat_map(|n| sha256(format!("{version} {n}").as_bytes()).0);
    Release::new("greeter", version, &digests.collect::<Vec<u8>>())
}

pub fn app() -> AppName {
    "greeter".parse().unwrap()
}

impl World {
    /// A node that runs 1.0.0.
    pub async fn new() -> Self {
        let authority = Authority::new();
        let (origin, site) = (Origin::start(&authority).await, Origin::public(&authority).await);
        let directory = tempfile::tempdir().unwrap();
        let mut settings = Settings { state_dir: directory.path().join("state"), ..Settings::default() };
        settings.fetch.stall_secs = 1;
        settings.fetch.reserve_bytes = 0;
        settings.labels.insert("site".into(), "attic".into());
        let mut world = Self { authority, origin, site, owner: Owner::new(), directory, settings };
        fs::create_dir_all(world.layout().trust()).unwrap();
        fs::write(world.layout().trust().join("root.json"), world.owner.root()).unwrap();
        world.owner.release(&world.origin, &greeter("0.9.0"));
        world.owner.release(&world.origin, &greeter("1.0.0"));
        world.installer(now()).install(&app(), &greeter("1.0.0").wanted()).await.unwrap();
        world
    }

    pub fn layout(&self) -> Layout {
        Layout::new(&self.settings.state_dir)
    }

    /// The installer of an agent that was just started, not before the time `at`.
    pub fn installer(&self, at: UnixTime) -> Installer {
        self.installer_by(Clock::new(at))
    }

    /// The installer of an agent that was just started and has this clock.
    pub fn installer_by(&self, clock: Arc<Clock>) -> Installer {
        let patience = Patience { resumes_max: 0, answer: Duration::from_secs(2), ..Patience::default() };
        let http = Http::with_patience(&self.origin.url, self.authority.node("attic"), patience).unwrap();
        let trusted = Trusted::load(Arc::new(RealDisk), self.layout().trust(), clock.clone());
        Installer::new(&self.settings, self.layout(), Arc::new(RealDisk), http, trusted, None, clock)
    }

    /// What the agent does when `want` is to come by this road, at the time `at`.
    pub async fn take(&self, by: By, want: &ReleaseRef, at: UnixTime) -> Result<(), InstallFailure> {
        let installer = self.installer(at);
        let place = match by {
            By::Coordinator => return installer.install(&app(), want).await.map(drop),
            By::Site => {
                self.site.mirror(&self.origin);
                let ca_file = self.directory.path().join("ca.pem");
                fs::write(&ca_file, self.authority.pem()).unwrap();
                Place::Site { url: self.site.url.clone(), ca_file: Some(ca_file) }
            }
            By::Bundle => Place::Path(self.bundle()),
        };
        let clock = Clock::new(at);
        let road = match Road::open(&place, &clock)? {
            Road::Web(http) => Road::Web(http.stalling_after(Duration::from_secs(1))),
            road => road,
        };
        installer.bring(&road, &app(), &want.version).await.map(drop)
    }

    /// All that the coordinator has, in one file.
    fn bundle(&self) -> PathBuf {
        let mut bytes = Vec::new();
        for (path, content) in self.origin.files() {
            let name = path.trim_start_matches('/');
            bytes.extend(container::header(name, content.len() as u64).unwrap());
            bytes.extend_from_slice(&content);
            bytes.resize(bytes.len().next_multiple_of(container::BLOCK_BYTES), 0);
        }
        bytes.resize(bytes.len() + 2 * container::BLOCK_BYTES, 0);
        let path = self.directory.path().join("bundle");
        fs::write(&path, bytes).unwrap();
        path
    }

    pub fn is_installed(&self, release: &Release) -> bool {
        sealed(&RealDisk, &self.layout(), &app(), &release.wanted().id).is_some()
    }

    /// The owner publishes `release`, and the coordinator has it.
    pub fn publish(&mut self, release: &Release) -> ReleaseRef {
        self.owner.release(&self.origin, release)
    }

    /// With the coordinator's keys: a snapshot and a timestamp of the version `version` that name these targets, of the
    /// version `targets_version`, whatever they are. Their digest is named only if `bound`.
    pub fn forge_online(&self, version: u64, targets: &[u8], targets_version: u64, bound: bool) {
        let expires = time::format(now() + 30 * DAY);
        let named =
            if bound { forger::describe(targets, targets_version) } else { json!({ "version": targets_version }) };
        let snapshot = json!({
            "_type": "snapshot", "spec_version": "1.0.0", "version": version, "expires": expires,
            "meta": { "targets.json": named },
        });
        let snapshot = forger::sign(&snapshot, &[&self.owner.online.snapshot]);
        let timestamp = json!({
            "_type": "timestamp", "spec_version": "1.0.0", "version": version, "expires": expires,
            "meta": { "snapshot.json": forger::describe(&snapshot, version) },
        });
        let timestamp = forger::sign(&timestamp, &[&self.owner.online.timestamp]);
        self.origin.put(format!("/metadata/{version}.snapshot.json"), snapshot);
        self.origin.put("/metadata/timestamp.json", timestamp);
        self.origin.put(format!("/metadata/{targets_version}.targets.json"), targets.to_vec());
    }
}

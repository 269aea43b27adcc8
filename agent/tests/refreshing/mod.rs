//! A node that refreshes its trusted metadata, and an owner and coordinator who publish it.

#![allow(dead_code, reason = "each test program uses its part of it")]
#![allow(clippy::unwrap_used, missing_docs, reason = "it is a part of tests")]

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use orangery_agent::clock::Clock;
use orangery_agent::disk::RealDisk;
use orangery_agent::fetch::{Http, Patience};
use orangery_agent::trusted::{RefreshFailure, Trusted};
use orangery_wire::messages::{RefusalCode, TrustReport};

use crate::origin::{Authority, Origin};
use crate::owner::{Owner, now};

pub struct World {
    _authority: Authority,
    pub origin: Origin,
    pub http: Http,
    pub owner: Owner,
    pub directory: tempfile::TempDir,
    pub clock: Arc<Clock>,
}

impl World {
    /// An owner who has published once, and a node that has just joined.
    pub async fn new() -> Self {
        let authority = Authority::new();
        let origin = Origin::start(&authority).await;
        // Long enough for an emulated processor on a busy machine; nobody is silent here for long.
        let patience = Patience {
            answer: Duration::from_secs(5),
            stall: Duration::from_secs(2),
            stall_bytes: 1_000,
            ..Patience::default()
        };
        let http = Http::with_patience(&origin.url, authority.node("attic"), patience).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let mut world =
            Self { _authority: authority, origin, http, owner: Owner::new(), directory, clock: Clock::new(0) };
        world.owner.renew(&world.origin);
        for name in ["1.root.json", "root.json"] {
            fs::write(world.file(name), world.owner.root()).unwrap();
        }
        world
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn load(&self) -> Trusted {
        Trusted::load(Arc::new(RealDisk), self.directory.path().to_owned(), self.clock.clone())
    }

    /// What a node does that was just started.
    pub async fn refresh(&self) -> Result<TrustReport, RefreshFailure> {
        let mut trusted = self.load();
        trusted.refresh(&self.http, now()).await?;
        let report = trusted.report(now());
        assert_eq!(self.load().report(now()), report, "what is in memory is on the disk");
        Ok(report)
    }

    /// The refresh must be refused for good, for this reason. [`RefusalCode::Unverified`] stands for all of its kind.
    pub async fn is_refused(&self, code: RefusalCode) -> String {
        let failure = self.refresh().await.unwrap_err();
        let found = failure.reason.code;
        let fits = found == code || (code == RefusalCode::Unverified && found.is_unverified());
        assert!(!failure.again && fits, "{failure:?}");
        failure.reason.text
    }

    pub fn asked(&self) -> Vec<String> {
        let seen = self.origin.seen();
        self.origin.forget_seen();
        seen.into_iter().map(|seen| seen.path.replace("/metadata/", "")).collect()
    }
}

pub fn report(root: u64, targets: u64) -> TrustReport {
    TrustReport { root, targets, stale: false }
}

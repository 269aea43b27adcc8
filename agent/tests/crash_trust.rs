//! The power fails at every write of a refresh, and leaves every disk that it could leave. On each of them a replayed old
//! repository, validly signed and not expired, must be refused, and the true one accepted.

#![allow(clippy::unwrap_used, reason = "these are tests, their helpers included")]

#[allow(dead_code, reason = "other tests use the rest of it")]
#[path = "../src/disk/model.rs"]
mod model;
mod origin;
mod owner;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use model::ModelDisk;
use orangery_agent::clock::Clock;
// The model is a module of this program here.
use orangery_agent::disk::{Disk, Kind, Stat};
use orangery_agent::fetch::FetchError;
use orangery_agent::trusted::{RefreshFailure, Source, Trusted};
use orangery_trust::repository::{KeyHolders, Online};
use origin::{Authority, Origin};
use owner::{Owner, key, now};

const DIR: &str = "/trust";

/// What a repository serves at some time.
#[derive(Clone)]
struct Served(BTreeMap<String, Bytes>);

impl Source for Served {
    async fn metadata(&self, file: &str, _length_max: u64) -> Result<Option<Vec<u8>>, FetchError> {
        Ok(self.0.get(&format!("/metadata/{file}")).map(|bytes| bytes.to_vec()))
    }
}

/// An owner who publishes, and what was served after each time.
struct World {
    owner: Owner,
    origin: Origin,
    past: Vec<Served>,
}

impl World {
    async fn new() -> Self {
        let origin = Origin::start(&Authority::new()).await;
        Self { owner: Owner::new(), origin, past: Vec::new() }
    }

    fn publish(&mut self) -> Served {
        self.owner.renew(&self.origin);
        let served = Served(self.origin.files());
        self.past.push(served.clone());
        served
    }

    /// The coordinator gets new keys.
    fn rotate(&mut self) {
        let new = Online { snapshot: key(), timestamp: key() };
        self.owner.change_root(|root| {
            root.snapshot = KeyHolders::any_of([new.snapshot.public()]);
            root.timestamp = KeyHolders::any_of([new.timestamp.public()]);
        });
        (self.owner.online, self.owner.published) = (new, None);
    }

    fn joined(&self) -> ModelDisk {
        let disk = ModelDisk::default();
        disk.create_dir(Path::new(DIR), 0o755).unwrap();
        disk.write_new(&Path::new(DIR).join("root.json"), self.owner.root(), 0o644).unwrap();
        disk.settled()
    }
}

async fn refresh(disk: Arc<ModelDisk>, from: &Served) -> Result<(), RefreshFailure> {
    Trusted::load(disk, PathBuf::from(DIR), Clock::new(0)).refresh(from, now()).await
}

/// Refreshes a copy of `disk` from `present` and gives every disk that a power cut in it could leave.
async fn cut(disk: &ModelDisk, present: &Served) -> Vec<ModelDisk> {
    let recorded = Arc::new(disk.settled());
    refresh(recorded.clone(), present).await.unwrap();
    recorded.cuts()
}

/// The old ones must be refused on each of these disks, and the present one accepted. Returns how many old ones were taken.
async fn accepted(disks: &[ModelDisk], old: &[Served], present: &Served) -> usize {
    let mut count = 0;
    for disk in disks {
        for old in old {
            match refresh(Arc::new(disk.settled()), old).await {
                Ok(()) => count += 1,
                Err(failure) => assert!(failure.reason.code.is_unverified(), "{failure:?}"),
            }
        }
        refresh(Arc::new(disk.settled()), present).await.unwrap();
    }
    count
}

/// A node that has seen two states of a repository, and `change` before the third.
async fn seasoned(change: impl FnOnce(&mut World)) -> (World, ModelDisk, Served) {
    let mut world = World::new().await;
    let disk = Arc::new(world.joined());
    for _ in 0..2 {
        let served = world.publish();
        refresh(disk.clone(), &served).await.unwrap();
    }
    change(&mut world);
    let present = world.publish();
    let disk = disk.settled();
    (world, disk, present)
}

#[tokio::test]
async fn no_power_cut_lets_an_old_repository_back_in() {
    let mut states = 0;
    for (what, change) in [("a refresh", (|_| {}) as fn(&mut World)), ("a refresh that brings new keys", World::rotate)]
    {
        let (world, disk, present) = seasoned(change).await;
        let disks = cut(&disk, &present).await;
        assert_eq!(accepted(&disks, &world.past[..1], &present).await, 0, "{what}");
        println!("{what}: {} crash states, 0 accept the old repository", disks.len());
        states += disks.len();
        // The power fails again while the node recovers. Every fifth state stands for its neighbours.
        let mut again = 0;
        for disk in disks.iter().step_by(5) {
            let disks = cut(disk, &present).await;
            let some: Vec<ModelDisk> = disks.into_iter().step_by(3).collect();
            assert_eq!(accepted(&some, &world.past[..1], &present).await, 0, "{what}, cut twice");
            again += some.len();
        }
        println!("{what}, cut once more: {again} crash states, 0 accept the old repository");
        states += again;
    }
    assert!(states > 200, "{states}");
    println!("{states} crash states, an old repository accepted in 0");
}

#[tokio::test]
async fn what_a_finished_refresh_brought_outlasts_a_power_cut_at_once() {
    let (world, disk, present) = seasoned(|_| {}).await;
    let disk = Arc::new(disk);
    refresh(disk.clone(), &present).await.unwrap();
    let disks = disk.cuts_now();
    assert_eq!(accepted(&disks, &world.past[..2], &present).await, 0);
}

#[tokio::test]
async fn a_careless_way_of_writing_would_be_noticed() {
    // The test can fail. So other programs write: over the old file, without a sync, a previous copy or a floor.
    let (_, disk, present) = seasoned(|_| {}).await;
    let path = |name: &str| Path::new(DIR).join(name);
    for name in ["floor.json", "timestamp.json", "snapshot.json", "targets.json"] {
        disk.remove_file(&path(&format!("{name}.previous"))).unwrap();
    }
    disk.remove_file(&path("floor.json")).unwrap();
    let careless = disk.settled();
    for (file, name) in
        [("timestamp.json", "timestamp.json"), ("3.snapshot.json", "snapshot.json"), ("3.targets.json", "targets.json")]
    {
        careless.write_new(&path(name), &present.0[&format!("/metadata/{file}")], 0o644).unwrap();
    }
    let disks = careless.cuts();
    let mut lost = 0;
    for disk in &disks {
        lost += usize::from(refresh(Arc::new(disk.settled()), &present).await.is_err());
    }
    println!("written carelessly: {lost} of {} crash states would need a person", disks.len());
    assert!(lost > disks.len() / 4, "{lost}");
}

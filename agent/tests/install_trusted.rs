//! The trusted metadata on the disk: kept before it is used, and never fooled by what happened to its files.

#![allow(clippy::unwrap_used, reason = "these are tests, their helpers included")]

mod dying_disk;
mod origin;
mod owner;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dying_disk::DyingDisk;
use orangery_agent::clock::Clock;
use orangery_agent::disk::RealDisk;
use orangery_agent::fetch::{Http, Patience};
use orangery_agent::trusted::{RefreshFailure, Trusted};
use orangery_trust::repository::{KeyHolders, Online, Published, SigningKey};
use orangery_wire::messages::{RefusalCode, TrustReport};
use origin::{Authority, Origin, Trick};
use owner::{DAY, Owner, Release, key, now};

struct World {
    _authority: Authority,
    origin: Origin,
    http: Http,
    owner: Owner,
    directory: tempfile::TempDir,
    clock: Arc<Clock>,
}

impl World {
    /// An owner who has published once, and a node that has just joined.
    async fn new() -> Self {
        let authority = Authority::new();
        let origin = Origin::start(&authority).await;
        let patience = Patience {
            answer: Duration::from_millis(500),
            stall: Duration::from_millis(300),
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

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn load(&self) -> Trusted {
        Trusted::load(Arc::new(RealDisk), self.directory.path().to_owned(), self.clock.clone())
    }

    /// What a node does that was just started.
    async fn refresh(&self) -> Result<TrustReport, RefreshFailure> {
        let mut trusted = self.load();
        trusted.refresh(&self.http, now()).await?;
        let report = trusted.report(now());
        assert_eq!(self.load().report(now()), report, "what is in memory is on the disk");
        Ok(report)
    }

    /// The refresh must be refused for good, for this reason.
    async fn is_refused(&self, code: RefusalCode) -> String {
        let failure = self.refresh().await.unwrap_err();
        assert_eq!((failure.again, failure.reason.code), (false, code), "{}", failure.reason.text);
        failure.reason.text
    }

    fn asked(&self) -> Vec<String> {
        let seen = self.origin.seen();
        self.origin.forget_seen();
        seen.into_iter().map(|seen| seen.path.replace("/metadata/", "")).collect()
    }
}

fn report(root: u64, targets: u64) -> TrustReport {
    TrustReport { root, targets, stale: false }
}

#[tokio::test]
async fn the_first_refresh_takes_everything_and_the_next_one_only_looks() {
    let mut world = World::new().await;
    assert_eq!(world.load().report(now()), report(1, 0));
    assert_eq!(world.refresh().await, Ok(report(1, 1)));
    assert_eq!(world.asked(), ["2.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json"]);
    assert_eq!(world.refresh().await, Ok(report(1, 1)));
    assert_eq!(world.asked(), ["2.root.json", "timestamp.json"]);
    world.owner.publish_at(now());
    world.owner.serve(&world.origin);
    assert_eq!(world.refresh().await, Ok(report(1, 1)));
    assert_eq!(world.asked(), ["2.root.json", "timestamp.json", "2.snapshot.json"]);
}

#[tokio::test]
async fn without_a_root_nothing_is_asked_and_nothing_trusted() {
    let world = World::new().await;
    fs::remove_file(world.file("root.json")).unwrap();
    fs::remove_file(world.file("1.root.json")).unwrap();
    let text = world.is_refused(RefusalCode::NoTrustRoot).await;
    assert!(text.contains("no trust root"), "{text}");
    fs::write(world.file("root.json"), "{}").unwrap();
    let text = world.is_refused(RefusalCode::NoTrustRoot).await;
    assert!(text.contains("can be read"), "{text}");
    assert_eq!(world.asked(), Vec::<String>::new());
    assert_eq!(world.load().report(now()), TrustReport::default());
}

#[tokio::test]
async fn metadata_of_other_keys_is_refused() {
    let world = World::new().await;
    let mut thief = Owner::new();
    thief.renew(&world.origin);
    world.is_refused(RefusalCode::Unverified).await;
    assert!(!world.file("timestamp.json").exists());
}

#[tokio::test]
async fn the_online_keys_alone_cannot_change_the_targets() {
    let world = World::new().await;
    // Whoever has taken over the coordinator signs a snapshot and a timestamp for targets of his own.
    let mut thief = Owner::new();
    let copy = |key: &SigningKey| SigningKey::from_pem(&key.to_pem()).unwrap();
    thief.online =
        Online { snapshot: copy(&world.owner.online.snapshot), timestamp: copy(&world.owner.online.timestamp) };
    thief.change_root(|root| {
        root.snapshot = KeyHolders::any_of([world.owner.online.snapshot.public()]);
        root.timestamp = KeyHolders::any_of([world.owner.online.timestamp.public()]);
    });
    thief.renew(&world.origin);
    world.origin.remove("/metadata/2.root.json");
    let text = world.is_refused(RefusalCode::Unverified).await;
    assert!(text.contains("targets"), "{text}");
    assert!(world.file("snapshot.json").exists() && !world.file("targets.json").exists());
}

#[tokio::test]
async fn tampered_metadata_is_refused_whichever_file_it_is() {
    // The end of the roots comes first, then the files in this order.
    for (honest, name) in [(1, "timestamp.json"), (2, "1.snapshot.json"), (3, "1.targets.json")] {
        for trick in [Trick::Wrong, Trick::Longer(1), Trick::Shorter(1)] {
            let world = World::new().await;
            world.origin.play(vec![Trick::Honest; honest]);
            world.origin.play([trick]);
            world.is_refused(RefusalCode::Unverified).await;
            assert_eq!(world.asked().last().unwrap(), name);
            assert_eq!(world.refresh().await, Ok(report(1, 1)), "and nothing is lost by it");
        }
    }
}

#[tokio::test]
async fn expired_metadata_is_refused_and_reported() {
    let mut world = World::new().await;
    assert_eq!(world.refresh().await, Ok(report(1, 1)));
    world.owner.targets = None;
    world.owner.sign_targets_at(now() - 60 * DAY, |content| content.version = 2);
    world.owner.publish_at(now() - 46 * DAY);
    world.owner.serve(&world.origin);
    world.is_refused(RefusalCode::Expired).await;
    let later = now() + 46 * DAY;
    assert!(world.load().report(later).stale);
    let failure = world.load().refresh(&world.http, later).await.unwrap_err();
    assert_eq!(failure.reason.code, RefusalCode::Expired);
    assert!(world.load().release(&"a".parse().unwrap(), &"1.0.0".parse().unwrap(), later).is_err());
}

#[tokio::test]
async fn a_network_that_fails_half_way_is_no_reason_to_refuse_and_loses_nothing() {
    let world = World::new().await;
    for (honest, trick) in
        [(0, Trick::Silence), (1, Trick::Status(500)), (2, Trick::CutAfter(10)), (2, Trick::Redirect("/".into()))]
    {
        world.origin.play(vec![Trick::Honest; honest]);
        world.origin.play([trick]);
        let failure = world.refresh().await.unwrap_err();
        assert!(failure.again, "{}", failure.reason.text);
    }
    world.asked();
    assert_eq!(world.refresh().await, Ok(report(1, 1)));
}

#[tokio::test]
async fn a_refresh_that_is_dropped_half_way_does_not_confuse_the_next() {
    let world = World::new().await;
    let mut trusted = world.load();
    world.origin.play([Trick::Honest, Trick::Honest, Trick::Silence]);
    let mut refresh = Box::pin(trusted.refresh(&world.http, now()));
    while world.origin.seen().len() < 3 {
        assert!(tokio::time::timeout(Duration::from_millis(1), &mut refresh).await.is_err());
    }
    drop(refresh);
    assert!(world.file("timestamp.json").exists());
    trusted.refresh(&world.http, now()).await.unwrap();
    assert_eq!(trusted.report(now()), report(1, 1));
}

#[tokio::test]
async fn a_file_that_is_not_published_yet_is_asked_for_again() {
    let world = World::new().await;
    world.origin.remove("/metadata/1.targets.json");
    let failure = world.refresh().await.unwrap_err();
    assert!(failure.again, "{}", failure.reason.text);
    world.owner.serve(&world.origin);
    assert_eq!(world.refresh().await, Ok(report(1, 1)));
}

/// A node that has seen three states of the repository, and what the first of them served.
async fn seasoned() -> (World, Published, Vec<u8>) {
    let mut world = World::new().await;
    let old = (world.owner.published.clone().unwrap(), world.owner.targets.clone().unwrap());
    for version in 1..=3 {
        assert_eq!(world.refresh().await, Ok(report(1, version)));
        if version < 3 {
            world.owner.renew(&world.origin);
        }
    }
    (world, old.0, old.1)
}

#[tokio::test]
async fn an_old_state_is_refused_whatever_happened_to_any_one_file() {
    let (mut world, old, old_targets) = seasoned().await;
    let files: Vec<String> = names(world.directory.path());
    assert_eq!(files.len(), 10, "{files:?}");
    let pristine = tempfile::tempdir().unwrap();
    copy(world.directory.path(), pristine.path());
    let damage: [fn(&Path); 4] = [
        |file| fs::write(file, "").unwrap(),
        |file| fs::remove_file(file).unwrap(),
        |file| {
            let len = fs::metadata(file).unwrap().len();
            fs::write(file, vec![0; usize::try_from(len).unwrap()]).unwrap();
        },
        |file| {
            let mut bytes = fs::read(file).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(file, bytes).unwrap();
        },
    ];
    for file in &files {
        for (how, damage) in damage.iter().enumerate() {
            copy(pristine.path(), world.directory.path());
            damage(&world.file(file));
            // What the old state served, as if nothing had happened since.
            world.origin.put("/metadata/timestamp.json", old.timestamp.clone());
            world.origin.put("/metadata/1.snapshot.json", old.snapshot.clone());
            world.origin.put("/metadata/1.targets.json", old_targets.clone());
            let text = world.is_refused(RefusalCode::Unverified).await;
            assert!(text.contains("older"), "{file}, {how}: {text}");
            assert!(world.load().report(now()).targets >= 2, "{file}, {how}");
            // The damage does not keep the node from going on.
            world.owner.serve(&world.origin);
            assert_eq!(world.refresh().await, Ok(report(1, 3)), "{file}, {how}");
        }
    }
    copy(pristine.path(), world.directory.path());
    world.owner.renew(&world.origin);
    assert_eq!(world.refresh().await, Ok(report(1, 4)));
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn copy(from: &Path, to: &Path) {
    for name in names(to) {
        fs::remove_file(to.join(name)).unwrap();
    }
    for name in names(from) {
        fs::copy(from.join(&name), to.join(&name)).unwrap();
    }
}

#[tokio::test]
async fn a_state_whose_floor_cannot_be_read_either_is_not_taken_for_the_first_use() {
    let (world, ..) = seasoned().await;
    for name in names(world.directory.path()).iter().filter(|name| !name.contains("root")) {
        fs::write(world.file(name), "damaged").unwrap();
    }
    let text = world.is_refused(RefusalCode::Unverified).await;
    assert!(text.contains("floor"), "{text}");
    for name in names(world.directory.path()).iter().filter(|name| name.contains("floor")) {
        fs::remove_file(world.file(name)).unwrap();
    }
    world.is_refused(RefusalCode::Unverified).await;
}

#[tokio::test]
async fn a_floor_that_is_lost_is_made_anew_from_files_that_are_whole() {
    let (world, ..) = seasoned().await;
    for name in ["floor.json", "floor.json.previous"] {
        fs::remove_file(world.file(name)).unwrap();
    }
    assert_eq!(world.refresh().await, Ok(report(1, 3)));
    assert!(world.file("floor.json").exists());
}

#[tokio::test]
async fn a_new_root_is_kept_even_if_nothing_after_it_can_be_had() {
    let mut world = World::new().await;
    assert_eq!(world.refresh().await, Ok(report(1, 1)));
    let new = Online { snapshot: key(), timestamp: key() };
    world.owner.change_root(|root| root.timestamp = KeyHolders::any_of([new.timestamp.public()]));
    // The thief of the old online keys lets the root through but serves the old rest.
    world.owner.serve(&world.origin);
    world.is_refused(RefusalCode::Unverified).await;
    assert_eq!(world.load().report(now()).root, 2);
    for name in ["timestamp.json", "timestamp.json.previous", "snapshot.json", "snapshot.json.previous"] {
        assert!(!world.file(name).exists(), "{name} was signed by a key that was taken back");
    }
    // And cannot make the node go back to the old root, not even if both its files are lost.
    world.origin.remove("/metadata/2.root.json");
    world.is_refused(RefusalCode::Unverified).await;
    fs::remove_file(world.file("2.root.json")).unwrap();
    fs::write(world.file("root.json"), "damaged").unwrap();
    assert_eq!(world.load().report(now()).root, 1);
    let text = world.is_refused(RefusalCode::Unverified).await;
    assert!(text.contains("root"), "{text}");
}

#[tokio::test]
async fn versions_that_a_thief_pushed_forward_do_not_outlive_his_keys() {
    let mut world = World::new().await;
    for _ in 0..5 {
        world.owner.publish_at(now());
    }
    world.owner.serve(&world.origin);
    assert_eq!(world.refresh().await, Ok(report(1, 1)));
    let new = Online { snapshot: key(), timestamp: key() };
    world.owner.change_root(|root| {
        root.timestamp = KeyHolders::any_of([new.timestamp.public()]);
        root.snapshot = KeyHolders::any_of([new.snapshot.public()]);
    });
    (world.owner.online, world.owner.published) = (new, None);
    world.owner.publish_at(now());
    world.owner.serve(&world.origin);
    assert_eq!(world.refresh().await, Ok(report(2, 1)));
    // Nor is there a copy that would bring them back.
    fs::write(world.file("floor.json"), "damaged").unwrap();
    assert_eq!(world.refresh().await, Ok(report(2, 1)));
}

#[tokio::test]
async fn a_disk_without_room_refuses_and_changes_nothing() {
    let mut world = World::new().await;
    assert_eq!(world.refresh().await, Ok(report(1, 1)));
    world.owner.renew(&world.origin);
    // Where the new file would be written, something is in the way.
    fs::create_dir(world.file(".timestamp.json.new")).unwrap();
    world.is_refused(RefusalCode::DiskFailed).await;
    assert_eq!(world.load().report(now()), report(1, 1));
    fs::remove_dir(world.file(".timestamp.json.new")).unwrap();
    assert_eq!(world.refresh().await, Ok(report(1, 2)));
}

#[tokio::test]
async fn the_clock_is_never_behind_the_owners_signature() {
    let mut world = World::new().await;
    let far = now() + 10 * DAY;
    // The owner's machine is right, the node's clock is behind.
    world.owner.targets = None;
    world.owner.sign_targets_at(far, |content| content.version = 2);
    world.owner.publish_at(far);
    world.owner.serve(&world.origin);
    let mut trusted = world.load();
    trusted.refresh(&world.http, world.clock.now()).await.unwrap();
    assert!(world.clock.now() >= far);
    let restarted = Clock::new(0);
    Trusted::load(Arc::new(RealDisk), world.directory.path().to_owned(), restarted.clone());
    assert!(restarted.now() >= far);
}

#[tokio::test]
async fn a_release_is_vouched_for_only_as_the_owner_signed_it() {
    let mut world = World::new().await;
    let good = Release::new("greeter", "1.2.0", b"good");
    let want = world.owner.release(&world.origin, &good);
    let mut trusted = world.load();
    assert_eq!(trusted.still_allows(&good.app(), &want), Some(Ok(())), "nothing is known against it yet");
    trusted.refresh(&world.http, now()).await.unwrap();
    let release = trusted.release(&good.app(), &want.version, now()).unwrap();
    assert_eq!((release.id, release.length), (want.id, good.bytes().len() as u64));
    assert_eq!(trusted.still_allows(&good.app(), &want), Some(Ok(())));
    let later = now() + 400 * DAY;
    assert_eq!(trusted.release(&good.app(), &want.version, later).unwrap_err().code, RefusalCode::Expired);
    let other = Release::new("greeter", "1.2.0", b"other").wanted();
    let reason = trusted.still_allows(&good.app(), &other).unwrap().unwrap_err();
    assert_eq!(reason.code, RefusalCode::Unverified);
    for (app, version) in [("greeter", "1.2.1"), ("other", "1.2.0")] {
        let reason = trusted.release(&app.parse().unwrap(), &version.parse().unwrap(), now()).unwrap_err();
        assert_eq!(reason.code, RefusalCode::Unverified, "{}", reason.text);
    }
    let mut next = Release::new("greeter", "1.3.0", b"next");
    next.floor = Some("1.3.0");
    world.owner.release(&world.origin, &next);
    trusted.refresh(&world.http, now()).await.unwrap();
    let reason = trusted.still_allows(&good.app(), &want).unwrap().unwrap_err();
    assert!(reason.text.contains("floor"), "{}", reason.text);
}

#[tokio::test]
async fn an_agent_that_is_killed_at_any_write_of_a_refresh_goes_on_where_it_was() {
    let mut world = World::new().await;
    let mut died = 0;
    for round in 1.. {
        // Each round there is a new version of everything; in every other one a new root that takes the online keys back.
        if round % 2 == 0 {
            let new = Online { snapshot: key(), timestamp: key() };
            world.owner.change_root(|root| {
                root.timestamp = KeyHolders::any_of([new.timestamp.public()]);
                root.snapshot = KeyHolders::any_of([new.snapshot.public()]);
            });
            (world.owner.online, world.owner.published) = (new, None);
        }
        world.owner.renew(&world.origin);
        let disk = Arc::new(DyingDisk::after(round));
        let mut trusted = Trusted::load(disk.clone(), world.directory.path().to_owned(), world.clock.clone());
        let outcome = trusted.refresh(&world.http, now()).await;
        assert_eq!(outcome.is_err(), disk.is_dead(), "{outcome:?}");
        died += u32::from(disk.is_dead());
        let (roots, targets) = (world.owner.roots.len() as u64, u64::from(round) + 1);
        assert_eq!(world.refresh().await, Ok(report(roots, targets)), "killed at call {round}");
        if !disk.is_dead() && round % 2 == 0 {
            break;
        }
    }
    assert!(died > 40, "{died}");
}

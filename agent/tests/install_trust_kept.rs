//! Trusted metadata on the disk: written before it is used, and never fooled by what happened to its files.

#![allow(clippy::unwrap_used, reason = "these are tests, their helpers included")]

mod dying_disk;
mod origin;
mod owner;
mod refreshing;

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dying_disk::DyingDisk;
use orangery_agent::fetch::{FetchError, Http};
use orangery_agent::trusted::{Source, Trusted};
use orangery_trust::repository::{KeyHolders, Online, Published};
use orangery_wire::messages::RefusalCode;
use origin::Trick;
use owner::{Owner, key, now};
use refreshing::{World, report};

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
async fn what_a_dropped_refresh_has_accepted_cannot_be_taken_back() {
    let mut world = World::new().await;
    let mut trusted = world.load();
    trusted.refresh(&world.http, now()).await.unwrap();
    let old = world.owner.published.clone().unwrap();
    world.owner.renew(&world.origin);
    world.origin.forget_seen();
    world.origin.play([Trick::Honest, Trick::Honest, Trick::Silence]);
    let mut refresh = Box::pin(trusted.refresh(&world.http, now()));
    while world.origin.seen().len() < 3 {
        assert!(tokio::time::timeout(Duration::from_millis(1), &mut refresh).await.is_err());
    }
    drop(refresh);
    world.origin.put("/metadata/timestamp.json", old.timestamp);
    let failure = trusted.refresh(&world.http, now()).await.unwrap_err();
    assert_eq!(failure.reason.code, RefusalCode::Replayed, "{}", failure.reason.text);
}

/// What the coordinator served at some time.
struct State {
    published: Published,
    targets: Vec<u8>,
}

impl State {
    fn serve(&self, world: &World, version: u64) {
        world.origin.put("/metadata/timestamp.json", self.published.timestamp.clone());
        world.origin.put(format!("/metadata/{version}.snapshot.json"), self.published.snapshot.clone());
        world.origin.put(format!("/metadata/{version}.targets.json"), self.targets.clone());
    }
}

/// A node that has seen three states of the repository, and the two that are past.
async fn seasoned() -> (World, [State; 2]) {
    let mut world = World::new().await;
    let mut past = Vec::new();
    for version in 1..=3 {
        assert_eq!(world.refresh().await, Ok(report(1, version)));
        if version < 3 {
            let owner = &mut world.owner;
            past.push(State { published: owner.published.clone().unwrap(), targets: owner.targets.clone().unwrap() });
            owner.renew(&world.origin);
        }
    }
    (world, past.try_into().ok().unwrap())
}

impl World {
    /// Serves the past as if nothing had happened since: it must be refused. Then the present, which must be accepted.
    async fn withstands(&self, past: &[State; 2], what: &str) {
        for (state, version) in past.iter().zip(1..) {
            state.serve(self, version);
            let before = fs::read(self.file("timestamp.json")).ok();
            let text = self.is_refused(RefusalCode::Unverified).await;
            assert!(text.contains("older"), "{what}, state {version}: {text}");
            assert_eq!(fs::read(self.file("timestamp.json")).ok(), before, "{what}, state {version}");
        }
        self.owner.serve(&self.origin);
        assert_eq!(self.refresh().await, Ok(report(1, 3)), "{what}");
    }
}

#[tokio::test]
async fn an_old_state_is_refused_whatever_happened_to_any_one_file() {
    let (world, past) = seasoned().await;
    let pristine = tempfile::tempdir().unwrap();
    copy(world.directory.path(), pristine.path());
    let files = names(pristine.path());
    assert_eq!(files.len(), 10, "{files:?}");
    for file in &files {
        for how in ["emptied", "removed", "zeroed", "one bit"] {
            copy(pristine.path(), world.directory.path());
            let path = world.file(file);
            let mut bytes = fs::read(&path).unwrap();
            match how {
                "emptied" => bytes.clear(),
                "zeroed" => bytes.fill(0),
                _ => *bytes.last_mut().unwrap() ^= 1,
            }
            fs::write(&path, bytes).unwrap();
            if how == "removed" {
                fs::remove_file(&path).unwrap();
            }
            world.withstands(&past, &format!("{file} {how}")).await;
        }
    }
}

#[tokio::test]
async fn an_old_state_is_refused_as_long_as_the_floor_is_there() {
    let (world, past) = seasoned().await;
    let pristine = tempfile::tempdir().unwrap();
    copy(world.directory.path(), pristine.path());
    // For each role: whole, the file damaged, the file and its previous copy damaged.
    for case in 0..27 {
        copy(pristine.path(), world.directory.path());
        for (role, damage) in [("timestamp", case % 3), ("snapshot", case / 3 % 3), ("targets", case / 9)] {
            for copy in ["", ".previous"].into_iter().take(damage) {
                fs::write(world.file(&format!("{role}.json{copy}")), "damaged").unwrap();
            }
        }
        world.withstands(&past, &format!("case {case}")).await;
    }
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
    let (world, _) = seasoned().await;
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
    let (world, _) = seasoned().await;
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
    world.owner.renew(&world.origin);
    assert_eq!(world.refresh().await, Ok(report(1, 2)));
    assert!(world.file("timestamp.json.previous").exists());
    let new = Online { snapshot: key(), timestamp: key() };
    world.owner.change_root(|root| root.timestamp = KeyHolders::any_of([new.timestamp.public()]));
    // The thief of the old online keys lets the root through but serves the old rest.
    world.owner.serve(&world.origin);
    // The first time it may be a coordinator that is not done yet.
    assert!(world.refresh().await.unwrap_err().again);
    assert_eq!(world.load().report(now()).root, 2);
    world.is_refused(RefusalCode::Unverified).await;
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
    assert!(!world.file("timestamp.json").exists(), "nothing of it is kept");
}

/// The coordinator, at which something happens when a file is asked for the first time.
struct Meanwhile<'a, F> {
    http: &'a Http,
    file: &'static str,
    deed: Mutex<Option<F>>,
}

impl<F: FnOnce() + Send> Source for Meanwhile<'_, F> {
    async fn metadata(&self, file: &str, length_max: u64) -> Result<Option<Vec<u8>>, FetchError> {
        if file == self.file
            && let Some(deed) = self.deed.lock().unwrap().take()
        {
            deed();
        }
        self.http.metadata(file, length_max).await
    }
}

#[tokio::test]
async fn keys_that_are_replaced_between_two_questions_are_followed_at_once() {
    let mut world = World::new().await;
    let new = Online { snapshot: key(), timestamp: key() };
    world.owner.change_root(|root| {
        root.timestamp = KeyHolders::any_of([new.timestamp.public()]);
        root.snapshot = KeyHolders::any_of([new.snapshot.public()]);
    });
    (world.owner.online, world.owner.published) = (new, None);
    world.owner.publish_at(now());
    let deed = || world.owner.serve(&world.origin);
    let source = Meanwhile { http: &world.http, file: "timestamp.json", deed: Mutex::new(Some(deed)) };
    let mut trusted = world.load();
    assert_eq!(trusted.refresh(&source, now()).await, Ok(()));
    assert_eq!(trusted.report(now()), report(2, 1));
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
    // The root comes through, and nothing more.
    world.origin.remove("/metadata/timestamp.json");
    assert!(world.refresh().await.unwrap_err().again);
    world.owner.serve(&world.origin);
    // Nor does the previous copy of the floor bring them back.
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
async fn an_agent_that_is_killed_at_any_write_of_a_refresh_goes_on_where_it_was() {
    let deaths = killed_at_every_write(Owner::sign_targets).await;
    assert!(deaths > 15, "{deaths}");
}

#[tokio::test]
async fn an_agent_that_is_killed_while_keys_are_taken_back_goes_on_where_it_was() {
    let deaths = killed_at_every_write(|owner| {
        let new = Online { snapshot: key(), timestamp: key() };
        owner.change_root(|root| {
            root.timestamp = KeyHolders::any_of([new.timestamp.public()]);
            root.snapshot = KeyHolders::any_of([new.snapshot.public()]);
        });
        (owner.online, owner.published) = (new, None);
    })
    .await;
    assert!(deaths > 30, "{deaths}");
}

/// Lets the agent die at each write in turn of the refresh that follows `change`. Returns how many there are.
async fn killed_at_every_write(change: impl Fn(&mut Owner)) -> u32 {
    for calls in 0.. {
        let mut world = World::new().await;
        assert_eq!(world.refresh().await, Ok(report(1, 1)));
        change(&mut world.owner);
        world.owner.renew(&world.origin);
        let disk = Arc::new(DyingDisk::after(calls));
        let mut trusted = Trusted::load(disk.clone(), world.directory.path().to_owned(), world.clock.clone());
        let outcome = trusted.refresh(&world.http, now()).await;
        assert_eq!(outcome.is_err(), disk.is_dead(), "{outcome:?}");
        let after = world.refresh().await.unwrap();
        assert_eq!(after.root, world.owner.roots.len() as u64, "killed at call {calls}");
        assert!(after.targets >= 2 && !after.stale, "killed at call {calls}");
        if !disk.is_dead() {
            return calls;
        }
    }
    unreachable!("a refresh ends")
}

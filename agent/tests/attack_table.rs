//! The attack table: each attack by each road, by somebody who has the coordinator with all of its keys. Each is refused
//! with its stable code, what runs is not touched, and the refusal is what the node reports.

#![allow(clippy::unwrap_used, reason = "these are tests, their helpers included")]

mod attacks;
mod origin;
mod owner;

use std::path::Path;

use attacks::{By, ROADS, World, app, forger, greeter};
use orangery_agent::deployment::{Effect, Event, Phase, Reason, Record};
use orangery_agent::install::InstallFailure;
use orangery_trust::repository::{KeyHolders, Online};
use orangery_wire::UnixTime;
use orangery_wire::messages::{RefusalCode, ReleaseRef};
use origin::Trick;
use owner::{DAY, Release, key, now};

/// What an attack leads to.
enum End {
    /// Refused for good with this code, saying so.
    Refused(RefusalCode, &'static str),
    /// Given up and tried again later, saying so: nothing was wrong with what came.
    Again(&'static str),
    /// There is no such attack by this road.
    None,
}

/// The release that the node is asked to take, and at what time.
type Lure = (ReleaseRef, UnixTime);
/// Its name, what the attacker does, and what it leads to by each road.
type Attack = (&'static str, fn(&mut World, By) -> Lure, fn(By) -> End);

const ATTACKS: [Attack; 14] = [
    ("replayed old release", old_release, |_| End::Refused(RefusalCode::BelowFloor, "floor")),
    ("replayed old metadata", old_metadata, |_| End::Refused(RefusalCode::Replayed, "older")),
    ("freeze", freeze, |_| End::Refused(RefusalCode::Expired, "expired")),
    ("mix-and-match", mix_and_match, |_| {
        End::Refused(RefusalCode::Mixed, "not the file that the metadata above it names")
    }),
    ("fast-forward", fast_forward, |_| End::Refused(RefusalCode::WrongVersion, "was expected")),
    ("endless data", endless, |_| End::Refused(RefusalCode::TooLong, "longer than")),
    ("slow data", slow, |by| if by == By::Bundle { End::None } else { End::Again("stalled") }),
    ("swapped blob", swapped_blob, |_| End::Refused(RefusalCode::WrongDigest, "not what was signed")),
    ("truncated blob", truncated_blob, |_| End::Refused(RefusalCode::WrongSize, "were signed")),
    ("wrong app", wrong_app, |_| End::Refused(RefusalCode::WrongManifest, "not the signed one")),
    ("wrong node or label", wrong_label, |_| End::Refused(RefusalCode::Incompatible, "site=moon")),
    ("expired", expired, |_| End::Refused(RefusalCode::Expired, "expired")),
    ("below threshold", below_threshold, |_| {
        End::Refused(RefusalCode::Unsigned, "1 of the keys that are named for it; 2 are")
    }),
    ("revoked", revoked, |_| End::Refused(RefusalCode::Revoked, "signed targets")),
];

/// 1.1.0, published.
fn bait(world: &mut World) -> (Release, Lure) {
    let release = greeter("1.1.0");
    let want = world.publish(&release);
    (release, (want, now()))
}

fn old_release(world: &mut World, _: By) -> Lure {
    let mut raised = greeter("1.0.1");
    raised.floor = Some("1.0.0");
    world.publish(&raised);
    (greeter("0.9.0").wanted(), now())
}

fn old_metadata(world: &mut World, _: By) -> Lure {
    // As it was when 0.9.0 was the only release: all of it validly signed, none of it expired.
    let now_served = world.origin.files();
    let targets = now_served["/metadata/1.targets.json"].to_vec();
    let old = world.owner.online.publish(world.owner.root(), &targets, None, now()).unwrap();
    world.origin.put("/metadata/1.snapshot.json", old.snapshot);
    world.origin.put("/metadata/timestamp.json", old.timestamp);
    (greeter("0.9.0").wanted(), now())
}

fn freeze(_: &mut World, _: By) -> Lure {
    // Nothing new is served, however long it takes.
    (greeter("0.9.0").wanted(), now() + 46 * DAY)
}

fn mix_and_match(world: &mut World, _: By) -> Lure {
    let (_, lure) = bait(world);
    let old = world.origin.files()["/metadata/2.targets.json"].clone();
    world.origin.put("/metadata/3.targets.json", old);
    lure
}

fn fast_forward(world: &mut World, _: By) -> Lure {
    let (_, lure) = bait(world);
    let targets = world.owner.targets.clone().unwrap();
    world.forge_online(1 << 40, &targets, 1 << 40, false);
    lure
}

fn endless(world: &mut World, by: By) -> Lure {
    let (_, lure) = bait(world);
    if by == By::Bundle {
        let timestamp = world.origin.files()["/metadata/timestamp.json"].to_vec();
        world.origin.put("/metadata/timestamp.json", [timestamp, vec![b' '; 4 << 20]].concat());
    } else {
        world.origin.play([Trick::Honest, Trick::Longer(4 << 20)]);
    }
    lure
}

fn slow(world: &mut World, _: By) -> Lure {
    let (_, lure) = bait(world);
    world.origin.play([const { Trick::Honest }; 5]);
    world.origin.play([Trick::Trickle]);
    lure
}

fn swapped_blob(world: &mut World, _: By) -> Lure {
    let (release, lure) = bait(world);
    let mut other = release.pack.clone();
    *other.last_mut().unwrap() ^= 1;
    world.origin.put(release.blob(), other);
    lure
}

fn truncated_blob(world: &mut World, _: By) -> Lure {
    let (release, lure) = bait(world);
    world.origin.put(release.blob(), release.pack[..release.pack.len() / 2].to_vec());
    lure
}

fn wrong_app(world: &mut World, _: By) -> Lure {
    let (release, lure) = bait(world);
    let other = Release::new("heater", "1.1.0", b"#!/bin/sh\n");
    world.owner.release(&world.origin, &other);
    // As long as the right one, so that only the digest can tell.
    let mut bytes = other.bytes();
    bytes.resize(release.bytes().len(), b' ');
    world.origin.put(release.target(), bytes);
    lure
}

fn wrong_label(world: &mut World, _: By) -> Lure {
    let mut release = greeter("1.1.0");
    release.manifest.constraints.labels.insert("site".into(), "moon".into());
    (world.publish(&release), now())
}

fn expired(world: &mut World, _: By) -> Lure {
    // Newer than what the node has, and too old: it lay in a drawer.
    let (custom, bytes) = (greeter("1.1.0").custom(), greeter("1.1.0").bytes());
    world.owner.sign_targets_at(now() - 60 * DAY, |targets| drop(targets.add_release(&custom, &bytes)));
    world.owner.publish_at(now() - 46 * DAY);
    world.owner.serve(&world.origin);
    greeter("1.1.0").serve(&world.origin);
    (greeter("1.1.0").wanted(), now())
}

fn below_threshold(world: &mut World, _: By) -> Lure {
    let second = key();
    let keys = [world.owner.targets_key.public(), second.public()];
    world.owner.change_root(|root| root.targets = KeyHolders { keys: keys.into(), threshold: 2 });
    world.origin.put("/metadata/2.root.json", world.owner.root().to_vec());
    let release = greeter("1.1.0");
    release.serve(&world.origin);
    // One of the two was stolen, with all keys of the coordinator.
    let mut targets = forger::signed(world.owner.targets.as_ref().unwrap());
    targets["version"] = 9.into();
    let targets = forger::sign(&targets, &[&world.owner.targets_key]);
    world.forge_online(9, &targets, 9, true);
    (release.wanted(), now())
}

fn revoked(world: &mut World, _: By) -> Lure {
    let (release, lure) = bait(world);
    let version = release.manifest.version.clone();
    world.owner.sign_targets_at(now(), |targets| assert!(targets.remove_release(&app(), &version)));
    world.owner.publish_at(now());
    world.owner.serve(&world.origin);
    lure
}

/// What the driver makes of a refusal: the record from which the report is made, with the proven release to be run.
fn is_reported(want: &ReleaseRef, reason: &Reason) {
    let running = greeter("1.0.0").wanted().id;
    let settled =
        Record { generation: 1, desired: Some(running), current: Some(running), refused: None, phase: Phase::Settled };
    let fetching = settled.apply(Event::Desired { generation: 2, release: Some(want.id) });
    let refused = fetching.apply(Event::FetchFailed { refusal: Some(reason.clone()) });
    let told = refused.refused.as_ref().unwrap();
    assert_eq!((told.release, told.code, &told.reason), (want.id, reason.code, &reason.text));
    assert_eq!(refused.current, Some(running));
    assert!(matches!(refused.effect(), Effect::Run { release: Some(id), trial: false, .. } if id == running));
}

/// One cell of the table.
async fn cell(attack: &Attack, by: By) -> String {
    let (name, arrange, end) = attack;
    let mut world = World::new().await;
    let (want, at) = arrange(&mut world, by);
    let end = end(by);
    if matches!(end, End::None) {
        return "does not apply".to_owned();
    }
    let mut taken = world.take(by, &want, at).await;
    if matches!((&taken, &end), (Err(InstallFailure::Again(_)), End::Refused(..))) {
        // A root has just moved: what does not follow it yet is asked for once more.
        taken = world.take(by, &want, at).await;
    }
    let text = match (taken, end) {
        (Err(InstallFailure::Refused(reason)), End::Refused(code, why)) => {
            assert!(reason.code == code && reason.text.contains(why), "{name}, {by:?}: {reason:?}");
            is_reported(&want, &reason);
            code.to_string()
        }
        (Err(InstallFailure::Again(text)), End::Again(why)) => {
            assert!(text.contains(why), "{name}, {by:?}: {text}");
            format!("tried again ({why})")
        }
        (other, _) => panic!("{name}, {by:?}: {other:?}"),
    };
    assert!(world.is_installed(&greeter("1.0.0")), "{name}, {by:?}");
    let releases = std::fs::read_dir(world.layout().releases(&app())).unwrap().count();
    assert_eq!(releases, 1, "{name}, {by:?}: nothing is there but what runs");
    text
}

#[tokio::test]
async fn every_attack_by_every_road_is_refused_with_its_code() {
    println!("{:22} {:28} {:28} bundle", "attack", "coordinator", "web server");
    let mut cells = 0;
    for attack in &ATTACKS {
        let mut row = Vec::new();
        for by in ROADS {
            row.push(cell(attack, by).await);
        }
        cells += row.iter().filter(|text| !text.starts_with("does not")).count();
        println!("{:22} {:28} {:28} {}", attack.0, row[0], row[1], row[2]);
    }
    assert_eq!(cells, 41);
}

#[tokio::test]
async fn a_node_that_was_pushed_far_forward_follows_new_keys() {
    for by in ROADS {
        let mut world = World::new().await;
        let (want, at) = fast_forward(&mut world, by);
        world.take(by, &want, at).await.unwrap_err();
        let new = Online { snapshot: key(), timestamp: key() };
        world.owner.change_root(|root| {
            root.snapshot = KeyHolders::any_of([new.snapshot.public()]);
            root.timestamp = KeyHolders::any_of([new.timestamp.public()]);
        });
        (world.owner.online, world.owner.published) = (new, None);
        world.owner.publish_at(now());
        world.owner.serve(&world.origin);
        world.take(by, &want, now()).await.unwrap();
        assert!(world.is_installed(&greeter("1.1.0")));
    }
}

/// Whoever has the coordinator and all of its keys, and tries one thing after the other.
struct Thief {
    version: u64,
    random: u64,
}

impl Thief {
    fn below(&mut self, end: usize) -> usize {
        // splitmix64
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % end as u64).unwrap()
    }

    /// Serves some targets, of any age and any maker, as the newest, and lies about files now and then.
    fn serve(&mut self, world: &World, targets: &[Vec<u8>], releases: &[Release]) {
        self.version += 1;
        let targets = &targets[self.below(targets.len())];
        let named = forger::signed(targets)["version"].as_u64().unwrap();
        // Mostly the truth about the version, for with lies alone one does not get far.
        let named = if self.below(8) == 0 { named + self.below(3) as u64 } else { named };
        world.forge_online(self.version, targets, named, self.below(2) == 0);
        for release in releases {
            release.serve(&world.origin);
            let other = &releases[self.below(releases.len())];
            match self.below(8) {
                0 => world.origin.put(release.blob(), other.pack.clone()),
                1 => world.origin.put(release.target(), other.bytes()),
                _ => {}
            }
        }
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(|entry| entry.unwrap()) {
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[tokio::test]
async fn a_coordinator_that_was_taken_over_can_only_withhold_or_choose_among_what_the_owner_allows() {
    let seed = std::env::var("ORANGERY_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(20_261_121);
    println!("ORANGERY_SEED={seed}");
    let mut world = World::new().await;
    let mut elsewhere = greeter("1.3.0");
    elsewhere.manifest.constraints.labels.insert("site".into(), "moon".into());
    let mut floor = greeter("1.2.0");
    floor.floor = Some("1.0.0");
    let signed = [greeter("0.9.0"), greeter("1.0.0"), greeter("1.1.0"), floor, elsewhere, greeter("1.4.0")];
    let forged =
        [greeter("6.6.6"), Release::new("greeter", "1.1.0", b"evil"), Release::new("greeter", "1.0.0", b"evil")];
    let mut targets = vec![world.owner.targets.clone().unwrap()];
    for release in &signed[2..] {
        world.publish(release);
        targets.push(world.owner.targets.clone().unwrap());
    }
    // 1.4.0 is taken back; the node hears of it before the thief comes.
    let version = signed[5].manifest.version.clone();
    world.owner.sign_targets_at(now(), |targets| assert!(targets.remove_release(&app(), &version)));
    world.owner.publish_at(now());
    world.owner.serve(&world.origin);
    targets.push(world.owner.targets.clone().unwrap());
    world.installer(now()).refresh().await.unwrap();
    // The thief's own targets: one set by his keys, one by the coordinator's.
    let mut thieves = forger::signed(targets.last().unwrap());
    thieves["version"] = 50.into();
    let list = thieves["targets"].as_object_mut().unwrap();
    for release in &forged {
        let path = format!("greeter/{}/manifest.json", release.manifest.version);
        list.insert(
            path,
            serde_json::json!({
                "length": release.bytes().len(), "hashes": { "sha256": origin::sha256(&release.bytes()) },
                "custom": { "app": "greeter", "version": release.manifest.version.to_string() },
            }),
        );
    }
    targets.push(forger::sign(&thieves, &[&key(), &world.owner.online.snapshot, &world.owner.online.timestamp]));

    let all: Vec<Release> = signed.iter().chain(&forged).cloned().collect();
    let mut thief = Thief { version: 1_000, random: seed };
    let (mut refusals, mut installed) = (0, std::collections::BTreeSet::new());
    let (trust, kept) = (world.layout().trust(), tempfile::tempdir().unwrap());
    copy(&trust, kept.path());
    for round in 0..150 {
        // Each round is another node: one that a thief has pushed far forward is blocked until the keys are replaced.
        std::fs::remove_dir_all(&trust).unwrap();
        copy(kept.path(), &trust);
        thief.serve(&world, &targets, &all);
        let want = &all[thief.below(all.len())];
        match world.take(By::Coordinator, &want.wanted(), now()).await {
            Ok(()) => drop(installed.insert(want.manifest.version.to_string())),
            Err(_) => refusals += 1,
        }
        for release in all.iter().filter(|release| world.is_installed(release)) {
            let allowed = signed[1..4].iter().any(|allowed| allowed.wanted() == release.wanted());
            assert!(allowed, "round {round}: {} {:?}", release.manifest.version, release.wanted().id);
        }
    }
    println!("150 rounds: {refusals} refused; installed were {installed:?}, all of them allowed");
    assert!(refusals > 75 && installed.len() > 1, "{refusals}, {installed:?}");
}

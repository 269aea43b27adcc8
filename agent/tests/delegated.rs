//! Releases that the owner leaves to somebody else's keys: looked up over the network, kept on the disk, believed only on
//! the way that leads to them now.

#![allow(clippy::unwrap_used, reason = "these are tests, their helpers included")]

mod dying_disk;
mod origin;
mod owner;
mod refreshing;

use std::fs;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dying_disk::DyingDisk;
use orangery_agent::trusted::{RefreshFailure, Trusted};
use orangery_trust::repository::{KeyHolders, Online, SigningKey};
use orangery_trust::{canonical, time};
use orangery_wire::messages::RefusalCode;
use owner::{DAY, Release, key, now};
use refreshing::{World, report};
use ring::signature::Ed25519KeyPair;
use serde_json::{Value, json};

/// The delegated role, with a name that is no file's name.
const TEAM: &str = "team/a";
const FILE: &str = "delegated/team%2Fa.json";

/// What is left to the team: its key, and what it has signed.
struct Team {
    key: SigningKey,
    releases: Vec<Release>,
    version: u64,
}

impl Team {
    fn new() -> Self {
        Self { key: key(), releases: Vec::new(), version: 0 }
    }

    /// Signs what it has, lets the owner delegate to `named` and the coordinator publish it all.
    fn publish(&mut self, world: &mut World, named: &SigningKey) {
        self.version += 1;
        let version = self.version + 1;
        let public = named.public().to_string().replace("ed25519:", "");
        let listed = json!({ "keytype": "ed25519", "scheme": "ed25519", "keyval": { "public": public } });
        let id = named.id().to_string();
        let top = json!({
            "targets": {},
            "delegations": {
                "keys": { &id: listed },
                "roles": [{
                    "name": TEAM, "keyids": [id], "threshold": 1, "terminating": true,
                    "paths": ["greeter/*/manifest.json"],
                }],
            },
        });
        let targets: serde_json::Map<String, Value> = self.releases.iter().map(target).collect();
        let top = sign("targets", version, top, &world.owner.targets_key);
        let own = sign("targets", self.version, json!({ "targets": targets }), &self.key);
        let meta = json!({
            "targets.json": { "version": version },
            format!("{TEAM}.json"): { "version": self.version },
        });
        let snapshot = sign("snapshot", version, json!({ "meta": meta }), &world.owner.online.snapshot);
        let meta = json!({ "snapshot.json": { "version": version } });
        let timestamp = sign("timestamp", version, json!({ "meta": meta }), &world.owner.online.timestamp);
        let origin = &world.origin;
        origin.put(format!("/metadata/{version}.targets.json"), top);
        origin.put(format!("/metadata/{}.team%2Fa.json", self.version), own);
        origin.put(format!("/metadata/{version}.snapshot.json"), snapshot);
        origin.put("/metadata/timestamp.json", timestamp);
    }

    fn publish_own(&mut self, world: &mut World) {
        let key = SigningKey::from_pem(&self.key.to_pem()).unwrap();
        self.publish(world, &key);
    }
}

/// The entry of a release among targets.
fn target(release: &Release) -> (String, Value) {
    let bytes = release.bytes();
    let path = format!("{}/{}/manifest.json", release.app(), release.wanted().version);
    let hashes = json!({ "sha256": origin::sha256(&bytes).to_string() });
    let custom = serde_json::to_value(release.custom()).unwrap();
    (path, json!({ "length": bytes.len(), "hashes": hashes, "custom": custom }))
}

fn sign(role: &str, version: u64, mut signed: Value, key: &SigningKey) -> Vec<u8> {
    signed["_type"] = role.into();
    signed["spec_version"] = "1.0.34".into();
    signed["version"] = version.into();
    signed["expires"] = time::format(now() + 30 * DAY).into();
    let pem = key.to_pem();
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&STANDARD.decode(body).unwrap()).unwrap();
    let sig = pair.sign(&canonical::to_vec(&signed).unwrap());
    let sig = sig.as_ref().iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
    let signatures = json!([{ "keyid": key.id().to_string(), "sig": sig }]);
    serde_json::to_vec(&json!({ "signatures": signatures, "signed": signed })).unwrap()
}

async fn word(trusted: &Trusted, world: &World, release: &Release) -> Result<(), RefreshFailure> {
    let found = trusted.release(&world.http, &release.app(), &release.wanted().version, now()).await?;
    assert_eq!(found.id, release.wanted().id);
    Ok(())
}

/// A team with one release, and a node that has refreshed.
async fn world() -> (World, Team, Release) {
    let (mut world, mut team) = (World::new().await, Team::new());
    let release = Release::new("greeter", "1.0.0", b"good");
    team.releases.push(Release::new("greeter", "1.0.0", b"good"));
    team.publish_own(&mut world);
    assert_eq!(world.refresh().await, Ok(report(1, 2)));
    world.asked();
    (world, team, release)
}

#[tokio::test]
async fn a_delegated_release_is_asked_for_once_and_kept_as_it_was_served() {
    let (mut world, mut team, release) = world().await;
    let trusted = world.load();
    assert_eq!(trusted.still_allows(&release.app(), &release.wanted()), None, "only asking can tell");
    word(&trusted, &world, &release).await.unwrap();
    assert_eq!(world.asked(), ["1.team%2Fa.json"]);
    let kept = fs::read(world.file(FILE)).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&kept).unwrap()["signed"]["version"], 1);
    word(&world.load(), &world, &release).await.unwrap();
    assert_eq!(world.asked(), [""; 0]);
    assert_eq!(world.load().still_allows(&release.app(), &release.wanted()), Some(Ok(())));

    team.publish_own(&mut world);
    world.refresh().await.unwrap();
    world.asked();
    word(&world.load(), &world, &release).await.unwrap();
    assert_eq!(world.asked(), ["2.team%2Fa.json"]);
    assert_eq!(fs::read(world.file(&format!("{FILE}.previous"))).unwrap(), kept);
}

#[tokio::test]
async fn a_damaged_copy_is_fetched_again() {
    let (world, _, release) = world().await;
    word(&world.load(), &world, &release).await.unwrap();
    world.asked();
    fs::write(world.file(FILE), b"{").unwrap();
    word(&world.load(), &world, &release).await.unwrap();
    assert_eq!(world.asked(), ["1.team%2Fa.json"]);
}

#[tokio::test]
async fn a_node_that_cannot_ask_goes_on_with_the_teams_last_word() {
    let (mut world, mut team, release) = world().await;
    word(&world.load(), &world, &release).await.unwrap();
    // The team signs anew; this node's next refresh is for another app, and then the network is gone.
    team.publish_own(&mut world);
    world.refresh().await.unwrap();
    assert_eq!(world.load().still_allows(&release.app(), &release.wanted()), Some(Ok(())));
    // Another key is named: the last word is no longer the team's.
    team.publish(&mut world, &key());
    world.refresh().await.unwrap();
    assert_eq!(world.load().still_allows(&release.app(), &release.wanted()), None);
    let failure = word(&world.load(), &world, &release).await.unwrap_err();
    assert_eq!((failure.again, failure.reason.code), (false, RefusalCode::Unsigned));
    assert!(failure.reason.text.contains("team/a"), "{}", failure.reason.text);
}

#[tokio::test]
async fn an_agent_that_is_killed_at_any_write_of_a_search_keeps_the_old_word_or_the_new() {
    for calls in 0.. {
        let (mut world, mut team, release) = world().await;
        word(&world.load(), &world, &release).await.unwrap();
        team.publish_own(&mut world);
        world.refresh().await.unwrap();
        let disk = Arc::new(DyingDisk::after(calls));
        let trusted = Trusted::load(disk.clone(), world.directory.path().to_owned(), world.clock.clone());
        let outcome = word(&trusted, &world, &release).await;
        assert_eq!(outcome.is_err(), disk.is_dead(), "{outcome:?}");
        // Nobody can be asked after the power came back, and then somebody can.
        let after = world.load();
        assert_eq!(after.still_allows(&release.app(), &release.wanted()), Some(Ok(())), "killed at call {calls}");
        word(&after, &world, &release).await.unwrap();
        if !disk.is_dead() {
            assert!(calls > 3, "{calls}");
            return;
        }
    }
}

#[tokio::test]
async fn what_the_team_takes_back_is_no_longer_allowed() {
    let (mut world, mut team, release) = world().await;
    word(&world.load(), &world, &release).await.unwrap();
    team.releases.clear();
    team.publish_own(&mut world);
    world.refresh().await.unwrap();
    word(&world.load(), &world, &release).await.unwrap_err();
    assert!(world.load().still_allows(&release.app(), &release.wanted()).unwrap().is_err());
}

#[tokio::test]
async fn metadata_of_a_team_that_is_not_there_yet_is_worth_another_try() {
    let (world, _, release) = world().await;
    world.origin.remove("/metadata/1.team%2Fa.json");
    let failure = word(&world.load(), &world, &release).await.unwrap_err();
    assert!(failure.again, "{}", failure.reason.text);
    assert!(!world.file("delegated").exists());
}

#[tokio::test]
async fn an_owner_recovers_from_targets_pushed_far_forward_by_new_keys_for_the_coordinator() {
    let mut world = World::new().await;
    world.owner.sign_targets_at(now(), |content| content.version = 1_000);
    world.owner.renew(&world.origin);
    world.refresh().await.unwrap();
    let before = world.load().report(now()).targets;
    assert!(before >= 1_000);

    let online = Online { snapshot: key(), timestamp: key() };
    let (snapshot, timestamp) = (online.snapshot.public(), online.timestamp.public());
    world.owner.change_root(|root| {
        root.snapshot = KeyHolders::any_of([snapshot]);
        root.timestamp = KeyHolders::any_of([timestamp]);
    });
    world.owner.online = online;
    world.owner.targets = None;
    world.owner.sign_targets();
    world.owner.serve(&world.origin);
    // The node learns of the new root and of nothing else, and is started again.
    world.refresh().await.unwrap_err();
    assert_eq!(world.load().report(now()).targets, before, "what is left of the old state is still known");
    world.owner.published = None;
    world.owner.publish_at(now());
    world.owner.serve(&world.origin);
    assert_eq!(world.refresh().await, Ok(report(2, 1)));
    assert_eq!(world.load().report(now()), report(2, 1));
}

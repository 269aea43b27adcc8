//! Everything that can be said wrongly: each ends in a clear error, or in an event with a stable code, and the app that runs
//! is not touched by any of it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use orangery_tests::fleet::{Fleet, GREETER, Node};
use orangery_tests::mqtt;
use orangery_tests::process::{eventually, fail, succeed};
use orangery_tests::random::Random;
use orangery_tests::small_disk::SmallDisk;
use orangery_wire::Digest;
use orangery_wire::manifest::{Manifest, this_platform};
use orangery_wire::messages::{Phase, RefusalCode, What};
use orangery_wire::rest::EventView;
use orangery_wire::token::Token;
use orangery_wire::topics::{self, Channel};

/// A fleet with a node that runs greeter 1.0.0, which nothing of what follows may touch.
struct World {
    node: Node,
    fleet: Fleet,
    process: String,
}

impl World {
    fn new() -> Self {
        let fleet = Fleet::start();
        let node = fleet.node("attic");
        fleet.publish("1.0.0", 200);
        fleet.deploy("greeter@1.0.0", "all");
        fleet.settled_on("attic", "1.0.0");
        let process = run_state(&node);
        Self { node, fleet, process }
    }

    fn assert_untouched(&self, after: &str) {
        assert_eq!(self.node.serves().as_deref(), Some("1.0.0"), "after {after}");
        assert_eq!(run_state(&self.node), self.process, "after {after} another process serves");
        self.node.check();
    }

    /// What joining with this token says.
    fn join(&self, token: &str) -> String {
        fail(&mut self.fleet.board("cellar").agent(&["join", token]))
    }

    fn changed_token(&self, change: impl FnOnce(&mut Token)) -> String {
        let mut token: Token = self.fleet.token(&[]).parse().unwrap();
        change(&mut token);
        self.join(&token.to_text())
    }

    fn build(&self, version: &str, tree: &Path, manifest: &str) -> String {
        let file = self.fleet.path().join("refused.orangery");
        fail(self.fleet.release("build", "greeter", version, tree, manifest).arg("--out").arg(file))
    }

    fn build_with(&self, change: impl FnOnce(&Path)) -> String {
        let tree = tempfile::tempdir_in(self.fleet.path()).unwrap();
        std::fs::create_dir(tree.path().join("bin")).unwrap();
        std::fs::write(tree.path().join("bin/greeter"), "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(tree.path().join("bin/greeter"), std::fs::Permissions::from_mode(0o755)).unwrap();
        change(tree.path());
        self.build("9.0.0", tree.path(), GREETER)
    }

    /// A release file that was built, and signed if so wished.
    fn file(&self, version: &str, signed: bool) -> PathBuf {
        let tree =
            self.fleet.greeter_tree(version, &format!("version = {version}\nmessage = x\nhealth_status = 200\n"));
        let file = self.fleet.path().join(format!("greeter-{version}.orangery"));
        succeed(self.fleet.release("build", "greeter", version, &tree, GREETER).arg("--out").arg(&file));
        if signed {
            succeed(self.fleet.orangery(&["release", "sign"]).arg(&file));
        }
        file
    }

    fn push(&self, file: &Path) -> String {
        fail(self.fleet.orangery(&["release", "push"]).arg(file))
    }

    /// Publishes a release, damages what the coordinator holds of it, deploys it, and says what the node made of it.
    fn deploy_damaged(&self, version: &str, damage: impl FnOnce(&mut Vec<u8>)) -> String {
        self.fleet.publish(version, 200);
        let file = self.fleet.home().join("coordinator/state/blobs").join(self.pack(version).to_string());
        let mut bytes = std::fs::read(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        damage(&mut bytes);
        let _ = std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644));
        std::fs::write(&file, bytes).unwrap();
        self.fleet.deploy(&format!("greeter@{version}"), "all");
        self.refusal(version)
    }

    fn pack(&self, version: &str) -> Digest {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client = self.fleet.client().unwrap();
        let show = succeed(&mut self.fleet.orangery(&["release", "show", &format!("greeter@{version}"), "--json"]));
        let release: orangery_wire::rest::ReleaseView = serde_json::from_str(&show).unwrap();
        let path = format!("/targets/greeter/{version}/{}.manifest.json", release.id);
        let manifest = runtime.block_on(client.file(&path)).unwrap().expect("the manifest is there");
        Manifest::parse(&manifest).unwrap().platforms[&this_platform()].pack.digest
    }

    /// Waits for the refusal, or for the word that it will be tried again.
    fn refusal(&self, version: &str) -> String {
        eventually(&format!("{version} is refused or retried"), || {
            let app = self.fleet.greeter("attic")?;
            app.desired.as_ref().filter(|r| r.version.to_string() == version)?;
            if let Some(refusal) = app.refusal.filter(|_| app.phase == Phase::Settled) {
                return Some(format!("{}: {}", refusal.code, refusal.reason));
            }
            let events = self.fleet.events("attic");
            let view = events.iter().rev().take_while(|view| view.event.what.code() != "agent_started").next()?;
            match &view.event.what {
                orangery_wire::messages::What::Retrying { deed, reason } => Some(format!("retrying {deed}: {reason}")),
                _ => None,
            }
        })
    }
}

fn run_state(node: &Node) -> String {
    std::fs::read_to_string(node.state().join("apps/greeter/run.json")).unwrap()
}

/// A name, the deed, and the words that its outcome must have.
type Row = (&'static str, fn(&World) -> String, &'static [&'static str]);

const ENROLMENT: &[Row] = &[
    ("a text that is no token", |w| w.join("hello"), &["not an invite token"]),
    ("a token cut short", |w| w.join(&w.fleet.token(&[])[..60]), &["cut short"]),
    ("a wrong secret", |w| w.changed_token(|t| t.secret = t.secret.chars().rev().collect()), &["token"]),
    ("a wrong CA", |w| w.changed_token(|t| t.ca = Digest([1; 32])), &["not the one that made this token"]),
    ("a wrong trust root", |w| w.changed_token(|t| t.root = Digest([1; 32])), &["root"]),
    ("nobody at the address", |w| w.changed_token(|t| t.url = "https://127.0.0.1:9".into()), &["127.0.0.1:9"]),
    ("a used token", used_token, &["used"]),
    ("a name that is taken", |w| fail(&mut w.fleet.orangery(&["node", "invite", "--name", "attic"])), &["attic"]),
    ("a name that cannot be one", |w| fail(&mut w.fleet.orangery(&["node", "invite", "--name", "A_B"])), &["a-z"]),
    (
        "the agent without having joined",
        |w| fail(&mut w.fleet.board("cellar").agent(&["run"])),
        &["not joined", "join TOKEN"],
    ),
];

fn used_token(world: &World) -> String {
    let token = world.fleet.token(&["--name", "shed"]);
    succeed(&mut world.fleet.board("shed").agent(&["join", &token]));
    world.join(&token)
}

const RELEASES: &[Row] = &[
    (
        "a version that is not SemVer",
        |w| fail(&mut w.fleet.orangery(&["deploy", "greeter@1.0", "--to", "all"])),
        &["MAJOR.MINOR.PATCH"],
    ),
    (
        "an unknown app",
        |w| fail(&mut w.fleet.orangery(&["deploy", "nosuch@1.0.0", "--to", "all", "--yes"])),
        &["nosuch"],
    ),
    (
        "an unknown version",
        |w| fail(&mut w.fleet.orangery(&["deploy", "greeter@7.7.7", "--to", "all", "--yes"])),
        &["7.7.7"],
    ),
    (
        "an unknown node",
        |w| fail(&mut w.fleet.orangery(&["deploy", "greeter@1.0.0", "--to", "moon", "--yes"])),
        &["moon"],
    ),
    (
        "an unknown label",
        |w| fail(&mut w.fleet.orangery(&["deploy", "greeter@1.0.0", "--to", "site=moon", "--yes"])),
        &["site"],
    ),
    ("asking about an unknown node", |w| fail(&mut w.fleet.orangery(&["why", "moon"])), &["moon"]),
    (
        "an unknown key in the manifest",
        |w| w.build("9.0.0", &w.fleet.path().join("trees/1.0.0"), "[run]\nexce = [\"bin/greeter\"]"),
        &["exce", "exec"],
    ),
    (
        "a program that is not in the tree",
        |w| w.build("9.0.0", &w.fleet.path().join("trees/1.0.0"), "[run]\nexec = [\"../greeter\"]"),
        &["../greeter"],
    ),
    ("a setuid program", |w| w.build_with(|t| mode(t, 0o4755)), &["bin/greeter", "setuid"]),
    ("a link out of the tree", |w| w.build_with(|t| symlink("../../etc", t.join("out")).unwrap()), &["out"]),
    ("an absolute link", |w| w.build_with(|t| symlink("/etc", t.join("out")).unwrap()), &["out"]),
    (
        "a socket in the tree",
        |w| w.build_with(|t| drop(std::os::unix::net::UnixListener::bind(t.join("s")).unwrap())),
        &["s"],
    ),
    ("an unsigned release", |w| w.push(&w.file("3.0.0", false)), &["not signed"]),
    ("a file that is no release", |w| w.push(&w.fleet.home().join("client.toml")), &["client.toml"]),
    ("a tampered release", |w| w.push(&tampered(w)), &["SHA-256", "changed or cut"]),
    ("the same version with other content", same_version, &["1.0.0"]),
];

fn mode(tree: &Path, mode: u32) {
    std::fs::set_permissions(tree.join("bin/greeter"), std::fs::Permissions::from_mode(mode)).unwrap();
}

fn tampered(world: &World) -> PathBuf {
    let mut bytes = std::fs::read(world.file("3.1.0", true)).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let file = world.fleet.path().join("tampered.orangery");
    std::fs::write(&file, bytes).unwrap();
    file
}

fn same_version(world: &World) -> String {
    let tree = world.fleet.greeter_tree("1.0.0-other", "version = 1.0.0\nmessage = other\nhealth_status = 200\n");
    fail(&mut world.fleet.release("publish", "greeter", "1.0.0", &tree, GREETER))
}

const ARTIFACTS: &[Row] = &[
    ("a corrupt blob", |w| w.deploy_damaged("2.0.0", |b| b[1000] ^= 1), &["wrong_digest"]),
    ("a longer blob", |w| w.deploy_damaged("2.1.0", |b| b.push(0)), &["wrong_size"]),
    ("a short blob", |w| w.deploy_damaged("2.2.0", |b| b.truncate(1000)), &["wrong_size"]),
    ("a release for another platform", other_platform, &["incompatible", "linux/riscv64"]),
    ("a release for another label", other_label, &["incompatible", "site"]),
    ("metadata signed by somebody else", foreign_metadata, &["unsigned"]),
];

fn other_platform(world: &World) -> String {
    let tree = world.fleet.greeter_tree("2.3.0", "version = 2.3.0\nmessage = x\nhealth_status = 200\n");
    let file = world.fleet.path().join("greeter-2.3.0.toml");
    std::fs::write(&file, GREETER).unwrap();
    let platform = format!("linux/riscv64={}", tree.display());
    let mut publish = world.fleet.orangery(&["release", "publish", "--app", "greeter", "--version", "2.3.0"]);
    succeed(publish.args(["--platform", &platform, "--manifest"]).arg(&file));
    world.fleet.deploy("greeter@2.3.0", "all");
    world.refusal("2.3.0")
}

fn other_label(world: &World) -> String {
    let manifest = format!("{GREETER}\n[constraints.labels]\nsite = \"moon\"\n");
    world.fleet.publish_with("2.4.0", "version = 2.4.0\nmessage = x\nhealth_status = 200\n", &manifest);
    world.fleet.deploy("greeter@2.4.0", "all");
    world.refusal("2.4.0")
}

/// A coordinator that was broken into serves metadata of its own making.
fn foreign_metadata(world: &World) -> String {
    world.fleet.publish("2.5.0", 200);
    let directory = world.fleet.home().join("coordinator/state/metadata");
    for file in std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()) {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        if name.ends_with("timestamp.json") {
            let text = std::fs::read_to_string(&file).unwrap();
            let at = text.find("\"sig\"").expect("metadata has signatures") + 10;
            let digit = if text.as_bytes()[at] == b'0' { "1" } else { "0" };
            std::fs::write(&file, format!("{}{digit}{}", &text[..at], &text[at + 1..])).unwrap();
        }
    }
    world.fleet.deploy("greeter@2.5.0", "all");
    world.refusal("2.5.0")
}

fn check(rows: &[Row]) {
    let world = World::new();
    for (name, deed, words) in rows {
        let outcome = deed(&world);
        for word in *words {
            assert!(outcome.contains(word), "{name}: nothing says {word:?} in: {outcome}");
        }
        assert!(!outcome.contains("panicked"), "{name}: {outcome}");
        world.assert_untouched(name);
        println!("{name}: {}", outcome.trim());
    }
}

#[test]
fn every_wrong_enrolment_is_told_what_is_wrong() {
    check(ENROLMENT);
}

#[test]
fn every_wrong_release_is_refused_before_it_reaches_a_node() {
    check(RELEASES);
}

#[test]
fn every_damaged_artifact_is_refused_by_the_node() {
    check(ARTIFACTS);
}

#[test]
fn broken_json_on_every_topic_is_dropped_and_told() {
    let mut world = World::new();
    let topic = |channel: Channel| topics::topic(&"attic".parse().unwrap(), channel);
    for channel in [Channel::Desired, Channel::Acked] {
        mqtt::as_coordinator(&world.fleet, &topic(channel), b"{\"format\":").unwrap();
        eventually(&format!("the node tells of a broken {}", channel.as_str()), || {
            let told = |view: &EventView| match &view.event.what {
                What::MessageRejected { topic, why, .. } => topic == channel.as_str() && why == "not_json",
                _ => false,
            };
            world.fleet.events("attic").iter().any(told).then_some(())
        });
        world.assert_untouched(channel.as_str());
    }
    world.node.stop();
    for channel in Channel::ALL.into_iter().filter(|channel| channel.is_from_node()) {
        mqtt::as_node(&world.fleet, &world.node, &topic(channel), b"{\"format\":").unwrap();
        eventually(&format!("the coordinator tells of a broken {}", channel.as_str()), || {
            let log = world.fleet.coordinator().log();
            log.lines().any(|line| line.contains("not_json") && line.contains(channel.as_str())).then_some(())
        });
    }
    world.node.start();
    world.fleet.publish("1.1.0", 200);
    world.fleet.deploy("greeter@1.1.0", "all");
    world.fleet.settled_on("attic", "1.1.0");
}

#[test]
fn a_coordinator_that_goes_away_in_any_phase_changes_nothing_for_the_app() {
    let mut world = World::new();
    let large = world.fleet.greeter_tree("1.1.0", "version = 1.1.0\nmessage = x\nhealth_status = 200\n");
    let mut random = Random::announced();
    let noise: Vec<u8> = std::iter::repeat_with(|| u8::try_from(random.below(256)).unwrap()).take(48 << 20).collect();
    std::fs::write(large.join("noise"), noise).unwrap();
    world.fleet.publish_tree("greeter", "1.1.0", &large, &format!("soak_secs = 2\n{GREETER}"));

    world.fleet.deploy("greeter@1.1.0", "all");
    eventually("the download is under way", || {
        let parts = std::fs::read_dir(world.node.state().join("parts")).ok()?;
        parts.flatten().any(|part| part.metadata().is_ok_and(|m| m.len() > 0)).then_some(())
    });
    world.fleet.coordinator().kill();
    world.assert_untouched("the coordinator went away during the download");
    world.fleet.serve();
    eventually("1.1.0 is on trial", || (world.fleet.greeter("attic")?.phase == Phase::Probing).then_some(()));
    world.fleet.coordinator().kill();
    eventually("the node knows that the coordinator is gone", || {
        succeed(&mut world.node.agent(&["status"])).contains("is not connected").then_some(())
    });
    assert_eq!(world.node.serves().as_deref(), Some("1.1.0"));
    // It had its coordinator when the trial began, and waits for it: a release may be what cuts a node off.
    world.fleet.serve();
    world.fleet.settled_on("attic", "1.1.0");
}

#[test]
fn an_expired_token_is_refused_as_expired() {
    let fleet = Fleet::start();
    let token = fleet.token(&["--expires", "1s"]);
    // A good answer would use the token up, so the board asks once the token has surely ended.
    let made = std::time::Instant::now();
    eventually("the second is over", || (made.elapsed().as_millis() > 2_100).then_some(()));
    let said = fail(&mut fleet.board("cellar").agent(&["join", &token]));
    assert!(said.contains("expired"), "{said}");
}

#[test]
fn a_full_disk_refuses_the_release_and_keeps_the_app() {
    let fleet = Fleet::start();
    let mut node = fleet.joined("attic", "");
    let Some(_mounted) = SmallDisk::under(&node, "40m") else { return };
    node.start();
    fleet.publish("1.0.0", 200);
    fleet.deploy("greeter@1.0.0", "all");
    fleet.settled_on("attic", "1.0.0");
    let tree = fleet.greeter_tree("1.1.0", "version = 1.1.0\nmessage = x\nhealth_status = 200\n");
    std::fs::write(tree.join("large"), vec![0; 64 << 20]).unwrap();
    fleet.publish_tree("greeter", "1.1.0", &tree, GREETER);
    fleet.deploy("greeter@1.1.0", "all");
    let report = fleet.refused("attic", "1.1.0");
    assert_eq!(report.refusal.map(|r| r.code), Some(RefusalCode::NoSpace));
    assert_eq!(node.serves().as_deref(), Some("1.0.0"));
    node.stop();
    drop(node);
}

//! Whole nodes whose clock is wrong, or is set while they work: dynamic libfaketime gives an agent another wall clock and leaves it
//! its monotonic one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use orangery_agent::clock::build_time;
use orangery_tests::fleet::{Fleet, GREETER, Node, Setup};
use orangery_tests::process::{Around, eventually, output, succeed};

const DAY: i64 = 86_400;

/// The wall clock of one node's programs.
struct WrongClock {
    library: PathBuf,
    offset: PathBuf,
}

impl WrongClock {
    /// Without libfaketime a test says so and ends; in CI it fails.
    fn find(fleet: &Fleet, name: &str) -> Option<Self> {
        Self::find_in(fleet.path(), name)
    }

    fn find_in(directory: &Path, name: &str) -> Option<Self> {
        let places = std::fs::read_dir("/usr/lib").unwrap().flatten();
        let library = places.map(|place| place.path().join("faketime/libfaketimeMT.so.1")).find(|path| path.is_file());
        if library.is_none() {
            assert!(std::env::var_os("CI").is_none(), "libfaketime is not installed, and CI must test with it");
            eprintln!("LEFT OUT: libfaketime is not installed (apt-get install faketime)");
        }
        Some(Self { library: library?, offset: directory.join(format!("clock-{name}")) })
    }

    fn around(&self) -> Around {
        let variable = |name: &str, value: &str| (name.to_owned(), OsString::from(value));
        let environment = vec![
            ("LD_PRELOAD".to_owned(), self.library.clone().into()),
            ("FAKETIME_TIMESTAMP_FILE".to_owned(), self.offset.clone().into()),
            variable("FAKETIME_NO_CACHE", "1"),
            variable("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            variable("NO_FAKE_STAT", "1"),
        ];
        Around { namespace: None, environment }
    }

    /// From now on it is so many seconds ahead of the true time. Readers see the old offset or the new one.
    fn set(&self, ahead_secs: i64) {
        let beside = self.offset.with_extension("new");
        std::fs::write(&beside, format!("{ahead_secs:+}")).unwrap();
        std::fs::rename(beside, &self.offset).unwrap();
    }
}

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

/// A fleet with a release that soaks, and the same twice more.
fn fleet() -> Fleet {
    let fleet = Fleet::start();
    fleet.publish("1.0.0", 200);
    for version in ["1.1.0", "1.2.0"] {
        let conf = format!("version = {version}\nmessage = hello\nhealth_status = 200\n");
        fleet.publish_with(version, &conf, &format!("soak_secs = 1\n{GREETER}"));
    }
    fleet
}

fn settings(node: &Node) -> String {
    format!(
        "state_dir = \"state\"\n[runner]\ndefault = \"process\"\n[link]\nkeepalive_secs = 5\nbackoff_max_secs = 1\n\
         [fetch]\nbackoff_max_secs = 1\n[apps.greeter.env]\nPORT = \"{}\"\n",
        node.port
    )
}

/// A board that has not joined, with a clock of its own.
fn board(fleet: &Fleet, name: &str, clock: &WrongClock) -> Node {
    let mut board = fleet.board(name);
    board.settle(&settings(&board));
    board.around = clock.around();
    board
}

fn join(fleet: &Fleet, node: &Node) {
    succeed(&mut node.agent(&["join", &fleet.token(&["--name", &node.name])]));
}

fn on_trial(fleet: &Fleet, node: &Node) {
    eventually("the trial is under way", || {
        let app = fleet.greeter(&node.name)?;
        (app.phase == orangery_wire::messages::Phase::Probing).then_some(())
    });
}

fn clock_state(node: &Node) -> String {
    node.status()["clock"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn whatever_its_clock_says_a_node_joins_deploys_and_renews_and_jumps_in_a_soak_do_no_harm() {
    let fleet = fleet();
    let built = i64::try_from(build_time()).unwrap() - now();
    let clocks =
        [("y1970", -now() + DAY, true), ("built", built, true), ("yesterday", -DAY, true), ("late", 65 * DAY, false)];
    let mut nodes = Vec::new();
    for (name, ahead, _) in clocks {
        let Some(clock) = WrongClock::find(&fleet, name) else { return };
        clock.set(ahead);
        let mut node = board(&fleet, name, &clock);
        join(&fleet, &node);
        let certificate = node.state().join("identity/node.pem");
        let first = std::fs::read(&certificate).unwrap();
        node.start();
        nodes.push((node, clock, ahead, certificate, first));
    }
    fleet.deploy("greeter@1.0.0", "y1970");
    fleet.deploy("greeter@1.0.0", "built");
    fleet.deploy("greeter@1.0.0", "yesterday");
    for (node, ..) in &nodes[..3] {
        fleet.settled_on(&node.name, "1.0.0");
    }
    // Of a certificate for 90 days a third is left: it is renewed by the clock that the node has.
    let (late, _, _, certificate, first) = &nodes[3];
    eventually("the certificate is renewed", || (std::fs::read(certificate).unwrap() != *first).then_some(()));
    assert!(late.status()["connected"] == true);
    for (version, back) in [("1.1.0", true), ("1.2.0", false)] {
        for (node, clock, ahead, ..) in &nodes[..3] {
            fleet.deploy(&format!("greeter@{version}"), &node.name);
            on_trial(&fleet, node);
            // To the right time, and with the next release as wrong as it was.
            clock.set(if back { 0 } else { *ahead });
        }
        for (node, ..) in &nodes[..3] {
            fleet.settled_on(&node.name, version);
        }
    }
    assert_eq!(clock_state(&nodes[0].0), "behind_floor");
    for (node, ..) in &mut nodes[..3] {
        node.stop();
        node.start();
        fleet.settled_on(&node.name, "1.2.0");
        assert!(fleet.refusals(&node.name).is_empty(), "{:?}", fleet.refusals(&node.name));
    }
    println!("{} wrong clocks: joined, connected, deployed 3 releases with a jump in 2 soaks, or renewed", nodes.len());
}

#[test]
fn a_clock_ten_years_ahead_is_told_bypasses_nothing_and_blocks_nothing_for_good() {
    let fleet = fleet();
    let Some(clock) = WrongClock::find(&fleet, "ahead") else { return };
    clock.set(3_660 * DAY);
    let mut node = board(&fleet, "ahead", &clock);
    let refused = output(&mut node.agent(&["join", &fleet.token(&["--name", "ahead"])]));
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success(), "{text}");
    assert!(text.contains("clock"), "what a person must look at is named: {text}");
    assert!(!text.contains("panicked"), "{text}");

    // The time is right, and then it jumps while all is well.
    clock.set(0);
    join(&fleet, &node);
    node.start();
    fleet.deploy("greeter@1.0.0", "ahead");
    fleet.settled_on("ahead", "1.0.0");
    clock.set(3_660 * DAY);
    fleet.deploy("greeter@1.1.0", "ahead");
    let app = eventually("1.1.0 is not taken", || {
        let app = node.status()["reported"]["apps"][0].take();
        let tried = app["desired"]["version"] == "1.1.0";
        let waits = node.log().contains("will try again") || app["refusal"]["code"] == "expired";
        (tried && waits).then_some(app)
    });
    assert_eq!(app["current"]["version"], "1.0.0", "nothing that has expired is taken: {app}");
    assert_eq!(node.serves().as_deref(), Some("1.0.0"), "and the app runs on");

    // A restart with the wrong clock, as after a power cut: it can reach nobody now, and the app is there.
    node.stop();
    node.start();
    eventually("the app runs", || (node.serves()? == "1.0.0").then_some(()));
    let lost = eventually("the reason is logged", || {
        node.log().lines().rev().find(|line| line.contains("not connected")).map(str::to_owned)
    });
    assert!(lost.contains("look at the node's clock"), "{lost}");

    // Somebody sets the clock. Nothing of the ten years was kept.
    clock.set(0);
    node.stop();
    node.start();
    // Only what is known to have been refused is told anew.
    eventually("the coordinator knows how the node is", || {
        let says = node.status()["reported"]["apps"][0]["refusal"]["code"].as_str().map(str::to_owned);
        let known = fleet.view("ahead").filter(|view| view.online)?.reported?.apps.pop()?.refusal;
        (known.map(|refusal| refusal.code.to_string()) == says).then_some(())
    });
    fleet.deploy("greeter@1.1.0", "ahead");
    fleet.settled_on("ahead", "1.1.0");
    node.check();
}

#[test]
fn nodes_that_were_away_for_a_hundred_days_renew_what_has_expired_whatever_their_clock_says() {
    let directory = tempfile::tempdir().unwrap();
    let Some(of_coordinator) = WrongClock::find_in(directory.path(), "coordinator") else { return };
    of_coordinator.set(0);
    let mut fleet = Fleet::init(&Setup { around: of_coordinator.around(), ..Setup::default() });
    fleet.serve();
    fleet.publish("1.0.0", 200);
    fleet.publish("1.1.0", 200);
    // One comes back with the time that it is by then, one with the time when it went, one with none.
    let mut nodes = Vec::new();
    for (name, ahead) in [("right", 100 * DAY), ("stopped", 0), ("y1970", -now() + DAY)] {
        let clock = WrongClock::find(&fleet, name).unwrap();
        clock.set(0);
        let mut node = board(&fleet, name, &clock);
        join(&fleet, &node);
        node.start();
        nodes.push((node, clock, ahead));
    }
    fleet.deploy("greeter@1.0.0", "all");
    for (node, ..) in &mut nodes {
        fleet.settled_on(&node.name, "1.0.0");
        node.stop();
    }
    // The certificates were for 90 days, the coordinator's signatures for 45.
    fleet.coordinator().stop();
    of_coordinator.set(100 * DAY);
    fleet.serve();
    fleet.deploy("greeter@1.1.0", "all");
    for (node, clock, ahead) in &mut nodes {
        clock.set(*ahead);
        let certificate = node.state().join("identity/node.pem");
        let old = std::fs::read(&certificate).unwrap();
        node.start();
        eventually("the app runs, though nothing is valid any more", || node.serves());
        fleet.settled_on(&node.name, "1.1.0");
        assert_ne!(std::fs::read(&certificate).unwrap(), old, "{}: the certificate is another one", node.name);
        assert!(fleet.refusals(&node.name).is_empty(), "{:?}", fleet.refusals(&node.name));
        node.check();
    }
}

/// What the coordinator believes that the time is, by when it last heard a node.
fn heard_at(fleet: &Fleet, node: &str) -> i64 {
    fleet.view(node).and_then(|view| view.seen_at).and_then(|at| i64::try_from(at).ok()).unwrap_or_default()
}

#[test]
fn a_coordinator_whose_clock_leaps_ends_no_soak_and_has_its_nodes_again_when_the_clock_is_right() {
    let directory = tempfile::tempdir().unwrap();
    let Some(clock) = WrongClock::find_in(directory.path(), "coordinator") else { return };
    clock.set(0);
    let mut fleet = Fleet::init(&Setup { around: clock.around(), ..Setup::default() });
    fleet.serve();
    let mut nodes = ["attic", "cellar"].map(|name| fleet.joined(name, "[health]\ninterval_secs = 1\n"));
    nodes.iter_mut().for_each(Node::start);
    for version in ["1.0.0", "1.1.0"] {
        fleet.publish(version, 200);
    }
    fleet.deploy("greeter@1.0.0", "all");
    for node in &nodes {
        fleet.settled_on(&node.name, "1.0.0");
    }
    let words = ["rollout", "start", "greeter@1.1.0", "--nodes", "all", "--canary", "attic", "--soak", "1h", "--yes"];
    succeed(&mut fleet.orangery(&words));
    fleet.settled_on("attic", "1.1.0");
    for ahead in [2 * DAY, -2 * DAY, 0] {
        clock.set(ahead);
        // It has planned with this time: it does each second, and has heard the canary again and again.
        let first = eventually("a node is heard at the other time", || {
            let at = heard_at(&fleet, "attic");
            ((at - now() - ahead).abs() < 3_600).then_some(at)
        });
        eventually("it is heard again", || (heard_at(&fleet, "attic") >= first + 3).then_some(()));
        let view = fleet.rollout(1);
        assert_eq!(view.status, "running", "{ahead}: {}", view.reason);
        fleet.settled_on("cellar", "1.0.0");
        assert!(fleet.view("cellar").unwrap().online);
    }
    // A start at a time at which nothing is valid: whoever asks is told, and nobody is lost by it.
    fleet.coordinator().stop();
    clock.set(3_660 * DAY);
    fleet.serve();
    fleet.coordinator().stop();
    clock.set(0);
    fleet.serve();
    for node in &nodes {
        eventually("the node is back", || fleet.view(&node.name)?.online.then_some(()));
        assert!(fleet.refusals(&node.name).is_empty(), "{:?}", fleet.refusals(&node.name));
    }
    succeed(&mut fleet.orangery(&["rollout", "promote", "1", "--note", "the hour is over"]));
    fleet.settled_on("cellar", "1.1.0");
}

#[test]
fn an_agent_that_stood_still_while_it_probed_blames_nobody_for_it() {
    let fleet = Fleet::start();
    let mut node = fleet.node("lid");
    // One bad answer refuses it, and a question that is open when the lid is closed would be one.
    let strict = "soak_secs = 2\n[run]\nexec = [\"bin/greeter\"]\n[[probes]]\n\
                  exec = { command = [\"/bin/sleep\", \"0.2\"] }\ninterval_ms = 250\ntimeout_ms = 1000\nfailures = 1\n";
    fleet.publish_with("1.0.0", "version = 1.0.0\nmessage = hello\nhealth_status = 200\n", strict);
    fleet.deploy("greeter@1.0.0", "all");
    on_trial(&fleet, &node);
    let agent = rustix::process::Pid::from_raw(i32::try_from(node.process().pid()).unwrap()).unwrap();
    rustix::process::kill_process(agent, rustix::process::Signal::STOP).unwrap();
    let closed = Instant::now();
    // Longer than the soak, the time-out and the broker's patience: what is timed is what must not be believed.
    while closed.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(50));
    }
    rustix::process::kill_process(agent, rustix::process::Signal::CONT).unwrap();
    let opened = Instant::now();
    fleet.settled_on("lid", "1.0.0");
    assert!(opened.elapsed() >= Duration::from_millis(1_900), "the soak was seen and not slept through");
    assert!(fleet.refusals("lid").is_empty(), "{:?}", fleet.refusals("lid"));
}

//! Nodes whose disk is full, or is full after so many bytes more: what was proven runs on, the coordinator hears of it, and once
//! there is room everything goes on by itself.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../../agent/tests/small_disk/mod.rs"]
mod small_disk;

use std::collections::{BTreeMap, BTreeSet};

use orangery_tests::fleet::{Fleet, GREETER, Node};
use orangery_tests::process::{eventually, output, succeed};
use orangery_wire::messages::{AppReport, Phase, RefusalCode};
use small_disk::SmallDisk;

/// Three releases of the greeter in a debug build, with one on its way, and something more.
const DISK_BYTES: u64 = 40 << 20;
const BLOCK: u64 = 4_096;

/// A node on a small disk.
struct Attic {
    name: String,
    node: Node,
    disk: SmallDisk,
    /// What its disk is left with.
    free: u64,
    has_reserve: bool,
}

/// What comes of a deployment there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Told {
    Current,
    Refused(&'static str),
    /// It cannot write down what it was told, and says so.
    Waits,
}

/// How much is free, and whether there is a reserve.
type Case = (u64, bool);

fn settings(node: &Node, has_reserve: bool) -> String {
    let reserve = if has_reserve { "" } else { "reserve_bytes = 0\n" };
    format!(
        "state_dir = \"state\"\n[runner]\ndefault = \"process\"\n[link]\nkeepalive_secs = 5\nbackoff_max_secs = 1\n\
         [health]\ninterval_secs = 1\n[apps.greeter.env]\nPORT = \"{}\"\n[fetch]\nbackoff_max_secs = 1\n{reserve}",
        node.port
    )
}

/// A board that has not joined, on a small disk.
fn board(fleet: &Fleet, name: &str, has_reserve: bool) -> Option<(Node, SmallDisk)> {
    let board = fleet.board(name);
    board.settle(&settings(&board, has_reserve));
    let disk = SmallDisk::at(board.state(), DISK_BYTES)?;
    Some((board, disk))
}

impl Attic {
    fn new(fleet: &Fleet, (free, has_reserve): Case) -> Option<Self> {
        let name = format!("{}-{free}", if has_reserve { "reserve" } else { "bare" });
        let (mut node, disk) = board(fleet, &name, has_reserve)?;
        succeed(&mut node.agent(&["join", &fleet.token(&["--name", &name])]));
        node.start();
        Some(Self { name, node, disk, free, has_reserve })
    }

    fn what(&self) -> String {
        format!("{} ({} bytes free)", self.name, self.disk.free())
    }

    /// A report on `version`, if the node is heard and has come to an end with it. With a reserve, or room, it can write down
    /// what it was told, if not at once.
    fn told(&self, app: &AppReport, version: &str, is_full: bool) -> Option<Told> {
        if app.waits.as_ref().is_some_and(|waits| waits.contains("does not take its record")) {
            return (is_full && !self.has_reserve).then_some(Told::Waits);
        }
        let desired = app.desired.as_ref().filter(|desired| desired.version.to_string() == version)?;
        let settled = app.phase == Phase::Settled && app.running == app.current;
        let refusal = app.refusal.as_ref().filter(|refusal| settled && refusal.release == desired.id);
        match refusal {
            Some(refusal) => Some(Told::Refused(refusal.code.as_str())),
            None => (settled && app.current.as_ref() == Some(desired)).then_some(Told::Current),
        }
    }
}

/// Several of them, and how it went.
struct Street {
    // The disks are unmounted before the fleet's directory goes.
    attics: Vec<Attic>,
    fleet: Fleet,
    counts: BTreeMap<(&'static str, bool, Told), usize>,
}

impl Street {
    fn new(cases: &[Case]) -> Option<Self> {
        let fleet = Fleet::start();
        for version in ["1.0.0", "1.1.0", "1.3.0", "1.4.0"] {
            fleet.publish(version, 200);
        }
        fleet.publish("1.2.0", 500);
        let attics = cases.iter().map(|case| Attic::new(&fleet, *case)).collect::<Option<Vec<_>>>()?;
        let mut street = Self { attics, fleet, counts: BTreeMap::new() };
        assert!(street.deploy("first", "1.0.0", false).iter().all(|told| *told == Told::Current));
        Some(street)
    }

    /// Each disk is left with what it is to have.
    fn fill(&self) {
        self.attics.iter().for_each(|attic| attic.disk.leave(attic.free));
    }

    fn empty(&self) {
        self.attics.iter().for_each(|attic| attic.disk.empty());
    }

    /// What the coordinator hears.
    fn reports(&self) -> BTreeMap<String, AppReport> {
        let online = self.fleet.status().nodes.into_iter().filter(|node| node.online);
        let apps = online.filter_map(|node| Some((node.node.to_string(), node.reported?.apps.pop()?)));
        apps.collect()
    }

    /// Deploys to all, until each has come to an end with it, as the coordinator hears it. What that says is served.
    fn deploy(&mut self, scenario: &'static str, version: &str, is_full: bool) -> Vec<Told> {
        self.fleet.deploy(&format!("greeter@{version}"), "all");
        let mut still: BTreeSet<usize> = (0..self.attics.len()).collect();
        let mut told = vec![Told::Waits; still.len()];
        eventually(&format!("{scenario}: every node has come to an end with {version}"), || {
            let reports = self.reports();
            still.retain(|n| {
                let attic = &self.attics[*n];
                let now = reports.get(&attic.name).and_then(|app| attic.told(app, version, is_full));
                if let Some(now) = &now {
                    told[*n] = now.clone();
                }
                now.is_none()
            });
            still.is_empty().then_some(())
        });
        for (attic, told) in self.attics.iter().zip(&told) {
            *self.counts.entry((scenario, attic.has_reserve, told.clone())).or_default() += 1;
        }
        self.what_is_proven_runs(scenario);
        told
    }

    /// The proven release serves, and none that is not.
    fn what_is_proven_runs(&self, scenario: &str) {
        let reports = self.reports();
        for attic in &self.attics {
            let current = reports[&attic.name].current.clone().map(|current| current.version.to_string());
            let what = || format!("{scenario}: {} runs {current:?}", attic.what());
            eventually(&what(), || (attic.node.serves() == current).then_some(()));
        }
    }

    /// `why` says what is true of each.
    fn is_explained(&self, scenario: &str, told: &[Told]) {
        for (attic, told) in self.attics.iter().zip(told) {
            let why = succeed(&mut self.fleet.orangery(&["why", &attic.name]));
            let says = |parts: &[&str]| parts.iter().all(|part| why.contains(part));
            let has_no_space = || says(&["no_space", "needs ", "are free and ", "can be freed, short by "]);
            let explained = match told {
                Told::Current => says(&["is proven there"]),
                Told::Refused("no_space") => has_no_space(),
                Told::Refused(code) => says(&[code]),
                // A block may have come free since, and then the record was taken.
                Told::Waits => says(&["does not take its record", "No space left"]) || has_no_space(),
            };
            assert!(explained, "{scenario}: {}: {told:?} is not what it says: {why}", attic.what());
        }
    }

    /// What people ask a node works there.
    fn answers(&self) {
        for attic in &self.attics {
            assert_eq!(attic.node.status()["running"], true, "{}", attic.what());
            succeed(&mut attic.node.agent(&["history"]));
            succeed(&mut attic.node.agent(&["why"]));
            // A trial that cannot be written down is no violation.
            attic.node.check();
            let doctor = output(&mut attic.node.agent(&["doctor"]));
            let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
            let low = attic.disk.free() < 1 << 20;
            assert!(!low || said.contains("disk_full"), "{}: {said}", attic.what());
        }
    }

    /// Everything dies at once, and starts on the disk as it is.
    fn lose_power(&mut self) {
        let starts =
            |fleet: &Fleet, name: &str| fleet.codes(name).iter().filter(|code| **code == "agent_started").count();
        for attic in &mut self.attics {
            attic.node.cut_power();
            attic.node.start();
        }
        for attic in &self.attics {
            eventually(&format!("{} tells of its start", attic.what()), || {
                // An event that was not stored is not told, for it could be told under another number; the proof is.
                let told = !attic.has_reserve || starts(&self.fleet, &attic.name) > 1;
                let proves = || self.reports().contains_key(&attic.name);
                (told && attic.node.status()["connected"] == true && proves()).then_some(())
            });
        }
        self.what_is_proven_runs("after a power cut");
    }

    /// No number is missing in any epoch.
    fn nothing_is_lost(&self) -> usize {
        let mut events = 0;
        for attic in &self.attics {
            eventually(&format!("{}: the outbox is empty", attic.name), || attic.node.outbox_is_empty().then_some(()));
            let mut epochs: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
            for view in self.fleet.events(&attic.name) {
                epochs.entry(view.event.epoch).or_default().push(view.event.sequence);
            }
            for sequences in epochs.values_mut() {
                sequences.sort_unstable();
                let all: Vec<u64> = (1..=sequences.len() as u64).collect();
                assert_eq!(*sequences, all, "{}: events are missing", attic.name);
            }
            assert!(!attic.has_reserve || epochs.len() == 1, "{}: its store was not opened once", attic.name);
            events += epochs.values().map(Vec::len).sum::<usize>();
        }
        events
    }
}

/// Takes nodes with so much room through everything that a node does.
fn live_on_full_disks(cases: &[Case], counts: &mut BTreeMap<(&'static str, bool, Told), usize>) -> usize {
    let Some(mut street) = Street::new(cases) else { return 0 };
    street.fill();
    let told = street.deploy("healthy", "1.1.0", true);
    street.is_explained("healthy", &told);
    let told = street.deploy("unhealthy", "1.2.0", true);
    assert!(!told.contains(&Told::Current));
    street.is_explained("unhealthy", &told);
    street.answers();
    street.lose_power();
    street.empty();
    let told = street.deploy("with room again", "1.3.0", false);
    assert!(told.iter().all(|told| *told == Told::Current), "{told:?}");
    street.fill();
    let told = street.deploy("with collection", "1.4.0", true);
    street.is_explained("with collection", &told);
    street.empty();
    let events = street.nothing_is_lost();
    for attic in &mut street.attics {
        attic.node.stop();
        attic.node.check();
    }
    for (key, count) in std::mem::take(&mut street.counts) {
        *counts.entry(key).or_default() += count;
    }
    events
}

#[test]
fn a_trial_that_fails_when_the_disk_takes_nothing_any_more_gives_way_to_what_was_proven() {
    let fleet = Fleet::start();
    fleet.publish("1.0.0", 200);
    let late = GREETER.replace("[[probes]]\n", "[[probes]]\nstart_delay_ms = 1500\n");
    fleet.publish_with("1.1.0", "version = 1.1.0\nmessage = hello\nhealth_status = 500\n", &late);
    let Some(attic) = Attic::new(&fleet, (0, false)) else { return };
    fleet.deploy("greeter@1.0.0", "all");
    fleet.settled_on(&attic.name, "1.0.0");
    fleet.deploy("greeter@1.1.0", "all");
    eventually("1.1.0 serves on trial", || (attic.node.serves()? == "1.1.0").then_some(()));
    attic.disk.leave(0);
    eventually("1.0.0 serves again", || (attic.node.serves()? == "1.0.0").then_some(()));
    let waits = fleet.greeter(&attic.name).unwrap().waits;
    assert!(attic.disk.free() == 0 && waits.as_ref().is_some_and(|waits| waits.contains("record")), "{waits:?}");
    attic.disk.empty();
    let app = fleet.refused(&attic.name, "1.1.0");
    assert_eq!(app.refusal.unwrap().code, RefusalCode::Unhealthy);
    assert_eq!(attic.node.serves().as_deref(), Some("1.0.0"));
    assert!(fleet.refusals(&attic.name).len() == 1, "it was tried once");
    attic.node.check();
}

#[test]
fn a_node_on_a_file_system_that_became_read_only_starts_what_was_proven_and_is_heard() {
    let fleet = Fleet::start();
    fleet.publish("1.0.0", 200);
    fleet.publish("1.1.0", 200);
    let Some(mut attic) = Attic::new(&fleet, (0, true)) else { return };
    fleet.deploy("greeter@1.0.0", "all");
    fleet.settled_on(&attic.name, "1.0.0");
    attic.node.cut_power();
    eventually("it is missed", || (!fleet.view(&attic.name)?.online).then_some(()));
    attic.disk.remount("ro");
    attic.node.start();
    eventually("1.0.0 serves", || (attic.node.serves()? == "1.0.0").then_some(()));
    fleet.deploy("greeter@1.1.0", "all");
    let waits = eventually("it says why it does not go on", || fleet.greeter(&attic.name)?.waits);
    assert!(waits.contains("Read-only file system"), "{waits}");
    let why = succeed(&mut fleet.orangery(&["why", &attic.name]));
    assert!(why.contains("Read-only file system"), "{why}");
    let doctor = output(&mut attic.node.agent(&["doctor"]));
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(said.contains("disk_read_only"), "{said}");
    attic.disk.remount("rw");
    fleet.settled_on(&attic.name, "1.1.0");
    attic.node.check();
}

fn print(counts: &BTreeMap<(&'static str, bool, Told), usize>, nodes: usize, events: usize) {
    println!("{nodes} nodes with full disks, {events} events, none lost:");
    for ((scenario, has_reserve, told), count) in counts {
        let reserve = if *has_reserve { "a reserve" } else { "no reserve" };
        println!("  {count:>4}  {scenario}, {reserve}: {told:?}");
    }
}

#[test]
fn a_node_with_a_full_disk_runs_what_was_proven_and_is_heard() {
    let mut counts = BTreeMap::new();
    let cases = [(0, true), (BLOCK, true), (3 << 20, true), (12 << 20, true), (0, false), (5 * BLOCK, false)];
    let events = live_on_full_disks(&cases, &mut counts);
    print(&counts, cases.len(), events);
    if events > 0 {
        let has = |scenario, told: &Told| counts.keys().any(|(at, _, said)| *at == scenario && said == told);
        let no_space = Told::Refused(RefusalCode::NoSpace.as_str());
        assert!(has("healthy", &Told::Current) && has("healthy", &no_space) && has("healthy", &Told::Waits));
        assert!(has("unhealthy", &Told::Refused("unhealthy")) && has("with collection", &Told::Current));
    }
}

#[test]
#[ignore = "minutes; run by `just test-long`"]
fn long_nodes_whose_disk_is_full_at_each_of_their_writes_run_what_was_proven_and_are_heard() {
    let blocks = |n: u64| n * BLOCK;
    let full = (0..40).map(|n| (blocks(n), false));
    let reserved = (0..24).map(|n| (blocks(n), true));
    let roomy = (1..=24).map(|n| (n << 19, true));
    let cases: Vec<Case> = full.chain(reserved).chain(roomy).collect();
    let (mut counts, mut events) = (BTreeMap::new(), 0);
    for some in cases.chunks(8) {
        events += live_on_full_disks(some, &mut counts);
    }
    print(&counts, cases.len(), events);
}

/// Joins with so much room, then with more.
fn join(fleet: &Fleet, free: u64) -> Option<bool> {
    let name = format!("joins-{free}");
    let (mut node, disk) = board(fleet, &name, true)?;
    disk.leave(free);
    let token = fleet.token(&["--name", &name]);
    let first = output(&mut node.agent(&["join", &token]));
    if !first.status.success() {
        let said = String::from_utf8_lossy(&first.stderr).into_owned();
        assert!(said.contains("No space left") && said.contains("join again with the same token"), "{free}: {said}");
        disk.empty();
        succeed(&mut node.agent(&["join", &token]));
        disk.leave(free);
    }
    node.start();
    eventually(&format!("{name} is connected"), || (node.status()["connected"] == true).then_some(()));
    let heard = || fleet.view(&name)?.reported.map(drop);
    eventually(&format!("{name} is heard"), heard);
    disk.empty();
    node.check();
    Some(first.status.success())
}

fn join_on_full_disks(frees: impl Iterator<Item = u64>) {
    let fleet = Fleet::start();
    let joined: Vec<bool> = frees.map_while(|free| join(&fleet, free)).collect();
    let at_once = joined.iter().filter(|at_once| **at_once).count();
    println!("{} boards joined, {at_once} of them at once; the others said that the disk is full", joined.len());
    assert!(joined.is_empty() || (at_once > 0 && at_once < joined.len()));
}

#[test]
fn a_board_joins_or_says_that_its_disk_is_full_and_joins_with_the_same_token_later() {
    join_on_full_disks([0, 3, 20].into_iter().map(|blocks| blocks * BLOCK));
}

#[test]
#[ignore = "a minute; run by `just test-long`"]
fn long_boards_join_with_a_disk_that_is_full_at_each_write_of_it() {
    join_on_full_disks((0..20).map(|blocks| blocks * BLOCK));
}

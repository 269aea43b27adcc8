//! Networks that come, go and are taken away, in network namespaces: real agents, a real coordinator, its real broker.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use orangery_tests::fleet::{Fleet, Node, Setup};
use orangery_tests::netns::{COORDINATOR, Place, Reach, Site, possible};
use orangery_tests::process::{Running, eventually, succeed, within};
use orangery_tests::random::Random;

/// What a release does to its node when it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Breaks {
    Nothing,
    Dns,
    Route,
    Link,
}

/// What comes of a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// Current, and the coordinator answered.
    Current,
    /// Current by its probes alone.
    Unwitnessed,
    /// Refused as `disconnected`, and what ran before runs.
    Refused,
}

const REACHES: [Reach; 3] = [Reach::Online, Reach::LanOnly, Reach::Offline];

impl Breaks {
    const ALL: [Self; 4] = [Self::Nothing, Self::Dns, Self::Route, Self::Link];

    fn version(self) -> &'static str {
        match self {
            Self::Nothing => "1.1.0",
            Self::Dns => "1.2.0",
            Self::Route => "1.3.0",
            Self::Link => "1.4.0",
        }
    }

    fn deed(self) -> &'static str {
        match self {
            Self::Nothing => "true",
            Self::Dns => "echo 127.0.0.1 localhost > /etc/hosts",
            Self::Route => "ip route del default",
            Self::Link => {
                "printf 'table inet broken {\\nchain out {\\ntype filter hook output priority 0; policy accept;\\nip daddr 10.99.0.1 drop\\n}\\n}\\n' | nft -f -"
            }
        }
    }
}

/// The table of docs/operating/network.md.
fn expected(before: Reach, after: Reach, breaks: Breaks) -> Outcome {
    match (before, after, breaks) {
        (_, Reach::Online, Breaks::Nothing) => Outcome::Current,
        (Reach::Online, ..) => Outcome::Refused,
        (Reach::LanOnly | Reach::Offline, ..) => Outcome::Unwitnessed,
    }
}

/// The greeter, and a start that first sets the node's network right and then does `deed`.
fn publish(fleet: &Fleet, version: &str, deed: &str, gate: &str) {
    use std::os::unix::fs::PermissionsExt;
    let conf = format!("version = {version}\nmessage = hello\nhealth_status = 200\n");
    let tree = fleet.greeter_tree(version, &conf);
    let start = format!(
        "#!/bin/sh\ncat \"$HOSTS\" > /etc/hosts\nip route replace default via \"$GATEWAY\"\n\
         nft delete table inet broken 2>/dev/null\n{deed}\ncd \"$ORANGERY_TREE\" && exec bin/greeter\n"
    );
    std::fs::write(tree.join("start"), start).unwrap();
    std::fs::set_permissions(tree.join("start"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let manifest = format!(
        "{gate}\n[run]\nexec = [\"start\"]\nstop_grace_secs = 5\n[[probes]]\nhttp = {{ port = \"${{PORT}}\", path = \"/health\" }}\ninterval_ms = 100\n"
    );
    fleet.publish_tree("greeter", version, &tree, &manifest);
}

/// The soak is the time in which the network changes; the budget is short, for the tests wait for its end.
const GATED: &str = "soak_secs = 2\n[gate]\nconnectivity_secs = 4";

struct World {
    fleet: Fleet,
    stick: PathBuf,
    site: Site,
}

impl World {
    fn new(name: &str) -> Self {
        let site = Site::new(name);
        let setup = Setup { address: Some(COORDINATOR.to_owned()), around: site.around(), ..Setup::default() };
        let mut fleet = Fleet::init(&setup);
        fleet.serve();
        publish(&fleet, "1.0.0", "true", "");
        for breaks in Breaks::ALL {
            publish(&fleet, breaks.version(), breaks.deed(), GATED);
        }
        let stick = fleet.path().join("stick");
        succeed(fleet.orangery(&["repo", "export"]).arg(&stick));
        Self { fleet, stick, site }
    }

    fn node(&self, name: &str, number: u8, backoff_max_secs: u32) -> Board<'_> {
        let place = self.site.place(name, number);
        let hosts = self.fleet.path().join(format!("hosts-{name}{number}"));
        std::fs::copy(place.hosts(), &hosts).unwrap();
        let text = format!(
            "state_dir = \"state\"\n[runner]\ndefault = \"process\"\n\
             [link]\nkeepalive_secs = 5\nbackoff_max_secs = {backoff_max_secs}\n[fetch]\nbackoff_max_secs = 1\n\
             [apps.greeter.env]\nPORT = \"18080\"\nGATEWAY = \"{}\"\nHOSTS = \"{}\"\n",
            place.gateway(),
            hosts.display()
        );
        let mut node = self.fleet.joined_in(place.around(), &format!("{name}-{number}"), &text);
        node.start();
        let board = Board { world: self, node, place };
        board.connects(true);
        board
    }
}

/// One node at its place.
struct Board<'a> {
    world: &'a World,
    node: Node,
    place: Place,
}

impl Board<'_> {
    fn status(&self) -> Option<serde_json::Value> {
        let answer = self.node.agent(&["status", "--json"]).output().unwrap();
        serde_json::from_slice(&answer.stdout).ok()
    }

    fn connects(&self, connected: bool) {
        let what = format!("{} is connected: {connected}", self.node.name);
        eventually(&what, || (self.status()?["connected"] == connected).then_some(()));
    }

    /// `orangery-agent install`, under way.
    fn install(&self, version: &str) -> Running {
        let mut command = self.node.agent(&["install"]);
        command.arg(format!("greeter@{version}")).arg("--from").arg(&self.world.stick);
        Running::start("install", command, self.world.fleet.path().join(format!("{}-install.log", self.node.name)))
    }

    fn installed(&self, version: &str) {
        let mut install = self.install(version);
        let ended = eventually(&format!("{version} is installed"), || install.ended());
        assert!(ended.success(), "{}: {}", self.node.name, install.log());
    }

    fn is_on_trial(&self) {
        eventually("the trial is under way", || {
            (self.status()?["reported"]["apps"][0]["phase"] == "probing").then_some(())
        });
    }

    /// One cell of the table.
    fn tries(&self, before: Reach, after: Reach, breaks: Breaks) -> Outcome {
        self.place.put(Reach::Online);
        self.installed("1.0.0");
        self.connects(true);
        // It may be the connection of before the network went, which nobody has missed yet. What was told meanwhile is
        // acknowledged only by one that lives.
        eventually("all events have arrived", || self.node.outbox_is_empty().then_some(()));
        self.place.put(before);
        self.connects(before == Reach::Online);
        let mut install = self.install(breaks.version());
        self.is_on_trial();
        self.place.put(after);
        let ended = eventually("the trial ends", || install.ended());
        let app = eventually("the app settles", || {
            let app = self.status()?["reported"]["apps"][0].take();
            (app["phase"] == "settled").then_some(app)
        });
        let unwitnessed = app["unwitnessed"] == true;
        let (current, code) = (app["current"]["version"].as_str().unwrap(), &app["refusal"]["code"]);
        match (ended.code(), current == breaks.version()) {
            (Some(0), true) if unwitnessed => Outcome::Unwitnessed,
            (Some(0), true) => Outcome::Current,
            (Some(110), false) if code == "disconnected" && current == "1.0.0" => Outcome::Refused,
            other => panic!("{other:?} {app} {}", install.log()),
        }
    }
}

#[test]
#[ignore = "needs root, ip and nft; run by `just test-netns`"]
fn a_release_that_cuts_its_node_off_goes_back_and_no_other() {
    if !possible() {
        return;
    }
    let world = World::new("m");
    let boards: Vec<Board<'_>> = (1..=4).map(|number| world.node("m", number, 1)).collect();
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let walk = |(board, breaks): (&Board<'_>, Breaks)| {
            let mut wrong = Vec::new();
            for before in REACHES {
                for after in REACHES {
                    let begun = Instant::now();
                    let outcome = board.tries(before, after, breaks);
                    let took = begun.elapsed().as_secs_f32();
                    println!("{before:?} before, {after:?} after, breaks {breaks:?}: {outcome:?} ({took:.1} s)");
                    if outcome != expected(before, after, breaks) {
                        wrong.push(format!("{before:?} -> {after:?}, breaks {breaks:?}: {outcome:?}"));
                    }
                }
            }
            wrong
        };
        let walks: Vec<_> = boards.iter().zip(Breaks::ALL).map(|cell| scope.spawn(move || walk(cell))).collect();
        walks.into_iter().flat_map(|walk| walk.join().unwrap()).collect()
    });
    assert!(wrong.is_empty(), "{wrong:#?}");
    for board in &boards {
        // Whatever happened, the old release sets the network right and the node is heard of again.
        board.place.put(Reach::Online);
        board.installed("1.0.0");
        board.connects(true);
        eventually("all events have arrived", || board.node.outbox_is_empty().then_some(()));
        board.node.check();
    }
    println!("{} cells of before x after x what the release breaks, as documented", 9 * Breaks::ALL.len());
}

#[test]
#[ignore = "needs root, ip and nft; run by `just test-netns`"]
fn a_coordinator_that_is_restarted_during_a_trial_takes_nothing_back() {
    if !possible() {
        return;
    }
    let mut world = World::new("s");
    let long = "soak_secs = 1\n[gate]\nconnectivity_secs = 2";
    publish(&world.fleet, "2.0.0", "true", long);
    succeed(world.fleet.orangery(&["repo", "export"]).arg(world.fleet.path().join("stick2")));
    world.stick = world.fleet.path().join("stick2");
    let coordinator = world.fleet.coordinator().pid();
    let board = world.node("s", 1, 1);
    board.installed("1.0.0");
    let mut install = board.install("2.0.0");
    board.is_on_trial();
    // It is away for several budgets; its machine is there and says so.
    let pid = rustix::process::Pid::from_raw(i32::try_from(coordinator).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let begun = Instant::now();
    board.connects(false);
    while begun.elapsed() < Duration::from_secs(8) {
        assert!(install.ended().is_none(), "{}", install.log());
        assert_eq!(board.status().unwrap()["reported"]["apps"][0]["phase"], "probing");
    }
    let Board { node, place, .. } = board;
    world.fleet.serve();
    let board = Board { world: &world, node, place };
    let ended = eventually("the trial ends", || install.ended());
    assert!(ended.success(), "{}", install.log());
    let app = board.status().unwrap()["reported"]["apps"][0].take();
    assert_eq!(app["current"]["version"], "2.0.0");
    assert_eq!(app.get("unwitnessed"), None, "the coordinator came back and saw it: {app}");
}

#[test]
#[ignore = "needs root, ip and nft; run by `just test-netns`"]
fn a_dead_connection_is_noticed_and_a_network_that_appears_is_used_at_once() {
    if !possible() {
        return;
    }
    let world = World::new("h");
    let board = world.node("h", 1, 600);
    board.place.put(Reach::LanOnly);
    let begun = Instant::now();
    board.connects(false);
    // The keepalive is 5 s; the answer to the first ping after the loss is missed by the second one.
    let noticed = begun.elapsed();
    assert!(noticed < Duration::from_millis(11_500), "half open for {noticed:?}");
    board.place.put(Reach::Offline);
    // Pauses of up to ten minutes now: nothing but the cable can end one in time.
    let mut returned = Vec::new();
    for _ in 0..3 {
        let pause = Instant::now() + Duration::from_secs(12);
        while Instant::now() < pause {
            std::thread::sleep(Duration::from_millis(50));
        }
        board.place.put(Reach::Online);
        let begun = Instant::now();
        board.connects(true);
        returned.push(begun.elapsed());
        board.place.put(Reach::Offline);
        board.connects(false);
    }
    println!("a dead connection was noticed after {noticed:.1?}; connected after the cable was in: {returned:.1?}");
    assert!(returned.iter().all(|after| *after < Duration::from_secs(5)), "{returned:?}");
}

/// An app that ends by itself about once a second, until its data has a file `quiet`: each end is an event.
fn publish_noise(fleet: &Fleet) {
    let manifest = "[gate]\nconnectivity = \"none\"\n[run]\nexec = [\"/bin/sh\", \"-c\", \"[ -e $ORANGERY_DATA/quiet ] && exec sleep 100000; sleep 0.6; exit 1\"]\n\
        [run.restart]\nrestarts_max = 1000\nbackoff_ms = 200\nbackoff_max_ms = 200\n\
        [[probes]]\nexec = { command = [\"/bin/true\"] }\ninterval_ms = 60000\n";
    let tree = fleet.greeter_tree("noise", "version = 1\n");
    fleet.publish_tree("noise", "1.0.0", &tree, manifest);
}

/// Kills the broker, which is the coordinator, again and again while packets are lost.
fn kill_the_broker(name: &str, kills: usize, lost_percent: u8, patience: Duration) {
    let mut random = Random::announced();
    let site = Site::new(name);
    let setup = Setup { address: Some(COORDINATOR.to_owned()), around: site.around(), ..Setup::default() };
    let mut fleet = Fleet::init(&setup);
    fleet.serve();
    publish_noise(&fleet);
    let place = site.place(name, 1);
    let text =
        "state_dir = \"state\"\n[runner]\ndefault = \"process\"\n[link]\nkeepalive_secs = 5\nbackoff_max_secs = 2\n";
    let mut node = fleet.joined_in(place.around(), name, text);
    node.start();
    fleet.deploy("noise@1.0.0", "all");
    eventually("the app ends now and then", || (events(&fleet, name).len() > 15).then_some(()));
    place.lose(lost_percent);
    let begun = Instant::now();
    let (mut connected, mut done) = (0, 0);
    while done < kills && begun.elapsed() < patience {
        let end = Instant::now() + Duration::from_millis(500 + random.below(4_500));
        while Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
        connected += usize::from(node.status()["connected"] == true);
        fleet.coordinator().kill();
        fleet.serve();
        done += 1;
    }
    assert_eq!(done, kills, "the kills took longer than {patience:?}");
    std::fs::write(node.state().join("apps/noise/data/quiet"), "").unwrap();
    within(Duration::from_mins(5), "all events have arrived over the line that loses them", &mut || {
        node.outbox_is_empty().then_some(())
    });
    let took = begun.elapsed();
    let known = events(&fleet, name);
    let mut sequences: Vec<(u64, u64)> = known.clone();
    sequences.sort_unstable();
    sequences.dedup();
    assert_eq!(sequences.len(), known.len(), "an event is stored twice");
    let last = sequences.last().unwrap().1;
    let epochs: std::collections::BTreeSet<u64> = sequences.iter().map(|(epoch, _)| *epoch).collect();
    assert_eq!(epochs.len(), 1, "the node's store was rebuilt");
    assert_eq!(sequences.len() as u64, last, "events were lost");
    println!(
        "{kills} kills of the broker ({connected} of them with the node connected), {lost_percent} % of packets lost in each \
         direction: {last} events in {:.0} s, 0 lost, 0 stored twice",
        took.as_secs_f32()
    );
}

/// Epoch and sequence of each event that the coordinator has of a node; of so many as these tests make.
fn events(fleet: &Fleet, node: &str) -> Vec<(u64, u64)> {
    let text = succeed(&mut fleet.orangery(&["events", "--json", "--node", node, "--limit", "1000"]));
    let views: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(views.len() < 1_000, "more than can be listed");
    let name = |view: &serde_json::Value| Some((view["event"]["epoch"].as_u64()?, view["event"]["sequence"].as_u64()?));
    views.iter().filter_map(name).filter(|(epoch, _)| *epoch != 0).collect()
}

#[test]
#[ignore = "needs root, ip and nft; run by `just test-netns`"]
fn no_event_is_lost_when_the_broker_dies_again_and_again_on_a_lossy_line() {
    if possible() {
        kill_the_broker("k", 5, 30, Duration::from_mins(2));
    }
}

#[test]
#[ignore = "takes ten minutes; run by `just test-long`"]
fn long_100_kills_of_the_broker_on_a_lossy_line() {
    if possible() {
        kill_the_broker("kl", 100, 30, Duration::from_mins(20));
    }
}

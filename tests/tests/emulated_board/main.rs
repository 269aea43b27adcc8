//! The whole way on a whole board, emulated: an image of `images/` that boots by u-boot, joins by its boot partition, runs
//! Debian's software, loses its power again and again, and comes back right. `just test-board` makes the image first.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod machine;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use machine::{Cable, Machine, copy};
use orangery_tests::fleet::{Fleet, Setup};
use orangery_tests::netns::{Site, possible};
use orangery_tests::process::succeed;
use orangery_tests::random::Random;
use orangery_wire::messages::{AppReport, Phase};

/// What qemu calls the machine that it runs on.
const HOST: &str = "10.0.2.2";
const APP: &str = "node-exporter";
/// Power cuts in the middle of deployments, unless `ORANGERY_CUTS` says otherwise.
const CUTS: u32 = 25;
/// The plug is pulled within this time from when the node is told, in milliseconds.
const CUT_WITHIN_MS: u64 = 12_000;

fn manifest(flags: &str) -> String {
    format!(
        r#"
soak_secs = 2

[run]
exec = ["usr/bin/prometheus-node-exporter", "--web.listen-address=127.0.0.1:9100"{flags}]

[run.restart]
restarts_max = 2
backoff_ms = 500

[[probes]]
http = {{ port = "9100", path = "/metrics" }}
interval_ms = 500
timeout_ms = 10000
failures = 60
"#
    )
}

/// Takes memory until somebody stops it.
const GREEDY: &str = r#"
[run]
exec = ["greedy"]
memory_bytes_max = 33554432

[run.restart]
restarts_max = 0

[[probes]]
exec = { command = ["/bin/false"] }
interval_ms = 500
failures = 1000
"#;

struct Bench {
    // Before the site, whose network it uses.
    fleet: Fleet,
    site: Site,
    image: PathBuf,
    place: tempfile::TempDir,
}

impl Bench {
    fn new() -> Option<Self> {
        let Some(image) = std::env::var_os("ORANGERY_BOARD_IMAGE").map(PathBuf::from) else {
            panic!("ORANGERY_BOARD_IMAGE names no image; `just test-board` makes one");
        };
        if !possible() {
            return None;
        }
        let site = Site::alone("board", HOST);
        let setup = Setup { address: Some(HOST.to_owned()), around: site.around(), ..Setup::default() };
        let mut fleet = Fleet::init(&setup);
        fleet.serve();
        let beside = image.parent().unwrap().to_owned();
        let place = tempfile::Builder::new().prefix("boards-").tempdir_in(beside).unwrap();
        let key = place.path().join("key");
        succeed(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(key));
        Some(Self { fleet, site, image, place })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// A board with an image of its own, made as people make one.
    fn board(&self, name: &str, words: &[&str]) -> Machine {
        let image = self.path(&format!("{name}.img"));
        let mut customize = self.fleet.orangery(&["image", "customize"]);
        customize.arg(&self.image).args(["--name", name, "--out"]).arg(&image);
        customize.arg("--ssh-key").arg(self.path("key.pub")).args(words);
        println!("{}", succeed(&mut customize));
        Machine::new(self.site.around(), image, self.path("key"))
    }

    fn publish(&self, app: &str, version: &str, tree: &Path, manifest: &str) {
        let file = self.path("manifest.toml");
        std::fs::write(&file, manifest).unwrap();
        let mut publish = self.fleet.orangery(&["release", "publish", "--app", app, "--version", version]);
        publish.arg("--platform").arg(format!("linux/arm64={}", tree.display()));
        succeed(publish.arg("--manifest").arg(&file));
    }

    fn app(&self, node: &str, app: &str) -> Option<AppReport> {
        let view = self.fleet.view(node).filter(|view| view.online)?;
        view.reported?.apps.into_iter().find(|report| report.app.as_str() == app)
    }

    /// Waits until the node has proven this version.
    fn settled(&self, board: &Machine, node: &str, version: &str) {
        board.wait(&format!("{node} settles on {version}"), || {
            let app = self.app(node, APP)?;
            let current = app.current.is_some_and(|release| release.version.to_string() == version);
            (current && app.phase == Phase::Settled && app.healthy == Some(true)).then_some(())
        });
        let line = board.said(ASK).unwrap_or_default();
        assert!(line.contains(&format!("version=\"{version}")), "its own metrics say which one it is: {line}");
    }

    /// The older and the newer of Debian's two, published: their versions.
    fn exporters(&self) -> [String; 2] {
        ["bullseye", "bookworm"].map(|suite| {
            let (version, tree) = exporter(suite, self.place.path());
            self.publish(APP, &version, &tree, &manifest(""));
            version
        })
    }

    fn deploy(&self, release: &str, node: &str) {
        self.fleet.deploy(release, node);
    }
}

/// What the app says of itself.
const ASK: &str = "python3 -c 'import urllib.request as u; print(u.urlopen(\"http://127.0.0.1:9100/metrics\").read().decode())' \
     | grep ^node_exporter_build_info";

/// Debian's package for the board, unpacked, and its version. `tests/debian-packages.sh` fetches it.
fn exporter(suite: &str, into: &Path) -> (String, PathBuf) {
    let cache = std::env::var_os("ORANGERY_CACHE").map(PathBuf::from);
    let home = || Path::new(&std::env::var_os("HOME").unwrap()).join(".cache/orangery");
    let directory = cache.unwrap_or_else(home).join("node-exporter").join(suite);
    let packages = std::fs::read_dir(&directory).expect("tests/debian-packages.sh has fetched it");
    let package =
        packages.flatten().map(|entry| entry.path()).find(|path| path.to_string_lossy().ends_with("_arm64.deb"));
    let package = package.expect("tests/debian-packages.sh has fetched it");
    let name = package.file_name().unwrap().to_str().unwrap().to_owned();
    let version = name.split('_').nth(1).unwrap().split(['-', '+']).next().unwrap().to_owned();
    let tree = into.join(suite);
    succeed(Command::new("dpkg-deb").arg("-x").arg(&package).arg(&tree));
    (version, tree)
}

#[test]
#[ignore = "needs root, qemu and an image; minutes: `just test-board`"]
fn an_emulated_board_joins_runs_and_comes_back_right_from_every_power_cut() {
    let Some(bench) = Bench::new() else { return };
    let [older, newer] = bench.exporters();
    let begun = Instant::now();
    let mut board = bench.board("attic", &[]);
    board.power_up(Cable::In);
    board.wait("the board has joined", || bench.fleet.view("attic")?.online.then_some(()));
    println!("from power to joined: {:.0} s", begun.elapsed().as_secs_f32());
    board.wait("the token is wiped", || {
        board.on_boot_partition("orangery-status.txt")?.contains("This node is attic").then_some(())
    });
    assert!(board.on_boot_partition("orangery.toml").unwrap().starts_with("# This node has joined"));

    for version in [&older, &newer] {
        bench.deploy(&format!("{APP}@{version}"), "attic");
        bench.settled(&board, "attic", version);
    }
    a_wrong_flag_is_refused(&bench, &board, &newer);
    memory_is_limited(&bench, &board);
    println!(
        "the agent: {}",
        board.said("grep -E 'VmRSS|RssAnon' /proc/$(pidof orangery-agent)/status | tr -s '\\n\\t ' ' '").unwrap()
    );
    println!("the board: {}", board.said("free -m | sed -n 2p").unwrap());
    let sizes = board.said("lsblk -bnro SIZE /dev/vda; df -B1 --output=size / | tail -1").unwrap();
    println!("the card and its root file system, in bytes: {}", sizes.replace('\n', " "));

    power_cuts(&bench, &mut board, &[older, newer]);
}

fn a_wrong_flag_is_refused(bench: &Bench, board: &Machine, current: &str) {
    bench.publish(APP, "99.0.0", &bench.path("bookworm"), &manifest(", \"--no-such-flag\""));
    bench.deploy(&format!("{APP}@99.0.0"), "attic");
    let refusal = board.wait("the wrong flag is refused", || {
        let app = bench.app("attic", APP)?;
        app.refusal.filter(|_| app.phase == Phase::Settled)
    });
    println!("refused: {}: {}", refusal.code, refusal.reason);
    assert!(bench.app("attic", APP).unwrap().current.unwrap().version.to_string() == current);
}

fn memory_is_limited(bench: &Bench, board: &Machine) {
    let tree = bench.path("greedy");
    std::fs::create_dir(&tree).unwrap();
    std::fs::write(tree.join("greedy"), "#!/bin/sh\nexec tail /dev/zero\n").unwrap();
    std::fs::set_permissions(tree.join("greedy"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    bench.publish("greedy", "1.0.0", &tree, GREEDY);
    bench.deploy("greedy@1.0.0", "attic");
    let refusal = board.wait("what takes too much memory is refused", || {
        let app = bench.app("attic", "greedy")?;
        app.refusal.filter(|_| app.phase == Phase::Settled)
    });
    println!("refused: {}: {}", refusal.code, refusal.reason);
    let killed = board.said("journalctl --boot --no-pager -o cat | grep -c -i oom-kill").unwrap_or_default();
    assert!(killed.parse::<u32>().unwrap_or(0) > 0, "the kernel held it to its limit: {}", refusal.reason);
}

fn power_cuts(bench: &Bench, board: &mut Machine, versions: &[String; 2]) {
    let cuts =
        std::env::var("ORANGERY_CUTS").ok().map_or(CUTS, |text| text.parse().expect("ORANGERY_CUTS is a number"));
    let mut random = Random::announced();
    let begun = Instant::now();
    for cut in 0..cuts {
        let version = &versions[cut as usize % 2];
        bench.deploy(&format!("{APP}@{version}"), "attic");
        let pause = Duration::from_millis(random.below(CUT_WITHIN_MS));
        // The moment is what is tried: no event stands for it.
        std::thread::sleep(pause);
        board.pull_the_plug();
        let up = Instant::now();
        board.power_up(Cable::In);
        bench.settled(board, "attic", version);
        let check = board.run(
            "systemctl stop orangery-agent && orangery-agent check; ok=$?; systemctl start orangery-agent; exit $ok",
        );
        assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
        println!(
            "cut {} after {} ms: {version} proven {:.0} s later",
            cut + 1,
            pause.as_millis(),
            up.elapsed().as_secs_f32()
        );
        let passed = || bench.app("attic", APP).map(drop);
        board.wait("the node is online", passed);
    }
    println!(
        "{cuts} power cuts in the middle of deployments in {:.0} s, and each time right",
        begun.elapsed().as_secs_f32()
    );
}

#[test]
#[ignore = "needs root, qemu and an image; minutes: `just test-board`"]
fn a_board_with_a_preloaded_release_runs_it_without_any_network_and_joins_later() {
    let Some(bench) = Bench::new() else { return };
    let [_, newer] = bench.exporters();
    let mut board = bench.board("cellar", &["--preload", &format!("{APP}@{newer}")]);
    board.power_up(Cable::None);
    // It says so once it has installed what it came with and begins to look for its coordinator.
    board.wait("the board looks for its coordinator", || {
        board.on_boot_partition("orangery-status.txt")?.contains("has not joined yet").then_some(())
    });
    board.pull_the_plug();
    let card = bench.path("card.img");
    copy(&board.image, &card);
    let record = record(&card);
    assert_eq!(record["record"]["phase"], "settled", "{record}");
    assert!(record["record"]["current"].is_string() && record["record"]["refused"].is_null(), "{record}");

    board.power_up(Cable::In);
    bench.settled(&board, "cellar", &newer);
    let events = bench.fleet.codes("cellar");
    println!("told when it had joined: {}", events.join(", "));
}

/// The record of the app on a card that was taken out: what its file system's journal has counts.
fn record(card: &Path) -> serde_json::Value {
    let table = succeed(Command::new("sfdisk").args(["--json"]).arg(card));
    let table: serde_json::Value = serde_json::from_str(&table).unwrap();
    let start = table["partitiontable"]["partitions"][1]["start"].as_u64().unwrap();
    let root = format!("{}?offset={}", card.display(), start * 512);
    let _ = Command::new("e2fsck").args(["-f", "-p"]).arg(&root).status().unwrap();
    let cat = format!("cat /var/lib/orangery/apps/{APP}/state.json");
    let text = succeed(Command::new("debugfs").args(["-R", &cat]).arg(&root));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

//! The whole way on whole boards, emulated: an image of `images/` that boots by u-boot, joins by its boot partition, runs
//! Debian's software, loses its power again and again, and comes back right. `just test-board` makes the image first.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod bench;
mod machine;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use bench::Bench;
use machine::{Cable, Machine, copy};
use orangery_tests::process::succeed;
use orangery_tests::random::Random;
use orangery_wire::messages::Phase;

const APP: &str = "node-exporter";
/// Power cuts in the middle of deployments, unless `ORANGERY_CUTS` says otherwise.
const CUTS: usize = 25;

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

#[test]
#[ignore = "needs root, qemu and an image; half an hour: `just test-board`"]
fn emulated_boards_join_run_and_come_back_right_from_every_power_cut() {
    let Some(bench) = Bench::new() else { return };
    let versions = bench.exporters();
    let mut attic = joined(&bench, "attic");
    // It has the processors for itself no longer, and joins while the other one works.
    let mut loft = bench.board("loft", &[]);
    loft.power_up(Cable::In);
    // The last two are on the board already, as they are when its power is cut.
    let mut usual = Duration::ZERO;
    for version in versions.iter().chain(&versions) {
        let told = Instant::now();
        bench.deploy(&format!("{APP}@{version}"), &attic.name);
        bench.proven(&attic, version);
        usual = told.elapsed();
        println!("{version}: deployed in {:.0} s", usual.as_secs_f32());
    }
    a_wrong_flag_is_refused(&bench, &attic, &versions[1]);
    memory_is_limited(&bench, &attic);
    let rss = "grep -E 'VmRSS|RssAnon' /proc/$(pidof orangery-agent)/status | tr -s '\\n\\t ' ' '";
    println!("the agent: {}", attic.said(rss).unwrap());
    println!("the board: {}", attic.said("free -m | sed -n 2p").unwrap());
    has_joined(&bench, &loft);
    bench.deploy(&format!("{APP}@{}", versions[1]), &loft.name);
    bench.settled(&loft, &versions[1]);
    let own = [&attic, &loft].map(|board| {
        takes_the_whole_card(board);
        what_is_its_own(board)
    });
    assert!(
        own[0].iter().all(|line| !own[1].contains(line)),
        "two boards share what each must have of its own: {own:?}"
    );

    power_cuts(&bench, [&mut attic, &mut loft], &versions, usual);
    assert_eq!([&attic, &loft].map(what_is_its_own), own, "what is a board's own stays");
}

/// A board that has just joined by its boot partition.
fn joined(bench: &Bench, name: &str) -> Machine {
    let mut board = bench.board(name, &[]);
    let begun = Instant::now();
    board.power_up(Cable::In);
    has_joined(bench, &board);
    println!("from power to joined: {:.0} s", begun.elapsed().as_secs_f32());
    board
}

fn has_joined(bench: &Bench, board: &Machine) {
    board.wait("the board has joined", || bench.fleet.view(&board.name)?.online.then_some(()));
    let this = format!("This node is {}", board.name);
    board.wait("the token is wiped", || board.on_boot_partition("orangery-status.txt")?.contains(&this).then_some(()));
    assert!(board.on_boot_partition("orangery.toml").unwrap().starts_with("# This node has joined"));
}

/// The first boot lets the root partition and its file system take what the card has more than the image.
fn takes_the_whole_card(board: &Machine) {
    board.wait("the root partition is grown", || board.said("test ! -e /etc/orangery-image/grow-root"));
    let sizes = board.said("blockdev --getsize64 /dev/vda; findmnt -bnro SIZE /").unwrap();
    let sizes: Vec<u64> = sizes.lines().map(|line| line.parse().unwrap()).collect();
    println!("the card and its root file system, in bytes: {sizes:?}");
    // What is before it, and what ext4 needs for itself.
    assert!(sizes[1] > sizes[0] - (192 << 20), "{sizes:?}");
}

/// Its machine-id and the public parts of its SSH host keys.
fn what_is_its_own(board: &Machine) -> Vec<String> {
    let said = board.said("cat /etc/machine-id; cut -d' ' -f2 /etc/ssh/ssh_host_*_key.pub").unwrap();
    let lines: Vec<String> = said.lines().map(str::to_owned).collect();
    assert!(lines.len() >= 3 && lines[0].len() == 32, "{lines:?}");
    lines
}

fn a_wrong_flag_is_refused(bench: &Bench, board: &Machine, current: &str) {
    bench.publish(APP, "99.0.0", &bench.path("bookworm"), &manifest(", \"--no-such-flag\""));
    bench.deploy(&format!("{APP}@99.0.0"), &board.name);
    let refusal = board.wait("the wrong flag is refused", || {
        let app = bench.app(&board.name, APP)?;
        app.refusal.filter(|_| app.phase == Phase::Settled)
    });
    println!("refused: {}: {}", refusal.code, refusal.reason);
    assert!(bench.app(&board.name, APP).unwrap().current.unwrap().version.to_string() == current);
}

fn memory_is_limited(bench: &Bench, board: &Machine) {
    let tree = bench.path("greedy");
    std::fs::create_dir(&tree).unwrap();
    std::fs::write(tree.join("greedy"), "#!/bin/sh\nexec tail /dev/zero\n").unwrap();
    std::fs::set_permissions(tree.join("greedy"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    bench.publish("greedy", "1.0.0", &tree, GREEDY);
    bench.deploy("greedy@1.0.0", &board.name);
    let refusal = board.wait("what takes too much memory is refused", || {
        let app = bench.app(&board.name, "greedy")?;
        app.refusal.filter(|_| app.phase == Phase::Settled)
    });
    println!("refused: {}: {}", refusal.code, refusal.reason);
    assert!(refusal.reason.contains("memory"), "the reason is told: {}", refusal.reason);
    let killed = board.said("dmesg | grep -c -i oom-kill").unwrap_or_default();
    assert!(killed.parse::<u32>().unwrap_or(0) > 0, "the kernel held it to its limit: {}", refusal.reason);
}

/// Cuts the power of both boards, again and again. Both at once: a boot, emulated, seldom keeps two processors busy.
fn power_cuts(bench: &Bench, boards: [&mut Machine; 2], versions: &[String; 2], usual: Duration) {
    let cuts = std::env::var("ORANGERY_CUTS").ok();
    let cuts = cuts.map_or(CUTS, |text| text.parse().expect("ORANGERY_CUTS is a number"));
    let mut random = Random::announced();
    let within = u64::try_from(usual.as_millis()).unwrap();
    let moments: Vec<Duration> = (0..cuts).map(|_| Duration::from_millis(random.below(within))).collect();
    let begun = Instant::now();
    let moments = &moments;
    let met: Vec<Cut> = std::thread::scope(|scope| {
        let threads = boards.into_iter().enumerate().map(|(number, board)| {
            scope.spawn(move || {
                let mine = moments.iter().skip(number).step_by(2).enumerate();
                mine.map(|(cut, moment)| power_cut(bench, board, &versions[cut % 2], *moment)).collect::<Vec<_>>()
            })
        });
        let threads: Vec<_> = threads.collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("each board comes back right")).collect()
    });
    let under_way = met.iter().filter(|cut| cut.under_way).count();
    let mut back: Vec<u64> = met.iter().map(|cut| cut.back.as_secs()).collect();
    back.sort_unstable();
    println!(
        "{cuts} power cuts in {:.0} s, {under_way} of them while the node was at its deployment; from power to proven: \
         {} to {} s, half of them within {} s",
        begun.elapsed().as_secs_f32(),
        back[0],
        back[back.len() - 1],
        back[back.len() / 2],
    );
    assert!(under_way > 0, "no cut met a deployment: their moments are chosen badly");
}

/// What a power cut met, and how long the board needed from power to the proof.
struct Cut {
    under_way: bool,
    back: Duration,
}

fn power_cut(bench: &Bench, board: &mut Machine, version: &str, moment: Duration) -> Cut {
    bench.deploy(&format!("{APP}@{version}"), &board.name);
    // The moment is what is tried: no event stands for it.
    std::thread::sleep(moment);
    let phase = bench.app(&board.name, APP).map(|app| app.phase);
    board.pull_the_plug();
    let up = Instant::now();
    board.power_up(Cable::In);
    bench.settled(board, version);
    let back = up.elapsed();
    let check =
        "systemctl stop orangery-agent && orangery-agent check; ok=$?; systemctl start orangery-agent; exit $ok";
    let check = board.run(check);
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
    board.wait("the node is online", || bench.app(&board.name, APP));
    println!(
        "{}: cut after {} ms ({phase:?}): {version} proven {:.0} s later",
        board.name,
        moment.as_millis(),
        back.as_secs_f32()
    );
    Cut { under_way: phase.is_some_and(|phase| phase != Phase::Settled), back }
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
    bench.settled(&board, &newer);
    // By its own program, for only that is on the network that the board knows.
    println!("{}", succeed(&mut bench.fleet.orangery(&["why", "cellar"])));
}

/// The record of the app on a card that was taken out: what its file system's journal has counts.
fn record(card: &Path) -> serde_json::Value {
    let table = succeed(Command::new("sfdisk").args(["--json"]).arg(card));
    let table: serde_json::Value = serde_json::from_str(&table).unwrap();
    let of_root = |name: &str| table["partitiontable"]["partitions"][1][name].as_u64().unwrap() * 512;
    let root = card.with_extension("root");
    let mut copy = Command::new("dd");
    copy.arg(format!("if={}", card.display())).arg(format!("of={}", root.display()));
    copy.args([format!("skip={}", of_root("start")), format!("count={}", of_root("size"))]);
    succeed(copy.args(["bs=1M", "iflag=skip_bytes,count_bytes,fullblock", "conv=sparse", "status=none"]));
    // What the plug left: the journal is gone through, and nothing else may be wrong (e2fsck(8): 1 is "corrected").
    let checked = Command::new("e2fsck").args(["-f", "-p"]).arg(&root).status().unwrap();
    assert!(matches!(checked.code(), Some(0 | 1)), "{checked}");
    let cat = format!("cat /var/lib/orangery/apps/{APP}/state.json");
    let text = succeed(Command::new("debugfs").args(["-R", &cat]).arg(&root));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

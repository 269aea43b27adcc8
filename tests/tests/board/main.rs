//! Whole boards: the agent's own program under its shipped unit, in a machine with a systemd of its own, with a real
//! coordinator outside. The plug is pulled, the agent is killed, stopped and removed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod board;
#[path = "../../../agent/tests/systemd_runner/container.rs"]
mod container;

use std::fs;
use std::time::Instant;

use board::{AGENT, APP, Board, NAME, PLAIN, STUBBORN, TRIAL, manifest};
use orangery_tests::load::Load;
use orangery_tests::process::{PATIENCE, eventually, free_port};
use orangery_wire::messages::What;

/// Pulls the plug; without the agent `proven` must run, and with it `then`.
fn cut(board: &mut Board, proven: &str, then: &str) {
    board.reboot_without_agent();
    assert!(!board.machine.has(TRIAL), "the trial left a trace");
    board.serves(proven);
    board.bring_agent_back();
    board.fleet.settled_on(NAME, then);
    board.serves(then);
}

#[test]
#[ignore = "needs root, systemd-nspawn and a Debian root file system; run by `just test-nspawn`"]
fn whatever_was_under_way_when_power_went_the_proven_release_starts_without_the_agent_which_then_goes_on() {
    let stubborn = manifest(STUBBORN, "", 0);
    let mut board = Board::with_greeter(&stubborn);
    // While it fetches: much that does not compress.
    let tree = board.fleet.greeter_tree("1.1.0", "version = 1.1.0\nmessage = hello\n");
    let noise: Vec<u8> = (0..4_000_000u64).flat_map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()).collect();
    fs::write(tree.join("noise"), noise).unwrap();
    board.fleet.publish_tree("greeter", "1.1.0", &tree, &stubborn);
    board.deploy("1.1.0");
    board.record_says("\"fetching\"");
    cut(&mut board, "1.0.0", "1.1.0");
    // While the old one is stopped for the new one, which takes its time.
    board.publish("1.2.0", 200, &stubborn);
    board.deploy("1.2.0");
    board.record_says("\"activating\"");
    cut(&mut board, "1.1.0", "1.2.0");
    // During the soak: the trial runs, by its drop-in.
    board.publish("1.3.0", 200, &manifest(STUBBORN, "", 3));
    board.deploy("1.3.0");
    board.serves("1.3.0");
    board.record_says("\"probing\"");
    assert!(board.machine.has(TRIAL));
    cut(&mut board, "1.2.0", "1.3.0");
    // While one that is not well is taken back.
    board.publish("1.4.0", 500, &stubborn);
    board.deploy("1.4.0");
    board.record_says("\"restoring\"");
    cut(&mut board, "1.3.0", "1.3.0");
    assert!(board.fleet.refused(NAME, "1.4.0").refusal.unwrap().reason.contains("500"));
}

#[test]
#[ignore = "needs root, systemd-nspawn and a Debian root file system; run by `just test-nspawn`"]
fn power_that_goes_during_a_commit_leaves_a_proven_release_in_every_file() {
    let plain = manifest(PLAIN, "", 0);
    let mut board = Board::with_greeter(&plain);
    let link = board.machine.outside("/var/lib/orangery/apps/greeter/current");
    let unit = board.machine.outside("/etc/systemd/system/orangery-greeter.service");
    let mut before = "1.0.0";
    // The record is saved, then the link is moved, then the unit is written: cut as soon as each is seen.
    for (n, version) in ["1.1.0", "1.2.0", "1.3.0"].into_iter().enumerate() {
        board.publish(version, 200, &plain);
        let state = || (fs::read_link(&link).ok(), fs::read_to_string(&unit).ok());
        let (led_to, said) = state();
        board.deploy(version);
        board.record_says("\"probing\"");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (leads_to, says) = state();
            let seen = match n {
                0 => break board.record_says("\"settled\""),
                1 => leads_to != led_to,
                _ => says != said,
            };
            if seen {
                break;
            }
            assert!(Instant::now() < deadline, "{version} is not committed");
        }
        board.reboot_without_agent();
        let serves = || {
            let (_, body) = orangery_tests::fleet::get(board.port, "/")?;
            [before, version].into_iter().find(|version| body.contains(*version))
        };
        let serves = eventually("a proven release runs without the agent", serves);
        println!("power went at commit point {n}: {serves} ran without the agent");
        board.bring_agent_back();
        board.fleet.settled_on(NAME, version);
        board.serves(version);
        before = version;
    }
}

#[test]
#[ignore = "needs root, systemd-nspawn and a Debian root file system; run by `just test-nspawn`"]
fn an_agent_that_hangs_or_dies_is_started_again_and_its_apps_do_not_notice() {
    let board = Board::with_greeter(&manifest(PLAIN, "", 0));
    eventually("systemd is told how the agent is", || {
        (board.property(AGENT, "StatusText") == "1 app; the coordinator is reached").then_some(())
    });
    let app = board.property(APP, "MainPID");
    let restarts = || board.property(AGENT, "NRestarts").parse::<u32>().unwrap();
    // The shipped times are for slow boards.
    let drop_in = board.machine.outside("/etc/systemd/system/orangery-agent.service.d/quick.conf");
    fs::create_dir_all(drop_in.parent().unwrap()).unwrap();
    fs::write(drop_in, "[Service]\nWatchdogSec=1s\nRestartSec=100ms\n").unwrap();
    board.succeed(&["systemctl", "daemon-reload"]);
    board.succeed(&["systemctl", "restart", AGENT]);
    let hung = board.property(AGENT, "MainPID");
    board.succeed(&["sh", "-c", "kill -STOP $1", "sh", &hung]);
    eventually("the watchdog ends the agent", || (restarts() == 1).then_some(()));
    assert_eq!(board.property(AGENT, "Result"), "success", "it runs again");
    // More often than any default limit of starts would bear.
    for n in 2..=9 {
        let pid = || Some(board.property(AGENT, "MainPID")).filter(|pid| pid != "0" && *pid != hung);
        let pid = eventually("the agent runs", pid);
        board.succeed(&["sh", "-c", "kill -9 $1", "sh", &pid]);
        eventually("it is started again", || (restarts() >= n).then_some(()));
    }
    eventually("it is ready", || (board.property(AGENT, "ActiveState") == "active").then_some(()));
    assert_eq!(board.property(APP, "MainPID"), app, "the app was not touched");
    board.publish("1.1.0", 200, &manifest(PLAIN, "", 0));
    board.settle("1.1.0");
}

#[test]
#[ignore = "needs root, systemd-nspawn and a Debian root file system; run by `just test-nspawn`"]
fn releases_that_do_not_start_do_not_stay_or_never_answer_are_refused_with_the_reason() {
    let board = Board::with_greeter(&manifest(PLAIN, "", 0));
    let script = |script: &str| format!(r#"["/bin/sh", "-c", {script:?}]"#);
    for (version, exec, soak_secs, expected) in [
        ("1.1.0", r#"["/nonexistent"]"#.to_owned(), 0, "wont_start: "),
        ("1.2.0", script("exit 0"), 0, "unhealthy: exited 2 times in a row (exit status 0)"),
        ("1.3.0", script("exec sleep 1000"), 0, "unhealthy: "),
        (
            "1.4.0",
            script("$ORANGERY_TREE/bin/greeter & sleep 1; kill $!; exit 3"),
            30,
            "unhealthy: exited 2 times in a row (exit status 3)",
        ),
    ] {
        let mut manifest = manifest(&exec, "", soak_secs);
        if expected.contains("exited") {
            // On a busy machine three probes of 100 ms can fail before the second exit.
            manifest = manifest.replace("interval_ms = 100", "interval_ms = 10000");
        }
        board.publish(version, 200, &manifest);
        let reason = board.refuse(version);
        println!("{version}: {reason}");
        assert!(reason.starts_with(expected), "{version}: {reason}");
        board.serves("1.0.0");
        assert!(!board.machine.has(TRIAL));
    }
    assert_eq!(board.property(APP, "ActiveState"), "active");
}

#[test]
#[ignore = "needs root, systemd-nspawn and a Debian root file system; run by `just test-nspawn`"]
fn one_that_dies_after_its_soak_is_restarted_and_reported_and_the_release_before_is_a_command_away() {
    let board = Board::with_greeter(&manifest(PLAIN, "", 0));
    let dies = r#"["/bin/sh", "-c", "$ORANGERY_TREE/bin/greeter & sleep 3; kill $!; exit 3"]"#;
    board.publish("1.1.0", 200, &manifest(dies, "", 1));
    board.settle("1.1.0");
    let What::AppExited { reason, .. } = board.event("app_exited") else { panic!("another event") };
    assert_eq!(reason, "exit status 3");
    board.serves("1.1.0");
    // It is one that was proven: nobody goes back on his own.
    assert_eq!(board.fleet.settled_on(NAME, "1.1.0").refusal, None);
    board.succeed(&["orangery-agent", "rollback", "greeter"]);
    board.fleet.settled_on(NAME, "1.0.0");
    board.serves("1.0.0");
}

/// The greeter with a socket that is held for it, at the port that this variable names.
fn held(port: &str) -> String {
    manifest(PLAIN, "", 0).replace(
        "[run.restart]",
        &format!("[[run.sockets]]\nname = \"http\"\nlisten = \"127.0.0.1:${{{port}}}\"\n\n[run.restart]"),
    )
}

/// The socket units in one of systemd's directories.
fn socket_units(board: &Board, directory: &str) -> Vec<String> {
    let said = board.machine.said(&["sh", "-c", "cd $1 && ls -d orangery-*.socket 2>/dev/null", "sh", directory]);
    said.lines().map(str::to_owned).collect()
}

const ETC: &str = "/etc/systemd/system";
const RUN: &str = "/run/systemd/system";

#[test]
#[ignore = "needs root, systemd-nspawn and a Debian root file system; run by `just test-nspawn`"]
fn systemd_holds_a_socket_across_twenty_switches_and_nobody_is_refused() {
    let mut board = Board::with_greeter(&held("PORT"));
    board.publish("1.1.0", 200, &held("PORT"));
    let load = Load::on(board.port);
    for n in 1..=20 {
        let version = ["1.0.0", "1.1.0"][n % 2];
        board.deploy(version);
        board.fleet.settled_on(NAME, version);
    }
    // Nor is anybody when the app dies.
    board.succeed(&["systemctl", "kill", "--signal=KILL", APP]);
    board.serves("1.0.0");
    let seen = load.end();
    println!("20 switches under systemd: {seen}");
    assert!(seen.answered > 1_000 && seen.versions.len() == 2, "{seen}");
    // A request that the killed app had accepted died with it: at most one for each of the four clients.
    assert!(seen.refused == 0 && seen.broken <= 4, "{seen}");
    // Without the agent the socket and the proven release are there after a power cut.
    cut(&mut board, "1.0.0", "1.0.0");
    assert_eq!(socket_units(&board, ETC), [format!("orangery-greeter:http:127.0.0.1:{}.socket", board.port)]);
    assert!(socket_units(&board, RUN).is_empty());
}

#[test]
#[ignore = "needs root, systemd-nspawn and a Debian root file system; run by `just test-nspawn`"]
fn a_trial_has_its_own_sockets_which_leave_no_trace_and_become_the_proven_ones_with_it() {
    let other = free_port();
    let mut board = Board::new(&format!("OTHER = \"{other}\"\n"));
    board.publish("1.0.0", 200, &held("PORT"));
    board.settle("1.0.0");
    let unit = |port: u16| vec![format!("orangery-greeter:http:127.0.0.1:{port}.socket")];
    let there = |board: &Board| (socket_units(board, ETC), socket_units(board, RUN));
    // Its probe asks at the old port, where nobody listens any more.
    board.publish("1.1.0", 200, &held("OTHER").replace("failures = 3", "failures = 100"));
    board.deploy("1.1.0");
    board.record_says("\"probing\"");
    eventually("the trial answers at its own port", || orangery_tests::fleet::get(other, "/"));
    assert_eq!(there(&board), (unit(board.port), unit(other)));
    board.reboot_without_agent();
    board.serves("1.0.0");
    assert_eq!(there(&board), (unit(board.port), vec![]));
    assert!(orangery_tests::fleet::get(other, "/").is_none());
    board.bring_agent_back();
    // One that is well takes the new socket with it, and drops the old one.
    board.publish("1.2.0", 200, &held("OTHER").replace("port = \"${PORT}\"", "port = \"${OTHER}\""));
    board.deploy("1.2.0");
    board.fleet.settled_on(NAME, "1.2.0");
    assert_eq!(there(&board), (unit(other), vec![]));
    assert!(orangery_tests::fleet::get(other, "/").is_some() && orangery_tests::fleet::get(board.port, "/").is_none());
    // One that listens by itself, and back.
    board.publish("1.3.0", 200, &manifest(PLAIN, "", 0));
    board.settle("1.3.0");
    assert_eq!(there(&board), (vec![], vec![]));
    board.settle("1.0.0");
    assert_eq!(there(&board), (unit(board.port), vec![]));
}

#[test]
#[ignore = "needs root, systemd-nspawn and a Debian root file system; run by `just test-nspawn`"]
fn the_agent_may_write_where_a_laptop_reads_and_not_what_belongs_to_the_system() {
    let board = Board::new("");
    let agent = board.property(board::AGENT, "MainPID");
    let touch =
        |path: &str| board.machine.run(&["nsenter", "--target", &agent, "--mount", "touch", path]).status.success();
    board.succeed(&["mkdir", "-p", "/boot/firmware"]);
    for path in
        ["/boot/probe", "/boot/firmware/probe", "/var/lib/orangery/probe", "/run/probe", "/etc/systemd/system/probe"]
    {
        assert!(touch(path), "{path} can be written");
    }
    for path in ["/usr/probe", "/etc/probe", "/probe"] {
        assert!(!touch(path), "{path} cannot be written");
    }
}

//! The agent replaces itself: its own program under its shipped unit, in a machine with a systemd of its own, with a real
//! coordinator outside. New agents crash, hang, are for other machines, cut the node off, cannot read what is here or spoil
//! it; the plug is pulled and the agent killed at each step.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[allow(dead_code, reason = "this program uses its part of it")]
#[path = "../board/board.rs"]
mod board;
#[path = "../../../agent/tests/systemd_runner/container.rs"]
mod container;
mod full_disk;
mod variants;

use std::fs;
use std::time::Duration;

use board::{AGENT, APP, Board, NAME, PLAIN};
use orangery_tests::process::{eventually, within};
use orangery_wire::messages::{AppReport, Phase, RefusalCode};

const RUN: &str = "/run/systemd/system/orangery-agent.service.d";
/// Where an agent that is a release lies.
const RELEASES: &str = "/var/lib/orangery/apps/orangery-agent/releases/";
/// A board of these tests is slower than one alone.
const PATIENCE: Duration = Duration::from_mins(2);

/// A board on which the greeter is proven, and which gives its agents little time.
fn quick_board() -> Board {
    let board = Board::with_greeter(&board::manifest(PLAIN, "", 0));
    quick(&board, "5s", "1h");
    board
}

/// The shipped times are for slow boards. `trial` is how long a trial may take in all.
fn quick(board: &Board, start: &str, trial: &str) {
    let write = |name: &str, text: &str| {
        let path = board.machine.outside("/etc/systemd/system").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let times = format!("[Service]\nTimeoutStartSec={start}\nWatchdogSec=5s\nRestartSec=100ms\n");
    write("orangery-agent.service.d/90-quick.conf", &times);
    write("orangery-agent.restore.timer.d/90-quick.conf", &format!("[Timer]\nOnActiveSec=\nOnActiveSec={trial}\n"));
    board.succeed(&["systemctl", "daemon-reload"]);
}

/// What the board last reported of its agent as an app.
fn own(board: &Board) -> Option<AppReport> {
    let reported = board.fleet.view(NAME)?.reported?;
    reported.apps.into_iter().find(|app| app.app.as_str() == "orangery-agent")
}

fn version(release: Option<&orangery_wire::messages::ReleaseRef>) -> Option<String> {
    release.map(|release| release.version.to_string())
}

fn deploy(board: &Board, version: &str) {
    board.fleet.deploy(&format!("orangery-agent@{version}"), NAME);
}

/// Waits until this version of the agent is current and runs.
fn settles(board: &Board, wanted: &str) -> AppReport {
    within(PATIENCE, &format!("the agent settles on {wanted}"), &mut || {
        let app = own(board)?;
        let both = [app.current.as_ref(), app.running.as_ref()].map(version);
        let there = both.iter().all(|version| version.as_deref() == Some(wanted));
        (there && app.phase == Phase::Settled).then_some(app)
    })
}

/// Waits until this version of the agent is refused and another is back.
fn refuses(board: &Board, wanted: &str) -> (RefusalCode, String) {
    within(PATIENCE, &format!("the agent {wanted} is refused"), &mut || {
        let app = own(board)?;
        let here =
            version(app.desired.as_ref())? == wanted && app.phase == Phase::Settled && app.running == app.current;
        let refusal = app.refusal.filter(|_| here)?;
        Some((refusal.code, refusal.reason))
    })
}

/// The program that is the agent at this moment.
fn program(board: &Board) -> String {
    let pid = board.property(AGENT, "MainPID");
    board.machine.said(&["readlink", &format!("/proc/{pid}/exe")]).trim().to_owned()
}

/// Nothing of a trial is left.
fn no_trace(board: &Board) {
    eventually("nothing of the trial is left", || {
        let left = ["20-orangery-trial.conf", "orangery-taken-back", "30-orangery-package.conf"];
        let files = left.iter().any(|name| board.machine.has(&format!("{RUN}/{name}")));
        let timer = board.property("orangery-agent.restore.timer", "ActiveState") == "active";
        (!files && !timer).then_some(())
    });
    board.succeed(&["orangery-agent", "check"]);
}

#[test]
#[ignore = "needs root, systemd-nspawn and a Debian root file system; run by `just test-nspawn`"]
fn a_new_agent_proves_itself_and_starts_at_boot_until_it_is_taken_away() {
    let mut board = quick_board();
    let app = board.property(APP, "MainPID");
    assert_eq!(program(&board), "/usr/bin/orangery-agent");
    variants::publish(&board.fleet, "0.2.0", &variants::as_version(&board.fleet, "0.2.0"), &variants::manifest(0));
    deploy(&board, "0.2.0");
    let report = settles(&board, "0.2.0");
    assert!(!report.unwitnessed, "the coordinator was there, before and after");
    no_trace(&board);
    let first = program(&board);
    assert!(first.starts_with(RELEASES), "{first}");
    assert_eq!(board.property(APP, "MainPID"), app, "the apps did not notice");

    board.machine.power_cut();
    eventually("the release starts at boot", || (program(&board) == first).then_some(()));
    variants::publish(&board.fleet, "0.3.0", &variants::as_version(&board.fleet, "0.3.0"), &variants::manifest(0));
    deploy(&board, "0.3.0");
    settles(&board, "0.3.0");
    assert_ne!(program(&board), first);

    board.succeed(&["orangery-agent", "rollback", "orangery-agent"]);
    settles(&board, "0.2.0");
    eventually("the one before runs", || (program(&board) == first).then_some(()));
}

#[test]
#[ignore = "needs root, systemd-nspawn and a Debian root file system; run by `just test-nspawn`"]
fn an_agent_that_does_not_start_or_stay_or_answer_or_know_this_disk_is_taken_back_with_the_reason() {
    let board = quick_board();
    let fleet = &board.fleet;
    let app = board.property(APP, "MainPID");
    let spoil = "sed -i -e '/sha256/d' -e 's/\"format\": 1/\"format\": 2/' /var/lib/orangery/apps/*/state.json* \
                 /var/lib/orangery/node.json*; echo written for the future; exit 1";
    for (version, program, code, words) in [
        ("0.2.1", variants::script("echo cannot find my library >&2; exit 127"), RefusalCode::WontStart, "my library"),
        ("0.2.2", variants::script("exit 0"), RefusalCode::WontStart, "it wrote nothing"),
        ("0.2.3", variants::foreign(), RefusalCode::WontStart, "is it built for this machine?"),
        ("0.2.4", variants::script("echo asleep; exec sleep 1000"), RefusalCode::WontStart, "asleep"),
        (
            "0.2.5",
            variants::patched(fleet, "tries_left", "tries_lost"),
            RefusalCode::WontStart,
            "does not know what is",
        ),
        ("0.2.6", variants::patched(fleet, "orangery/v1/", "orangery/v9/"), RefusalCode::Disconnected, "coordinator"),
        ("0.2.7", variants::script(spoil), RefusalCode::WontStart, "written for the future"),
    ] {
        variants::publish(fleet, version, &program, &variants::manifest(0));
        let begun = std::time::Instant::now();
        deploy(&board, version);
        let (refusal, reason) = refuses(&board, version);
        println!("{version}, {:.1} s: {refusal}: {reason}", begun.elapsed().as_secs_f32());
        assert_eq!(refusal, code, "{version}: {reason}");
        assert!(reason.contains(words), "{version}: {reason}");
        assert_eq!(self::program(&board), "/usr/bin/orangery-agent");
        no_trace(&board);
        board.serves("1.0.0");
        assert_eq!(board.property(APP, "MainPID"), app, "the apps did not notice");
    }
    // What the last one wrote is kept for whoever can read it.
    assert!(board.machine.has("/var/lib/orangery/apps/greeter/state.json.format-2"));
    // Nothing of this stands in the way of a good one.
    variants::publish(fleet, "0.3.0", &variants::as_version(fleet, "0.3.0"), &variants::manifest(0));
    deploy(&board, "0.3.0");
    settles(&board, "0.3.0");
    no_trace(&board);
}

/// Waits for what the record of the agent as an app says, as closely as one can look.
fn record_says(board: &Board, text: &str) {
    let record = board.machine.outside("/var/lib/orangery/apps/orangery-agent/state.json");
    let said = within(PATIENCE, &format!("the record says {text}"), &mut || {
        fs::read_to_string(&record).ok().filter(|record| record.contains(text))
    });
    assert!(said.contains(text));
}

/// The plug is pulled, or the agent killed.
#[derive(Debug, Clone, Copy)]
enum End {
    Power,
    Kill,
}

fn end(board: &mut Board, how: End) {
    match how {
        End::Power => board.machine.power_cut(),
        End::Kill => drop(board.machine.run(&["systemctl", "kill", "--signal=KILL", AGENT])),
    }
}

#[test]
#[ignore = "needs root, systemd-nspawn and a Debian root file system; run by `just test-nspawn`"]
fn whatever_ends_the_agent_at_whichever_step_it_comes_to_the_new_one_or_back_to_the_old_one() {
    let mut board = quick_board();
    let mut version = 0;
    for how in [End::Kill, End::Power] {
        for phase in ["fetching", "activating", "probing", "settled"] {
            version += 1;
            let name = format!("0.2.{version}");
            variants::publish(&board.fleet, &name, &variants::as_version(&board.fleet, &name), &variants::manifest(3));
            deploy(&board, &name);
            record_says(&board, &format!("\"desired\": \"{}", id(&board, &name)));
            record_says(&board, phase);
            end(&mut board, how);
            settles(&board, &name);
            println!("{how:?} while {phase}: {name} is current");
            no_trace(&board);
        }
        version += 1;
        let name = format!("0.2.{version}");
        let deaf = variants::patched(&board.fleet, "orangery/v1/", &format!("orangery/v{}/", version % 8 + 2));
        variants::publish(&board.fleet, &name, &deaf, &variants::manifest(0));
        deploy(&board, &name);
        record_says(&board, &format!("\"desired\": \"{}", id(&board, &name)));
        record_says(&board, "restoring");
        end(&mut board, how);
        let (code, reason) = refuses(&board, &name);
        println!("{how:?} while {name} is taken back: {code}: {reason}");
        no_trace(&board);
    }
    board.serves("1.0.0");
}

/// The beginning of a release's id, as a record has it.
fn id(board: &Board, version: &str) -> String {
    let shown = board.fleet.orangery(&["release", "list", "--json"]).output().unwrap();
    let all: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    let of = |release: &&serde_json::Value| release["app"] == "orangery-agent" && release["version"] == version;
    all.as_array().unwrap().iter().find(of).unwrap()["id"].as_str().unwrap()[..12].to_owned()
}

#[test]
#[ignore = "needs root, systemd-nspawn and a Debian root file system; run by `just test-nspawn`"]
fn a_proven_agent_that_does_not_start_any_more_leaves_its_place_to_the_packages_until_the_next_boot() {
    let mut board = quick_board();
    variants::publish(&board.fleet, "0.2.0", &variants::as_version(&board.fleet, "0.2.0"), &variants::manifest(0));
    deploy(&board, "0.2.0");
    settles(&board, "0.2.0");
    let proven = board.property(AGENT, "ExecStart");
    let path = program(&board);
    // The card loses it.
    board.succeed(&[
        "sh",
        "-c",
        "printf '#!/bin/sh\\necho bad sector >&2\\nexit 1\\n' > $1.new; chmod 555 $1.new; mv $1.new $1",
        "sh",
        &path,
    ]);
    board.succeed(&["sh", "-c", "kill -9 $1", "sh", &board.property(AGENT, "MainPID")]);
    let here = || (program(&board) == "/usr/bin/orangery-agent").then_some(());
    within(PATIENCE, "the package's agent takes over", &mut || here());
    assert!(board.machine.has(&format!("{RUN}/30-orangery-package.conf")));
    let said = eventually("it says why", || {
        let said = board.machine.said(&["orangery-agent", "history"]);
        said.contains("bad sector").then_some(said)
    });
    println!("{said}");
    // At the next boot the proven one is tried again, and gives way again.
    board.machine.power_cut();
    assert!(board.property(AGENT, "ExecStart").contains(&path) && proven.contains(&path));
    within(PATIENCE, "the package's agent takes over", &mut || {
        (program(&board) == "/usr/bin/orangery-agent").then_some(())
    });
    // And another release is the cure.
    variants::publish(&board.fleet, "0.3.0", &variants::as_version(&board.fleet, "0.3.0"), &variants::manifest(0));
    deploy(&board, "0.3.0");
    settles(&board, "0.3.0");
    no_trace(&board);
}

#[test]
#[ignore = "needs root, systemd-nspawn and a Debian root file system; run by `just test-nspawn`"]
fn a_trial_that_takes_too_long_is_ended_by_its_timer_and_one_without_a_coordinator_is_unwitnessed() {
    let mut board = quick_board();
    // Neither the start nor the watchdog would ever end this one.
    quick(&board, "infinity", "8s");
    let asleep = variants::script("echo asleep; exec sleep 1000");
    variants::publish(&board.fleet, "0.2.0", &asleep, &variants::manifest(0));
    deploy(&board, "0.2.0");
    let (code, reason) = refuses(&board, "0.2.0");
    println!("{code}: {reason}");
    assert_eq!(code, RefusalCode::WontStart);
    assert!(reason.contains("asleep"), "{reason}");
    no_trace(&board);

    quick(&board, "5s", "1h");
    let file = board.machine.outside("/root/agent.bundle");
    variants::publish(&board.fleet, "0.3.0", &variants::as_version(&board.fleet, "0.3.0"), &variants::manifest(0));
    let mut bundle = board.fleet.orangery(&["bundle", "orangery-agent@0.3.0", "--out"]);
    orangery_tests::process::succeed(bundle.arg(&file));
    board.fleet.coordinator().kill();
    eventually("the board is alone", || {
        board.machine.said(&["orangery-agent", "status"]).contains("is not connected").then_some(())
    });
    board.succeed(&["orangery-agent", "install", "/root/agent.bundle"]);
    eventually("the new agent runs", || program(&board).starts_with(RELEASES).then_some(()));
    board.fleet.serve();
    assert!(settles(&board, "0.3.0").unwitnessed);
    no_trace(&board);
}

//! A new agent arrives on a disk that has no room for it: the old one stays, reports and says why, and once there is room the new
//! one takes its place.

use std::collections::BTreeSet;

use orangery_tests::process::{eventually, succeed, within};
use orangery_wire::messages::{Phase, RefusalCode};

use super::board::{AGENT, Board, NAME};
use super::{PATIENCE, deploy, no_trace, own, program, quick_board, settles, variants, version};

const STATE: &str = "/var/lib/orangery";
/// Room for three agents of a debug build, with one on its way.
const DISK: &str = "size=128m,mode=0755";
const BLOCK: u64 = 4_096;

/// The board's state moves to a small file system, with or without a reserve on it.
fn shrink(board: &Board, has_reserve: bool) {
    board.succeed(&["systemctl", "stop", AGENT]);
    if !has_reserve {
        let settings = "mkdir -p /etc/orangery/agent.d; printf '[fetch]\\nreserve_bytes = 0\\n' > /etc/orangery/agent.d/50-bare.toml";
        board.succeed(&["sh", "-c", settings]);
        board.succeed(&["rm", "-f", &format!("{STATE}/reserve")]);
    }
    board.succeed(&["cp", "-a", STATE, "/var/lib/kept"]);
    board.succeed(&["mount", "-t", "tmpfs", "-o", DISK, "tmpfs", STATE]);
    board.succeed(&["cp", "-a", "/var/lib/kept/.", STATE]);
    board.succeed(&["systemctl", "start", AGENT]);
}

/// Leaves so many bytes free, in whole blocks.
fn leave(board: &Board, bytes: u64) {
    let script = "cd $1; rm -f filler; size=$(($(stat -f -c '%a * %S' .) - $2)); \
                  while [ $size -gt 0 ] && ! fallocate -l $size filler; do size=$((size - 4096)); done";
    board.succeed(&["sh", "-c", script, "sh", STATE, &bytes.to_string()]);
}

fn empty(board: &Board) {
    board.succeed(&["rm", "-f", &format!("{STATE}/filler")]);
}

/// What comes of a new agent, as the coordinator hears it: the code of its refusal, or that nothing can be written down.
fn told(board: &Board, wanted: &str) -> &'static str {
    within(PATIENCE, &format!("it is told what becomes of the agent {wanted}"), &mut || {
        let online = board.fleet.view(NAME)?.online;
        let app = own(board).filter(|_| online)?;
        if app.waits.as_ref().is_some_and(|waits| waits.contains("does not take its record")) {
            return Some("waits");
        }
        let here = version(app.desired.as_ref())? == wanted && app.phase == Phase::Settled;
        let refusal = app.refusal.filter(|_| here)?;
        (refusal.code == RefusalCode::NoSpace).then_some("no_space")
    })
}

/// Takes a board through new agents, each of which arrives when so many bytes are free. Returns what became of them.
fn arrive(has_reserve: bool, frees: &[u64]) -> BTreeSet<&'static str> {
    let board = quick_board();
    shrink(&board, has_reserve);
    let mut all = BTreeSet::new();
    for (n, free) in frees.iter().enumerate() {
        let name = format!("0.2.{n}");
        variants::publish(&board.fleet, &name, &variants::as_version(&board.fleet, &name), &variants::manifest(0));
        let (before, app) = (program(&board), board.property(super::APP, "MainPID"));
        leave(&board, *free);
        deploy(&board, &name);
        let said = told(&board, &name);
        let why = succeed(&mut board.fleet.orangery(&["why", NAME]));
        let parts: &[&str] = match said {
            "waits" => &["does not take its record", "No space left"],
            _ => &["no_space", "needs ", "are free and ", "can be freed, short by "],
        };
        for part in parts {
            assert!(why.contains(part), "{free} bytes free: {part:?} is not in {why}");
        }
        assert_eq!(program(&board), before, "{free} bytes free: the old agent stays");
        assert_eq!(board.property(AGENT, "ActiveState"), "active");
        assert_eq!(board.property(super::APP, "MainPID"), app, "the apps did not notice");
        println!("{name}, {free} bytes free, reserve {has_reserve}: {said}");
        empty(&board);
        if said == "no_space" {
            deploy(&board, &name);
        }
        settles(&board, &name);
        eventually("the new agent runs", || (program(&board) != before).then_some(()));
        no_trace(&board);
        board.serves("1.0.0");
        all.insert(said);
    }
    all
}

#[test]
#[ignore = "needs root, systemd-nspawn and a Debian root file system; run by `just test-nspawn`"]
fn an_agent_for_which_the_disk_has_no_room_leaves_the_old_one_at_work_until_there_is() {
    let with = arrive(true, &[0, BLOCK, 16 * BLOCK, 4 << 20]);
    assert_eq!(with, BTreeSet::from(["no_space"]), "with a reserve the refusal can be written down");
    let without = arrive(false, &[0, 5 * BLOCK, 4 << 20]);
    assert!(without.contains("waits") && without.contains("no_space"), "{without:?}");
}

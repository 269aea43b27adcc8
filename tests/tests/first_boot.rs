//! A freshly flashed board joins by the file that a laptop put on its boot partition.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::PathBuf;

use orangery_tests::fleet::{Fleet, Node};
use orangery_tests::process::{eventually, succeed};
use orangery_wire::messages::RefusalCode;

/// A board whose boot partition is a directory.
struct Board {
    node: Node,
    boot: PathBuf,
}

impl Board {
    fn new(fleet: &Fleet, name: &str) -> Self {
        let boot = fleet.path().join("nodes").join(name).join("boot");
        std::fs::create_dir_all(&boot).unwrap();
        let file = boot.join("orangery.toml");
        let settings =
            format!("[first_boot]\nfiles = [\"/nowhere/orangery.toml\", {:?}]\n", file.display().to_string());
        Self { node: fleet.board_with(name, &settings), boot }
    }

    /// What a laptop does.
    fn put(&self, text: &str) {
        std::fs::write(self.boot.join("orangery.toml"), text).unwrap();
    }

    fn file(&self) -> String {
        std::fs::read_to_string(self.boot.join("orangery.toml")).unwrap()
    }

    /// What a laptop reads; empty if nothing is there.
    fn outcome(&self) -> String {
        std::fs::read_to_string(self.boot.join("orangery-status.txt")).unwrap_or_default()
    }

    fn says(&self, expected: &str) {
        eventually(&format!("{expected:?} stands on the boot partition"), || {
            self.outcome().contains(expected).then_some(())
        });
    }
}

#[test]
fn a_board_joins_by_its_boot_partition_and_the_token_is_wiped() {
    let fleet = Fleet::start();
    let mut board = Board::new(&fleet, "attic");
    let token = fleet.token(&[]);
    board.put(&format!("token = \"{token}\"\nname = \"attic\"\n"));
    board.node.start();
    eventually("attic is online", || fleet.view("attic")?.online.then_some(()));
    board.says("This node is attic and belongs to https://");
    assert!(!board.file().contains(&token) && board.file().starts_with("# This node has joined as attic"));

    fleet.publish("1.0.0", 200);
    fleet.deploy("greeter@1.0.0", "attic");
    fleet.settled_on("attic", "1.0.0");

    // The plug was pulled after joining and before wiping: the next start makes up for it.
    board.node.cut_power();
    board.put(&format!("token = \"{token}\"\n"));
    board.node.start();
    eventually("the token is wiped", || (!board.file().contains(&token)).then_some(()));
    fleet.settled_on("attic", "1.0.0");
}

#[test]
fn a_board_that_cannot_join_says_why_where_a_laptop_can_read_it() {
    let mut fleet = Fleet::start();
    let mut board = Board::new(&fleet, "garden");
    for (text, expected) in [
        ("", "there is no token in it"),
        ("token = 7", "invalid type"),
        ("tokn = \"x\"", "unknown field `tokn`"),
        ("token = \"orangery1.x\"", "token"),
        ("token", "cannot use"),
    ] {
        board.put(text);
        board.node.start();
        board.says(expected);
        assert!(board.outcome().contains("has not joined yet") && board.outcome().contains("orangery node invite"));
        board.node.kill_agent();
    }

    let token = fleet.token(&["--name", "garden"]);
    board.put(&format!("token = \"{token}\"\n"));
    fleet.coordinator().kill();
    board.node.start();
    eventually("it was tried in vain", || board.node.log().contains("has not joined; will try again").then_some(()));
    fleet.serve();
    board.says("This node is garden");
}

#[test]
fn a_used_token_is_said_to_be_used() {
    let fleet = Fleet::start();
    let token = fleet.token(&[]);
    let mut first = Board::new(&fleet, "attic");
    first.put(&format!("token = \"{token}\"\nname = \"attic\"\n"));
    first.node.start();
    first.says("This node is attic");

    let mut second = Board::new(&fleet, "garden");
    second.put(&format!("token = \"{token}\"\nname = \"garden\"\n"));
    second.node.start();
    second.says("this token has been used already; make a new one with `orangery node invite`");
}

/// Puts a bundle where an image would have it.
fn preload(board: &Board, fleet: &Fleet, release: &str) {
    let directory = board.node.state().join("preload");
    std::fs::create_dir_all(&directory).unwrap();
    succeed(fleet.orangery(&["bundle", release, "--out"]).arg(directory.join(format!("{release}.bundle"))));
}

fn preloaded(board: &Board) -> usize {
    std::fs::read_dir(board.node.state().join("preload")).unwrap().count()
}

#[test]
fn a_board_runs_what_came_with_its_image_before_it_has_ever_reached_anybody() {
    let mut fleet = Fleet::start();
    fleet.publish("1.0.0", 200);
    let mut board = Board::new(&fleet, "attic");
    board.put(&format!("token = \"{}\"\nname = \"attic\"\n", fleet.token(&[])));
    preload(&board, &fleet, "greeter@1.0.0");
    fleet.coordinator().kill();

    board.node.start();
    eventually("the board serves 1.0.0", || (board.node.serves()? == "1.0.0").then_some(()));
    eventually("the bundle is gone", || (preloaded(&board) == 0).then_some(()));
    board.says("has not joined yet");
    board.node.cut_power();
    board.node.start();
    eventually("the board serves 1.0.0 again", || (board.node.serves()? == "1.0.0").then_some(()));

    fleet.serve();
    let ended = || board.node.process().ended().map(|status| assert!(status.success(), "{status}"));
    eventually("the agent ends when it has joined", ended);
    board.says("This node is attic");
    board.node.start();
    fleet.settled_on("attic", "1.0.0");
    fleet.publish("1.1.0", 200);
    fleet.deploy("greeter@1.1.0", "attic");
    fleet.settled_on("attic", "1.1.0");

    // A bundle that could not be removed then is older than what was decided since.
    preload(&board, &fleet, "greeter@1.0.0");
    board.node.cut_power();
    board.node.start();
    eventually("the bundle is gone again", || (preloaded(&board) == 0).then_some(()));
    eventually("the board serves 1.1.0 again", || (board.node.serves()? == "1.1.0").then_some(()));
    fleet.settled_on("attic", "1.1.0");
    board.node.check();
}

#[test]
fn what_came_with_an_image_is_judged_like_anything_else() {
    let fleet = Fleet::start();
    fleet.publish("1.0.0", 500);
    let stranger = Fleet::start();
    stranger.publish("2.0.0", 200);

    let mut board = Board::new(&fleet, "attic");
    board.put(&format!("token = \"{}\"\nname = \"attic\"\n", fleet.token(&[])));
    preload(&board, &stranger, "greeter@2.0.0");
    board.node.start();
    board.says("This node is attic");
    assert!(board.node.log().contains("is not installed"), "{}", board.node.log());
    assert!(board.node.serves().is_none());

    let mut board = Board::new(&fleet, "garden");
    board.put(&format!("token = \"{}\"\nname = \"garden\"\n", fleet.token(&[])));
    preload(&board, &fleet, "greeter@1.0.0");
    std::fs::write(board.node.state().join("preload/broken.bundle"), "no bundle").unwrap();
    board.node.start();
    eventually("the agent has joined", || board.node.process().ended());
    assert_eq!(preloaded(&board), 0);
    board.node.start();
    let refusal = fleet.refused("garden", "1.0.0").refusal.unwrap();
    assert_eq!(refusal.code, RefusalCode::Unhealthy, "{}", refusal.reason);
}

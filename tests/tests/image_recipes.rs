//! What can be said wrongly to the recipes for whole images (`images/build.sh`): each ends at once, before anything is written.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::process::Command;

use orangery_tests::process::output;

const RECIPE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../images/build.sh");

/// Must fail, saying `expected`, and leave `place` as it was.
#[track_caller]
fn refused(place: &Path, words: &[&str], expected: &str) {
    let listing = || {
        let mut names: Vec<_> = std::fs::read_dir(place).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = listing();
    let answer = output(Command::new(RECIPE).args(words).current_dir(place));
    let said = String::from_utf8_lossy(&answer.stderr).into_owned();
    assert!(!answer.status.success() && said.contains(expected), "{words:?}: {expected:?} in {said:?}");
    assert_eq!(listing(), before, "nothing is left of {words:?}");
}

#[test]
fn an_image_of_an_unknown_board_or_of_no_agent_or_over_another_is_not_begun() {
    let place = tempfile::tempdir().unwrap();
    let at = place.path();
    std::fs::write(at.join("agent.deb"), "no package").unwrap();
    std::fs::write(at.join("there.img"), "an image").unwrap();
    refused(at, &[], "usage: build.sh BOARD OUT.img");
    refused(at, &["orangepi-zero-plus3", "x.img", "agent.deb"], "no board orangepi-zero-plus3; known: ");
    // All that are known are named.
    for board in ["generic-arm64", "orangepi-zero-plus2", "orangepi-one-plus"] {
        refused(at, &["", "x.img", "agent.deb"], board);
    }
    refused(at, &["generic-arm64", "x.img", "none.deb"], "none.deb is not there");
    refused(at, &["generic-arm64", "there.img", "agent.deb"], "there.img is there already");
    assert_eq!(std::fs::read_to_string(at.join("there.img")).unwrap(), "an image");
}

//! `just bench-fleet` with a fleet so small that it takes seconds: everything is measured, and nothing is lost.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::process::Command;

use orangery_tests::process::{fail, program, succeed};

#[test]
fn a_small_fleet_is_measured_from_its_first_connection_to_its_last_page_and_loses_nothing() {
    let words = ["--json", "--messages", "400", "--broker", "embedded", "20"];
    let text = succeed(Command::new(program("bench-fleet")).args(words));
    let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
    let [fleet] = &answer["medians"].as_array().unwrap()[..] else { panic!("{answer:#}") };
    assert_eq!(fleet["nodes"], 20);
    let figure = |name: &str| fleet["embedded"][name].as_f64().unwrap_or_else(|| panic!("no {name}: {fleet:#}"));
    for name in ["memory_each_kb", "change_last_ms", "change_proven_ms", "health_per_s", "events_per_s", "cut_p99_ms"] {
        assert!(figure(name) > 0.0, "{name}: {fleet:#}");
    }
    assert!(figure("change_last_ms") >= figure("change_planned_ms"), "{fleet:#}");
    assert!(figure("restart_stored_s") >= figure("restart_s"), "{fleet:#}");
    assert_eq!((figure("health_lost"), figure("events_lost")), (0.0, 0.0), "{fleet:#}");
}

#[test]
fn more_nodes_than_one_machine_can_play_are_refused_and_so_is_what_is_misspelt() {
    let refused = |words: &[&str]| fail(Command::new(program("bench-fleet")).args(words));
    assert!(refused(&["100000"]).contains("from 10 to 12000 nodes"));
    assert!(refused(&["--brokr", "embedded"]).contains("is not understood"));
    assert!(refused(&["--repeat"]).contains("needs a number"));
}

//! Records in every phase, as format 1 has them: read as they were written, and written as they are kept.

#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use orangery_agent::deployment::{Phase, Record, Trial};
use orangery_agent::disk::RealDisk;
use orangery_agent::layout::Layout;
use orangery_agent::record::{self, AppState, FORMAT, NodeState, Source};
use orangery_wire::messages::{Refusal, RefusalCode};
use orangery_wire::{AppName, Digest, ReleaseId};

const KEPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/format-1/records");

fn release(n: u8) -> ReleaseId {
    ReleaseId(Digest([n; 32]))
}

/// One state for each phase and each member that may be left out.
fn states() -> BTreeMap<&'static str, AppState> {
    let trial = || Trial { release: release(2), generation: 7, tries_left: 1 };
    let refusal = Refusal { release: release(3), code: RefusalCode::Unhealthy, reason: "GET /health: 500".to_owned() };
    let proven =
        |phase| Record { generation: 7, desired: Some(release(2)), current: Some(release(1)), refused: None, phase };
    let state = |record| AppState {
        record,
        previous: Some(release(0)),
        versions: (0..3).map(|n| (release(n), format!("1.{n}.0").parse().unwrap())).collect(),
        ..AppState::default()
    };
    let refused = Record { desired: Some(release(3)), refused: Some(refusal), ..proven(Phase::Settled) };
    BTreeMap::from([
        ("empty", AppState::default()),
        ("fetching", state(proven(Phase::Fetching { release: release(2), attempt: 4 }))),
        ("activating", AppState { connected_before: true, ..state(proven(Phase::Activating(trial()))) }),
        ("probing", AppState { connected_before: true, ..state(proven(Phase::Probing(trial()))) }),
        ("restoring", state(proven(Phase::Restoring { attempt: 2 }))),
        ("refused", state(refused)),
        (
            "settled",
            AppState { unwitnessed: true, ..state(Record { desired: Some(release(1)), ..proven(Phase::Settled) }) },
        ),
    ])
}

fn node() -> NodeState {
    NodeState {
        generation: 9,
        time_floor: 1_790_000_000,
        starts: 12,
        reconnection_secs_max: 17,
        ..NodeState::default()
    }
}

/// Everything as this version writes it, below `root`.
fn write(root: &Path) -> Layout {
    let layout = Layout::new(root);
    for (phase, state) in states() {
        record::save_app(&RealDisk, &layout, &phase.parse().unwrap(), &state).unwrap();
    }
    record::save_node(&RealDisk, &layout, &node()).unwrap();
    layout
}

fn files(layout: &Layout) -> Vec<PathBuf> {
    let of = |phase: &&str| layout.record(&phase.parse::<AppName>().unwrap());
    states().keys().map(of).chain([layout.node_state()]).collect()
}

#[test]
fn what_format_1_holds_is_read_as_it_was_written() {
    let layout = Layout::new(KEPT);
    for (phase, state) in states() {
        let found = record::load_app(&RealDisk, &layout, &phase.parse().unwrap());
        assert_eq!((found.state, found.source, found.trouble), (state, Source::Primary, None), "{phase}");
    }
    assert_eq!(record::load_node(&RealDisk, &layout), node());
}

#[test]
fn as_long_as_format_1_is_what_is_written_it_is_written_byte_for_byte() {
    assert_eq!(FORMAT, 1, "keep what this version writes beside format 1, and go on reading both: see docs/disk.md");
    let directory = tempfile::tempdir().unwrap();
    let (now, kept) = (write(directory.path()), Layout::new(KEPT));
    for (now, kept) in files(&now).iter().zip(files(&kept)) {
        assert_eq!(fs::read_to_string(now).unwrap(), fs::read_to_string(&kept).unwrap(), "{}", kept.display());
    }
}

/// Only for a new format: what is kept of an old one is never written again.
#[test]
#[ignore = "writes the files that the other tests read"]
fn the_records_are_written() {
    write(Path::new(KEPT));
}

//! A release that does not fit: what goes so that it does, in which order, and what never goes.

#![allow(clippy::unwrap_used, reason = "these are tests, their helpers included")]

mod joined;
mod origin;
mod owner;
mod small_disk;

use joined::{World, content};
use orangery_agent::deployment::{Phase, Record};
use orangery_agent::disk::RealDisk;
use orangery_agent::install::sealed;
use orangery_agent::record::{self, AppState};
use orangery_wire::ReleaseId;
use orangery_wire::messages::RefusalCode;
use owner::Release;
use small_disk::SmallDisk;

/// Each release has 1.0 MB of files, and takes as much again while it is installed.
const RELEASE_BYTES: u64 = 1_040_384;

struct Node {
    small: SmallDisk,
    world: World,
}

impl Node {
    async fn new() -> Option<Self> {
        let small = SmallDisk::new(16_000_000)?;
        let mut world = World::new().await;
        small.path().clone_into(&mut world.settings.state_dir);
        world.join();
        Some(Self { small, world })
    }

    async fn has(&mut self, app: &str, version: &str) -> Release {
        let release = Release::new(app, version, &content());
        self.world.publish(&release);
        self.world.succeeds(&release).await;
        release
    }

    /// Writes down that the app runs `current`, and ran `previous` before it.
    fn runs(&self, current: &Release, previous: Option<&Release>) {
        let (app, id) = (current.app(), current.wanted().id);
        let record =
            Record { generation: 1, desired: Some(id), current: Some(id), refused: None, phase: Phase::Settled };
        let state = AppState { record, previous: previous.map(|release| release.wanted().id), ..AppState::default() };
        record::save_app(&RealDisk, &self.world.layout(), &app, &state).unwrap();
        record::set_current(&RealDisk, &self.world.layout(), &app, Some(&id)).unwrap();
    }

    fn is_here(&self, release: &Release) -> bool {
        let here = sealed(&RealDisk, &self.world.layout(), &release.app(), &release.wanted().id).is_some();
        assert_eq!(here, self.world.directory_of(release).exists(), "it is whole or gone");
        here
    }
}

#[tokio::test]
async fn no_more_goes_than_must_and_what_is_needed_never() {
    let Some(mut node) = Node::new().await else { return };
    let old = node.has("greeter", "1.0.0").await;
    let previous = node.has("greeter", "1.1.0").await;
    let current = node.has("greeter", "1.2.0").await;
    let (other_previous, other) = (node.has("other", "1.0.0").await, node.has("other", "1.1.0").await);
    node.runs(&current, Some(&previous));
    node.runs(&other, Some(&other_previous));
    let next = Release::new("greeter", "2.0.0", &content());
    node.world.publish(&next);
    let parts = node.world.layout().parts();
    let all = [&old, &previous, &other_previous, &current, &other];
    // A release takes twice its bytes on its way; with so much free, so many of the first of `all` have to go.
    for (free, gone) in [(2 * RELEASE_BYTES + 100_000, 0), (RELEASE_BYTES + 200_000, 1), (200_000, 2)] {
        for release in all {
            node.world.succeeds(release).await;
        }
        std::fs::write(parts.join("abandoned"), vec![0; 300_000]).unwrap();
        node.small.leave(free);
        node.world.install(&next).await.unwrap();
        let here: Vec<bool> = all.iter().map(|release| node.is_here(release)).collect();
        assert_eq!(here, [0, 1, 2, 3, 4].map(|at| at >= gone), "{free} bytes were free");
        assert_eq!(parts.join("abandoned").exists(), gone == 0);
        node.small.empty();
        let _ = std::fs::remove_file(parts.join("abandoned"));
        orangery_agent::install::collect(&RealDisk, &node.world.layout(), &next.app(), &keep(&all)).unwrap();
    }
}

fn keep(all: &[&Release]) -> Vec<ReleaseId> {
    all.iter().map(|release| release.wanted().id).collect()
}

#[tokio::test]
async fn nothing_goes_for_a_release_that_would_not_fit_even_then() {
    let Some(mut node) = Node::new().await else { return };
    let (previous, current) = (node.has("greeter", "1.0.0").await, node.has("greeter", "1.1.0").await);
    node.runs(&current, Some(&previous));
    let next = Release::new("greeter", "2.0.0", &content());
    node.world.publish(&next);
    node.small.leave(RELEASE_BYTES - 300_000);
    let text = node.world.is_refused(&next, RefusalCode::NoSpace).await;
    assert!(text.contains("needs 2.1 MB") && text.contains("and 1.1 MB can be freed, short by"), "{text}");
    assert!(node.is_here(&previous) && node.is_here(&current));
    // It was exact: with as much more, it fits.
    let short = small_disk::short_by(&text);
    node.small.leave(node.small.free().max(RELEASE_BYTES - 300_000) + short.next_multiple_of(4_096));
    node.world.install(&next).await.unwrap();
    assert!(!node.is_here(&previous) && node.is_here(&current) && node.is_here(&next));
}

#[tokio::test]
async fn what_a_reboot_starts_stays_though_the_record_has_moved_on() {
    let Some(mut node) = Node::new().await else { return };
    let (before, current) = (node.has("greeter", "1.0.0").await, node.has("greeter", "1.1.0").await);
    node.runs(&current, None);
    // The disk was full, or the power went, between the save and the move of the link.
    let layout = node.world.layout();
    record::set_current(&RealDisk, &layout, &before.app(), Some(&before.wanted().id)).unwrap();
    assert_eq!(node.world.installer().collect(true).await.unwrap(), 0);
    assert!(node.is_here(&before) && node.is_here(&current));
    record::set_current(&RealDisk, &layout, &before.app(), Some(&current.wanted().id)).unwrap();
    assert_eq!(node.world.installer().collect(false).await.unwrap(), 1);
    assert!(!node.is_here(&before) && node.is_here(&current));
}

#[tokio::test]
async fn a_damaged_record_keeps_all_releases_and_one_that_is_there_lets_the_others_go() {
    let Some(mut node) = Node::new().await else { return };
    let (one, two) = (node.has("greeter", "1.0.0").await, node.has("greeter", "1.1.0").await);
    node.runs(&two, None);
    let path = node.world.layout().record(&one.app());
    let good = std::fs::read(&path).unwrap();
    std::fs::write(&path, "torn").unwrap();
    assert_eq!(node.world.installer().collect(true).await.unwrap(), 0);
    std::fs::write(&path, good).unwrap();
    assert_eq!(node.world.installer().collect(true).await.unwrap(), 1);
    assert!(!node.is_here(&one) && node.is_here(&two));
}

#[tokio::test]
async fn a_record_read_from_its_copy_does_not_go_back_to_what_made_room() {
    let Some(mut node) = Node::new().await else { return };
    let (one, two) = (node.has("greeter", "1.0.0").await, node.has("greeter", "1.1.0").await);
    node.runs(&one, None);
    node.runs(&two, Some(&one));
    let layout = node.world.layout();
    std::fs::write(layout.record(&one.app()), "torn").unwrap();
    let load = || record::load_app(&RealDisk, &layout, &one.app()).state.record.current;
    assert_eq!(load(), Some(one.wanted().id));
    std::fs::remove_dir_all(node.world.directory_of(&one)).unwrap();
    assert_eq!(load(), Some(two.wanted().id), "the link names what is here");
}

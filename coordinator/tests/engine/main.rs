//! The engine over a real database: what it promises about kills, duplicates, retries and broken messages.

#![allow(clippy::unwrap_used)] // A test stops at the first surprise.

#[path = "../fixture/mod.rs"]
mod fixture;

mod deployments;
mod enrolment;

use fixture::{
    Record, TestClock, app, app_report, event, eventually, from_node, manifest, node, online, open_core, reference,
    reported,
};
use orangery::engine::{Command, Core, Engine, Refused};
use orangery::link::LinkEvent;
use orangery::store::{Reader, ReleaseRow};
use orangery_wire::limits::PACKET_BYTES_MAX;
use orangery_wire::messages::{Acked, AppReport, Desired, What};
use orangery_wire::rest::{DeedRequest, DeployRequest, Plan};
use orangery_wire::topics::Channel;
use orangery_wire::{Digest, Manifest, NodeId};
use tokio::sync::oneshot;

/// An engine whose effects are recorded.
struct Running {
    directory: tempfile::TempDir,
    clock: TestClock,
    engine: Engine,
    record: Record,
}

impl Running {
    fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap())
    }

    fn start_in(directory: tempfile::TempDir) -> Self {
        let clock = TestClock::now_by_system();
        let record = Record::default();
        let engine = Engine::start(open_core(directory.path(), &clock), record.outlets()).unwrap();
        Self { directory, clock, engine, record }
    }

    /// Ends this one and starts another on the same database.
    async fn restart(self) -> Self {
        let engine = self.engine.clone();
        tokio::task::spawn_blocking(move || engine.stop()).await.unwrap();
        Self::start_in(self.directory)
    }

    fn reader(&self) -> Reader {
        Reader::open(&self.directory.path().join("coordinator.db")).unwrap()
    }

    async fn say(&self, node: &NodeId, channel: Channel, payload: impl Into<Vec<u8>>) {
        self.engine.hear(from_node(node, channel, payload)).await.unwrap();
    }

    async fn report(&self, node: &NodeId, sequence: u64, apps: Vec<AppReport>) {
        let payload = serde_json::to_vec(&reported(node, sequence, apps)).unwrap();
        self.say(node, Channel::Reported, payload).await;
    }

    async fn publish(&self, version: &str) -> Manifest {
        let manifest = manifest(version, version.as_bytes());
        self.engine.publish(row(&manifest), vec![]).await.unwrap();
        manifest
    }

    async fn deploy(&self, version: Option<&str>, to: &str, plan: Option<Digest>) -> Result<Plan, Refused> {
        self.engine.deploy(request(version, to, plan)).await
    }

    /// Everything that was sent before has been done: the engine does things in order.
    async fn settled(&self) {
        let _ = self.engine.revoke(node("nobody")).await;
    }
}

fn row(manifest: &Manifest) -> ReleaseRow {
    ReleaseRow::of(manifest, reference(manifest).id, 1)
}

fn request(version: Option<&str>, to: &str, plan: Option<Digest>) -> DeployRequest {
    DeployRequest {
        app: app(),
        version: version.map(|v| v.parse().unwrap()),
        to: to.into(),
        plan,
        deed: DeedRequest::default(),
    }
}

fn generations(plan: &Plan) -> Vec<(String, bool, u64)> {
    plan.steps.iter().map(|step| (step.node.to_string(), step.changes, step.generation)).collect()
}

/// A core with one node and one release, and no thread.
fn core_with_release(directory: &std::path::Path) -> Core {
    let clock = TestClock::now_by_system();
    let mut core = open_core(directory, &clock);
    let (reply, _answer) = oneshot::channel();
    let garage = node("garage");
    let hello = serde_json::to_vec(&reported(&garage, 1, vec![])).unwrap();
    let commands = vec![
        Command::Link(from_node(&garage, Channel::Reported, hello)),
        Command::Publish(row(&manifest("1.0.0", b"1")), vec![], reply),
    ];
    core.apply(commands).unwrap().reply();
    core
}

#[test]
fn a_kill_between_the_commit_and_its_effects_loses_nothing_that_was_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let garage = node("garage");
    let (reply, mut answer) = oneshot::channel();
    {
        let mut core = core_with_release(directory.path());
        let told = serde_json::to_vec(&event(&garage, 7, 1)).unwrap();
        let commands = vec![
            Command::Deploy(request(Some("1.0.0"), "garage", None), reply),
            Command::Link(from_node(&garage, Channel::Event, told)),
        ];
        // Committed. Here the power fails: nothing is published, nobody is answered.
        let effects = core.apply(commands).unwrap();
        assert!(answer.try_recv().is_err(), "the answer waits for the commit, and is an effect like the others");
        drop(effects);
    }
    assert!(answer.try_recv().is_err());

    let core = open_core(directory.path(), &TestClock::now_by_system());
    let said = core.restate().unwrap().publications;
    let find = |channel| said.iter().find(|(node, c, _)| *node == garage && *c == channel).map(|(_, _, p)| p).unwrap();
    let desired: Desired = serde_json::from_slice(find(Channel::Desired)).unwrap();
    assert_eq!((desired.generation, desired.apps.len()), (1, 1));
    let acked: Acked = serde_json::from_slice(find(Channel::Acked)).unwrap();
    assert_eq!(acked, Acked { epoch: 7, sequence: 1 });
}

#[test]
fn a_kill_before_the_commit_acknowledges_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("coordinator.db");
    drop(core_with_release(directory.path()));
    // Somebody else holds the database, so the commit fails: what a full disk or a kill would do.
    let mut core = open_core(directory.path(), &TestClock::now_by_system());
    let other = rusqlite::Connection::open(&database).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (reply, mut answer) = oneshot::channel();
    assert!(core.apply(vec![Command::Deploy(request(Some("1.0.0"), "all", None), reply)]).is_err());
    assert!(
        matches!(answer.try_recv(), Err(oneshot::error::TryRecvError::Closed)),
        "it learns that there is no answer"
    );
    other.execute_batch("ROLLBACK").unwrap();
    assert!(core.restate().unwrap().publications.is_empty());
    let (reply, mut answer) = oneshot::channel();
    core.apply(vec![Command::Deploy(request(Some("1.0.0"), "all", None), reply)]).unwrap().reply();
    assert_eq!(generations(&answer.try_recv().unwrap().unwrap()), [("garage".into(), true, 1)]);
}

#[test]
fn a_node_whose_first_message_was_not_stored_is_as_unknown_as_before() {
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("coordinator.db");
    let mut core = open_core(directory.path(), &TestClock::now_by_system());
    let garage = node("garage");
    let mut report = |sequence| {
        let hello = serde_json::to_vec(&reported(&garage, sequence, vec![])).unwrap();
        core.apply(vec![Command::Link(from_node(&garage, Channel::Reported, hello))]).unwrap();
    };
    // The database refuses what the message says.
    let other = rusqlite::Connection::open(&database).unwrap();
    other
        .execute_batch("CREATE TRIGGER refuse BEFORE UPDATE ON nodes BEGIN SELECT RAISE (ABORT, 'refused'); END")
        .unwrap();
    report(1);
    let known = || Reader::open(&database).unwrap().read(|view| view.node(&garage)).unwrap();
    assert!(known().is_some(), "what is told of the refused message is about a node that there is");
    other.execute_batch("DROP TRIGGER refuse").unwrap();
    report(2);
    assert!(known().unwrap().reported.is_some());
}

#[tokio::test]
async fn a_restarted_engine_says_again_what_nodes_should_hear() {
    let running = Running::start();
    let garage = node("garage");
    running.report(&garage, 1, vec![]).await;
    running.publish("1.0.0").await;
    running.deploy(Some("1.0.0"), "garage", None).await.unwrap();
    running.say(&garage, Channel::Event, serde_json::to_vec(&event(&garage, 7, 1)).unwrap()).await;
    running.settled().await;
    let before: Desired = running.record.value(&garage, Channel::Desired).unwrap();
    let running = running.restart().await;
    assert_eq!(running.record.value::<Desired>(&garage, Channel::Desired), Some(before));
    assert_eq!(running.record.value(&garage, Channel::Acked), Some(Acked { epoch: 7, sequence: 1 }));
}

#[tokio::test]
async fn events_are_stored_once_and_acknowledged_again_when_they_come_again() {
    let running = Running::start();
    let garage = node("garage");
    for sequence in [1, 2, 3, 1, 2, 3] {
        running.say(&garage, Channel::Event, serde_json::to_vec(&event(&garage, 7, sequence)).unwrap()).await;
    }
    running.settled().await;
    assert_eq!(running.record.value(&garage, Channel::Acked), Some(Acked { epoch: 7, sequence: 3 }));
    assert_eq!(running.reader().read(|view| view.events(0, 100, None)).unwrap().len(), 3);
    assert_eq!(*running.engine.live().newest_event().borrow(), 3);
}

#[tokio::test]
async fn a_lost_database_learns_from_the_nodes_what_they_run_and_goes_on_from_there() {
    let running = Running::start();
    let garage = node("garage");
    let release = reference(&manifest("1.3.0", b"x"));
    running.report(&garage, 90, vec![app_report(12, Some(&release), Some(&release))]).await;
    running.publish("1.4.0").await;
    let desired: Desired = running.record.value(&garage, Channel::Desired).unwrap();
    assert_eq!((desired.generation, desired.apps[0].release.as_ref()), (12, Some(&release)));
    let plan = running.deploy(Some("1.4.0"), "site=attic", None).await.unwrap();
    assert_eq!(generations(&plan), [("garage".into(), true, 13)], "newer than anything the node has heard");
}

#[tokio::test]
async fn an_old_report_does_not_replace_a_new_one_unless_the_node_was_put_back() {
    let running = Running::start();
    let garage = node("garage");
    let release = |version: &str| reference(&manifest(version, b"x"));
    let runs = |version: &str, generation| vec![app_report(generation, None, Some(&release(version)))];
    let current = || {
        let row = running.reader().read(|view| view.node(&node("garage"))).unwrap().unwrap();
        row.reported.unwrap().apps[0].current.clone().unwrap().version.to_string()
    };
    running.report(&garage, 5, runs("1.1.0", 5)).await;
    running.report(&garage, 4, runs("1.0.0", 4)).await;
    running.report(&garage, 5, runs("1.0.0", 4)).await;
    running.settled().await;
    assert_eq!(current(), "1.1.0");
    let mut back = reported(&garage, 2, runs("0.9.0", 2));
    back.boot_id = "another boot".into();
    running.say(&garage, Channel::Reported, serde_json::to_vec(&back).unwrap()).await;
    running.settled().await;
    assert_eq!(current(), "0.9.0");
}

#[tokio::test]
async fn a_broken_message_on_any_topic_is_counted_told_and_dropped() {
    let running = Running::start();
    let garage = node("garage");
    for channel in [Channel::Reported, Channel::Health, Channel::Event, Channel::Online] {
        for broken in [&b"{"[..], b"", b"\xff\x00", b"[]", &vec![b' '; PACKET_BYTES_MAX + 1]] {
            running.say(&garage, channel, broken).await;
        }
        running.settled().await;
        let count = |why| running.reader().read(|view| view.rejections(&garage, channel, why)).unwrap();
        assert_eq!((count("not_json"), count("too_large")), (4, 1), "{channel:?}");
    }
    let told = running.reader().read(|view| view.events(0, 100, Some(&garage))).unwrap();
    assert_eq!(told.len(), 8, "one for each channel and reason, not one for each message");
    assert!(told.iter().all(|told| matches!(&told.event.what, What::MessageRejected { .. })));
    // And the engine goes on.
    running.report(&garage, 1, vec![]).await;
    running.say(&garage, Channel::Event, serde_json::to_vec(&event(&garage, 3, 1)).unwrap()).await;
    running.settled().await;
    assert_eq!(running.record.value(&garage, Channel::Acked), Some(Acked { epoch: 3, sequence: 1 }));
}

#[tokio::test]
async fn a_message_about_another_node_is_rejected() {
    let running = Running::start();
    let (garage, attic) = (node("garage"), node("attic"));
    running.say(&garage, Channel::Reported, serde_json::to_vec(&reported(&attic, 1, vec![])).unwrap()).await;
    running.say(&garage, Channel::Event, serde_json::to_vec(&event(&attic, 1, 1)).unwrap()).await;
    running.settled().await;
    let read = |channel| running.reader().read(|view| view.rejections(&garage, channel, "wrong_node")).unwrap();
    assert_eq!((read(Channel::Reported), read(Channel::Event)), (1, 1));
    assert!(running.reader().read(|view| view.node(&attic)).unwrap().is_none());
}

#[tokio::test]
async fn who_is_connected_is_what_nodes_and_the_broker_say() {
    let running = Running::start();
    let garage = node("garage");
    let seen = || running.engine.live().seen(&garage);
    running.engine.hear(LinkEvent::Up).await.unwrap();
    running.say(&garage, Channel::Online, online(true)).await;
    running.settled().await;
    assert!(seen().online && running.engine.live().broker_connected());
    running.clock.advance(100);
    running.say(&garage, Channel::Online, online(false)).await;
    running.settled().await;
    assert_eq!((seen().online, seen().at), (false, Some(running.clock.now() - 100)), "a will is no sign of life");
    running.say(&garage, Channel::Event, serde_json::to_vec(&event(&garage, 1, 1)).unwrap()).await;
    running.settled().await;
    assert!(seen().online);
    running.engine.hear(LinkEvent::Down { reason: "test".into() }).await.unwrap();
    running.settled().await;
    assert!(!seen().online && !running.engine.live().broker_connected(), "without a broker nobody knows");

    let at = running.clock.now();
    let running = running.restart().await;
    let row = running.reader().read(|view| view.node(&garage)).unwrap().unwrap();
    assert_eq!(row.seen_at, Some(at), "the last sign of life outlives a restart");
}

#[tokio::test]
async fn a_revoked_node_is_cut_off_told_nothing_and_not_heard() {
    let running = Running::start();
    let garage = node("garage");
    running.report(&garage, 1, vec![]).await;
    running.publish("1.0.0").await;
    running.deploy(Some("1.0.0"), "garage", None).await.unwrap();
    running.engine.revoke(garage.clone()).await.unwrap();
    assert_eq!(running.record.cut_off.lock().unwrap().as_slice(), std::slice::from_ref(&garage));
    assert!(running.engine.live().is_revoked(&garage));
    let last = running.record.published.lock().unwrap().last().cloned().unwrap();
    assert_eq!(last, (garage.clone(), Channel::Desired, vec![]), "its retained message is cleared");
    running.report(&garage, 2, vec![]).await;
    running.settled().await;
    let row = running.reader().read(|view| view.node(&garage)).unwrap().unwrap();
    assert_eq!(row.reported.unwrap().sequence, 1);
    assert_eq!(running.deploy(Some("1.0.0"), "all", None).await.unwrap_err(), Refused::NoNodes);
    let unknown = running.engine.revoke(node("garag")).await.unwrap_err();
    assert_eq!(unknown.to_string(), "there is no node garag; did you mean garage?");
    let running = running.restart().await;
    assert!(running.record.value::<Desired>(&garage, Channel::Desired).is_none());
    assert!(running.engine.live().is_revoked(&garage));
}

#[tokio::test]
async fn ten_thousand_events_are_stored_in_batches_and_all_acknowledged() {
    let running = Running::start();
    let garage = node("garage");
    for sequence in 1..=10_000 {
        running.say(&garage, Channel::Event, serde_json::to_vec(&event(&garage, 9, sequence)).unwrap()).await;
    }
    eventually("all are acknowledged", async || {
        (running.record.value(&garage, Channel::Acked) == Some(Acked { epoch: 9, sequence: 10_000 })).then_some(())
    })
    .await;
    let publications = running.record.published.lock().unwrap().len();
    assert!(publications < 10_000, "{publications} acknowledgements: one for each batch, not one for each event");
}

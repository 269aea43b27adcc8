//! The engine over a real database: what it promises about kills, duplicates, retries and broken messages.

#![allow(clippy::unwrap_used)] // A test stops at the first surprise.

mod fixture;

use fixture::{
    Record, TestClock, app, app_report, csr, event, eventually, from_node, manifest, node, online, open_core,
    reference, reported,
};
use orangery::ca::Ca;
use orangery::engine::{Command, Core, Engine, Joining, Refused, Renewing};
use orangery::link::LinkEvent;
use orangery::sha256::digest;
use orangery::store::{Reader, ReleaseRow};
use orangery_wire::limits::{APPS_MAX, PACKET_BYTES_MAX};
use orangery_wire::messages::{Acked, AppReport, Desired, DesiredApp, Refusal, RefusalCode, What};
use orangery_wire::rest::{DeedRequest, DeployRequest, InviteRequest, Plan};
use orangery_wire::topics::Channel;
use orangery_wire::{Digest, Manifest, NodeId, UnixTime};
use rcgen::KeyPair;
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
async fn deploying_what_is_desired_changes_nothing_and_a_refused_release_is_tried_again() {
    let running = Running::start();
    let garage = node("garage");
    running.report(&garage, 1, vec![]).await;
    let old = reference(&running.publish("1.0.0").await);
    let new = reference(&running.publish("1.1.0").await);
    let first = running.deploy(Some("1.0.0"), "all", None).await.unwrap();
    assert_eq!(generations(&first), [("garage".into(), true, 1)]);
    let again = running.deploy(Some("1.0.0"), "all", None).await.unwrap();
    assert_eq!(generations(&again), [("garage".into(), false, 1)], "idempotent");

    running.deploy(Some("1.1.0"), "garage", None).await.unwrap();
    let refusal = Refusal { release: new.id, code: RefusalCode::Unhealthy, reason: "500".into() };
    let refused = AppReport { refusal: Some(refusal), ..app_report(2, Some(&new), Some(&old)) };
    running.report(&garage, 2, vec![refused]).await;
    let retry = running.deploy(Some("1.1.0"), "garage", None).await.unwrap();
    assert_eq!(generations(&retry), [("garage".into(), true, 3)], "a retry is a new generation");
    let once_more = running.deploy(Some("1.1.0"), "garage", None).await.unwrap();
    assert_eq!(generations(&once_more), [("garage".into(), false, 3)], "the node has not refused that one yet");

    let stop = running.deploy(None, "garage", None).await.unwrap();
    assert_eq!(generations(&stop), [("garage".into(), true, 4)]);
    let desired: Desired = running.record.value(&garage, Channel::Desired).unwrap();
    assert_eq!(desired.apps, [DesiredApp { app: app(), generation: 4, release: None }]);
}

#[tokio::test]
async fn a_plan_that_no_longer_holds_is_not_applied() {
    let running = Running::start();
    running.report(&node("garage"), 1, vec![]).await;
    running.publish("1.0.0").await;
    running.publish("1.1.0").await;
    let wrong = running.deploy(Some("1.0.0"), "all", Some(Digest([0; 32]))).await.unwrap_err();
    assert_eq!(wrong, Refused::PlanChanged);
    assert!(running.record.value::<Desired>(&node("garage"), Channel::Desired).is_none(), "nothing was told");
    let survey = |version: &str| {
        let request = request(Some(version), "all", None);
        let read = |view: orangery::store::View<'_>| orangery::engine::Survey::read(view, &app());
        running.reader().read(read).unwrap().plan(&request, running.engine.live()).unwrap()
    };
    let shown = survey("1.0.0");
    let other = survey("1.1.0");
    running.deploy(Some("1.0.0"), "all", Some(shown.mark)).await.unwrap();
    assert_eq!(running.deploy(Some("1.1.0"), "all", Some(other.mark)).await.unwrap_err(), Refused::PlanChanged);
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
async fn a_new_generation_is_above_all_that_the_node_has_named_and_shared_by_its_apps() {
    let running = Running::start();
    let garage = node("garage");
    let mut ahead = reported(&garage, 1, vec![]);
    ahead.generation = 20;
    running.say(&garage, Channel::Reported, serde_json::to_vec(&ahead).unwrap()).await;
    running.publish("1.0.0").await;
    let mut other = manifest("1.0.0", b"other");
    other.app = "lamp".parse().unwrap();
    running.engine.publish(row(&other), vec![]).await.unwrap();
    let first = running.deploy(Some("1.0.0"), "garage", None).await.unwrap();
    assert_eq!(first.steps[0].generation, 21);
    let lamp = DeployRequest { app: other.app, ..request(Some("1.0.0"), "garage", None) };
    assert_eq!(running.engine.deploy(lamp).await.unwrap().steps[0].generation, 22);
    let desired: Desired = running.record.value(&garage, Channel::Desired).unwrap();
    assert_eq!(desired.generation, 22);
    assert_eq!(desired.apps.iter().map(|app| app.generation).collect::<Vec<_>>(), [21, 22]);
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

/// Invites and joins, without HTTPS.
struct Enrolment {
    running: Running,
    ca: std::sync::Arc<Ca>,
}

impl Enrolment {
    fn start() -> Self {
        let running = Running::start();
        let ca = std::sync::Arc::new(Ca::create(running.clock.now()).unwrap());
        Self { running, ca }
    }

    async fn invite(&self, secret: &str, name: Option<&str>, uses: u32) -> Result<UnixTime, Refused> {
        let request = InviteRequest { name: name.map(node), expires_secs: 3_600, uses };
        self.running.engine.invite(digest(secret.as_bytes()), request).await
    }

    async fn join(&self, secret: &str, wish: Option<&str>, key: &KeyPair) -> Result<NodeId, Refused> {
        let (ca, csr) = (self.ca.clone(), csr(key));
        let joining = Joining {
            secret: digest(secret.as_bytes()),
            key: digest(key.public_key_raw()),
            wish: wish.map(str::to_owned),
            issue: Box::new(move |node, now| ca.issue_node(node, &csr, now).map_err(|error| error.to_string())),
        };
        self.running.engine.join(joining).await.map(|(node, _)| node)
    }
}

fn key() -> KeyPair {
    KeyPair::generate().unwrap()
}

#[tokio::test]
async fn of_a_hundred_boards_with_one_token_exactly_one_joins() {
    let enrolment = Enrolment::start();
    enrolment.invite("secret", None, 1).await.unwrap();
    let keys: Vec<_> = (0..100).map(|_| key()).collect();
    let names: Vec<_> = (0..100).map(|n| format!("board-{n}")).collect();
    let joins = keys.iter().zip(&names).map(|(key, name)| enrolment.join("secret", Some(name), key));
    let joined = futures_util::future::join_all(joins).await;
    assert_eq!(joined.iter().filter(|joined| joined.is_ok()).count(), 1);
    assert_eq!(joined.iter().filter(|joined| **joined == Err(Refused::TokenUsed)).count(), 99);
    assert_eq!(enrolment.running.reader().read(|view| view.node_names()).unwrap().len(), 1);
}

#[tokio::test]
async fn a_board_whose_answer_was_lost_asks_again_with_its_key_and_nobody_else_can() {
    let enrolment = Enrolment::start();
    enrolment.invite("secret", Some("garage"), 1).await.unwrap();
    let (own, other) = (key(), key());
    assert_eq!(enrolment.join("secret", None, &own).await.unwrap(), node("garage"));
    assert_eq!(enrolment.join("secret", None, &own).await.unwrap(), node("garage"));
    assert_eq!(enrolment.join("secret", None, &other).await.unwrap_err(), Refused::TokenUsed);
    enrolment.running.engine.revoke(node("garage")).await.unwrap();
    assert_eq!(enrolment.join("secret", None, &own).await.unwrap_err(), Refused::TokenUsed, "revoked is revoked");
}

#[tokio::test]
async fn tokens_that_are_wrong_used_or_expired_and_names_that_are_taken_are_refused_with_their_code() {
    let enrolment = Enrolment::start();
    enrolment.invite("many", None, 3).await.unwrap();
    let code = |joined: Result<NodeId, Refused>| joined.unwrap_err().code();
    assert_eq!(code(enrolment.join("guess", Some("a"), &key()).await), "token_unknown");
    assert_eq!(enrolment.join("many", Some("Attic.local"), &key()).await.unwrap(), node("attic"));
    assert_eq!(code(enrolment.join("many", Some("attic"), &key()).await), "name_taken");
    assert_eq!(code(enrolment.join("many", Some("coordinator"), &key()).await), "name_reserved");
    assert_eq!(code(enrolment.join("many", Some("all"), &key()).await), "name_reserved");
    assert_eq!(code(enrolment.join("many", Some("no name!"), &key()).await), "name_invalid");
    assert_eq!(code(enrolment.join("many", None, &key()).await), "name_invalid");
    assert_eq!(
        enrolment.join("many", Some("cellar"), &key()).await.unwrap(),
        node("cellar"),
        "refusals use nothing up"
    );

    enrolment.running.engine.revoke(node("cellar")).await.unwrap();
    assert_eq!(code(enrolment.join("many", Some("cellar"), &key()).await), "name_revoked");
    let invited = async |name| enrolment.invite("x", name, 1).await.unwrap_err().code();
    assert_eq!(invited(Some("cellar")).await, "name_revoked");
    assert_eq!(invited(Some("attic")).await, "name_taken");
    assert_eq!(invited(Some("coordinator")).await, "name_reserved");

    enrolment.invite("named", Some("loft"), 1).await.unwrap();
    assert_eq!(enrolment.join("named", Some("shed"), &key()).await.unwrap(), node("loft"), "the invite names the node");
    assert_eq!(code(enrolment.join("named", None, &key()).await), "token_used");

    enrolment.running.clock.advance(3_600);
    assert_eq!(code(enrolment.join("many", Some("late"), &key()).await), "token_expired");
}

#[tokio::test]
async fn an_invite_that_makes_no_sense_is_refused() {
    let enrolment = Enrolment::start();
    for (expires_secs, uses, name) in
        [(0, 1, None), (30 * 86_400 + 1, 1, None), (60, 0, None), (60, 1_001, None), (60, 2, Some("garage"))]
    {
        let request = InviteRequest { name: name.map(node), expires_secs, uses };
        let refused = enrolment.running.engine.invite(Digest([1; 32]), request).await.unwrap_err();
        assert_eq!(refused.code(), "invite_invalid", "{expires_secs} {uses} {name:?}");
    }
}

#[tokio::test]
async fn a_signing_request_that_the_ca_refuses_uses_no_invite_up() {
    let enrolment = Enrolment::start();
    enrolment.invite("secret", Some("garage"), 1).await.unwrap();
    let broken = Joining {
        secret: digest(b"secret"),
        key: Digest([1; 32]),
        wish: None,
        issue: Box::new(|_, _| Err("its key is not ECDSA on P-256".into())),
    };
    let refused = enrolment.running.engine.join(broken).await.unwrap_err();
    assert_eq!(refused.code(), "request_invalid");
    assert_eq!(enrolment.join("secret", None, &key()).await.unwrap(), node("garage"));
}

#[tokio::test]
async fn a_certificate_is_renewed_for_a_node_that_is_not_revoked_even_if_the_database_does_not_know_it() {
    let enrolment = Enrolment::start();
    let renew = |key: &KeyPair| {
        let (ca, csr) = (enrolment.ca.clone(), csr(key));
        let issue = move |node: &NodeId, now| ca.issue_node(node, &csr, now).map_err(|error| error.to_string());
        let renewing = Renewing { node: node("garage"), key: digest(key.public_key_raw()), issue: Box::new(issue) };
        enrolment.running.engine.renew(renewing)
    };
    renew(&key()).await.unwrap();
    enrolment.running.engine.revoke(node("garage")).await.unwrap();
    assert_eq!(renew(&key()).await.unwrap_err(), Refused::Revoked { node: node("garage") });
}

#[tokio::test]
async fn apps_that_were_stopped_make_room_for_others_and_running_ones_do_not() {
    let running = Running::start();
    let garage = node("garage");
    running.report(&garage, 1, vec![]).await;
    let named = |n: usize| -> orangery_wire::AppName { format!("{}-{n:02}", "a".repeat(60)).parse().unwrap() };
    let long = format!("1.0.0-{}", "x".repeat(58));
    for n in 0..=APPS_MAX {
        let mut release = manifest(&long, b"x");
        release.app = named(n);
        running.engine.publish(row(&release), vec![]).await.unwrap();
    }
    let deploy = |n: usize, version: Option<&str>| {
        running.engine.deploy(DeployRequest { app: named(n), ..request(version, "garage", None) })
    };
    for n in 0..APPS_MAX {
        deploy(n, Some(&long)).await.unwrap();
    }
    let payload = running.record.published.lock().unwrap().last().unwrap().2.len();
    assert!(payload < PACKET_BYTES_MAX, "the largest desired state has {payload} bytes");
    assert_eq!(deploy(APPS_MAX, Some(&long)).await.unwrap_err().code(), "too_many_apps");
    let stopped = deploy(5, None).await.unwrap().steps[0].generation;
    assert_eq!(deploy(APPS_MAX, Some(&long)).await.unwrap_err().code(), "too_many_apps", "it may still run");
    let gone = AppReport { app: named(5), ..app_report(stopped, None, None) };
    running.report(&garage, 2, vec![gone]).await;
    deploy(APPS_MAX, Some(&long)).await.unwrap();
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

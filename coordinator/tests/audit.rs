//! The audit log: what is written down, over real HTTPS, and what becomes of a database that somebody tampers with.

#![allow(clippy::unwrap_used)] // A test stops at the first surprise.

mod fixture;

use std::path::Path;
use std::process::{Command as Program, Stdio};
use std::time::Duration;

use fixture::{Fixture, TestClock, app, app_report, node, open_core, reference, reported};
use orangery::api::routes;
use orangery::audit::{Broken, Chain, Kept, PRUNE, Whole};
use orangery::config::Config;
use orangery::engine::{Actor, Command, Core, Engine, Live, Record, Refused};
use orangery::store::Store;
use orangery_wire::messages::ReleaseRef;
use orangery_wire::rest::{
    AuditEntry, AuditLine, AuditPage, DeedRequest, DeployRequest, InviteRequest, Role, TrustRequest,
};
use reqwest::Method;
use rusqlite::Connection;
use serde_json::json;
use tokio::sync::oneshot;

async fn lines(fixture: &Fixture) -> Vec<AuditLine> {
    let (mut all, mut after) = (Vec::new(), Some(0));
    while let Some(place) = after {
        let page: AuditPage = fixture.operator().get(&format!("/v1/audit?limit=7&after={place}")).await.unwrap();
        all.extend(page.entries);
        after = page.next;
    }
    all
}

async fn entries(fixture: &Fixture) -> Vec<AuditEntry> {
    lines(fixture).await.iter().map(|line| serde_json::from_str(&line.entry).unwrap()).collect()
}

fn walk(lines: &[AuditLine]) -> Result<Whole, Broken> {
    let mut chain = Chain::default();
    lines.iter().try_for_each(|line| chain.push(line))?;
    chain.end()
}

fn said(entry: &AuditEntry) -> String {
    format!("{} {} {} {}", entry.who, entry.deed, entry.object, entry.outcome)
}

/// Everything that was sent before has been done: the engine does things in order.
async fn settled(fixture: &Fixture) {
    let _ = fixture.engine.revoke(node("nobody")).await;
}

/// A way to change something, with a body that the route can read, and the deed that is written down of it.
fn deeds() -> Vec<(&'static str, &'static str, serde_json::Value, &'static str)> {
    let policy = json!({"app": "greeter", "version": "1.0.0", "to": ["all"], "policy": {}});
    let group =
        json!({"members": {"all": true}, "windows": [{"from": "01:00", "to": "02:00", "zone": "UTC"}], "deed": {}});
    vec![
        ("/v1/users", "/v1/users", json!({"name": "kim", "role": "viewer"}), "user.add"),
        ("/v1/users/{user}/role", "/v1/users/kim/role", json!({"role": "operator"}), "user.role"),
        ("/v1/users/{user}/tokens", "/v1/users/kim/tokens", json!({}), "token.make"),
        ("/v1/users/{user}/password", "/v1/users/kim/password", json!({"password": "a quiet tram"}), "user.password"),
        ("/v1/users/{user}/sessions/end", "/v1/users/kim/sessions/end", json!({}), "session.end"),
        ("/v1/tokens/{token}/revoke", "/v1/tokens/0/revoke", json!({}), "token.revoke"),
        ("/v1/users/{user}/remove", "/v1/users/kim/remove", json!({}), "user.remove"),
        ("/v1/invites", "/v1/invites", json!({"expires_secs": 60, "uses": 1}), "invite.make"),
        ("/v1/trust/online-keys", "/v1/trust/online-keys", json!({}), "trust.online_keys"),
        ("/v1/deployments", "/v1/deployments", json!({"app": "greeter", "version": "1.0.0", "to": "all"}), "deploy"),
        ("/v1/rollouts", "/v1/rollouts", policy, "rollout.begin"),
        ("/v1/rollouts/{rollout}/pause", "/v1/rollouts/9/pause", json!({}), "rollout.pause"),
        ("/v1/rollouts/{rollout}/resume", "/v1/rollouts/9/resume", json!({}), "rollout.resume"),
        ("/v1/rollouts/{rollout}/promote", "/v1/rollouts/9/promote", json!({}), "rollout.promote"),
        ("/v1/rollouts/{rollout}/revert", "/v1/rollouts/9/revert", json!({}), "rollout.revert"),
        ("/v1/rollouts/{rollout}/approve", "/v1/rollouts/9/approve", json!({}), "rollout.approve"),
        ("/v1/rollouts/{rollout}/ignore-windows", "/v1/rollouts/9/ignore-windows", json!({}), "rollout.ignore-windows"),
        ("/v1/groups/{group}", "/v1/groups/shed", group, "group.set"),
        ("/v1/groups/{group}/remove", "/v1/groups/shed/remove", json!({}), "group.remove"),
        ("/v1/nodes/{node}/hold", "/v1/nodes/garage/hold", json!({"deed": {"note": "so"}}), "node.hold"),
        ("/v1/nodes/{node}/release", "/v1/nodes/garage/release", json!({}), "node.release"),
        ("/v1/nodes/{node}/revoke", "/v1/nodes/garage/revoke", json!({}), "node.revoke"),
        ("/v1/notify/{target}/test", "/v1/notify/nobody/test", json!({}), "notify.test"),
    ]
}

/// A target of notifications at which nobody listens.
const NOBODY: &str = "[https]\nlisten = '127.0.0.1:0'\nurl = 'https://127.0.0.1:0'\n\
    [mqtt]\nlisten = '127.0.0.1:0'\nadvertise = '127.0.0.1:0'\n\
    [[notify]]\nname = 'nobody'\nkind = 'webhook'\nurl = 'http://127.0.0.1:1'\nallow_http = true\n";

#[tokio::test]
async fn every_route_that_changes_something_leaves_an_entry_with_who_and_from_where() {
    let settings = Config::parse(NOBODY, std::path::Path::new("/nowhere/coordinator.toml")).unwrap();
    let fixture = Fixture::start_telling(&settings.notify).await;
    fixture.join("garage").await;
    fixture.publish("1.0.0").await;
    let request = TrustRequest { root: None, targets: Some(fixture.owner.lock().unwrap().targets()) };
    let _: serde_json::Value = fixture.operator().post("/v1/trust", &request).await.unwrap();
    let mut seen: Vec<String> = ["/v1/blobs/{digest}", "/v1/releases", "/v1/trust"].map(str::to_owned).into();
    let before: Vec<String> = entries(&fixture).await.iter().map(|entry| entry.deed.clone()).collect();
    for deed in ["artifact.put", "release.publish", "trust.accept"] {
        assert!(before.iter().any(|there| there == deed), "{deed}: {before:?}");
    }
    let ada = fixture.user("ada", Role::Admin).await;
    for (route, path, body, deed) in deeds() {
        let count = entries(&fixture).await.len();
        let answer = ada.request(Method::POST, path).json(&body).send().await.unwrap();
        let status = answer.status().as_u16();
        let after = entries(&fixture).await;
        let entry = after.iter().skip(count).find(|entry| entry.deed == deed);
        let entry = entry.unwrap_or_else(|| panic!("{route} ({status}) leaves no {deed}"));
        assert_eq!((entry.who.as_str(), entry.from.as_deref()), ("ada", Some("127.0.0.1")), "{route}");
        assert!(entry.token.as_ref().is_some_and(|token| token.len() == 12), "{route}");
        assert_eq!(entry.outcome == "done", status < 300, "{route} ({status}): {}", entry.outcome);
        seen.push(route.to_owned());
    }
    // What is written down of signing in and out is tried in sessions.rs. An output is a node's answer; the question is written down.
    let elsewhere = ["/v1/join", "/v1/renew", "/v1/output", "/v1/session", "/v1/session/password"];
    for route in routes() {
        let is_read = matches!(route.method, Method::GET | Method::HEAD) || route.path.ends_with("/plan");
        let is_here = seen.iter().any(|path| path == route.path) || elsewhere.contains(&route.path);
        assert!(
            is_read || is_here,
            "{} {} changes something, and nobody tries what is written down",
            route.method,
            route.path
        );
    }
    walk(&lines(&fixture).await).unwrap();
}

#[tokio::test]
async fn who_signed_a_release_and_when_each_node_proved_it_is_written_down_once() {
    let fixture = Fixture::start().await;
    let garage = node("garage");
    fixture.join("garage").await;
    let manifest = fixture.publish("1.0.0").await;
    let release = reference(&manifest);
    let otto = fixture.user("otto", Role::Operator).await;
    let to_all = DeployRequest {
        app: app(),
        version: Some(release.version.clone()),
        to: "all".into(),
        plan: None,
        deed: DeedRequest { note: Some("for the winter".into()) },
    };
    let _: serde_json::Value = otto.post("/v1/deployments", &to_all).await.unwrap();
    let told = Some(&release);
    fixture.report(&reported(&garage, 1, vec![app_report(1, told, None)])).await;
    fixture.report(&reported(&garage, 2, vec![app_report(1, told, told)])).await;
    settled(&fixture).await;
    let proven_at = fixture.clock.now();
    fixture.clock.advance(60);
    // The same again, something that nobody told it, and what it claims to have been told in ever newer generations.
    fixture.report(&reported(&garage, 3, vec![app_report(1, told, told)])).await;
    let other = ReleaseRef { version: "6.6.6".parse().unwrap(), ..release.clone() };
    for sequence in 4..10 {
        fixture.report(&reported(&garage, sequence, vec![app_report(sequence, Some(&other), Some(&other))])).await;
    }
    settled(&fixture).await;
    let all = entries(&fixture).await;
    let of = |deed: &str| all.iter().filter(|entry| entry.deed == deed).collect::<Vec<_>>();
    let [published] = of("release.publish")[..] else { panic!("{all:#?}") };
    assert_eq!(said(published), "owner release.publish greeter 1.0.0 done");
    assert_eq!(published.detail["keys"], fixture.owner.lock().unwrap().key_id());
    assert_eq!(published.detail["release"], release.id.to_string());
    let [deployed] = of("deploy")[..] else { panic!("{all:#?}") };
    assert_eq!(said(deployed), "otto deploy greeter 1.0.0 done");
    assert_eq!((deployed.detail["to"].as_str(), deployed.detail["changed"].as_str()), ("all", "1"));
    assert_eq!(deployed.detail["note"], "for the winter");
    let [proven] = of("release.prove")[..] else { panic!("{all:#?}") };
    assert_eq!(said(proven), "node:garage release.prove greeter 1.0.0 done");
    assert_eq!((proven.at, proven.detail["release"].as_str()), (proven_at, release.id.to_string().as_str()));
    // Who joined, by which invite, and who had made that.
    let [joined] = of("node.join")[..] else { panic!("{all:#?}") };
    let invite = joined.who.strip_prefix("invite:").unwrap();
    assert_eq!(joined.object, "node garage");
    assert!(all.iter().any(|entry| said(entry) == format!("owner invite.make invite {invite} done")));
    walk(&lines(&fixture).await).unwrap();
}

/// Runs the real command against the fixture.
async fn orangery(fixture: &Fixture, words: &'static [&'static str]) -> (i32, String) {
    let home = fixture.laptop(&fixture.url);
    let run = move || {
        let mut program = Program::new(env!("CARGO_BIN_EXE_orangery"));
        program.arg("--dir").arg(&home).args(words).stdin(Stdio::null()).output().unwrap()
    };
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.code().unwrap(), said)
}

/// A connection to the coordinator's database from outside, as whoever has its machine could open one.
fn database(directory: &Path) -> Connection {
    let connection = Connection::open(directory.join("coordinator.db")).unwrap();
    connection.busy_timeout(Duration::from_secs(5)).unwrap();
    connection.execute_batch("CREATE TABLE IF NOT EXISTS kept AS SELECT * FROM audit").unwrap();
    connection
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verify_names_the_entry_that_was_changed_removed_put_in_or_moved() {
    let fixture = Fixture::start().await;
    for n in 0..5 {
        fixture.user(&format!("kim-{n}"), Role::Viewer).await;
    }
    let (code, said) = orangery(&fixture, &["audit", "verify"]).await;
    assert_eq!(code, 0, "{said}");
    assert!(said.starts_with("The audit log is whole: 10 entries, 1 to 10."), "{said}");
    let connection = database(fixture.directory.path());
    let second = "(SELECT entry FROM kept WHERE sequence = 2), digest = (SELECT digest FROM kept WHERE sequence = 2)";
    let third = "(SELECT entry FROM kept WHERE sequence = 3), digest = (SELECT digest FROM kept WHERE sequence = 3)";
    let tampered: [(String, u64, &str); 7] = [
        ("UPDATE audit SET entry = replace(entry, 'owner', 'nobody') WHERE sequence = 3".into(), 3, "it was changed"),
        ("UPDATE audit SET entry = 'nothing' WHERE sequence = 10".into(), 10, "it was changed"),
        ("DELETE FROM audit WHERE sequence = 3".into(), 4, "entry 3 is missing before it"),
        ("DELETE FROM audit WHERE sequence IN (5, 6, 7)".into(), 8, "entries 5 to 7 are missing before it"),
        ("DELETE FROM audit WHERE sequence < 3".into(), 3, "entries 1 to 2 are missing"),
        (
            format!(
                "UPDATE audit SET entry = {third} WHERE sequence = 2; UPDATE audit SET entry = {second} WHERE sequence = 3"
            ),
            2,
            "it says that it is entry 3: it was moved",
        ),
        (
            "INSERT INTO audit SELECT 11, digest, entry FROM kept WHERE sequence = 10".into(),
            11,
            "it says that it is entry 10: it was moved",
        ),
    ];
    for (sql, place, reason) in tampered {
        connection.execute_batch(&sql).unwrap();
        let (code, said) = orangery(&fixture, &["audit", "verify"]).await;
        assert_eq!(code, 1, "{sql}: {said}");
        assert!(said.contains(&format!("Entry {place}: ")) && said.contains(reason), "{sql}: {said}");
        let (code, said) = orangery(&fixture, &["audit"]).await;
        assert_eq!(code, 0, "what is left can still be read: {said}");
        connection.execute_batch("DELETE FROM audit; INSERT INTO audit SELECT * FROM kept").unwrap();
    }
    assert_eq!(orangery(&fixture, &["audit", "verify"]).await.0, 0, "all is as it was");

    // The newest is gone: nothing shows it until the coordinator, which remembers it, writes the next.
    connection.execute_batch("DELETE FROM audit WHERE sequence = 10").unwrap();
    assert_eq!(orangery(&fixture, &["audit", "verify"]).await.0, 0);
    fixture.user("lee", Role::Viewer).await;
    let (code, said) = orangery(&fixture, &["audit", "verify"]).await;
    assert!(code == 1 && said.contains("Entry 11: entry 10 is missing before it"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_is_listed_by_time_and_by_name_for_people_and_for_programs() {
    let fixture = Fixture::start().await;
    let otto = fixture.user("otto", Role::Operator).await;
    let _: serde_json::Value =
        otto.post("/v1/invites", &InviteRequest { name: None, expires_secs: 60, uses: 1 }).await.unwrap();
    let denied = otto.get::<AuditPage>("/v1/audit").await.unwrap_err();
    assert_eq!((denied.status, denied.body.code.as_str()), (403, "forbidden"));
    let (code, said) = orangery(&fixture, &["audit", "--who", "otto"]).await;
    assert_eq!((code, said.lines().count()), (0, 1), "{said}");
    assert!(said.contains("otto from 127.0.0.1  invite.make  invite "), "{said}");
    let (_, said) = orangery(&fixture, &["audit", "--since", "1h", "--json"]).await;
    let all: Vec<AuditEntry> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(all.len(), 3);
    let (_, said) = orangery(&fixture, &["audit", "--since", "2100-01-01"]).await;
    assert_eq!(said, "");
    let (_, said) = orangery(&fixture, &["audit", "--limit", "1"]).await;
    assert_eq!(said.lines().count(), 1);
    // What was noted is still there; something else is not.
    let newest = lines(&fixture).await.pop().unwrap();
    let noted: &'static str = format!("{}:{}", newest.sequence, newest.digest).leak();
    let words: &'static [&'static str] = vec!["audit", "verify", "--noted", noted].leak();
    assert_eq!(orangery(&fixture, words).await.0, 0);
    let forged: &'static str = format!("{}:{}", newest.sequence, "0".repeat(64)).leak();
    let words: &'static [&'static str] = vec!["audit", "verify", "--noted", forged].leak();
    let (code, said) = orangery(&fixture, words).await;
    assert!(code == 1 && said.contains("it is not the one that was noted"), "{said}");
    let wrong = fixture.operator().get::<AuditPage>("/v1/audit?newest=3&after=1").await.unwrap_err();
    assert_eq!(wrong.body.code, "invalid_query");
}

fn record(text: &str) -> Command {
    Command::Record(Record::new("test", text), oneshot::channel().0)
}

fn kept(core: &Core) -> Vec<AuditLine> {
    core.view().audit(0, 1_000, &orangery::store::AuditFilter::default()).unwrap().0
}

#[test]
fn of_a_long_log_the_oldest_entries_go_and_the_chain_still_holds() {
    let directory = tempfile::tempdir().unwrap();
    let clock = TestClock::now_by_system();
    let mut core = open_core(directory.path(), &clock).keeping(Kept { entries_max: 100, secs: None });
    for n in 0..100 {
        drop(core.apply((0..10).map(|k| record(&format!("{n} {k}"))).collect()).unwrap());
        let lines = kept(&core);
        assert!(lines.len() <= 100 + 64 + 1, "{} entries", lines.len());
        walk(&lines).unwrap();
    }
    let lines = kept(&core);
    let whole = walk(&lines).unwrap();
    assert!(whole.first > 800 && whole.last.sequence > 1_000, "{whole:?}");
    assert!(lines.iter().any(|line| line.entry.contains(PRUNE)));
    // One more than was said to be deleted.
    assert_eq!(walk(&lines[1..]).unwrap_err().sequence, whole.first + 1);
    // And over a restart.
    drop(core);
    let mut core = open_core(directory.path(), &clock);
    drop(core.apply(vec![record("after")]).unwrap());
    assert_eq!(walk(&kept(&core)).unwrap().last.sequence, whole.last.sequence + 1);
}

#[test]
fn entries_that_are_too_old_go_even_if_no_new_ones_come_and_a_clock_that_leapt_takes_no_younger_ones_along() {
    let directory = tempfile::tempdir().unwrap();
    let clock = TestClock::now_by_system();
    let days = |days: u64| days * 86_400;
    let mut core = open_core(directory.path(), &clock).keeping(Kept { entries_max: 1_000, secs: Some(days(30)) });
    let look = || Command::LookAtRollouts(oneshot::channel().0);
    drop(core.apply(vec![record("one"), record("two")]).unwrap());
    clock.advance(days(20));
    drop(core.apply(vec![record("three"), look()]).unwrap());
    assert_eq!(kept(&core).len(), 3);
    clock.advance(days(11));
    drop(core.apply(vec![look()]).unwrap());
    let lines = kept(&core);
    assert_eq!(lines.first().unwrap().sequence, 3, "{lines:?}");
    walk(&lines).unwrap();
    drop(core.apply(vec![look()]).unwrap());
    assert_eq!(kept(&core).len(), lines.len(), "a look in which nothing is too old leaves no entry");
}

#[test]
fn a_deed_that_the_database_did_not_take_has_no_entry_and_leaves_no_gap() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("coordinator.db");
    let store = Store::open(&path).unwrap();
    store.set_busy_timeout(Duration::from_millis(1)).unwrap();
    let live = std::sync::Arc::new(Live::load(store.view()).unwrap());
    let clock = TestClock::now_by_system();
    let mut core = Core::new(store, live, clock.clock(), 1_000).unwrap();
    drop(core.apply(vec![record("one")]).unwrap());
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert!(core.apply(vec![record("two")]).is_err());
    other.execute_batch("ROLLBACK").unwrap();
    drop(core.apply(vec![record("three")]).unwrap());
    let whole = walk(&kept(&core)).unwrap();
    assert_eq!(whole.last.sequence, 2);
}

#[tokio::test]
async fn what_a_user_is_refused_is_written_down_and_what_anybody_else_is_refused_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let clock = TestClock::now_by_system();
    let engine = Engine::start(open_core(directory.path(), &clock), fixture::Record::default().outlets()).unwrap();
    let actor = |who: &str, token: Option<&str>| Actor { who: who.into(), token: token.map(str::to_owned), from: None };
    let by_user = engine.by(actor("kim", Some("0123456789ab")));
    let by_other = engine.by(actor("stranger", None));
    for engine in [&by_other, &by_user, &by_other] {
        assert!(matches!(engine.revoke(node("nobody")).await, Err(Refused::UnknownNode { .. })));
    }
    tokio::task::spawn_blocking(move || engine.stop()).await.unwrap();
    let core = open_core(directory.path(), &clock);
    let entries: Vec<AuditEntry> = kept(&core).iter().map(|line| serde_json::from_str(&line.entry).unwrap()).collect();
    let said: Vec<String> = entries.iter().map(said).collect();
    assert_eq!(said, ["kim node.revoke node nobody unknown_node"]);
}

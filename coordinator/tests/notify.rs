//! Notifications through real servers over real TLS on loopback: what services are sent, and that nothing is lost, told out of
//! order or held up when they fail.

#![allow(clippy::unwrap_used)] // A test stops at the first surprise.

#[path = "notify/failing.rs"]
mod failing;
mod fixture;
#[path = "notify/hook.rs"]
mod hook;
#[path = "notify/mail.rs"]
mod mail;
#[path = "notify/postbox.rs"]
mod postbox;
#[path = "notify/refused.rs"]
mod refused;
#[path = "notify/silence.rs"]
mod silence;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fixture::{Fixture, Record, TestClock, event, eventually, from_node, manifest, node, open_core, reference};
use hook::{Hook, Scripted, authority};
use orangery::ca::Ca;
use orangery::config::Config;
use orangery::engine::Engine;
use orangery::notify::{Settings, Targets, deliver};
use orangery::store::{Reader, Store, TargetRow};
use orangery_wire::messages::{Refusal, RefusalCode, What};
use orangery_wire::rest::{AuditPage, NotifyTargetView, NotifyTestView, Role};
use orangery_wire::topics::Channel;
use serde_json::json;
use tokio::task::JoinHandle;

const HOSTILE: &str = "<!channel> @everyone\r\nBcc: all@example.org\r\n.\r\n<@U1> [x](http://evil) \u{202e}";

/// Settings with these targets.
fn settings(targets: &str) -> Settings {
    let rest = "[https]\nlisten = '127.0.0.1:0'\nurl = 'https://127.0.0.1:0'\n\
                [mqtt]\nlisten = '127.0.0.1:0'\nadvertise = '127.0.0.1:0'\n";
    Config::parse(&format!("{rest}{targets}"), Path::new("/nowhere/coordinator.toml")).unwrap().notify
}

/// A coordinator's engine that tells targets.
struct Telling {
    engine: Engine,
    tasks: Vec<JoinHandle<()>>,
    clock: TestClock,
    directory: PathBuf,
}

impl Telling {
    fn start(directory: &Path, settings: &Settings) -> Self {
        let mut telling = Self::quiet(directory, settings);
        let reader = Arc::new(Reader::open(&directory.join("coordinator.db")).unwrap());
        let targets = Targets::open(settings, "https://nas:8443").unwrap();
        let (engine, clock) = (&telling.engine, &telling.clock);
        let tell =
            |target: &Arc<_>| tokio::spawn(deliver(Arc::clone(target), reader.clone(), engine.clone(), clock.clock()));
        telling.tasks = targets.all().iter().map(tell).collect();
        telling
    }

    /// All of it but that anybody is told.
    fn quiet(directory: &Path, settings: &Settings) -> Self {
        let clock = TestClock::now_by_system();
        let database = directory.join("coordinator.db");
        let mut store = Store::open(&database).unwrap();
        let names = settings.targets.iter().map(|target| target.name.as_str());
        store.commit(|batch| batch.set_notify_targets(names)).unwrap();
        drop(store);
        let core = open_core(directory, &clock).telling(settings.silent_secs);
        let engine = Engine::start(core, Record::default().outlets()).unwrap();
        Self { engine, tasks: Vec::new(), clock, directory: directory.to_owned() }
    }

    /// A node refuses a release, so many times.
    async fn refuse(&self, name: &str, from: u64, count: u64, reason: &str) {
        let release = reference(&manifest("1.1.0", b"x"));
        for sequence in from..from + count {
            let refusal = Refusal { release: release.id, code: RefusalCode::Unhealthy, reason: reason.to_owned() };
            let mut event = event(&node(name), 7, sequence);
            event.app = Some(fixture::app());
            event.what =
                What::Refused { generation: sequence, version: Some(release.version.clone()), refusal, evidence: None };
            let said = serde_json::to_vec(&event).unwrap();
            self.engine.hear(from_node(&node(name), Channel::Event, said)).await.unwrap();
        }
    }

    fn row(&self, name: &str) -> TargetRow {
        let reader = Reader::open(&self.directory.join("coordinator.db")).unwrap();
        reader.read(|view| view.notify_target(name)).unwrap().unwrap()
    }

    /// As a power cut ends it: nobody is told that it ends.
    async fn cut(self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        let engine = self.engine.clone();
        tokio::task::spawn_blocking(move || engine.stop()).await.unwrap();
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

struct Place {
    directory: tempfile::TempDir,
    ca: Ca,
    ca_file: PathBuf,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (ca, ca_file) = authority(directory.path());
        Self { directory, ca, ca_file }
    }

    fn target(&self, name: &str, kind: &str, more: &str) -> String {
        let ca_file = self.ca_file.display();
        format!("[[notify]]\nname = '{name}'\nkind = '{kind}'\nca_file = '{ca_file}'\nper_minute = 600\n{more}\n")
    }

    fn start(&self, targets: &str) -> Telling {
        Telling::start(self.directory.path(), &settings(targets))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_told_in_fields_with_a_signature_that_its_owner_can_check() {
    let (place, secret) = (Place::new(), "0123456789abcdef0123456789abcdef");
    let hook = Hook::start(&place.ca).await;
    let more = format!("url = '{}/in?who=us'\nsecret = '{secret}'", hook.url());
    let telling = place.start(&place.target("ops", "webhook", &more));
    telling.refuse("attic", 1, 1, HOSTILE).await;
    let post = hook.gets(1).await.remove(0);
    let signature = post.header("orangery-signature");
    let (time, tag) = signature.strip_prefix("t=").and_then(|rest| rest.split_once(",v1=")).unwrap();
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
    let expected = ring::hmac::sign(&key, format!("{time}.{}", post.raw).as_bytes());
    assert_eq!(tag, expected.as_ref().iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}")));
    let body = post.json();
    assert_eq!((&body["target"], &body["coordinator"]), (&json!("ops"), &json!("https://nas:8443")));
    assert_eq!(body["title"], "attic refused greeter 1.1.0");
    let notice = &body["notices"][0];
    assert_eq!(
        (&notice["kind"], &notice["node"], &notice["code"]),
        (&json!("release_refused"), &json!("attic"), &json!("unhealthy"))
    );
    assert_eq!(
        notice["text"],
        "<!channel> @everyone Bcc: all@example.org . <@U1> [x](http://evil) \u{fffd} [unhealthy]"
    );
    assert_eq!((post.path.as_str(), post.header("orangery-message").as_str()), ("/in", "1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_a_thousand_refusals_is_one_message() {
    let place = Place::new();
    let hook = Hook::start(&place.ca).await;
    let slack = place.target("slack", "slack", &format!("url = '{}/slack'", hook.url()));
    let discord = place.target("discord", "discord", &format!("url = '{}/discord'", hook.url()));
    let ntfy = place.target("ntfy", "ntfy", &format!("url = '{}'\ntopic = 'fleet'\ntoken = 'tk_secret'", hook.url()));
    let all = settings(&format!("{slack}{discord}{ntfy}"));
    let telling = Telling::quiet(place.directory.path(), &all);
    telling.refuse("attic", 1, 1_000, HOSTILE).await;
    telling.cut().await;
    let telling = Telling::start(place.directory.path(), &all);
    let told = |path: &str| {
        let mut posts = hook.posts();
        posts.retain(|post| post.path == path);
        assert_eq!(posts.len(), 1, "{path}");
        posts.remove(0)
    };
    hook.gets(3).await;
    let body = told("/slack").json();
    assert!(body["blocks"][0]["text"]["text"].as_str().unwrap().ends_with("1000 releases refused"), "{body}");
    let text = body["blocks"][1]["text"]["text"].as_str().unwrap();
    assert!(text.ends_with("\nand 990 more") && !text.contains(['<', '>']), "{text}");
    let body = told("/discord").json();
    let content = body["content"].as_str().unwrap();
    assert!(content.ends_with("\nand 990 more") && content.encode_utf16().count() <= 2_000, "{content}");
    assert_eq!(body["allowed_mentions"], json!({ "parse": [] }));
    let post = told("/");
    assert_eq!((&post.json()["topic"], post.header("authorization").as_str()), (&json!("fleet"), "Bearer tk_secret"));
    let message = post.json()["message"].as_str().unwrap().to_owned();
    assert!(message.ends_with("\nand 990 more") && message.len() <= 4_096, "{message}");
    assert!(post.headers.values().all(|value| !value.to_str().unwrap_or_default().contains("Bcc")));
    eventually("its place is kept", async || (telling.row("slack").told == 1_000).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_in_the_middle_costs_nothing_and_keeps_the_order() {
    let place = Place::new();
    let hook = Hook::start(&place.ca).await;
    let target = place.target("ops", "webhook", &format!("url = '{}'", hook.url()));
    // The service has it, and the coordinator does not learn that.
    hook.will([Scripted::Hangs]);
    let telling = place.start(&target);
    telling.refuse("attic", 1, 1, "first").await;
    hook.gets(1).await;
    telling.refuse("attic", 2, 2, "later").await;
    telling.cut().await;
    let telling = place.start(&target);
    let posts = hook.gets(4).await;
    let ids: Vec<_> = posts.iter().map(|post| post.json()["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids, ["1", "1", "2", "3"], "told at least once, in order, and the same message by the same id");
    eventually("its place is kept", async || (telling.row("ops").told == 3).then_some(())).await;
    telling.cut().await;
    // A third start has nothing to say.
    let telling = place.start(&target);
    telling.refuse("attic", 4, 1, "new").await;
    assert_eq!(hook.gets(5).await.last().unwrap().json()["id"], "4");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_hangs_holds_up_neither_the_engine_nor_the_others() {
    let place = Place::new();
    let (hanging, well) = (Hook::start(&place.ca).await, Hook::start(&place.ca).await);
    hanging.will(std::iter::repeat_n(Scripted::Hangs, 100));
    let stuck = place.target("stuck", "webhook", &format!("url = '{}'", hanging.url()));
    let others = place.target("others", "webhook", &format!("url = '{}'", well.url()));
    let telling = place.start(&format!("{stuck}{others}"));
    telling.refuse("attic", 1, 1, "first").await;
    hanging.gets(1).await;
    let begun = Instant::now();
    for sequence in 2..4 {
        telling.refuse("attic", sequence, 1, "next").await;
        telling.engine.look_at_rollouts().await.unwrap();
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "the engine answers");
    well.gets(3).await;
    let row = telling.row("stuck");
    assert_eq!((row.told, row.failed, hanging.posts().len()), (0, 0, 1), "it still waits for its first answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_that_is_asked_for_is_kept_and_redirects_are_not_followed() {
    let place = Place::new();
    let (hook, elsewhere) = (Hook::start(&place.ca).await, Hook::start(&place.ca).await);
    let to = vec![("location", elsewhere.url())];
    let asked = vec![("retry-after", "3".to_owned())];
    hook.will([Scripted::Says(307, to, String::new()), Scripted::Says(429, asked, "slow down".into())]);
    let telling = place.start(&place.target("ops", "webhook", &format!("url = '{}'", hook.url())));
    telling.refuse("attic", 1, 1, "x").await;
    let posts = hook.gets(2).await;
    let row = eventually("the failure is kept", async || Some(telling.row("ops")).filter(|row| row.failed == 2)).await;
    assert_eq!(row.failure.as_deref(), Some("429 Too Many Requests: slow down"));
    // The tests' clock stands still: had it gone on, what was asked for could have passed by it.
    assert!(row.retry_at.unwrap() >= telling.clock.now() + 3, "{row:?}");
    assert!(hook.gets(3).await[2].at.duration_since(posts[1].at) >= Duration::from_secs(3));
    assert_eq!(elsewhere.posts().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_not_taken_is_given_up_and_the_next_is_told() {
    let place = Place::new();
    let hook = Hook::start(&place.ca).await;
    let token = "tk_hunter2";
    let says = |status| Scripted::Says(status, Vec::new(), format!("no {token}\r\nallowed"));
    hook.will([says(400), says(413), says(422)]);
    let more = format!("url = '{}'\ntopic = 'fleet'\ntoken = '{token}'", hook.url());
    let telling = place.start(&place.target("ops", "ntfy", &more));
    telling.refuse("attic", 1, 1, "poison").await;
    hook.gets(3).await;
    telling.clock.advance(60);
    telling.refuse("attic", 2, 1, "sound").await;
    hook.gets(4).await;
    let row = eventually("it is told", async || Some(telling.row("ops")).filter(|row| row.told == 2)).await;
    assert_eq!((row.sent, row.failed, row.given_up), (1, 3, 1));
    assert_eq!(row.failure.as_deref(), Some("422 Unprocessable Entity: no (secret) allowed"));
    let reader = Reader::open(&place.directory.path().join("coordinator.db")).unwrap();
    let audit = reader.read(|view| view.audit_at(1)).unwrap().unwrap();
    assert!(audit.entry.contains("notify.give_up") && !audit.entry.contains(token), "{}", audit.entry);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_told_within_a_day_is_given_up() {
    let place = Place::new();
    let hook = Hook::start(&place.ca).await;
    let target = place.target("ops", "webhook", &format!("url = '{}'", hook.url()));
    hook.will([Scripted::Says(500, Vec::new(), String::new())]);
    let telling = place.start(&target);
    telling.refuse("attic", 1, 2, "old").await;
    hook.gets(1).await;
    telling.clock.advance(90_000);
    telling.refuse("attic", 3, 1, "new").await;
    let posts = hook.gets(2).await;
    assert_eq!(posts[1].json()["id"], "3");
    assert_eq!(telling.row("ops").given_up, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_told_is_shown_to_users_and_tested_by_admins() {
    let place = Place::new();
    let hook = Hook::start(&place.ca).await;
    let secret = format!("{}/services/T0/B0/hunter2", hook.url());
    let fixture = Fixture::start_telling(&settings(&place.target("team", "slack", &format!("url = '{secret}'")))).await;
    fixture.join("garage").await;
    let viewer = fixture.user("vera", Role::Viewer).await;
    let targets: Vec<NotifyTargetView> = viewer.get("/v1/notify").await.unwrap();
    let shown = serde_json::to_string(&targets).unwrap();
    assert_eq!((targets[0].kind.as_str(), targets[0].address.clone(), targets[0].waiting), ("slack", hook.url(), 1));
    let test: NotifyTestView = fixture.operator().post("/v1/notify/team/test", &()).await.unwrap();
    assert_eq!((test.delivered, test.answer.as_str()), (true, "200 OK"));
    let post = hook.posts().remove(0);
    assert_eq!(post.path, "/services/T0/B0/hunter2");
    assert_eq!(post.json()["blocks"][1]["text"]["text"], "owner asked for it; nothing is wrong");
    hook.will([Scripted::Says(404, Vec::new(), format!("no_service {secret}"))]);
    let test: NotifyTestView = fixture.operator().post("/v1/notify/team/test", &()).await.unwrap();
    assert_eq!((test.delivered, test.answer.as_str()), (false, "404 Not Found: no_service (secret)"));
    let denied = fixture.operator().post::<NotifyTestView>("/v1/notify/teem/test", &()).await.unwrap_err();
    assert!(denied.status == 404 && denied.body.message.contains("did you mean team?"), "{denied:?}");
    assert_eq!(viewer.post::<NotifyTestView>("/v1/notify/team/test", &()).await.unwrap_err().status, 403);
    let audit: AuditPage = fixture.operator().get("/v1/audit?who=owner").await.unwrap();
    let audit = serde_json::to_string(&audit).unwrap();
    assert!(audit.contains("notify.test") && !audit.contains("hunter2") && !shown.contains("hunter2"), "{audit}");
    let page = viewer.request(reqwest::Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
    for line in [r#"orangery_notify_waiting{target="team"} 1"#, r#"orangery_notify_sent_total{target="team"} 0"#] {
        assert!(page.contains(line), "{page}");
    }
}

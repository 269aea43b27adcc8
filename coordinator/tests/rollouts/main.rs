//! Rollouts through the coordinator's REST API: a real engine and database, nodes that speak as they would.

#![allow(clippy::unwrap_used)] // A test stops at the first surprise.

#[path = "../fixture/mod.rs"]
mod fixture;

mod nodes;
mod windows;

use fixture::{Denied, Fixture, app_report, code, denied_with, node, online, reference, reported};
use orangery_wire::messages::{Desired, Refusal, RefusalCode, ReleaseRef};
use orangery_wire::rest::{
    Allowance, DeedRequest, DeployRequest, OnFailure, Plan, RolloutPlan, RolloutPolicy, RolloutRequest, RolloutView,
    Why,
};
use orangery_wire::topics::Channel;

/// Three nodes that run 1.0.0 of the greeter, and 1.1.0 is published.
struct Site {
    fixture: Fixture,
    old: ReleaseRef,
    new: ReleaseRef,
    sequence: std::cell::Cell<u64>,
}

const NODES: [&str; 3] = ["attic", "cellar", "garage"];

impl Site {
    async fn start() -> Self {
        let fixture = Fixture::start().await;
        for name in NODES {
            fixture.join(name).await;
        }
        let (old, new) = (reference(&fixture.publish("1.0.0").await), reference(&fixture.publish("1.1.0").await));
        fixture.engine.hear(orangery::link::LinkEvent::Up).await.unwrap();
        let site = Self { fixture, old, new, sequence: std::cell::Cell::new(0) };
        let all = DeployRequest {
            app: fixture::app(),
            version: Some(site.old.version.clone()),
            to: "all".into(),
            plan: None,
            deed: DeedRequest::default(),
        };
        site.fixture.operator().post::<Plan>("/v1/deployments", &all).await.unwrap();
        for name in NODES {
            site.fixture.say(&node(name), Channel::Online, online(true)).await;
            site.proves(name, 1, &site.old).await;
        }
        site
    }

    /// A node says that it runs a release, and is looked at.
    async fn proves(&self, name: &str, generation: u64, release: &ReleaseRef) {
        self.report(name, app_report(generation, Some(release), Some(release))).await;
    }

    async fn refuses(&self, name: &str, generation: u64) {
        let mut report = app_report(generation, Some(&self.new), Some(&self.old));
        let reason = "status 500".to_owned();
        report.refusal = Some(Refusal { release: self.new.id, code: RefusalCode::Unhealthy, reason });
        self.report(name, report).await;
    }

    async fn report(&self, name: &str, report: orangery_wire::messages::AppReport) {
        self.sequence.set(self.sequence.get() + 1);
        self.fixture.report(&reported(&node(name), self.sequence.get(), vec![report])).await;
        self.fixture.engine.look_at_rollouts().await.unwrap();
    }

    /// So many seconds pass, and are watched.
    async fn pass(&self, secs: u64) {
        for _ in 0..secs.div_ceil(5) {
            self.fixture.clock.advance(5);
            self.fixture.engine.look_at_rollouts().await.unwrap();
        }
    }

    async fn begin(&self, request: &RolloutRequest) -> Result<RolloutView, Denied> {
        self.fixture.operator().post("/v1/rollouts", request).await
    }

    async fn show(&self, id: u64) -> RolloutView {
        self.fixture.operator().get(&format!("/v1/rollouts/{id}")).await.unwrap()
    }

    async fn deed(&self, id: u64, deed: &str) -> Result<RolloutView, Denied> {
        let request = DeedRequest { note: Some("because".into()) };
        self.fixture.operator().post(&format!("/v1/rollouts/{id}/{deed}"), &request).await
    }

    /// What a node was told last: generation and version.
    fn told(&self, name: &str) -> (u64, String) {
        let desired: Desired = self.fixture.record.value(&node(name), Channel::Desired).unwrap();
        (desired.apps[0].generation, desired.apps[0].release.as_ref().unwrap().version.to_string())
    }

    fn tolds(&self) -> [u64; 3] {
        NODES.map(|name| self.told(name).0)
    }
}

fn request(canary: Option<&str>, soak_secs: u64) -> RolloutRequest {
    RolloutRequest {
        app: fixture::app(),
        version: "1.1.0".parse().unwrap(),
        to: vec!["all".into()],
        canaries: canary.iter().map(|name| node(name)).collect(),
        waves: vec![],
        policy: RolloutPolicy { soak_secs: vec![soak_secs], ..RolloutPolicy::default() },
        deed: DeedRequest { note: None },
        plan: None,
        ignore_windows: false,
    }
}

#[tokio::test]
async fn a_rollout_is_planned_begun_and_goes_on_by_proofs_alone() {
    let site = Site::start().await;
    let operator = site.fixture.operator();
    let asked = request(Some("cellar"), 60);
    let plan: RolloutPlan = operator.post("/v1/rollouts/plan", &asked).await.unwrap();
    let waves: Vec<usize> = plan.waves.iter().map(|wave| wave.nodes.len()).collect();
    assert_eq!((waves, plan.left_out.len(), plan.supersedes.len()), (vec![1, 2], 0, 0));
    assert!(operator.get::<Vec<RolloutView>>("/v1/rollouts").await.unwrap().is_empty(), "a plan changes nothing");

    let begun = site.begin(&RolloutRequest { plan: Some(plan.mark), ..asked.clone() }).await.unwrap();
    assert_eq!((begun.rollout, begun.status.as_str()), (1, "running"));
    assert_eq!(site.tolds(), [1, 2, 1], "the canary alone is told, at once");
    let again = site.begin(&RolloutRequest { plan: Some(plan.mark), ..asked }).await;
    assert_eq!(code(again), (409, "plan_changed".into()));

    site.pass(300).await;
    let why: Why = operator.get("/v1/nodes/attic/why").await.unwrap();
    let waits = why.lines.iter().find(|line| line.code == "in_rollout").unwrap();
    assert!(waits.text.contains("wave 2 of 2") && waits.text.contains("cellar was told"), "{}", waits.text);
    site.proves("cellar", 2, &site.new).await;
    site.pass(50).await;
    assert_eq!(site.tolds(), [1, 2, 1], "it has not soaked");
    site.pass(15).await;
    assert_eq!(site.tolds(), [2, 2, 2]);
    site.proves("attic", 2, &site.new).await;
    site.proves("garage", 2, &site.new).await;
    site.pass(65).await;
    let done = site.show(1).await;
    assert_eq!(done.status, "done", "{}", done.reason);
    let codes: Vec<&str> = done.log.iter().map(|entry| entry.code.as_str()).collect();
    assert_eq!(codes, ["begun", "wave_opened", "wave_opened", "done"]);
    assert_eq!(done.log[0].by.as_deref(), Some("owner"));
    assert_eq!(operator.get::<Vec<RolloutView>>("/v1/rollouts").await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_refusal_pauses_it_and_people_decide() {
    let site = Site::start().await;
    site.begin(&request(Some("cellar"), 60)).await.unwrap();
    site.refuses("cellar", 2).await;
    let paused = site.show(1).await;
    assert_eq!(paused.status, "paused");
    assert!(paused.reason.contains("cellar") && paused.reason.contains("status 500"), "{}", paused.reason);
    assert_eq!(code(site.deed(1, "approve").await), (409, "rollout_not_now".into()));
    assert_eq!(code(site.deed(1, "promote").await), (409, "rollout_not_now".into()));
    assert_eq!(site.deed(1, "resume").await.unwrap().status, "running");
    site.pass(600).await;
    assert_eq!(site.tolds(), [1, 2, 1], "nobody has proven anything");
    assert!(site.deed(1, "promote").await.unwrap().waves[1].promoted.as_ref().is_some_and(|deed| deed.by == "owner"));
    assert_eq!(site.tolds(), [2, 2, 2], "somebody knows better");
    assert_eq!(site.deed(1, "revert").await.unwrap().status, "reverting");
    assert_eq!(NODES.map(|name| site.told(name)), NODES.map(|_| (3, "1.0.0".to_owned())));
    for name in NODES {
        site.proves(name, 3, &site.old).await;
    }
    assert_eq!(site.show(1).await.status, "reverted");
    assert_eq!(code(site.deed(1, "resume").await), (409, "rollout_not_now".into()));
    assert_eq!(code(site.deed(9, "resume").await), (404, "unknown_rollout".into()));
    assert_eq!(code(site.fixture.operator().get::<RolloutView>("/v1/rollouts/x").await), (404, "not_found".into()));
}

#[tokio::test]
async fn whoever_is_notified_hears_of_what_a_rollout_does_and_of_each_thing_once() {
    let site = Site::start().await;
    let mut asked = request(Some("cellar"), 0);
    asked.policy.approve_between = true;
    site.begin(&asked).await.unwrap();
    site.deed(1, "pause").await.unwrap();
    site.deed(1, "resume").await.unwrap();
    site.proves("cellar", 2, &site.new).await;
    site.pass(60).await;
    assert_eq!(site.tolds(), [1, 2, 1], "it waits for approval");
    site.deed(1, "approve").await.unwrap();
    site.proves("attic", 2, &site.new).await;
    site.proves("garage", 2, &site.new).await;
    site.pass(15).await;
    site.deed(1, "revert").await.unwrap();
    for name in NODES {
        site.proves(name, 3, &site.old).await;
    }
    site.begin(&request(Some("cellar"), 60)).await.unwrap();
    site.refuses("cellar", 4).await;
    site.pass(30).await;
    let told = site.fixture.reader().read(|view| view.notices_after(0)).unwrap();
    let words: Vec<(&str, &str)> = told.iter().map(|told| (told.kind.as_str(), told.severity.as_str())).collect();
    let expected = [
        ("node_joined", "info"),
        ("node_joined", "info"),
        ("node_joined", "info"),
        ("rollout_paused", "warning"),
        ("rollout_needs_approval", "warning"),
        ("rollout_done", "info"),
        ("rollout_reverting", "warning"),
        ("rollout_reverted", "warning"),
        ("rollout_paused", "error"),
    ];
    assert_eq!(words, expected);
    assert_eq!(told[3].text, "owner: because");
    assert!(told[4].text.contains("orangery rollout approve 1"), "{}", told[4].text);
    assert_eq!(told[8].title(), "rollout 2 of greeter 1.1.0 is paused");
    assert!(told[8].text.contains("cellar") && told[8].text.contains("status 500"), "{}", told[8].text);
}

#[tokio::test]
async fn a_node_that_is_told_again_has_another_try_in_the_rollout() {
    let site = Site::start().await;
    site.begin(&request(Some("cellar"), 60)).await.unwrap();
    site.refuses("cellar", 2).await;
    assert_eq!(site.show(1).await.status, "paused");
    let app = fixture::app();
    let again = DeployRequest {
        app,
        version: Some(site.new.version.clone()),
        to: "cellar".into(),
        plan: None,
        deed: DeedRequest::default(),
    };
    site.fixture.operator().post::<Plan>("/v1/deployments", &again).await.unwrap();
    assert_eq!(site.tolds(), [1, 3, 1]);
    site.proves("cellar", 3, &site.new).await;
    site.pass(65).await;
    assert_eq!(site.tolds(), [1, 3, 1], "it is still paused");
    site.deed(1, "resume").await.unwrap();
    assert_eq!(site.tolds(), [2, 3, 2], "and proven by now");
}

#[tokio::test]
async fn one_failure_more_than_may_be_takes_the_release_back_by_itself() {
    let site = Site::start().await;
    let mut asked = request(None, 60);
    asked.policy.on_failure = OnFailure::Revert;
    asked.policy.failures = vec![Allowance::Count(1)];
    site.begin(&asked).await.unwrap();
    assert_eq!(site.tolds(), [2, 2, 2]);
    site.refuses("attic", 2).await;
    site.proves("garage", 2, &site.new).await;
    assert_eq!(site.show(1).await.status, "running", "one may fail");
    site.refuses("cellar", 2).await;
    assert_eq!(NODES.map(|name| site.told(name)), NODES.map(|_| (3, "1.0.0".to_owned())));
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused_with_its_code() {
    let site = Site::start().await;
    let refused = async |change: &dyn Fn(&mut RolloutRequest)| {
        let mut asked = request(None, 60);
        change(&mut asked);
        code(site.begin(&asked).await)
    };
    assert_eq!(refused(&|asked| asked.to = vec![]).await, denied_with(422, "rollout_invalid"));
    assert_eq!(refused(&|asked| asked.to = vec!["atic".into()]).await, denied_with(404, "unknown_node"));
    assert_eq!(refused(&|asked| asked.to = vec!["site=moon".into()]).await, denied_with(422, "unknown_label"));
    assert_eq!(refused(&|asked| asked.version = "9.9.9".parse().unwrap()).await.0, 404);
    assert_eq!(refused(&|asked| asked.waves = vec!["50%".parse().unwrap()]).await, denied_with(422, "rollout_invalid"));
    assert_eq!(refused(&|asked| asked.canaries = vec![node("moon")]).await, denied_with(422, "rollout_invalid"));
    assert_eq!(refused(&|asked| asked.policy.done.secs = 0).await, denied_with(422, "rollout_invalid"));
    assert_eq!(refused(&|asked| asked.deed.note = Some("a\u{1b}[2J".into())).await, denied_with(422, "deed_invalid"));
    assert!(site.fixture.operator().get::<Vec<RolloutView>>("/v1/rollouts").await.unwrap().is_empty());
}

#[tokio::test]
async fn nodes_and_rollouts_are_listed_in_pages_that_name_the_next() {
    let site = Site::start().await;
    let operator = site.fixture.operator();
    for soak in [60, 61, 62] {
        site.begin(&request(None, soak)).await.unwrap();
    }
    let pages = async |path: &str, name: &str| {
        let (mut next, mut names, mut sizes) = (Some(path.to_owned()), Vec::new(), Vec::new());
        while let Some(path) = next {
            let answer = operator.request(reqwest::Method::GET, &path).send().await.unwrap();
            let link = answer.headers().get("link").map(|link| link.to_str().unwrap().to_owned());
            let entries: Vec<serde_json::Value> = answer.json().await.unwrap();
            sizes.push(entries.len());
            names.extend(entries.iter().map(|entry| entry[name].to_string()));
            next = link.map(|link| {
                let path = link.strip_prefix('<').and_then(|link| link.strip_suffix(">; rel=\"next\""));
                path.expect("a link to the next page").to_owned()
            });
        }
        (names, sizes)
    };
    let (names, sizes) = pages("/v1/nodes?limit=2", "node").await;
    assert_eq!((names.len(), sizes), (3, vec![2, 1]), "{names:?}");
    assert!(names.is_sorted());
    let (numbers, sizes) = pages("/v1/rollouts?limit=1", "rollout").await;
    assert_eq!((numbers, sizes), (vec!["3".to_owned(), "2".to_owned(), "1".to_owned()], vec![1, 1, 1]));
    assert_eq!(pages("/v1/nodes", "node").await.1, [3]);
    assert_eq!(pages("/v1/nodes?limit=3", "node").await.1, [3], "the last page names no next one");
    for wrong in [
        "/v1/nodes?limit=0",
        "/v1/nodes?after=No%20Node",
        "/v1/rollouts?after=x",
        "/v1/rollouts?after=9223372036854775808",
        "/v1/nodes?page=2",
    ] {
        assert_eq!(
            code(operator.get::<Vec<serde_json::Value>>(wrong).await),
            denied_with(422, "invalid_query"),
            "{wrong}"
        );
    }
}

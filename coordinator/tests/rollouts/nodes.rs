//! Which nodes a rollout has: not those that are held, taken by another, or unfit.

use orangery_wire::rest::{
    DeedRequest, DeployRequest, HoldRequest, HoldView, NodeView, Plan, ReleaseHoldRequest, RolloutPlan, RolloutRequest,
    Why,
};

use super::fixture::{app_report, code, eventually, node, reported};
use super::{Site, request};

#[tokio::test]
async fn a_held_node_is_told_nothing_by_anybody_until_it_is_released() {
    let site = Site::start().await;
    let operator = site.fixture.operator();
    let hold = |secs: Option<u64>, reason: Option<&str>| HoldRequest {
        app: None,
        expires_secs: secs,
        deed: DeedRequest { note: reason.map(str::to_owned) },
    };
    let post = async |hold: &HoldRequest| operator.post::<HoldView>("/v1/nodes/garage/hold", hold).await;
    assert_eq!(code(post(&hold(None, None)).await), (422, "deed_invalid".into()), "a reason is needed");
    assert_eq!(code(post(&hold(Some(0), Some("x"))).await), (422, "deed_invalid".into()));
    let nobody = operator.post::<HoldView>("/v1/nodes/garaeg/hold", &hold(None, Some("x"))).await;
    assert_eq!(code(nobody), (404, "unknown_node".into()));
    post(&hold(Some(1_000), Some("being repaired"))).await.unwrap();
    let shown: NodeView = operator.get("/v1/nodes/garage").await.unwrap();
    assert_eq!(shown.holds[0].deed.note.as_deref(), Some("being repaired"));

    let deploy = DeployRequest {
        app: super::fixture::app(),
        version: Some(site.new.version.clone()),
        to: "garage".into(),
        plan: None,
        deed: DeedRequest::default(),
    };
    let plan: Plan = operator.post("/v1/deployments", &deploy).await.unwrap();
    assert!(
        !plan.steps[0].changes && plan.steps[0].warning.as_ref().is_some_and(|text| text.contains("held by owner"))
    );
    site.begin(&request(None, 0)).await.unwrap();
    assert_eq!(site.tolds(), [2, 2, 1]);
    let why: Why = operator.get("/v1/nodes/garage/why").await.unwrap();
    let codes: Vec<&str> = why.lines.iter().map(|line| line.code.as_str()).collect();
    assert_eq!(codes, ["up_to_date", "held", "in_rollout"]);
    site.pass(1_010).await;
    assert_eq!(site.tolds(), [2, 2, 2], "the hold has ended by itself");

    post(&hold(None, Some("again"))).await.unwrap();
    for _ in 0..2 {
        operator.post::<()>("/v1/nodes/garage/release", &ReleaseHoldRequest { app: None }).await.unwrap();
    }
    assert!(operator.get::<NodeView>("/v1/nodes/garage").await.unwrap().holds.is_empty());
}

#[tokio::test]
async fn a_newer_rollout_takes_the_nodes_that_it_names() {
    let site = Site::start().await;
    site.fixture.publish("1.2.0").await;
    site.begin(&request(Some("cellar"), 60)).await.unwrap();
    let newer = RolloutRequest { version: "1.2.0".parse().unwrap(), to: vec!["attic".into()], ..request(None, 0) };
    let plan: RolloutPlan = site.fixture.operator().post("/v1/rollouts/plan", &newer).await.unwrap();
    assert_eq!((plan.supersedes[0].rollout, plan.supersedes[0].nodes.len()), (1, 1));
    site.begin(&newer).await.unwrap();
    assert_eq!(site.told("attic"), (2, "1.2.0".into()));
    let older = site.show(1).await;
    let state = |name: &str| {
        let nodes = older.waves.iter().flat_map(|wave| &wave.nodes);
        nodes.into_iter().find(|place| place.node.as_str() == name).unwrap().state.clone()
    };
    assert_eq!(
        (state("attic"), state("garage"), older.status.as_str()),
        ("superseded".into(), "wave_ahead".into(), "running")
    );
}

#[tokio::test]
async fn a_node_that_joins_meanwhile_comes_last_and_one_that_does_not_fit_is_left_out() {
    let site = Site::start().await;
    site.begin(&request(Some("cellar"), 60)).await.unwrap();
    site.fixture.join("loft").await;
    site.report("loft", app_report(0, None, None)).await;
    site.fixture.join("barn").await;
    let mut arm = reported(&node("barn"), 1, vec![]);
    arm.platform = "linux/riscv64".into();
    site.fixture.report(&arm).await;
    let view = eventually("loft is in a wave", async || {
        site.fixture.engine.look_at_rollouts().await.unwrap();
        let view = site.show(1).await;
        (view.waves.len() == 3).then_some(view)
    })
    .await;
    assert!(view.waves[2].trailing && view.waves[2].nodes.len() == 1);
    assert_eq!(view.waves[2].nodes[0].node, node("loft"));
    let plan: RolloutPlan = site.fixture.operator().post("/v1/rollouts/plan", &request(None, 0)).await.unwrap();
    assert_eq!(plan.left_out[0].node, node("barn"));
    assert!(plan.left_out[0].reason.contains("linux/riscv64"), "{}", plan.left_out[0].reason);
}

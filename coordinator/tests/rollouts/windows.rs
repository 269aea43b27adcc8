//! Maintenance windows: when a rollout may tell a node.

use orangery_wire::messages::{ClockState, Health};
use orangery_wire::rest::{AuditPage, DeedRequest, GroupRequest, GroupView, Members, RolloutPlan, Why};
use orangery_wire::topics::Channel;

use super::fixture::{Denied, code, node, online};
use super::{Site, request};

/// A window that opens after so many seconds, for an hour.
fn opens_in(site: &Site, secs: u64) -> String {
    let wall = |at: u64| orangery_trust::time::format(at)[11..16].to_owned();
    let from = site.fixture.clock.now() + secs;
    format!("daily {}-{} UTC", wall(from), wall(from + 3_600))
}

async fn group(site: &Site, name: &str, nodes: &[&str], window: &str) -> Result<GroupView, Denied> {
    let members = Members { nodes: nodes.iter().map(|name| node(name)).collect(), ..Members::default() };
    let windows = vec![window.parse().unwrap()];
    let request = GroupRequest { members, windows, deed: DeedRequest::default() };
    site.fixture.operator().post(&format!("/v1/groups/{name}"), &request).await
}

#[tokio::test]
async fn a_node_is_told_inside_of_its_maintenance_window_alone_and_says_when_that_opens() {
    let site = Site::start().await;
    let set = group(&site, "shops", &["attic"], &opens_in(&site, 3 * 3_600)).await.unwrap();
    assert_eq!((set.count, set.open, set.deed.by.as_str()), (1, false, "owner"));
    let plan: RolloutPlan = site.fixture.operator().post("/v1/rollouts/plan", &request(None, 0)).await.unwrap();
    assert_eq!((plan.shut.len(), &plan.shut[0].node, plan.shut[0].opens_at), (1, &node("attic"), set.changes_at));
    site.begin(&request(None, 0)).await.unwrap();
    assert_eq!(site.tolds(), [1, 2, 2]);
    let why: Why = site.fixture.operator().get("/v1/nodes/attic/why").await.unwrap();
    let text = &why.lines.iter().find(|line| line.code == "in_rollout").unwrap().text;
    assert!(text.contains("waits for its window: opens ") && text.contains(" UTC (in 2 h)"), "{text}");
    let view = site.show(1).await;
    assert_eq!(view.waves[0].nodes[0].state, "window");
    assert!(view.reason.contains("attic waits for its window"), "{}", view.reason);

    site.fixture.clock.advance(set.changes_at.unwrap() - site.fixture.clock.now() - 1);
    site.pass(0).await;
    assert_eq!(site.tolds(), [1, 2, 2], "a second is left");
    site.fixture.clock.advance(1);
    site.fixture.engine.look_at_rollouts().await.unwrap();
    assert_eq!(site.tolds(), [2, 2, 2]);
}

#[tokio::test]
async fn a_node_that_is_away_while_its_window_is_open_is_not_told() {
    let site = Site::start().await;
    group(&site, "shops", &["attic"], &opens_in(&site, 0)).await.unwrap();
    site.fixture.say(&node("attic"), Channel::Online, online(false)).await;
    site.begin(&request(None, 0)).await.unwrap();
    site.pass(60).await;
    assert_eq!(site.tolds(), [1, 2, 2]);
    assert_eq!(site.show(1).await.waves[0].nodes[0].state, "away");
    site.fixture.say(&node("attic"), Channel::Online, online(true)).await;
    site.pass(5).await;
    assert_eq!(site.tolds(), [2, 2, 2]);
}

#[tokio::test]
async fn somebody_can_let_a_rollout_ignore_windows_and_is_written_down() {
    let site = Site::start().await;
    group(&site, "shops", &["attic"], &opens_in(&site, 7_200)).await.unwrap();
    site.begin(&request(None, 0)).await.unwrap();
    let view = site.deed(1, "ignore-windows").await.unwrap();
    assert_eq!(view.ignores_windows.unwrap().note.as_deref(), Some("because"));
    assert_eq!(site.tolds(), [2, 2, 2]);
    assert_eq!(code(site.deed(1, "ignore-windows").await), (409, "rollout_not_now".into()));
    assert_eq!(view.log.iter().filter(|entry| entry.code == "windows_ignored").count(), 1);
    let page: AuditPage = site.fixture.operator().get("/v1/audit").await.unwrap();
    let deeds: Vec<&str> = page.entries.iter().map(|line| line.entry.as_str()).collect();
    for deed in ["rollout.ignore-windows", "group.set"] {
        assert!(deeds.iter().any(|entry| entry.contains(deed)), "{deed}: {deeds:?}");
    }
}

#[tokio::test]
async fn a_window_that_never_opens_is_refused_when_it_is_set() {
    let site = Site::start().await;
    let set = |name: &'static str, nodes: &'static [&str], window: &'static str| group(&site, name, nodes, window);
    let said = |answer: Result<GroupView, Denied>| {
        let denied = answer.unwrap_err();
        assert_eq!((denied.status, denied.body.code.as_str()), (422, "group_invalid"), "{}", denied.body.message);
        denied.body.message
    };
    assert!(
        said(set("shops", &["attic"], "sat 02:00-05:00 Europe/Berlim").await).contains("did you mean Europe/Berlin?")
    );
    assert!(said(set("shops", &[], "sat 02:00-05:00 UTC").await).contains("it has no members"));
    assert!(said(set("shops", &["moon"], "sat 02:00-05:00 UTC").await).contains("no node that is there"));
    assert!(said(set("Shops", &["attic"], "sat 02:00-05:00 UTC").await).contains("name"));
    set("shops", &["attic", "cellar"], "daily 02:00-05:00 UTC").await.unwrap();
    let message = said(set("nights", &["attic"], "daily 12:00-13:00 UTC").await);
    assert!(message.contains("the window of attic never opens") && message.contains("nights and shops"), "{message}");
    set("nights", &["attic"], "daily 04:00-13:00 UTC").await.unwrap();
    let operator = site.fixture.operator();
    let never = serde_json::json!({ "members": { "all": true }, "windows": [{ "days": [], "from": "01:00", "to": "02:00", "zone": "UTC" }] });
    assert!(said(operator.post("/v1/groups/all", &never).await).contains("never opens"));
    assert_eq!(operator.get::<Vec<GroupView>>("/v1/groups").await.unwrap().len(), 2);
    let removed = operator.post::<()>("/v1/groups/moon/remove", &DeedRequest::default()).await;
    assert_eq!(code(removed), (404, "unknown_group".into()));
}

#[tokio::test]
async fn no_window_is_open_while_most_nodes_contradict_the_coordinators_clock() {
    let site = Site::start().await;
    group(&site, "shops", &["attic"], &opens_in(&site, 0)).await.unwrap();
    for name in ["attic", "garage"] {
        let at = site.fixture.clock.now() + 9_000;
        let health = Health { at, clock: ClockState::Synced, ..Health::default() };
        site.fixture.say(&node(name), Channel::Health, serde_json::to_vec(&health).unwrap()).await;
    }
    site.begin(&request(None, 0)).await.unwrap();
    assert_eq!(site.tolds(), [1, 2, 2]);
    let view = site.show(1).await;
    assert!(view.reason.contains("the coordinator's clock is 9000 s behind those of its nodes"), "{}", view.reason);
    for name in ["attic", "garage"] {
        let health = Health { at: site.fixture.clock.now(), clock: ClockState::Synced, ..Health::default() };
        site.fixture.say(&node(name), Channel::Health, serde_json::to_vec(&health).unwrap()).await;
    }
    site.pass(5).await;
    assert_eq!(site.tolds(), [2, 2, 2]);
}

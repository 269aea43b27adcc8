use orangery_wire::messages::{FORMAT, RefusalCode, Reported, TrustReport};
use orangery_wire::{Digest, ReleaseId, Version};

use super::*;

const NOW: UnixTime = 1_000_000;

fn version(text: &str) -> Version {
    text.parse().unwrap()
}

fn reference(text: &str) -> ReleaseRef {
    ReleaseRef { id: ReleaseId(Digest([text.as_bytes()[2]; 32])), version: version(text) }
}

fn desired(generation: u64, release: Option<&str>) -> DesiredView {
    let (id, version) = release.map(reference).map(|r| (r.id, r.version)).unzip();
    DesiredView { app: "greeter".parse().unwrap(), generation, release: id, version }
}

fn report(generation: u64, phase: Phase, current: Option<&str>, running: Option<&str>) -> AppReport {
    AppReport {
        app: "greeter".parse().unwrap(),
        generation,
        desired: None,
        current: current.map(reference),
        running: running.map(reference),
        phase,
        refusal: None,
        healthy: Some(true),
        revoked: false,
        unwitnessed: false,
        waits: None,
    }
}

fn node(desired: Vec<DesiredView>, apps: Option<Vec<AppReport>>) -> NodeView {
    let node: orangery_wire::NodeId = "garage".parse().unwrap();
    let reported = apps.map(|apps| Reported {
        format: FORMAT,
        node: node.clone(),
        boot_id: "b".into(),
        sequence: 1,
        generation: 4,
        agent_version: "0.1.0".into(),
        platform: "linux/arm64".into(),
        board: None,
        labels: BTreeMap::new(),
        trust: TrustReport::default(),
        apps,
    });
    NodeView {
        node,
        joined_at: NOW - 300,
        revoked: false,
        online: true,
        seen_at: Some(NOW - 10),
        desired,
        reported,
        health: None,
        holds: vec![],
    }
}

fn facts(last: Option<What>) -> Facts {
    let last = last.map(|what| ("greeter".parse().unwrap(), what)).into_iter().collect();
    Facts { now: NOW, broker_connected: true, last, ..Facts::default() }
}

/// Checks the codes of all lines and returns the last text.
fn check(node: &NodeView, facts: &Facts, codes: &[&str]) -> String {
    let why = why(node, facts);
    assert_eq!(why.lines.iter().map(|line| line.code.as_str()).collect::<Vec<_>>(), codes, "{why:#?}");
    assert!(why.lines.iter().all(|line| line.text.ends_with('.') && !line.text.contains("..")), "{why:#?}");
    why.lines.last().unwrap().text.clone()
}

#[test]
fn a_refusal_is_told_with_its_reason_and_what_runs_instead() {
    let mut app = report(4, Phase::Settled, Some("1.1.0"), Some("1.1.0"));
    let reason = "http probe on port 18081 /health answered 500 three times".to_owned();
    app.refusal = Some(Refusal { release: reference("1.2.0").id, code: RefusalCode::Unhealthy, reason });
    let node = node(vec![desired(4, Some("1.2.0"))], Some(vec![app]));
    assert_eq!(
        check(&node, &facts(None), &["unhealthy"]),
        "garage was told to run greeter 1.2.0 (generation 4) and refused it: unhealthy: http probe on port 18081 /health \
         answered 500 three times. It runs 1.1.0."
    );
    let evidence = Box::new(Evidence { log: vec!["cannot open the database".into()], ..Evidence::default() });
    let facts = Facts { evidence: [("greeter".parse().unwrap(), evidence.clone())].into(), ..facts(None) };
    let line = &why(&node, &facts).lines[0];
    assert_eq!((line.refusal, line.evidence.as_ref()), (Some(RefusalCode::Unhealthy), Some(&evidence)));
}

#[test]
fn what_goes_well_is_said_too() {
    let settled = report(4, Phase::Settled, Some("1.1.0"), Some("1.1.0"));
    let text = check(&node(vec![desired(4, Some("1.1.0"))], Some(vec![settled])), &facts(None), &["up_to_date"]);
    assert_eq!(
        text,
        "garage was told to run greeter 1.1.0 (generation 4) and does: it is proven there and its probes hold."
    );
    let stopped = report(5, Phase::Settled, None, None);
    check(&node(vec![desired(5, None)], Some(vec![stopped])), &facts(None), &["up_to_date"]);
}

#[test]
fn a_deployment_under_way_says_where_it_is_and_what_went_wrong_last() {
    let fetching = report(4, Phase::Fetching, Some("1.0.0"), Some("1.0.0"));
    let node_fetching = node(vec![desired(4, Some("1.1.0"))], Some(vec![fetching]));
    let retrying = What::Retrying { deed: "fetch".into(), reason: "connection refused.".into() };
    let text = check(&node_fetching, &facts(Some(retrying)), &["in_progress"]);
    assert!(text.contains("downloading") && text.contains("connection refused. It runs 1.0.0."), "{text}");
    for (phase, word) in [(Phase::Activating, "starting"), (Phase::Probing, "probes"), (Phase::Restoring, "before")] {
        let app = report(4, phase, Some("1.0.0"), Some("1.1.0"));
        let text = check(&node(vec![desired(4, Some("1.1.0"))], Some(vec![app])), &facts(None), &["in_progress"]);
        assert!(text.contains(word) && text.contains("1.1.0 on trial; 1.0.0 is proven"), "{text}");
    }
}

#[test]
fn a_node_that_does_not_hear_is_told_from_one_that_does_not_answer() {
    let old = report(3, Phase::Settled, Some("1.0.0"), Some("1.0.0"));
    let online = node(vec![desired(4, Some("1.1.0"))], Some(vec![old]));
    check(&online, &facts(None), &["not_taken_in"]);
    let offline = NodeView { online: false, ..online.clone() };
    let text = check(&offline, &facts(None), &["offline", "offline"]);
    assert!(text.contains("10 seconds ago"), "{text}");
    let no_broker = Facts { broker_connected: false, ..facts(None) };
    check(&offline, &no_broker, &["offline", "offline"]);
    let revoked = NodeView { revoked: true, ..offline };
    check(&revoked, &facts(None), &["revoked", "revoked"]);
    let silent = node(vec![desired(4, Some("1.1.0"))], None);
    check(&silent, &facts(None), &["never_seen", "never_seen"]);
}

#[test]
fn there_is_always_an_answer() {
    check(&node(vec![], Some(vec![])), &facts(None), &["nothing_desired"]);
    check(&node(vec![], None), &facts(None), &["never_seen"]);
    let own = report(1, Phase::Settled, Some("1.0.0"), Some("1.0.0"));
    check(&node(vec![], Some(vec![own])), &facts(None), &["nothing_desired"]);
}

#[test]
fn an_app_that_became_unwell_after_its_commit_is_told_apart_from_a_refusal() {
    let app = AppReport { healthy: Some(false), ..report(4, Phase::Settled, Some("1.1.0"), Some("1.1.0")) };
    let health = What::AppHealth { healthy: false, reason: Some("connection refused".into()) };
    let text = check(&node(vec![desired(4, Some("1.1.0"))], Some(vec![app])), &facts(Some(health)), &["unhealthy_now"]);
    assert!(text.contains("(connection refused)"), "{text}");
}

#[test]
fn expired_metadata_is_told_beside_everything_else() {
    let settled = report(4, Phase::Settled, Some("1.1.0"), Some("1.1.0"));
    let mut node = node(vec![desired(4, Some("1.1.0"))], Some(vec![settled]));
    node.reported.as_mut().unwrap().trust.stale = true;
    check(&node, &facts(None), &["expired", "up_to_date"]);
}

#[test]
fn times_have_one_unit() {
    let said: Vec<_> = [0, 59, 120, 7_200, 172_800].map(|secs| ago(NOW, NOW - secs)).into();
    assert_eq!(said, ["just now", "59 seconds ago", "2 minutes ago", "2 hours ago", "2 days ago"]);
    assert_eq!(ago(1, 2), "just now", "a clock that went back");
}

#[test]
fn a_release_that_the_owner_took_back_is_named_and_goes_on() {
    let app = AppReport { revoked: true, ..report(4, Phase::Settled, Some("1.1.0"), Some("1.1.0")) };
    let node = node(vec![desired(4, Some("1.1.0"))], Some(vec![app]));
    let text = check(&node, &facts(None), &["up_to_date", "release_revoked"]);
    assert!(text.contains("revoked greeter 1.1.0") && text.contains("goes on running"), "{text}");
}

#[test]
fn a_release_that_somebody_brought_to_the_node_is_told_from_what_was_deployed() {
    let mut app = report(4, Phase::Settled, Some("1.2.0"), Some("1.2.0"));
    app.desired = app.current.clone();
    let node = node(vec![desired(4, Some("1.1.0"))], Some(vec![app]));
    let text = check(&node, &facts(None), &["installed_there"]);
    assert!(text.contains("1.1.0 (generation 4)") && text.contains("installed 1.2.0"), "{text}");
}

#[test]
fn a_release_that_was_brought_after_another_and_was_refused_changes_nothing_of_that() {
    let reason = "a probe failed.".to_owned();
    let refusal = Refusal { release: reference("1.3.0").id, code: RefusalCode::Unhealthy, reason };
    let app = AppReport {
        desired: Some(reference("1.3.0")),
        refusal: Some(refusal),
        ..report(5, Phase::Settled, Some("1.2.0"), Some("1.2.0"))
    };
    let node = node(vec![desired(4, Some("1.1.0"))], Some(vec![app]));
    let text = check(&node, &facts(None), &["installed_there"]);
    assert!(text.contains("has installed 1.2.0;"), "{text}");
    assert!(
        text.contains("After that 1.3.0 was to be installed there, and was refused: unhealthy (a probe failed)."),
        "{text}"
    );
}

#[test]
fn what_a_node_waits_for_is_told_in_its_own_words() {
    let waits = Some("the node's disk does not take its record: no space left".to_owned());
    let app = AppReport { waits, ..report(3, Phase::Settled, Some("1.1.0"), Some("1.1.0")) };
    let told = desired(4, Some("1.2.0"));
    let text = check(&node(vec![told.clone()], Some(vec![app.clone()])), &facts(None), &["not_taken_in"]);
    assert!(text.contains("cannot take that in: the node's disk does not take its record"), "{text}");
    let app = AppReport { generation: 4, phase: Phase::Fetching, ..app };
    let text = check(&node(vec![told.clone()], Some(vec![app.clone()])), &facts(None), &["in_progress"]);
    assert!(text.contains("not tried it yet. The node's disk does not take its record: no space left. "), "{text}");
    let app = AppReport { phase: Phase::Probing, running: None, ..app };
    let text = check(&node(vec![told], Some(vec![app])), &facts(None), &["in_progress"]);
    assert!(text.contains("cannot go on at this moment. The node's disk") && !text.contains("on trial"), "{text}");
}

#[test]
fn a_rollback_on_the_node_after_another_release_was_refused_is_told_as_that() {
    let refusal = Refusal { release: reference("1.1.0").id, code: RefusalCode::RolledBack, reason: String::new() };
    let app = AppReport {
        desired: Some(reference("1.1.0")),
        refusal: Some(refusal),
        ..report(4, Phase::Settled, Some("1.0.0"), Some("1.0.0"))
    };
    let node = node(vec![desired(4, Some("1.2.0"))], Some(vec![app]));
    let text = check(&node, &facts(None), &["rolled_back"]);
    assert!(text.contains("somebody on the node has rolled back what ran there. It runs 1.0.0."), "{text}");
}

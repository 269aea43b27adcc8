//! What Prometheus reads from a real coordinator over HTTPS.

#![allow(clippy::unwrap_used)] // A test stops at the first surprise.

mod fixture;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};

use fixture::{Fixture, Http, METRICS_TOKEN, app, app_report, event, node, online, reference, reported, tls};
use orangery_wire::messages::{Health, Phase, Refusal, RefusalCode, ReleaseRef};
use orangery_wire::rest::{DeedRequest, DeployRequest, NodeView};
use orangery_wire::topics::Channel;
use reqwest::Method;

fn scraper(fixture: &Fixture) -> Http {
    Http::over(tls(fixture.ca.certificate_pem(), None), &fixture.url, Some(METRICS_TOKEN))
}

async fn page(http: &Http) -> String {
    let response = http.request(Method::GET, "/metrics").send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/plain; version=0.0.4");
    response.text().await.unwrap()
}

/// Waits until the engine has done all that it was told before.
async fn heard(fixture: &Fixture) {
    fixture.invite(None, 1).await;
}

/// A fleet of one node that was told to run 1.1.0, refused it and runs 1.0.0, and of one that was revoked.
async fn fleet() -> Fixture {
    let fixture = Fixture::start().await;
    fixture.join("garage").await;
    fixture.join("stolen").await;
    fixture.operator().post::<()>("/v1/nodes/stolen/revoke", &()).await.unwrap();
    let (first, second) = (fixture.publish("1.0.0").await, fixture.publish("1.1.0").await);
    let garage = node("garage");
    fixture.say(&garage, Channel::Online, online(true)).await;
    fixture
        .report(&reported(&garage, 1, vec![app_report(1, Some(&reference(&first)), Some(&reference(&first)))]))
        .await;
    let request = DeployRequest {
        app: app(),
        version: Some("1.1.0".parse().unwrap()),
        to: "all".into(),
        plan: None,
        deed: DeedRequest::default(),
    };
    fixture.operator().post::<serde_json::Value>("/v1/deployments", &request).await.unwrap();
    let mut report = app_report(2, Some(&reference(&second)), Some(&reference(&first)));
    report.refusal =
        Some(Refusal { release: reference(&second).id, code: RefusalCode::Unhealthy, reason: "500\"\n\\".into() });
    fixture.report(&reported(&garage, 2, vec![report])).await;
    let health = Health { memory_used_bytes: 1 << 20, temperature_celsius: Some(47.5), ..Health::default() };
    fixture.say(&garage, Channel::Health, serde_json::to_vec(&health).unwrap()).await;
    for sequence in 1..=3 {
        fixture.say(&garage, Channel::Event, serde_json::to_vec(&event(&garage, 7, sequence)).unwrap()).await;
    }
    heard(&fixture).await;
    fixture
}

#[tokio::test]
async fn the_page_says_what_each_node_runs_and_how_it_is() {
    let fixture = fleet().await;
    let page = page(&scraper(&fixture)).await;
    for line in [
        r#"orangery_node_online{node="garage"} 1"#,
        r#"orangery_node_info{agent_version="0.1.0",node="garage",platform="linux/amd64"} 1"#,
        r#"orangery_node_memory_used_bytes{node="garage"} 1048576"#,
        r#"orangery_node_temperature_celsius{node="garage"} 47.5"#,
        r#"orangery_node_trust_stale{node="garage"} 0"#,
        r#"orangery_app_current_info{app="greeter",node="garage",version="1.0.0"} 1"#,
        r#"orangery_app_desired_info{app="greeter",node="garage",version="1.1.0"} 1"#,
        r#"orangery_app_converged{app="greeter",node="garage"} 0"#,
        r#"orangery_app_refused{app="greeter",code="unhealthy",node="garage"} 1"#,
        r#"orangery_app_phase{app="greeter",node="garage",phase="settled"} 1"#,
        r#"orangery_releases{app="greeter"} 2"#,
        r#"orangery_events_total{code="agent_stopped"} 3"#,
        r"orangery_broker_connected 0",
    ] {
        assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
    }
    for name in [
        "orangery_node_seen_timestamp_seconds{",
        "orangery_node_certificate_expires_timestamp_seconds{",
        "orangery_metadata_expires_timestamp_seconds{role=\"root\"}",
        "orangery_metadata_expires_timestamp_seconds{role=\"timestamp\"}",
        "orangery_database_bytes",
        "orangery_disk_free_bytes",
        "orangery_http_requests_total{",
        "process_resident_memory_bytes",
    ] {
        assert!(page.lines().any(|line| line.starts_with(name)), "{name} is not in\n{page}");
    }
    assert!(!page.contains("stolen"), "a revoked node is still told of");
    assert!(!page.contains(Phase::Probing.as_str()), "only the phase that is");
}

#[tokio::test]
async fn a_node_that_proves_what_it_was_told_to_run_has_converged() {
    let fixture = fleet().await;
    let garage = node("garage");
    let view: NodeView = fixture.operator().get("/v1/nodes/garage").await.unwrap();
    let wish = view.desired.first().unwrap().clone();
    let proven = ReleaseRef { id: wish.release.unwrap(), version: wish.version.unwrap() };
    fixture.report(&reported(&garage, 3, vec![app_report(wish.generation, Some(&proven), Some(&proven))])).await;
    heard(&fixture).await;
    let page = page(&scraper(&fixture)).await;
    assert!(page.contains(r#"orangery_app_converged{app="greeter",node="garage"} 1"#), "{page}");
    assert!(!page.contains("orangery_app_refused{"), "{page}");
}

#[tokio::test]
async fn promtool_finds_nothing_wrong_and_every_metric_is_in_the_manual() {
    let fixture = fleet().await;
    let page = page(&scraper(&fixture)).await;
    let manual = include_str!("../../docs/operating/monitoring.md");
    let ours = page.lines().filter_map(|line| line.strip_prefix("# TYPE orangery_")?.split(' ').next());
    let ours: BTreeSet<&str> = ours.collect();
    assert!(ours.len() > 25, "{ours:?}");
    for name in ours {
        assert!(manual.contains(&format!("`orangery_{name}`")), "orangery_{name} is not in the manual");
    }
    let promtool =
        Command::new("promtool").args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let Ok(mut promtool) = promtool else {
        assert!(std::env::var_os("CI").is_none(), "CI must try it, and promtool is not installed");
        eprintln!("LEFT OUT: promtool is not installed (apt-get install prometheus)");
        return;
    };
    promtool.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let said = promtool.wait_with_output().unwrap();
    assert!(said.status.success() && said.stderr.is_empty(), "{}", String::from_utf8_lossy(&said.stderr));
}

#[test]
fn whether_home_assistant_is_reached_is_told_where_it_should_be_and_nowhere_else() {
    let page = |home_assistant| {
        let facts = orangery::metrics::Facts { home_assistant, ..orangery::metrics::Facts::default() };
        orangery::metrics::Metrics::new().unwrap().page(&facts).unwrap()
    };
    assert!(page(Some(true)).contains("\norangery_home_assistant_connected 1\n"));
    assert!(page(Some(false)).contains("\norangery_home_assistant_connected 0\n"));
    assert!(!page(None).contains("orangery_home_assistant_connected"));
}

#[tokio::test]
async fn the_page_says_where_rollouts_are_and_for_how_long_they_have_waited() {
    let fixture = Fixture::start().await;
    for name in ["garage", "attic"] {
        fixture.join(name).await;
        fixture.report(&reported(&node(name), 1, vec![])).await;
    }
    fixture.publish("1.1.0").await;
    fixture.engine.hear(orangery::link::LinkEvent::Up).await.unwrap();
    let request = serde_json::json!({ "app": "greeter", "version": "1.1.0", "to": ["all"], "canaries": ["garage"] });
    fixture.operator().post::<serde_json::Value>("/v1/rollouts", &request).await.unwrap();
    for _ in 0..12 {
        fixture.clock.advance(5);
        fixture.engine.look_at_rollouts().await.unwrap();
    }
    let page = page(&scraper(&fixture)).await;
    for line in [
        r#"orangery_rollouts{status="running"} 1"#,
        r#"orangery_rollouts{status="paused"} 0"#,
        r#"orangery_rollout_nodes{app="greeter",rollout="1",state="not_taken_in"} 1"#,
        r#"orangery_rollout_nodes{app="greeter",rollout="1",state="wave_ahead"} 1"#,
        r#"orangery_rollout_gate_seconds{app="greeter",reason="not_taken_in",rollout="1"} 60"#,
    ] {
        assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
    }
    let manual = include_str!("../../docs/operating/monitoring.md");
    for name in ["orangery_rollouts", "orangery_rollout_nodes", "orangery_rollout_gate_seconds"] {
        assert!(manual.contains(&format!("`{name}`")), "{name} is not in the manual");
    }
    fixture.operator().post::<serde_json::Value>("/v1/rollouts/1/pause", &DeedRequest::default()).await.unwrap();
    let page = self::page(&scraper(&fixture)).await;
    assert!(page.contains(r#"orangery_rollout_gate_seconds{app="greeter",reason="paused",rollout="1"} 0"#), "{page}");
}

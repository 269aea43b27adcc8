//! What nodes are told to run.

use orangery::engine::Refused;
use orangery_wire::Digest;
use orangery_wire::limits::{APPS_MAX, PACKET_BYTES_MAX};
use orangery_wire::messages::{AppReport, Desired, DesiredApp, Refusal, RefusalCode};
use orangery_wire::rest::DeployRequest;
use orangery_wire::topics::Channel;

use super::fixture::{app, app_report, manifest, node, reference, reported};
use super::{Running, generations, request, row};

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

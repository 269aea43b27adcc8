//! Nodes that are not heard, and a coordinator that hears nobody.

use std::time::{Duration, Instant};

use orangery::link::LinkEvent;
use orangery::notify::Settings;
use orangery_wire::topics::Channel;

use super::fixture::{eventually, from_node, node, online};
use super::hook::Hook;
use super::{Place, Telling, settings};

/// The settings take no less than a minute; the tests have less time.
const SILENT_SECS: u64 = 1;

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_node_is_told_once_and_so_is_its_return() {
    let place = Place::new();
    let hook = Hook::start(&place.ca).await;
    let mut settings = settings(&place.target("ops", "webhook", &format!("url = '{}'", hook.url())));
    settings.silent_secs = SILENT_SECS;
    let telling = Telling::start(place.directory.path(), &settings);
    telling.engine.hear(LinkEvent::Up).await.unwrap();
    let attic = node("attic");
    telling.engine.hear(from_node(&attic, Channel::Online, online(true))).await.unwrap();
    telling.engine.hear(from_node(&attic, Channel::Online, online(false))).await.unwrap();
    let look = async || {
        telling.clock.advance(10);
        telling.engine.look_at_rollouts().await.unwrap();
        Some(hook.posts()).filter(|posts| !posts.is_empty())
    };
    let posts = eventually("silence is told", look).await;
    assert_eq!(posts[0].json()["notices"][0]["kind"], "node_silent");
    assert!(posts[0].json()["notices"][0]["text"].as_str().unwrap().starts_with("last heard 20"));
    for _ in 0..3 {
        look().await;
    }
    telling.engine.hear(from_node(&attic, Channel::Online, online(true))).await.unwrap();
    look().await;
    let posts = hook.gets(2).await;
    assert_eq!(posts[1].json()["notices"][0]["kind"], "node_back");
    assert_eq!(posts[1].json()["id"], "2", "it was silent once");
}

/// A coordinator whose node is known and not connected, and that tells nobody what it finds.
async fn watches(place: &Place, silent_secs: u64) -> Telling {
    let telling = Telling::quiet(place.directory.path(), &Settings { silent_secs, ..Settings::default() });
    telling.engine.hear(LinkEvent::Up).await.unwrap();
    for is_online in [true, false] {
        telling.engine.hear(from_node(&node("attic"), Channel::Online, online(is_online))).await.unwrap();
    }
    telling
}

/// How much was found that lasts, the next time that it is looked for.
async fn found(telling: &Telling) -> u64 {
    telling.clock.advance(10);
    telling.engine.look_at_rollouts().await.unwrap();
    *telling.engine.live().newest_notice().borrow()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_node_is_silent_for_the_time_in_which_a_coordinator_could_hear_nobody() {
    let places = [Place::new(), Place::new()];
    let deaf = watches(&places[0], SILENT_SECS).await;
    let down = LinkEvent::Down { reason: "test".into() };
    deaf.engine.hear(down).await.unwrap();
    let hears = watches(&places[1], SILENT_SECS).await;
    eventually("it is silent for who hears", async || (found(&hears).await > 0).then_some(())).await;
    assert_eq!(found(&deaf).await, 0);
    // What it did not hear before does not count when it hears again.
    let up = Instant::now();
    deaf.engine.hear(LinkEvent::Up).await.unwrap();
    eventually("it is silent for who hears again", async || (found(&deaf).await > 0).then_some(())).await;
    assert!(up.elapsed() >= Duration::from_secs(SILENT_SECS), "after {:?}", up.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_node_is_silent_because_the_coordinator_was_stopped() {
    let (place, hour) = (Place::new(), 3_600);
    watches(&place, hour).await.cut().await;
    let settings = Settings { silent_secs: hour, ..Settings::default() };
    let telling = Telling::quiet(place.directory.path(), &settings);
    telling.clock.advance(2 * hour);
    assert_eq!(found(&telling).await, 0);
    telling.engine.hear(LinkEvent::Up).await.unwrap();
    assert_eq!(found(&telling).await, 0, "it has only begun to listen");
}

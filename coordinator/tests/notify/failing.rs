//! Nodes that say that they fail.

use orangery_wire::messages::{Event, What};
use orangery_wire::topics::Channel;
use serde_json::json;

use super::Place;
use super::fixture::{event, from_node, node};
use super::hook::Hook;

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_says_that_it_fails_is_told_and_a_disk_that_stays_full_once() {
    let place = Place::new();
    let hook = Hook::start(&place.ca).await;
    let telling = place.start(&place.target("ops", "webhook", &format!("url = '{}'", hook.url())));
    let attic = node("attic");
    let failed = [
        What::StoreRebuilt { reason: "bad checksum".into() },
        What::RecordRecovered { file: "state.json".into(), used: "its copy".into() },
    ];
    for (sequence, what) in (1..).zip(failed) {
        let said = serde_json::to_vec(&Event { what, ..event(&attic, 7, sequence) }).unwrap();
        telling.engine.hear(from_node(&attic, Channel::Event, said)).await.unwrap();
        hook.gets(usize::try_from(sequence).unwrap()).await;
    }
    // Each look finds the disk as it is; what is told is that it changed.
    for (reserve, posts) in [("freed", 3), ("missing", 3), ("full", 4), ("full", 4), ("missing", 5)] {
        let health = json!({ "at": 5, "load_1m": 0.5, "memory_bytes": 2, "memory_used_bytes": 1, "disk_bytes": 2, "disk_free_bytes": 0,
            "reserve": reserve, "uptime_secs": 9, "clock": "synced", "agent_version": "1.0.0" });
        let said = serde_json::to_vec(&health).unwrap();
        telling.engine.hear(from_node(&attic, Channel::Health, said)).await.unwrap();
        telling.clock.advance(10);
        telling.engine.look_at_rollouts().await.unwrap();
        hook.gets(posts).await;
    }
    let told: Vec<(String, String)> = hook
        .posts()
        .iter()
        .map(|post| {
            let notice = &post.json()["notices"][0];
            assert_eq!(notice["node"], "attic");
            (notice["kind"].as_str().unwrap().to_owned(), notice["text"].as_str().unwrap().to_owned())
        })
        .collect();
    let failing = |text: &str| ("node_failing".to_owned(), text.to_owned());
    let full = failing("its disk is full: the agent does not hold its reserve");
    let again = ("node_recovered".to_owned(), "its disk has room again: the agent holds its reserve".to_owned());
    assert_eq!(
        told,
        [
            failing("the agent's store did not open and was made anew: bad checksum"),
            failing("state.json was unreadable; used instead: its copy"),
            full.clone(),
            again,
            full,
        ]
    );
}

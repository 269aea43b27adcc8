//! What nodes told: listed and followed.

use std::time::Duration;

use orangery_wire::messages::Acked;
use orangery_wire::rest::EventView;
use orangery_wire::topics::Channel;
use reqwest::Method;

use super::code_of;
use super::fixture::{Fixture, event, eventually, node};

#[tokio::test]
async fn events_are_listed_by_id_node_or_the_newest_first_few() {
    let fixture = Fixture::start().await;
    for (name, count) in [("garage", 3), ("attic", 2)] {
        for sequence in 1..=count {
            let told = serde_json::to_vec(&event(&node(name), 7, sequence)).unwrap();
            fixture.say(&node(name), Channel::Event, told).await;
        }
    }
    let operator = fixture.operator();
    let ids = async |query: &str| -> Vec<u64> {
        let events: Vec<EventView> = operator.get(&format!("/v1/events{query}")).await.unwrap();
        events.iter().map(|event| event.id).collect()
    };
    eventually("all are stored", async || (ids("").await.len() == 5).then_some(())).await;
    assert_eq!(ids("?after=3").await, [4, 5]);
    assert_eq!(ids("?limit=2").await, [1, 2]);
    assert_eq!(ids("?newest=2").await, [4, 5]);
    assert_eq!(ids("?newest=2&node=garage").await, [2, 3]);
    assert_eq!(ids("?node=attic").await, [4, 5]);
    assert!(ids("?after=9000000000").await.is_empty());
}

/// Reads an event stream until `count` ids have come.
async fn read_ids(response: &mut reqwest::Response, count: usize) -> Vec<u64> {
    let read = async {
        let mut text = String::new();
        loop {
            let ids: Vec<u64> = text.lines().filter_map(|line| line.strip_prefix("id: ")?.parse().ok()).collect();
            if ids.len() >= count && text.ends_with("\n\n") {
                return ids;
            }
            let piece = response.chunk().await.unwrap();
            text.push_str(std::str::from_utf8(&piece.expect("the stream ended")).unwrap());
        }
    };
    tokio::time::timeout(Duration::from_secs(20), read).await.expect("the events come")
}

#[tokio::test]
async fn an_event_stream_begins_where_the_reader_left_off_follows_and_ends_when_the_coordinator_stops() {
    let fixture = Fixture::start().await;
    let (garage, attic) = (node("garage"), node("attic"));
    let tell = async |node: &orangery_wire::NodeId, sequence| {
        fixture.say(node, Channel::Event, serde_json::to_vec(&event(node, 7, sequence)).unwrap()).await;
    };
    for sequence in 1..=450 {
        tell(&garage, sequence).await;
    }
    eventually("all are acknowledged", async || {
        (fixture.record.value(&garage, Channel::Acked) == Some(Acked { epoch: 7, sequence: 450 })).then_some(())
    })
    .await;
    let open = async |header: Option<&str>, query: &str| {
        let request = fixture.operator().request(Method::GET, &format!("/v1/events/stream{query}"));
        let request = header.iter().fold(request, |request, id| request.header("last-event-id", *id));
        request.send().await.unwrap()
    };
    let mut from_start = open(Some("0"), "").await;
    assert_eq!(from_start.headers()["content-type"], "text/event-stream");
    assert_eq!(read_ids(&mut from_start, 450).await, (1..=450).collect::<Vec<_>>());
    let mut resumed = open(Some("447"), "").await;
    assert_eq!(read_ids(&mut resumed, 3).await, [448, 449, 450]);
    let mut from_now = open(None, "").await;
    let mut of_attic = open(None, "?after=10&node=attic").await;
    for sequence in 451..=452 {
        tell(&garage, sequence).await;
        tell(&attic, sequence - 450).await;
    }
    assert_eq!(read_ids(&mut from_now, 4).await, [451, 452, 453, 454]);
    assert_eq!(read_ids(&mut resumed, 4).await, [451, 452, 453, 454]);
    assert_eq!(read_ids(&mut of_attic, 2).await, [452, 454]);
    assert_eq!(code_of(open(Some("x"), "").await).await, "invalid_query");

    fixture.stopping.send_replace(true);
    let end = async { while let Ok(Some(_)) = resumed.chunk().await {} };
    tokio::time::timeout(Duration::from_secs(20), end).await.expect("the stream ends");
    drop((from_start, from_now, of_attic));
    eventually("the listener has ended", async || fixture.serving.is_finished().then_some(())).await;
    assert!(fixture.stranger().request(Method::GET, "/healthz").send().await.is_err());
}

//! The link against a broker that misbehaves on demand. `rumqttc_faults` shows what the library underneath does by itself.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

mod linked_node;
mod rumqttc_faults;
mod scripted_broker;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use orangery_agent::link::{IN_FLIGHT_MAX, LinkEvent, LinkSettings, STOP_MAX};
use orangery_wire::limits::PACKET_BYTES_MAX;
use orangery_wire::messages::{self, Rejected};
use orangery_wire::topics::Channel;

use linked_node::{NODE, Node, all_acknowledged, connected, contiguous, drive, sequence, settings, take_events};
use scripted_broker::{Authority, Broker, DEADLINE, Said};

#[tokio::test]
async fn the_first_words_are_online_then_the_subscription_then_the_latest_report() {
    let authority = Authority::new();
    let broker = Broker::start(&authority);
    let node = Node::new(settings(broker.address(), authority.client(NODE)));
    for report in ["old", "newer", "newest"] {
        node.link.report(report.into());
    }
    let online = |said| format!(r#"{{"online":{said},"boot_id":"boot-1"}}"#).into_bytes();
    let retained = |channel, pkid, payload: &[u8]| Said::Publish {
        topic: format!("orangery/v1/node/{NODE}/{channel}"),
        qos: 1,
        retain: true,
        pkid,
        dup: false,
        payload: payload.to_vec(),
    };
    for attempt in 0..2 {
        let mut peer = broker.accept().await;
        assert_eq!(peer.connect.client_id, NODE);
        assert!(peer.connect.clean_session, "nothing depends on a session");
        assert_eq!(peer.connect.keepalive_secs, 1);
        assert_eq!(peer.connect.will, Some(retained("online", 0, &online(false))));
        peer.connack(false, 0).await;
        assert_eq!(peer.hear().await, retained("online", 1, &online(true)));
        let Said::Subscribe { filters, .. } = peer.hear().await else { panic!("no SUBSCRIBE") };
        assert_eq!(filters, ["desired", "acked"].map(|channel| format!("orangery/v1/node/{NODE}/{channel}")));
        assert_eq!(peer.hear().await, retained("reported", 3, b"newest"), "attempt {attempt}: the last value, once");
    }
}

#[tokio::test]
async fn events_reach_the_broker_again_whether_it_kept_the_session_or_not() {
    const EVENTS: u64 = 20;
    for session_present in [false, true] {
        let authority = Authority::new();
        let broker = Broker::start(&authority);
        let waiting = drive(Node::new(settings(broker.address(), authority.client(NODE))), EVENTS);
        let mut seen = BTreeMap::new();

        let mut peer = broker.accept().await;
        peer.welcome(false).await;
        for _ in 0..5 {
            let (channel, _, payload) = peer.hear_publish().await;
            assert_eq!(channel, "event");
            seen.insert(sequence(&payload), 1);
        }
        drop(peer);
        // The coordinator has none of them, for the broker died with them.
        seen.clear();

        let mut peer = broker.accept().await;
        peer.welcome(session_present).await;
        take_events(&mut peer, EVENTS, &mut seen).await;
        assert!(seen.values().all(|times| *times == 1), "nothing is left over from the first connection: {seen:?}");
        all_acknowledged(&waiting).await;
    }
}

#[tokio::test]
async fn a_full_link_refuses_at_once_and_only_the_coordinators_word_makes_room() {
    let (_broker, mut peer, mut node) = connected().await;
    let begun = Instant::now();
    let taken = (1..=10_000).take_while(|n| node.link.event(*n, b"event".to_vec())).count();
    assert_eq!(taken, IN_FLIGHT_MAX);
    (0..10_000).for_each(|_| node.link.health(vec![b' '; 100]));
    (0..10_000).for_each(|_| node.link.report(b"report".to_vec()));
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());

    assert!(node.link.event(3, b"event".to_vec()), "what is in flight is not refused");
    for _ in 0..IN_FLIGHT_MAX {
        let (_, pkid, _) = peer.hear_publish().await;
        peer.puback(pkid).await;
    }
    peer.publish("desired", b"after the acknowledgements").await;
    node.told(|event| (event == LinkEvent::Desired(b"after the acknowledgements".to_vec())).then_some(())).await;
    assert!(!node.link.event(11, b"event".to_vec()), "the broker's acknowledgement makes no room");
    node.link.acked(4);
    let taken = (11..=100).take_while(|n| node.link.event(*n, b"event".to_vec())).count();
    assert_eq!(taken, 4);

    drop(peer);
    assert_eq!(node.down().await, "the broker closed the connection");
    assert!(!node.link.event(1, b"event".to_vec()), "without a connection there is no room");
}

#[tokio::test]
async fn the_last_report_arrives_though_the_link_was_full_when_it_was_made() {
    let (_broker, mut peer, node) = connected().await;
    for n in 0..1_000_u32 {
        node.link.report(n.to_string().into_bytes());
    }
    let mut last = Vec::new();
    while last != b"999" {
        let (channel, pkid, payload) = peer.hear_publish().await;
        assert!(channel == "online" || channel == "reported", "{channel}");
        peer.puback(pkid).await;
        last = payload;
    }
}

#[tokio::test]
async fn a_broker_that_never_acknowledges_one_packet_is_left_and_all_events_arrive() {
    const EVENTS: u64 = 40;
    let authority = Authority::new();
    let broker = Broker::start(&authority);
    let waiting = drive(Node::new(settings(broker.address(), authority.client(NODE))), EVENTS);
    let mut seen = BTreeMap::new();

    // The first packet id is never acknowledged; the ids wrap around to it and the library stops.
    let mut peer = broker.accept().await;
    peer.connack(false, 0).await;
    let closed = loop {
        match peer.hear().await {
            Said::Subscribe { pkid, .. } => peer.suback(pkid, &[1, 1]).await,
            Said::Publish { pkid: 1, .. } | Said::PubAck => {}
            Said::Publish { pkid, payload, .. } => {
                peer.puback(pkid).await;
                seen.insert(sequence(&payload), 1);
                peer.publish("acked", contiguous(&seen).to_string().as_bytes()).await;
            }
            other => break other,
        }
    };
    assert_eq!(closed, Said::Closed);
    let before = seen.len();
    assert!(before < usize::try_from(EVENTS).unwrap(), "the ids never collided");

    let mut peer = broker.accept().await;
    peer.welcome(false).await;
    take_events(&mut peer, EVENTS, &mut seen).await;
    all_acknowledged(&waiting).await;
}

#[tokio::test]
async fn events_that_nobody_acknowledges_are_asked_for_again() {
    let authority = Authority::new();
    let broker = Broker::start(&authority);
    let settings = settings(broker.address(), authority.client(NODE));
    let _waiting = drive(Node::new(LinkSettings { resend_after: Duration::from_millis(1), ..settings }), 1);
    let mut peer = broker.accept().await;
    peer.welcome(false).await;
    for _ in 0..3 {
        let (channel, pkid, payload) = peer.hear_publish().await;
        assert_eq!((channel.as_str(), sequence(&payload)), ("event", 1));
        peer.puback(pkid).await;
    }
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused_here_and_the_connection_goes_on() {
    let (_broker, mut peer, mut node) = connected().await;
    let size_bytes = PACKET_BYTES_MAX + 1;
    node.link.report(vec![b'x'; size_bytes]);
    node.link.health(vec![b'x'; size_bytes]);
    assert!(node.link.event(1, vec![b'x'; size_bytes]), "it must not keep back the next");
    for channel in [Channel::Reported, Channel::Health, Channel::Event] {
        let told = node.told(Some).await;
        assert_eq!(told, LinkEvent::Oversized { channel, size_bytes });
    }
    assert!(node.link.event(2, vec![b'x'; PACKET_BYTES_MAX]));
    let (channel, _, payload) = peer.hear_publish().await;
    assert_eq!((channel.as_str(), payload.len()), ("event", PACKET_BYTES_MAX));
}

#[tokio::test]
async fn a_message_that_is_too_large_is_its_readers_to_reject() {
    let (_broker, mut peer, mut node) = connected().await;
    peer.publish("desired", &vec![b' '; PACKET_BYTES_MAX + 1]).await;
    let payload = node.told(|event| if let LinkEvent::Desired(payload) = event { Some(payload) } else { None }).await;
    let read: Result<messages::Acked, Rejected> = messages::read(&payload);
    assert_eq!(read.unwrap_err().why, "too_large");
    node.link.health(b"still here".to_vec());
    assert_eq!(peer.hear_publish().await.2, b"still here");
}

#[tokio::test]
async fn a_packet_that_is_never_read_ends_the_connection_but_not_what_came_with_it() {
    let (broker, mut peer, mut node) = connected().await;
    for attempt in 1..=3 {
        let mut both = peer.message("desired", b"good");
        both.extend([0x31, 0xff, 0xff, 0xff, 0x7f]);
        peer.raw(&both).await;
        node.told(|event| (event == LinkEvent::Desired(b"good".to_vec())).then_some(())).await;
        let reason = node.down().await;
        assert!(reason.contains("268435455 bytes") && reason.contains("262144"), "attempt {attempt}: {reason}");
        peer = broker.accept().await;
        peer.welcome(false).await;
        node.up().await;
    }
}

#[tokio::test]
async fn a_refused_subscription_is_no_connection() {
    for codes in [&[1, 0x80][..], &[1]] {
        let authority = Authority::new();
        let broker = Broker::start(&authority);
        let mut node = Node::new(settings(broker.address(), authority.client(NODE)));
        let mut peer = broker.accept().await;
        peer.connack(false, 0).await;
        peer.hear_publish().await;
        let Said::Subscribe { pkid, .. } = peer.hear().await else { panic!("no SUBSCRIBE") };
        peer.suback(pkid, codes).await;
        let LinkEvent::Down { reason } = node.told(Some).await else { panic!("it was up") };
        assert!(reason.contains("subscribe to its own topics"), "{reason}");
        broker.accept().await;
    }
}

#[tokio::test]
async fn a_subscription_without_answer_and_a_connect_without_answer_are_given_up() {
    let authority = Authority::new();
    let broker = Broker::start(&authority);
    let settings = settings(broker.address(), authority.client(NODE));
    let mut node = Node::new(LinkSettings { connect_timeout: Duration::from_millis(1500), ..settings });
    let mut peer = broker.accept().await;
    peer.connack(false, 0).await;
    // Pings are answered all the while: the broker is alive, it only forgot.
    while !matches!(peer.hear().await, Said::Closed) {}
    assert_eq!(node.down().await, "the broker did not answer the subscription within 1.5 s");
    let _peer = broker.accept().await;
    assert_eq!(node.down().await, "the broker did not answer within 1.5 s");
    let _tcp = broker.accept_tcp().await;
    assert_eq!(node.down().await, "the broker did not answer within 1.5 s");
}

#[tokio::test]
async fn a_broker_that_falls_silent_is_left() {
    let (broker, mut peer, mut node) = connected().await;
    peer.deaf_to_pings = true;
    let begun = Instant::now();
    let reason = node.down().await;
    assert!(reason.contains("ping"), "{reason}");
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    broker.accept().await;
}

#[tokio::test]
async fn the_watchdog_wakes_though_the_library_is_stuck_in_a_write() {
    let (broker, _half_open, mut node) = connected().await;
    let begun = Instant::now();
    // Nobody reads: the buffers of both ends fill up, and the library waits for one write without looking at the clock.
    let reason = loop {
        node.link.health(vec![b'x'; PACKET_BYTES_MAX]);
        tokio::task::yield_now().await;
        if let Ok(LinkEvent::Down { reason }) = node.told.try_recv() {
            break reason;
        }
        assert!(begun.elapsed() < DEADLINE, "the watchdog sleeps");
    };
    assert_eq!(reason, "nothing was heard of the broker for 3 s");
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    broker.accept().await;
}

#[tokio::test]
async fn a_broker_that_is_not_there_is_found_once_it_is() {
    let authority = Authority::new();
    // An address that no other test takes ports of.
    let address = Broker::at((Ipv4Addr::new(127, 77, 0, 1), 0).into(), &authority, &authority).address();
    let mut node = Node::new(settings(address, authority.client(NODE)));
    for _ in 0..5 {
        let reason = node.down().await;
        assert!(reason.contains("Connection refused"), "{reason}");
    }
    // The certificate is for another address: the name is checked too.
    let broker = Broker::at(address, &authority, &authority);
    broker.refuse_tls().await;
    let reason = node.told(|event| match event {
        LinkEvent::Down { reason } if !reason.contains("refused") => Some(reason),
        _ => None,
    });
    let reason = reason.await;
    assert!(reason.contains("certificate not valid for name"), "{reason}");
}

#[tokio::test]
async fn a_broker_that_refuses_the_node_says_why() {
    let authority = Authority::new();
    let broker = Broker::start(&authority);
    let mut node = Node::new(settings(broker.address(), authority.client(NODE)));
    for (code, clue) in [(1, "MQTT 3.1.1"), (2, "name"), (3, "not available"), (5, "revoked")] {
        broker.accept().await.connack(false, code).await;
        let reason = node.down().await;
        assert!(reason.contains(clue), "{code}: {reason}");
    }
    let mut peer = broker.accept().await;
    peer.welcome(false).await;
    node.up().await;
}

#[tokio::test]
async fn a_broker_of_another_authority_never_hears_of_the_node() {
    let authority = Authority::new();
    let broker = Broker::start(&Authority::new());
    let mut node = Node::new(settings(broker.address(), authority.client(NODE)));
    broker.refuse_tls().await;
    let LinkEvent::Down { reason } = node.told(Some).await else { panic!("connected to a stranger") };
    assert!(reason.contains("certificate"), "{reason}");
}

#[tokio::test]
async fn a_certificate_that_the_broker_refuses_is_told_apart() {
    let (authority, other) = (Authority::new(), Authority::new());
    let broker = Broker::at((Ipv4Addr::LOCALHOST, 0).into(), &authority, &other);
    let mut node = Node::new(settings(broker.address(), authority.client(NODE)));
    broker.refuse_tls().await;
    assert_eq!(node.told(Some).await, LinkEvent::CertificateRefused);
    let LinkEvent::Down { reason } = node.told(Some).await else { panic!("no reason") };
    assert!(reason.contains("does not accept the node's certificate"), "{reason}");
}

#[tokio::test]
async fn garbage_from_a_broker_never_ends_the_link() {
    let (broker, mut peer, mut node) = connected().await;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..60 {
        let mut garbage = Vec::new();
        for _ in 0..64 {
            // xorshift64
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            garbage.extend(state.to_le_bytes());
        }
        // A plausible packet of every type, then noise.
        garbage[0] = u8::try_from(state % 256).unwrap();
        garbage[1] = u8::try_from(state >> 8 & 0x3f).unwrap();
        peer.raw(&garbage).await;
        drop(peer);
        node.down().await;
        peer = broker.accept().await;
        peer.welcome(false).await;
        node.up().await;
    }
}

#[tokio::test]
async fn a_stop_says_offline_then_disconnects() {
    let (_broker, mut peer, node) = connected().await;
    let ((), heard) = tokio::join!(node.link.stop(), async {
        let (channel, _, payload) = peer.hear_publish().await;
        assert_eq!(channel, "online");
        assert!(payload.starts_with(br#"{"online":false"#));
        [peer.hear().await, peer.hear().await]
    });
    assert_eq!(heard, [Said::Disconnect, Said::Closed]);
    node.link.stop().await;
    assert!(!node.link.event(1, Vec::new()));
}

#[tokio::test]
async fn a_stop_takes_two_seconds_at_most_whatever_the_broker_does() {
    let (_broker, mut peer, node) = connected().await;
    // More than the library sends without an acknowledgement, so that the farewell waits behind it.
    (0..1_000).for_each(|_| node.link.report(b"report".to_vec()));
    let begun = Instant::now();
    node.link.stop().await;
    assert!(begun.elapsed() < STOP_MAX + Duration::from_secs(1), "{:?}", begun.elapsed());
    while !matches!(peer.hear().await, Said::Closed) {}

    // Not connected: nothing to say.
    let authority = Authority::new();
    let broker = Broker::start(&authority);
    let node = Node::new(settings(broker.address(), authority.client(NODE)));
    let _connecting = broker.accept().await;
    let begun = Instant::now();
    node.link.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_dropped_link_leaves_no_connection() {
    let (_broker, mut peer, node) = connected().await;
    drop(node);
    assert_eq!(peer.hear().await, Said::Closed);
}

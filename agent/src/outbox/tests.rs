use std::path::Path;

use orangery_wire::messages::{Refusal, RefusalCode};
use orangery_wire::{Digest, ReleaseId};

use super::*;
use crate::store::{Engine, open};

const ENGINES: [Engine; 2] = [Engine::Redb, Engine::Sled];
const ROOMY: u64 = 4 << 20;

fn outbox(engine: Engine, dir: &Path, bytes_max: u64) -> Outbox {
    let opened = open(engine, dir).unwrap();
    assert_eq!(opened.rebuilt, None);
    Outbox::open(opened.store, "attic".parse().unwrap(), "boot".into(), Clock::new(0), bytes_max).unwrap()
}

fn telemetry(n: u32) -> What {
    What::AppExited { reason: "exit status 1".to_owned(), restarts: n }
}

fn state(n: u8) -> What {
    let refusal = Refusal { release: ReleaseId(Digest([n; 32])), code: RefusalCode::Unhealthy, reason: String::new() };
    What::Refused { generation: n.into(), version: None, refusal, evidence: None }
}

/// What waits, as the coordinator would read it.
fn waiting(outbox: &mut Outbox) -> Vec<Event> {
    let unacked = outbox.unacked(0, usize::MAX).unwrap();
    let events: Vec<Event> = unacked.iter().map(|(_, json)| serde_json::from_slice(json).unwrap()).collect();
    assert!(unacked.iter().zip(&events).all(|((sequence, _), event)| *sequence == event.sequence));
    assert_eq!(outbox.waiting(), u64::try_from(events.len()).unwrap());
    events
}

fn sequences(outbox: &mut Outbox) -> Vec<(u64, Option<u64>)> {
    waiting(outbox).iter().map(|event| (event.sequence, event.previous)).collect()
}

fn ack(outbox: &mut Outbox, sequence: u64) {
    let epoch = outbox.epoch();
    outbox.acked(Acked { epoch, sequence }).unwrap();
}

#[test]
fn events_are_numbered_without_a_gap_and_say_what_is_before_them() {
    for engine in ENGINES {
        let dir = tempfile::tempdir().unwrap();
        let mut outbox = outbox(engine, dir.path(), ROOMY);
        for n in 1..=4u8 {
            assert_eq!(outbox.push(&state(n), Some(&"web".parse().unwrap())).unwrap(), u64::from(n));
        }
        assert_eq!(sequences(&mut outbox), [(1, Some(0)), (2, Some(1)), (3, Some(2)), (4, Some(3))]);
        let third = &waiting(&mut outbox)[2];
        assert_eq!((third.epoch, third.what.clone()), (outbox.epoch(), state(3)));
        assert_eq!(third.app.as_ref().map(AppName::as_str), Some("web"));

        let two = outbox.unacked(1, 2).unwrap();
        let event: Event = serde_json::from_slice(&two[0].1).unwrap();
        assert_eq!((two.len(), event.sequence, event.previous), (2, 2, Some(1)));
    }
}

#[test]
fn an_acknowledged_event_is_not_sent_again_but_stays_in_the_history() {
    for engine in ENGINES {
        let dir = tempfile::tempdir().unwrap();
        let mut outbox = outbox(engine, dir.path(), ROOMY);
        for n in 1..=4 {
            outbox.push(&state(n), None).unwrap();
        }
        ack(&mut outbox, 2);
        assert_eq!(sequences(&mut outbox), [(3, Some(0)), (4, Some(3))]);
        ack(&mut outbox, 1);
        assert_eq!(waiting(&mut outbox).len(), 2, "an older acknowledgement changes nothing");
        let history = outbox.history(3).unwrap();
        assert_eq!(history.iter().map(|event| event.sequence).collect::<Vec<_>>(), [2, 3, 4]);
        assert_eq!(outbox.history(usize::MAX).unwrap().len(), 4);
    }
}

#[test]
fn an_acknowledgement_of_another_epoch_or_of_the_future_forgets_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut outbox = outbox(Engine::Redb, dir.path(), ROOMY);
    outbox.push(&state(1), None).unwrap();
    let epoch = outbox.epoch() ^ 1;
    outbox.acked(Acked { epoch, sequence: 1 }).unwrap();
    assert_eq!(waiting(&mut outbox).len(), 1);
    ack(&mut outbox, u64::MAX);
    assert_eq!(waiting(&mut outbox).len(), 0);
    assert_eq!(outbox.push(&state(2), None).unwrap(), 2, "the next event is neither lost nor renamed");
    assert_eq!(sequences(&mut outbox), [(2, Some(0))]);
}

#[test]
fn a_restart_loses_no_event_and_reuses_no_number() {
    for engine in ENGINES {
        let dir = tempfile::tempdir().unwrap();
        let mut before = outbox(engine, dir.path(), ROOMY);
        for n in 1..=3 {
            before.push(&state(n), None).unwrap();
        }
        ack(&mut before, 2);
        let epoch = before.epoch();
        drop(before);
        let mut after = outbox(engine, dir.path(), ROOMY);
        // The acknowledgement was not saved yet: events travel twice rather than not at all.
        assert_eq!(sequences(&mut after).last(), Some(&(3, Some(2))), "{engine}");
        ack(&mut after, 3);
        assert_eq!(after.push(&state(4), None).unwrap(), 4, "{engine}");
        drop(after);
        let mut again = outbox(engine, dir.path(), ROOMY);
        assert_eq!(sequences(&mut again), [(4, Some(0))], "{engine}: with an event its acknowledgements are saved");
        assert_eq!(again.epoch(), epoch, "{engine}");
    }
}

#[test]
fn numbers_are_not_reused_when_all_that_was_stored_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let mut before = outbox(Engine::Redb, dir.path(), ROOMY);
    let last = u64::try_from(HISTORY_COUNT_MAX).unwrap() + 300;
    for _ in 0..last {
        before.push(&telemetry(0), None).unwrap();
    }
    ack(&mut before, last);
    drop(before);
    let mut after = outbox(Engine::Redb, dir.path(), ROOMY);
    assert_eq!(waiting(&mut after).len(), 0, "so many acknowledgements are saved by themselves");
    assert_eq!(after.history(usize::MAX).unwrap().len(), HISTORY_COUNT_MAX);
    assert_eq!(after.push(&telemetry(1), None).unwrap(), last + 1);
}

#[test]
fn a_full_outbox_drops_telemetry_before_state_and_says_how_much() {
    for engine in ENGINES {
        let dir = tempfile::tempdir().unwrap();
        let mut outbox = outbox(engine, dir.path(), 16 << 10);
        let mut pushed = 0u64;
        for n in 0..20 {
            outbox.push(&state(n), None).unwrap();
            outbox.push(&telemetry(n.into()), None).unwrap();
            pushed += 2;
        }
        for n in 0..100 {
            outbox.push(&telemetry(n), None).unwrap();
            pushed += 1;
        }
        let waiting = waiting(&mut outbox);
        let bytes: usize = waiting.iter().map(|event| serde_json::to_vec(event).unwrap().len()).sum();
        assert!(bytes < 20 << 10, "{engine}: {bytes}");
        let states = waiting.iter().filter(|event| matches!(event.what, What::Refused { .. })).count();
        assert_eq!(states, 20, "{engine}: no state is lost while there is telemetry");
        assert!(waiting.iter().any(|event| event.what == telemetry(99)), "{engine}: the newest stays");
        assert_eq!(heard_of(&waiting), pushed, "{engine}");
        assert_linked(&waiting);
    }
}

#[test]
fn an_outbox_full_of_state_drops_the_oldest_and_still_counts() {
    for engine in ENGINES {
        let dir = tempfile::tempdir().unwrap();
        let mut outbox = outbox(engine, dir.path(), 8 << 10);
        for n in 0..200 {
            outbox.push(&state(n), None).unwrap();
        }
        let events = waiting(&mut outbox);
        assert!(events.iter().any(|event| event.what == state(199)), "{engine}");
        assert!(!events.iter().any(|event| event.what == state(0)), "{engine}");
        assert_eq!(heard_of(&events), 200, "{engine}: what was dropped twice is counted once");
        assert_linked(&events);
    }
}

/// Events that are there, and those that are said to be dropped.
fn heard_of(events: &[Event]) -> u64 {
    events.iter().map(|event| if let What::EventsDropped { count } = event.what { count } else { 1 }).sum()
}

/// Each event names the one before it, so that nobody waits for what was dropped.
fn assert_linked(events: &[Event]) {
    let before = std::iter::once(0).chain(events.iter().map(|event| event.sequence));
    assert!(events.iter().zip(before).all(|(event, before)| event.previous == Some(before)));
}

#[test]
fn an_event_that_cannot_be_stored_leaves_the_outbox_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let mut outbox = outbox(Engine::Redb, dir.path(), ROOMY);
    outbox.push(&state(1), None).unwrap();
    let large = What::StoreRebuilt { reason: "x".repeat(crate::store::VALUE_BYTES_MAX) };
    assert!(outbox.push(&large, None).is_err());
    assert_eq!(outbox.push(&state(2), None).unwrap(), 2);
    assert_eq!(sequences(&mut outbox), [(1, Some(0)), (2, Some(1))]);
}

#[test]
fn an_event_of_a_newer_agent_still_travels() {
    let dir = tempfile::tempdir().unwrap();
    let mut before = outbox(Engine::Redb, dir.path(), ROOMY);
    before.push(&state(1), None).unwrap();
    drop(before);
    let mut store = open(Engine::Redb, dir.path()).unwrap().store;
    let json = br#"{"sequence":2,"what":{"code":"new"},"of_the_future":true}"#;
    store.write(&[Change::Put { key: 2, value: json.to_vec() }]).unwrap();
    drop(store);
    let mut after = outbox(Engine::Redb, dir.path(), ROOMY);
    let unacked = after.unacked(1, 10).unwrap();
    let sent: serde_json::Value = serde_json::from_slice(&unacked[0].1).unwrap();
    assert_eq!((&sent["of_the_future"], &sent["previous"]), (&true.into(), &1.into()));
    assert_eq!(after.history(10).unwrap().len(), 1);
}

/// A store that takes nothing while it is told so.
#[derive(Debug)]
struct Moody {
    below: Box<dyn Store>,
    refuses: Arc<std::sync::atomic::AtomicBool>,
}

impl Store for Moody {
    fn epoch(&self) -> u64 {
        self.below.epoch()
    }
    fn mark(&self) -> u64 {
        self.below.mark()
    }
    fn write(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        if self.refuses.load(std::sync::atomic::Ordering::SeqCst) {
            let source = std::io::Error::other("the disk did not answer").into();
            return Err(StoreError::Write { engine: Engine::Redb, source });
        }
        self.below.write(changes)
    }
    fn read(&mut self, after: u64, count_max: usize) -> Result<Vec<crate::store::Entry>, StoreError> {
        self.below.read(after, count_max)
    }
}

#[test]
fn what_the_store_does_not_take_is_stored_later_in_its_order_or_counted() {
    let dir = tempfile::tempdir().unwrap();
    let refuses = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let store = Moody { below: open(Engine::Redb, dir.path()).unwrap().store, refuses: refuses.clone() };
    let mut outbox =
        Outbox::open(Box::new(store), "attic".parse().unwrap(), "boot".into(), Clock::new(0), ROOMY).unwrap();
    outbox.push(&state(1), None).unwrap();
    let refuse = |yes| refuses.store(yes, std::sync::atomic::Ordering::SeqCst);
    refuse(true);
    outbox.push(&state(2), None).unwrap_err();
    outbox.push(&telemetry(1), None).unwrap_err();
    assert_eq!(waiting(&mut outbox).len(), 1);
    refuse(false);
    assert_eq!(outbox.push(&state(3), None).unwrap(), 4);
    assert!(!outbox.catch_up().unwrap());
    let whats: Vec<What> = waiting(&mut outbox).into_iter().map(|event| event.what).collect();
    assert_eq!(whats, [state(1), state(2), telemetry(1), state(3)]);

    refuse(true);
    outbox.push(&telemetry(2), None).unwrap_err();
    for n in 0..=255u8 {
        outbox.push(&state(n), None).unwrap_err();
    }
    for n in 0..10u8 {
        outbox.push(&state(n), None).unwrap_err();
    }
    outbox.catch_up().unwrap_err();
    refuse(false);
    assert!(outbox.catch_up().unwrap());
    let events = waiting(&mut outbox);
    assert_eq!(events.len(), 4 + LATE_COUNT_MAX + 1);
    assert_eq!(events[4].what, state(10), "telemetry went first, then the oldest");
    assert_eq!(events.last().unwrap().what, What::EventsDropped { count: 11 });
}

#[test]
fn what_is_before_an_event_and_whose_it_is_is_said_once_whoever_stored_it() {
    let said = |json: &str| as_it_travels(json.as_bytes().to_vec(), &"attic".parse().unwrap(), 6);
    let read = |json: &[u8]| serde_json::from_slice::<serde_json::Value>(json).unwrap();
    for json in [
        r#"{"format":1,"node":"attic","sequence":7}"#,
        r#"{"format":1,"node":"attic","previous":3,"sequence":7}"#,
        r#"{"sequence":7,"node":"attic","format":1}"#,
        r#"{"format":1,"node":"cellar","sequence":7}"#,
        r#"{"format":1,"sequence":7}"#,
    ] {
        let out = said(json);
        let expected = serde_json::json!({"format": 1, "node": "attic", "previous": 6, "sequence": 7});
        assert_eq!(read(&out), expected, "{json}");
        for member in [&b"\"previous\""[..], b"\"node\""] {
            assert_eq!(out.windows(member.len()).filter(|part| *part == member).count(), 1, "{json}");
        }
    }
    assert_eq!(said("not json"), b"not json");
}

#[test]
fn a_node_that_joined_by_another_name_tells_under_it_what_happened_before() {
    for engine in ENGINES {
        let dir = tempfile::tempdir().unwrap();
        let mut old = outbox(engine, dir.path(), ROOMY);
        for n in 1..=3 {
            old.push(&state(n), None).unwrap();
        }
        ack(&mut old, 1);
        old.push(&state(4), None).unwrap();
        drop(old);

        let opened = open(engine, dir.path()).unwrap();
        let clock = Clock::new(0);
        let mut new = Outbox::open(opened.store, "attic-2".parse().unwrap(), "boot".into(), clock, ROOMY).unwrap();
        new.push(&state(5), None).unwrap();
        assert!(waiting(&mut new).iter().all(|event| event.node.as_str() == "attic-2"));
        assert_eq!(sequences(&mut new), [(2, Some(0)), (3, Some(2)), (4, Some(3)), (5, Some(4))]);
    }
}

use orangery_wire::messages::{Acked, Event, FORMAT, ReleaseRef, What};
use orangery_wire::topics::Channel;
use orangery_wire::{Digest, NodeId, ReleaseId};

use super::*;

struct Fixture {
    directory: tempfile::TempDir,
    store: Store,
}

fn fixture() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("coordinator.db")).unwrap();
    Fixture { directory, store }
}

impl Fixture {
    fn path(&self) -> PathBuf {
        self.directory.path().join("coordinator.db")
    }
}

fn node() -> NodeId {
    "garage".parse().unwrap()
}

fn event(epoch: u64, sequence: u64, previous: Option<u64>) -> Event {
    Event {
        format: FORMAT,
        node: node(),
        epoch,
        sequence,
        previous,
        at: 5,
        clock_synced: true,
        boot_id: "b".into(),
        app: None,
        what: What::AgentStopped,
    }
}

/// Offers events one after the other and returns what was acknowledged after each.
fn offer(store: &mut Store, events: &[Event]) -> Vec<u64> {
    let take = |event: &Event| store.commit(|batch| batch.take_in(event, 9)).unwrap().acked.sequence;
    events.iter().map(take).collect()
}

#[test]
fn events_that_come_twice_or_out_of_order_are_stored_once_and_acknowledged_without_a_gap() {
    let mut f = fixture();
    let all: Vec<_> = [1, 2, 4, 2, 5, 3, 6].map(|sequence| event(7, sequence, Some(sequence - 1))).into();
    assert_eq!(offer(&mut f.store, &all), [1, 2, 2, 2, 2, 5, 6]);
    // Two gaps: closing the first does not leap over the second.
    let gaps: Vec<_> = [9, 11, 8, 7, 10].map(|sequence| event(7, sequence, Some(sequence - 1))).into();
    assert_eq!(offer(&mut f.store, &gaps), [6, 6, 6, 9, 11]);
    let stored: Vec<_> = f.store.view().events(0, 7, None).unwrap().iter().map(|e| e.event.sequence).collect();
    assert_eq!(stored, [1, 2, 4, 5, 3, 6, 9], "each once, in the order of arrival");
}

#[test]
fn a_gap_that_the_outbox_itself_has_is_not_waited_for() {
    let mut f = fixture();
    assert_eq!(offer(&mut f.store, &[event(7, 1, Some(0)), event(7, 5, Some(4))]), [1, 1]);
    // The node had to drop 2 to 4 for want of room: now nothing but 1 is before 5.
    assert_eq!(offer(&mut f.store, &[event(7, 5, Some(1)), event(7, 6, Some(5))]), [5, 6]);
}

#[test]
fn a_database_that_was_lost_begins_where_the_outbox_begins() {
    let mut f = fixture();
    // 57 was lost on the way: 58 must not be acknowledged for it.
    assert_eq!(offer(&mut f.store, &[event(7, 58, Some(57))]), [0]);
    assert_eq!(offer(&mut f.store, &[event(7, 57, Some(0))]), [58]);
    // An outbox that does not say what is before: the first that it offers.
    assert_eq!(offer(&mut f.store, &[event(8, 30, None), event(8, 32, None), event(8, 31, None)]), [30, 30, 32]);
}

#[test]
fn the_newest_epoch_is_acknowledged_and_events_of_an_older_one_are_kept_all_the_same() {
    let mut f = fixture();
    let high = u64::MAX;
    offer(
        &mut f.store,
        &[event(high, 1, Some(0)), event(3, 1, Some(0)), event(3, 2, Some(1)), event(high, 2, Some(1))],
    );
    assert_eq!(f.store.view().acked(&node()).unwrap(), Some(Acked { epoch: 3, sequence: 2 }));
    assert_eq!(f.store.view().events(0, 100, Some(&node())).unwrap().len(), 4);
}

#[test]
fn old_events_are_deleted_and_ids_are_never_used_again() {
    let mut f = fixture();
    f.store
        .commit(|batch| {
            for sequence in 1..=2_048 {
                let id = batch.take_in(&event(1, sequence, Some(sequence - 1)), 9)?.id.unwrap_or(0);
                batch.prune_events(id, 100)?;
            }
            Ok(())
        })
        .unwrap();
    let kept = f.store.view().events(0, 1_000, None).unwrap();
    assert_eq!((kept.first().unwrap().id, kept.last().unwrap().id), (1_949, 2_048));
    let again = f.store.commit(|batch| batch.take_in(&event(1, 2_049, Some(2_048)), 9)).unwrap();
    assert_eq!((again.id, again.acked.sequence), (Some(2_049), 2_049));
}

#[test]
fn a_part_that_is_refused_leaves_nothing_and_the_rest_of_the_batch_stays() {
    let mut f = fixture();
    f.store
        .commit(|batch| {
            batch.admit(&node(), 1)?;
            let refused = batch.part(|batch| {
                batch.admit(&"attic".parse().unwrap(), 1)?;
                Ok(Err::<(), _>("no"))
            })?;
            assert_eq!(refused, Err("no"));
            let failed = batch.part(|batch| {
                batch.admit(&"cellar".parse().unwrap(), u64::MAX)?;
                Ok(Ok::<_, ()>(()))
            });
            assert!(failed.unwrap_err().is_about_values());
            Ok(())
        })
        .unwrap();
    assert_eq!(f.store.view().node_names().unwrap(), [node()]);
}

#[test]
fn what_was_committed_is_there_after_a_reopening_and_what_was_not_is_not() {
    let mut f = fixture();
    f.store.commit(|batch| batch.admit(&node(), 1)).unwrap();
    let failed: Result<(), _> = f.store.commit(|batch| {
        batch.admit(&"attic".parse().unwrap(), 1)?;
        batch.execute("SELECT nonsense", []).map(drop)
    });
    assert!(failed.is_err());
    let reader = Reader::open(&f.path()).unwrap();
    assert_eq!(reader.read(|view| view.node_names()).unwrap(), [node()]);
    let path = f.path();
    drop(f.store);
    assert_eq!(Store::open(&path).unwrap().view().node_names().unwrap(), [node()]);
}

#[test]
fn a_damaged_or_newer_database_is_refused_with_its_name() {
    let f = fixture();
    f.store.connection.pragma_update(None, "user_version", 99).unwrap();
    let path = f.path();
    drop(f.store);
    let error = Store::open(&path).unwrap_err();
    assert!(matches!(error, StoreError::TooNew { found: 99, .. }), "{error}");

    std::fs::write(&path, vec![7; 8_192]).unwrap();
    let error = Store::open(&path).unwrap_err().to_string();
    assert!(error.contains("coordinator.db"), "{error}");
}

#[test]
fn a_page_of_garbage_inside_the_database_is_found_at_the_start() {
    use std::os::unix::fs::FileExt as _;
    let mut f = fixture();
    f.store
        .commit(|batch| {
            for n in 0..2_000 {
                batch.admit(&format!("node-{n}").parse().unwrap(), 1)?;
            }
            Ok(())
        })
        .unwrap();
    let path = f.path();
    drop(f.store);
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    let pages = file.metadata().unwrap().len() / 4_096;
    file.write_all_at(&[0xa5; 4_096], (pages - 3) * 4_096).unwrap();
    let error = Store::open(&path).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("restore a backup"));
}

#[test]
fn rejections_are_all_counted_and_told_once_a_minute() {
    let mut f = fixture();
    let at = |f: &mut Fixture, now| {
        f.store.commit(|batch| batch.count_rejection(&node(), Channel::Event, "not_json", now)).unwrap()
    };
    assert_eq!([100, 101, 159, 160, 161].map(|now| at(&mut f, now)), [true, false, false, true, false]);
    assert_eq!(f.store.view().rejections(&node(), Channel::Event, "not_json").unwrap(), 5);
}

#[test]
fn an_invite_is_used_as_often_as_it_may_be_and_no_more() {
    let mut f = fixture();
    let secret = Digest([1; 32]);
    let invite = Invite { name: None, expires_at: 9, uses_left: 2 };
    f.store.commit(|batch| batch.add_invite(&secret, &invite)).unwrap();
    let mut used = |key: u8| f.store.commit(|batch| batch.use_invite(&secret, &Digest([key; 32]), &node())).unwrap();
    assert_eq!([used(1), used(2), used(3)], [true, true, false]);
    assert_eq!(f.store.view().joined(&secret, &Digest([2; 32])).unwrap(), Some(node()));
    assert_eq!(f.store.view().joined(&secret, &Digest([3; 32])).unwrap(), None);
}

#[test]
fn a_revoked_node_stays_revoked_with_all_its_keys() {
    let mut f = fixture();
    f.store
        .commit(|batch| {
            batch.admit(&node(), 1)?;
            batch.add_certificate(&node(), "aa", &Digest([1; 32]), 1, 99)?;
            batch.set_desired(&node(), &"greeter".parse().unwrap(), 4, None)?;
            batch.revoke(&node(), 2)?;
            batch.revoke(&node(), 3)?;
            batch.admit(&node(), 4)
        })
        .unwrap();
    let view = f.store.view();
    assert_eq!(view.revoked_nodes().unwrap(), [node()]);
    assert!(view.nodes_with_desired().unwrap().is_empty(), "it is told nothing any more");
    assert!(!view.has_key(&node(), &Digest([1; 32])).unwrap());
    let row = view.node(&node()).unwrap().unwrap();
    assert_eq!((row.joined_at, row.revoked_at, row.generation), (1, Some(2), 4));
}

#[test]
fn a_node_that_renews_its_certificate_again_and_again_fills_nothing() {
    let mut f = fixture();
    let other: NodeId = "attic".parse().unwrap();
    let key = |number: u8| Digest([number; 32]);
    f.store
        .commit(|batch| {
            batch.admit(&node(), 1)?;
            batch.admit(&other, 1)?;
            batch.add_certificate(&other, "other", &key(0), 1, 99)?;
            // Issued while the coordinator's clock was ahead.
            (1..=9).try_for_each(|n| batch.add_certificate(&node(), &format!("early {n}"), &key(n), 9_000, 9_999))?;
            (10..=30).try_for_each(|n| batch.add_certificate(&node(), &format!("{n}"), &key(n), n.into(), 99))
        })
        .unwrap();
    let count: u32 = f.store.connection.query_row("SELECT count(*) FROM certificates", [], |row| row.get(0)).unwrap();
    assert_eq!(count, 8 + 1);
    let view = f.store.view();
    assert!(view.has_key(&node(), &key(30)).unwrap(), "the one that was handed out last");
    assert!(view.has_key(&other, &key(0)).unwrap());
}

/// As the program of that time wrote it, while a rollout was under way.
const VERSION_2: &str = include_str!("../../tests/fixtures/database-2.sql");

#[test]
fn a_database_of_an_earlier_version_is_brought_up_to_date_and_nothing_in_it_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("coordinator.db");
    let old = Connection::open(&path).unwrap();
    old.execute_batch(VERSION_2).unwrap();
    let found: usize = old.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(found, 2);
    drop(old);
    for _ in 0..2 {
        let mut store = Store::open(&path).unwrap();
        let view = store.view();
        assert_eq!(view.node_names().unwrap().len(), 3);
        assert!(view.nodes().unwrap().iter().all(|row| row.reported.is_some() && row.health.is_some()));
        assert_eq!(view.releases().unwrap().len(), 4);
        assert_eq!(view.events(0, 1_000, None).unwrap().len(), 36);
        assert_eq!(view.holds().unwrap().len(), 2);
        let [rollout] = &view.active_rollouts().unwrap()[..] else { panic!("one rollout is under way") };
        assert_eq!((rollout.begun.by.as_str(), rollout.turns.len()), ("ann", 3), "who said so then stays");
        assert_eq!(view.nodes_with_desired().unwrap().len(), 3);
        store.commit(|batch| batch.set_owner(&Digest([7; 32]), 9)).unwrap();
        let [owner] = &store.view().users().unwrap()[..] else { panic!("the owner is there, without a deed") };
        assert_eq!((owner.name.as_str(), owner.role), (OWNER, orangery_wire::rest::Role::Admin));
        assert_eq!(store.view().audit_end().unwrap(), crate::audit::Link::START);
    }
}

#[test]
fn another_token_of_the_owner_takes_the_place_of_the_one_before() {
    let mut f = fixture();
    for byte in [1, 2, 2] {
        f.store.commit(|batch| batch.set_owner(&Digest([byte; 32]), 9)).unwrap();
    }
    let tokens = f.store.view().tokens().unwrap();
    assert_eq!(tokens.iter().map(|token| token.digest).collect::<Vec<_>>(), [Digest([2; 32])]);
}

#[test]
fn another_token_of_the_owner_ends_the_password_and_sessions_that_somebody_could_have_begun_with_the_one_before() {
    let mut f = fixture();
    let owner: orangery_wire::UserName = OWNER.parse().unwrap();
    let hash = crate::password::PasswordHash::nobodys();
    let begun = SessionRow { digest: Digest([8; 32]), user: owner.clone(), created_at: 9, used_at: 9, address: None };
    let set = |byte: u8| move |batch: &Batch<'_>| batch.set_owner(&Digest([byte; 32]), 9);
    f.store.commit(set(1)).unwrap();
    f.store
        .commit(|batch| {
            batch.set_password(&owner, &hash, 9)?;
            batch.add_session(&begun)
        })
        .unwrap();
    f.store.commit(set(1)).unwrap();
    assert_eq!(f.store.view().password(OWNER).unwrap(), Some(hash), "a start changes nothing");
    assert_eq!(f.store.view().sessions().unwrap(), [begun]);
    f.store.commit(set(2)).unwrap();
    assert_eq!(f.store.view().password(OWNER).unwrap(), None);
    assert!(f.store.view().sessions().unwrap().is_empty());
}

#[test]
fn what_a_node_was_told_is_proven_once_in_each_generation() {
    let mut f = fixture();
    let (garage, app) = (node(), "greeter".parse().unwrap());
    let release = |byte| ReleaseRef { id: ReleaseId(Digest([byte; 32])), version: "1.0.0".parse().unwrap() };
    f.store
        .commit(|batch| {
            batch.admit(&garage, 1)?;
            batch.set_desired(&garage, &app, 4, Some(&release(1)))?;
            assert!(!batch.prove(&garage, &app, 3, &release(1), 9)?, "another generation");
            assert!(!batch.prove(&garage, &app, 4, &release(2), 9)?, "another release");
            assert!(batch.prove(&garage, &app, 4, &release(1), 9)?);
            assert!(!batch.prove(&garage, &app, 4, &release(1), 9)?, "again");
            batch.set_desired(&garage, &app, 5, Some(&release(1)))?;
            assert!(batch.prove(&garage, &app, 5, &release(1), 9)?);
            Ok(())
        })
        .unwrap();
}

//! What the coordinator serves as metadata: only what the owner's keys vouch for is trusted, and only as long as it is valid.

#![allow(clippy::unwrap_used, reason = "these are tests, their helpers included")]

mod origin;
mod owner;
mod refreshing;

use std::fs;
use std::sync::Arc;

use orangery_agent::clock::Clock;
use orangery_agent::disk::RealDisk;
use orangery_agent::trusted::Trusted;
use orangery_trust::repository::{KeyHolders, Online, SigningKey};
use orangery_wire::messages::{RefusalCode, TrustReport};
use origin::Trick;
use owner::{DAY, Owner, Release, now};
use refreshing::{World, report};

#[tokio::test]
async fn the_first_refresh_takes_everything_and_the_next_one_only_looks() {
    let mut world = World::new().await;
    assert_eq!(world.load().report(now()), report(1, 0));
    assert_eq!(world.refresh().await, Ok(report(1, 1)));
    assert_eq!(world.asked(), ["2.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json"]);
    assert_eq!(world.refresh().await, Ok(report(1, 1)));
    assert_eq!(world.asked(), ["2.root.json", "timestamp.json"]);
    world.owner.publish_at(now());
    world.owner.serve(&world.origin);
    assert_eq!(world.refresh().await, Ok(report(1, 1)));
    assert_eq!(world.asked(), ["2.root.json", "timestamp.json", "2.snapshot.json"]);
}

#[tokio::test]
async fn without_a_root_nothing_is_asked_and_nothing_trusted() {
    let world = World::new().await;
    fs::remove_file(world.file("root.json")).unwrap();
    fs::remove_file(world.file("1.root.json")).unwrap();
    let text = world.is_refused(RefusalCode::NoTrustRoot).await;
    assert!(text.contains("no trust root"), "{text}");
    fs::write(world.file("root.json"), "{}").unwrap();
    let text = world.is_refused(RefusalCode::NoTrustRoot).await;
    assert!(text.contains("can be read"), "{text}");
    assert_eq!(world.asked(), Vec::<String>::new());
    assert_eq!(world.load().report(now()), TrustReport::default());
}

#[tokio::test]
async fn metadata_of_other_keys_is_refused() {
    let world = World::new().await;
    let mut thief = Owner::new();
    thief.renew(&world.origin);
    world.is_refused(RefusalCode::Unverified).await;
    assert!(!world.file("timestamp.json").exists());
}

#[tokio::test]
async fn the_online_keys_alone_cannot_change_the_targets() {
    let world = World::new().await;
    // Whoever has taken over the coordinator signs a snapshot and a timestamp for targets of his own.
    let mut thief = Owner::new();
    let copy = |key: &SigningKey| SigningKey::from_pem(&key.to_pem()).unwrap();
    thief.online =
        Online { snapshot: copy(&world.owner.online.snapshot), timestamp: copy(&world.owner.online.timestamp) };
    thief.change_root(|root| {
        root.snapshot = KeyHolders::any_of([world.owner.online.snapshot.public()]);
        root.timestamp = KeyHolders::any_of([world.owner.online.timestamp.public()]);
    });
    thief.renew(&world.origin);
    world.origin.remove("/metadata/2.root.json");
    let text = world.is_refused(RefusalCode::Unverified).await;
    assert!(text.contains("targets"), "{text}");
    assert!(world.file("snapshot.json").exists() && !world.file("targets.json").exists());
}

#[tokio::test]
async fn tampered_metadata_is_refused_whichever_file_it_is() {
    // The end of the roots comes first, then the files in this order.
    for (honest, name) in [(1, "timestamp.json"), (2, "1.snapshot.json"), (3, "1.targets.json")] {
        for trick in [Trick::Wrong, Trick::Longer(1), Trick::Shorter(1)] {
            let world = World::new().await;
            world.origin.play(vec![Trick::Honest; honest]);
            world.origin.play([trick]);
            world.is_refused(RefusalCode::Unverified).await;
            assert_eq!(world.asked().last().unwrap(), name);
            assert_eq!(world.refresh().await, Ok(report(1, 1)), "and nothing is lost by it");
        }
    }
}

#[tokio::test]
async fn expired_metadata_is_refused_and_reported() {
    let mut world = World::new().await;
    assert_eq!(world.refresh().await, Ok(report(1, 1)));
    world.owner.targets = None;
    world.owner.sign_targets_at(now() - 60 * DAY, |content| content.version = 2);
    world.owner.publish_at(now() - 46 * DAY);
    world.owner.serve(&world.origin);
    world.is_refused(RefusalCode::Expired).await;
    let later = now() + 46 * DAY;
    assert!(world.load().report(later).stale);
    let failure = world.load().refresh(&world.http, later).await.unwrap_err();
    assert_eq!(failure.reason.code, RefusalCode::Expired);
    let (app, version) = ("a".parse().unwrap(), "1.0.0".parse().unwrap());
    assert!(world.load().release(&world.http, &app, &version, later).await.is_err());
}

#[tokio::test]
async fn a_network_that_fails_half_way_is_no_reason_to_refuse_and_loses_nothing() {
    let world = World::new().await;
    for (honest, trick) in
        [(0, Trick::Silence), (1, Trick::Status(500)), (2, Trick::CutAfter(10)), (2, Trick::Redirect("/".into()))]
    {
        world.origin.play(vec![Trick::Honest; honest]);
        world.origin.play([trick]);
        let failure = world.refresh().await.unwrap_err();
        assert!(failure.again, "{}", failure.reason.text);
    }
    world.asked();
    assert_eq!(world.refresh().await, Ok(report(1, 1)));
}

#[tokio::test]
async fn a_file_that_is_not_published_yet_is_asked_for_again() {
    let world = World::new().await;
    world.origin.remove("/metadata/1.targets.json");
    let failure = world.refresh().await.unwrap_err();
    assert!(failure.again, "{}", failure.reason.text);
    world.owner.serve(&world.origin);
    assert_eq!(world.refresh().await, Ok(report(1, 1)));
}

#[tokio::test]
async fn the_clock_is_never_behind_the_owners_signature() {
    let mut world = World::new().await;
    let far = now() + 10 * DAY;
    // The owner's machine is right, the node's clock is behind.
    world.owner.targets = None;
    world.owner.sign_targets_at(far, |content| content.version = 2);
    world.owner.publish_at(far);
    world.owner.serve(&world.origin);
    let mut trusted = world.load();
    trusted.refresh(&world.http, world.clock.now()).await.unwrap();
    assert!(world.clock.now() >= far);
    let restarted = Clock::new(0);
    Trusted::load(Arc::new(RealDisk), world.directory.path().to_owned(), restarted.clone());
    assert!(restarted.now() >= far);
}

#[tokio::test]
async fn a_release_is_vouched_for_only_as_the_owner_signed_it() {
    let mut world = World::new().await;
    let good = Release::new("greeter", "1.2.0", b"good");
    let want = world.owner.release(&world.origin, &good);
    let mut trusted = world.load();
    assert_eq!(trusted.still_allows(&good.app(), &want), Some(Ok(())), "nothing is known against it yet");
    trusted.refresh(&world.http, now()).await.unwrap();
    let release = trusted.release(&world.http, &good.app(), &want.version, now()).await.unwrap();
    assert_eq!((release.id, release.length), (want.id, good.bytes().len() as u64));
    assert_eq!(trusted.still_allows(&good.app(), &want), Some(Ok(())));
    let later = now() + 400 * DAY;
    let failure = trusted.release(&world.http, &good.app(), &want.version, later).await.unwrap_err();
    assert_eq!(failure.reason.code, RefusalCode::Expired);
    let other = Release::new("greeter", "1.2.0", b"other").wanted();
    let reason = trusted.still_allows(&good.app(), &other).unwrap().unwrap_err();
    assert!(reason.code.is_unverified(), "{reason:?}");
    for (app, version) in [("greeter", "1.2.1"), ("other", "1.2.0")] {
        let (app, version) = (app.parse().unwrap(), version.parse().unwrap());
        let failure = trusted.release(&world.http, &app, &version, now()).await.unwrap_err();
        assert_eq!((failure.again, failure.reason.code), (false, RefusalCode::Revoked), "{}", failure.reason.text);
    }
    let mut next = Release::new("greeter", "1.3.0", b"next");
    next.floor = Some("1.3.0");
    world.owner.release(&world.origin, &next);
    trusted.refresh(&world.http, now()).await.unwrap();
    let reason = trusted.still_allows(&good.app(), &want).unwrap().unwrap_err();
    assert!(reason.text.contains("floor"), "{}", reason.text);
}

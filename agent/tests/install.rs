//! Releases from a real origin: nothing installs but what the owner signed, for this node, as it was signed.

#![allow(clippy::unwrap_used, reason = "these are tests, their helpers included")]

mod joined;
mod origin;
mod owner;

use std::fs;
use std::path::PathBuf;

use joined::{World, greeter, parts};
use orangery_agent::install::InstallFailure;
use orangery_wire::messages::{RefusalCode, TrustReport};
use origin::Trick;
use owner::{DAY, Owner, Release, now};

#[tokio::test]
async fn a_release_comes_verified_and_sealed_and_then_needs_no_network() {
    let mut world = World::new().await;
    let release = greeter("1.0.0");
    world.publish(&release);
    world.succeeds(&release).await;
    let base = "/metadata/";
    let metadata = ["2.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json"].map(|f| format!("{base}{f}"));
    assert_eq!(world.asked(), [&metadata[..], &[release.target(), release.blob()]].concat());
    world.succeeds(&release).await;
    assert_eq!(world.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn without_a_trust_root_nothing_installs() {
    let mut world = World::new().await;
    let release = greeter("1.0.0");
    world.publish(&release);
    fs::remove_dir_all(world.layout().trust()).unwrap();
    world.is_refused(&release, RefusalCode::NoTrustRoot).await;
    assert_eq!(world.asked(), Vec::<String>::new());
    // Nor does what is here already.
    world.join();
    world.succeeds(&release).await;
    fs::remove_dir_all(world.layout().trust()).unwrap();
    let failure = world.install(&release).await.unwrap_err();
    assert!(matches!(failure, InstallFailure::Refused(reason) if reason.code == RefusalCode::NoTrustRoot));
}

#[tokio::test]
async fn only_what_the_owner_signed_installs() {
    let mut world = World::new().await;
    let signed = greeter("1.0.0");
    world.publish(&signed);
    let unsigned = greeter("1.0.1");
    unsigned.serve(&world.origin);
    world.is_refused(&unsigned, RefusalCode::Revoked).await;
    let other = Release::new("greeter", "1.0.0", b"other");
    other.serve(&world.origin);
    let text = world.is_refused(&other, RefusalCode::Unverified).await;
    assert!(text.contains(&signed.wanted().id.short()) && text.contains(&other.wanted().id.short()), "{text}");
    let mut thief = Owner::new();
    thief.release(&world.origin, &unsigned);
    world.is_refused(&unsigned, RefusalCode::Unsigned).await;
}

#[tokio::test]
async fn a_release_that_the_owner_took_back_is_not_used_even_if_it_is_here() {
    let mut world = World::new().await;
    let release = greeter("1.0.0");
    world.publish(&release);
    world.succeeds(&release).await;
    let version = release.manifest.version.clone();
    world.owner.sign_targets_at(now(), |targets| assert!(targets.remove_release(&release.app(), &version)));
    world.owner.publish_at(now());
    world.owner.serve(&world.origin);
    world.succeeds(&release).await;
    // The next refresh brings the news.
    let installer = world.installer();
    let next = greeter("1.1.0");
    world.publish(&next);
    installer.install(&next.app(), &next.wanted()).await.unwrap();
    let failure = installer.install(&release.app(), &release.wanted()).await.unwrap_err();
    assert!(matches!(failure, InstallFailure::Refused(reason) if reason.code == RefusalCode::Revoked));
    assert_eq!(installer.trust_report(now()), TrustReport { root: 1, targets: 3, stale: false });
}

#[tokio::test]
async fn a_release_below_the_floor_is_refused() {
    let mut world = World::new().await;
    let (old, mut new) = (greeter("1.0.0"), greeter("1.1.0"));
    new.floor = Some("1.1.0");
    world.publish(&old);
    world.publish(&new);
    let text = world.is_refused(&old, RefusalCode::BelowFloor).await;
    assert!(text.contains("1.1.0"), "{text}");
    world.succeeds(&new).await;
}

#[tokio::test]
async fn expired_metadata_blocks_what_is_new_and_not_what_is_here() {
    let mut world = World::new().await;
    let (here, new) = (greeter("1.0.0"), greeter("1.1.0"));
    world.publish(&here);
    world.succeeds(&here).await;
    let (custom, bytes) = (new.custom(), new.bytes());
    world.owner.targets = None;
    world.owner.sign_targets_at(now() - 60 * DAY, |targets| {
        targets.version = 2;
        targets.add_release(&custom, &bytes).unwrap();
        targets.add_release(&here.custom(), &here.bytes()).unwrap();
    });
    world.owner.publish_at(now() - 46 * DAY);
    world.owner.serve(&world.origin);
    new.serve(&world.origin);
    world.is_refused(&new, RefusalCode::Expired).await;
    world.succeeds(&here).await;
}

#[tokio::test]
async fn what_the_origin_gets_wrong_is_refused_with_its_code() {
    let longer = Trick::Longer(1);
    let cases = [
        // The manifest is the fifth answer, the pack the sixth.
        (4, Trick::Wrong, RefusalCode::WrongManifest),
        (4, longer.clone(), RefusalCode::TooLong),
        (4, Trick::Shorter(1), RefusalCode::WrongManifest),
        (4, Trick::Status(404), RefusalCode::NotFound),
        (5, Trick::Wrong, RefusalCode::WrongDigest),
        (5, longer, RefusalCode::TooLong),
        (5, Trick::LongerAnnounced(1), RefusalCode::WrongSize),
        (5, Trick::Shorter(1), RefusalCode::WrongSize),
        (5, Trick::Status(404), RefusalCode::NotFound),
    ];
    for (honest, trick, code) in cases {
        let mut world = World::new().await;
        let release = greeter("1.0.0");
        world.publish(&release);
        world.origin.play(vec![Trick::Honest; honest]);
        world.origin.play([trick.clone()]);
        world.is_refused(&release, code).await;
        assert_eq!(world.origin.seen().len(), honest + 1, "{trick:?}");
        assert_eq!(parts(&world.layout()), Vec::<PathBuf>::new(), "{trick:?}");
        world.succeeds(&release).await;
    }
}

#[tokio::test]
async fn what_the_network_does_is_tried_again_and_goes_on_where_it_stopped() {
    for trick in [Trick::CutAfter(300_000), Trick::StallAfter(300_000), Trick::Status(503), Trick::Silence] {
        // The timestamp, the manifest, the pack; the end of the roots comes before.
        for honest in [1, 4, 5] {
            let mut world = World::new().await;
            let release = greeter("1.0.0");
            world.publish(&release);
            world.origin.play(vec![Trick::Honest; honest]);
            let trick = match trick {
                Trick::CutAfter(_) if honest < 5 => Trick::CutAfter(10),
                Trick::StallAfter(_) if honest < 5 => Trick::StallAfter(10),
                ref other => other.clone(),
            };
            world.origin.play([trick.clone()]);
            let failure = world.install(&release).await.unwrap_err();
            assert!(matches!(failure, InstallFailure::Again(_)), "{trick:?}: {failure}");
            world.origin.forget_seen();
            world.succeeds(&release).await;
            let range = world.origin.seen().last().unwrap().range.clone();
            let resumed = honest == 5 && matches!(trick, Trick::CutAfter(_) | Trick::StallAfter(_));
            assert_eq!(range, resumed.then(|| "bytes=300000-".to_owned()), "{trick:?}");
        }
    }
}

#[tokio::test]
async fn a_manifest_that_lies_about_its_pack_is_refused() {
    let mut world = World::new().await;
    let mut wrong_digest = greeter("1.0.1");
    if let orangery_wire::manifest::Entry::File { digest, .. } = wrong_digest.tree_mut().entries.first_mut().unwrap() {
        digest.0[0] ^= 1;
    }
    let mut wrong_size = greeter("1.0.2");
    wrong_size.tree_mut().size_bytes += 1;
    if let orangery_wire::manifest::Entry::File { size_bytes, .. } = wrong_size.tree_mut().entries.first_mut().unwrap()
    {
        *size_bytes += 1;
    }
    let mut wrong_platform = greeter("1.0.3");
    let tree = wrong_platform.tree().clone();
    wrong_platform.manifest.platforms = [("plan9/z80".to_owned(), tree)].into();
    let mut wrong_label = greeter("1.0.4");
    wrong_label.manifest.constraints.labels.insert("site".into(), "attic".into());
    let mut invalid = greeter("1.0.5");
    invalid.manifest.run.exec.clear();
    let mut needy = greeter("1.0.6");
    needy.tree_mut().pack.size_bytes = u64::MAX;
    for (release, code, blobs) in [
        (wrong_digest, RefusalCode::Unverified, 1),
        (wrong_size, RefusalCode::Unverified, 1),
        (wrong_platform, RefusalCode::Incompatible, 0),
        (wrong_label, RefusalCode::Incompatible, 0),
        (invalid, RefusalCode::InvalidManifest, 0),
        (needy, RefusalCode::NoSpace, 0),
    ] {
        let blob = format!("/blobs/{}", greeter("1.0.0").tree().pack.digest);
        world.owner.release(&world.origin, &Release { pack: greeter("1.0.0").pack, ..release.clone() });
        world.asked();
        let text = world.is_refused_anew(&release, code).await;
        let fetched = world.asked().into_iter().filter(|path| *path == blob).count();
        assert_eq!(fetched, blobs, "{text}");
    }
}

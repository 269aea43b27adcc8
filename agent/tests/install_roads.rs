//! Releases that come by other roads than the coordinator's: the same rules, and nothing that a road does harms.

#![allow(clippy::unwrap_used, reason = "these are tests, their helpers included")]

mod joined;
mod origin;
mod owner;
mod small_disk;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use joined::{World, greeter, parts};
use orangery_agent::clock::Clock;
use orangery_agent::install::{InstallFailure, Installer};
use orangery_agent::road::{Place, Road};
use orangery_wire::container::{BLOCK_BYTES, header};
use orangery_wire::messages::RefusalCode;
use origin::{Authority, Origin, Trick};
use owner::{DAY, Owner, Release, now};
use small_disk::SmallDisk;

/// What the owner has published, as files of a repository.
fn files(owner: &Owner, releases: &[&Release]) -> Vec<(String, Vec<u8>)> {
    let published = owner.published.clone().unwrap();
    let targets = owner.targets.clone().unwrap();
    let version = &serde_json::from_slice::<serde_json::Value>(&targets).unwrap()["signed"]["version"];
    let roots = owner.roots.iter().enumerate().map(|(n, root)| (format!("metadata/{}.root.json", n + 1), root.clone()));
    let mut files: Vec<_> = roots.collect();
    files.push((format!("metadata/{version}.targets.json"), targets.clone()));
    files.push((format!("metadata/{}.snapshot.json", published.snapshot_version), published.snapshot));
    files.push(("metadata/timestamp.json".into(), published.timestamp));
    for release in releases {
        files.push((release.target()[1..].to_owned(), release.bytes()));
        let blob = release.blob()[1..].to_owned();
        // Releases may share a pack.
        if files.iter().all(|(name, _)| *name != blob) {
            files.push((blob, release.pack.clone()));
        }
    }
    files
}

fn as_directory(files: &[(String, Vec<u8>)], to: &Path) -> Road {
    for (name, bytes) in files {
        fs::create_dir_all(to.join(name).parent().unwrap()).unwrap();
        fs::write(to.join(name), bytes).unwrap();
    }
    open(to)
}

fn as_bundle(files: &[(String, Vec<u8>)], to: &Path) -> Road {
    let mut bytes = Vec::new();
    for (name, content) in files {
        bytes.extend(header(name, content.len() as u64).unwrap());
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
    }
    bytes.resize(bytes.len() + 2 * BLOCK_BYTES, 0);
    fs::write(to, bytes).unwrap();
    open(to)
}

fn open(path: &Path) -> Road {
    Road::open(&Place::Path(path.to_owned()), &Clock::new(0)).unwrap()
}

/// The repository as a directory and as a bundle.
fn both(files: &[(String, Vec<u8>)], below: &Path) -> [Road; 2] {
    [as_directory(files, &below.join("copy")), as_bundle(files, &below.join("bundle"))]
}

/// An owner who has published `release` where only a road leads.
async fn published(release: &Release) -> (World, Vec<(String, Vec<u8>)>, tempfile::TempDir) {
    let mut world = World::new().await;
    world.publish(release);
    let files = files(&world.owner, &[release]);
    (world, files, tempfile::tempdir().unwrap())
}

async fn brings(installer: &Installer, road: &Road, release: &Release) {
    let brought = installer.bring(road, &release.app(), &release.manifest.version).await.unwrap();
    assert_eq!(brought, release.wanted());
}

/// [`RefusalCode::Unverified`] stands for all of its kind.
async fn refuses(installer: &Installer, road: &Road, release: &Release, code: RefusalCode) -> String {
    match installer.bring(road, &release.app(), &release.manifest.version).await.unwrap_err() {
        InstallFailure::Refused(reason) => {
            let fits = reason.code == code || (code == RefusalCode::Unverified && reason.code.is_unverified());
            assert!(fits, "{reason:?}");
            reason.text
        }
        InstallFailure::Again(reason) => panic!("it would be tried again: {reason}"),
    }
}

#[tokio::test]
async fn a_release_comes_by_directory_and_by_bundle_and_the_network_is_not_asked() {
    let release = greeter("1.0.0");
    let (world, files, place) = published(&release).await;
    for road in both(&files, place.path()) {
        assert_eq!(road.claims(), [(release.app(), release.manifest.version.clone())]);
        brings(&world.installer(), &road, &release).await;
        world.is_whole(&release);
        // Once more needs no pack.
        brings(&world.installer(), &road, &release).await;
        fs::remove_dir_all(world.layout().apps()).unwrap();
        fs::remove_dir_all(world.layout().trust()).unwrap();
        world.join();
    }
    assert_eq!(world.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn no_byte_of_a_road_may_be_another() {
    let release = greeter("1.0.0");
    let (world, good, place) = published(&release).await;
    for n in 0..good.len() {
        let mut files = good.clone();
        let middle = files[n].1.len() / 2;
        files[n].1[middle] ^= 1;
        // The root that the node has is not asked for again.
        if files[n].0 == "metadata/1.root.json" {
            continue;
        }
        for road in both(&files, &corner(&place, &n.to_string())) {
            // What the node knows from the time before would do instead of what is broken.
            fs::remove_dir_all(world.layout().trust()).unwrap();
            world.join();
            refuses(&world.installer(), &road, &release, RefusalCode::Unverified).await;
            assert!(world.sealed(&release).is_none(), "{}", files[n].0);
        }
    }
    assert_eq!(parts(&world.layout()), Vec::<PathBuf>::new());
}

/// A directory of its own below `place`.
fn corner(place: &tempfile::TempDir, name: &str) -> PathBuf {
    let corner = place.path().join(name);
    fs::create_dir_all(&corner).unwrap();
    corner
}

#[tokio::test]
async fn what_a_road_lacks_is_told_and_a_road_that_is_older_than_the_node_is_refused() {
    let release = greeter("1.0.0");
    let (mut world, files, place) = published(&release).await;
    for missing in [release.target(), release.blob()] {
        let fewer: Vec<_> = files.iter().filter(|(name, _)| *name != missing[1..]).cloned().collect();
        for road in both(&fewer, &corner(&place, &missing.replace('/', "-"))) {
            refuses(&world.installer(), &road, &release, RefusalCode::NotFound).await;
        }
    }
    let old = both(&files, place.path());
    let next = greeter("1.1.0");
    world.publish(&next);
    world.succeeds(&next).await;
    for road in &old {
        let text = refuses(&world.installer(), road, &release, RefusalCode::Replayed).await;
        assert!(text.contains("older than the trusted"), "{text}");
    }
    world.is_whole(&next);
}

#[tokio::test]
async fn what_has_expired_or_was_taken_back_or_lies_below_the_floor_comes_by_no_road() {
    let release = greeter("1.0.0");
    let (mut world, _, place) = published(&release).await;
    let version = release.manifest.version.clone();
    world.owner.sign_targets_at(now(), |targets| assert!(targets.remove_release(&release.app(), &version)));
    world.owner.publish_at(now());
    for road in both(&files(&world.owner, &[&release]), &corner(&place, "revoked")) {
        refuses(&world.installer(), &road, &release, RefusalCode::Revoked).await;
    }
    let (old, mut floor) = (greeter("1.0.1"), greeter("1.2.0"));
    floor.floor = Some("1.1.0");
    world.publish(&old);
    world.publish(&floor);
    for road in both(&files(&world.owner, &[&old, &floor]), &corner(&place, "floor")) {
        refuses(&world.installer(), &road, &old, RefusalCode::BelowFloor).await;
        brings(&world.installer(), &road, &floor).await;
    }
}

#[tokio::test]
async fn a_stick_that_has_expired_brings_nothing() {
    let release = greeter("1.0.0");
    let mut world = World::new().await;
    let place = tempfile::tempdir().unwrap();
    let then = now() - 46 * DAY;
    let (custom, manifest) = (release.custom(), release.bytes());
    world.owner.sign_targets_at(then, |targets| assert!(targets.add_release(&custom, &manifest).unwrap()));
    world.owner.publish_at(then);
    for road in both(&files(&world.owner, &[&release]), place.path()) {
        refuses(&world.installer(), &road, &release, RefusalCode::Expired).await;
    }
}

#[tokio::test]
async fn a_node_without_a_root_takes_nothing_from_a_stick() {
    let release = greeter("1.0.0");
    let (world, files, place) = published(&release).await;
    fs::remove_dir_all(world.layout().trust()).unwrap();
    for road in both(&files, place.path()) {
        refuses(&world.installer(), &road, &release, RefusalCode::NoTrustRoot).await;
    }
}

#[tokio::test]
async fn a_stick_that_is_cut_short_while_it_is_read_can_be_put_back() {
    let release = greeter("1.0.0");
    let (world, files, place) = published(&release).await;
    let road = as_bundle(&files, &place.path().join("bundle"));
    let whole = fs::read(place.path().join("bundle")).unwrap();
    // The pack is the last in it. It was opened whole.
    let file = fs::OpenOptions::new().write(true).open(place.path().join("bundle")).unwrap();
    file.set_len(whole.len() as u64 - 300_000).unwrap();
    let failure = world.installer().bring(&road, &release.app(), &release.manifest.version).await.unwrap_err();
    assert!(matches!(&failure, InstallFailure::Again(text) if text.contains("stick")), "{failure}");
    let part = parts(&world.layout()).remove(0);
    assert!(part.metadata().unwrap().len() > 0, "what was read is kept");
    fs::write(place.path().join("bundle"), &whole).unwrap();
    brings(&world.installer(), &open(&place.path().join("bundle")), &release).await;
    world.is_whole(&release);
}

#[tokio::test]
async fn what_was_half_downloaded_from_elsewhere_does_no_harm() {
    let release = greeter("1.0.0");
    let (world, files, place) = published(&release).await;
    fs::create_dir_all(world.layout().parts()).unwrap();
    let part = world.layout().part(&release.tree().pack.digest);
    for held in [&release.pack[..10_000], &[7; 10_000]] {
        fs::write(&part, held).unwrap();
        brings(&world.installer(), &as_directory(&files, &place.path().join("copy")), &release).await;
        world.is_whole(&release);
        fs::remove_dir_all(world.layout().apps()).unwrap();
    }
}

#[tokio::test]
async fn links_and_special_files_on_a_stick_are_not_followed() {
    let release = greeter("1.0.0");
    let (world, files, place) = published(&release).await;
    let copy = place.path().join("copy");
    let road = as_directory(&files, &copy);
    let blob = copy.join(&release.blob()[1..]);
    let elsewhere = place.path().join("elsewhere");
    fs::rename(&blob, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &blob).unwrap();
    let failure = world.installer().bring(&road, &release.app(), &release.manifest.version).await.unwrap_err();
    assert!(matches!(failure, InstallFailure::Again(_)), "{failure}");
    assert!(world.sealed(&release).is_none());
    fs::rename(copy.join("metadata"), place.path().join("metadata")).unwrap();
    std::os::unix::fs::symlink(place.path().join("metadata"), copy.join("metadata")).unwrap();
    assert!(world.installer().bring(&road, &release.app(), &release.manifest.version).await.is_err());
}

#[tokio::test]
async fn a_mirror_is_asked_first_and_the_coordinator_where_it_fails() {
    let release = greeter("1.0.0");
    let (world, files, _place) = published(&release).await;
    let authority = Authority::new();
    let mirror = Origin::start(&authority).await;
    let http = || orangery_agent::fetch::Http::new(&mirror.url, authority.node("attic")).unwrap();
    for (name, bytes) in &files {
        mirror.put(format!("/{name}"), bytes.clone());
    }
    world.asked();
    let installer = world.installer().preferring(http().into());
    installer.install(&release.app(), &release.wanted()).await.unwrap();
    assert_eq!(world.asked(), Vec::<String>::new(), "the mirror was enough");
    world.is_whole(&release);

    // It lies, or is behind: the coordinator has it.
    for trick in [Trick::Wrong, Trick::Status(500), Trick::Status(404)] {
        fs::remove_dir_all(world.layout().apps()).unwrap();
        mirror.play([Trick::Honest, trick]);
        let installer = world.installer().preferring(http().into());
        installer.install(&release.app(), &release.wanted()).await.unwrap();
        assert!(!world.asked().is_empty());
        world.is_whole(&release);
    }

    // What is about the node is not asked twice.
    let Some(small) = SmallDisk::new(1_500_000) else { return };
    let layout = orangery_agent::layout::Layout::new(small.path());
    fs::create_dir(layout.trust()).unwrap();
    fs::write(layout.trust().join("root.json"), world.owner.root()).unwrap();
    let disk: Arc<dyn orangery_agent::disk::Disk> = Arc::new(orangery_agent::disk::RealDisk);
    let clock = Clock::new(0);
    let trusted = orangery_agent::trusted::Trusted::load(disk.clone(), layout.trust(), clock.clone());
    let nowhere = orangery_agent::fetch::Http::new("https://127.0.0.1:1", authority.stranger()).unwrap();
    let installer =
        Installer::new(&world.settings, layout, disk, nowhere, trusted, None, clock).preferring(http().into());
    let failure = installer.install(&release.app(), &release.wanted()).await.unwrap_err();
    assert!(matches!(failure, InstallFailure::Refused(reason) if reason.code == RefusalCode::NoSpace));
}

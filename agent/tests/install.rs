//! Releases from a real origin onto a real disk: nothing but what the owner signed, whole, sealed last.

#![allow(clippy::unwrap_used, reason = "these are tests, their helpers included")]

mod dying_disk;
mod origin;
mod owner;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dying_disk::DyingDisk;
use orangery_agent::clock::Clock;
use orangery_agent::config::Settings;
use orangery_agent::disk::{Disk, RealDisk};
use orangery_agent::fetch::{Http, Patience};
use orangery_agent::install::{InstallFailure, Installer, collect, sealed};
use orangery_agent::layout::Layout;
use orangery_agent::trusted::Trusted;
use orangery_wire::messages::{RefusalCode, ReleaseRef, TrustReport};
use orangery_wire::{AppName, ReleaseId};
use origin::{Authority, Origin, Trick};
use owner::{DAY, Owner, Release, now};

struct World {
    authority: Authority,
    origin: Origin,
    owner: Owner,
    _directory: tempfile::TempDir,
    settings: Settings,
}

/// Incompressible, and larger than several batches of the download.
fn content() -> Vec<u8> {
    let mut state = 1u64;
    let next = std::iter::repeat_with(move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    });
    next.take(1_000_003).collect()
}

fn greeter(version: &str) -> Release {
    Release::new("greeter", version, &content())
}

impl World {
    /// A node that has just joined, and an owner who has published nothing but the keys.
    async fn new() -> Self {
        let authority = Authority::new();
        let origin = Origin::start(&authority).await;
        let directory = tempfile::tempdir().unwrap();
        let mut settings = Settings { state_dir: directory.path().to_owned(), ..Settings::default() };
        settings.fetch.stall_secs = 1;
        settings.fetch.reserve_bytes = 0;
        let world = Self { authority, origin, owner: Owner::new(), _directory: directory, settings };
        world.join();
        world
    }

    fn join(&self) {
        fs::create_dir_all(self.layout().trust()).unwrap();
        fs::write(self.layout().trust().join("root.json"), self.owner.root()).unwrap();
    }

    fn layout(&self) -> Layout {
        Layout::new(&self.settings.state_dir)
    }

    /// The installer of an agent that was just started.
    fn installer_on(&self, disk: Arc<dyn Disk>) -> Installer {
        let patience = Patience { resumes_max: 0, answer: Duration::from_millis(800), ..Patience::default() };
        let http = Http::with_patience(&self.origin.url, self.authority.node("attic"), patience).unwrap();
        let clock = Clock::new(0);
        let trusted = Trusted::load(disk.clone(), self.layout().trust(), clock.clone());
        Installer::new(&self.settings, self.layout(), disk, http, trusted, None, clock)
    }

    fn installer(&self) -> Installer {
        self.installer_on(Arc::new(RealDisk))
    }

    /// Publishes a release and returns its name.
    fn publish(&mut self, release: &Release) -> ReleaseRef {
        self.owner.release(&self.origin, release)
    }

    async fn install(&self, release: &Release) -> Result<(), InstallFailure> {
        let manifest = self.installer().install(&release.app(), &release.wanted()).await?;
        assert_eq!(*manifest, release.manifest);
        Ok(())
    }

    async fn succeeds(&self, release: &Release) {
        self.install(release).await.unwrap();
        self.is_whole(release);
    }

    /// The release must be refused for good, and not exist.
    async fn is_refused(&self, release: &Release, code: RefusalCode) -> String {
        match self.install(release).await.unwrap_err() {
            InstallFailure::Refused(reason) => {
                assert_eq!(reason.code, code, "{}", reason.text);
                assert!(self.sealed(release).is_none());
                reason.text
            }
            InstallFailure::Again(reason) => panic!("it would be tried again: {reason}"),
        }
    }

    fn sealed(&self, release: &Release) -> Option<orangery_wire::Manifest> {
        sealed(&RealDisk, &self.layout(), &release.app(), &release.wanted().id)
    }

    fn directory_of(&self, release: &Release) -> PathBuf {
        self.layout().release(&release.app(), &release.wanted().id)
    }

    fn is_whole(&self, release: &Release) {
        assert_eq!(self.sealed(release).as_ref(), Some(&release.manifest));
        let tree = self.directory_of(release).join("tree");
        assert!(fs::read(tree.join("app")).unwrap() == content());
        assert_eq!(fs::read(tree.join("share/latest")).unwrap(), b"notes");
        assert_eq!(mode(&tree.join("app")), 0o555);
        assert_eq!(parts(&self.layout()), Vec::<PathBuf>::new(), "nothing is left of the download");
    }

    fn asked(&self) -> Vec<String> {
        let seen = self.origin.seen();
        self.origin.forget_seen();
        seen.into_iter().map(|seen| seen.path).collect()
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn parts(layout: &Layout) -> Vec<PathBuf> {
    let entries = fs::read_dir(layout.parts()).into_iter().flatten();
    entries.map(|entry| entry.unwrap().path()).collect()
}

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
    world.is_refused(&unsigned, RefusalCode::Unverified).await;
    let other = Release::new("greeter", "1.0.0", b"other");
    other.serve(&world.origin);
    let text = world.is_refused(&other, RefusalCode::Unverified).await;
    assert!(text.contains(&signed.wanted().id.short()) && text.contains(&other.wanted().id.short()), "{text}");
    let mut thief = Owner::new();
    thief.release(&world.origin, &unsigned);
    world.is_refused(&unsigned, RefusalCode::Unverified).await;
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
    assert!(matches!(failure, InstallFailure::Refused(reason) if reason.code == RefusalCode::Unverified));
    assert_eq!(installer.trust_report(now()), TrustReport { root: 1, targets: 3, stale: false });
}

#[tokio::test]
async fn a_release_below_the_floor_is_refused() {
    let mut world = World::new().await;
    let (old, mut new) = (greeter("1.0.0"), greeter("1.1.0"));
    new.floor = Some("1.1.0");
    world.publish(&old);
    world.publish(&new);
    let text = world.is_refused(&old, RefusalCode::Unverified).await;
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
        (4, Trick::Wrong, RefusalCode::Unverified),
        (4, longer.clone(), RefusalCode::Unverified),
        (4, Trick::Shorter(1), RefusalCode::Unverified),
        (4, Trick::Status(404), RefusalCode::NotFound),
        (5, Trick::Wrong, RefusalCode::Unverified),
        (5, longer, RefusalCode::Unverified),
        (5, Trick::LongerAnnounced(1), RefusalCode::Unverified),
        (5, Trick::Shorter(1), RefusalCode::Unverified),
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

impl World {
    async fn is_refused_anew(&self, release: &Release, code: RefusalCode) -> String {
        let failure = self.installer().install(&release.manifest.app, &release.wanted()).await.unwrap_err();
        let InstallFailure::Refused(reason) = failure else { panic!("{failure}") };
        assert_eq!(reason.code, code, "{}", reason.text);
        reason.text
    }
}

#[tokio::test]
async fn whatever_lies_where_the_release_goes_is_replaced_and_nothing_beyond_it_touched() {
    let mut world = World::new().await;
    let release = greeter("1.0.0");
    world.publish(&release);
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("precious"), "precious").unwrap();
    for plant in ["half a release", "links inside", "a link", "a file", "an empty seal", "another seal"] {
        let at = world.directory_of(&release);
        let _ = fs::remove_dir_all(&at);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        match plant {
            "a link" => symlink(outside.path(), &at).unwrap(),
            "a file" => fs::write(&at, "x").unwrap(),
            _ => fs::create_dir_all(at.join("tree/share")).unwrap(),
        }
        match plant {
            "half a release" => fs::write(at.join("tree/app"), "half").unwrap(),
            "links inside" => {
                fs::remove_dir(at.join("tree/share")).unwrap();
                symlink(outside.path(), at.join("tree/share")).unwrap();
                symlink(outside.path().join("precious"), at.join("tree/app")).unwrap();
                symlink(outside.path(), at.join("manifest.json")).unwrap();
            }
            "an empty seal" => fs::write(at.join("manifest.json"), "").unwrap(),
            "another seal" => fs::write(at.join("manifest.json"), greeter("2.0.0").bytes()).unwrap(),
            _ => {}
        }
        assert!(world.sealed(&release).is_none(), "{plant}");
        world.succeeds(&release).await;
    }
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    assert_eq!(fs::read(outside.path().join("precious")).unwrap(), b"precious");
}

#[tokio::test]
async fn a_link_in_place_of_the_apps_directory_is_refused() {
    let mut world = World::new().await;
    let release = greeter("1.0.0");
    world.publish(&release);
    let outside = tempfile::tempdir().unwrap();
    fs::create_dir(outside.path().join("releases")).unwrap();
    fs::create_dir(world.layout().apps()).unwrap();
    symlink(outside.path(), world.layout().app(&release.app())).unwrap();
    world.is_refused(&release, RefusalCode::DiskFailed).await;
    assert_eq!(fs::read_dir(outside.path().join("releases")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_sealed_release_that_is_no_longer_as_signed_is_fetched_anew() {
    let mut world = World::new().await;
    let release = greeter("1.0.0");
    world.publish(&release);
    world.succeeds(&release).await;
    let tree = world.directory_of(&release).join("tree");
    let rewrite = |path: &str, content: &[u8], mode: u32| {
        let path = tree.join(path);
        fs::remove_file(&path).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let damages: [&dyn Fn(); 10] = [
        &|| rewrite("share/notes", b"NOTES", 0o444),
        &|| rewrite("share/notes", b"notes!", 0o444),
        &|| rewrite("share/notes", b"notes", 0o644),
        &|| rewrite("share/notes", b"notes", 0o4444),
        &|| fs::remove_file(tree.join("share/notes")).unwrap(),
        &|| fs::write(tree.join("share/added"), "").unwrap(),
        &|| fs::create_dir(tree.join("added")).unwrap(),
        &|| {
            fs::remove_file(tree.join("share/latest")).unwrap();
            symlink("/etc/passwd", tree.join("share/latest")).unwrap();
        },
        &|| {
            fs::rename(tree.join("app"), tree.parent().unwrap().join("app")).unwrap();
            symlink("../app", tree.join("app")).unwrap();
        },
        &|| fs::remove_dir_all(&tree).unwrap(),
    ];
    for (n, damage) in damages.iter().enumerate() {
        damage();
        world.origin.forget_seen();
        world.succeeds(&release).await;
        assert!(world.asked().contains(&release.blob()), "damage {n} was seen");
    }
}

#[tokio::test]
async fn an_install_that_is_dropped_at_any_moment_does_not_disturb_the_next() {
    let mut world = World::new().await;
    let release = greeter("1.0.0");
    world.publish(&release);
    let (app, want) = (release.app(), release.wanted());
    let installer = world.installer();
    for millis in 0..60 {
        let dropped = tokio::time::timeout(Duration::from_millis(millis), installer.install(&app, &want)).await;
        if millis % 5 != 0 {
            continue;
        }
        drop(dropped);
        loop {
            match installer.install(&app, &want).await {
                Ok(_) => break,
                // The last write of the dropped one is still under way.
                Err(InstallFailure::Again(_)) => tokio::task::yield_now().await,
                Err(failure) => panic!("{failure}"),
            }
        }
        world.is_whole(&release);
        collect(&RealDisk, &world.layout(), &app, &[]).unwrap();
    }
}

#[tokio::test]
async fn an_agent_that_is_killed_at_any_write_installs_after_all() {
    let mut world = World::new().await;
    let release = greeter("1.0.0");
    world.publish(&release);
    let mut died = 0;
    for calls in 0.. {
        let disk = Arc::new(DyingDisk::after(calls));
        let outcome = world.installer_on(disk.clone()).install(&release.app(), &release.wanted()).await;
        if !disk.is_dead() {
            outcome.unwrap();
            break;
        }
        died += 1;
        // Whatever is sealed is whole; what is not does not exist.
        if world.sealed(&release).is_some() {
            let tree = world.directory_of(&release).join("tree");
            assert!(fs::read(tree.join("app")).unwrap() == content());
        }
        world.succeeds(&release).await;
        collect(&RealDisk, &world.layout(), &release.app(), &[]).unwrap();
        fs::remove_dir_all(world.layout().app(&release.app())).unwrap();
        fs::remove_dir_all(world.layout().trust()).unwrap();
        world.join();
    }
    assert!(died > 25, "{died}");
}

#[tokio::test]
async fn two_apps_with_the_same_files_install_side_by_side() {
    let mut world = World::new().await;
    let (one, two) = (greeter("1.0.0"), Release::new("other", "1.0.0", &content()));
    world.publish(&one);
    world.publish(&two);
    assert_eq!(one.blob(), two.blob());
    let installer = world.installer();
    // Two downloads of the same file take turns: the later one is asked to come again.
    let persist = async |release: &Release| loop {
        match installer.install(&release.app(), &release.wanted()).await {
            Ok(_) => break,
            Err(InstallFailure::Again(_)) => tokio::task::yield_now().await,
            Err(failure) => panic!("{failure}"),
        }
    };
    tokio::join!(persist(&one), persist(&two));
    world.is_whole(&one);
    world.is_whole(&two);
}

#[tokio::test]
async fn releases_that_nobody_needs_are_collected_and_the_others_stay() {
    let mut world = World::new().await;
    let releases = ["1.0.0", "1.1.0", "1.2.0", "1.3.0"].map(greeter);
    for release in &releases {
        world.publish(release);
        world.succeeds(release).await;
    }
    let layout = world.layout();
    let app: AppName = "greeter".parse().unwrap();
    // One that was never finished, and something that is none of ours.
    let unfinished: ReleaseId = "ab".repeat(32).parse().unwrap();
    fs::create_dir_all(layout.tree(&app, &unfinished)).unwrap();
    fs::create_dir(layout.releases(&app).join("lost+found")).unwrap();
    let keep = [releases[1].wanted().id, releases[3].wanted().id];
    assert_eq!(collect(&RealDisk, &layout, &app, &keep).unwrap(), 3);
    let mut left: Vec<String> =
        fs::read_dir(layout.releases(&app)).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    left.sort();
    let mut expected = vec![keep[0].to_string(), keep[1].to_string(), "lost+found".to_owned()];
    expected.sort();
    assert_eq!(left, expected);
    world.is_whole(&releases[1]);
    assert_eq!(collect(&RealDisk, &layout, &app, &keep).unwrap(), 0);
    assert_eq!(collect(&RealDisk, &layout, &"absent".parse().unwrap(), &[]).unwrap(), 0);
}

#[tokio::test]
async fn a_release_that_is_collected_half_way_does_not_exist_any_more() {
    let mut world = World::new().await;
    let release = greeter("1.0.0");
    world.publish(&release);
    for calls in 0.. {
        world.succeeds(&release).await;
        let disk = DyingDisk::after(calls);
        let outcome = collect(&disk, &world.layout(), &release.app(), &[]);
        if outcome.is_ok() {
            assert!(calls > 5);
            break;
        }
        if world.sealed(&release).is_some() {
            world.is_whole(&release);
        }
    }
}

#[tokio::test]
async fn downloads_that_were_given_up_are_removed_and_those_of_late_are_kept() {
    let world = World::new().await;
    let parts_of = world.layout().parts();
    fs::create_dir(&parts_of).unwrap();
    let week = Duration::from_hours(7 * 24);
    for (name, age) in [("old", week * 2), ("new", week / 2)] {
        let part = fs::File::create(parts_of.join(name)).unwrap();
        part.set_modified(std::time::SystemTime::now() - age).unwrap();
    }
    collect(&RealDisk, &world.layout(), &"greeter".parse().unwrap(), &[]).unwrap();
    assert_eq!(parts(&world.layout()), [parts_of.join("new")]);
}

/// A file system of so many bytes, unmounted when dropped. `None`, and says so, where one cannot be mounted.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new(bytes: u64) -> Option<Self> {
        Self::with_names(bytes, 10_000)
    }

    /// One that also takes only so many files and directories.
    fn with_names(bytes: u64, names: u32) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let options = format!("size={bytes},nr_inodes={names},mode=0755");
        let mount = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(directory.path())
            .output();
        if mount.is_ok_and(|output| output.status.success()) {
            return Some(Self(directory));
        }
        eprintln!("SKIPPED: only root can mount the small disk that this test needs");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn a_release_that_does_not_fit_is_refused_before_its_first_byte_is_fetched() {
    let Some(small) = SmallDisk::new(1_500_000) else { return };
    let mut world = World::new().await;
    world.settings.state_dir = small.0.path().to_owned();
    world.join();
    let release = greeter("1.0.0");
    world.publish(&release);
    let text = world.is_refused(&release, RefusalCode::NoSpace).await;
    let free = rustix::fs::statvfs(small.0.path()).unwrap();
    let free = free.f_bavail * free.f_frsize;
    let numbers: Vec<u64> = text.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect();
    let needed = numbers.iter().copied().max().unwrap();
    assert!(needed > 2_000_000 && numbers.iter().any(|n| n.abs_diff(free) < 65_536), "{text}, free {free}");
    assert!(!world.asked().contains(&release.blob()));
}

#[tokio::test]
async fn downloads_for_others_make_room_and_the_reserve_stays_free() {
    let Some(small) = SmallDisk::new(2_500_000) else { return };
    let mut world = World::new().await;
    world.settings.state_dir = small.0.path().to_owned();
    world.join();
    let release = greeter("1.0.0");
    world.publish(&release);
    fs::create_dir(world.layout().parts()).unwrap();
    fs::write(world.layout().parts().join("other"), vec![0; 1_000_000]).unwrap();
    world.succeeds(&release).await;
    collect(&RealDisk, &world.layout(), &release.app(), &[]).unwrap();
    world.settings.fetch.reserve_bytes = 600_000;
    world.is_refused(&release, RefusalCode::NoSpace).await;
}

#[tokio::test]
async fn a_disk_that_fills_up_at_any_file_refuses_the_release_and_leaves_none() {
    // Bytes are counted beforehand; names are what this disk runs out of.
    let mut refused = 0;
    for names in 10.. {
        let Some(small) = SmallDisk::with_names(10_000_000, names) else { return };
        let mut world = World::new().await;
        world.settings.state_dir = small.0.path().to_owned();
        world.join();
        let release = greeter("1.0.0");
        world.publish(&release);
        match world.install(&release).await {
            Ok(()) => break,
            Err(InstallFailure::Refused(reason)) if reason.code == RefusalCode::NoSpace => refused += 1,
            Err(failure) => panic!("{names}: {failure}"),
        }
        assert!(world.sealed(&release).is_none());
    }
    assert!(refused > 5, "{refused}");
}

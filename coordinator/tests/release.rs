//! Releases on the owner's machine: what can be built, what is refused, and that a changed bundle is noticed.
#![allow(clippy::unwrap_used)] // A test stops at the first surprise.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;
use orangery::cli::{self, InitArgs, SealArgs};
use orangery::home::Home;
use orangery::output;
use orangery::owner::{Adopted, Owner, Passphrases};
use orangery::release::build::{self, BuildError, Plan};
use orangery::release::bundle::Bundle;
use orangery::release::verify;
use orangery_trust::repository::verify_targets;
use orangery_wire::manifest::{Encoding, Entry};

const RECIPE: &str =
    "soak_secs = 2\n[run]\nexec = [\"bin/app\"]\n[[probes]]\nhttp = { port = 8080, path = \"/health\" }\n";

/// A directory with a manifest file and a small app.
struct Workshop {
    directory: tempfile::TempDir,
    level: i32,
    version: Cell<&'static str>,
}

impl Workshop {
    fn new() -> Self {
        let workshop = Self { directory: tempfile::tempdir().unwrap(), level: 3, version: Cell::new("1.0.0") };
        workshop.write("app.toml", RECIPE);
        workshop.write("tree/bin/app", "#!/bin/sh\nexit 0\n");
        workshop.write("tree/words.txt", &"orange ".repeat(40_000));
        fs::set_permissions(workshop.path("tree/bin/app"), fs::Permissions::from_mode(0o755)).unwrap();
        workshop
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn build_as(&self, out: &str, platforms: &[(&str, &str)]) -> Result<Bundle, BuildError> {
        let platforms: BTreeMap<String, PathBuf> =
            platforms.iter().map(|(name, directory)| ((*name).to_owned(), self.path(directory))).collect();
        let plan = Plan {
            app: "app".parse().unwrap(),
            version: self.version.get().parse().unwrap(),
            recipe: &self.path("app.toml"),
            platforms: &platforms,
            out: &self.path(out),
            level: self.level,
        };
        build::build(&plan, &ProgressBar::hidden())
    }

    fn build(&self) -> Result<Bundle, BuildError> {
        self.build_as("app.orangery", &[("linux/arm64", "tree")])
    }
}

/// The whole chain of causes, as a person sees it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

fn refused(workshop: &Workshop) -> String {
    let error = workshop.build().unwrap_err();
    assert!(!workshop.path("app.orangery").exists(), "nothing may be left behind");
    chain(&error)
}

#[test]
fn the_same_input_gives_the_same_bytes_and_they_verify() {
    let workshop = Workshop::new();
    let first = workshop.build_as("one", &[("linux/arm64", "tree")]).unwrap();
    verify::contents(&first, &ProgressBar::hidden()).unwrap();
    // Another time stamp, another order of creation, another path: none of it may show.
    fs::rename(workshop.path("tree"), workshop.path("moved")).unwrap();
    let again = fs::read(workshop.path("moved/words.txt")).unwrap();
    fs::remove_file(workshop.path("moved/words.txt")).unwrap();
    fs::write(workshop.path("moved/words.txt"), again).unwrap();
    let second = workshop.build_as("two", &[("linux/arm64", "moved")]).unwrap();
    assert_eq!(first.id(), second.id());
    assert_eq!(fs::read(workshop.path("one")).unwrap(), fs::read(workshop.path("two")).unwrap());
}

#[test]
fn platforms_with_the_same_files_share_a_pack() {
    let workshop = Workshop::new();
    let platforms = [("linux/amd64", "tree"), ("linux/arm64", "tree")];
    let bundle = workshop.build_as("app.orangery", &platforms).unwrap();
    assert_eq!((bundle.manifest().platforms.len(), bundle.packs().count()), (2, 1));
    verify::contents(&bundle, &ProgressBar::hidden()).unwrap();
}

#[test]
fn a_tree_keeps_links_modes_and_empty_directories() {
    let workshop = Workshop::new();
    fs::create_dir_all(workshop.path("tree/empty")).unwrap();
    symlink("../words.txt", workshop.path("tree/bin/words")).unwrap();
    let bundle = workshop.build().unwrap();
    let tree = &bundle.manifest().platforms["linux/arm64"];
    let link = |e: &Entry| matches!(e, Entry::Link { path, target } if path == "bin/words" && target == "../words.txt");
    assert!(tree.entries.iter().any(link), "{:?}", tree.entries);
    assert!(tree.entries.iter().any(|e| matches!(e, Entry::Directory { path } if path == "empty")));
    let executable = |e: &Entry| matches!(e, Entry::File { executable: true, .. });
    assert_eq!(tree.entries.iter().filter(|e| executable(e)).map(Entry::path).collect::<Vec<_>>(), ["bin/app"]);
    assert!(tree.pack.size_bytes < tree.size_bytes);
}

#[test]
fn level_zero_stores_the_files_as_they_are() {
    let mut workshop = Workshop::new();
    workshop.level = 0;
    let bundle = workshop.build().unwrap();
    let tree = &bundle.manifest().platforms["linux/arm64"];
    assert_eq!((tree.pack.encoding, tree.pack.size_bytes), (Encoding::None, tree.size_bytes));
    verify::contents(&bundle, &ProgressBar::hidden()).unwrap();
}

#[test]
fn a_pack_asks_a_node_for_a_window_of_eight_mebibytes_at_most() {
    let mut workshop = Workshop::new();
    workshop.level = 22;
    // More than the largest window, and not compressible to nothing.
    let mut state = 1u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let bytes: Vec<u8> = (0..9 << 20).map(|_| noise()).collect();
    fs::write(workshop.path("tree/noise"), &bytes).unwrap();
    // Level 22 is slow over noise; what sets the window is the level, not the amount.
    let bundle = workshop.build().unwrap();
    verify::contents(&bundle, &ProgressBar::hidden()).unwrap();
}

#[test]
fn what_cannot_be_released_is_refused_by_path() {
    let workshop = Workshop::new();
    let app = workshop.path("tree/bin/app");
    fs::set_permissions(&app, fs::Permissions::from_mode(0o4755)).unwrap();
    let text = refused(&workshop);
    assert!(text.contains("linux/arm64") && text.contains("bin/app") && text.contains("chmod u-s"), "{text}");
    fs::set_permissions(&app, fs::Permissions::from_mode(0o755)).unwrap();
    symlink("/etc/passwd", workshop.path("tree/secret")).unwrap();
    assert!(refused(&workshop).contains("absolute path /etc/passwd"));
}

#[test]
fn a_manifest_file_with_a_mistake_is_refused_where_it_is() {
    for (recipe, named) in [
        ("[run]\nexec = [\"bin/app\"]\nstop_grace_sec = 4\n", "did you mean `stop_grace_secs`?"),
        ("[run]\nexec = [\"bin/missing\"]\n", "bin/missing"),
        ("[run]\nexec = [\"../bin/app\"]\n", "../bin/app"),
        ("soak_secs = 100000\n[run]\nexec = [\"bin/app\"]\n", "longer than a day"),
        ("[run]\n", "exec"),
        ("not toml", "TOML"),
    ] {
        let workshop = Workshop::new();
        workshop.write("app.toml", recipe);
        let text = refused(&workshop);
        assert!(text.contains(named), "{recipe:?}: {text}");
    }
}

#[test]
fn a_platform_that_is_none_or_has_no_directory_is_refused() {
    let workshop = Workshop::new();
    let text = chain(&workshop.build_as("x", &[("arm64", "tree")]).unwrap_err());
    assert!(text.contains("linux/arm64"), "{text}");
    let text = chain(&workshop.build_as("x", &[("linux/arm64", "nowhere")]).unwrap_err());
    assert!(text.contains("nowhere"), "{text}");
    let text = chain(&workshop.build_as("x", &[]).unwrap_err());
    assert!(text.contains("platforms"), "{text}");
}

#[test]
fn a_bundle_with_targets_keeps_its_release() {
    let workshop = Workshop::new();
    let mut bundle = workshop.build().unwrap();
    let id = bundle.id();
    assert_eq!(bundle.targets(), None);
    bundle.set_targets(b"{\"signed\":1}").unwrap();
    let again = Bundle::open(&workshop.path("app.orangery")).unwrap();
    assert_eq!((again.id(), again.targets()), (id, Some(&b"{\"signed\":1}"[..])));
    verify::contents(&again, &ProgressBar::hidden()).unwrap();
}

#[test]
fn every_changed_byte_of_a_bundle_is_noticed() {
    let workshop = Workshop::new();
    workshop.write("tree/words.txt", "few words");
    let bundle = workshop.build().unwrap();
    let (id, path) = (bundle.id(), bundle.path().to_owned());
    let good = fs::read(&path).unwrap();
    for at in (0..good.len()).step_by(3) {
        let mut bad = good.clone();
        bad[at] ^= 0x20;
        fs::write(&path, bad).unwrap();
        // A manifest that is still valid is another release: its signature does not fit.
        let accepted = Bundle::open(&path)
            .is_ok_and(|bundle| bundle.id() == id && verify::contents(&bundle, &ProgressBar::hidden()).is_ok());
        assert!(!accepted, "byte {at}");
    }
}

#[test]
fn a_bundle_cut_anywhere_is_refused() {
    let workshop = Workshop::new();
    workshop.write("tree/words.txt", "few words");
    let path = workshop.build().unwrap().path().to_owned();
    let good = fs::read(&path).unwrap();
    for length in (0..good.len()).step_by(7) {
        fs::write(&path, &good[..length]).unwrap();
        assert!(Bundle::open(&path).is_err(), "length {length}");
    }
    assert!(Bundle::open(Path::new("/nonexistent/file")).is_err());
}

#[test]
fn a_pack_that_belongs_to_another_release_is_refused() {
    let workshop = Workshop::new();
    let bundle = workshop.build().unwrap();
    workshop.write("tree/words.txt", "other words");
    let other = workshop.build_as("other", &[("linux/arm64", "tree")]).unwrap();
    let sizes: BTreeMap<_, _> = other.packs().collect();
    let mixed = workshop.path("mixed");
    Bundle::write(&mixed, bundle.manifest_bytes(), None, &sizes, |digest| other.pack(digest)).unwrap();
    let text = chain(&Bundle::open(&mixed).unwrap_err());
    assert!(text.contains("does not name the pack"), "{text}");
    Bundle::write(&mixed, bundle.manifest_bytes(), None, &BTreeMap::new(), |_| Ok(&b""[..])).unwrap();
    let text = chain(&Bundle::open(&mixed).unwrap_err());
    assert!(text.contains("is missing"), "{text}");
}

/// An owner's directory, made by the same function as `orangery init`.
fn owner_home(directory: &Path) -> Home {
    let home = Home::new(directory.join("home"));
    let arguments = InitArgs {
        address: Some("127.0.0.1".into()),
        https_port: 0,
        mqtt_port: 0,
        mqtt_url: None,
        seal: SealArgs::plain(),
    };
    cli::init(&home, &arguments, &Passphrases::none(), output::now()).unwrap();
    home
}

#[test]
fn signing_again_changes_nothing_and_each_new_release_gives_the_next_version() {
    let (workshop, directory) = (Workshop::new(), tempfile::tempdir().unwrap());
    let (home, now) = (owner_home(directory.path()), output::now());
    let owner = Owner::open(&home, &Passphrases::none()).unwrap();
    let mut bundle = workshop.build().unwrap();
    let first = owner.sign(&mut bundle, None, now).unwrap();
    assert_eq!((first.targets_version, first.is_new), (1, true));
    let (file, targets) = (fs::read(bundle.path()).unwrap(), bundle.targets().unwrap().to_vec());
    let again = owner.sign(&mut bundle, None, now + 1).unwrap();
    assert_eq!((again.targets_version, again.is_new), (1, false));
    assert_eq!(fs::read(bundle.path()).unwrap(), file, "not a byte of the release file changes");
    workshop.version.set("1.1.0");
    let mut next = workshop.build_as("next.orangery", &[("linux/arm64", "tree")]).unwrap();
    assert_eq!(owner.sign(&mut next, None, now).unwrap().targets_version, 2);
    // The first release is vouched for by the later targets, too.
    let verified = verify_targets(owner.root(), next.targets().unwrap(), now).unwrap();
    assert_eq!(verified.releases().len(), 2);
    assert_ne!(next.targets().unwrap(), targets);
}

#[test]
fn a_version_is_signed_for_one_content_only() {
    let (workshop, directory) = (Workshop::new(), tempfile::tempdir().unwrap());
    let (home, now) = (owner_home(directory.path()), output::now());
    let owner = Owner::open(&home, &Passphrases::none()).unwrap();
    owner.sign(&mut workshop.build().unwrap(), None, now).unwrap();
    workshop.write("tree/words.txt", "changed");
    let mut changed = workshop.build().unwrap();
    let text = chain(&owner.sign(&mut changed, None, now).unwrap_err());
    assert!(text.contains("app 1.0.0") && text.contains("new version") && text.contains("[version_taken]"), "{text}");
    assert_eq!(Bundle::open(changed.path()).unwrap().targets(), None, "it stays unsigned");
}

#[test]
fn a_signature_that_ends_soon_is_made_anew() {
    let (workshop, directory) = (Workshop::new(), tempfile::tempdir().unwrap());
    let (home, now) = (owner_home(directory.path()), output::now());
    let owner = Owner::open(&home, &Passphrases::none()).unwrap();
    let mut bundle = workshop.build().unwrap();
    owner.sign(&mut bundle, None, now).unwrap();
    let later = now + 300 * 86_400;
    let renewed = owner.sign(&mut bundle, None, later).unwrap();
    assert_eq!((renewed.targets_version, renewed.is_new), (2, false));
    assert!(renewed.expires > later + 300 * 86_400);
}

#[test]
fn two_machines_with_the_owners_keys_do_not_collide() {
    let (workshop, directory) = (Workshop::new(), tempfile::tempdir().unwrap());
    let (home, now) = (owner_home(directory.path()), output::now());
    let other = Home::new(directory.path().join("other"));
    let copied = std::process::Command::new("cp").arg("-a").args([home.root(), other.root()]).status().unwrap();
    assert!(copied.success());
    let mut bundle = workshop.build().unwrap();
    let owner = Owner::open(&home, &Passphrases::none()).unwrap();
    owner.sign(&mut bundle, None, now).unwrap();
    // The other machine hears of it by the coordinator, and signs on top.
    let second = Owner::open(&other, &Passphrases::none()).unwrap();
    let published = bundle.targets().unwrap();
    assert_eq!(second.adopt(published).unwrap(), Adopted::Theirs { lost: vec![] });
    assert_eq!(second.adopt(published).unwrap(), Adopted::Nothing, "once is enough");
    workshop.version.set("1.1.0");
    let mut next = workshop.build_as("next.orangery", &[("linux/arm64", "tree")]).unwrap();
    assert_eq!(second.sign(&mut next, None, now).unwrap().targets_version, 2);
    // Meanwhile this machine has signed 1.2.0 and 1.3.0 and published neither: its version is the higher one, but it must
    // not make 1.1.0 vanish.
    for version in ["1.2.0", "1.3.0"] {
        workshop.version.set(version);
        owner.sign(&mut workshop.build().unwrap(), None, now).unwrap();
    }
    let lost = vec!["app@1.2.0".to_owned(), "app@1.3.0".to_owned()];
    assert_eq!(owner.adopt(next.targets().unwrap()).unwrap(), Adopted::Theirs { lost });
    let mut unpublished = Bundle::open(&workshop.path("app.orangery")).unwrap();
    owner.sign(&mut unpublished, None, now).unwrap();
    let verified = verify_targets(owner.root(), unpublished.targets().unwrap(), now).unwrap();
    let versions: Vec<String> = verified.releases().iter().map(|release| release.version.to_string()).collect();
    assert_eq!((verified.version, versions.join(" ")), (3, "1.0.0 1.1.0 1.3.0".to_owned()));
}

#[test]
fn targets_that_the_owner_did_not_sign_are_never_taken_over() {
    let (workshop, directory) = (Workshop::new(), tempfile::tempdir().unwrap());
    let (home, now) = (owner_home(directory.path()), output::now());
    let elsewhere = tempfile::tempdir().unwrap();
    let mut foreign = workshop.build().unwrap();
    Owner::open(&owner_home(elsewhere.path()), &Passphrases::none()).unwrap().sign(&mut foreign, None, now).unwrap();
    let owner = Owner::open(&home, &Passphrases::none()).unwrap();
    let text = chain(&owner.adopt(foreign.targets().unwrap()).unwrap_err());
    assert!(text.contains("signed by 0 of the keys"), "{text}");
    assert!(!home.targets().exists());
}

//! Packs as they should be, and as nobody honest would make them.

use std::fs;
use std::io::Seek;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use orangery_wire::manifest::Pack;

use super::*;

struct World {
    directory: tempfile::TempDir,
}

fn sha256(bytes: &[u8]) -> Digest {
    let digest = ring::digest::digest(&SHA256, bytes);
    Digest(digest.as_ref().try_into().unwrap())
}

fn file(path: &str, content: &[u8], executable: bool) -> Entry {
    Entry::File { path: path.into(), digest: sha256(content), size_bytes: content.len() as u64, executable }
}

fn directory(path: &str) -> Entry {
    Entry::Directory { path: path.into() }
}

fn link(path: &str, target: &str) -> Entry {
    Entry::Link { path: path.into(), target: target.into() }
}

fn tree(encoding: Encoding, entries: Vec<Entry>) -> Tree {
    let pack = Pack { digest: sha256(b""), size_bytes: 0, encoding };
    Tree { size_bytes: 0, pack, entries }
}

fn zstd(content: &[u8]) -> Vec<u8> {
    zstd::encode_all(content, 3).unwrap()
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("releases")).unwrap();
        Self { directory }
    }

    fn releases(&self) -> std::path::PathBuf {
        self.directory.path().join("releases")
    }

    fn root(&self) -> std::path::PathBuf {
        self.releases().join("it/tree")
    }

    fn unpack(&self, pack: &[u8], tree: &Tree) -> Result<(), UnpackError> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(pack).unwrap();
        file.rewind().unwrap();
        unpack(file, tree, &Directory::open(self.directory.path(), Path::new("releases")).unwrap(), "it")
    }

    /// The pack must be refused as not what the manifest says.
    fn refuses(&self, pack: &[u8], tree: &Tree) -> String {
        let error = self.unpack(pack, tree).unwrap_err();
        assert_eq!(error.code(), RefusalCode::Unverified, "{error}");
        fs::remove_dir_all(self.releases().join("it")).unwrap();
        error.to_string()
    }
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

fn sample() -> Vec<Entry> {
    // '-' sorts before '/', so the directory is left and entered again.
    vec![
        directory("bin"),
        directory("bin-extra"),
        file("bin-extra/empty", b"", false),
        file("bin/app", b"#!/bin/sh\n", true),
        link("bin/latest", "../bin-extra/empty"),
        file("bin/notes", b"hello", false),
        link("current", "bin"),
    ]
}

#[test]
fn a_tree_comes_out_as_the_manifest_says() {
    let content = b"#!/bin/sh\nhello";
    for (encoding, pack) in [(Encoding::Zstd, zstd(content)), (Encoding::None, content.to_vec())] {
        let world = World::new();
        world.unpack(&pack, &tree(encoding, sample())).unwrap();
        let root = world.root();
        assert_eq!(fs::read(root.join("bin/app")).unwrap(), b"#!/bin/sh\n");
        assert_eq!(fs::read(root.join("current/notes")).unwrap(), b"hello");
        assert_eq!(fs::read(root.join("bin/latest")).unwrap(), b"");
        for (path, expected) in
            [("", 0o755), ("bin", 0o755), ("bin-extra", 0o755), ("bin/app", 0o555), ("bin/notes", 0o444)]
        {
            assert_eq!(mode(&root.join(path)), expected, "{path}");
        }
        assert_eq!(mode(&world.releases().join("it")), 0o755);
        assert!(!world.releases().join("it/manifest.json").exists(), "the seal is not written here");
    }
}

#[test]
fn modes_do_not_depend_on_the_umask() {
    // The umask belongs to the whole process: a child of its own has one.
    let output = std::process::Command::new("sh")
        .args(["-c", "umask 077 && exec \"$0\" --exact unpack::tests::a_tree_comes_out_as_the_manifest_says"])
        .arg(std::env::current_exe().unwrap())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
fn a_large_file_and_many_small_ones_come_out_whole() {
    let large: Vec<u8> = (0..3_000_001u64).map(|n| ((n * n) >> 9).to_le_bytes()[0]).collect();
    let mut entries = vec![file("a-large", &large, false)];
    let mut content = large.clone();
    for n in 100..400 {
        entries.push(file(&format!("small-{n}"), format!("{n}").as_bytes(), false));
        content.extend(format!("{n}").as_bytes());
    }
    let world = World::new();
    world.unpack(&zstd(&content), &tree(Encoding::Zstd, entries)).unwrap();
    assert!(fs::read(world.root().join("a-large")).unwrap() == large);
    assert_eq!(fs::read(world.root().join("small-399")).unwrap(), b"399");
}

#[test]
fn wrong_bytes_are_refused() {
    let world = World::new();
    let error = world.refuses(&zstd(b"#!/bin/sh\nhellO"), &tree(Encoding::Zstd, sample()));
    assert!(error.contains("bin/notes") && error.contains("digest"), "{error}");
}

#[test]
fn a_pack_that_is_too_short_or_too_long_is_refused() {
    let world = World::new();
    for (pack, why) in
        [(b"#!/bin/sh\nhell".as_slice(), "ends before"), (b"", "ends before"), (b"#!/bin/sh\nhello!", "goes on")]
    {
        let error = world.refuses(&zstd(pack), &tree(Encoding::Zstd, sample()));
        assert!(error.contains(why), "{error}");
        let error = world.refuses(pack, &tree(Encoding::None, sample()));
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn a_cut_frame_and_anything_behind_the_frame_are_refused() {
    let world = World::new();
    let good = zstd(b"#!/bin/sh\nhello");
    let skippable = [0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 0];
    let cases: [(&str, Vec<u8>); 6] = [
        ("cut", good[..good.len() - 1].to_vec()),
        ("one byte more", [&good[..], &[0]].concat()),
        ("a second frame", [&good[..], &zstd(b"x")[..]].concat()),
        ("an empty second frame", [&good[..], &zstd(b"")[..]].concat()),
        ("a skippable frame behind", [&good[..], &skippable[..]].concat()),
        ("no frame at all", b"#!/bin/sh\nhello".to_vec()),
    ];
    for (what, pack) in cases {
        let error = world.refuses(&pack, &tree(Encoding::Zstd, sample()));
        assert!(error.contains("goes on") || error.contains("decompressed"), "{what}: {error}");
    }
}

#[test]
fn a_frame_that_wants_a_large_window_is_refused() {
    let frame = |window_log| {
        let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
        encoder.window_log(window_log).unwrap();
        encoder.write_all(b"#!/bin/sh\nhello").unwrap();
        encoder.finish().unwrap()
    };
    let world = World::new();
    world.refuses(&frame(24), &tree(Encoding::Zstd, sample()));
    world.unpack(&frame(23), &tree(Encoding::Zstd, sample())).unwrap();
}

#[test]
fn a_bomb_is_stopped_at_the_size_that_was_signed() {
    let bomb = zstd(&vec![0; 64 << 20]);
    assert!(bomb.len() < 10_000);
    let world = World::new();
    let entries = vec![file("zero", &[0; 1_000], false)];
    let error = world.refuses(&bomb, &tree(Encoding::Zstd, entries));
    assert!(error.contains("goes on"), "{error}");
}

#[test]
fn a_release_directory_that_is_there_already_is_not_used() {
    let world = World::new();
    let outside = world.directory.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let at = world.releases().join("it");
    for what in ["a directory", "a link to a directory", "a file"] {
        match what {
            "a directory" => fs::create_dir(&at).unwrap(),
            "a file" => fs::write(&at, "").unwrap(),
            _ => symlink(&outside, &at).unwrap(),
        }
        let error = world.unpack(&zstd(b"#!/bin/sh\nhello"), &tree(Encoding::Zstd, sample())).unwrap_err();
        assert_eq!(error.code(), RefusalCode::DiskFailed, "{what}: {error}");
        let _ = fs::remove_file(&at).or_else(|_| fs::remove_dir(&at));
    }
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn a_link_on_the_way_is_not_followed() {
    let world = World::new();
    let outside = world.directory.path().join("outside");
    fs::create_dir_all(outside.join("releases")).unwrap();
    symlink(&outside, world.directory.path().join("app")).unwrap();
    assert!(Directory::open(world.directory.path(), Path::new("app/releases")).is_err());
    let top = Directory::open(world.directory.path(), Path::new("")).unwrap();
    for name in ["app", "..", ".", "", "outside/releases", "/"] {
        assert!(top.enter(name).is_err(), "{name}");
    }
    assert!(top.enter("outside").is_ok());
}

#[test]
fn an_entry_does_not_overwrite_another_nor_go_through_a_link() {
    // No valid manifest says such a thing; the unpacking must not depend on it.
    let world = World::new();
    let outside = world.directory.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let name = outside.to_str().unwrap();
    for entries in [
        vec![file("a", b"x", false), file("a", b"y", false)],
        vec![directory("a"), directory("a")],
        vec![link("a", name), link("a", name)],
        vec![file("a/../../b", b"x", false)],
        vec![file("../b", b"x", false)],
        vec![file("a/b", b"x", false), link("a", name)],
    ] {
        let error = world.unpack(&zstd(b"xy"), &tree(Encoding::Zstd, entries.clone())).unwrap_err();
        assert!(matches!(error, UnpackError::Disk { .. } | UnpackError::Content { .. }), "{entries:?}: {error}");
        fs::remove_dir_all(world.releases().join("it")).unwrap();
    }
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert!(!world.releases().join("b").exists() && !world.releases().join("it").exists());
}

#[test]
fn a_disk_error_is_not_held_against_the_pack() {
    let world = World::new();
    let pack = world.directory.path().join("pack");
    fs::write(&pack, "").unwrap();
    // A descriptor that cannot be read.
    let write_only = fs::OpenOptions::new().write(true).open(&pack).unwrap();
    let releases = Directory::open(world.directory.path(), Path::new("releases")).unwrap();
    let error = unpack(write_only, &tree(Encoding::Zstd, sample()), &releases, "it").unwrap_err();
    assert_eq!(error.code(), RefusalCode::DiskFailed, "{error}");
}

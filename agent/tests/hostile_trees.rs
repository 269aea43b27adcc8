//! Hundreds of releases that no honest owner would sign, each signed all the same: none installs, none leaves a trace, and
//! nothing outside of the release's own directory changes, not even if the rules for manifests were gone.

#![allow(clippy::unwrap_used, reason = "these are tests, their helpers included")]

mod hostile;
mod joined;
mod origin;
mod owner;

use std::fs;
use std::io::{Seek, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use hostile::{Case, surroundings, version};
use joined::World;
use orangery_agent::install::InstallFailure;
use orangery_agent::unpack::{Directory, unpack};
use orangery_trust::release::{Custom, target_file, target_path};
use orangery_wire::messages::{RefusalCode, ReleaseRef};
use orangery_wire::{AppName, ReleaseId};
use origin::sha256;
use owner::{Release, now};

/// A node in a place that can be looked over, beside a directory that is none of its business.
struct Place {
    world: World,
    base: tempfile::TempDir,
}

impl Place {
    async fn new() -> Self {
        let base = tempfile::tempdir().unwrap();
        let outside = base.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("victim"), "untouched").unwrap();
        symlink("victim", outside.join("link")).unwrap();
        let mut world = World::new().await;
        world.settings.state_dir = base.path().join("node/state");
        world.join();
        Self { world, base }
    }

    fn outside(&self) -> PathBuf {
        self.base.path().join("outside")
    }

    /// Signs all of them, and serves what each says.
    fn publish(&mut self, cases: &[Case]) {
        let custom = |n| Custom { app: app(), version: version(n).parse().unwrap(), floor: None };
        self.world.owner.sign_targets_at(now(), |targets| {
            for (n, case) in cases.iter().enumerate() {
                targets.add_release(&custom(n), &case.manifest).unwrap();
            }
        });
        self.world.owner.publish_at(now());
        self.world.owner.serve(&self.world.origin);
        for (n, case) in cases.iter().enumerate() {
            let path = target_path(&app(), &version(n).parse().unwrap());
            let file = target_file(&path, &sha256(&case.manifest));
            self.world.origin.put(format!("/targets/{file}"), case.manifest.clone());
            self.world.origin.put(format!("/blobs/{}", case.blob), case.pack.clone());
        }
    }
}

fn app() -> AppName {
    "greeter".parse().unwrap()
}

#[tokio::test]
async fn no_hostile_tree_installs_escapes_or_leaves_a_trace() {
    let mut place = Place::new().await;
    let running = Release::new("greeter", "1.0.0", b"#!/bin/sh\n");
    place.world.publish(&running);
    let cases = hostile::all(&place.outside());
    place.publish(&cases);
    let installer = place.world.installer();
    installer.install(&app(), &running.wanted()).await.unwrap();
    let before = surroundings(place.base.path(), None);
    let mut wrong = Vec::new();
    for (n, case) in cases.iter().enumerate() {
        let want = ReleaseRef { id: ReleaseId(sha256(&case.manifest)), version: version(n).parse().unwrap() };
        match installer.install(&app(), &want).await {
            Err(InstallFailure::Refused(reason)) if case.is_told(&reason) => {}
            other => wrong.push(format!("{}: not {} for {:?}, but {other:?}", case.name, case.code, case.why)),
        }
        assert_eq!(surroundings(place.base.path(), None), before, "{}", case.name);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(cases.len() >= 200, "{}", cases.len());
    println!("{} hostile trees, 0 installed, 0 escapes", cases.len());
}

#[tokio::test]
async fn nothing_escapes_even_if_the_rules_for_manifests_were_gone() {
    let place = Place::new().await;
    let releases = place.base.path().join("releases");
    fs::create_dir(&releases).unwrap();
    let before = surroundings(place.base.path(), Some(&releases));
    let mut count = 0;
    for case in hostile::all(&place.outside()) {
        let Some(tree) = case.tree().filter(|_| !case.heavy) else { continue };
        let mut pack = tempfile::tempfile().unwrap();
        pack.write_all(&case.pack).unwrap();
        pack.rewind().unwrap();
        let directory = Directory::open(place.base.path(), Path::new("releases")).unwrap();
        let outcome = unpack(pack, &tree, &directory, "it");
        // What is wrong with the pack as a file was seen before it would have come here.
        let of_contents = case.code == RefusalCode::Unverified && !case.why.contains("signed");
        assert!(outcome.is_err() || !of_contents, "{}", case.name);
        assert_eq!(surroundings(place.base.path(), Some(&releases)), before, "{}: {outcome:?}", case.name);
        let names: Vec<_> = fs::read_dir(&releases).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["it"], "{}", case.name);
        fs::remove_dir_all(releases.join("it")).unwrap();
        count += 1;
    }
    assert!(count >= 150, "{count}");
    println!("{count} hostile trees without the rules for manifests, 0 escapes");
}

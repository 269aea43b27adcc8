//! Releases on a real disk: sealed last, whole or not there, whatever lies in the way and whenever the agent is killed.

#![allow(clippy::unwrap_used, reason = "these are tests, their helpers included")]

mod dying_disk;
mod joined;
mod origin;
mod owner;
mod small_disk;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::Arc;
use std::time::Duration;

use dying_disk::DyingDisk;
use joined::{World, content, greeter, parts};
use orangery_agent::disk::RealDisk;
use orangery_agent::install::{InstallFailure, collect};
use orangery_wire::messages::RefusalCode;
use orangery_wire::{AppName, ReleaseId};
use owner::Release;
use small_disk::SmallDisk;

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
async fn an_install_that_is_dropped_while_it_unpacks_is_found_finished() {
    let mut world = World::new().await;
    let release = greeter("1.0.0");
    world.publish(&release);
    let (app, want) = (release.app(), release.wanted());
    let installer = world.installer();
    // Unpacking is quick: now and then it is over before it is noticed.
    let caught = async || loop {
        world.origin.forget_seen();
        let mut install = Box::pin(installer.install(&app, &want));
        let mut over = false;
        while !over && !world.directory_of(&release).exists() {
            over = tokio::time::timeout(Duration::from_millis(1), &mut install).await.is_ok();
        }
        drop(install);
        if !over && world.sealed(&release).is_none() {
            break;
        }
        collect(&RealDisk, &world.layout(), &app, &[]).unwrap();
    };
    tokio::time::timeout(Duration::from_mins(1), caught()).await.unwrap();
    installer.install(&app, &want).await.unwrap();
    world.is_whole(&release);
    assert_eq!(world.asked().iter().filter(|path| **path == release.blob()).count(), 1);
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
async fn a_release_that_is_found_here_counts_only_once_its_seal_is_durable() {
    let mut world = World::new().await;
    let release = greeter("1.0.0");
    world.publish(&release);
    world.succeeds(&release).await;
    // An agent that was killed after the seal's rename leaves just this: a name that a power cut may take back.
    let dead = Arc::new(DyingDisk::after(0));
    let outcome = world.installer_on(dead.clone()).install(&release.app(), &release.wanted()).await;
    assert!(dead.is_dead() && matches!(outcome, Err(InstallFailure::Refused(_))), "{outcome:?}");
    world.succeeds(&release).await;
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

#[tokio::test]
async fn a_release_that_does_not_fit_is_refused_before_its_first_byte_is_fetched() {
    let Some(small) = SmallDisk::new(1_500_000) else { return };
    let mut world = World::new().await;
    world.settings.state_dir = small.path().to_owned();
    world.join();
    let release = greeter("1.0.0");
    world.publish(&release);
    let text = world.is_refused(&release, RefusalCode::NoSpace).await;
    // 1.0 MB in the pack, as much unpacked, and the names around it.
    assert!(text.contains("needs 2.1 MB") && text.contains("and 0 bytes can be freed, short by"), "{text}");
    let (free, needed) = (small.free(), 2_000_000);
    let short = small_disk::short_by(&text);
    assert!(needed < free + short && free + short < needed + 100_000, "{text}, free {free}");
    assert!(!world.asked().contains(&release.blob()));
}

#[tokio::test]
async fn downloads_for_others_make_room_and_the_reserve_stays_free() {
    let Some(small) = SmallDisk::new(2_500_000) else { return };
    let mut world = World::new().await;
    world.settings.state_dir = small.path().to_owned();
    world.join();
    let release = greeter("1.0.0");
    world.publish(&release);
    fs::create_dir(world.layout().parts()).unwrap();
    fs::write(world.layout().parts().join("other"), vec![0; 1_000_000]).unwrap();
    world.succeeds(&release).await;
    collect(&RealDisk, &world.layout(), &release.app(), &[]).unwrap();
    fs::write(world.layout().data(&release.app()), vec![0; 300_000]).unwrap();
    world.succeeds(&release).await;
    collect(&RealDisk, &world.layout(), &release.app(), &[]).unwrap();
    world.settings.fetch.reserve_bytes = u64::MAX;
    world.is_refused(&release, RefusalCode::NoSpace).await;
}

#[tokio::test]
async fn a_disk_that_fills_up_at_any_file_refuses_the_release_and_leaves_none() {
    // Bytes are counted beforehand; names are what this disk runs out of.
    let mut refused = 0;
    for names in 10.. {
        let Some(small) = SmallDisk::with_names(10_000_000, names) else { return };
        let mut world = World::new().await;
        world.settings.state_dir = small.path().to_owned();
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

use std::os::unix::fs::PermissionsExt;

use super::model::ModelDisk;
use super::*;

const OLD: &[u8] = b"the old content";
const NEW: &[u8] = b"the new content, which is longer";

fn file() -> &'static Path {
    Path::new("/state/file")
}

/// A disk with the old content on it, durable.
fn with_old() -> ModelDisk {
    let disk = ModelDisk::default();
    make_dir(&disk, Path::new("/state"), 0o755).unwrap();
    replace(&disk, file(), OLD, 0o644).unwrap();
    disk.settled()
}

fn content(disk: &dyn Disk) -> Vec<u8> {
    disk.read(file(), 1_000).unwrap()
}

#[test]
fn a_replaced_file_is_old_or_new_at_every_cut_and_new_when_it_is_done() {
    let disk = with_old();
    replace(&disk, file(), NEW, 0o644).unwrap();
    let cuts = disk.cuts();
    assert!(cuts.len() >= 8, "{} states", cuts.len());
    assert!(cuts.iter().any(|cut| content(cut) == OLD) && cuts.iter().any(|cut| content(cut) == NEW));
    assert!(cuts.iter().all(|cut| [OLD, NEW].contains(&&*content(cut))));
    assert!(disk.cuts_now().iter().all(|cut| content(cut) == NEW));
}

#[test]
fn a_replacement_that_fails_at_any_call_leaves_old_or_new_and_room() {
    let calls = {
        let disk = with_old();
        replace(&disk, file(), NEW, 0o644).unwrap();
        disk.count()
    };
    for n in 0..calls {
        let disk = with_old().failing_at(n);
        assert!(replace(&disk, file(), NEW, 0o644).is_err(), "call {n}");
        assert!(!disk.exists(&beside(file())), "call {n}: what was written beside is given back");
        assert!(disk.cuts().iter().all(|cut| [OLD, NEW].contains(&&*content(cut))), "call {n}");
        replace(&disk, file(), NEW, 0o644).unwrap();
        assert_eq!(content(&disk), NEW, "call {n}: it can be repeated");
    }
}

#[test]
fn a_replaced_link_leads_to_the_old_or_the_new_place_at_every_cut() {
    let (link, old, new) = (Path::new("/state/current"), Path::new("releases/a"), Path::new("releases/b"));
    let disk = with_old();
    replace_link(&disk, link, old).unwrap();
    let disk = disk.settled();
    replace_link(&disk, link, new).unwrap();
    assert!(disk.cuts().iter().all(|cut| [old, new].contains(&&*cut.read_link(link).unwrap())));
    assert!(disk.cuts_now().iter().all(|cut| cut.read_link(link).unwrap() == new));
    for n in 0..disk.count() {
        let disk = disk.settled().failing_at(n);
        let moved = replace_link(&disk, link, old);
        assert!(
            disk.cuts().iter().all(|cut| [old, new].contains(&&*cut.read_link(link).unwrap())),
            "call {n}: {moved:?}"
        );
    }
}

#[test]
fn a_new_directory_is_durable_with_all_above_it() {
    let disk = ModelDisk::default();
    let path = Path::new("/state/apps/web");
    make_dir(&disk, path, 0o755).unwrap();
    assert!(disk.cuts_now().iter().all(|cut| cut.exists(path)));
    let calls = disk.count();
    make_dir(&disk, path, 0o755).unwrap();
    assert_eq!(disk.count(), calls, "one that is there costs nothing");
}

#[test]
fn without_any_one_of_its_syncs_a_replacement_would_not_be_safe() {
    for n in 0..2 {
        let disk = with_old().leaving_out_sync(n);
        replace(&disk, file(), NEW, 0o644).unwrap();
        assert_eq!(disk.syncs(), 2);
        let damaged = disk.cuts().iter().any(|cut| ![OLD, NEW].contains(&&*content(cut)));
        let lost = disk.cuts_now().iter().any(|cut| content(cut) != NEW);
        assert!(damaged || lost, "sync {n}");
    }
}

#[test]
fn the_real_disk_does_what_the_calls_say() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    replace(&RealDisk, &path, OLD, 0o640).unwrap();
    replace(&RealDisk, &path, NEW, 0o600).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), NEW);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(RealDisk.list(dir.path()).unwrap(), ["file"], "nothing is left beside");
    assert_eq!(RealDisk.read(&path, 3).unwrap_err().kind(), io::ErrorKind::InvalidData);
    RealDisk.append(&path, b"!").unwrap();
    let stat = RealDisk.stat(&path).unwrap().unwrap();
    assert_eq!((stat.kind, stat.size_bytes, stat.mode), (Kind::File, NEW.len() as u64 + 1, 0o600));
    assert_eq!(RealDisk.stat(&path.join("below")).unwrap(), None);
    remove(&RealDisk, &path).unwrap();
    remove(&RealDisk, &path).unwrap();
    assert!(!RealDisk.exists(&path));
}

#[test]
fn the_real_disk_follows_no_link_and_opens_no_pipe() {
    let dir = tempfile::tempdir().unwrap();
    let (file, link, pipe) = (dir.path().join("file"), dir.path().join("link"), dir.path().join("pipe"));
    std::fs::write(&file, OLD).unwrap();
    RealDisk.symlink(&file, &link).unwrap();
    assert!(RealDisk.read(&link, 100).is_err());
    assert!(RealDisk.write_new(&link, NEW, 0o644).is_err());
    assert!(RealDisk.append(&link, NEW).is_err());
    assert_eq!(std::fs::read(&file).unwrap(), OLD);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    assert!(RealDisk.read(&pipe, 100).is_err(), "and does not wait for a writer");
}

#[test]
fn a_directory_is_removed_with_what_is_in_it_and_not_what_its_links_lead_to() {
    let dir = tempfile::tempdir().unwrap();
    let (kept, gone) = (dir.path().join("kept"), dir.path().join("gone"));
    std::fs::create_dir_all(gone.join("a/b")).unwrap();
    std::fs::write(&kept, OLD).unwrap();
    std::fs::write(gone.join("a/b/file"), OLD).unwrap();
    RealDisk.symlink(&kept, &gone.join("a/link")).unwrap();
    RealDisk.remove_dir_all(&gone).unwrap();
    assert!(!gone.exists() && kept.exists());
}

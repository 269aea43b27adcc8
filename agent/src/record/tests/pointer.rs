//! The link that leads to the current release, beside its record.

use super::*;

/// Puts a sealed release on the disk and returns its id.
fn put_sealed(disk: &dyn Disk) -> ReleaseId {
    let manifest = r#"{"format":1,"app":"web","version":"1.2.3","run":{"exec":["/bin/true"]},"platforms":{"linux/arm64":
        {"size_bytes":0,"pack":{"digest":"DIGEST","size_bytes":0,"encoding":"none"},"entries":[{"directory":{"path":"a"}}]}}}"#;
    let manifest = manifest.replace("DIGEST", &"0".repeat(64));
    let release = ReleaseId(digest(manifest.as_bytes()));
    disk::make_dir(disk, &layout().release(&app(), &release), 0o755).unwrap();
    disk::replace(disk, &layout().seal(&app(), &release), manifest.as_bytes(), 0o644).unwrap();
    release
}

#[test]
fn without_any_record_the_link_tells_what_is_proven_if_it_leads_to_a_sealed_release() {
    let disk = ModelDisk::default();
    let sealed = put_sealed(&disk);
    assert_eq!(load(&disk), LoadedApp { state: AppState::default(), source: Source::Absent, trouble: None });
    set_current(&disk, &layout(), &app(), Some(&sealed)).unwrap();
    let found = load(&disk);
    assert_eq!(found.source, Source::Link);
    let record = Record { desired: Some(sealed), current: Some(sealed), ..Record::default() };
    assert_eq!(found.state.record, record);
    assert_eq!(found.state.versions[&sealed].to_string(), "1.2.3");

    set_current(&disk, &layout(), &app(), Some(&release(9))).unwrap();
    assert_eq!(load(&disk).source, Source::Absent, "a release without its seal does not exist");
}

#[test]
fn the_link_is_moved_without_a_moment_in_which_it_leads_nowhere() {
    let disk = with(1..=1);
    let linked = |disk: &ModelDisk| current_link(disk, &layout(), &app());
    let point =
        |disk: &ModelDisk, n: Option<u8>| set_current(disk, &layout(), &app(), n.map(release).as_ref()).unwrap();
    point(&disk, Some(1));
    assert!(disk.cuts_now().iter().all(|cut| linked(cut) == Some(release(1))));

    let disk = disk.settled();
    point(&disk, Some(2));
    assert!(disk.cuts().iter().all(|cut| [Some(release(1)), Some(release(2))].contains(&linked(cut))));
    assert!(disk.cuts_now().iter().all(|cut| linked(cut) == Some(release(2))));

    let disk = disk.settled();
    point(&disk, None);
    point(&disk, None);
    assert!(disk.cuts().iter().all(|cut| [Some(release(2)), None].contains(&linked(cut))));
    assert!(disk.cuts_now().iter().all(|cut| linked(cut).is_none()));
}

#[test]
fn a_link_that_was_moved_but_never_synced_is_synced_by_the_next_who_wants_it_there() {
    let disk = with(1..=1);
    // As an agent leaves it that dies right before its last call.
    disk.symlink(&link_target(&release(1)), &layout().current(&app())).unwrap();
    assert!(disk.cuts_now().iter().any(|cut| current_link(cut, &layout(), &app()).is_none()));
    set_current(&disk, &layout(), &app(), Some(&release(1))).unwrap();
    assert!(disk.cuts_now().iter().all(|cut| current_link(cut, &layout(), &app()) == Some(release(1))));
}

#[test]
fn at_a_commit_the_link_is_never_ahead_of_the_record() {
    let disk = with(1..=1);
    set_current(&disk, &layout(), &app(), Some(&release(0))).unwrap();
    let disk = disk.settled();
    let committed = Record { current: Some(release(1)), phase: Phase::Settled, ..state(1).record };
    save(&disk, &AppState { record: committed, ..state(1) });
    set_current(&disk, &layout(), &app(), Some(&release(1))).unwrap();
    let mut found = std::collections::BTreeSet::new();
    for cut in disk.cuts() {
        let ahead = current_link(&cut, &layout(), &app()) == Some(release(1));
        let recorded = load(&cut).state.record.current == Some(release(1));
        assert!(recorded || !ahead);
        found.insert((recorded, ahead));
    }
    assert_eq!(found.len(), 3, "neither, the record alone, both");
}

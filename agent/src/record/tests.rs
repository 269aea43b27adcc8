use orangery_wire::messages::{Refusal, RefusalCode};

use super::found::make_durable;
use super::kept::{SUM_BEGIN, SUM_END, encode, foreign};
use super::*;
use crate::deployment::Trial;
use crate::disk::RealDisk;
use crate::disk::model::ModelDisk;

mod pointer;

fn layout() -> Layout {
    Layout::new("/var/lib/orangery")
}

fn app() -> AppName {
    "web".parse().unwrap()
}

fn release(n: u8) -> ReleaseId {
    ReleaseId(Digest([n; 32]))
}

/// States that an app goes through, one after the other.
fn state(n: u8) -> AppState {
    let trial = Trial { release: release(n), generation: n.into(), tries_left: 1 };
    let record = Record {
        generation: n.into(),
        desired: Some(release(n)),
        current: Some(release(n - 1)),
        refused: Some(Refusal { release: release(n + 1), code: RefusalCode::Unhealthy, reason: "500".into() }),
        phase: Phase::Probing(trial),
    };
    AppState { record, previous: Some(release(0)), ..AppState::default() }
}

fn save(disk: &dyn Disk, state: &AppState) {
    save_app(disk, &layout(), &app(), state).unwrap();
}

fn load(disk: &dyn Disk) -> LoadedApp {
    load_app(disk, &layout(), &app())
}

/// A disk on which these states were saved, one after the other, all durable.
fn with(states: impl IntoIterator<Item = u8>) -> ModelDisk {
    let disk = ModelDisk::default();
    states.into_iter().for_each(|n| save(&disk, &state(n)));
    disk.settled()
}

/// The states that are found after cuts, each of which must be one of `allowed`.
#[track_caller]
fn assert_only(cuts: &[ModelDisk], allowed: &[AppState]) {
    for cut in cuts {
        let found = load(cut);
        assert!(allowed.contains(&found.state), "{found:?}");
    }
}

#[test]
fn what_a_killed_agent_left_is_durable_before_the_next_one_builds_on_it() {
    // It died right after it made the app's directory, or after a rename: before the sync that follows.
    let made = with([]);
    made.create_dir_all(&layout().apps(), 0o755).unwrap();
    let made = made.settled();
    made.create_dir(&layout().app(&app()), 0o755).unwrap();
    let renamed = with([1]);
    let synced = renamed.syncs();
    let renamed = renamed.leaving_out_sync(synced + 1);
    save(&renamed, &state(2));
    for (disk, left) in [(made, AppState::default()), (renamed, state(2))] {
        make_durable(&disk, &layout());
        assert_only(&disk.cuts_now(), &[left]);
        save(&disk, &state(3));
        assert_only(&disk.cuts_now(), &[state(3)]);
    }
}

#[test]
fn a_saved_state_is_the_old_or_the_new_one_at_every_cut_and_the_new_one_when_it_is_saved() {
    for saved_before in 0..=3 {
        let disk = with(1..=saved_before);
        let old = if saved_before == 0 { AppState::default() } else { state(saved_before) };
        let new = state(saved_before + 1);
        save(&disk, &new);
        let cuts = disk.cuts();
        assert!(cuts.len() >= 10, "{} states", cuts.len());
        assert_only(&cuts, &[old, new.clone()]);
        assert_only(&disk.cuts_now(), &[new]);
    }
}

#[test]
fn a_save_after_a_cut_is_as_safe_as_any() {
    let disk = with(1..=2);
    save(&disk, &state(3));
    for cut in disk.cuts() {
        let old = load(&cut).state;
        save(&cut, &state(4));
        assert_only(&cut.cuts(), &[old, state(4)]);
        assert_only(&cut.cuts_now(), &[state(4)]);
    }
}

#[test]
fn a_save_that_fails_at_any_call_leaves_the_old_or_the_new_state() {
    let calls = {
        let disk = with(1..=2);
        save(&disk, &state(3));
        disk.count()
    };
    for n in 0..calls {
        let disk = with(1..=2).failing_at(n);
        let failed = save_app(&disk, &layout(), &app(), &state(3));
        let last = n + 1 == calls;
        assert!(failed.is_err(), "call {n}");
        let allowed = if last { vec![state(2), state(3)] } else { vec![state(2)] };
        assert!(allowed.contains(&load(&disk).state), "call {n}");
        assert_only(&disk.cuts(), &[state(2), state(3)]);
        save(&disk, &state(3));
        assert_only(&disk.cuts_now(), &[state(3)]);
    }
}

#[test]
fn without_any_one_of_its_syncs_a_save_would_not_be_safe() {
    let syncs = {
        let disk = with(1..=2);
        save(&disk, &state(3));
        disk.syncs()
    };
    assert_eq!(syncs, 2, "a save costs the flash two syncs");
    for n in 0..syncs {
        let disk = with(1..=2).leaving_out_sync(n);
        save(&disk, &state(3));
        let unsafe_cut = disk.cuts_now().iter().any(|cut| load(cut).state != state(3));
        assert!(unsafe_cut, "sync {n}");
    }
}

/// Every way to damage a file that its checksum must see.
fn damages(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut damages = vec![Vec::new(), vec![0; bytes.len()], bytes[..bytes.len() / 2].to_vec(), [bytes, b"}"].concat()];
    for n in SUM_BEGIN.len()..bytes.len() {
        damages.push(flipped(bytes, n));
    }
    damages
}

fn flipped(bytes: &[u8], n: usize) -> Vec<u8> {
    let mut flipped = bytes.to_vec();
    flipped[n] ^= 1;
    flipped
}

#[test]
fn whatever_happens_to_the_record_its_previous_copy_is_used_and_survives_the_next_save() {
    let path = layout().record(&app());
    let whole = with(1..=2).read(&path, RECORD_BYTES_MAX).unwrap();
    for damaged in damages(&whole) {
        let disk = with(1..=2);
        disk::replace(&disk, &path, &damaged, 0o644).unwrap();
        let disk = disk.settled();
        let found = load(&disk);
        assert_eq!((found.state, found.source), (state(1), Source::Previous));
        assert!(found.trouble.is_some());
        save(&disk, &state(3));
        assert_only(&disk.cuts(), &[state(1), state(3)]);
        assert_only(&disk.cuts_now(), &[state(3)]);
    }
}

#[test]
fn damage_to_the_checksums_own_name_never_changes_what_is_read() {
    let path = layout().record(&app());
    let whole = with(1..=2).read(&path, RECORD_BYTES_MAX).unwrap();
    for n in 0..SUM_BEGIN.len() {
        let disk = with(1..=2);
        disk::replace(&disk, &path, &flipped(&whole, n), 0o644).unwrap();
        let found = load(&disk);
        let expected = if found.source == Source::Primary { state(2) } else { state(1) };
        assert_eq!(found.state, expected, "byte {n}");
    }
}

#[test]
fn a_record_that_a_person_repaired_is_read_without_its_checksum() {
    let disk = with(1..=2);
    let path = layout().record(&app());
    let text = String::from_utf8(disk.read(&path, RECORD_BYTES_MAX).unwrap()).unwrap();
    let (_, after) = text.split_once(SUM_END).unwrap();
    let repaired = format!("{{\n{after}").replace("\"tries_left\": 1", "\"tries_left\": 2");
    disk::replace(&disk, &path, repaired.as_bytes(), 0o644).unwrap();
    let found = load(&disk);
    assert_eq!(found.source, Source::Primary);
    assert!(matches!(found.state.record.phase, Phase::Probing(Trial { tries_left: 2, .. })));
    disk::replace(&disk, &path, &repaired.as_bytes()[..repaired.len() - 3], 0o644).unwrap();
    assert_eq!(load(&disk).source, Source::Previous, "what is not JSON is no repair");
}

#[test]
fn a_format_that_is_not_known_is_not_guessed_at() {
    let disk = with(1..=2);
    let path = layout().record(&app());
    let future = AppState { format: FORMAT + 1, ..state(3) };
    disk::replace(&disk, &path, &encode(&future).unwrap(), 0o644).unwrap();
    let found = load(&disk);
    assert_eq!((found.state, found.source), (state(1), Source::Previous));
    assert_eq!(found.trouble.as_deref(), Some("its format is 2, and this version knows 1"));
}

#[test]
fn what_a_newer_agent_wrote_is_not_replaced_without_a_copy_of_it() {
    let (disk, path) = (with(1..=2), layout().record(&app()));
    let future = encode(&AppState { format: FORMAT + 1, ..state(9) }).unwrap();
    disk::replace(&disk, &path, &future, 0o644).unwrap();
    let disk = disk.settled();
    save(&disk, &state(3));
    let kept = foreign(&path, FORMAT + 1);
    for cut in disk.cuts() {
        let both = [&path, &kept].map(|path| cut.read(path, RECORD_BYTES_MAX).ok());
        assert!(both.contains(&Some(future.clone())), "it is still there, under one name or the other");
        assert!([state(1), state(3)].contains(&load(&cut).state));
    }
    // The next save does not touch the copy.
    save(&disk, &state(4));
    assert_eq!(disk.read(&kept, RECORD_BYTES_MAX).unwrap(), future);
    assert_eq!(load(&disk).state, state(4));
}

/// A file of two formats, as there will be one.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Second {
    format: u32,
    name: String,
}

impl Formatted for Second {
    const READERS: &'static [Reader<Self>] = &[Reader { format: 1, read: from_first }, Reader::json(2)];
}

/// Format 1 had a number instead of a name.
fn from_first(bytes: &[u8]) -> serde_json::Result<Second> {
    #[derive(Deserialize)]
    struct First {
        number: u32,
    }
    let First { number } = serde_json::from_slice(bytes)?;
    Ok(Second { format: 2, name: format!("number {number}") })
}

#[test]
fn a_file_is_read_in_the_format_before_and_saved_in_the_new_one_with_the_old_one_as_its_copy() {
    let (disk, path) = (ModelDisk::default(), layout().root().join("file.json"));
    disk::make_dir(&disk, layout().root(), 0o755).unwrap();
    let first = serde_json::json!({ "format": 1, "number": 7 });
    disk::replace(&disk, &path, &encode(&first).unwrap(), 0o644).unwrap();
    let (read, source, trouble) = load_kept::<Second>(&disk, &path);
    let read = read.unwrap();
    assert_eq!((read.name.as_str(), source, trouble), ("number 7", Source::Primary, None));
    save_kept(&disk, &path, &Second { name: "eight".into(), ..read }).unwrap();
    disk::replace(&disk, &path, b"torn", 0o644).unwrap();
    let (read, source, _) = load_kept::<Second>(&disk, &path);
    assert_eq!((read.unwrap().name.as_str(), source), ("number 7", Source::Previous));
}

#[test]
fn an_agent_on_trial_goes_on_only_from_what_was_saved_last() {
    let disk = with(1..=2);
    ensure_readable(&disk, &layout()).unwrap();
    let path = layout().record(&app());
    let future = AppState { format: FORMAT + 1, ..state(3) };
    disk::replace(&disk, &path, &encode(&future).unwrap(), 0o644).unwrap();
    let error = ensure_readable(&disk, &layout()).unwrap_err().to_string();
    assert!(error.contains("apps/web/state.json: its format is 2"), "{error}");
    save(&disk, &state(3));
    disk::replace(&disk, &layout().node_state(), b"torn", 0o644).unwrap();
    assert!(ensure_readable(&disk, &layout()).unwrap_err().to_string().contains("node.json"));
}

#[test]
fn reports_go_on_being_newer_after_a_newer_agent_wrote_the_nodes_state() {
    let disk = ModelDisk::default();
    save_node(&disk, &layout(), &NodeState { starts: 41, ..NodeState::default() }).unwrap();
    let future = NodeState { format: FORMAT + 1, starts: 44, ..NodeState::default() };
    let path = layout().node_state();
    for path in [previous(&path), path] {
        disk::replace(&disk, &path, &encode(&future).unwrap(), 0o644).unwrap();
    }
    assert_eq!(load_node(&disk, &layout()).starts, 45);
}

#[test]
fn a_state_of_a_newer_agent_of_the_same_format_is_read() {
    let mut json = serde_json::to_value(state(1)).unwrap();
    json["of_the_future"] = true.into();
    let disk = ModelDisk::default();
    make_app(&disk);
    disk::replace(&disk, &layout().record(&app()), &encode(&json).unwrap(), 0o644).unwrap();
    assert_eq!(load(&disk).state, state(1));
}

fn make_app(disk: &dyn Disk) {
    disk::make_dir(disk, &layout().app(&app()), 0o755).unwrap();
}

#[test]
fn the_record_can_be_read_by_a_person() {
    let disk = with(1..=1);
    let text = String::from_utf8(disk.read(&layout().record(&app()), RECORD_BYTES_MAX).unwrap()).unwrap();
    assert!(text.starts_with("{\n  \"sha256\": \"") && text.contains("\n  \"format\": 1,\n"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["record"]["phase"]["probing"]["tries_left"], 1);
}

#[test]
fn what_the_node_knows_of_itself_is_as_safe() {
    let node = |n: u64| NodeState { generation: n, time_floor: 1_000 + n, starts: n, ..NodeState::default() };
    let disk = ModelDisk::default();
    assert_eq!(load_node(&disk, &layout()), NodeState::default());
    save_node(&disk, &layout(), &node(1)).unwrap();
    save_node(&disk, &layout(), &node(2)).unwrap();
    let disk = disk.settled();
    save_node(&disk, &layout(), &node(3)).unwrap();
    assert!(disk.cuts().iter().all(|cut| [node(2), node(3)].contains(&load_node(cut, &layout()))));
    assert!(disk.cuts_now().iter().all(|cut| load_node(cut, &layout()) == node(3)));

    disk::replace(&disk, &layout().node_state(), b"torn", 0o644).unwrap();
    let recovered = NodeState { starts: 3, ..node(2) };
    assert_eq!(load_node(&disk, &layout()), recovered, "the start that may have been lost is counted");
}

#[test]
fn an_app_remembers_what_was_current_before_unless_that_lost_its_trust() {
    let at = |current, refused: Option<u8>| Record {
        current,
        refused: refused.map(|n| Refusal { release: release(n), code: RefusalCode::RolledBack, reason: String::new() }),
        ..Record::default()
    };
    let after =
        |record: Record, before: Record| AppState { record, ..AppState::default() }.with_previous(&before).previous;
    let (one, two) = (Some(release(1)), Some(release(2)));
    assert_eq!(after(at(two, None), at(one, None)), one);
    assert_eq!(after(at(one, Some(2)), at(two, None)), None);
    assert_eq!(after(at(one, None), at(None, None)), None);
    assert_eq!(after(at(None, None), at(one, None)), one, "a stopped app can be started again");
}

#[test]
fn versions_are_kept_for_what_is_named_and_no_longer() {
    let mut state = state(1);
    state.versions = (0..9).map(|n| (release(n), format!("1.0.{n}").parse().unwrap())).collect();
    let kept: Vec<ReleaseId> = state.clone().with_previous(&state.record).versions.into_keys().collect();
    assert_eq!(kept, [release(0), release(1), release(2)]);
}

#[test]
fn apps_are_the_directories_with_a_valid_name() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path());
    assert_eq!(apps(&RealDisk, &layout), []);
    for name in ["web", "Not-A-Name", "db", ".hidden"] {
        std::fs::create_dir_all(layout.apps().join(name)).unwrap();
    }
    let names: Vec<String> = apps(&RealDisk, &layout).iter().map(ToString::to_string).collect();
    assert_eq!(names, ["db", "web"]);
}

use orangery_wire::rest::{HoldView, NodeView, RolloutPlan, RolloutView};
use orangery_wire::{Manifest, ReleaseId};
use serde_json::json;

use super::*;
use crate::sha256;

mod mistakes;

const LABELS: [(&str, &str); 3] = [("attic", "north"), ("cellar", "north"), ("garage", "south")];

fn files(texts: &[(&str, &str)]) -> Files {
    texts.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect()
}

fn desired(texts: &[(&str, &str)]) -> Desired {
    Desired::parse(&files(texts)).unwrap()
}

fn id(app: &str, version: &str) -> ReleaseId {
    ReleaseId(sha256::digest(format!("{app}@{version}").as_bytes()))
}

/// A node that runs what it was told.
fn node(name: &str, site: &str, apps: &[(&str, &str)]) -> NodeView {
    let desired: Vec<_> = (1..)
        .zip(apps)
        .map(|(generation, (app, version))| {
            json!({ "app": app, "generation": generation, "release": id(app, version), "version": version })
        })
        .collect();
    let reports: Vec<_> = (1..)
        .zip(apps)
        .map(|(generation, (app, version))| {
            let release = json!({ "id": id(app, version), "version": version });
            json!({ "app": app, "generation": generation, "desired": release, "current": release, "running": release,
                "phase": "settled", "refusal": null, "healthy": true, "revoked": false })
        })
        .collect();
    let view = json!({
        "node": name, "joined_at": 1, "revoked": false, "online": true, "desired": desired,
        "reported": { "format": 1, "node": name, "boot_id": "b", "sequence": 1, "generation": 9, "agent_version": "0.1.0",
            "platform": "linux/arm64", "labels": { "site": site },
            "trust": { "root": 1, "targets": 1, "stale": false }, "apps": reports },
        "health": { "at": 1, "load_1m": 0.0, "memory_bytes": 1, "memory_used_bytes": 1, "disk_bytes": 10_000,
            "disk_free_bytes": 5_000, "uptime_secs": 1, "clock": "synced", "agent_version": "0.1.0" },
    });
    serde_json::from_value(view).unwrap()
}

fn manifest(app: &str, version: &str, platform: &str) -> Manifest {
    let tree = json!({ "size_bytes": 3_000, "pack": { "digest": sha256::digest(b"pack"), "size_bytes": 1_000, "encoding": "zstd" },
        "entries": [] });
    let manifest = json!({ "format": 1, "app": app, "version": version, "run": { "exec": ["x"] },
        "platforms": { platform: tree } });
    serde_json::from_value(manifest).unwrap()
}

/// Three nodes that all run web 1.0.0, and three versions of it.
fn world() -> World {
    let mut world = World { now: 1_000_000, ..World::default() };
    world.nodes = LABELS.iter().map(|(name, site)| node(name, site, &[("web", "1.0.0")])).collect();
    for version in ["1.0.0", "1.1.0", "1.2.0"] {
        let release = json!({ "app": "web", "version": version, "id": id("web", version), "platforms": ["linux/arm64"],
            "published_at": 1 });
        world.releases.push(serde_json::from_value(release).unwrap());
        world.manifests.insert(id("web", version), manifest("web", version, "linux/arm64"));
    }
    world
}

fn hold(app: Option<&str>, reason: &str, expires_at: Option<u64>) -> HoldView {
    let hold = json!({ "app": app, "expires_at": expires_at, "deed": { "by": "ann", "at": 1, "note": reason } });
    serde_json::from_value(hold).unwrap()
}

fn under_way(number: u64, version: &str, status: &str, nodes: &[(&str, &str)]) -> RolloutView {
    let nodes: Vec<_> = nodes.iter().map(|(node, state)| json!({ "node": node, "state": state, "text": "" })).collect();
    let wave =
        json!({ "wave": 1, "soak_secs": 1, "failures": "0", "trailing": false, "approve": false, "nodes": nodes });
    let view = json!({ "rollout": number, "app": "web", "version": version, "release": id("web", version), "status": status,
        "reason": "it is so", "on_failure": "pause", "begun": { "by": "ann", "at": 1 }, "waves": [wave] });
    serde_json::from_value(view).unwrap()
}

fn drafted(texts: &[(&str, &str)], world: &World) -> Draft {
    let desired = desired(texts);
    let resolved = resolve(&desired, world).unwrap();
    draft(&desired, &resolved, world).unwrap()
}

/// What changes, as "attic 1.1.0".
fn changes(draft: &Draft) -> Vec<String> {
    let steps = draft.rollouts.iter().flat_map(|rollout| rollout.steps.values()).chain(&draft.stops);
    let text =
        |step: &Step| format!("{} {}", step.node, step.to.as_ref().map_or("nothing".to_owned(), ToString::to_string));
    steps.map(text).collect()
}

const NEWER: (&str, &str) = ("apps/web.toml", "[default]\nversion = \"1.1.0\"\n");

#[test]
fn a_nodes_own_file_goes_before_its_groups_and_those_before_the_default() {
    let texts = [
        ("channels.toml", "[stable]\nweb = \"1.1.0\"\n"),
        ("apps/web.toml", "[default]\nchannel = \"stable\"\n[groups.north]\nversion = \"1.2.0\"\n"),
        ("groups/north.toml", "labels = { site = \"north\" }\n"),
        ("nodes/cellar.toml", "[apps.web]\nversion = \"1.0.0\"\n"),
    ];
    let draft = drafted(&texts, &world());
    assert_eq!(changes(&draft), ["garage 1.1.0", "attic 1.2.0"], "cellar stays");
    let step = &draft.rollouts[0].steps.values().next().unwrap();
    assert_eq!((step.does, step.wire_bytes, step.disk_bytes), ("restart", Some(1_000), Some(3_000)));
    assert_eq!(
        (step.free_after_bytes, step.from.as_ref().map(ToString::to_string)),
        (Some(2_000), Some("1.0.0".into()))
    );
}

#[test]
fn nodes_that_nobody_speaks_of_are_left_alone_and_named() {
    let texts = [
        ("apps/web.toml", "[groups.some]\nversion = \"1.1.0\"\n"),
        ("groups/some.toml", "nodes = [\"attic\", \"attica\"]\n"),
    ];
    let draft = drafted(&texts, &world());
    assert_eq!(changes(&draft), ["attic 1.1.0"]);
    let alone: Vec<&str> = draft.left_alone.iter().map(|alone| alone.node.as_str()).collect();
    assert_eq!(alone, ["cellar", "garage"]);
    assert_eq!(draft.unknown.len(), 1);
    assert_eq!(
        (draft.unknown[0].named_in.as_str(), draft.unknown[0].reason.as_str()),
        ("groups/some.toml", "no node has this name; did you mean attic?")
    );
}

#[test]
fn an_app_is_stopped_only_where_that_is_written() {
    let texts = [("apps/web.toml", ""), ("nodes/attic.toml", "[apps.web]\nstop = true\n")];
    let mut world = world();
    let draft = drafted(&texts, &world);
    assert_eq!(changes(&draft), ["attic nothing"]);
    assert_eq!(draft.stops[0].does, "stop");
    world.nodes[0].desired[0].version = None;
    world.nodes[0].desired[0].release = None;
    assert_eq!(changes(&drafted(&texts, &world)), Vec::<String>::new(), "it was told to");
}

#[test]
fn what_a_rollout_brings_is_no_change_unless_it_goes_back() {
    let mut world = world();
    world.rollouts = vec![under_way(
        7,
        "1.1.0",
        "running",
        &[("attic", "soaking"), ("cellar", "wave_ahead"), ("garage", "superseded")],
    )];
    let draft = drafted(&[NEWER], &world);
    assert_eq!(changes(&draft), ["garage 1.1.0"], "only the one that the rollout has lost");
    assert_eq!(draft.under_way[0].rollout, 7);
    world.rollouts[0].status = "paused".into();
    assert_eq!(changes(&drafted(&[NEWER], &world)), ["garage 1.1.0"]);
    let as_it_was = ("apps/web.toml", "[default]\nversion = \"1.0.0\"\n");
    assert_eq!(changes(&drafted(&[as_it_was], &world)), ["attic 1.0.0", "cellar 1.0.0"], "taken out of the rollout");
    world.rollouts[0].status = "reverting".into();
    assert_eq!(changes(&drafted(&[as_it_was], &world)), Vec::<String>::new());
    world.rollouts[0].status = "done".into();
    assert_eq!(changes(&drafted(&[NEWER], &world)).len(), 3);
}

#[test]
fn a_held_node_is_no_change_and_holds_made_by_hand_are_left() {
    let mut world = world();
    world.nodes[0].holds = vec![hold(None, "being repaired", None)];
    world.nodes[1].holds = vec![hold(Some("api"), "another app", None)];
    let draft = drafted(&[NEWER], &world);
    assert_eq!(changes(&draft), ["cellar 1.1.0", "garage 1.1.0"]);
    assert!(draft.holds.is_empty(), "{:?}", draft.holds);
    assert_eq!(draft.held[0].reason, "held by ann: being repaired");
}

#[test]
fn a_hold_of_the_directory_is_set_changed_and_ended_by_it() {
    let mut world = world();
    let text = "hold = { reason = \"being repaired\", until = \"1970-01-13T00:00:00Z\" }\n";
    let texts = [NEWER, ("nodes/attic.toml", text)];
    let draft = drafted(&texts, &world);
    assert_eq!(changes(&draft), ["cellar 1.1.0", "garage 1.1.0"]);
    assert_eq!(draft.held[0].reason, "it will be held: being repaired");
    assert_eq!((draft.holds.len(), draft.holds[0].until), (1, Some(1_036_800)));
    let note = draft.holds[0].note(Some("c0ffee")).unwrap();
    assert_eq!(note, "being repaired [fleet directory, commit c0ffee]");

    world.nodes[0].holds = vec![hold(None, &note, Some(1_036_803))];
    assert!(drafted(&texts, &world).holds.is_empty(), "clocks may differ by seconds");
    world.nodes[0].holds = vec![hold(None, &note, Some(1_040_000))];
    assert_eq!(drafted(&texts, &world).holds.len(), 1, "by an hour they do not");
    let ended = drafted(&[NEWER], &world);
    assert_eq!((ended.holds[0].reason.as_ref(), changes(&ended).len()), (None, 3), "and the node is changed again");
    world.nodes[0].holds = vec![hold(None, "mine", None)];
    assert!(drafted(&texts, &world).holds.is_empty(), "whoever holds it by hand goes before the directory");
    world.now = 2_000_000;
    world.nodes[0].holds.clear();
    assert!(drafted(&texts, &world).holds.is_empty(), "it is over");
}

#[test]
fn nodes_that_cannot_run_it_or_refused_it_are_told_with_the_reason() {
    let mut world = world();
    world.manifests.insert(id("web", "1.1.0"), manifest("web", "1.1.0", "linux/amd64"));
    world.nodes[1].reported = None;
    let draft = drafted(&[NEWER], &world);
    assert_eq!(changes(&draft), ["cellar 1.1.0"], "of a node that never said what it is nobody knows");
    assert_eq!(draft.rollouts[0].steps.values().next().unwrap().wire_bytes, None);
    assert_eq!(draft.unfit[0].reason, "the node is linux/arm64, the release is for linux/amd64");

    let refusal = json!({ "release": id("web", "1.0.0"), "code": "unhealthy", "reason": "it answers 500" });
    world.nodes[2].reported.as_mut().unwrap().apps[0].refusal = serde_json::from_value(refusal).unwrap();
    let draft = drafted(&[("apps/web.toml", "[default]\nversion = \"1.0.0\"\n")], &world);
    assert_eq!((changes(&draft).len(), draft.refused[0].reason.as_str()), (0, "it answers 500 [unhealthy]"));
}

#[test]
fn a_policy_is_cut_to_the_nodes_that_change() {
    let policy = "[careful]\ncanaries = [\"attic\", \"cellar\"]\nwaves = [\"site=north\", \"100%\"]\nsoak = [\"1h\", \"0s\"]\n\
        failures = [\"0\", \"5%\"]\non_failure = \"revert\"\napprove_between = true\nstart_within = \"2h:wait\"\ncompare = \"memory=120%\"\n";
    let app = "rollout = \"careful\"\n[default]\nversion = \"1.1.0\"\n";
    let node = "[apps.web]\nversion = \"1.0.0\"\n";
    let texts = [("rollouts.toml", policy), ("apps/web.toml", app), ("nodes/cellar.toml", node)];
    let rollout = drafted(&texts, &world()).rollouts.remove(0);
    let request = &rollout.request;
    assert_eq!(request.canaries.iter().map(ToString::to_string).collect::<Vec<_>>(), ["attic"]);
    assert_eq!(
        request.waves.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["100%"],
        "no other node is in the north"
    );
    assert_eq!((request.policy.soak_secs.as_slice(), request.policy.approve_between), (&[3_600, 0][..], true));
    assert_eq!((request.policy.start.secs, request.policy.done.secs), (7_200, 14_400));
    let compared = request.policy.compare.map(|limits| (limits.memory_percent, limits.latency_percent));
    assert_eq!(compared, Some((120, 200)));
    assert_eq!((rollout.policy.as_str(), request.to.join(" ")), ("careful", "attic garage".to_owned()));
}

#[test]
fn a_plan_has_the_digest_of_the_directory_the_fleet_and_the_coordinators_word() {
    let plan = |texts: &[(&str, &str)], world: &World, mark: &[u8]| {
        let draft = drafted(texts, world);
        let marked = |rollout: &DraftRollout| {
            let waves = json!([{ "nodes": rollout.request.to, "soak_secs": 1, "failures": "0", "approve": false }]);
            let plan = json!({ "app": "web", "version": rollout.request.version, "mark": sha256::digest(mark), "waves": waves,
                "left_out": [], "supersedes": [] });
            rollout.clone().planned(serde_json::from_value::<RolloutPlan>(plan).unwrap()).0
        };
        let rollouts = draft.rollouts.iter().map(marked).collect();
        Plan::new(&desired(texts), draft, rollouts, Vec::new())
    };
    let world = world();
    let first = plan(&[NEWER], &world, b"1");
    assert!(first.changes && first.digest.len() == 12, "{first:?}");
    let mut moved = world.clone();
    moved.nodes[0].online = false;
    moved.nodes[0].health = None;
    assert_eq!(plan(&[NEWER], &moved, b"1").digest, first.digest, "who is connected changes nothing");
    moved.nodes[0].desired[0].generation = 9;
    let others = [
        plan(&[NEWER], &moved, b"1"),
        plan(&[NEWER], &world, b"2"),
        plan(&[("apps/web.toml", "[default]\nversion = \"1.2.0\"\n")], &world, b"1"),
        plan(&[NEWER, ("nodes/attic.toml", "[hold]\nreason = \"x\"\n")], &world, b"1"),
    ];
    for other in others {
        assert_ne!(other.digest, first.digest, "{other:?}");
    }
}

#[test]
fn a_plan_of_what_was_exported_is_empty() {
    let mut world = world();
    world.nodes.push(node("hall", "south", &[("api", "0.1.0"), ("web", "1.2.0")]));
    world.nodes.push(node("shed", "south", &[("web", "1.2.0")]));
    world.nodes.push(NodeView { revoked: true, ..node("stolen", "south", &[("web", "1.1.0")]) });
    let api = json!({ "app": "api", "version": "0.1.0", "id": id("api", "0.1.0"), "platforms": [], "published_at": 1,
        "withdrawn": "release_revoked" });
    world.releases.push(serde_json::from_value(api).unwrap());
    world.nodes[1].holds =
        vec![hold(None, "say \"no\"\\", Some(1_036_800)), hold(Some("api"), "x [fleet directory]", None)];
    world.nodes[4].desired[0].release = None;
    world.nodes[4].desired[0].version = None;
    world.rollouts = vec![under_way(3, "1.1.0", "paused", &[("garage", "wave_ahead")])];

    let files = export(&world, Some("https://localhost:1")).unwrap();
    let desired = Desired::parse(&files).unwrap();
    let resolved = resolve(&desired, &world).unwrap();
    let draft = draft(&desired, &resolved, &world).unwrap();
    assert_eq!((changes(&draft), draft.holds, draft.left_alone), (vec![], vec![], vec![]), "{files:#?}");
    assert_eq!(files["groups/api.toml"], "nodes = [\"hall\"]\n");
    assert_eq!(files["apps/web.toml"], "[default]\nversion = \"1.0.0\"\n");
    assert_eq!(files["nodes/shed.toml"], "[apps.web]\nstop = true\n");
    assert!(files["nodes/garage.toml"].contains("1.1.0") && !files.contains_key("nodes/stolen.toml"), "{files:#?}");
}

/// A group with windows as the coordinator has it.
fn with_windows(group: &str, node: &str, window: &str, why: &str) -> orangery_wire::rest::GroupView {
    let window: orangery_wire::rest::MaintenanceWindow = window.parse().unwrap();
    let view = json!({ "group": group, "members": { "nodes": [node] }, "count": 1, "windows": [window], "open": true,
        "deed": { "by": "ann", "at": 1, "note": why } });
    serde_json::from_value(view).unwrap()
}

#[test]
fn windows_are_set_when_they_differ_and_go_with_their_lines_unless_they_were_made_by_hand() {
    let mut world = world();
    world.groups = vec![
        with_windows("nights", "attic", "daily 22:00-04:00 UTC", "windows [fleet directory]"),
        with_windows("gone", "attic", "daily 22:00-04:00 UTC", "windows [fleet directory, commit 12ab]"),
        with_windows("by-hand", "attic", "daily 22:00-04:00 UTC", "Ann wants it"),
    ];
    let nights =
        |to: &str| format!("nodes = [\"attic\"]\n[[windows]]\nfrom = \"22:00\"\nto = \"{to}\"\nzone = \"UTC\"\n");
    let changes = |to: &str| {
        let draft =
            drafted(&[("groups/nights.toml", &nights(to)), ("groups/by-hand.toml", "nodes = [\"attic\"]")], &world);
        draft.groups.iter().map(|change| (change.group.clone(), change.says.is_some())).collect::<Vec<_>>()
    };
    assert_eq!(changes("04:00"), [("gone".to_owned(), false)]);
    assert_eq!(changes("05:00"), [("nights".to_owned(), true), ("gone".to_owned(), false)]);
}

#[test]
fn windows_are_exported_beside_the_groups_of_apps() {
    let mut world = world();
    world.nodes.push(node("hall", "south", &[("api", "0.1.0")]));
    let api = json!({ "app": "api", "version": "0.1.0", "id": id("api", "0.1.0"), "platforms": [], "published_at": 1 });
    world.releases.push(serde_json::from_value(api).unwrap());
    world.groups = vec![with_windows("api", "attic", "sat,sun 02:00-05:00 Europe/Berlin", "by hand")];
    let files = export(&world, None).unwrap();
    let desired = Desired::parse(&files).unwrap();
    let draft = draft(&desired, &resolve(&desired, &world).unwrap(), &world).unwrap();
    assert_eq!((changes(&draft), draft.groups, draft.left_alone), (vec![], vec![], vec![]), "{files:#?}");
    assert!(
        files["groups/api.toml"].contains("Europe/Berlin") && files.contains_key("groups/with-api-1.toml"),
        "{files:#?}"
    );
}

#[test]
fn an_empty_fleet_is_exported_and_understood() {
    let files = export(&World::default(), None).unwrap();
    let desired = Desired::parse(&files).unwrap();
    assert_eq!(draft(&desired, &Resolved::default(), &World::default()).unwrap(), Draft::default());
    let usual = orangery_wire::rest::RolloutPolicy::default();
    let written = &desired.policies["default"];
    assert_eq!((written.soak[0].0.as_secs(), &written.failures), (usual.soak_secs[0], &usual.failures));
}

#[test]
fn the_schemas_in_docs_are_those_of_the_types() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schema");
    for (name, schema) in schemas() {
        let path = directory.join(name);
        let text = format!("{}\n", serde_json::to_string_pretty(&schema).unwrap());
        if std::env::var_os("ORANGERY_WRITE_SCHEMAS").is_some() {
            std::fs::create_dir_all(&directory).unwrap();
            std::fs::write(&path, &text).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        let how = "write it with ORANGERY_WRITE_SCHEMAS=1 cargo test -p orangery --lib schemas_in_docs";
        assert!(kept == text, "docs/schema/{name} is out of date; {how}");
        let text = text.replace("#/$defs/", "");
        assert!(!text.contains("components") && text.contains("additionalProperties"), "{name}: {text}");
    }
}

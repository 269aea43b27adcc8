//! A fleet directory that changes several apps at once, with a real coordinator and real agents.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use orangery_tests::fleet::{Fleet, THREE};
use orangery_tests::process::{eventually, fail, output, succeed};
use serde_json::{Value, json};

/// An app that does nothing, and is well.
const PLAIN: &str = "[run]\nexec = [\"bin/app\"]\nstop_grace_secs = 1\n[[probes]]\nexec = { command = [\"/bin/true\"] }\n\
                     interval_ms = 100\ntimeout_ms = 1000\nfailures = 3\n";

fn publish_plain(fleet: &Fleet, app: &str) {
    let tree = fleet.path().join("trees").join(app);
    fs::create_dir_all(tree.join("bin")).unwrap();
    fs::write(tree.join("bin/app"), "#!/bin/sh\nexec sleep 1000\n").unwrap();
    fs::set_permissions(tree.join("bin/app"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    fleet.publish_tree(app, "1.0.0", &tree, PLAIN);
}

fn on(fleet: &Fleet, deed: &str, directory: &Path, options: &[&str]) -> Command {
    let mut command = fleet.orangery(&[deed]);
    command.arg(directory).args(options);
    command
}

/// The plan and the exit code that came with it.
fn plan(fleet: &Fleet, directory: &Path) -> (Value, Option<i32>) {
    let answer = output(&mut on(fleet, "plan", directory, &["--json"]));
    let all: Value = serde_json::from_slice(&answer.stdout).unwrap_or_else(|e| panic!("{e}: {answer:?}"));
    (all["plan"].clone(), answer.status.code())
}

/// Whether a node has proven a version of an app.
fn runs(fleet: &Fleet, node: &str, app: &str, version: &str) -> bool {
    let reported = fleet.view(node).and_then(|view| view.reported);
    let apps = reported.into_iter().flat_map(|reported| reported.apps);
    let mut current = apps.filter(|report| report.app.as_str() == app).filter_map(|report| report.current);
    current.any(|release| release.version.to_string() == version)
}

#[test]
fn three_apps_change_in_waves_of_their_own_by_one_plan_that_is_applied_once_and_then_empty() {
    let (fleet, _nodes) = Fleet::of_three();
    let directory = fleet.path().join("fleet");
    succeed(&mut on(&fleet, "export", &directory, &[]));
    for app in ["lamp", "pump"] {
        publish_plain(&fleet, app);
    }
    fleet.publish("1.1.0", 200);
    let write = |name: &str, text: &str| fs::write(directory.join(name), text).unwrap();
    write(
        "rollouts.toml",
        "[default]\ncanaries = [\"attic\"]\nwaves = [\"100%\"]\nsoak = [\"1s\"]\n[one-by-one]\nwaves = [\"1\", \"100%\"]\nsoak = [\"1s\"]\n",
    );
    write("groups/wet.toml", "nodes = [\"cellar\", \"garage\"]\n");
    write("apps/greeter.toml", "[default]\nversion = \"1.1.0\"\n");
    write("apps/lamp.toml", "[default]\nversion = \"1.0.0\"\n");
    write("apps/pump.toml", "rollout = \"one-by-one\"\n[groups.wet]\nversion = \"1.0.0\"\n");

    let (seen, code) = plan(&fleet, &directory);
    let waves = |plan: &Value| -> Vec<(String, Vec<Value>)> {
        let rollouts = plan["rollouts"].as_array().unwrap().iter();
        let nodes = |rollout: &Value| {
            rollout["waves"].as_array().unwrap().iter().map(|wave| wave["nodes"].clone()).collect::<Vec<_>>()
        };
        rollouts.map(|rollout| (rollout["app"].as_str().unwrap().to_owned(), nodes(rollout))).collect()
    };
    let [greeter, lamp, pump] = &waves(&seen)[..] else { panic!("{seen:#}") };
    let all = vec![json!(["attic"]), json!(["cellar", "garage"])];
    assert_eq!([greeter, lamp], [&("greeter".to_owned(), all.clone()), &("lamp".to_owned(), all)], "{seen:#}");
    // One after the other, in whatever order, and only where it is wet.
    let mut one_by_one = pump.1.clone();
    one_by_one.sort_unstable_by_key(Value::to_string);
    assert_eq!((pump.0.as_str(), one_by_one), ("pump", vec![json!(["cellar"]), json!(["garage"])]), "{seen:#}");
    assert_eq!(code, Some(2));

    // Somebody is quicker with one of the three: nothing of the plan is done, the other two neither.
    fleet.deploy("lamp@1.0.0", "attic");
    let stale = fail(&mut on(&fleet, "apply", &directory, &["--yes", "--plan", seen["digest"].as_str().unwrap()]));
    assert!(stale.contains("nothing was applied"), "{stale}");
    assert_eq!(succeed(&mut fleet.orangery(&["rollout", "list", "--json"])).trim(), "[]");

    // Two who have seen the same one: one begins all three rollouts, the other none.
    let (seen, _) = plan(&fleet, &directory);
    let words = ["--yes", "--plan", seen["digest"].as_str().unwrap()];
    let mut other = on(&fleet, "apply", &directory, &words);
    let other = other.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mine = output(&mut on(&fleet, "apply", &directory, &words));
    let other = other.wait_with_output().unwrap();
    let mut codes = [mine.status.code(), other.status.code()];
    codes.sort_unstable();
    assert_eq!(codes, [Some(0), Some(1)], "{mine:?}\n{other:?}");
    let loser = if mine.status.success() { &other } else { &mine };
    let said = String::from_utf8_lossy(&loser.stderr);
    assert!(said.contains("0 of 3 changes were made") || said.contains("nothing was applied"), "{said}");

    let (under_way, code) = plan(&fleet, &directory);
    assert_eq!((&under_way["changes"], code), (&false.into(), Some(0)), "{under_way:#}");
    for id in 1..=3 {
        let done = fleet.rollout_is(id, "done");
        assert!(done.begun.note.unwrap().contains(seen["digest"].as_str().unwrap()));
    }
    let list: Value = serde_json::from_str(&succeed(&mut fleet.orangery(&["rollout", "list", "--json"]))).unwrap();
    assert_eq!(list.as_array().unwrap().len(), 3, "{list:#}");
    for node in THREE {
        eventually(&format!("{node} runs all of it"), || {
            let pump = node == "attic" || runs(&fleet, node, "pump", "1.0.0");
            (runs(&fleet, node, "greeter", "1.1.0") && runs(&fleet, node, "lamp", "1.0.0") && pump).then_some(())
        });
    }
    assert!(!runs(&fleet, "attic", "pump", "1.0.0"));
    let (at_the_end, code) = plan(&fleet, &directory);
    assert_eq!((&at_the_end["changes"], code), (&false.into(), Some(0)), "{at_the_end:#}");
}

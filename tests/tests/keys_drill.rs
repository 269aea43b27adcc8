//! docs/operating/keys.md, "The laptop is gone": the script of that page, run as written, with boards that nobody visits.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::process::{Command, Stdio};

use orangery_tests::fleet::{Fleet, GREETER, Node};
use orangery_tests::process::{eventually, fail, program, succeed};

const PASSPHRASE: &str = "another horse battery";

/// The script, with the four lines that are the reader's own.
fn drill() -> String {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operating/keys.md")).unwrap();
    let (_, script) = page.split_once("```sh drill\n").expect("the page has the script");
    script.split_once("```").expect("the script ends").0.to_owned()
}

/// Runs the script while this test plays the service manager, which starts the coordinator again when it is asked to.
fn run(fleet: &mut Fleet, script: &str) -> String {
    let place = fleet.path().join("drill");
    fs::create_dir_all(&place).unwrap();
    let (asked, done) = (place.join("asked"), place.join("done"));
    let restart = place.join("restart");
    let wait = format!("touch {0}; while [ ! -e {1} ]; do sleep 0.02; done\n", asked.display(), done.display());
    fs::write(&restart, wait).unwrap();
    let orangery = program("orangery");
    let path = format!("{}:{}", orangery.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let log = fs::File::create(place.join("log")).unwrap();
    let mut child = Command::new("sh")
        .args(["-eu", "-c", script])
        .current_dir(&place)
        .env("PATH", path)
        .env("COORDINATOR", fleet.home())
        .env("STICK", fleet.path().join("stick"))
        .env("NEW", fleet.path().join("new"))
        .env("RESTART", format!("sh {}", restart.display()))
        .env("ORANGERY_PASSPHRASE", PASSPHRASE)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    let said = || fs::read_to_string(place.join("log")).unwrap();
    eventually("the script restarts the coordinator", || {
        assert!(child.try_wait().unwrap().is_none(), "the script ended early: {}", said());
        asked.exists().then_some(())
    });
    fleet.coordinator().stop();
    fleet.serve();
    fs::write(done, "").unwrap();
    let status = child.wait().unwrap();
    assert!(status.success(), "{}", said());
    said()
}

/// The new laptop's directory, in the place where the harness looks for one.
fn move_in(fleet: &Fleet) {
    for name in ["owner", "client.toml", "operator.token"] {
        fs::rename(fleet.path().join("new").join(name), fleet.home().join(name)).unwrap();
    }
}

fn publish(fleet: &Fleet, version: &str) -> Command {
    let conf = format!("version = {version}\nmessage = hello\nhealth_status = 200\n");
    let tree = fleet.greeter_tree(version, &conf);
    let mut publish = fleet.release("publish", "greeter", version, &tree, GREETER);
    publish.env("ORANGERY_PASSPHRASE", PASSPHRASE);
    publish
}

#[test]
fn after_the_laptop_is_lost_the_script_of_the_page_gives_the_fleet_to_the_recovery_key_and_no_board_is_visited() {
    let mut fleet = Fleet::start();
    let nodes: Vec<Node> = ["attic", "garage"].map(|name| fleet.node(name)).into();
    succeed(&mut publish(&fleet, "1.0.0"));
    fleet.deploy("greeter@1.0.0", "all");
    for node in ["attic", "garage"] {
        fleet.settled_on(node, "1.0.0");
    }

    let (stick, lost) = (fleet.path().join("stick"), fleet.path().join("lost"));
    fs::create_dir(&stick).unwrap();
    fs::create_dir(&lost).unwrap();
    fs::rename(fleet.home().join("owner/recovery.key"), stick.join("recovery.key")).unwrap();
    fs::copy(fleet.home().join("owner/1.root.json"), stick.join("1.root.json")).unwrap();
    for name in ["owner", "client.toml", "operator.token"] {
        fs::rename(fleet.home().join(name), lost.join(name)).unwrap();
    }

    let said = run(&mut fleet, &drill());
    assert!(said.contains("Root 2 holds") && said.contains("Root 3 holds"), "{said}");
    assert!(said.contains("here, with a passphrase: root.key") && said.contains("not here"), "{said}");
    assert!(fs::read_to_string(stick.join("recovery.key")).unwrap().contains("argon2id"));

    // Whoever has the lost machine: the token opens nothing, and the keys sign nothing that counts.
    let home = fleet.path().join("thief");
    fs::rename(&lost, &home).unwrap();
    fs::create_dir(home.join("coordinator")).unwrap();
    fs::copy(fleet.home().join("coordinator/ca.pem"), home.join("coordinator/ca.pem")).unwrap();
    let mut thief = Command::new(program("orangery"));
    thief.arg("--dir").arg(&home).args(["keys", "rotate", "targets"]).stdin(Stdio::null());
    let said = succeed_or_wait(&mut thief);
    assert!(said.contains("token_wrong"), "{said}");

    move_in(&fleet);
    succeed(&mut publish(&fleet, "1.1.0"));
    fleet.deploy("greeter@1.1.0", "all");
    for node in ["attic", "garage"] {
        fleet.settled_on(node, "1.1.0");
        let trust = fleet.view(node).unwrap().reported.unwrap().trust;
        assert_eq!((trust.root, trust.stale), (3, false), "{node} followed both roots");
    }
    // What was signed before is still good: back to it.
    fleet.deploy("greeter@1.0.0", "attic");
    fleet.settled_on("attic", "1.0.0");

    // With the new token the old keys are of no use either.
    fs::copy(fleet.home().join("operator.token"), home.join("operator.token")).unwrap();
    let mut stolen = publish(&fleet, "6.6.6");
    fs::remove_dir_all(fleet.home().join("owner")).unwrap();
    fs::rename(home.join("owner"), fleet.home().join("owner")).unwrap();
    let said = fail(&mut stolen);
    assert!(said.contains("cannot sign greeter 6.6.6"), "{said}");
    nodes.iter().for_each(Node::check);
}

/// What a command says that need not be done: it may wait for signatures.
fn succeed_or_wait(command: &mut Command) -> String {
    let output = orangery_tests::process::output(command);
    assert!(matches!(output.status.code(), Some(0 | 2)), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
}

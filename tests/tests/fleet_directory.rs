//! The desired fleet as a directory, with a real coordinator and real agents.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{PipeReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use orangery_tests::fleet::{Fleet, Node};
use orangery_tests::process::{eventually, fail, output, succeed};
use serde_json::json;

/// A fleet that runs 1.0.0, and an exported directory in a git checkout.
fn fleet_and_directory() -> (Fleet, Vec<Node>, PathBuf) {
    let (fleet, nodes) = Fleet::of_three();
    let directory = fleet.path().join("checkout");
    std::fs::create_dir(&directory).unwrap();
    git(&directory, &["init", "-q"]);
    succeed(&mut on(&fleet, "export", &directory, &[]));
    (fleet, nodes, directory)
}

fn on(fleet: &Fleet, deed: &str, directory: &Path, options: &[&str]) -> Command {
    let mut command = fleet.orangery(&[deed]);
    command.arg(directory).args(options);
    command
}

fn git(directory: &Path, words: &[&str]) -> String {
    let mut git = Command::new("git");
    git.arg("-C").arg(directory).args(["-c", "user.name=ann", "-c", "user.email=ann@example.org"]);
    succeed(git.args(words))
}

/// The plan and the exit code that came with it.
fn plan(fleet: &Fleet, directory: &Path) -> (serde_json::Value, Option<i32>) {
    let answer = output(&mut on(fleet, "plan", directory, &["--json"]));
    let text = String::from_utf8_lossy(&answer.stdout).into_owned();
    let all: serde_json::Value = serde_json::from_str(&text)
        .unwrap_or_else(|e| panic!("{e}: {text}{}", String::from_utf8_lossy(&answer.stderr)));
    (all["plan"].clone(), answer.status.code())
}

fn digest(plan: &serde_json::Value) -> String {
    plan["digest"].as_str().unwrap().to_owned()
}

fn write(directory: &Path, name: &str, text: &str) {
    std::fs::write(directory.join(name), text).unwrap();
}

const POLICY: &str = "[default]\ncanaries = [\"attic\"]\nwaves = [\"100%\"]\nsoak = [\"1s\"]\n";

/// Wants 1.1.0 everywhere, and garage held. Returns the commit that says so.
fn change(fleet: &Fleet, directory: &Path) -> String {
    write(directory, "rollouts.toml", POLICY);
    write(directory, "apps/greeter.toml", "[default]\nversion = \"1.1.0\"\n");
    write(directory, "nodes/garage.toml", "[hold]\nreason = \"being repaired\"\n");
    let early = fail(&mut on(fleet, "plan", directory, &[]));
    assert!(early.contains("apps/greeter.toml: greeter 1.1.0 was not published; published are 1.0.0"), "{early}");
    fleet.publish("1.1.0", 200);
    git(directory, &["add", "."]);
    git(directory, &["commit", "-q", "-m", "greeter 1.1.0"]);
    git(directory, &["rev-parse", "HEAD"]).trim().to_owned()
}

/// Two operators who have seen the same plan apply it at the same time.
fn applied_twice_at_once(fleet: &Fleet, directory: &Path, digest: &str) {
    let words = ["--yes", "--plan", digest, "--note", "go"];
    let mut other = on(fleet, "apply", directory, &words);
    let other = other.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mine = output(&mut on(fleet, "apply", directory, &words));
    let other = other.wait_with_output().unwrap();
    let mut codes = [mine.status.code(), other.status.code()];
    codes.sort_unstable();
    assert_eq!(codes, [Some(0), Some(1)], "{mine:?}\n{other:?}");
}

fn told(fleet: &Fleet, node: &str) -> String {
    fleet.view(node).unwrap().desired[0].version.as_ref().unwrap().to_string()
}

#[test]
fn a_plan_is_applied_once_as_it_was_shown_and_a_held_node_is_left_alone() {
    let (fleet, _nodes, directory) = fleet_and_directory();
    let (empty, code) = plan(&fleet, &directory);
    assert_eq!((&empty["changes"], code), (&false.into(), Some(0)), "{empty:#}");

    let commit = change(&fleet, &directory);
    let (first, code) = plan(&fleet, &directory);
    assert_eq!(code, Some(2), "{first:#}");
    let rollout = &first["rollouts"][0];
    assert_eq!(rollout["waves"][0]["nodes"], json!(["attic"]), "{first:#}");
    assert_eq!(rollout["waves"][1]["nodes"], json!(["cellar"]), "{first:#}");
    let step = &rollout["steps"][0];
    assert_eq!([&step["from"], &step["to"], &step["does"]], ["1.0.0", "1.1.0", "restart"], "{step:#}");
    assert!(step["wire_bytes"].as_u64().unwrap() > 1_000 && step["disk_bytes"].as_u64() > step["wire_bytes"].as_u64());
    assert_eq!([&first["holds"][0]["node"], &first["held"][0]["node"]], ["garage", "garage"]);
    let shown = output(&mut on(&fleet, "plan", &directory, &[]));
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains(&format!("Plan {} of commit {commit}.", digest(&first))), "{shown}");
    assert!(shown.contains("it will be held: being repaired") && shown.contains("2 restarts"), "{shown}");

    let asked = output(&mut on(&fleet, "apply", &directory, &[]));
    assert_eq!(asked.status.code(), Some(2), "nobody was there to agree");
    let stale = fail(&mut on(&fleet, "apply", &directory, &["--yes", "--plan", &digest(&empty)]));
    assert!(stale.contains("nothing was applied") && stale.contains(&digest(&first)), "{stale}");
    assert_eq!(digest(&plan(&fleet, &directory).0), digest(&first), "and nothing was");

    applied_twice_at_once(&fleet, &directory, &digest(&first));
    let (under_way, code) = plan(&fleet, &directory);
    assert_eq!((&under_way["changes"], code), (&false.into(), Some(0)), "{under_way:#}");
    let done = fleet.rollout_is(1, "done");
    let note = format!("go; fleet plan {} of commit {commit}", digest(&first));
    assert_eq!((done.begun.by.as_str(), done.begun.note.as_ref()), ("owner", Some(&note)));
    fleet.settled_on("attic", "1.1.0");
    fleet.settled_on("cellar", "1.1.0");
    assert_eq!(told(&fleet, "garage"), "1.0.0", "it was told nothing");
    let reason = fleet.view("garage").unwrap().holds[0].deed.note.clone().unwrap();
    assert_eq!(reason, format!("being repaired [fleet directory, commit {commit}]"));
    let again = succeed(&mut on(&fleet, "apply", &directory, &["--yes"]));
    assert!(again.contains("Nothing to change."), "{again}");

    the_hold_goes(&fleet, &directory);
}

/// With it goes what kept the node back; that it is in no commit is said.
fn the_hold_goes(fleet: &Fleet, directory: &Path) {
    std::fs::remove_file(directory.join("nodes/garage.toml")).unwrap();
    let (last, code) = plan(fleet, directory);
    assert_eq!((code, &last["rollouts"][0]["waves"][0]["nodes"]), (Some(2), &json!(["garage"])), "{last:#}");
    succeed(&mut on(fleet, "apply", directory, &["--yes", "--plan", &digest(&last)]));
    assert!(fleet.rollout_is(2, "done").begun.note.unwrap().ends_with("and changes that are in no commit"));
    fleet.settled_on("garage", "1.1.0");
    assert!(fleet.view("garage").unwrap().holds.is_empty());
    assert_eq!(plan(fleet, directory).1, Some(0));
}

#[test]
fn an_app_is_stopped_by_a_line_and_a_plan_is_stale_once_somebody_else_has_moved_the_fleet() {
    let (fleet, _nodes, directory) = fleet_and_directory();
    write(&directory, "apps/greeter.toml", "");
    write(&directory, "nodes/attic.toml", "[apps.greeter]\nstop = true\n");
    let (seen, code) = plan(&fleet, &directory);
    assert_eq!(
        (code, &seen["stops"][0]["node"], seen["left_alone"].as_array().unwrap().len()),
        (Some(2), &"attic".into(), 2)
    );
    succeed(&mut on(&fleet, "apply", &directory, &["--yes", "--note", "as asked for"]));
    // A stop is in no list of rollouts: by which plan and why stands in the audit log.
    let written = succeed(&mut fleet.orangery(&["audit", "--limit", "10"]));
    let stop =
        written.lines().find(|line| line.contains("deploy  greeter nothing")).unwrap_or_else(|| panic!("{written}"));
    assert!(stop.contains(&format!("note=as asked for; fleet plan {}", digest(&seen))), "{stop}");
    eventually("attic runs nothing", || {
        let reported = fleet.view("attic")?.reported?;
        reported.apps.iter().all(|app| app.current.is_none()).then_some(())
    });
    assert_eq!(plan(&fleet, &directory).1, Some(0));
    fleet.settled_on("cellar", "1.0.0");

    fleet.publish("1.1.0", 200);
    write(&directory, "apps/greeter.toml", "[default]\nversion = \"1.1.0\"\n");
    let (seen, _) = plan(&fleet, &directory);
    fleet.deploy("greeter@1.1.0", "cellar");
    let stale = fail(&mut on(&fleet, "apply", &directory, &["--yes", "--plan", &digest(&seen)]));
    assert!(stale.contains("has changed since"), "{stale}");
    assert_eq!(told(&fleet, "garage"), "1.0.0");

    let again = fail(&mut on(&fleet, "export", &directory, &[]));
    assert!(again.contains("it is not empty"), "{again}");
    write(&directory, "fleet.toml", "coordinator = \"https://192.0.2.1:1\"\n");
    let other = fail(&mut on(&fleet, "apply", &directory, &["--yes"]));
    assert!(other.contains("fleet.toml is for the coordinator https://192.0.2.1:1"), "{other}");
}

/// What one page of a pipe holds.
const PAGE: usize = 4096;

/// A command that stays where it says its plan: that is longer than what its output takes until it is read on.
struct Halted {
    child: Child,
    output: PipeReader,
    said: Vec<u8>,
}

impl Halted {
    fn start(mut command: Command) -> Self {
        let (mut output, writer) = std::io::pipe().unwrap();
        rustix::pipe::fcntl_setpipe_size(&writer, PAGE).unwrap();
        let child = command.arg("--json").stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = Vec::new();
        while !said.ends_with(b"\"digest\":") {
            let mut byte = [0];
            output.read_exact(&mut byte).unwrap_or_else(|error| panic!("it said no plan: {error}: {child:?}"));
            said.extend(byte);
        }
        Self { child, output, said }
    }

    /// Reads on: its exit code, the plans that it said after the first, and its errors.
    fn ends(mut self) -> (Option<i32>, Vec<serde_json::Value>, String) {
        self.output.read_to_end(&mut self.said).unwrap();
        let said = String::from_utf8(self.said).unwrap();
        let lines = said.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let mut plans: Vec<_> =
            lines.filter(|line| line["plan"].is_object()).map(|line| line["plan"].clone()).collect();
        assert!(plans.remove(0).to_string().len() > 2 * PAGE, "it could say its first plan at once: {said}");
        let ended = self.child.wait_with_output().unwrap();
        (ended.status.code(), plans, String::from_utf8(ended.stderr).unwrap())
    }
}

#[test]
fn with_yes_a_plan_that_the_fleet_overtakes_is_made_again_and_one_that_was_named_is_not() {
    let (fleet, _nodes, directory) = fleet_and_directory();
    change(&fleet, &directory);
    // Boards that have not joined yet make the plan long enough to be stayed in.
    for number in 0..200 {
        write(&directory, &format!("nodes/to-come-{number}.toml"), "[hold]\nreason = \"to be mounted\"\n");
    }
    git(&directory, &["add", "."]);
    git(&directory, &["commit", "-q", "-m", "boards to come"]);
    let (first, _) = plan(&fleet, &directory);
    let digest = digest(&first);
    let ways: [&[&str]; 3] = [&["--plan", &digest], &[], &["--watch", "--once"]];
    let [named, plain, watch] = ways.map(|words| {
        let mut apply = on(&fleet, "apply", &directory, words);
        apply.arg("--yes");
        Halted::start(apply)
    });
    succeed(&mut fleet.orangery(&["rollout", "start", "greeter@1.1.0", "--nodes", "cellar", "--soak", "1s", "--yes"]));

    let (code, plans, errors) = named.ends();
    assert_eq!((code, plans.len()), (Some(1), 0), "{errors}");
    assert!(errors.contains("the plan has changed since it was shown"), "{errors}");
    let (code, plans, errors) = plain.ends();
    assert_eq!((code, plans.len()), (Some(0), 1), "{errors}");
    assert!(errors.contains("it is made again"), "{errors}");
    assert_eq!(plans[0]["rollouts"][0]["waves"][0]["nodes"], json!(["attic"]), "{plans:#?}");
    assert_eq!(plans[0]["holds"], json!([]), "what was done before stays done: {plans:#?}");
    let (code, plans, errors) = watch.ends();
    assert_eq!((code, plans.len()), (Some(0), 0), "there was nothing left to do: {errors}");
    assert!(errors.contains("it is made again"), "{errors}");
    fleet.rollout_is(2, "done");
    fleet.settled_on("attic", "1.1.0");
    assert_eq!(plan(&fleet, &directory).1, Some(0));
}

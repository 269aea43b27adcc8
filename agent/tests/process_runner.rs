//! Apps as children of the agent: started, restarted, ended, and found again by the next agent.

#![allow(clippy::unwrap_used, reason = "these are tests")]

mod apps;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use apps::{PATIENCE, World, app, launch, release, runs};
use orangery_agent::runner::Preference;
use orangery_wire::manifest::StopSignal;

/// Says its number and stays. The file appears with its content.
const STAYS: &str = "echo $$ > new; mv new pid; exec sleep 1000";

fn world() -> (tempfile::TempDir, World) {
    let directory = tempfile::tempdir().unwrap();
    let world = World::new(directory.path(), Preference::Process);
    (directory, world)
}

#[tokio::test]
async fn an_app_has_its_own_directory_group_and_environment_and_nothing_else() {
    let (_keep, world) = world();
    let script = "pwd > pwd; cut -d' ' -f5 /proc/$$/stat > group; env > env; readlink /proc/$$/fd/0 > in\n\
                  echo out; echo err >&2; echo $$ > new; mv new pid; exec sleep 1000";
    let mut it = launch(&world.layout, 1, script, |_| ());
    it.variables.insert("GREETING".into(), "a \"b\"\nc $d".into());
    world.run(it).await;
    let pid = world.number("pid").await;
    assert_eq!(Path::new(&world.said("pwd").await), world.layout.data(&app()));
    assert_eq!(world.said("group").await, pid.to_string());
    assert_eq!(world.said("in").await, "/dev/null");
    assert_eq!(world.output(), "out\nerr\n");
    let env = world.said("env").await;
    assert!(env.contains("GREETING=a \"b\"\nc $d"), "{env}");
    let names = env.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name);
    let foreign: Vec<_> =
        names.filter(|name| !name.starts_with("ORANGERY_") && !["GREETING", "PATH", "PWD"].contains(name)).collect();
    assert!(foreign.is_empty(), "{foreign:?}");
    assert_eq!(world.runners.running(&app()), Some(release(1)));
    world.runners.stop_all().await;
    assert!(!runs(pid));
    assert_eq!(world.runners.running(&app()), None);
}

#[tokio::test]
async fn an_app_inherits_no_descriptor_of_the_agent() {
    let (_keep, world) = world();
    // What this very process was born with is not the agent's to give or take.
    let born_with = Command::new("/bin/ls").arg("/proc/self/fd").output().unwrap().stdout;
    let _open = fs::File::open("/dev/zero").unwrap();
    let _socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let list = "/bin/ls /proc/self/fd > new; mv new list; exec sleep 1000";
    world.run(launch(&world.layout, 1, list, |_| ())).await;
    assert_eq!(world.said("list").await, String::from_utf8(born_with).unwrap().trim());
    world.runners.stop_all().await;
}

#[tokio::test]
async fn running_the_same_release_again_leaves_it_alone() {
    let (_keep, world) = world();
    world.run(launch(&world.layout, 1, STAYS, |_| ())).await;
    let pid = world.number("pid").await;
    world.run(launch(&world.layout, 1, STAYS, |_| ())).await;
    world.runners.commit(&app(), release(1)).await.unwrap();
    let mut proven = launch(&world.layout, 1, STAYS, |_| ());
    proven.trial = false;
    world.run(proven).await;
    assert!(runs(pid));
    assert!(!world.layout.data(&app()).join("pid").exists(), "it was started once");
    assert!(world.runners.commit(&app(), release(2)).await.is_err(), "another release cannot be committed");
    world.runners.stop_all().await;
}

#[tokio::test]
async fn nothing_of_the_old_release_is_left_when_the_new_one_starts() {
    let (_keep, world) = world();
    let script = "sleep 1000 & echo $! > child.new; mv child.new child\n\
                  setsid sleep 1000 & echo $! > escaped.new; mv escaped.new escaped\n\
                  trap '' TERM; while :; do sleep 1000; done";
    world.run(launch(&world.layout, 1, script, |run| run.stop_grace_secs = 0)).await;
    let (child, escaped) = (world.number("child").await, world.number("escaped").await);
    world.run(launch(&world.layout, 2, STAYS, |_| ())).await;
    assert!(!runs(child) && !runs(escaped));
    assert_eq!(world.runners.running(&app()), Some(release(2)));
    let pid = world.number("pid").await;
    world.runners.run(&app(), None).await.unwrap();
    assert!(!runs(pid));
}

#[tokio::test]
async fn an_app_that_has_gone_to_the_agents_group_is_stopped_and_the_agent_is_not() {
    if Command::new("perl").arg("-v").stdout(Stdio::null()).status().is_err() {
        assert!(std::env::var_os("CI").is_none(), "perl is not installed");
        eprintln!("LEFT OUT: perl is not installed (apt-get install perl-base)");
        return;
    }
    let (_keep, world) = world();
    let script =
        "echo $$ > new; exec perl -e 'setpgrp(0, getpgrp(getppid())) and rename(\"new\", \"pid\") and sleep 1000'";
    world.run(launch(&world.layout, 1, script, |_| ())).await;
    let pid = world.number("pid").await;
    let stopped = tokio::time::timeout(PATIENCE, world.runners.run(&app(), None)).await;
    stopped.expect("it is stopped").unwrap();
    assert!(!runs(pid));
}

#[tokio::test]
async fn an_app_is_asked_to_stop_by_its_own_signal_and_given_time() {
    // As the agent does, which hands over no ignored SIGINT: a shell could not trap it.
    let _handled = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt()).unwrap();
    let (_keep, world) = world();
    let script = "trap 'echo asked > asked; sleep 0.2; echo done >> asked; exit 0' INT; echo $$ > new; mv new pid\n\
                  while :; do sleep 0.05; done";
    world.run(launch(&world.layout, 1, script, |run| run.stop_signal = StopSignal::Int)).await;
    world.number("pid").await;
    world.runners.run(&app(), None).await.unwrap();
    assert_eq!(world.said("asked").await, "asked\ndone");
}

#[tokio::test]
async fn an_app_that_does_not_stop_is_killed_after_its_grace() {
    let (_keep, world) = world();
    let script = "trap '' TERM; echo $$ > new; mv new pid; while :; do sleep 1000; done";
    world.run(launch(&world.layout, 1, script, |run| run.stop_grace_secs = 1)).await;
    let pid = world.number("pid").await;
    let begin = Instant::now();
    world.runners.run(&app(), None).await.unwrap();
    assert!(begin.elapsed() >= Duration::from_secs(1));
    assert!(!runs(pid));
}

#[tokio::test]
async fn an_app_that_exits_is_told_and_started_again() {
    let (_keep, mut world) = world();
    world.run(launch(&world.layout, 1, STAYS, |_| ())).await;
    let first = world.number("pid").await;
    kill(first);
    let exit = world.exit().await;
    assert_eq!((exit.release, exit.restarts, exit.given_up), (release(1), 1, false));
    assert_eq!(exit.reason, "signal 9 (SIGKILL)");
    assert_ne!(world.number("pid").await, first);
    assert_eq!(world.runners.life(&app()).borrow().exits, 1);
    world.runners.stop_all().await;
}

#[tokio::test]
async fn on_trial_an_app_that_keeps_exiting_fails_with_its_last_words() {
    let (_keep, mut world) = world();
    world.run(launch(&world.layout, 1, "echo of another release; exit 3", |run| run.restart.restarts_max = 0)).await;
    world.exit().await;
    world.run(launch(&world.layout, 2, "echo cannot open the port; exit 7", |_| ())).await;
    let mut life = world.runners.life(&app());
    let life =
        tokio::time::timeout(PATIENCE, life.wait_for(|life| life.failed.is_some())).await.unwrap().unwrap().clone();
    assert_eq!(life.failed.unwrap(), "exited 3 times in a row (exit status 7); last output: cannot open the port");
    assert_eq!((life.exits, life.release), (3, None));
    let told: Vec<_> = [world.exit().await, world.exit().await, world.exit().await].map(|e| e.given_up).into();
    assert_eq!(told, [false, false, true]);
    world.run(launch(&world.layout, 2, "", |_| ())).await;
    assert_eq!(world.exit().await.restarts, 1, "told to run again, it is tried again");
    world.runners.stop_all().await;
}

#[tokio::test]
async fn a_proven_app_is_started_for_as_long_as_it_takes() {
    let (_keep, mut world) = world();
    let script = "test -e well && { echo $$ > new; mv new pid; exec sleep 1000; }; exit 1";
    world.run(launch(&world.layout, 1, script, |run| run.restart.restarts_max = 0)).await;
    world.runners.commit(&app(), release(1)).await.unwrap();
    assert!(world.exit().await.given_up);
    fs::write(world.layout.data(&app()).join("well"), "").unwrap();
    assert!(runs(world.number("pid").await));
    assert_eq!(world.runners.life(&app()).borrow().failed, None);
    world.runners.stop_all().await;
}

#[tokio::test]
async fn what_an_app_leaves_behind_when_it_exits_is_ended_before_it_starts_again() {
    let (_keep, world) = world();
    let script = "test -e child && { echo $$ > new; mv new pid; exec sleep 1000; }\n\
                  sleep 1000 & echo $! > child.new; mv child.new child; exit 1";
    world.run(launch(&world.layout, 1, script, |_| ())).await;
    world.number("pid").await;
    assert!(!runs(world.number("child").await));
    world.runners.stop_all().await;
}

#[tokio::test]
async fn a_program_that_cannot_be_started_says_why() {
    let (directory, world) = world();
    let file = |name: &str, mode: u32, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.display().to_string()
    };
    let cases = [
        ("/nonexistent/program".to_owned(), "no such file on this node"),
        (file("plain", 0o444, "#!/bin/sh\n"), "executable"),
        (file("foreign", 0o555, "\x7fELF garbage"), "no program for this machine"),
        (file("loader", 0o555, "#!/nonexistent/sh\n"), "interpreter or loader"),
        ("bin/${NOWHERE}".to_owned(), "\"NOWHERE\""),
    ];
    for (program, hint) in cases {
        let it = launch(&world.layout, 1, "", |run| run.exec = vec![program.clone()]);
        let reason = world.runners.run(&app(), Some(it)).await.unwrap_err();
        assert!(reason.contains(hint) && reason.contains(&program), "{reason}");
        assert_eq!(world.runners.running(&app()), None);
    }
}

#[tokio::test]
async fn a_changed_setting_of_the_node_starts_the_app_anew() {
    let (_keep, world) = world();
    world.run(launch(&world.layout, 1, STAYS, |_| ())).await;
    let first = world.number("pid").await;
    let mut changed = launch(&world.layout, 1, STAYS, |_| ());
    changed.variables.insert("PORT".into(), "8081".into());
    world.run(changed).await;
    assert_ne!(world.number("pid").await, first);
    assert!(!runs(first));
    world.runners.stop_all().await;
}

#[tokio::test]
async fn stopping_what_never_ran_is_done_at_once() {
    let (_keep, world) = world();
    world.runners.run(&app(), None).await.unwrap();
    world.runners.stop_all().await;
    assert_eq!(world.runners.running(&app()), None);
}

#[tokio::test]
async fn the_next_agent_finds_the_app_running_and_goes_on_watching_it() {
    let (directory, mut world) = world();
    let mut agent = Agent::start(directory.path());
    let pid = world.number("pid").await;
    agent.kill();
    world.run(launch(&world.layout, 1, STAYS, |_| ())).await;
    assert!(runs(pid) && !world.layout.data(&app()).join("pid").exists(), "it was not interrupted");
    kill(pid);
    assert!(world.exit().await.reason.contains("earlier agent"));
    let second = world.number("pid").await;
    assert!(runs(second));
    world.runners.stop_all().await;
    assert!(!runs(second));
}

#[tokio::test]
async fn the_next_agent_stops_an_app_that_it_found_running() {
    let (directory, world) = world();
    let mut agent = Agent::start(directory.path());
    let pid = world.number("pid").await;
    agent.kill();
    world.run(launch(&world.layout, 1, STAYS, |_| ())).await;
    world.runners.run(&app(), None).await.unwrap();
    assert!(!runs(pid));
}

#[tokio::test]
async fn the_next_agent_ends_another_release_that_it_finds() {
    for wanted in [Some(2), None] {
        let (directory, world) = world();
        let mut agent = Agent::start(directory.path());
        let pid = world.number("pid").await;
        agent.kill();
        let it = wanted.map(|n| launch(&world.layout, n, STAYS, |_| ()));
        world.runners.run(&app(), it).await.unwrap();
        assert!(!runs(pid));
        world.runners.stop_all().await;
    }
}

#[tokio::test]
async fn an_app_that_a_killed_agent_did_not_write_down_is_ended_too() {
    let (directory, world) = world();
    let mut agent = Agent::start(directory.path());
    let pid = world.number("pid").await;
    agent.kill();
    fs::remove_file(world.layout.run_state(&app())).unwrap();
    world.run(launch(&world.layout, 1, STAYS, |_| ())).await;
    assert!(!runs(pid));
    assert!(runs(world.number("pid").await));
    world.runners.stop_all().await;
}

/// Another agent, in a process of its own.
struct Agent(Child);

impl Agent {
    fn start(state: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "an_agent_of_its_own", "--nocapture"]).env("ORANGERY_TEST_STATE", state);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.map_while(Result::ok).any(|line| line.contains("the app runs")));
        Self(child)
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// The program that [`Agent`] is; on its own it tests nothing.
#[tokio::test]
async fn an_agent_of_its_own() {
    let Some(state) = std::env::var_os("ORANGERY_TEST_STATE") else { return };
    let world = World::new(Path::new(&state), Preference::Process);
    world.run(launch(&world.layout, 1, STAYS, |_| ())).await;
    println!("the app runs");
    std::future::pending::<()>().await;
}

fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

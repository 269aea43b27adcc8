//! Apps as units of a real systemd, with power cuts.
//!
//! Each test boots a machine of its own (see [`container`]) and lets agents work in it: this very program, told by
//! `ORANGERY_TEST_STEPS` what to do.

#![allow(clippy::unwrap_used, reason = "these are tests")]

#[path = "../apps/mod.rs"]
mod apps;
mod container;
mod inside;

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use apps::PATIENCE;
use container::Machine;

const UNIT: &str = "orangery-greeter.service";
const DATA: &str = "/var/lib/orangery/apps/greeter/data";
const PROVEN: &str = "/etc/systemd/system/orangery-greeter.service";
const ENABLED: &str = "/etc/systemd/system/multi-user.target.wants/orangery-greeter.service";
const FIRST_TRIAL: &str = "/run/systemd/system/orangery-greeter.service";
const TRIAL: &str = "/run/systemd/system/orangery-greeter.service.d/trial.conf";

/// The versions that were started since the machine was made, one for each start.
fn starts(machine: &Machine) -> Vec<String> {
    machine.read(&format!("{DATA}/starts")).lines().map(str::to_owned).collect()
}

/// Lets an agent do `steps` and end. What it found out is what it says, one line for each step.
fn steps(machine: &Machine, steps: &str) -> Vec<String> {
    let output = machine.agent(steps).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    text.lines().filter_map(|line| line.strip_prefix("> ").map(str::to_owned)).collect()
}

/// As [`steps`], all of which must succeed.
fn done(machine: &Machine, wanted: &str) {
    assert_eq!(steps(machine, wanted), vec!["done"; wanted.split("; ").count()], "{wanted}");
}

fn property(machine: &Machine, name: &str) -> String {
    machine.said(&["systemctl", "show", "--value", "--property", name, UNIT]).trim().to_owned()
}

/// A variable of the app that runs.
fn variable(machine: &Machine, name: &str) -> Option<String> {
    let environ = machine.read(&format!("/proc/{}/environ", property(machine, "MainPID")));
    environ.split('\0').find_map(|entry| entry.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
}

fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn kill(machine: &Machine, pid: &str) {
    signal(machine, "KILL", pid);
}

fn signal(machine: &Machine, signal: &str, pid: &str) {
    assert!(machine.run(&["sh", "-c", "kill -$1 $2", "sh", signal, pid]).status.success());
}

#[track_caller]
fn eventually_starts(machine: &Machine, expected: &[&str]) {
    eventually(&format!("{expected:?} was started, not {:?}", starts(machine)), || {
        (starts(machine) == expected).then_some(())
    });
}

/// An agent that goes on after its steps until it is killed.
struct Agent {
    nsenter: Child,
    lines: Lines<BufReader<ChildStdout>>,
    pid: String,
}

impl Agent {
    fn start(machine: &Machine, steps: &str) -> Self {
        let mut nsenter = machine.agent(&format!("pid; {steps}; hold")).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(nsenter.stdout.take().unwrap()).lines();
        let mut agent = Self { nsenter, lines, pid: String::new() };
        agent.pid = agent.says();
        agent
    }

    fn says(&mut self) -> String {
        let line =
            self.lines.by_ref().map_while(Result::ok).find_map(|line| line.strip_prefix("> ").map(str::to_owned));
        line.expect("the agent ended")
    }

    fn kill(mut self, machine: &Machine) {
        kill(machine, &self.pid);
        self.nsenter.wait().unwrap();
    }
}

#[test]
#[ignore = "needs root, systemd-nspawn and a Debian root file system; run by `just test-nspawn`"]
fn the_first_trial_leaves_no_trace_after_a_power_cut() {
    let mut machine = Machine::new();
    done(&machine, "trial 1");
    eventually_starts(&machine, &["1.0.0"]);
    assert_eq!(property(&machine, "FragmentPath"), FIRST_TRIAL);
    machine.power_cut();
    assert_eq!(property(&machine, "LoadState"), "not-found");
    assert!(!machine.has(PROVEN) && !machine.has(ENABLED));
    assert_eq!(starts(&machine), ["1.0.0"]);
    done(&machine, "trial 1");
    eventually_starts(&machine, &["1.0.0", "1.0.0"]);
}

#[test]
#[ignore = "needs root, systemd-nspawn and a Debian root file system; run by `just test-nspawn`"]
fn a_proven_release_starts_at_boot_without_the_agent() {
    let mut machine = Machine::new();
    done(&machine, "trial 1; link 1; commit 1; commit 1");
    eventually_starts(&machine, &["1.0.0"]);
    assert!(!machine.has(FIRST_TRIAL) && !machine.has(TRIAL));
    assert_eq!(property(&machine, "FragmentPath"), PROVEN);
    assert_eq!(property(&machine, "NeedDaemonReload"), "no");
    machine.power_cut();
    eventually_starts(&machine, &["1.0.0"; 2]);
    assert!(property(&machine, "ExecStart").contains("/apps/greeter/current/tree/bin/app"));
    done(&machine, "proven 1; commit 1");
    assert_eq!(starts(&machine).len(), 2, "the agent finds it running");
}

#[test]
#[ignore = "needs root, systemd-nspawn and a Debian root file system; run by `just test-nspawn`"]
fn after_a_power_cut_during_a_trial_the_proven_release_runs() {
    let mut machine = Machine::new();
    done(&machine, "trial 1; link 1; commit 1; trial 2");
    eventually_starts(&machine, &["1.0.0", "2.0.0"]);
    assert!(machine.has(TRIAL));
    assert!(property(&machine, "ExecStart").contains("/releases/0202"));
    machine.power_cut();
    eventually_starts(&machine, &["1.0.0", "2.0.0", "1.0.0"]);
    assert!(!machine.has(TRIAL));
    // Tried again, and committed: one start, and after the next power cut it is what runs.
    done(&machine, "trial 2; link 2; commit 2");
    eventually_starts(&machine, &["1.0.0", "2.0.0", "1.0.0", "2.0.0"]);
    assert!(!machine.has(TRIAL));
    machine.power_cut();
    eventually_starts(&machine, &["1.0.0", "2.0.0", "1.0.0", "2.0.0", "2.0.0"]);
    assert_eq!(variable(&machine, "ORANGERY_VERSION").as_deref(), Some("2.0.0"));
}

#[test]
#[ignore = "needs root, systemd-nspawn and a Debian root file system; run by `just test-nspawn`"]
fn a_power_cut_between_the_link_and_the_commit_is_healed_by_the_next_agent() {
    let mut machine = Machine::new();
    done(&machine, "trial 1; link 1; commit 1; trial 2; link 2");
    machine.power_cut();
    // The unit is still the old one's, but runs what the link names.
    eventually("something runs", || variable(&machine, "ORANGERY_VERSION"));
    done(&machine, "proven 2; commit 2");
    assert_eq!(variable(&machine, "ORANGERY_VERSION").as_deref(), Some("2.0.0"));
    machine.power_cut();
    eventually("it runs", || variable(&machine, "ORANGERY_VERSION").filter(|version| version == "2.0.0"));
}

#[test]
#[ignore = "needs root, systemd-nspawn and a Debian root file system; run by `just test-nspawn`"]
fn a_release_that_keeps_exiting_fails_with_its_last_words_and_the_proven_one_is_restored() {
    let machine = Machine::new();
    let said = steps(&machine, "trial 1; link 1; commit 1; trial 3; failed; evidence; proven 1; commit 1");
    assert!(said[4].starts_with("exited 3 times in a row (exit status 7); last output: "), "{}", said[4]);
    assert!(said[4].contains("cannot open the port"), "{}", said[4]);
    // systemd may have said something in the app's name besides.
    assert!(said[5].starts_with("exit status 7; "), "{}", said[5]);
    assert_eq!(said[5].matches("cannot open the port").count(), 3, "{}", said[5]);
    assert_eq!([&said[6], &said[7]], ["done", "done"]);
    assert_eq!(variable(&machine, "ORANGERY_VERSION").as_deref(), Some("1.0.0"));
    eventually("it was started", || {
        starts(&machine).ends_with(&["3.0.0".to_owned(), "1.0.0".to_owned()]).then_some(())
    });
    assert!(!machine.has(TRIAL));
}

#[test]
#[ignore = "needs root, systemd-nspawn and a Debian root file system; run by `just test-nspawn`"]
fn the_last_words_are_waited_for_when_the_journal_is_behind() {
    let machine = Machine::new();
    let journald = machine.said(&["systemctl", "show", "--value", "--property", "MainPID", "systemd-journald.service"]);
    let mut agent = Agent::start(&machine, "trial 9; failed; evidence");
    assert_eq!(agent.says(), "done");
    eventually_starts(&machine, &["9.0.0"; 3]);
    signal(&machine, "STOP", journald.trim());
    assert!(machine.run(&["touch", &format!("{DATA}/go")]).status.success());
    eventually("the agent stopped it", || {
        (!["activating", "active"].contains(&property(&machine, "ActiveState").as_str())).then_some(())
    });
    signal(&machine, "CONT", journald.trim());
    assert!(agent.says().contains("last output: "));
    let evidence = agent.says();
    assert!(evidence.contains("the third time"), "{evidence}");
    agent.kill(&machine);
}

#[test]
#[ignore = "needs root, systemd-nspawn and a Debian root file system; run by `just test-nspawn`"]
fn a_program_that_cannot_be_executed_is_known_at_once() {
    let machine = Machine::new();
    let said = steps(&machine, "trial 4; stop");
    assert!(said[0].contains("exit status 203") && said[0].contains(UNIT), "{}", said[0]);
    assert_eq!(said[1], "done");
    assert_eq!(property(&machine, "LoadState"), "not-found");
}

#[test]
#[ignore = "needs root, systemd-nspawn and a Debian root file system; run by `just test-nspawn`"]
fn an_app_is_not_interrupted_by_the_agents_death_on_trial_or_proven() {
    let machine = Machine::new();
    let agent = Agent::start(&machine, "trial 1");
    eventually_starts(&machine, &["1.0.0"]);
    agent.kill(&machine);
    assert_eq!(property(&machine, "ActiveState"), "active");
    done(&machine, "trial 1; link 1; commit 1; memory");
    done(&machine, "proven 1; commit 1; memory");
    assert_eq!(starts(&machine), ["1.0.0"]);
}

#[test]
#[ignore = "needs root, systemd-nspawn and a Debian root file system; run by `just test-nspawn`"]
fn systemd_restarts_an_app_that_dies_and_the_agent_tells() {
    let machine = Machine::new();
    let mut agent = Agent::start(&machine, "trial 1; running 1; exit; running 1; commit 1");
    assert_eq!([agent.says(), agent.says()], ["done", "done"]);
    eventually_starts(&machine, &["1.0.0"]);
    kill(&machine, &property(&machine, "MainPID"));
    assert_eq!(agent.says(), "signal 9, 1 in a row");
    assert_eq!(agent.says(), "done", "it runs again");
    agent.kill(&machine);
    eventually_starts(&machine, &["1.0.0"; 2]);
}

#[test]
#[ignore = "needs root, systemd-nspawn and a Debian root file system; run by `just test-nspawn`"]
fn a_stopped_app_leaves_nothing_but_its_own_files() {
    let mut machine = Machine::new();
    done(&machine, "trial 1; link 1; commit 1; trial 2; stop; stop");
    for path in [PROVEN, ENABLED, FIRST_TRIAL, TRIAL] {
        assert!(!machine.has(path), "{path}");
    }
    assert_eq!(property(&machine, "LoadState"), "not-found");
    machine.power_cut();
    assert_eq!(property(&machine, "LoadState"), "not-found");
}

#[test]
#[ignore = "needs root, systemd-nspawn and a Debian root file system; run by `just test-nspawn`"]
fn every_argument_and_variable_arrives_as_it_was_written() {
    let mut machine = Machine::new();
    done(&machine, "trial 5");
    let arguments =
        eventually("it wrote them", || Some(machine.read(&format!("{DATA}/arguments"))).filter(|a| !a.is_empty()));
    let expected = format!("{}\0", inside::AWKWARD.join("\0"));
    assert_eq!(arguments, expected);
    assert_eq!(variable(&machine, "AWKWARD"), Some(inside::awkward_value()));
    // The same through the unit of the proven release.
    done(&machine, "trial 5; link 5; commit 5");
    machine.power_cut();
    let value = eventually("it runs again", || variable(&machine, "AWKWARD"));
    assert_eq!(value, inside::awkward_value());
}

#[test]
#[ignore = "needs root, systemd-nspawn and a Debian root file system; run by `just test-nspawn`"]
fn an_app_is_confined_unless_its_manifest_says_otherwise() {
    let machine = Machine::new();
    let report = |version: &str| {
        let path = format!("{DATA}/report-{version}");
        eventually(&path, || Some(machine.read(&path)).filter(|report| report.ends_with("end\n")))
    };
    machine.run(&["mkdir", "-p", "-m", "700", "/var/lib/orangery/identity"]);
    done(&machine, "trial 6; link 6; commit 6");
    assert_eq!(report("6.0.0"), "user\nno etc\nno identity\ncapabilities 0000000000000000\nno new privileges 1\nend\n");
    // A trial that is not confined, above a unit that is: nothing of that shines through.
    done(&machine, "trial 7");
    let free = report("7.0.0");
    assert!(free.starts_with("root\netc\nidentity\n") && free.ends_with("no new privileges 0\nend\n"), "{free}");
    assert!(!free.contains("capabilities 0000000000000000"), "{free}");
    done(&machine, "proven 6; trial 7; link 7; commit 7; trial 6");
    assert_eq!(variable(&machine, "ORANGERY_VERSION").as_deref(), Some("6.0.0"), "it may write its own files again");
}

#[test]
#[ignore = "needs root, systemd-nspawn and a Debian root file system; run by `just test-nspawn`"]
fn a_state_directory_on_a_partition_of_its_own_keeps_the_apps_files() {
    let machine = Machine::new();
    machine.run(&["mkdir", "-p", "/var/lib/orangery"]);
    assert!(machine.run(&["mount", "-t", "tmpfs", "tmpfs", "/var/lib/orangery"]).status.success());
    done(&machine, "trial 6");
    let report = format!("{DATA}/report-6.0.0");
    let report = eventually(&report, || Some(machine.read(&report)).filter(|report| report.ends_with("end\n")));
    assert_eq!(report, "root\nno etc\nno identity\ncapabilities 0000000000000000\nno new privileges 1\nend\n");
    assert!(!machine.has("/var/lib/private/orangery"));
}

#[test]
#[ignore = "needs root, systemd-nspawn and a Debian root file system; run by `just test-nspawn`"]
fn an_app_may_change_between_systemd_and_the_agents_own_children() {
    let mut machine = Machine::new();
    // Release 8 is a child of the agent. While it is on trial the unit of release 1 is stopped but stays for the next boot.
    let agent = Agent::start(&machine, "trial 1; link 1; commit 1; trial 8");
    eventually_starts(&machine, &["1.0.0", "8.0.0"]);
    assert_eq!(property(&machine, "ActiveState"), "inactive");
    assert!(machine.has(ENABLED));
    agent.kill(&machine);
    machine.power_cut();
    eventually_starts(&machine, &["1.0.0", "8.0.0", "1.0.0"]);
    let agent = Agent::start(&machine, "trial 8; link 8; commit 8");
    eventually("the unit is gone", || (!machine.has(PROVEN)).then_some(()));
    agent.kill(&machine);
    done(&machine, "trial 1");
    eventually_starts(&machine, &["1.0.0", "8.0.0", "1.0.0", "8.0.0", "1.0.0"]);
    let left = machine.said(&["sh", "-c", "grep -l ORANGERY_RUNNER=process /proc/[0-9]*/environ"]);
    assert_eq!(left, "", "of release 8 nothing is left");
}

#[test]
#[ignore = "needs root, systemd-nspawn and a Debian root file system; run by `just test-nspawn`"]
fn a_unit_of_somebody_else_is_left_alone() {
    let machine = Machine::new();
    for directory in ["/etc/systemd/system", "/lib/systemd/system"] {
        let path = format!("{directory}/{UNIT}");
        let write = format!("printf '[Service]\\nExecStart=/bin/sleep 1000\\n' > {path}");
        assert!(machine.run(&["sh", "-c", &write]).status.success());
        machine.run(&["systemctl", "daemon-reload"]);
        machine.run(&["systemctl", "start", UNIT]);
        let said = steps(&machine, "trial 1; stop");
        assert!(said[0].contains(&path), "{}", said[0]);
        assert_eq!(property(&machine, "ActiveState"), "active");
        assert_eq!(property(&machine, "FragmentPath"), path);
        machine.run(&["systemctl", "stop", UNIT]);
        machine.run(&["rm", &path]);
    }
    assert!(starts(&machine).is_empty());
}

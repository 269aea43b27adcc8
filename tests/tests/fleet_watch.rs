//! `orangery apply --watch` with real git repositories, a real coordinator and real nodes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use orangery_tests::fleet::{Fleet, Node};
use orangery_tests::process::{Running, eventually, fail, output, succeed};
use serde_json::Value;

/// A git repository with a fleet directory in `fleet`, which says what runs.
struct Repository {
    path: PathBuf,
}

impl Repository {
    fn of(fleet: &Fleet) -> Self {
        let path = fleet.path().join("checkout");
        fs::create_dir(&path).unwrap();
        let repository = Self { path };
        repository.git(&["init", "-q", "-b", "main"]);
        succeed(fleet.orangery(&["export"]).arg(repository.directory()));
        repository.write("rollouts.toml", "[default]\nwaves = [\"100%\"]\nsoak = [\"1s\"]\n");
        repository.commit("as it is");
        repository
    }

    fn directory(&self) -> PathBuf {
        self.path.join("fleet")
    }

    fn git(&self, words: &[&str]) -> String {
        let mut git = Command::new("git");
        git.arg("-C").arg(&self.path).args(["-c", "user.name=ann", "-c", "user.email=ann@example.org"]);
        succeed(git.args(words)).trim().to_owned()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.directory().join(name), text).unwrap();
    }

    /// Commits all that is there. Returns the commit's id.
    fn commit(&self, words: &str) -> String {
        self.git(&["add", "-A", "."]);
        self.git(&["commit", "-q", "--allow-empty", "-m", words]);
        self.git(&["rev-parse", "HEAD"])
    }

    fn wants(&self, version: &str) -> String {
        self.write("apps/greeter.toml", &format!("[default]\nversion = \"{version}\"\n"));
        self.commit(&format!("greeter {version}"))
    }
}

/// A coordinator with one node that runs 1.0.0, and 1.1.0 published.
fn fleet() -> (Fleet, Node, Repository) {
    let fleet = Fleet::start();
    let mut node = fleet.joined("attic", "[health]\ninterval_secs = 1\n");
    node.start();
    fleet.publish("1.0.0", 200);
    fleet.deploy("greeter@1.0.0", "all");
    fleet.settled_on("attic", "1.0.0");
    fleet.publish("1.1.0", 200);
    let repository = Repository::of(&fleet);
    (fleet, node, repository)
}

fn watching(fleet: &Fleet, directory: &Path, options: &[&str]) -> Command {
    let mut command = fleet.orangery(&["apply"]);
    command.arg(directory).args(["--watch", "--every", "1s"]).args(options);
    command
}

/// A watch in the background, and what it says.
struct Watch(Running);

impl Watch {
    fn start(fleet: &Fleet, directory: &Path, options: &[&str]) -> Self {
        let log = fleet.path().join("watch.log");
        let _ = fs::remove_file(&log);
        let mut command = watching(fleet, directory, options);
        command.arg("--json");
        Self(Running::start("watch", command, log))
    }

    /// The lines that it has written, by their words.
    fn said(&self, word: &str) -> Vec<Value> {
        let log = self.0.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["watch"] == word).collect()
    }

    /// Waits until it says a word of a commit.
    fn says(&self, word: &str, commit: &str) -> Value {
        eventually(&format!("the watch says {word} of {commit}"), || {
            self.said(word).into_iter().find(|line| line["commit"] == commit)
        })
    }

    /// Waits until it says why it waits.
    fn waits(&self, reason: &str) {
        eventually(&format!("the watch waits because of {reason:?}: {}", self.0.log()), || {
            self.said("waiting").iter().any(|line| line["reason"].as_str().unwrap().contains(reason)).then_some(())
        });
    }
}

/// Looks once: the exit code and all that was said.
fn once(fleet: &Fleet, directory: &Path, options: &[&str]) -> (Option<i32>, String) {
    let answer = output(watching(fleet, directory, options).arg("--once"));
    let said = [answer.stdout, answer.stderr].concat();
    (answer.status.code(), String::from_utf8(said).unwrap())
}

fn count_rollouts(fleet: &Fleet) -> usize {
    let all: Value = serde_json::from_str(&succeed(&mut fleet.orangery(&["rollout", "list", "--json"]))).unwrap();
    all.as_array().unwrap().len()
}

#[test]
fn a_watch_applies_each_new_commit_once_and_ends_by_a_signal_where_it_goes_on_later() {
    let (fleet, _node, repository) = fleet();
    let first = repository.git(&["rev-parse", "HEAD"]);
    let mut watch = Watch::start(&fleet, &repository.directory(), &["--yes", "--note", "by the watch"]);
    assert_eq!(watch.says("reached", &first)["applied"], false);
    // What is not committed counts for nothing, broken or not.
    repository.write("apps/greeter.toml", "[default]\nversoin = \"1.1.0\"\n");
    let second = repository.wants("1.1.0");
    let reached = watch.says("reached", &second);
    assert_eq!(reached["applied"], true);
    let rollout = fleet.rollout_is(1, "done");
    let note = format!(
        "by the watch; fleet plan {} of commit {second} by ann <ann@example.org>",
        reached["plan"].as_str().unwrap()
    );
    assert_eq!((rollout.begun.by.as_str(), rollout.begun.note), ("owner", Some(note)));
    fleet.settled_on("attic", "1.1.0");

    // Another one for the same place would do everything twice.
    let (code, said) = once(&fleet, &repository.directory(), &["--yes"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("another `orangery apply --watch` follows this already"), "{said}");
    // A commit somewhere else in the repository is no news of the fleet.
    fs::write(repository.path.join("elsewhere.txt"), "x").unwrap();
    let third = repository.commit("elsewhere");
    watch.says("same", &third);

    assert!(watch.0.stop().success());
    assert_eq!(watch.said("ended").len(), 1);
    // By hand back to 1.0.0: what was reached is not done again by whoever starts the watch again.
    fleet.deploy("greeter@1.0.0", "all");
    let (code, said) = once(&fleet, &repository.directory(), &["--yes"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(&format!("the fleet was brought to {} before", &third[..12])), "{said}");
    assert_eq!(count_rollouts(&fleet), 1);
}

#[test]
fn a_commit_that_is_broken_rewound_or_huge_changes_nothing_until_the_next_one() {
    let (fleet, _node, repository) = fleet();
    let watch = Watch::start(&fleet, &repository.directory(), &["--yes"]);
    let first = repository.git(&["rev-parse", "HEAD"]);
    watch.says("reached", &first);
    let refused = |commit: &str, reason: &str| {
        let said = watch.says("refused", commit);
        assert!(said["reason"].as_str().unwrap().contains(reason), "{said:#}");
    };
    let broken = {
        repository.write("apps/greeter.toml", "[default]\nversoin = \"1.1.0\"\n");
        repository.commit("broken")
    };
    refused(&broken, "did you mean `version`?");
    repository.write("nodes/attic.toml", &format!("# {}\n", "x".repeat(1024 * 1024)));
    repository.write("apps/greeter.toml", "[default]\nversion = \"1.0.0\"\n");
    refused(&repository.commit("huge"), "nodes/attic.toml: it has more than 1048576 bytes");
    fs::remove_file(repository.directory().join("nodes/attic.toml")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", repository.directory().join("nodes/attic.toml")).unwrap();
    refused(&repository.commit("linked"), "nodes/attic.toml: it is a symlink");
    fs::remove_file(repository.directory().join("nodes/attic.toml")).unwrap();

    // What is not published yet may be in a moment: that is no fault of the commit.
    let early = repository.wants("1.2.0");
    watch.waits("greeter 1.2.0 was not published");
    assert_eq!(count_rollouts(&fleet), 0);
    fleet.publish("1.2.0", 200);
    watch.says("reached", &early);
    fleet.settled_on("attic", "1.2.0");

    repository.git(&["reset", "-q", "--hard", &first]);
    refused(&first, "the branch was rewound or rewritten: --rewritten goes along");
    assert_eq!(count_rollouts(&fleet), 1);
    let refusals = watch.said("refused").len();
    assert_eq!(refusals, 4, "each is said once");
    drop(watch);
    let (code, said) = once(&fleet, &repository.directory(), &["--yes"]);
    assert_eq!(code, Some(1), "{said}");
    let (code, said) = once(&fleet, &repository.directory(), &["--yes", "--rewritten"]);
    assert_eq!(code, Some(0), "{said}");
    fleet.settled_on("attic", "1.0.0");
}

#[test]
fn without_yes_a_plan_of_a_remote_branch_waits_for_somebody_who_applies_it_by_its_digest() {
    let (fleet, _node, repository) = fleet();
    let copy = fleet.path().join("copy.git");
    let url = format!("file://{}", repository.path.display());
    let options = ["--remote", url.as_str(), "--branch", "main", "--path", "fleet"];
    let (code, said) = once(&fleet, &copy, &options);
    assert_eq!(code, Some(0), "{said}");
    let commit = repository.wants("1.1.0");
    // Whoever only looks needs no more than a viewer's token.
    let viewer = viewer(&fleet);
    fs::create_dir(viewer.join("watch")).unwrap();
    for entry in fs::read_dir(fleet.home().join("watch")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, viewer.join("watch").join(path.file_name().unwrap())).unwrap();
    }
    let mut gated = Command::new(orangery_tests::process::program("orangery"));
    gated.arg("--dir").arg(&viewer).arg("apply").arg(&copy).args(["--watch", "--every", "1s", "--json"]).args(options);
    let watch = Watch(Running::start("gated", gated, fleet.path().join("gated.log")));
    let pending = watch.says("pending", &commit);
    let command = pending["command"].as_str().unwrap().to_owned();
    let digest = pending["plan"].as_str().unwrap();
    assert_eq!(command, format!("orangery apply {} --path fleet --commit {commit} --plan {digest}", copy.display()));
    assert_eq!(count_rollouts(&fleet), 0);

    // The command as it stands there, by the owner.
    let words: Vec<&str> = command.split(' ').skip(1).collect();
    let asked = output(&mut fleet.orangery(&words));
    assert_eq!(asked.status.code(), Some(2), "nobody was there to agree");
    succeed(fleet.orangery(&words).arg("--yes"));
    assert_eq!(watch.says("reached", &commit)["applied"], false);
    let rollout = fleet.rollout_is(1, "done");
    assert_eq!(rollout.begun.note, Some(format!("fleet plan {digest} of commit {commit}")));
    assert_eq!(watch.said("pending").len(), 1, "it is said once");
    drop(watch);

    let other = fail(watching(&fleet, &copy, &["--remote", "file:///nowhere", "--once"]).arg("--yes"));
    assert!(other.contains(&format!("is a copy of {url}")), "{other}");
    // A branch that is gone is said, and tried again.
    let (code, said) = once(&fleet, &fleet.path().join("other.git"), &["--remote", &url, "--branch", "gone"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("cannot fetch refs/heads/gone") && said.contains("couldn't find remote ref"), "{said}");
}

/// The directory of a user who may only look.
fn viewer(fleet: &Fleet) -> PathBuf {
    let home = fleet.path().join("viewer");
    fs::create_dir_all(home.join("coordinator")).unwrap();
    for name in ["client.toml", "coordinator/ca.pem"] {
        fs::copy(fleet.home().join(name), home.join(name)).unwrap();
    }
    succeed(&mut fleet.orangery(&["user", "add", "vera", "--role", "viewer"]));
    token_of(fleet, "vera", &home, "1h");
    home
}

/// Makes a token and puts it where it is looked for.
fn token_of(fleet: &Fleet, user: &str, home: &Path, expires: &str) {
    let token = succeed(&mut fleet.orangery(&["user", "token", user, "--expires", expires]));
    fs::write(home.join("operator.token"), token).unwrap();
}

#[test]
fn a_coordinator_that_is_away_and_a_token_that_ends_are_waited_for_and_said() {
    let (mut fleet, _node, repository) = fleet();
    let bot = fleet.path().join("viewer");
    viewer(&fleet);
    succeed(&mut fleet.orangery(&["user", "role", "vera", "operator"]));
    let mut command = Command::new(orangery_tests::process::program("orangery"));
    command.arg("--dir").arg(&bot).arg("apply").arg(repository.directory());
    command.args(["--watch", "--every", "1s", "--yes", "--json"]);
    let watch = Watch(Running::start("bot", command, fleet.path().join("bot.log")));
    watch.says("reached", &repository.git(&["rev-parse", "HEAD"]));

    fleet.coordinator().kill();
    let commit = repository.wants("1.1.0");
    watch.waits("cannot reach the coordinator");
    fleet.serve();
    watch.says("reached", &commit);
    assert_eq!(fleet.rollout_is(1, "done").begun.by, "vera");

    token_of(&fleet, "vera", &bot, "1s");
    fleet.publish("1.2.0", 200);
    eventually("the token has ended", || {
        let mut status = Command::new(orangery_tests::process::program("orangery"));
        (!output(status.arg("--dir").arg(&bot).arg("status")).status.success()).then_some(())
    });
    let commit = repository.wants("1.2.0");
    watch.waits("the token has expired");
    token_of(&fleet, "vera", &bot, "1h");
    watch.says("reached", &commit);
    assert_eq!(fleet.rollout_is(2, "done").begun.by, "vera");
}

#[test]
fn what_a_rollout_has_taken_back_is_not_brought_again_by_a_commit_that_still_has_it() {
    let (fleet, _node, repository) = fleet();
    let watch = Watch::start(&fleet, &repository.directory(), &["--yes"]);
    watch.says("reached", &repository.wants("1.1.0"));
    fleet.rollout_is(1, "done");
    succeed(&mut fleet.orangery(&["rollout", "revert", "1", "--note", "it hums"]));
    fleet.rollout_is(1, "reverted");
    fleet.settled_on("attic", "1.0.0");
    // A change of something else, in which the line is as it was.
    repository.write("channels.toml", "[stable]\ngreeter = \"1.0.0\"\n");
    let commit = repository.commit("a channel");
    let pending = watch.says("pending", &commit);
    assert_eq!(pending["reason"], "greeter 1.1.0 was taken back by rollout 1");
    assert_eq!(count_rollouts(&fleet), 1);
    let next = repository.wants("1.0.0");
    assert_eq!(watch.says("reached", &next)["applied"], false);
}

#[test]
fn a_git_that_would_ask_or_hang_is_ended_and_so_is_what_it_has_started() {
    let fleet = Fleet::start();
    let ssh = fleet.path().join("ssh");
    let pids = fleet.path().join("pids");
    fs::write(&ssh, format!("#!/bin/sh\necho $$ >> {}\nexec sleep 600\n", pids.display())).unwrap();
    fs::set_permissions(&ssh, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let copy = fleet.path().join("copy.git");
    let options = ["--remote", "ssh://example.org/fleet", "--fetch-within", "1s", "--once", "--yes"];
    let hangs = fail(watching(&fleet, &copy, &options).env("GIT_SSH_COMMAND", &ssh));
    assert!(hangs.contains("`git fetch` was not done after 1 s, and was ended"), "{hangs}");
    let pid = fs::read_to_string(&pids).unwrap().trim().to_owned();
    eventually("what git has started is gone", || {
        let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        (state.is_empty() || state.contains(") Z ")).then_some(())
    });
    // The coordinator's own port speaks TLS and asks whoever is nobody for a token, as a git server would for a password.
    let url = format!("{}/v1/status", client_url(&fleet));
    let ca = fleet.home().join("coordinator/ca.pem");
    let words = ["--remote", url.as_str(), "--once", "--yes"];
    let asks = fail(watching(&fleet, &fleet.path().join("asks.git"), &words).env("GIT_SSL_CAINFO", ca));
    assert!(asks.contains("cannot fetch HEAD of https://127.0.0.1"), "{asks}");
    for (url, reason) in
        [("http://example.org/x", "http:// is not followed"), ("https://a:b@example.org/x", "a password")]
    {
        let refused = fail(&mut watching(&fleet, &fleet.path().join("refused.git"), &["--remote", url, "--once"]));
        assert!(refused.contains(reason), "{refused}");
    }
}

fn client_url(fleet: &Fleet) -> String {
    fleet.client().unwrap().url().to_owned()
}

/// Commits with a signature by a key of ours, or of nobody.
#[test]
#[ignore = "needs ssh-keygen (apt-get install openssh-client): just test-signed-commits"]
fn only_commits_that_somebody_of_the_list_has_signed_are_taken() {
    let (fleet, _node, repository) = fleet();
    let key = |name: &str| {
        let path = fleet.path().join(name);
        succeed(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"]).arg(&path));
        path
    };
    let (ann, eve) = (key("ann"), key("eve"));
    let public = fs::read_to_string(ann.with_extension("pub")).unwrap();
    let signers = fleet.path().join("signers");
    fs::write(&signers, format!("ann@example.org namespaces=\"git\" {public}")).unwrap();
    let signed = |by: &Path, version: &str| {
        repository.write("apps/greeter.toml", &format!("[default]\nversion = \"{version}\"\n"));
        repository.git(&["add", "-A", "."]);
        let key = format!("user.signingkey={}", by.display());
        repository.git(&["-c", "gpg.format=ssh", "-c", &key, "commit", "-q", "--allow-empty", "-S", "-m", version]);
        repository.git(&["rev-parse", "HEAD"])
    };
    let options = ["--yes", "--signed-by", signers.to_str().unwrap()];
    let (code, said) = once(&fleet, &repository.directory(), &options);
    assert!(code == Some(1) && said.contains("it is not signed"), "{said}");
    signed(&eve, "1.1.0");
    let (code, said) = once(&fleet, &repository.directory(), &options);
    assert!(code == Some(1) && said.contains("its signature is by nobody who is named in"), "{said}");
    assert_eq!(count_rollouts(&fleet), 0);
    let commit = signed(&ann, "1.1.0");
    let (code, said) = once(&fleet, &repository.directory(), &options);
    assert!(code == Some(2) || code == Some(0), "{said}");
    let note = fleet.rollout_is(1, "done").begun.note.unwrap();
    assert!(note.ends_with(&format!("of commit {commit} signed by ann@example.org")), "{note}");
}

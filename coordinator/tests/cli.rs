//! The commands as a person uses them: the real program, and a real coordinator that it talks to.
#![allow(clippy::unwrap_used)] // A test stops at the first surprise.

mod process;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use orangery_wire::rest::ReleaseView;
use orangery_wire::token::Token;
use process::Coordinator;

const PROGRAM: &str = env!("CARGO_BIN_EXE_orangery");
const RECIPE: &str = "[run]\nexec = [\"app\"]\n[[probes]]\nhttp = { port = \"${PORT}\", path = \"/health\" }\n";

/// A directory of `orangery init`, and commands that use it.
struct Operator {
    directory: tempfile::TempDir,
}

struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Operator {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn initialised() -> Self {
        let operator = Self::new();
        let said = operator.run(&[
            "init",
            "--no-passphrase",
            "--address",
            "127.0.0.1",
            "--https-port",
            "0",
            "--mqtt-port",
            "0",
        ]);
        assert_eq!(said.code, 0, "{}", said.err);
        operator
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn home(&self) -> PathBuf {
        self.path("home")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        // A file with a relative name is the test's own.
        command.arg("--dir").arg(self.home()).args(arguments).current_dir(self.directory.path()).stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Said {
        let output = self.command(arguments).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Said { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
    }

    /// What a command says that is expected to do as asked.
    fn out(&self, arguments: &[&str]) -> String {
        let said = self.run(arguments);
        assert_eq!(said.code, 0, "{arguments:?}: {}", said.err);
        said.out
    }

    /// What a command says that is expected to fail.
    fn err(&self, arguments: &[&str]) -> String {
        let said = self.run(arguments);
        assert_eq!(said.code, 1, "{arguments:?}: {}{}", said.out, said.err);
        assert!(
            said.err.lines().any(|line| line.starts_with("error: ")) && said.out.is_empty(),
            "{}{}",
            said.out,
            said.err
        );
        said.err
    }

    fn serve(&self) -> Coordinator {
        Coordinator::start(self.command(&["serve"]), self.directory.path())
    }

    /// Files of an app that is nothing but a script.
    fn lay_out(&self) {
        fs::create_dir_all(self.path("tree")).unwrap();
        fs::write(self.path("tree/app"), "#!/bin/sh\nexec sleep 1000\n").unwrap();
        fs::set_permissions(self.path("tree/app"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(self.path("app.toml"), RECIPE).unwrap();
    }
}

fn build_arguments<'a>(deed: &'a str, version: &'a str, platform: &'a str) -> Vec<&'a str> {
    vec!["release", deed, "--app", "app", "--version", version, "--platform", platform, "--manifest", "app.toml"]
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn init_makes_keys_that_only_their_owner_can_read() {
    let operator = Operator::initialised();
    let home = operator.home();
    for directory in ["", "owner", "coordinator", "coordinator/state"] {
        assert_eq!(mode(&home.join(directory)), 0o700, "{directory}");
    }
    let keys = ["owner/root.key", "owner/recovery.key", "owner/targets.key", "operator.token", "coordinator/ca.key"];
    let more = ["server.key", "link.key", "snapshot.key", "timestamp.key"].map(|name| format!("coordinator/{name}"));
    for key in keys.into_iter().chain(more.iter().map(String::as_str)) {
        assert_eq!(mode(&home.join(key)), 0o600, "{key}");
    }
}

#[test]
fn init_says_what_it_made_and_never_makes_it_twice() {
    let operator = Operator::new();
    let first = operator.out(&["init", "--no-passphrase", "--address", "127.0.0.1"]);
    for told in ["owner/targets.key", "coordinator/coordinator.toml", "https://127.0.0.1:8443", "node invite"] {
        assert!(first.contains(told), "{told}: {first}");
    }
    let key = fs::read(operator.home().join("owner/root.key")).unwrap();
    assert!(operator.out(&["init"]).contains("nothing was changed"));
    assert!(operator.err(&["init", "--address", "10.0.0.1"]).contains("never overwritten"));
    assert_eq!(fs::read(operator.home().join("owner/root.key")).unwrap(), key);
    fs::remove_file(operator.home().join("owner/1.root.json")).unwrap();
    assert!(operator.err(&["init"]).contains("owner/1.root.json missing"));
}

#[test]
fn init_fills_an_empty_directory_that_is_there_already() {
    let operator = Operator::new();
    fs::create_dir(operator.home()).unwrap();
    operator.out(&["init", "--no-passphrase", "--address", "127.0.0.1", "--mqtt-url", "mqtts://broker.local:8883"]);
    assert_eq!((fs::read_dir(operator.home()).unwrap().count(), mode(&operator.home())), (4, 0o700));
    let settings = fs::read_to_string(operator.home().join("coordinator/coordinator.toml")).unwrap();
    assert!(settings.contains("url = \"mqtts://broker.local:8883\""), "{settings}");
    assert!(operator.out(&["init"]).contains("nothing was changed"));
}

#[test]
fn init_leaves_a_directory_with_other_things_alone() {
    let operator = Operator::new();
    fs::create_dir(operator.home()).unwrap();
    fs::write(operator.home().join("letter.txt"), "dear").unwrap();
    assert!(operator.err(&["init"]).contains("holds other things"));
    assert_eq!(fs::read_dir(operator.home()).unwrap().count(), 1);
    // What was begun beside it is gone, too.
    assert_eq!(fs::read_dir(operator.directory.path()).unwrap().count(), 1);
}

#[test]
fn without_init_or_a_coordinator_a_command_says_what_to_do() {
    let operator = Operator::new();
    assert!(operator.err(&["status"]).contains("orangery init"));
    let operator = Operator::initialised();
    let text = operator.err(&["status"]);
    assert!(text.contains("cannot reach the coordinator at https://127.0.0.1:"), "{text}");
    assert!(text.contains("refused") && text.contains("is `orangery serve` running?"), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
}

#[test]
fn a_mistake_on_the_command_line_is_exit_code_1_for_2_means_something_else() {
    let operator = Operator::new();
    for arguments in [vec!["bogus"], vec!["deploy", "greeter", "--to", "all"], vec!["node", "invite", "--expires", "1"]]
    {
        assert_eq!(operator.run(&arguments).code, 1, "{arguments:?}");
    }
    assert!(operator.out(&["--help"]).contains("Exit codes"));
    assert!(operator.out(&["completions", "bash"]).contains("_orangery"));
}

#[test]
fn a_release_file_is_built_signed_and_verified_without_any_network() {
    let operator = Operator::initialised();
    operator.lay_out();
    let built = operator.out(&build_arguments("build", "1.0.0", "linux/arm64=tree"));
    assert!(built.starts_with("app-1.0.0.orangery: app 1.0.0, linux/arm64"), "{built}");
    assert!(operator.err(&["release", "verify", "app-1.0.0.orangery"]).contains("release sign"));
    let signed = operator.run(&["release", "sign", "app-1.0.0.orangery"]);
    assert!(signed.out.contains("signed, in version 1 of the targets"), "{}", signed.out);
    assert!(signed.err.contains("cannot be reached"), "{}", signed.err);
    assert!(operator.out(&["release", "sign", "app-1.0.0.orangery"]).contains("was signed before, in version 1"));
    assert!(operator.out(&["release", "verify", "app-1.0.0.orangery"]).contains("1 files, every one as signed"));
    // Another owner does not vouch for it.
    let stranger = Operator::initialised();
    fs::copy(operator.path("app-1.0.0.orangery"), stranger.path("foreign.orangery")).unwrap();
    assert!(stranger.err(&["release", "verify", "foreign.orangery"]).contains("signed by 0 of the keys"));
    // The same version with other content is refused with a stable code.
    fs::write(operator.path("tree/app"), "#!/bin/sh\nexit 1\n").unwrap();
    operator.out(&build_arguments("build", "1.0.0", "linux/arm64=tree"));
    assert!(operator.err(&["release", "sign", "app-1.0.0.orangery"]).contains("[version_taken]"));
}

#[test]
fn an_invite_is_one_token_on_standard_output_that_pins_ca_and_trust_root() {
    let operator = Operator::initialised();
    let _coordinator = operator.serve();
    let said = operator.run(&["node", "invite", "--name", "attic", "--expires", "30m"]);
    assert_eq!((said.code, said.out.lines().count()), (0, 1), "{}", said.err);
    assert!(said.err.contains("orangery-agent join TOKEN"), "{}", said.err);
    let token: Token = said.out.parse().unwrap();
    let root = fs::read(operator.home().join("owner/1.root.json")).unwrap();
    assert_eq!(token.root, orangery::sha256::digest(&root));
    let ca = fs::read_to_string(operator.home().join("coordinator/ca.pem")).unwrap();
    let ca_key = fs::read_to_string(operator.home().join("coordinator/ca.key")).unwrap();
    assert_eq!(token.ca, orangery::ca::Ca::from_pem(&ca_key, &ca).unwrap().fingerprint());
    assert!(said.err.contains(&token.url), "{}", said.err);
    assert!(operator.err(&["node", "invite", "--name", "attic", "--uses", "2"]).contains("[invite_invalid]"));
}

#[test]
fn a_release_is_published_once_and_then_listed() {
    let operator = Operator::initialised();
    operator.lay_out();
    let _coordinator = operator.serve();
    assert!(operator.out(&["release", "list"]).contains("nothing was published yet"));
    let publish = build_arguments("publish", "1.0.0", "linux/arm64=tree");
    assert!(operator.out(&publish).starts_with("app 1.0.0 is published"));
    assert!(operator.out(&publish).starts_with("app 1.0.0 is published"), "again changes nothing");
    let releases: Vec<ReleaseView> = serde_json::from_str(&operator.out(&["release", "list", "--json"])).unwrap();
    assert_eq!(releases.len(), 1);
    assert!(operator.out(&["release", "show", "app@1.0.0"]).contains(&releases[0].id.to_string()));
    assert!(operator.out(&["release", "list"]).contains(&releases[0].id.short()));
    // An older file goes on being accepted after newer ones were published: it is there already.
    operator.out(&build_arguments("build", "1.1.0", "linux/arm64=tree"));
    operator.out(&["release", "sign", "app-1.1.0.orangery"]);
    operator.out(&["release", "push", "app-1.1.0.orangery"]);
    operator.out(&build_arguments("publish", "1.2.0", "linux/arm64=tree"));
    operator.out(&["release", "push", "app-1.1.0.orangery"]);
    // The same version with other content never replaces the first.
    fs::write(operator.path("tree/app"), "#!/bin/sh\nexit 1\n").unwrap();
    assert!(operator.err(&publish).contains("[version_taken]"));
}

#[test]
fn two_machines_of_one_owner_publish_side_by_side() {
    let operator = Operator::initialised();
    operator.lay_out();
    let other = Operator::new();
    let copied = Command::new("cp").arg("-a").args([operator.home(), other.home()]).status().unwrap();
    assert!(copied.success());
    other.lay_out();
    let _coordinator = operator.serve();
    // The one signs without publishing, the other publishes meanwhile.
    operator.out(&build_arguments("build", "1.0.0", "linux/arm64=tree"));
    operator.out(&["release", "sign", "app-1.0.0.orangery"]);
    other.out(&build_arguments("publish", "2.0.0", "linux/arm64=tree"));
    assert!(operator.err(&["release", "push", "app-1.0.0.orangery"]).contains("[signature_outdated]"));
    operator.out(&["release", "sign", "app-1.0.0.orangery"]);
    operator.out(&["release", "push", "app-1.0.0.orangery"]);
    let list = operator.out(&["release", "list"]);
    assert!(list.contains("1.0.0") && list.contains("2.0.0"), "{list}");
}

#[test]
fn an_unsigned_release_is_not_pushed() {
    let operator = Operator::initialised();
    operator.lay_out();
    let _coordinator = operator.serve();
    operator.out(&build_arguments("build", "1.0.0", "linux/arm64=tree"));
    assert!(operator.err(&["release", "push", "app-1.0.0.orangery"]).contains("release sign"));
}

#[test]
fn what_does_not_exist_is_refused_with_a_stable_code() {
    let operator = Operator::initialised();
    operator.lay_out();
    let _coordinator = operator.serve();
    assert!(operator.err(&["deploy", "app@1.0.0", "--to", "all"]).contains("[unknown_app]"));
    operator.out(&build_arguments("publish", "1.0.0", "linux/arm64=tree"));
    assert!(operator.err(&["deploy", "app@1.0.1", "--to", "all"]).contains("[unknown_version]"));
    assert!(operator.err(&["deploy", "app@1.0.0", "--to", "all"]).contains("[no_nodes]"));
    assert!(operator.err(&["deploy", "app@1.0.0", "--to", "attic"]).contains("[unknown_node]"));
    assert!(operator.err(&["deploy", "app@1.0.0", "--to", "room=attic"]).contains("[unknown_label]"));
    assert!(operator.err(&["why", "attic"]).contains("[unknown_node]"));
    assert!(operator.err(&["node", "show", "attic"]).contains("[unknown_node]"));
    assert!(operator.err(&["node", "revoke", "attic"]).contains("[unknown_node]"));
    assert!(operator.err(&["release", "show", "other@1.0.0"]).contains("[unknown_app]"));
}

#[test]
fn listings_of_nothing_say_so_and_are_empty_lists_in_json() {
    let operator = Operator::initialised();
    let _coordinator = operator.serve();
    assert!(operator.out(&["status"]).contains("no nodes yet"));
    assert!(operator.out(&["node", "list"]).contains("no nodes yet"));
    assert_eq!(operator.out(&["node", "list", "--json"]).trim(), "[]");
    assert_eq!(operator.out(&["release", "list", "--json"]).trim(), "[]");
    assert_eq!(operator.out(&["events"]), "");
    let status: serde_json::Value = serde_json::from_str(&operator.out(&["status", "--json"])).unwrap();
    assert_eq!(status["nodes"], serde_json::json!([]));
}

#[test]
fn a_wrong_operator_token_and_a_foreign_coordinator_are_told_apart() {
    let operator = Operator::initialised();
    let _coordinator = operator.serve();
    let stranger = Operator::initialised();
    let settings = |operator: &Operator| operator.home().join("client.toml");
    fs::copy(settings(&operator), settings(&stranger)).unwrap();
    let text = stranger.err(&["status"]);
    assert!(text.contains("is not the coordinator that this directory belongs to"), "{text}");
    fs::write(operator.home().join("operator.token"), "wrong\n").unwrap();
    let text = operator.err(&["status"]);
    assert!(text.contains("token") && text.contains('['), "{text}");
}

#[test]
fn a_coordinator_with_certificates_of_another_ca_does_not_start_and_names_the_file() {
    let (own, other) = (Operator::initialised(), Operator::initialised());
    for part in ["server", "link"] {
        let files = ["key", "pem"].map(|kind| format!("home/coordinator/{part}.{kind}"));
        let kept = files.each_ref().map(|file| fs::read(own.path(file)).unwrap());
        for file in &files {
            fs::copy(other.path(file), own.path(file)).unwrap();
        }
        let said = own.err(&["serve"]);
        assert!(said.contains(&format!("coordinator/{part}.pem was not issued by the CA")), "{said}");
        assert!(said.contains("restore ca.*, server.* and link.* from one backup"), "{said}");
        files.iter().zip(kept).for_each(|(file, before)| fs::write(own.path(file), before).unwrap());
    }
    drop(own.serve());
}

#[test]
fn a_closed_pipe_is_no_failure() {
    let mut child = Operator::new()
        .command(&["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The reader goes away before it has read anything.
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_files_for_mosquitto_name_each_other_and_keep_the_key_secret() {
    let operator = Operator::initialised();
    let acl = operator.out(&["broker", "acl", "mosquitto"]);
    assert!(acl.contains("pattern read orangery/v1/node/%u/desired"), "{acl}");
    operator.out(&["broker", "acl", "mosquitto", "--out", "mosquitto"]);
    let settings = fs::read_to_string(operator.path("mosquitto/mosquitto.conf")).unwrap();
    let named = settings.lines().filter_map(|line| line.split_once(' ')).filter(|(_, value)| value.starts_with('/'));
    let named: Vec<&str> = named.map(|(_, path)| path).collect();
    assert!(named.len() == 4 && named.iter().all(|path| Path::new(path).is_file()), "{settings}");
    let key = operator.path("mosquitto/broker.key");
    assert_eq!(mode(&key), 0o600);
    let before = fs::read(&key).unwrap();
    operator.out(&["broker", "acl", "mosquitto", "--out", "mosquitto"]);
    assert_eq!(fs::read(&key).unwrap(), before, "made once");
}

//! `orangery keys` and `release revoke` as a person uses them: the real program, a real coordinator, and what a node that
//! knows only the first root comes to trust.
#![allow(clippy::unwrap_used)] // A test stops at the first surprise.

mod people;
#[path = "../process/mod.rs"]
mod process;
mod releases;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use orangery_trust::{Refresh, Refusal, Search, Stored, TrustedSet};
use process::Coordinator;
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_orangery");
const RECIPE: &str = "[run]\nexec = [\"app\"]\n[[probes]]\nhttp = { port = \"${PORT}\", path = \"/health\" }\n";
const PASSPHRASE: &str = "correct horse battery";

struct Said {
    code: i32,
    out: String,
    err: String,
}

/// A place with a coordinator's directory `home` and whatever else a test makes in it.
struct Place {
    // It ends before its directory goes.
    coordinator: Option<Coordinator>,
    directory: tempfile::TempDir,
}

impl Place {
    fn new(seal: &[&str]) -> Self {
        let mut place = Self { directory: tempfile::tempdir().unwrap(), coordinator: None };
        fs::write(place.path("passphrase"), PASSPHRASE).unwrap();
        let mut arguments = vec!["init", "--address", "127.0.0.1", "--https-port", "0", "--mqtt-port", "0"];
        arguments.extend(seal);
        place.done(&arguments);
        fs::create_dir(place.path("tree")).unwrap();
        fs::write(place.path("tree/app"), "#!/bin/sh\nexec sleep 1000\n").unwrap();
        fs::set_permissions(place.path("tree/app"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(place.path("app.toml"), RECIPE).unwrap();
        place.serve();
        place
    }

    fn plain() -> Self {
        Self::new(&["--no-passphrase"])
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn owner(&self, name: &str) -> PathBuf {
        self.path("home/owner").join(name)
    }

    fn command(&self, home: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(["--dir", home]).args(arguments).current_dir(self.directory.path()).stdin(Stdio::null());
        command.env_remove("ORANGERY_PASSPHRASE").env("NO_COLOR", "1");
        command
    }

    fn run(&self, home: &str, arguments: &[&str]) -> Said {
        let output = self.command(home, arguments).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Said { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
    }

    fn in_home(&self, home: &str, code: i32, arguments: &[&str]) -> String {
        let said = self.run(home, arguments);
        assert_eq!(said.code, code, "{arguments:?}: {}{}", said.out, said.err);
        said.out + &said.err
    }

    fn done(&self, arguments: &[&str]) -> String {
        self.in_home("home", 0, arguments)
    }

    fn pending(&self, arguments: &[&str]) -> String {
        self.in_home("home", 2, arguments)
    }

    fn refused(&self, arguments: &[&str]) -> String {
        self.in_home("home", 1, arguments)
    }

    fn serve(&mut self) {
        self.coordinator = Some(Coordinator::start(self.command("home", &["serve"]), self.directory.path()));
    }

    fn stop(&mut self) {
        self.coordinator = None;
    }

    fn publish(&self, home: &str, version: &str, more: &[&str]) -> Said {
        let platform = "linux/amd64=tree";
        let mut arguments = vec!["release", "publish", "--app", "app", "--version", version, "--platform", platform];
        arguments.extend(["--manifest", "app.toml"]);
        arguments.extend(more);
        self.run(home, &arguments)
    }

    fn published(&self, version: &str, more: &[&str]) {
        let said = self.publish("home", version, more);
        assert_eq!(said.code, 0, "{}", said.err);
    }

    fn status(&self, home: &str) -> Value {
        serde_json::from_str(&self.in_home(home, 0, &["keys", "status", "--json"])).unwrap()
    }

    fn root_version(&self) -> u64 {
        self.status("home")["root"]["version"].as_u64().unwrap()
    }

    /// What a node that knows only the first root comes to trust, from the files that the coordinator serves.
    fn node(&self) -> Result<TrustedSet, Refusal> {
        let metadata = self.path("home/coordinator/state/metadata");
        let roots = vec![fs::read(metadata.join("1.root.json")).unwrap()];
        let now = orangery::output::now();
        let mut refresh = Refresh::begin(TrustedSet::load(&Stored { roots, ..Stored::default() })?, now);
        while let Some(request) = refresh.next() {
            refresh.supply(fs::read(metadata.join(&*request.file)).ok().as_deref())?;
        }
        Ok(refresh.finish())
    }

    fn node_takes(&self, version: &str) -> Result<(), Refusal> {
        let now = orangery::output::now();
        let (node, app, version) = (self.node()?, "app".parse().unwrap(), version.parse().unwrap());
        let mut search = Search::for_release(&node, &app, &version, now)?;
        while let Some(request) = search.next() {
            let file = self.path("home/coordinator/state/metadata").join(&*request.file);
            search.supply(fs::read(file).ok().as_deref())?;
        }
        search.release().map(drop)
    }
}

fn key_files(place: &Place) -> Vec<(String, Vec<u8>)> {
    ["root", "recovery", "targets"]
        .into_iter()
        .map(|name| (name.to_owned(), fs::read(place.owner(&format!("{name}.key"))).unwrap()))
        .collect()
}

#[test]
fn without_a_terminal_keys_are_made_only_with_a_passphrase_or_by_choice_without_one() {
    let directory = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str], variable: Option<&str>| {
        let mut command = Command::new(PROGRAM);
        command.args(["--dir", "home", "init", "--address", "127.0.0.1"]).args(arguments);
        command.current_dir(directory.path()).stdin(Stdio::null()).env_remove("ORANGERY_PASSPHRASE");
        command.envs(variable.map(|value| ("ORANGERY_PASSPHRASE", value)));
        let output = command.output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    let (is_done, err) = run(&[], None);
    assert!(!is_done && err.contains("--no-passphrase") && err.contains("ORANGERY_PASSPHRASE"), "{err}");
    let (is_done, err) = run(&[], Some("short"));
    assert!(!is_done && err.contains("8 characters"), "{err}");
    assert!(!directory.path().join("home").exists(), "nothing is left of what failed");
    let (is_done, err) = run(&["--kdf-memory-kib", "8"], Some(PASSPHRASE));
    assert!(is_done, "{err}");
    for name in ["root", "recovery", "targets"] {
        let path = directory.path().join(format!("home/owner/{name}.key"));
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let text = fs::read_to_string(path).unwrap();
        assert!(text.contains("argon2id") && !text.contains("PRIVATE") && !text.contains(PASSPHRASE), "{text}");
    }
}

#[test]
fn sealed_keys_sign_with_their_passphrase_which_can_be_changed() {
    let place = Place::new(&["--passphrase-file", "passphrase", "--kdf-memory-kib", "8"]);
    let said = place.publish("home", "1.0.0", &[]);
    assert!(said.code == 1 && said.err.contains("--passphrase-file"), "{}", said.err);
    fs::write(place.path("wrong"), "incorrect horse").unwrap();
    let said = place.publish("home", "1.0.0", &["--passphrase-file", "wrong"]);
    assert!(said.code == 1 && said.err.contains("does not open"), "{}", said.err);
    place.published("1.0.0", &["--passphrase-file", "passphrase"]);

    fs::write(place.path("new"), "another horse battery\n").unwrap();
    let change = ["keys", "passphrase", "--new-passphrase-file", "new", "--kdf-memory-kib", "8"];
    let before = key_files(&place);
    place.refused(&[&change[..], &["--passphrase-file", "wrong"]].concat());
    assert_eq!(key_files(&place), before, "a wrong passphrase changes nothing");
    place.done(&[&change[..], &["--passphrase-file", "passphrase"]].concat());
    assert_eq!(place.publish("home", "1.1.0", &["--passphrase-file", "passphrase"]).code, 1);
    place.published("1.1.0", &["--passphrase-file", "new"]);
    // A key that is made later is kept like the others.
    place.done(&["keys", "rotate", "targets", "--passphrase-file", "new"]);
    assert!(fs::read_to_string(place.owner("targets.key")).unwrap().contains("\"memory_kib\": 8"));
    place.published("1.2.0", &["--passphrase-file", "new"]);
    let status = place.status("home");
    assert!(status["roles"].as_array().unwrap().iter().take(2).all(|role| role["keys"][0]["sealed"] == true));
    place.done(&["keys", "passphrase", "--no-passphrase", "--passphrase-file", "new"]);
    place.published("1.3.0", &[]);
    place.node_takes("1.3.0").unwrap();
}

#[test]
fn each_key_can_be_replaced_and_nodes_follow() {
    let mut place = Place::plain();
    place.published("1.0.0", &[]);
    for (version, key) in [(2, "root"), (3, "targets"), (4, "recovery"), (5, "online")] {
        let before: Vec<_> = key_files(&place);
        let online = fs::read(place.path("home/coordinator/timestamp.key")).unwrap();
        let said = place.done(&["keys", "rotate", key]);
        assert!(said.contains("sign and revoke releases") && said.contains("1 of 2"), "{said}");
        assert_eq!(place.root_version(), version);
        for ((name, before), (_, after)) in before.iter().zip(key_files(&place)) {
            assert_eq!(*before != after, name == key, "{name} after rotating {key}");
        }
        let is_same = online == fs::read(place.path("home/coordinator/timestamp.key")).unwrap();
        assert_eq!(is_same, key != "online");
        assert!(!place.owner("staged").exists());
        assert_eq!(place.node().unwrap().versions().root, version);
        place.node_takes("1.0.0").unwrap();
        let release = format!("1.{version}.0");
        place.published(&release, &[]);
        place.node_takes(&release).unwrap();
    }
    place.stop();
    place.serve();
    place.published("2.0.0", &[]);
    place.node_takes("2.0.0").unwrap();
    let renewed = place.done(&["keys", "renew"]);
    assert!(renewed.contains("Root 6 holds"), "{renewed}");
    place.node_takes("2.0.0").unwrap();
    let status = place.status("home");
    for (term, days) in [("root", 729..=730), ("targets", 364..=365), ("online", 44..=45)] {
        assert!(days.contains(&status["days_left"][term].as_i64().unwrap()), "{status}");
    }
}

#[test]
fn a_change_goes_on_where_it_was_cut_short() {
    let mut place = Place::plain();
    place.published("1.0.0", &[]);
    // Prepared, and then something else is asked for.
    let staged = place.done(&["keys", "rotate", "targets", "--stage"]);
    assert!(staged.contains("keys publish"), "{staged}");
    assert!(place.refused(&["keys", "rotate", "root"]).contains("rotate targets"));
    assert_eq!(place.status("home")["staged"]["deed"], "rotate targets");
    // Releases go on meanwhile, with the keys that hold.
    place.published("1.1.0", &[]);
    place.done(&["keys", "abort"]);
    assert_eq!(place.root_version(), 1);
    place.done(&["keys", "abort"]);

    // Cut before the root was staged: the new key counts for nothing.
    place.done(&["keys", "rotate", "targets", "--stage"]);
    fs::remove_file(place.owner("staged/root.json")).unwrap();
    let left = fs::read(place.owner("staged/targets.key")).unwrap();
    place.done(&["keys", "rotate", "targets", "--stage"]);
    assert_ne!(fs::read(place.owner("staged/targets.key")).unwrap(), left);

    // Cut after it was sent, before anything was moved here: as if the answer had been lost.
    let before = place.path("before");
    copy(&place.path("home/owner"), &before);
    place.done(&["keys", "publish"]);
    for cut in ["nothing", "keys", "targets"] {
        fs::remove_dir_all(place.path("home/owner")).unwrap();
        copy(&before, &place.path("home/owner"));
        fs::write(place.owner("staged/sent"), "").unwrap();
        if cut != "nothing" {
            fs::rename(place.owner("staged/targets.key"), place.owner("targets.key")).unwrap();
        }
        let said = place.publish("home", "1.2.0", &[]);
        let is_settled = place.root_version() == 2;
        assert!(said.code == 0 || said.err.contains("keys publish"), "{}", said.err);
        if !is_settled {
            place.stop();
            let said = place.refused(&["keys", "abort"]);
            assert!(said.contains("keys publish") || said.contains("cannot reach"), "{said}");
            place.serve();
            place.done(&["keys", "publish"]);
        }
        assert!(!place.owner("staged").exists());
        assert_eq!(place.root_version(), 2);
        place.published("1.2.0", &[]);
        place.node_takes("1.2.0").unwrap();
    }
}

#[test]
fn a_new_operators_token_takes_the_place_of_the_old_one() {
    let mut place = Place::plain();
    place.stop();
    let token = place.run("home", &["keys", "operator-token"]);
    assert_eq!(token.code, 0, "{}", token.err);
    place.serve();
    assert!(place.refused(&["status"]).contains("token_wrong"));
    fs::write(place.path("home/operator.token"), token.out).unwrap();
    place.done(&["status"]);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

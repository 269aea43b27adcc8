//! Repositories made by `orangery`, read by the TUF clients of other people: python-tuf and tuf-js accept every step of a
//! fleet's life, and refuse what was tampered with. `tests/foreign-clients.sh` installs them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use orangery_tests::fleet::Fleet;
use orangery_tests::process::{output, succeed};
use orangery_trust::canonical;
use orangery_trust::repository::SigningKey;
use ring::signature::Ed25519KeyPair;
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;
use serde::Deserialize;
use serde_json::Value;

const MANIFEST: &str = "[run]\nexec = [\"app\"]\n[[probes]]\nhttp = { port = \"${PORT}\", path = \"/health\" }\n";

/// What a client says of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
enum Verdict {
    Refused { refused: String },
    Trusted { versions: BTreeMap<String, u64>, targets: BTreeMap<String, Option<String>> },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Client {
    Python,
    JavaScript,
}

/// Both clients, each with a memory of its own.
struct Clients {
    installed: PathBuf,
    directory: PathBuf,
}

impl Clients {
    /// `None`, said aloud, where they are not installed.
    fn find(directory: &Path) -> Option<Self> {
        let cache = std::env::var_os("ORANGERY_CACHE")
            .map(PathBuf::from)
            .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/orangery")))?;
        let installed = cache.join("foreign");
        if !installed.join("pins").exists() {
            assert!(std::env::var_os("CI").is_none(), "the foreign clients are missing; run tests/foreign-clients.sh");
            eprintln!("LEFT OUT: python-tuf and tuf-js are missing (tests/foreign-clients.sh installs them)");
            return None;
        }
        Some(Self { installed, directory: directory.to_owned() })
    }

    fn state(&self, client: Client, memory: &str) -> PathBuf {
        let name = if client == Client::Python { "python" } else { "javascript" };
        self.directory.join(format!("{memory}-{name}"))
    }

    /// A client that trusts the first root and has seen nothing yet.
    fn begin(&self, client: Client, memory: &str, first_root: &Path) {
        let state = self.state(client, memory);
        fs::create_dir_all(&state).unwrap();
        fs::copy(first_root, state.join("root.json")).unwrap();
    }

    fn ask(&self, client: Client, memory: &str, repository: &Path, ahead_days: u32, targets: &[String]) -> Child {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("foreign");
        let mut command = if client == Client::Python {
            let mut command = Command::new(self.installed.join("venv/bin/python"));
            command.arg(here.join("client.py"));
            command
        } else {
            let mut command = Command::new("node");
            command.arg(here.join("client.mjs")).arg(self.installed.join("npm"));
            command
        };
        command.arg(repository).arg(self.state(client, memory)).arg(ahead_days.to_string()).args(targets);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// What both say, asked side by side.
    fn verdicts(&self, memory: &str, repository: &Path, ahead_days: u32, targets: &[String]) -> [Verdict; 2] {
        let asked = [Client::Python, Client::JavaScript]
            .map(|client| self.ask(client, memory, repository, ahead_days, targets));
        asked.map(|child| {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            serde_json::from_slice(&output.stdout).unwrap()
        })
    }
}

/// A fleet of one coordinator, whose repository both clients follow step by step.
struct World {
    fleet: Fleet,
    clients: Clients,
}

impl World {
    fn new(clients: Clients, fleet: Fleet) -> Self {
        let world = Self { fleet, clients };
        world.remember("memory");
        world
    }

    fn remember(&self, memory: &str) {
        for client in [Client::Python, Client::JavaScript] {
            self.clients.begin(client, memory, &self.fleet.home().join("owner/1.root.json"));
        }
    }

    /// What the coordinator serves: `metadata/` and `targets/`.
    fn repository(&self) -> PathBuf {
        self.fleet.home().join("coordinator/state")
    }

    fn orangery(&self, words: &[&str]) {
        succeed(&mut self.fleet.orangery(words));
    }

    fn publish(&self, version: &str, more: &[&str]) {
        let tree = self.fleet.path().join("tree").join(version);
        fs::create_dir_all(&tree).unwrap();
        let app = tree.join("app");
        fs::write(&app, format!("version {version}")).unwrap();
        fs::set_permissions(&app, fs::Permissions::from_mode(0o755)).unwrap();
        succeed(self.fleet.release("publish", "app", version, &tree, MANIFEST).args(more));
    }

    /// The digest of a release's manifest, as the targets that were signed name it.
    fn digest(&self, version: &str) -> Option<String> {
        ["targets.json", "team.json"].into_iter().find_map(|file| {
            let bytes = fs::read(self.fleet.home().join("owner").join(file)).ok()?;
            let metadata: Value = serde_json::from_slice(&bytes).unwrap();
            let target = &metadata["signed"]["targets"][path(version)];
            target["hashes"]["sha256"].as_str().map(str::to_owned)
        })
    }

    /// Both clients trust the repository as it is: this root, and these versions of the app with the content that the owner
    /// signed, and none of `gone`.
    #[track_caller]
    fn accepted(&self, memory: &str, root: u64, there: &[&str], gone: &[&str]) {
        let paths: Vec<String> = there.iter().chain(gone).map(|version| path(version)).collect();
        for verdict in self.clients.verdicts(memory, &self.repository(), 0, &paths) {
            let Verdict::Trusted { versions, targets } = verdict else { panic!("refused: {verdict:?}") };
            assert_eq!(versions["root"], root);
            for version in there {
                let digest = self.digest(version).unwrap();
                assert_eq!(targets[&path(version)].as_ref(), Some(&digest), "{version}");
            }
            assert!(gone.iter().all(|version| targets[&path(version)].is_none()), "{targets:?}");
        }
    }

    /// A copy of the repository, changed, which both clients must refuse for one of these reasons when they begin with it.
    #[track_caller]
    fn refused(&self, name: &str, reasons: &[&str], change: impl FnOnce(&Path)) {
        self.refused_for(name, &path("1.0.0"), reasons, change);
    }

    /// The same when they ask for this target.
    #[track_caller]
    fn refused_for(&self, name: &str, target: &str, reasons: &[&str], change: impl FnOnce(&Path)) {
        let copy = self.fleet.path().join("copies").join(name);
        for part in ["metadata", "targets"] {
            copy_directory(&self.repository().join(part), &copy.join(part));
        }
        change(&copy);
        self.remember(name);
        self.refused_with(&copy, name, name, 0, target, reasons);
    }

    /// Signs snapshot and timestamp of a copy anew, for this metadata of a delegated role.
    fn sign_snapshot_of(&self, role: &str, bytes: &[u8], copy: &Path) {
        let key = |name: &str| {
            let pem = fs::read_to_string(self.fleet.home().join("coordinator").join(name)).unwrap();
            pair(&pem)
        };
        let mut described = (format!("{role}.json"), bytes.to_vec());
        let (snapshot, timestamp) = (newest(copy, "snapshot"), copy.join("metadata/timestamp.json"));
        for (file, key) in [(snapshot, key("snapshot.key")), (timestamp, key("timestamp.key"))] {
            let mut metadata: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
            let meta = &mut metadata["signed"]["meta"][&described.0];
            meta["length"] = described.1.len().into();
            meta["hashes"]["sha256"] = orangery::sha256::digest(&described.1).to_string().into();
            let message = canonical::to_vec(&metadata["signed"]).unwrap();
            metadata["signatures"][0]["sig"] = hex(key.sign(&message).as_ref()).into();
            let signed = metadata.to_string().into_bytes();
            fs::write(&file, &signed).unwrap();
            described = ("snapshot.json".to_owned(), signed);
        }
    }

    #[track_caller]
    fn refused_as_is(&self, repository: &Path, name: &str, memory: &str, ahead_days: u32, reasons: &[&str]) {
        self.refused_with(repository, name, memory, ahead_days, &path("1.0.0"), reasons);
    }

    #[track_caller]
    fn refused_with(
        &self,
        repository: &Path,
        name: &str,
        memory: &str,
        ahead_days: u32,
        target: &str,
        reasons: &[&str],
    ) {
        for verdict in self.clients.verdicts(memory, repository, ahead_days, &[target.to_owned()]) {
            let Verdict::Refused { refused } = &verdict else { panic!("{name} is accepted: {verdict:?}") };
            assert!(reasons.iter().any(|reason| refused.contains(reason)), "{name}: {refused}");
        }
    }
}

fn path(version: &str) -> String {
    format!("app/{version}/manifest.json")
}

fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_directory(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The file `N.ROLE.json` with the highest N.
fn newest(repository: &Path, role: &str) -> PathBuf {
    let files = fs::read_dir(repository.join("metadata")).unwrap().map(|entry| entry.unwrap().path());
    let numbered = files.filter_map(|path| {
        let name = path.file_name()?.to_str()?.strip_suffix(&format!(".{role}.json"))?.parse::<u64>().ok()?;
        Some((name, path))
    });
    numbered.max().unwrap().1
}

/// Changes one field of signed metadata, and leaves the signature as it was.
fn forge(file: &Path, pointer: &str, value: Value) {
    let mut metadata: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    *metadata.pointer_mut(pointer).unwrap() = value;
    fs::write(file, metadata.to_string()).unwrap();
}

#[test]
fn python_tuf_and_tuf_js_accept_a_repository_through_its_whole_life_and_no_forgery_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let Some(clients) = Clients::find(directory.path()) else { return };
    let mut fleet = Fleet::init(&orangery_tests::fleet::Setup::default());
    fleet.serve();
    let world = World::new(clients, fleet);

    world.publish("1.0.0", &[]);
    world.accepted("memory", 1, &["1.0.0"], &["1.1.0"]);
    world.publish("1.1.0", &["--floor", "1.0.0"]);
    world.accepted("memory", 1, &["1.0.0", "1.1.0"], &[]);
    for (root, key) in [(2, "root"), (3, "targets"), (4, "recovery"), (5, "online")] {
        world.orangery(&["keys", "rotate", key]);
        world.accepted("memory", root, &["1.0.0", "1.1.0"], &[]);
    }
    world.orangery(&["release", "revoke", "app@1.1.0"]);
    world.accepted("memory", 5, &["1.0.0"], &["1.1.0"]);
    world.orangery(&["keys", "to-threshold", "2"]);
    world.accepted("memory", 6, &["1.0.0"], &["1.1.0"]);

    // Two of three, one of them from another machine.
    let stick = directory.path().join("third.key");
    fs::rename(world.fleet.home().join("owner/third.key"), &stick).unwrap();
    fs::rename(world.fleet.home().join("owner/recovery.key"), directory.path().join("recovery.key")).unwrap();
    let waits = output(&mut world.fleet.orangery(&["keys", "rotate", "root"]));
    assert_eq!(waits.status.code(), Some(2), "{}", String::from_utf8_lossy(&waits.stderr));
    world.orangery(&["keys", "sign", "--key", stick.to_str().unwrap()]);
    world.orangery(&["keys", "publish"]);
    world.publish("1.2.0", &[]);
    world.accepted("memory", 7, &["1.0.0", "1.2.0"], &["1.1.0"]);
    // One who has been away since the beginning.
    world.remember("absent");
    world.accepted("absent", 7, &["1.0.0", "1.2.0"], &["1.1.0"]);

    refusals(&world);
    world.accepted("memory", 7, &["1.0.0", "1.2.0"], &["1.1.0"]);
    delegation(&world);
}

/// The app is left to a key of its own, and taken back.
fn delegation(world: &World) {
    world.orangery(&["keys", "delegate", "app", "--name", "team"]);
    // What the owner signed stays. For all else the role is asked, which has signed nothing yet.
    world.accepted("memory", 7, &["1.0.0", "1.3.0"], &[]);
    world.publish("1.4.0", &[]);
    world.publish("1.5.0", &[]);
    world.accepted("memory", 7, &["1.0.0", "1.4.0", "1.5.0"], &["1.1.0"]);
    world.orangery(&["release", "revoke", "app@1.5.0"]);
    world.accepted("memory", 7, &["1.4.0"], &["1.5.0"]);
    let ask = |name: &str, reasons: &[&str], change: &dyn Fn(&Path)| {
        world.refused_for(name, &path("1.4.0"), reasons, change);
    };
    ask("a role with other bytes than the snapshot names", &["xpected hash"], &|copy| {
        forge(&newest(copy, "team"), "/signed/x-orangery-signed-at", "2001-01-01T00:00:00Z".into());
    });
    // The coordinator in wrong hands: it signs a snapshot for a role that another key has signed.
    ask("a role that another key has signed", &["UnsignedMetadataError", "signed by 0/1 keys"], &|copy| {
        let role = newest(copy, "team");
        let mut metadata: Value = serde_json::from_slice(&fs::read(&role).unwrap()).unwrap();
        let stranger = pair(&SigningKey::generate().unwrap().to_pem());
        let message = canonical::to_vec(&metadata["signed"]).unwrap();
        metadata["signatures"][0]["sig"] = hex(stranger.sign(&message).as_ref()).into();
        let bytes = metadata.to_string().into_bytes();
        fs::write(&role, &bytes).unwrap();
        world.sign_snapshot_of("team", &bytes, copy);
    });
    world.orangery(&["keys", "undelegate", "app"]);
    world.accepted("memory", 7, &["1.0.0", "1.3.0"], &["1.4.0", "1.5.0"]);
    world.publish("1.6.0", &[]);
    world.accepted("memory", 7, &["1.0.0", "1.6.0"], &["1.4.0"]);
}

/// A key of ours in the hands of somebody who signs what they like.
fn pair(pem: &str) -> Ed25519KeyPair {
    let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).unwrap();
    Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der()).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn refusals(world: &World) {
    world.refused_as_is(&world.repository(), "expired", "memory", 46, &["timestamp.json is expired"]);
    world.refused("a timestamp that nobody signed", &["UnsignedMetadataError"], |copy| {
        forge(&copy.join("metadata/timestamp.json"), "/signed/version", 1_000.into());
    });
    world.refused("another snapshot than the timestamp names", &["xpected hash"], |copy| {
        forge(&newest(copy, "snapshot"), "/signed/x-orangery-signed-at", "2001-01-01T00:00:00Z".into());
    });
    world.refused("other targets than the snapshot names", &["xpected hash"], |copy| {
        forge(&newest(copy, "targets"), "/signed/x-orangery-signed-at", "2001-01-01T00:00:00Z".into());
    });
    world.refused("a manifest with other bytes", &["LengthOrHashMismatchError"], |copy| {
        for entry in fs::read_dir(copy.join("targets/app/1.0.0")).unwrap() {
            let file = entry.unwrap().path();
            let mut bytes = fs::read(&file).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            fs::write(file, bytes).unwrap();
        }
    });
    world.refused("a root of one key where it takes two", &["UnsignedMetadataError"], |copy| {
        let root = newest(copy, "root");
        let mut next: Value = serde_json::from_slice(&fs::read(&root).unwrap()).unwrap();
        next["signed"]["version"] = 8.into();
        next["signatures"].as_array_mut().unwrap().pop();
        fs::write(root.with_file_name("8.root.json"), next.to_string()).unwrap();
    });
    // An older state, whole and signed, is seen by those who know the newer one.
    let old = world.fleet.path().join("old");
    for part in ["metadata", "targets"] {
        copy_directory(&world.repository().join(part), &old.join(part));
    }
    world.publish("1.3.0", &[]);
    world.accepted("memory", 7, &["1.3.0"], &[]);
    world.refused_as_is(&old, "replayed", "memory", 0, &["BadVersion", "EqualVersion"]);
}

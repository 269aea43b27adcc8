//! What all boards are copies of.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::board::{Board, Outcome};
use crate::joined::World;
use crate::owner::Release;

/// A node on which 1.0.0 is current, and a directory with 2.0.0. Nothing runs.
pub struct Template {
    directory: tempfile::TempDir,
}

pub fn place() -> tempfile::TempDir {
    // Nothing here is about what a power cut leaves; memory is quicker.
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

/// `/bin/sleep`, which any Linux has, as an app that does nothing for long.
fn sleeper(version: &str) -> Release {
    let mut program = fs::read("/bin/sleep").expect("this machine has /bin/sleep");
    program.extend_from_slice(version.as_bytes());
    let mut release = Release::new("greeter", version, &program);
    release.manifest.run.exec = vec!["app".into(), "1000000".into()];
    // Without probes it has to stay up for so long.
    release.manifest.run.restart.uptime_min_secs = 0;
    release
}

impl Template {
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn new() -> Self {
        let directory = place();
        let releases = ["1.0.0", "2.0.0"].map(sleeper);
        publish(&releases, directory.path());
        write_identity(&directory.path().join("state/identity"));
        let settings = "state_dir = \"state\"\n[runner]\ndefault = \"process\"\n[fetch]\nreserve_bytes = 65536\n";
        fs::write(directory.path().join("agent.toml"), settings).unwrap();
        let template = Self { directory };
        let mut board = Board::copy_of(&template);
        board.start();
        board.settled("the empty node");
        assert_eq!(board.install("1.0.0"), Outcome::Current, "{}", board.log());
        board.settled("the node with 1.0.0");
        board.stop();
        fs::remove_dir_all(template.directory.path().join("state")).unwrap();
        copy(&board.directory().join("state"), template.directory.path());
        template
    }
}

pub fn copy(what: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(what).arg(to).status().unwrap().success());
}

/// A repository as a directory, and its root as what the node trusts.
fn publish(releases: &[Release], below: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let world = runtime.block_on(async {
        let mut world = World::new().await;
        for release in releases {
            world.publish(release);
        }
        world
    });
    let owner = &world.owner;
    let published = owner.published.clone().unwrap();
    let targets = owner.targets.clone().unwrap();
    let version = &serde_json::from_slice::<serde_json::Value>(&targets).unwrap()["signed"]["version"];
    let put = |name: String, bytes: &[u8]| {
        let path = below.join("releases").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    put("metadata/1.root.json".into(), owner.root());
    put(format!("metadata/{version}.targets.json"), &targets);
    put(format!("metadata/{}.snapshot.json", published.snapshot_version), &published.snapshot);
    put("metadata/timestamp.json".into(), &published.timestamp);
    for release in releases {
        put(release.target()[1..].to_owned(), &release.bytes());
        put(release.blob()[1..].to_owned(), &release.pack);
    }
    fs::create_dir_all(below.join("state/trust")).unwrap();
    fs::write(below.join("state/trust/root.json"), owner.root()).unwrap();
    fs::write(below.join("state/trust/1.root.json"), owner.root()).unwrap();
}

/// A node that has joined a coordinator that it does not reach.
fn write_identity(to: &Path) {
    fs::create_dir_all(to).unwrap();
    let mut of_ca = CertificateParams::default();
    of_ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(of_ca, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(vec!["attic".to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
    let coordinator = r#"{"format":1,"node":"attic","url":"https://127.0.0.1:1","mqtt":"127.0.0.1:1"}"#;
    for (name, content) in [
        ("node.key", key.serialize_pem()),
        ("node.pem", own.pem()),
        ("ca.pem", ca.pem()),
        ("coordinator.json", coordinator.into()),
    ] {
        fs::write(to.join(name), content).unwrap();
        fs::set_permissions(to.join(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    fs::set_permissions(to, fs::Permissions::from_mode(0o700)).unwrap();
}

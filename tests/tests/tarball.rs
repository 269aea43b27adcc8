//! The script that installs a tarball: with a good signature, and with every other one. Nothing of this machine is touched.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use orangery_tests::process::{output, succeed};

/// A tarball as `just tarballs` makes it, with its signature, the key's public half, and a place to install to.
struct Offered {
    directory: tempfile::TempDir,
}

impl Offered {
    fn new() -> Self {
        let offered = Self { directory: tempfile::tempdir().unwrap() };
        fs::create_dir_all(offered.path("tree/usr/bin")).unwrap();
        fs::create_dir_all(offered.path("tree/usr/lib/systemd/system")).unwrap();
        fs::create_dir(offered.path("root")).unwrap();
        let program = offered.path("tree/usr/bin/orangery-agent");
        fs::write(&program, "#!/bin/sh\necho the program\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(offered.path("tree/usr/lib/systemd/system/orangery-agent.service"), "[Service]\n").unwrap();
        offered.pack();
        offered.make_key("key");
        offered.sign("key");
        let public = fs::read_to_string(offered.path("key.pub")).unwrap();
        fs::write(offered.path("allowed_signers"), format!("releases {public}")).unwrap();
        offered
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn pack(&self) {
        let mut tar = Command::new("tar");
        tar.arg("-czf").arg(self.path("agent.tar.gz")).arg("-C").arg(self.path("tree")).arg("./usr");
        succeed(&mut tar);
    }

    fn make_key(&self, name: &str) {
        succeed(ssh_keygen().args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"]).arg(self.path(name)));
    }

    fn sign(&self, key: &str) {
        let _ = fs::remove_file(self.path("agent.tar.gz.sig"));
        let tarball = self.path("agent.tar.gz");
        succeed(
            ssh_keygen().args(["-q", "-Y", "sign", "-n", "orangery-release", "-f"]).arg(self.path(key)).arg(tarball),
        );
    }

    fn install(&self) -> Output {
        let mut install = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/install.sh"));
        install.arg("--signers").arg(self.path("allowed_signers")).arg("--root").arg(self.path("root"));
        output(install.arg(self.path("agent.tar.gz")))
    }

    /// It is refused with exit code 3 for the reason `expected`, and nothing was installed.
    fn is_refused(&self, expected: &str) {
        let answer = self.install();
        let said = String::from_utf8_lossy(&answer.stderr);
        assert_eq!(answer.status.code(), Some(3), "{said}");
        assert!(said.contains(expected) && said.contains("nothing was changed"), "{said}");
        assert_eq!(entries(&self.path("root")), Vec::<PathBuf>::new());
    }
}

fn ssh_keygen() -> Command {
    Command::new("ssh-keygen")
}

/// Without ssh-keygen a test says so and ends; in CI it fails.
fn is_left_out() -> bool {
    let missing = Command::new("ssh-keygen").arg("-?").output().is_err();
    if missing {
        assert!(std::env::var_os("CI").is_none(), "ssh-keygen is not installed, and CI must test with it");
        eprintln!("LEFT OUT: ssh-keygen is not installed (apt-get install openssh-client)");
    }
    missing
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn a_tarball_with_a_good_signature_is_installed_replaced_and_removed() {
    if is_left_out() {
        return;
    }
    let offered = Offered::new();
    let program = offered.path("root/usr/bin/orangery-agent");
    for text in ["#!/bin/sh\necho the program\n", "#!/bin/sh\necho the next one\n"] {
        fs::write(offered.path("tree/usr/bin/orangery-agent"), text).unwrap();
        offered.pack();
        offered.sign("key");
        let answer = offered.install();
        assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
        assert_eq!(fs::read_to_string(&program).unwrap(), text);
        assert_eq!(fs::metadata(&program).unwrap().permissions().mode() & 0o777, 0o755);
    }
    let mut remove = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/install.sh"));
    succeed(remove.arg("--root").arg(offered.path("root")).args(["--remove", "orangery-agent"]));
    assert!(!program.exists());
}

#[test]
fn a_tarball_that_is_changed_unsigned_or_signed_by_somebody_else_or_for_something_else_installs_nothing() {
    if is_left_out() {
        return;
    }
    let offered = Offered::new();
    let tarball = offered.path("agent.tar.gz");
    let good = fs::read(&tarball).unwrap();

    // Still a tarball: another program in it.
    fs::write(offered.path("tree/usr/bin/orangery-agent"), "#!/bin/sh\necho evil\n").unwrap();
    offered.pack();
    offered.is_refused("is not good");
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    fs::write(&tarball, flipped).unwrap();
    offered.is_refused("is not good");
    fs::write(&tarball, &good).unwrap();

    offered.make_key("stranger");
    offered.sign("stranger");
    offered.is_refused("is not good");

    let mut elsewhere = ssh_keygen();
    elsewhere.args(["-q", "-Y", "sign", "-n", "file", "-f"]).arg(offered.path("key"));
    fs::remove_file(offered.path("agent.tar.gz.sig")).unwrap();
    succeed(elsewhere.arg(&tarball));
    offered.is_refused("is not good");

    fs::write(offered.path("agent.tar.gz.sig"), "").unwrap();
    offered.is_refused("is not good");
    fs::remove_file(offered.path("agent.tar.gz.sig")).unwrap();
    offered.is_refused("an unsigned tarball is not installed");

    fs::write(&tarball, &good).unwrap();
    offered.sign("key");
    assert!(offered.install().status.success(), "the good one still installs");
}

//! The Ansible collection, over SSH into a machine with a systemd of its own: installed, run again, upgraded in the middle of
//! a deployment, removed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../../../agent/tests/systemd_runner/container.rs"]
mod container;
#[allow(dead_code, reason = "another test program uses the rest")]
#[path = "../packages/site.rs"]
mod site;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use container::Machine;
use orangery_tests::process::{eventually, free_port, program, succeed};
use orangery_wire::messages::Phase;
use site::{AGENT, APP, COORDINATOR, NAME, Site, packages};

/// Where `tests/ansible-tools.sh` puts the programs.
fn tools() -> PathBuf {
    let text = succeed(&mut Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/ansible-tools.sh")));
    PathBuf::from(text.trim())
}

/// The machine that Ansible runs on, with the collection installed from its archive.
struct Controller {
    tools: PathBuf,
    place: tempfile::TempDir,
}

impl Controller {
    fn new() -> Self {
        let controller = Self { tools: tools(), place: tempfile::tempdir().unwrap() };
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../ansible");
        let mut build = controller.command("ansible-galaxy", &["collection", "build", "--output-path"]);
        succeed(build.arg(controller.path("")).current_dir(source));
        let archive = fs::read_dir(controller.place.path()).unwrap().map(|entry| entry.unwrap().path());
        let archive = archive.into_iter().find(|path| path.extension().is_some_and(|kind| kind == "gz")).unwrap();
        let mut install = controller.command("ansible-galaxy", &["collection", "install", "--offline", "-p"]);
        succeed(install.arg(controller.path("collections")).arg(archive));
        controller
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn collection(&self) -> PathBuf {
        self.path("collections/ansible_collections/orangery/fleet")
    }

    fn command(&self, name: &str, words: &[&str]) -> Command {
        let mut command = Command::new(self.tools.join(name));
        command.args(words).current_dir(self.place.path());
        let path = std::env::var("PATH").unwrap();
        command.env("PATH", format!("{}:{path}", self.tools.display()));
        command.env("ANSIBLE_COLLECTIONS_PATH", self.path("collections")).env("ANSIBLE_NOCOLOR", "1");
        command.env("ANSIBLE_HOME", self.path("home")).env("ANSIBLE_HOST_KEY_CHECKING", "False").env("NO_COLOR", "1");
        command.env("ANSIBLE_LOCALHOST_WARNING", "False").env("LC_ALL", "C.UTF-8");
        command
    }

    fn play(&self, name: &str, words: &[&str]) -> Output {
        let mut command = self.command("ansible-playbook", &["-i", "inventory.yml", name]);
        command.args(words).output().unwrap()
    }

    /// Runs a play that must succeed; gives how many changes it made.
    fn changes(&self, name: &str, words: &[&str]) -> u32 {
        let output = self.play(name, words);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        let counts =
            said.lines().filter_map(|line| line.split_once("changed=")?.1.split(' ').next()?.parse::<u32>().ok());
        counts.sum()
    }
}

/// A machine with a server of SSH, and the inventory that names it.
fn machine(controller: &Controller) -> Site {
    let key = controller.path("key");
    succeed(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key));
    let port = free_port();
    let server = controller.path("sshd.conf");
    fs::write(&server, format!("Port {port}\nListenAddress 127.0.0.1\n")).unwrap();
    let site = Site::with(|files| {
        let mut files = files.to_vec();
        files.push((key.with_extension("pub"), "/root/.ssh/authorized_keys"));
        files.push((server, "/etc/ssh/sshd_config.d/test.conf"));
        Machine::with_packages(&["openssh-server", "python3", "python3-apt"], &files)
    });
    site.succeed(&["chmod", "0700", "/root/.ssh"]);
    site.succeed(&["systemctl", "restart", "ssh.service"]);
    fs::write(controller.path("inventory.yml"), inventory(&site, &key, port, 1)).unwrap();
    site
}

/// One machine is the server and a node.
fn inventory(site: &Site, key: &Path, port: u16, revision: u32) -> String {
    let package = |name: &str| {
        let begin = format!("{name}_");
        let end = format!("-{revision}_amd64.deb");
        let all = fs::read_dir(packages()).unwrap().map(|entry| entry.unwrap().path());
        let named = |path: &PathBuf| {
            path.file_name().unwrap().to_str().is_some_and(|name| name.starts_with(&begin) && name.ends_with(&end))
        };
        all.into_iter().find(named).unwrap().display().to_string()
    };
    let home = site.fleet.home();
    serde_json::to_string_pretty(&serde_json::json!({ "all": {
        "vars": {
            "ansible_host": "127.0.0.1", "ansible_port": port, "ansible_user": "root",
            "ansible_ssh_private_key_file": key, "ansible_python_interpreter": "/usr/bin/python3",
        },
        "children": {
            "coordinator": { "hosts": { "nas": {
                "coordinator_home": home, "coordinator_packages": { "amd64": package("orangery") },
            } } },
            "nodes": { "hosts": { NAME: {
                "agent_packages": { "amd64": package("orangery-agent") },
                "agent_control": format!("{} --dir {}", program("orangery").display(), home.display()),
                "agent_settings": {
                    "labels": { "site": "attic" },
                    "link": { "keepalive_secs": 5, "backoff_max_secs": 1 },
                    "fetch": { "backoff_max_secs": 1 },
                    "apps": { "greeter": { "env": { "PORT": site.port.to_string() } } },
                },
            } } },
        },
    } }))
    .unwrap()
}

#[test]
#[ignore = "needs root, systemd-nspawn, a Debian root file system, cargo-deb and python3-venv; run by `just test-ansible`"]
fn nodes_and_coordinator_are_installed_kept_upgraded_between_deployments_and_removed() {
    let controller = Controller::new();
    let mut lint = controller.command("ansible-lint", &["--offline", "--profile", "production", "."]);
    // Outside of a repository it would look for one above.
    succeed(Command::new("git").args(["init", "--quiet"]).arg(controller.collection()));
    succeed(lint.current_dir(controller.collection()));
    let site = machine(&controller);

    // A dry run of what was never installed changes nothing and fails nowhere.
    assert!(controller.changes("orangery.fleet.nodes", &["--check", "--diff"]) > 0);
    assert!(!site.machine.has("/usr/bin/orangery-agent"));

    assert!(controller.changes("orangery.fleet.coordinator", &[]) > 0);
    assert!(controller.changes("orangery.fleet.nodes", &[]) > 0);
    eventually("the node is online", || site.fleet.view(NAME)?.online.then_some(()));
    assert_eq!(site.fleet.view(NAME).unwrap().reported.unwrap().labels["site"], "attic");
    for play in ["orangery.fleet.coordinator", "orangery.fleet.nodes"] {
        assert_eq!(controller.changes(play, &[]), 0, "a second run of {play} changes nothing");
        assert_eq!(controller.changes(play, &["--check", "--diff"]), 0, "nor would a third");
    }

    site.fleet.publish("1.0.0", 200);
    site.fleet.deploy("greeter@1.0.0", "all");
    site.fleet.settled_on(NAME, "1.0.0");
    eventually("all is well", || controller.play("orangery.fleet.monitoring", &[]).status.success().then_some(()));

    let listed = controller.path("fleet.orangery.yml");
    let command = format!("{} --dir {}", program("orangery").display(), site.fleet.home().display());
    let text = format!(
        "plugin: orangery.fleet.fleet\ncommand: {command}\nkeyed_groups:\n  - key: orangery_labels.site\n    prefix: site\n"
    );
    fs::write(&listed, text).unwrap();
    let said = succeed(controller.command("ansible-inventory", &["--list", "-i"]).arg(&listed));
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    let version = &said["_meta"]["hostvars"][NAME]["orangery_apps"]["greeter"]["version"];
    // Texts of others are marked as such, in some versions in this output, too.
    assert_eq!(version.get("__ansible_unsafe").unwrap_or(version), "1.0.0");
    assert_eq!(said["site_attic"]["hosts"][0], NAME);

    upgraded_in_the_middle_of_a_deployment(&controller, &site);

    let app = site.process(APP);
    assert!(controller.changes("orangery.fleet.remove", &[]) > 0);
    assert!(!site.machine.has("/usr/bin/orangery-agent"));
    assert_eq!(site.process(APP), app, "the app goes on");
}

fn upgraded_in_the_middle_of_a_deployment(controller: &Controller, site: &Site) {
    site.fleet.publish_with("1.1.0", "version = 1.1.0\nmessage = hello\nhealth_status = 200\n", site::GATED);
    site.fleet.deploy("greeter@1.1.0", "all");
    eventually("1.1.0 is on trial", || (site.fleet.greeter(NAME)?.phase == Phase::Probing).then_some(()));
    let before = site.process(AGENT);
    let text = fs::read_to_string(controller.path("inventory.yml")).unwrap();
    fs::write(controller.path("inventory.yml"), text.replace("-1_amd64.deb", "-2_amd64.deb")).unwrap();
    assert!(controller.changes("orangery.fleet.upgrade", &[]) > 0);
    assert_eq!(site.process(AGENT), before, "the agent was restarted in the middle of a deployment");
    site.succeed(&["touch", "/var/gate"]);
    site.fleet.settled_on(NAME, "1.1.0");
    eventually("the agent runs its new program", || (site.process(AGENT) != before).then_some(()));
    assert!(controller.changes("orangery.fleet.coordinator", &[]) > 0);
    site.process(COORDINATOR);
    eventually("the node is back", || site.fleet.view(NAME)?.online.then_some(()));
    assert_eq!(controller.changes("orangery.fleet.upgrade", &[]), 0);
}

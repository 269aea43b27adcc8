//! The same rule in Mosquitto: the generated configuration and ACL file, in the real broker.
#![allow(clippy::unwrap_used)] // A test stops at the first surprise.

mod mqtt;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mqtt::client::{Client, Connect, Version};
use mqtt::world::{ATTEMPTS, Coordinator, World};
use mqtt::{DEADLINE, ca, node, now, until};
use orangery::broker::acl::{Mosquitto, mosquitto_acl, mosquitto_config};
use orangery::ca::{Ca, write_secret};
use orangery::link::LinkEvent;
use orangery_wire::NodeId;
use orangery_wire::topics::Channel;

/// The program, or a clear word that it is missing: in CI that is a failure.
fn program() -> Option<PathBuf> {
    let places = ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto", "/opt/homebrew/sbin/mosquitto"];
    let found = places.into_iter().map(PathBuf::from).find(|path| path.exists());
    if found.is_none() {
        let skipped = "Mosquitto is not installed: what it makes of our ACL was NOT tested (apt install mosquitto)";
        assert!(std::env::var_os("CI").is_none(), "{skipped}");
        eprintln!("SKIPPED: {skipped}");
    }
    found
}

/// A running Mosquitto; it ends with this.
struct Running {
    child: Child,
    listen: SocketAddr,
    dir: tempfile::TempDir,
    program: PathBuf,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    fn start(program: &Path, ca: &Ca) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = ca.issue_server(&[], now()).unwrap();
        std::fs::write(dir.path().join("ca.pem"), ca.certificate_pem()).unwrap();
        std::fs::write(dir.path().join("server.pem"), &server.certificate.pem).unwrap();
        write_secret(&dir.path().join("server.key"), &server.key_pem).unwrap();
        std::fs::write(dir.path().join("acl"), mosquitto_acl()).unwrap();
        // Mosquitto cannot choose a port and say which; if somebody else takes this one first, another is tried.
        for _ in 0..10 {
            let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            if let Some(child) = spawn(program, dir.path(), listen) {
                return Self { child, listen, dir, program: program.to_owned() };
            }
        }
        panic!("Mosquitto did not start: {}", log(dir.path()));
    }

    fn address(&self) -> String {
        self.listen.to_string()
    }

    fn restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = spawn(&self.program, self.dir.path(), self.listen).expect("the port is still free");
    }
}

fn log(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("log")).unwrap_or_default()
}

/// Starts Mosquitto and waits until it listens; `None` if it ends instead.
fn spawn(program: &Path, dir: &Path, listen: SocketAddr) -> Option<Child> {
    let in_dir = |name: &str| dir.join(name);
    let (ca, certificate, key, acl) = (in_dir("ca.pem"), in_dir("server.pem"), in_dir("server.key"), in_dir("acl"));
    let generated = mosquitto_config(&Mosquitto { listen, ca: &ca, certificate: &certificate, key: &key, acl: &acl });
    // As root it would become another user, who may not read the key that this test made.
    std::fs::write(in_dir("mosquitto.conf"), format!("user root\n{generated}")).unwrap();
    let output = std::fs::File::create(in_dir("log")).unwrap();
    let mut child = Command::new(program)
        .arg("-c")
        .arg(in_dir("mosquitto.conf"))
        .stdin(Stdio::null())
        .stdout(output.try_clone().unwrap())
        .stderr(output)
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while TcpStream::connect(listen).is_err() {
        if child.try_wait().unwrap().is_some() {
            return None;
        }
        assert!(begun.elapsed() < DEADLINE, "Mosquitto does not listen: {}", log(dir));
        std::thread::sleep(Duration::from_millis(10));
    }
    Some(child)
}

fn id(name: &str) -> NodeId {
    name.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_reaches_nothing_of_another_in_mosquitto() {
    let Some(program) = program() else { return };
    let ca = ca();
    for version in [Version::V3, Version::V5] {
        let mosquitto = Running::start(&program, &ca);
        let mut world = World::new(&ca, &mosquitto.address(), version).await;
        for &attempt in ATTEMPTS {
            // Mosquitto mostly makes no objection; that nothing came of it is seen in there.
            world.attempt(attempt).await;
        }
        world.newcomers_find_nothing_forged(&ca).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_link_works_with_mosquitto_as_with_our_own_broker() {
    let Some(program) = program() else { return };
    let ca = ca();
    let mut mosquitto = Running::start(&program, &ca);
    let address = mosquitto.address();
    let mut coordinator = Coordinator::new(&ca, &address, 100);
    coordinator.up().await;
    for i in 0..100 {
        coordinator.link.publish(&id(&format!("n{i}")), Channel::Desired, format!("desired {i}")).unwrap();
    }
    until("Mosquitto has all", || coordinator.link.pending() == 0).await;
    mosquitto.restart();
    assert!(matches!(coordinator.event().await, LinkEvent::Down { .. }));
    coordinator.up().await;
    until("Mosquitto has all again", || coordinator.link.pending() == 0).await;

    let tls = node(&ca, "n7");
    let topic = "orangery/v1/node/n7/online";
    let how =
        Connect { address: &address, tls: Some(&tls), id: "n7", will: Some((topic, "offline")), version: Version::V3 };
    let mut n7 = Client::connect(&how).await.unwrap();
    assert_eq!(n7.subscribe("orangery/v1/node/n7/desired").await, Ok(true));
    assert_eq!(n7.message().await.unwrap().1, "desired 7");
    assert_eq!(n7.publish(topic, "online").await, Ok(true));
    assert_eq!(coordinator.said().await.payload, "online");
    drop(n7);
    assert_eq!(coordinator.said().await.payload, "offline");
}

#[tokio::test]
async fn mosquitto_lets_nobody_in_without_a_certificate_of_our_ca() {
    let Some(program) = program() else { return };
    let ca = ca();
    let mosquitto = Running::start(&program, &ca);
    let address = mosquitto.address();
    let other = mqtt::ca();
    let stranger = {
        let link = other.issue_link(now()).unwrap();
        orangery::tls::client_config(ca.certificate(), (&link.certificate.pem, &link.key_pem)).unwrap()
    };
    for tls in [None, Some(&stranger)] {
        let how = Connect { address: &address, tls, id: "coordinator", will: None, version: Version::V3 };
        assert!(Client::connect(&how).await.is_err(), "with TLS: {}", tls.is_some());
    }
}

//! A site in network namespaces: a coordinator far away, and nodes each behind a router of its own, whose cables, routes and
//! loss are the test's. Needs root, `ip` and `nft`.
//!
//! ```text
//! node --(10.77.N.2 .. 10.77.N.1)-- router --(10.88.N.2 .. 10.88.N.1)-- coordinator (10.99.0.1)
//! ```

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::process::{Around, succeed};

/// What nodes call the coordinator; each namespace has a file of hosts that knows it.
pub const COORDINATOR: &str = "coordinator.test";
const COORDINATOR_IP: &str = "10.99.0.1";

/// How a node is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// To the coordinator.
    Online,
    /// To its router, behind which everything is lost.
    LanOnly,
    /// Not at all: the cable is out.
    Offline,
}

/// One coordinator's machine, and the way to it.
pub struct Site {
    coordinator: Namespace,
}

/// One node's machine with its router.
pub struct Place {
    node: Namespace,
    router: Namespace,
    number: u8,
}

struct Namespace(String);

/// Whether this test may make namespaces and rules. Without it says why not; in CI it must.
pub fn possible() -> bool {
    let missing = if !rustix::process::geteuid().is_root() {
        Some("it needs root")
    } else if ["ip", "nft"].iter().any(|name| Command::new(name).arg("-V").output().is_err()) {
        Some("it needs ip and nft (apt-get install iproute2 nftables)")
    } else {
        None
    };
    if let Some(missing) = missing {
        assert!(std::env::var_os("CI").is_none(), "CI must try it, and {missing}");
        eprintln!("LEFT OUT: {missing}");
    }
    missing.is_none()
}

impl Namespace {
    fn new(role: &str) -> Self {
        let namespace = Self(format!("orangery-{}-{role}", std::process::id()));
        ip(&["netns", "add", &namespace.0]);
        namespace.ip(&["link", "set", "lo", "up"]);
        std::fs::create_dir_all(namespace.files()).expect("/etc/netns can be written by root");
        let hosts = format!("127.0.0.1 localhost\n{COORDINATOR_IP} {COORDINATOR}\n");
        std::fs::write(namespace.files().join("hosts"), hosts).expect("a file below /etc/netns");
        // Nobody answers there, and at once.
        let resolver = "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n";
        std::fs::write(namespace.files().join("resolv.conf"), resolver).expect("a file below /etc/netns");
        namespace
    }

    /// What stands in the place of /etc for programs that `ip netns exec` starts.
    fn files(&self) -> PathBuf {
        PathBuf::from("/etc/netns").join(&self.0)
    }

    fn ip(&self, words: &[&str]) {
        ip(&[&["-n", &self.0], words].concat());
    }

    fn around(&self) -> Around {
        Around { namespace: Some(self.0.clone()), ..Around::default() }
    }

    /// Replaces the table `test` by `rules`.
    fn rules(&self, rules: &str) {
        let mut nft = self.around().command("nft".as_ref());
        let mut nft = nft.args(["-f", "-"]).stdin(Stdio::piped()).spawn().expect("nft starts");
        let text = format!("table inet test {{ }}\ndelete table inet test\n{rules}\n");
        nft.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("nft reads");
        assert!(nft.wait().expect("nft ends").success(), "nft refused: {text}");
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
        let _ = std::fs::remove_dir_all(self.files());
    }
}

impl Site {
    /// A coordinator's machine, with no node yet. `name` tells the sites of one test program apart.
    pub fn new(name: &str) -> Self {
        let coordinator = Namespace::new(&format!("{name}-c"));
        coordinator.ip(&["address", "add", &format!("{COORDINATOR_IP}/32"), "dev", "lo"]);
        Self { coordinator }
    }

    /// One machine without a network, which has this address besides.
    pub fn alone(name: &str, address: &str) -> Self {
        let machine = Namespace::new(&format!("{name}-c"));
        machine.ip(&["address", "add", &format!("{address}/32"), "dev", "lo"]);
        Self { coordinator: machine }
    }

    /// Where the coordinator and its commands run.
    pub fn around(&self) -> Around {
        self.coordinator.around()
    }

    /// A node's machine number `number`, online.
    pub fn place(&self, name: &str, number: u8) -> Place {
        let node = Namespace::new(&format!("{name}{number}-n"));
        let router = Namespace::new(&format!("{name}{number}-r"));
        let near = |end| format!("10.77.{number}.{end}");
        let far = |end| format!("10.88.{number}.{end}");
        cable((&node, "lan", &near(2)), (&router, "lan", &near(1)));
        let port = format!("n{number}");
        cable((&router, "wan", &far(2)), (&self.coordinator, &port, &far(1)));
        router.ip(&["route", "add", "default", "via", &far(1)]);
        self.coordinator.ip(&["route", "add", &format!("{}/24", near(0)), "via", &far(2)]);
        succeed(router.around().command("sysctl".as_ref()).args(["-qw", "net.ipv4.ip_forward=1"]));
        let place = Place { node, router, number };
        place.node.ip(&["route", "add", "default", "via", &place.gateway()]);
        place.put(Reach::Online);
        place
    }
}

impl Place {
    /// Where the agent runs.
    pub fn around(&self) -> Around {
        self.node.around()
    }

    /// The router, as the node reaches it.
    pub fn gateway(&self) -> String {
        format!("10.77.{}.1", self.number)
    }

    /// The namespace's file of hosts, from the outside.
    pub fn hosts(&self) -> PathBuf {
        self.node.files().join("hosts")
    }

    /// Changes how it is connected. What is done to the node itself stays.
    pub fn put(&self, reach: Reach) {
        let forward = if reach == Reach::LanOnly { "drop" } else { "accept" };
        self.router.rules(&forwarding(&format!("policy {forward};")));
        self.router.ip(&["link", "set", "lan", if reach == Reach::Offline { "down" } else { "up" }]);
    }

    /// Of a hundred packets so many are lost, in each direction.
    pub fn lose(&self, percent: u8) {
        self.router.rules(&forwarding(&format!("policy accept;\n    numgen random mod 100 < {percent} drop")));
    }
}

fn forwarding(rules: &str) -> String {
    format!("table inet test {{\n  chain forward {{\n    type filter hook forward priority 0; {rules}\n  }}\n}}")
}

/// A pair of interfaces, each in its namespace, named and with its address.
fn cable(one: (&Namespace, &str, &str), other: (&Namespace, &str, &str)) {
    ip(&["link", "add", one.1, "netns", &one.0.0, "type", "veth", "peer", "name", other.1, "netns", &other.0.0]);
    for (namespace, interface, address) in [one, other] {
        namespace.ip(&["address", "add", &format!("{address}/24"), "dev", interface]);
        namespace.ip(&["link", "set", interface, "up"]);
    }
}

fn ip(words: &[&str]) {
    succeed(Command::new("ip").args(words));
}

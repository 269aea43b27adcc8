//! Mosquitto, the broker that many have already, with the settings that `orangery broker acl mosquitto` writes.

use std::path::PathBuf;
use std::process::Command;

use crate::fleet::Fleet;
use crate::process::{Running, eventually, succeed};

/// An installed Mosquitto.
pub struct Mosquitto {
    program: PathBuf,
}

impl Mosquitto {
    /// The installed one. Without it a test says so and ends; in CI it fails.
    pub fn find() -> Option<Self> {
        let places =
            ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto", "/usr/bin/mosquitto", "/usr/local/bin/mosquitto"];
        let found = places.iter().map(PathBuf::from).find(|path| path.is_file()).map(|program| Self { program });
        if found.is_none() {
            assert!(std::env::var_os("CI").is_none(), "Mosquitto is not installed, and CI must test against it");
            eprintln!("LEFT OUT: Mosquitto is not installed (apt-get install mosquitto)");
        }
        found
    }

    /// The program.
    pub fn program(&self) -> &std::path::Path {
        &self.program
    }

    /// Starts it on `port` for `fleet`, and waits until it accepts.
    pub fn start(&self, fleet: &Fleet, port: u16) -> Running {
        let directory = fleet.path().join("mosquitto");
        succeed(fleet.orangery(&["broker", "acl", "mosquitto", "--out"]).arg(&directory));
        let settings = directory.join("mosquitto.conf");
        // Started by root it would become another user, who cannot read this directory.
        let own_user = std::fs::read_to_string(&settings).map(|text| format!("{text}\nuser root\n"));
        std::fs::write(&settings, own_user.expect("the settings were written")).expect("they can be added to");
        let mut command = Command::new(&self.program);
        command.arg("-c").arg(settings);
        let mut running = Running::start("mosquitto", command, fleet.path().join("mosquitto.log"));
        eventually("Mosquitto accepts", || {
            assert!(running.ended().is_none(), "Mosquitto ended: {}", running.log());
            std::net::TcpStream::connect(("127.0.0.1", port)).ok()
        });
        running
    }
}

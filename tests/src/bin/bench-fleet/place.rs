//! The coordinator, and Mosquitto if it is in its broker's place: real processes whose memory and time are looked at.

use std::net::SocketAddr;

use anyhow::Context;
use orangery_tests::fleet::{Fleet, Setup};
use orangery_tests::mosquitto::Mosquitto;
use orangery_tests::process::{Running, free_port};
use orangery_tests::usage;

use crate::arguments::Broker;

/// Where a fleet meets.
pub struct Place {
    /// The coordinator.
    pub fleet: Fleet,
    mosquitto: Option<(Mosquitto, Running, u16)>,
}

impl Place {
    /// Starts an empty fleet.
    pub fn start(broker: Broker) -> anyhow::Result<Self> {
        let mut place = match broker {
            Broker::Embedded => Self { fleet: Fleet::init(&Setup::default()), mosquitto: None },
            Broker::Mosquitto => {
                let installed = Mosquitto::find().context("Mosquitto is not installed (apt-get install mosquitto)")?;
                let port = free_port();
                let fleet =
                    Fleet::init(&Setup { mqtt_url: Some(format!("mqtts://127.0.0.1:{port}")), ..Setup::default() });
                let running = installed.start(&fleet, port);
                Self { fleet, mosquitto: Some((installed, running, port)) }
            }
        };
        place.serve();
        Ok(place)
    }

    /// As in production: it logs what is worth a line, and no more.
    fn serve(&mut self) {
        self.fleet.serve_with(&["serve"]);
    }

    /// Kills the broker as a power cut would, and starts it again.
    pub fn restart_broker(&mut self) {
        match &mut self.mosquitto {
            None => {
                self.fleet.coordinator().kill();
                self.serve();
            }
            Some((installed, running, port)) => {
                running.kill();
                *running = installed.start(&self.fleet, *port);
            }
        }
    }

    /// Stops the coordinator as a service is stopped, and starts it again.
    pub fn restart_coordinator(&mut self) {
        self.fleet.coordinator().stop();
        self.serve();
    }

    /// Where nodes find the broker.
    pub fn broker(&self) -> anyhow::Result<SocketAddr> {
        let ready: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(self.fleet.path().join("ready"))?)?;
        Ok(ready["mqtt"].as_str().context("the broker's address is known")?.parse()?)
    }

    /// Memory of the coordinator, and of the broker beside it, in bytes.
    pub fn memory(&mut self) -> anyhow::Result<(u64, u64)> {
        let broker = match &self.mosquitto {
            Some((_, running, _)) => usage::memory(running.pid())?.pss,
            None => 0,
        };
        Ok((usage::memory(self.fleet.coordinator().pid())?.pss, broker))
    }

    /// User and system time of both so far, in seconds.
    pub fn cpu_secs(&mut self) -> anyhow::Result<f64> {
        let broker = match &self.mosquitto {
            Some((_, running, _)) => usage::cpu_secs(running.pid())?,
            None => 0.0,
        };
        Ok(broker + usage::cpu_secs(self.fleet.coordinator().pid())?)
    }
}

//! A house with an MQTT broker of its own, and somebody at it as Home Assistant is: who sees what is described, and presses buttons.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rumqttc::{Client, Connection, Event, MqttOptions, Packet, QoS};
use serde_json::Value;

use crate::process::{Running, eventually, free_port, succeed};

/// Messages that the client hands over at once.
const CAPACITY: usize = 100;
/// The user that Home Assistant has at the broker, and everybody's password.
const PANEL: &str = "homeassistant";
const PASSWORD: &str = "one for the house";

/// Mosquitto with users, passwords and rules.
pub struct House {
    directory: PathBuf,
    port: u16,
    broker: Option<Running>,
}

impl House {
    /// Prepares it below `directory`, with the rules `acl`. `tls`: certificate and key of the listener.
    pub fn new(directory: &Path, acl: &str, tls: Option<(&Path, &Path)>) -> Self {
        fs::create_dir_all(directory).expect("a directory for the house's broker");
        let port = free_port();
        let at = |name: &str| directory.join(name).display().to_string();
        let passwords = at("passwords");
        for (user, options) in [("orangery", &["-b", "-c"][..]), (PANEL, &["-b"][..])] {
            succeed(Command::new("mosquitto_passwd").args(options).args([&passwords, user, PASSWORD]));
        }
        fs::write(directory.join("acl"), acl).expect("the rules can be written");
        let tls =
            tls.map(|(certificate, key)| format!("certfile {}\nkeyfile {}\n", certificate.display(), key.display()));
        // Started by root it would become another user, who cannot read this directory.
        let settings = format!(
            "user root\nlistener {port} 127.0.0.1\nallow_anonymous false\npassword_file {passwords}\nacl_file {}\npersistence false\n{}",
            at("acl"),
            tls.unwrap_or_default()
        );
        fs::write(directory.join("mosquitto.conf"), settings).expect("the settings can be written");
        Self { directory: directory.to_owned(), port, broker: None }
    }

    /// The broker's port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The password of every user.
    pub fn password(&self) -> &'static str {
        PASSWORD
    }

    /// Starts the broker and waits until it accepts. It remembers nothing of an earlier run.
    pub fn start(&mut self, program: &Path) {
        let mut command = Command::new(program);
        command.arg("-c").arg(self.directory.join("mosquitto.conf"));
        let mut running = Running::start("the house's broker", command, self.directory.join("mosquitto.log"));
        eventually("the house's broker accepts", || {
            assert!(running.ended().is_none(), "Mosquitto ended: {}", running.log());
            std::net::TcpStream::connect(("127.0.0.1", self.port)).ok()
        });
        self.broker = Some(running);
    }

    /// Ends the broker.
    pub fn stop(&mut self) {
        self.broker = None;
    }

    /// Somebody at the broker who sees all that goes by. `ca`: if by TLS.
    pub fn panel(&self, ca: Option<&Path>) -> Panel {
        let (client, connection) = self.client("panel", ca);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (messages, subscriber) = (seen.clone(), client.clone());
        thread::spawn(move || watch(connection, &subscriber, &messages));
        let panel = Panel { client, seen };
        eventually("the panel hears itself", || {
            panel.publish("panel/hears", "me", false);
            (panel.count("panel/hears") > 0).then_some(())
        });
        panel
    }

    /// What the broker has kept at this moment, by topic.
    pub fn kept(&self, ca: Option<&Path>) -> BTreeMap<String, String> {
        let (client, mut connection) = self.client("looks-once", ca);
        client.subscribe("#", QoS::AtLeastOnce).expect("there is room for a subscription");
        let mut kept = BTreeMap::new();
        for event in connection.iter() {
            match event.expect("the house's broker answers") {
                // What was kept is sent before what is published later.
                Event::Incoming(Packet::SubAck(_)) => {
                    client
                        .publish("looks-once/end", QoS::AtLeastOnce, false, "end")
                        .expect("there is room for a message");
                }
                Event::Incoming(Packet::Publish(publish)) if publish.topic == "looks-once/end" => break,
                Event::Incoming(Packet::Publish(publish)) if publish.retain => {
                    kept.insert(publish.topic, String::from_utf8_lossy(&publish.payload).into_owned());
                }
                _ => {}
            }
        }
        kept
    }

    fn client(&self, id: &str, ca: Option<&Path>) -> (Client, Connection) {
        let mut options = MqttOptions::new(id, "127.0.0.1", self.port);
        options.set_credentials(PANEL, PASSWORD).set_keep_alive(Duration::from_secs(5));
        options.set_max_packet_size(1 << 20, 1 << 20);
        if let Some(ca) = ca {
            options.set_transport(rumqttc::Transport::tls_with_config(crate::mqtt::anonymous_tls(ca)));
        }
        Client::new(options, CAPACITY)
    }
}

fn watch(mut connection: Connection, client: &Client, seen: &Mutex<Vec<(String, String)>>) {
    for event in connection.iter() {
        match event {
            Ok(Event::Incoming(Packet::ConnAck(_))) => {
                if client.try_subscribe("#", QoS::AtLeastOnce).is_err() {
                    return;
                }
            }
            Ok(Event::Incoming(Packet::Publish(publish))) => {
                let message = (publish.topic, String::from_utf8_lossy(&publish.payload).into_owned());
                seen.lock().unwrap_or_else(PoisonError::into_inner).push(message);
            }
            Ok(_) => {}
            // The broker is away; it is tried again.
            Err(rumqttc::ConnectionError::RequestsDone) => return,
            Err(_) => thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// Somebody at the broker.
pub struct Panel {
    client: Client,
    seen: Arc<Mutex<Vec<(String, String)>>>,
}

impl Panel {
    /// Publishes something.
    pub fn publish(&self, topic: &str, payload: &str, retain: bool) {
        self.client.publish(topic, QoS::AtLeastOnce, retain, payload).expect("there is room for a message");
    }

    /// Every message at a topic, in order.
    pub fn all(&self, topic: &str) -> Vec<String> {
        self.lock().iter().filter(|(at, _)| at == topic).map(|(_, payload)| payload.clone()).collect()
    }

    /// How many messages came at a topic.
    pub fn count(&self, topic: &str) -> usize {
        self.lock().iter().filter(|(at, _)| at == topic).count()
    }

    /// The newest message at a topic.
    pub fn text(&self, topic: &str) -> Option<String> {
        self.lock().iter().rev().find(|(at, _)| at == topic).map(|(_, payload)| payload.clone())
    }

    /// The newest message at a topic, as JSON.
    pub fn json(&self, topic: &str) -> Option<Value> {
        serde_json::from_str(&self.text(topic)?).ok()
    }

    /// Waits until the newest message at a topic is as it should be.
    pub fn sees(&self, what: &str, topic: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        eventually(what, || self.json(topic).filter(|value| is_so(value)))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(String, String)>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! The connection to the house's broker, by the rules of [`crate::mqtt`]: what is heard at topics of ours.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rumqttc::{LastWill, Publish, QoS};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::Settings;
use super::settings::HomeAssistantError;
use super::topics::Topics;
use crate::mqtt::newest::Newest;
use crate::mqtt::{self, Listener, Unheard};

/// Time between two signs of life.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// Longest wait between two attempts to connect.
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// Largest packet either way. What others put at topics of ours is read up to this size.
const PACKET_BYTES_MAX: usize = 1024 * 1024;
/// Longest wait for the broker to take what is said last.
const FAREWELL: Duration = Duration::from_millis(1_500);

/// What [`Topics::status`] says.
const ONLINE: &str = "online";
const OFFLINE: &str = "offline";

/// What is heard at topics of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Heard {
    /// Home Assistant has come up.
    Birth,
    /// Something that the broker has kept.
    Kept {
        /// Its topic.
        topic: String,
        /// What is there.
        payload: Bytes,
    },
    /// Something that may be a command.
    Said {
        /// Its topic.
        topic: String,
        /// What is said.
        payload: Bytes,
    },
}

/// The connection. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Connection {
    mqtt: mqtt::Connection<House>,
    status: String,
}

impl Connection {
    /// Starts connecting and goes on for ever; the broker may be away. `heard` is waited for when it is full: the broker then
    /// holds the rest back. `is_up` says whether the broker is reached.
    pub(super) fn spawn(
        settings: &Settings,
        topics: Topics,
        heard: mpsc::Sender<Heard>,
        is_up: Arc<AtomicBool>,
    ) -> Result<Self, HomeAssistantError> {
        let status = topics.status();
        let address = mqtt::Address {
            broker: settings.broker.clone(),
            client_id: format!("orangery-{}", topics.coordinator_id()),
            tls: settings.tls()?,
            login: settings.read_login()?,
            last_will: Some(LastWill::new(&status, OFFLINE, QoS::AtLeastOnce, true)),
            filters: topics.filters().into_iter().chain([settings.birth_topic.clone()]).collect(),
            refused: "docs/operating/home-assistant.md has its rules",
            keepalive: KEEPALIVE,
            backoff_max: BACKOFF_MAX,
            packet_bytes_max: PACKET_BYTES_MAX,
        };
        let (broker, birth_topic) = (settings.broker.clone(), settings.birth_topic.clone());
        let mqtt = mqtt::Connection::spawn(address, House { broker, topics, birth_topic, heard, is_up });
        mqtt.with(|retained| retained.set(status.clone(), ONLINE));
        Ok(Self { mqtt, status })
    }

    /// Changes what the broker should hold. Never waits.
    pub(super) fn with<T>(&self, change: impl FnOnce(&mut Newest<String>) -> T) -> T {
        self.mqtt.with(change)
    }

    /// Says that nobody is here any more, waits for the broker to take that for a short while, and ends.
    pub(super) async fn stop(self) {
        self.with(|retained| retained.set(self.status.clone(), OFFLINE));
        if timeout(FAREWELL, self.mqtt.stored()).await.is_err() {
            tracing::warn!("the house's broker did not take in time that the coordinator stops; it will say so itself");
        }
    }
}

/// What is heard of the house.
#[derive(Debug)]
struct House {
    broker: String,
    topics: Topics,
    /// Where Home Assistant says that it has come up.
    birth_topic: String,
    heard: mpsc::Sender<Heard>,
    is_up: Arc<AtomicBool>,
}

impl Listener for House {
    type Key = String;

    fn topic(key: &String) -> String {
        key.clone()
    }

    async fn up(&mut self) -> Result<(), Unheard> {
        tracing::info!(broker = self.broker, "connected to Home Assistant's broker");
        self.is_up.store(true, Ordering::Relaxed);
        Ok(())
    }

    async fn down(&mut self, reason: String) -> Result<(), Unheard> {
        tracing::warn!(broker = self.broker, reason, "Home Assistant's broker is not reached; trying again");
        self.is_up.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// What is said at topics where nothing is asked for, ours among them, ends here.
    async fn received(&mut self, publish: Publish) -> Result<(), Unheard> {
        let Publish { topic, payload, retain, .. } = publish;
        let heard = if topic == self.birth_topic {
            // An old one says nothing: all was published for this connection anyway.
            if retain || payload != ONLINE.as_bytes() {
                return Ok(());
            }
            Heard::Birth
        } else if retain && self.topics.is_own(&topic) && !payload.is_empty() {
            Heard::Kept { topic, payload }
        } else if !retain && self.topics.asked(&topic).is_some() && !payload.is_empty() {
            Heard::Said { topic, payload }
        } else {
            return Ok(());
        };
        self.heard.send(heard).await.map_err(|_| Unheard)
    }
}

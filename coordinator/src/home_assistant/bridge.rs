//! The task between the fleet and the house: looks at the fleet when something has happened, publishes what follows, and has
//! commands done.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use orangery_wire::{AppName, NodeId, Version};
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use super::command::{Commands, Wish};
use super::connection::{Connection, Heard};
use super::payload::{House, app_key, app_state, node_state};
use super::picture::{NodePicture, Picture};
use super::topics::Topics;
use super::{HomeAssistantError, Settings};
use crate::engine::{Clock, Engine};
use crate::mqtt::jittered;
use crate::mqtt::newest::Newest;
use crate::repository::Repository;
use crate::store::Reader;

/// The fleet is looked at this often when nothing happens: silence is no event.
const LOOK_EACH: Duration = Duration::from_secs(10);
/// And at most this often, or so much less that looking takes a tenth of the time.
const LOOK_LEAST: Duration = Duration::from_millis(250);
const LOOK_SHARE: u32 = 10;
/// Messages that may wait for the task.
const HEARD_MAX: usize = 256;
/// Home Assistant is busy when it has come up; what it is told then is told within this time.
const BIRTH_DELAY: Duration = Duration::from_secs(1);
/// Apps that are remembered as gone, for each node.
const GONE_MAX: usize = 64;

/// What the bridge is made of.
pub struct Parts {
    /// Commands go there.
    pub engine: Engine,
    /// Questions go there: one of its own.
    pub reader: Reader,
    /// What the owner says of releases.
    pub repository: Arc<Repository>,
    /// The time.
    pub clock: Clock,
    /// Where people reach the dashboard.
    pub url: String,
}

/// The bridge, running.
#[derive(Debug)]
pub struct Bridge {
    stopping: watch::Sender<bool>,
    task: JoinHandle<()>,
    is_up: Arc<AtomicBool>,
}

impl Bridge {
    /// Reads what the settings name and starts; the broker may be away.
    ///
    /// # Errors
    /// When the password or the authorities cannot be used.
    pub fn start(settings: &Settings, parts: Parts) -> Result<Self, HomeAssistantError> {
        let topics = Topics::new(&settings.discovery_prefix, &settings.base_topic);
        let (stopping, stop) = watch::channel(false);
        let is_up = Arc::new(AtomicBool::new(false));
        let (says, incoming) = mpsc::channel(HEARD_MAX);
        let connection = Connection::spawn(settings, topics.clone(), says, is_up.clone())?;
        let reader = Arc::new(parts.reader);
        let work = Work {
            commands: Commands::new(parts.engine.clone(), reader.clone(), settings.acts_as.clone()),
            engine: parts.engine,
            reader,
            repository: parts.repository,
            clock: parts.clock,
            house: House { topics, url: parts.url },
            connection,
            picture: None,
            answers: BTreeMap::new(),
            gone: BTreeMap::new(),
            described: BTreeMap::new(),
        };
        Ok(Self { stopping, task: tokio::spawn(work.run(incoming, stop)), is_up })
    }

    /// Whether the broker is reached: true only while it is.
    pub fn is_up(&self) -> Arc<AtomicBool> {
        self.is_up.clone()
    }

    /// Says that the coordinator is away, and ends; within two seconds.
    pub async fn stop(self) {
        self.stopping.send_replace(true);
        if let Err(error) = self.task.await {
            tracing::error!(reason = %error, "the bridge to Home Assistant did not stop as it should");
        }
        self.is_up.store(false, Ordering::Relaxed);
    }
}

struct Work {
    engine: Engine,
    reader: Arc<Reader>,
    repository: Arc<Repository>,
    clock: Clock,
    commands: Commands,
    house: House,
    connection: Connection,
    /// What was seen last; `None`: nothing yet, and nothing is published or cleared before something was.
    picture: Option<Picture>,
    /// What the last command to each node came to.
    answers: BTreeMap<NodeId, String>,
    /// Apps that nodes had and have no more, as far as somebody may still show them.
    gone: BTreeMap<NodeId, BTreeSet<AppName>>,
    /// The apps with which each node was described last.
    described: BTreeMap<NodeId, BTreeSet<AppName>>,
}

impl Work {
    async fn run(mut self, mut incoming: mpsc::Receiver<Heard>, mut stop: watch::Receiver<bool>) {
        let mut stirs = self.engine.live().stirs();
        let mut is_due = true;
        let mut looked = Instant::now();
        let mut pause = Duration::ZERO;
        loop {
            let next = looked + if is_due { pause } else { LOOK_EACH };
            tokio::select! {
                _ = stop.changed() => break,
                heard = incoming.recv() => match heard {
                    Some(heard) => is_due |= self.hear(heard).await,
                    None => break,
                },
                changed = stirs.changed(), if !is_due => match changed {
                    Ok(()) => is_due = true,
                    Err(_) => break,
                },
                () = sleep_until(next) => {
                    let begun = Instant::now();
                    self.look().await;
                    (looked, is_due) = (Instant::now(), false);
                    pause = LOOK_LEAST.max(begun.elapsed() * LOOK_SHARE);
                }
            }
        }
        self.connection.stop().await;
    }

    /// Looks at the fleet and publishes what has changed.
    async fn look(&mut self) {
        let (reader, repository) = (self.reader.clone(), self.repository.clone());
        let (live, now) = (self.engine.live().clone(), (self.clock)());
        let read = move || reader.read(|view| Picture::read(view, &live, &repository, now));
        match tokio::task::spawn_blocking(read).await {
            Ok(Ok(picture)) => self.publish(picture),
            Ok(Err(error)) => tracing::error!(reason = %error, "cannot read the fleet for Home Assistant"),
            Err(error) => tracing::error!(reason = %error, "cannot read the fleet for Home Assistant"),
        }
    }

    fn publish(&mut self, picture: Picture) {
        self.remember_gone(&picture);
        let mut states = BTreeMap::new();
        let mut descriptions = vec![(
            self.house.topics.coordinator_config(),
            self.house.coordinator_device(),
            vec![self.house.topics.coordinator()],
        )];
        states.insert(self.house.topics.coordinator(), House::coordinator_state(&picture));
        for node in &picture.nodes {
            let own = self.states(node, picture.is_listening);
            let gone = self.gone.get(&node.view.node).cloned().unwrap_or_default();
            let topic = self.house.topics.node_config(&node.view.node);
            descriptions.push((topic, self.house.node_device(node, &gone), own.keys().cloned().collect()));
            states.extend(own);
        }
        let mut wanted: BTreeSet<&String> = states.keys().collect();
        wanted.extend(descriptions.iter().map(|(topic, ..)| topic));
        let online = self.house.topics.status();
        wanted.insert(&online);
        self.connection.with(|retained| {
            let unwanted: Vec<_> = retained.keys().filter(|topic| !wanted.contains(topic)).cloned().collect();
            for topic in unwanted {
                retained.set(topic, Bytes::new());
            }
            let mut again = BTreeSet::new();
            for (topic, description, own) in &descriptions {
                // A description that is new makes Home Assistant forget what it knew of the states.
                if retained.set(topic.clone(), bytes(description)) {
                    again.extend(own);
                }
            }
            for (topic, state) in &states {
                retained.set(topic.clone(), bytes(state));
                if again.contains(topic) {
                    retained.repeat(topic);
                }
            }
        });
        self.picture = Some(picture);
    }

    fn states(&self, node: &NodePicture, is_listening: bool) -> BTreeMap<String, Value> {
        let name = &node.view.node;
        let answer = self.answers.get(name).map(String::as_str);
        let apps = node.apps.iter().map(|app| (self.house.topics.app(name, &app.app), app_state(app)));
        let state = (self.house.topics.node(name), node_state(node, is_listening, answer));
        apps.chain([state]).collect()
    }

    /// An entity is removed by a description that still names it; one that does not leaves it where it is.
    fn remember_gone(&mut self, picture: &Picture) {
        let before = std::mem::take(&mut self.described);
        for node in &picture.nodes {
            let name = &node.view.node;
            let apps: BTreeSet<AppName> = node.apps.iter().map(|app| app.app.clone()).collect();
            let gone = self.gone.entry(name.clone()).or_default();
            gone.retain(|app| !apps.contains(app));
            let news = before.get(name).into_iter().flatten().filter(|app| !apps.contains(app));
            gone.extend(news.take(GONE_MAX.saturating_sub(gone.len())).cloned());
            self.described.insert(name.clone(), apps);
        }
        self.gone.retain(|node, _| self.described.contains_key(node));
        self.answers.retain(|node, _| self.described.contains_key(node));
    }

    /// Takes in what the house says. Returns whether the fleet should be looked at.
    async fn hear(&mut self, heard: Heard) -> bool {
        if self.picture.is_none() {
            self.look().await;
        }
        match heard {
            Heard::Birth => {
                sleep(jittered(BIRTH_DELAY)).await;
                tracing::info!("Home Assistant has come up: everything is published again");
                self.connection.with(Newest::repeat_all);
                false
            }
            Heard::Kept { topic, payload } => self.found(&topic, &payload),
            Heard::Said { topic, payload } => self.obey(&topic, &payload).await,
        }
    }

    /// Something of ours that the broker has kept. What should not be there is cleared: of a node that is gone, an app that is
    /// gone, or a command that somebody let it keep.
    fn found(&mut self, topic: &str, payload: &[u8]) -> bool {
        if self.picture.is_none() {
            return false;
        }
        let key = topic.to_owned();
        if !self.connection.with(|retained| retained.has(&key)) {
            tracing::info!(topic, "cleared at Home Assistant's broker: nothing should be kept there");
            self.connection.with(|retained| retained.set(key, Bytes::new()));
            return false;
        }
        let Some(node) = self.house.topics.described(topic) else { return false };
        let Some(apps) = self.described.get(&node) else { return false };
        let kept = described_apps(payload).into_iter().filter(|app| !apps.contains(app));
        let gone = self.gone.entry(node).or_default();
        let before = gone.len();
        gone.extend(kept.take(GONE_MAX.saturating_sub(before)));
        gone.len() > before
    }

    async fn obey(&mut self, topic: &str, payload: &[u8]) -> bool {
        let known = |node: &NodeId| self.described.contains_key(node);
        let Some(asked) = self.house.topics.asked(topic).filter(|asked| known(asked.node())) else {
            tracing::warn!(topic, "a command from Home Assistant for a node that is not known is ignored");
            return false;
        };
        let node = asked.node().clone();
        if !self.commands.take() {
            tracing::warn!(%node, "too many commands come from Home Assistant; this one is ignored");
            return false;
        }
        let (words, done) = match Wish::of(asked, payload) {
            Ok(wish) => (wish.words(), self.fulfil(&wish).await),
            Err(rule) => ("command".to_owned(), Err(rule.to_owned())),
        };
        let at = orangery_trust::time::format((self.clock)());
        let answer = match &done {
            Ok(done) => format!("{at} {words}: {done}"),
            Err(reason) => format!("{at} {words}: refused: {reason}"),
        };
        match &done {
            Ok(done) => tracing::info!(%node, command = words, "done for Home Assistant: {done}"),
            Err(reason) => tracing::warn!(%node, command = words, reason, "refused to Home Assistant"),
        }
        self.answers.insert(node, answer);
        true
    }

    /// Does what is asked for. What may be installed is looked at anew: the click may be older than what happened since.
    async fn fulfil(&mut self, wish: &Wish) -> Result<String, String> {
        if let Wish::Install(node, app, version) = wish {
            self.look().await;
            if !self.offers(node, app, version) {
                return Err(format!("{version} is not offered to {node} now"));
            }
        }
        self.commands.obey(wish).await
    }

    fn offers(&self, node: &NodeId, app: &AppName, version: &Version) -> bool {
        let nodes = self.picture.iter().flat_map(|picture| &picture.nodes).filter(|known| known.view.node == *node);
        let mut apps = nodes.flat_map(|node| &node.apps).filter(|known| known.app == *app);
        apps.any(|known| known.is_offered && known.latest.as_ref() == Some(version))
    }
}

/// The apps that a description names.
fn described_apps(payload: &[u8]) -> BTreeSet<AppName> {
    let Ok(description) = serde_json::from_slice::<Value>(payload) else { return BTreeSet::new() };
    let components = description.get("components").and_then(Value::as_object);
    let keys = components.into_iter().flat_map(serde_json::Map::keys);
    let prefix = "app_";
    keys.filter_map(|key| key.strip_prefix(prefix)?.parse::<AppName>().ok().filter(|app| app_key(app) == *key))
        .collect()
}

fn bytes(value: &Value) -> Vec<u8> {
    // A value always has a JSON form.
    serde_json::to_vec(value).unwrap_or_default()
}

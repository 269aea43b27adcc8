//! `orangery serve`: all parts of the coordinator, put together, started and stopped.
//!
//! Started from the inside to the outside (database, files, listeners, link), stopped from the outside to the inside, so that
//! nothing is asked that is not there.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use orangery_wire::topics::Channel;
use orangery_wire::{Digest, NodeId, UnixTime};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::api::{self, Entrance, Parts};
use crate::artifacts::{ArtifactError, Artifacts};
use crate::broker::{self, Broker, BrokerConfig, BrokerError};
use crate::ca::{Ca, CaError};
use crate::config::{Config, ConfigError, Mqtt, with_port};
use crate::engine::{Clock, Core, Engine, EngineError, Live, Outlets};
use crate::home_assistant::{Bridge, HomeAssistantError};
use crate::https::{HttpsError, Listener};
use crate::link::{Link, LinkEvent, LinkSettings};
use crate::metrics::Metrics;
use crate::notify::NotifyError;
use crate::repository::{Repository, RepositoryError, RepositoryFiles};
use crate::signals::Ends;
use crate::store::{Reader, Store, StoreError};
use crate::tls::{ServerCertificate, TlsError, client_config};

mod certificate;
mod home_assistant;
mod metadata;
mod notify;
mod process;
mod rollouts;
mod tokens;

/// Requests under way get this long to end.
const DRAIN_MAX: Duration = Duration::from_secs(3);
/// How often it is looked after whether the broker still runs.
const BROKER_LOOK_EACH: Duration = Duration::from_secs(1);
/// Time between two signs of life on the link.
const LINK_KEEPALIVE: Duration = Duration::from_secs(15);
/// Longest pause between two attempts of the link to connect.
const LINK_BACKOFF_MAX: Duration = Duration::from_secs(10);
/// Messages that may wait on their way from the link to the engine.
const EVENTS_WAITING_MAX: usize = 1_024;

/// What `orangery serve` was told.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// The settings.
    pub config: PathBuf,
    /// Where to write, once everything is reachable, one line of JSON: `{"https": "https://HOST:PORT", "mqtt": "HOST:PORT"}`.
    pub ready_file: Option<PathBuf>,
}

/// The coordinator did not start, or could not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The settings are not good.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Another coordinator uses the state.
    #[error("another coordinator is running on {}; stop it first, or give this one a state_dir of its own", path.display())]
    Locked {
        /// The state directory.
        path: PathBuf,
    },
    /// A file could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file could not be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A token's digest cannot be used.
    #[error("{} does not hold a SHA-256 of 64 hexadecimal digits; `{written_by}` writes it", path.display())]
    Token {
        /// The file.
        path: PathBuf,
        /// The command that makes it.
        written_by: &'static str,
    },
    /// What is counted has a bad name.
    #[error("cannot name what is counted")]
    Metrics(#[from] prometheus::Error),
    /// The certificate authority.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// A certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The artifacts.
    #[error(transparent)]
    Artifacts(#[from] ArtifactError),
    /// The trust.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// A target of notifications.
    #[error(transparent)]
    Notify(#[from] NotifyError),
    /// The bridge to Home Assistant.
    #[error(transparent)]
    HomeAssistant(#[from] HomeAssistantError),
    /// The HTTPS listener.
    #[error(transparent)]
    Https(#[from] HttpsError),
    /// The embedded broker.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The system refused something that every program needs.
    #[error("cannot {deed}")]
    System {
        /// What.
        deed: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// A part ended by itself.
    #[error("{part} ended by itself, which it never should; the log above says more")]
    Ended {
        /// Which.
        part: &'static str,
    },
}

/// Runs the coordinator until SIGTERM or SIGINT; then ends within five seconds. A second signal ends it at once.
pub fn run(options: ServeOptions) -> Result<(), ServeError> {
    let config = Config::load(&options.config)?;
    let _lock = process::lock(&config.state_dir)?;
    process::raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|source| ServeError::System { deed: "start the threads that serve", source })?;
    let served = runtime.block_on(async {
        let running = Running::start(&config).await?;
        let mut signals = Ends::listen().map_err(|source| ServeError::System { deed: "listen for signals", source })?;
        if let Some(path) = options.ready_file {
            running.write_ready(path)?;
        }
        process::tell_systemd("READY=1");
        tracing::info!(https = running.url, mqtt = running.mqtt, "coordinator ready");
        let ended = tokio::select! {
            () = signals.next() => Ok(()),
            part = running.part_ended() => Err(ServeError::Ended { part }),
        };
        process::tell_systemd("STOPPING=1");
        tracing::info!("coordinator stopping");
        tokio::select! {
            () = running.stop() => {}
            () = signals.next() => tracing::warn!("stopped at once by a second signal"),
        }
        ended
    });
    runtime.shutdown_timeout(Duration::from_millis(500));
    tracing::info!("coordinator stopped");
    served
}

/// The present time by the system's clock.
fn system_clock() -> Clock {
    Arc::new(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()) as UnixTime)
}

/// All parts, running.
struct Running {
    url: String,
    mqtt: String,
    stopping: watch::Sender<bool>,
    https: JoinHandle<()>,
    /// Tasks that can end at any moment without loss.
    errands: Vec<JoinHandle<()>>,
    link: Link,
    engine: Engine,
    broker: Option<Arc<Broker>>,
    home_assistant: Option<Bridge>,
}

impl Running {
    async fn start(config: &Config) -> Result<Self, ServeError> {
        let clock = system_clock();
        let ca = Ca::load(&config.keys.ca_key, &config.keys.ca)?;
        let certificate = certificate::server(config, &ca, clock())?;
        let metrics_token = tokens::metrics(config)?;
        let (core, live, reader) = open_database(config, &tokens::operator(config)?, &clock)?;
        let repository = Arc::new(Repository::open(repository_files(config), clock())?);
        let artifacts = Artifacts::open(&config.blobs(), config.limits.blob_bytes_max)?;

        let listener =
            Listener::bind(config.https.listen, ca.certificate(), certificate.clone(), config.limits.connections_max)
                .await?;
        let broker = start_broker(config, &ca, certificate, &reader)?;
        let (mqtt, link_address) = match (&config.mqtt, &broker) {
            (Mqtt::Embedded { advertise, .. }, Some(broker)) => {
                (with_port(advertise, broker.addr().port()), broker.link_address())
            }
            (Mqtt::Embedded { advertise: address, .. } | Mqtt::External { address }, _) => {
                (address.clone(), address.clone())
            }
        };
        let url = with_port(&config.https.url, listener.address().port());

        let (events, heard) = mpsc::channel(EVENTS_WAITING_MAX);
        let link = Link::spawn(link_settings(config, &ca, link_address)?, events);
        let engine = Engine::start(core, outlets(link.clone(), broker.clone()))?;
        debug_assert!(Arc::ptr_eq(&live, engine.live()), "the engine tells what its core knows");

        let targets = notify::open(config, &url)?;
        let (stopping, stop) = watch::channel(false);
        let mut errands = vec![
            tokio::spawn(hear(heard, engine.clone())),
            tokio::spawn(metadata::renew(repository.clone(), clock.clone())),
            tokio::spawn(rollouts::look(engine.clone())),
        ];
        errands.extend(notify::start(config, &targets, &engine, &clock)?);
        let home_assistant = home_assistant::start(config, &engine, &repository, &clock, &url)?;
        let parts = Parts {
            engine: engine.clone(),
            reader,
            artifacts,
            repository,
            ca,
            metrics_token,
            metrics: Metrics::new()?,
            broker: broker.as_ref().map(Arc::downgrade).unwrap_or_default(),
            database: config.database(),
            url: url.clone(),
            mqtt: mqtt.clone(),
            notify: targets,
            home_assistant: home_assistant.as_ref().map(Bridge::is_up),
            clock,
            stopping: stop.clone(),
            entrance: Entrance::new([&url].into_iter().chain(&config.https.public_urls).map(String::as_str)),
        };
        let https = tokio::spawn(listener.serve(api::router(&Arc::new(parts)), stop));
        Ok(Self { url, mqtt, stopping, https, errands, link, engine, broker, home_assistant })
    }

    fn write_ready(&self, path: PathBuf) -> Result<(), ServeError> {
        let line = serde_json::json!({ "https": self.url, "mqtt": self.mqtt }).to_string() + "\n";
        let path = std::path::absolute(&path).unwrap_or(path);
        crate::durable::replace(&path, line.as_bytes(), 0o644).map_err(|source| ServeError::Write { path, source })
    }

    /// Waits until a part has ended that should not.
    async fn part_ended(&self) -> &'static str {
        let broker_ended = async {
            let Some(broker) = &self.broker else { return std::future::pending().await };
            while broker.is_running() {
                tokio::time::sleep(BROKER_LOOK_EACH).await;
            }
        };
        tokio::select! {
            () = self.engine.ended() => "the engine",
            () = broker_ended => "the embedded broker",
        }
    }

    /// Lets nobody in any more, answers requests under way, stores what was heard, and ends the broker.
    async fn stop(self) {
        self.stopping.send_replace(true);
        let mut https = self.https;
        let (drained, ()) = tokio::join!(timeout(DRAIN_MAX, &mut https), home_assistant::stop(self.home_assistant));
        if drained.is_err() {
            tracing::warn!("some requests were still under way and are cut off");
            https.abort();
        }
        self.link.stop();
        self.errands.iter().for_each(JoinHandle::abort);
        let (engine, broker) = (self.engine, self.broker);
        let stop = move || {
            engine.stop();
            // The engine's thread held the other reference.
            if let Some(broker) = broker.and_then(Arc::into_inner) {
                broker.stop();
            }
        };
        if let Err(error) = tokio::task::spawn_blocking(stop).await {
            tracing::error!(reason = %error, "the engine did not stop as it should");
        }
    }
}

fn read(path: &Path) -> Result<String, ServeError> {
    std::fs::read_to_string(path).map_err(|source| ServeError::Read { path: path.to_owned(), source })
}

fn open_database(config: &Config, owner: &Digest, clock: &Clock) -> Result<(Core, Arc<Live>, Reader), ServeError> {
    let mut store = Store::open(&config.database())?;
    store.commit(|batch| batch.set_owner(owner, clock()))?;
    notify::name_targets(config, &mut store)?;
    let reader = Reader::open(&config.database())?;
    let live = Arc::new(Live::load(store.view())?);
    let core = Core::new(store, live.clone(), clock.clone(), config.limits.events_kept_max)?;
    let core = notify::told_by(config, core.keeping(config.limits.audit_kept));
    Ok((core, live, reader))
}

fn repository_files(config: &Config) -> RepositoryFiles {
    RepositoryFiles {
        metadata: config.metadata(),
        targets: config.targets(),
        snapshot_key: config.keys.snapshot_key.clone(),
        timestamp_key: config.keys.timestamp_key.clone(),
    }
}

fn start_broker(
    config: &Config,
    ca: &Ca,
    certificate: Arc<ServerCertificate>,
    reader: &Reader,
) -> Result<Option<Arc<Broker>>, ServeError> {
    let Mqtt::Embedded { listen, .. } = config.mqtt else { return Ok(None) };
    let broker = Broker::start(BrokerConfig {
        listen,
        ca: ca.certificate().clone(),
        certificate,
        revoked: reader.read(|view| view.revoked_nodes())?.into_iter().collect(),
        connections_max: broker::CONNECTIONS_MAX,
        handshake_max: broker::HANDSHAKE_MAX,
    })?;
    Ok(Some(Arc::new(broker)))
}

fn link_settings(config: &Config, ca: &Ca, broker: String) -> Result<LinkSettings, ServeError> {
    let (certificate, key) = (read(&config.keys.link)?, read(&config.keys.link_key)?);
    // Whom another broker believes is that broker's affair.
    if matches!(config.mqtt, Mqtt::Embedded { .. }) {
        ca.check_issued(&config.keys.link, &certificate)?;
    }
    Ok(LinkSettings {
        broker,
        tls: client_config(ca.certificate(), (&certificate, &key))?,
        keepalive: LINK_KEEPALIVE,
        backoff_max: LINK_BACKOFF_MAX,
    })
}

fn outlets(link: Link, broker: Option<Arc<Broker>>) -> Outlets {
    let publish = move |node: &NodeId, channel: Channel, payload: Vec<u8>| {
        if let Err(error) = link.publish(node, channel, payload) {
            tracing::error!(%node, reason = %error, "cannot tell a node");
        }
    };
    let cut_off = move |node: &NodeId| {
        if let Some(broker) = &broker {
            broker.revoke(node);
        }
    };
    Outlets { publish: Box::new(publish), cut_off: Box::new(cut_off) }
}

/// Carries what the link says to the engine, as fast as the engine takes it.
async fn hear(mut heard: mpsc::Receiver<LinkEvent>, engine: Engine) {
    while let Some(event) = heard.recv().await {
        if engine.hear(event).await.is_err() {
            return;
        }
    }
}

//! Puts the agent together and keeps it going until a signal.

mod roads;
mod who;

use std::fs::File;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};

use orangery_wire::messages::{AppReport, ReleaseRef, Reported, TrustReport, What};
use orangery_wire::{AppName, NodeId, ReleaseId, messages};

use crate::clock::Clock;
use crate::config::{OnStop, Settings};
use crate::control::{self, ControlError, StatusView};
use crate::disk::{Disk, RealDisk};
use crate::driver::{Driver, Event, World};
use crate::fetch::{FetchError, Http};
use crate::first_boot::FirstBootError;
use crate::identity::{self, Identity, IdentityError};
use crate::install::Installer;
use crate::layout::Layout;
use crate::link::{Link, LinkSettings};
use crate::notify::Notifier;
use crate::outbox::{Outbox, OutboxError};
use crate::record::{self, NodeState};
use crate::reserve::{Reserve, ReservedDisk, open_store};
use crate::road::RoadError;
use crate::runner::{self, RunnerSettings, Runners};
use crate::trusted::Trusted;

use who::{Who, settle_in};

/// Why the agent does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The state directory cannot be made.
    #[error("cannot make the state directory {path}; check `state_dir` in the settings and who may write there")]
    MakeState {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another agent has it.
    #[error("another agent uses {path}; one state directory belongs to one agent")]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// Not enrolled.
    #[error(
        "this node has not joined a coordinator; run `orangery-agent join TOKEN` with a token from `orangery node invite`"
    )]
    NotJoined,
    /// A board's first boot does not get through.
    #[error(transparent)]
    FirstBoot(#[from] FirstBootError),
    /// The node's key or certificate cannot be used.
    #[error("cannot use the node's identity in {path}")]
    ReadIdentity {
        /// Its directory.
        path: PathBuf,
        /// Why.
        source: IdentityError,
    },
    /// The coordinator's address is not one.
    #[error("cannot use the coordinator's address")]
    UseAddress(#[from] FetchError),
    /// The web server with releases cannot be used.
    #[error("cannot use `[repository]` in the settings")]
    UseRepository(#[source] RoadError),
    /// An agent on trial cannot read what the one before it wrote.
    #[error("this agent is on trial and does not know what is on this disk")]
    Records(#[source] record::RecordError),
    /// The outbox cannot be used.
    #[error("cannot use the outbox")]
    OpenOutbox(#[from] OutboxError),
    /// The control socket cannot be made.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The asynchronous runtime or the driver's thread cannot be started.
    #[error("cannot start")]
    Start(#[source] std::io::Error),
}

/// Runs the agent until SIGTERM or SIGINT.
pub fn run(settings: Settings) -> Result<(), RunError> {
    start_log(&settings);
    let layout = Layout::new(&settings.state_dir);
    make_state_directory(&layout)?;
    let _lock = lock(&layout)?;
    let reserve = Arc::new(Reserve::new(&layout, settings.fetch.reserve_bytes));
    let disk: Arc<dyn Disk> = Arc::new(ReservedDisk::new(RealDisk, reserve.clone()));
    if runner::own::on_trial() {
        // Before anything is written.
        record::ensure_readable(&*disk, &layout).map_err(RunError::Records)?;
    }
    let runtime = runtime().map_err(RunError::Start)?;
    let clock = Clock::new(record::load_node(&*disk, &layout).time_floor);
    let who = runtime.block_on(Who::find(&settings, &layout, &*disk, &clock))?;
    let node_state = begin_run(&*disk, &layout);
    runtime.block_on(serve(settings, layout, disk, reserve, who, node_state, clock))
}

async fn serve(
    settings: Settings,
    layout: Layout,
    disk: Arc<dyn Disk>,
    reserve: Arc<Reserve>,
    who: Who,
    node_state: NodeState,
    clock: Arc<Clock>,
) -> Result<(), RunError> {
    let (events, incoming) = mpsc::channel();
    let boot_id = boot_id();
    let tls = who.tls(&clock);
    let http = Http::new(who.url(), tls.clone())?;
    let outbox = open_outbox(&settings, &layout, who.node(), &boot_id, clock.clone(), reserve.clone())?;
    let trusted = Trusted::load(disk.clone(), layout.trust(), clock.clone());
    let board = board();
    let mirror = roads::mirror(&settings, &clock)?;
    // What is installed has no claim to the reserve.
    let plain = Arc::new(RealDisk);
    let installer = Installer::new(&settings, layout.clone(), plain, http, trusted, board.clone(), clock.clone())
        .with_reserve(reserve.clone(), disk.clone());
    let installer = Arc::new(match mirror {
        Some(mirror) => installer.preferring(mirror.into()),
        None => installer,
    });
    let (exits, mut exited) = tokio::sync::mpsc::unbounded_channel();
    let runners = Arc::new(Runners::new(layout.clone(), RunnerSettings::from(&settings.runner), exits));
    let link_settings = LinkSettings {
        keepalive: std::time::Duration::from_secs(settings.link.keepalive_secs),
        backoff_max: std::time::Duration::from_secs(settings.link.backoff_max_secs),
        slowest_reconnection: std::time::Duration::from_secs(node_state.reconnection_secs_max),
        ..LinkSettings::new(who.node().clone(), who.mqtt().to_owned(), tls, boot_id.clone())
    };
    let of_link = events.clone();
    let link = match who {
        Who::Joined(_) => Link::spawn(link_settings, Box::new(move |event| drop(of_link.send(Event::Link(event))))),
        Who::Newcomer { .. } => Link::to_nobody(link_settings),
    };
    // It is a name on the disk and needs room there.
    let socket = reserve.persisting(|| control::listen(&layout.socket()))?;
    let world = Arc::new(World {
        node: who.node().clone(),
        url: who.url().to_owned(),
        identity: who.identity().cloned(),
        board,
        boot_id,
        settings,
        layout,
        disk,
        clock,
        installer,
        reserve,
        runners: runners.clone(),
        runtime: tokio::runtime::Handle::current(),
        events: events.clone(),
        link: link.clone(),
        nudge: tokio::sync::Notify::new(),
        vitals: Arc::default(),
    });
    let driver = Driver::new(world.clone(), link.clone(), outbox, node_state);
    let thread = std::thread::Builder::new()
        .name("driver".to_owned())
        .spawn(move || driver.run(&incoming))
        .map_err(RunError::Start)?;
    tracing::info!(node = %world.node, version = env!("CARGO_PKG_VERSION"), "the agent runs");
    let notifier = Notifier::from_environment();
    let of_exits = events.clone();
    let tell_exits = async move {
        while let Some(exit) = exited.recv().await {
            let _ = of_exits.send(Event::Exit(exit));
        }
    };
    tokio::select! {
        () = signalled() => {}
        () = control::serve(socket, events.clone()) => {}
        () = tick(events.clone(), world.settings.health_interval()) => {}
        () = roads::refresh_now_and_then(&world) => {}
        () = settle_in(&world) => {}
        () = tell_exits => {}
        () = notifier.keep_telling(events.clone()) => {}
    }
    notifier.stopping();
    let _ = events.send(Event::Stop);
    let _ = tokio::task::spawn_blocking(move || thread.join()).await;
    if world.settings.runner.on_stop == OnStop::Stop && !runners.own().is_leaving() {
        runners.stop_all().await;
    }
    link.stop().await;
    let _ = std::fs::remove_file(world.layout.socket());
    Ok(())
}

fn open_outbox(
    settings: &Settings,
    layout: &Layout,
    node: &NodeId,
    boot_id: &str,
    clock: Arc<Clock>,
    reserve: Arc<Reserve>,
) -> Result<Outbox, RunError> {
    let opened = open_store(settings.store.engine, &layout.store(), reserve).map_err(OutboxError::from)?;
    let mut outbox =
        Outbox::open(opened.store, node.clone(), boot_id.to_owned(), clock, settings.store.outbox_bytes_max)?;
    if let Some(reason) = opened.rebuilt {
        tracing::error!(reason, "the store did not open; it was set aside and a new one made");
        outbox.push(&What::StoreRebuilt { reason: orangery_wire::limits::reason(reason) }, None)?;
    }
    Ok(outbox)
}

/// What the node remembers of itself, with this start counted: it makes the reports of this run newer than all before.
pub fn begin_run(disk: &dyn Disk, layout: &Layout) -> NodeState {
    let mut state = record::take_over(disk, layout);
    state.starts += 1;
    if let Err(error) = record::save_node(disk, layout, &state) {
        tracing::warn!(reason = %crate::errors::chain(&error), "cannot save the node's state; going on");
    }
    state
}

/// One thread runs everything but the driver; two more for slow system calls, which end when idle.
pub fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(2)
        .thread_keep_alive(std::time::Duration::from_secs(5))
        .build()
}

async fn tick(events: mpsc::Sender<Event>, interval: std::time::Duration) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // The first is due at once, and the link's own start has sent health already.
    ticks.tick().await;
    loop {
        ticks.tick().await;
        if events.send(Event::Tick).is_err() {
            return;
        }
    }
}

async fn signalled() {
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
        // Without them a signal ends the process, which is a stop like any power cut.
        _ => std::future::pending().await,
    }
}

fn start_log(settings: &Settings) {
    let level = settings.log_level().unwrap_or(tracing::Level::INFO);
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr()) && std::env::var_os("NO_COLOR").is_none();
    let log = tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).with_ansi(colours);
    // A second subscriber is refused; there is only ever one in this program.
    let _ = log.with_target(false).try_init();
}

/// Makes the state directory, for the agent's user alone to write.
pub fn make_state_directory(layout: &Layout) -> Result<(), RunError> {
    let make = |path: PathBuf, mode| {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(mode)
            .create(&path)
            .map_err(|source| RunError::MakeState { path, source })
    };
    // Apps' users must be able to pass through to their own trees; what is secret has 0700 of its own.
    make(layout.root().to_owned(), 0o755)?;
    make(layout.apps(), 0o755)?;
    make(layout.parts(), 0o700)
}

/// Takes the state directory for this process; the kernel gives it back when the process ends, however it ends.
pub fn lock(layout: &Layout) -> Result<File, RunError> {
    let path = layout.root().join("lock");
    let file = match File::options().create(true).append(true).open(&path) {
        // One that an earlier agent made can be locked all the same.
        Err(error) if error.kind() == std::io::ErrorKind::ReadOnlyFilesystem => File::open(&path),
        opened => opened,
    };
    let file = file.map_err(|source| RunError::MakeState { path: path.clone(), source })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(_) => Err(RunError::Locked { path: layout.root().to_owned() }),
    }
}

/// The kernel's name for this boot.
pub fn boot_id() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

/// The board's model, from its device tree.
fn board() -> Option<String> {
    let text = std::fs::read_to_string("/proc/device-tree/model").ok()?;
    let model = text.trim_matches(['\0', '\n', ' ']).to_owned();
    (!model.is_empty() && model.len() <= 128).then_some(model)
}

/// The host name, if it can be a node's name.
pub fn host_name() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let name: String = text.trim().split('.').next()?.to_lowercase();
    name.parse::<orangery_wire::NodeId>().ok().map(|name| name.to_string())
}

/// What `status` can say of an agent that does not run.
pub fn status_from_disk(layout: &Layout, settings: &Settings) -> Result<StatusView, RunError> {
    let disk = RealDisk;
    let identity = identity::load(&disk, layout)
        .map_err(|source| RunError::ReadIdentity { path: layout.identity(), source })?
        .ok_or(RunError::NotJoined)?;
    let node = record::load_node(&disk, layout);
    let clock = Clock::new(node.time_floor);
    let trust = Trusted::load(Arc::new(disk), layout.trust(), clock.clone()).report(clock.now());
    Ok(StatusView {
        running: false,
        connected: false,
        url: Some(identity.url.clone()),
        events_waiting: 0,
        clock: clock.state(),
        reported: reported_from_disk(layout, settings, &identity, &node, trust),
    })
}

fn reported_from_disk(
    layout: &Layout,
    settings: &Settings,
    identity: &Identity,
    node: &NodeState,
    trust: TrustReport,
) -> Reported {
    let apps = record::apps(&RealDisk, layout).into_iter().map(|app| app_from_disk(layout, app)).collect();
    Reported {
        format: messages::FORMAT,
        node: identity.node.clone(),
        boot_id: boot_id(),
        sequence: node.starts << 32,
        generation: node.generation,
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        platform: orangery_wire::manifest::this_platform(),
        board: board(),
        labels: settings.labels.clone(),
        trust,
        apps,
    }
}

fn app_from_disk(layout: &Layout, app: AppName) -> AppReport {
    let state = record::load_app(&RealDisk, layout, &app).state;
    let named = |id: Option<ReleaseId>| {
        let id = id?;
        Some(ReleaseRef { id, version: state.versions.get(&id)?.clone() })
    };
    AppReport {
        generation: state.record.generation,
        desired: named(state.record.desired),
        current: named(state.record.current),
        running: None,
        phase: state.record.phase_name(),
        refusal: state.record.refused.clone(),
        healthy: None,
        // Only an agent that runs looks.
        revoked: false,
        unwitnessed: state.unwitnessed,
        waits: None,
        app,
    }
}

/// What `history` can say of an agent that does not run.
pub fn history_from_disk(layout: &Layout, settings: &Settings, count: u32) -> Result<Vec<messages::Event>, RunError> {
    let identity = identity::load(&RealDisk, layout)
        .map_err(|source| RunError::ReadIdentity { path: layout.identity(), source })?
        .ok_or(RunError::NotJoined)?;
    let _lock = lock(layout)?;
    let reserve = Arc::new(Reserve::new(layout, settings.fetch.reserve_bytes));
    let outbox = open_outbox(settings, layout, &identity.node, &boot_id(), Clock::new(0), reserve);
    Ok(outbox?.history(usize::try_from(count).unwrap_or(usize::MAX))?)
}

//! What the deployment machine asks of the world, done. Each may be done any number of times.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use orangery_wire::limits::EVIDENCE_LINES_MAX;
use orangery_wire::messages::{Evidence, RefusalCode, ReleaseRef};
use orangery_wire::{AppName, Manifest, ReleaseId, Version};

use super::{Event, World, gate};
use crate::backoff;
use crate::control;
use crate::deployment::{self, Effect, Reason};
use crate::evidence::{self, Hidden};
use crate::install::{self, InstallFailure};
use crate::probe::{self, ProbeContext, Seen};
use crate::runner::{Launch, own};

/// How an effect ended.
pub struct Outcome {
    /// For the core.
    pub event: deployment::Event,
    /// Set when it will be tried again.
    pub retry: Option<Retry>,
    /// The release was proven without the coordinator.
    pub unwitnessed: bool,
    /// What was seen of a release that failed its trial.
    pub evidence: Option<Box<Evidence>>,
}

/// An attempt that failed and will be made again.
pub struct Retry {
    /// "fetch" or "restore".
    pub deed: &'static str,
    /// Why it failed.
    pub reason: String,
    /// The first failure in a row; only that one is reported as an event.
    pub first: bool,
}

impl From<deployment::Event> for Outcome {
    fn from(event: deployment::Event) -> Self {
        Self { event, retry: None, unwitnessed: false, evidence: None }
    }
}

/// Pause before the second attempt at anything; it doubles each time.
const PAUSE: Duration = Duration::from_secs(1);
/// Longest pause between attempts to run a release that is proven.
const RESTORE_PAUSE_MAX: Duration = Duration::from_mins(1);

/// Does what `effect` says. `gated`: the node was connected when the trial began, if there is one.
pub async fn perform(
    world: &World,
    app: &AppName,
    effect: Effect,
    versions: &BTreeMap<ReleaseId, Version>,
    gated: bool,
) -> Outcome {
    match effect {
        Effect::Wait => std::future::pending().await,
        Effect::Fetch { release, attempt } => fetch(world, app, release, attempt, versions.get(&release)).await,
        Effect::Run { release, trial, attempt } => run(world, app, release, trial, attempt).await,
        Effect::Probe { release } => prove(world, app, release, gated).await,
    }
}

async fn fetch(world: &World, app: &AppName, id: ReleaseId, attempt: u32, version: Option<&Version>) -> Outcome {
    world.pause(attempt, Duration::from_secs(world.settings.fetch.backoff_max_secs)).await;
    let Some(version) = version else {
        let text = "the node has forgotten the release's version; deploy it again".to_owned();
        return final_failure(Reason { code: RefusalCode::NotFound, text });
    };
    if own::is_agent(app)
        && let Some(text) = world.runners.own().unable().await
    {
        return final_failure(Reason { code: RefusalCode::Incompatible, text });
    }
    let want = ReleaseRef { id, version: version.clone() };
    match world.installer.install(app, &want).await {
        Ok(_) => deployment::Event::Fetched.into(),
        Err(InstallFailure::Refused(reason)) => final_failure(reason),
        Err(InstallFailure::Again(reason)) => Outcome {
            event: deployment::Event::FetchFailed { refusal: None },
            retry: Some(Retry { deed: "fetch", reason, first: attempt == 0 }),
            unwitnessed: false,
            evidence: None,
        },
    }
}

fn final_failure(reason: Reason) -> Outcome {
    deployment::Event::FetchFailed { refusal: Some(reason) }.into()
}

async fn run(world: &World, app: &AppName, release: Option<ReleaseId>, trial: bool, attempt: u32) -> Outcome {
    world.pause(attempt, RESTORE_PAUSE_MAX).await;
    let mut ran = make_run(world, app, release, trial).await;
    // A full disk must not keep a proven release from running: it needs its log and its unit.
    while ran.is_err() && !trial && world.reserve.relieve() {
        ran = make_run(world, app, release, trial).await;
    }
    match ran {
        Ok(()) => deployment::Event::Ran.into(),
        Err(reason) if trial => {
            let event = |reason| deployment::Event::RunFailed { reason };
            world.failed(app, release, Seen::default(), reason, event).await
        }
        Err(reason) => Outcome {
            event: deployment::Event::RunFailed { reason: reason.clone() },
            retry: Some(Retry { deed: "restore", reason, first: attempt == 0 }),
            unwitnessed: false,
            evidence: None,
        },
    }
}

async fn make_run(world: &World, app: &AppName, release: Option<ReleaseId>, trial: bool) -> Result<(), String> {
    let Some(release) = release else { return world.runners.run(app, None).await };
    world.runners.run(app, Some(world.launch(app, release, trial)?)).await?;
    // Heals a cut between the commit's save and its end: proven releases start at boot.
    if trial { Ok(()) } else { world.runners.commit(app, release).await }
}

async fn prove(world: &World, app: &AppName, release: ReleaseId, gated: bool) -> Outcome {
    let launch = match world.launch(app, release, true) {
        Ok(launch) => launch,
        Err(reason) => return deployment::Event::Unhealthy { reason }.into(),
    };
    let mut seen = Seen::default();
    let gate = gate::pass(world, app, &launch.manifest.gate, gated);
    let context = world.probe_context(app, &launch);
    let proof = probe::prove_and(&launch.manifest, &context, &mut seen, gate);
    let proven = if own::is_agent(app) { of_itself(world, &launch, proof).await } else { proof.await };
    match proven {
        Ok(Ok(unwitnessed)) => Outcome { unwitnessed, ..deployment::Event::Healthy.into() },
        Ok(Err(reason)) => {
            world.failed(app, Some(release), seen, reason, |reason| deployment::Event::Disconnected { reason }).await
        }
        Err(reason) => {
            world.failed(app, Some(release), seen, reason, |reason| deployment::Event::Unhealthy { reason }).await
        }
    }
}

/// The agent's proof of itself: besides what its manifest asks for somebody on this node must get an answer, and all of it
/// must be done before systemd takes it back.
async fn of_itself<T>(
    world: &World,
    launch: &Launch,
    proof: impl Future<Output = Result<T, String>>,
) -> Result<T, String> {
    let socket = world.layout.socket();
    let asked = tokio::task::spawn_blocking(move || control::ask(&socket, &control::Request::Status));
    match asked.await {
        Ok(Ok(control::Reply::Status(_))) => {}
        Ok(Err(error)) => return Err(format!("nobody can ask it anything: {}", crate::errors::chain(&error))),
        Ok(Ok(_)) | Err(_) => return Err("it does not answer on its socket".to_owned()),
    }
    let limit = own::proof_time(launch);
    let proven = tokio::time::timeout(limit, proof).await;
    proven.unwrap_or_else(|_| Err(format!("it did not prove itself within {} s", limit.as_secs())))
}

/// Asks the probes of a committed release for as long as it is not called off.
pub async fn watch(world: &Arc<World>, app: &AppName, release: ReleaseId) {
    let Ok(launch) = world.launch(app, release, false) else { return };
    let context = world.probe_context(app, &launch);
    let (events, name) = (world.events.clone(), app.clone());
    let watched = world.vitals.watch(app, release, context.life.borrow().exits);
    let tell = move |healthy, reason| {
        let _ = events.send(Event::AppHealth { app: name.clone(), release, healthy, reason });
    };
    probe::watch(&launch.manifest, &context, tell, |took| watched.answered(took)).await;
}

impl World {
    /// A trial failed: keeps what was seen of it, while that is still to be had.
    async fn failed(
        &self,
        app: &AppName,
        release: Option<ReleaseId>,
        seen: Seen,
        reason: String,
        event: impl FnOnce(String) -> deployment::Event,
    ) -> Outcome {
        let exit = self.runners.life(app).borrow().exit.clone();
        let output = self.runners.last_output(app, EVIDENCE_LINES_MAX).await;
        let hidden = self.hidden(app, release);
        let evidence = evidence::of(exit, seen.into_probes(), &output, &hidden);
        let evidence = (!evidence.is_empty()).then(|| Box::new(evidence));
        Outcome { evidence, ..event(hidden.hide(&reason)).into() }
    }

    /// What must not be shown of the app's environment.
    pub(super) fn hidden(&self, app: &AppName, release: Option<ReleaseId>) -> Hidden {
        let manifest = release.and_then(|release| install::sealed(&*self.disk, &self.layout, app, &release));
        let of_release = manifest.map(|manifest| manifest.run.env).unwrap_or_default();
        Hidden::of([&of_release, &self.settings.variables(app)])
    }

    /// Waits before another attempt; not at all before the first. A connection that comes up ends the wait.
    async fn pause(&self, attempt: u32, longest: Duration) {
        if attempt > 0 {
            let delay = backoff::delay(attempt, PAUSE, longest, backoff::random());
            // Whichever is first; both mean "go on".
            let _ = tokio::time::timeout(delay, self.nudge.notified()).await;
        }
    }

    fn launch(&self, app: &AppName, release: ReleaseId, trial: bool) -> Result<Launch, String> {
        let mut manifest = install::sealed(&*self.disk, &self.layout, app, &release)
            .ok_or_else(|| format!("release {} is not on this node's disk", release.short()))?;
        if own::is_agent(app) {
            // What takes an agent back must know how long it may take.
            manifest.gate.connectivity_secs =
                Some(gate::budget(&manifest.gate, self.link.slowest_reconnection()).as_secs());
        }
        let data = self.layout.data(app);
        std::fs::create_dir_all(&data)
            .map_err(|e| format!("cannot make the app's directory {}: {e}", data.display()))?;
        Ok(Launch {
            app: app.clone(),
            release,
            version: manifest.version.clone(),
            variables: self.variables(app, release, &manifest),
            tree: self.layout.tree(app, &release),
            data,
            manifest: Arc::new(manifest),
            trial,
        })
    }

    /// The release's variables, the node's own above them, and what the agent adds.
    fn variables(&self, app: &AppName, release: ReleaseId, manifest: &Manifest) -> BTreeMap<String, String> {
        let mut variables = manifest.run.env.clone();
        variables.extend(self.settings.variables(app));
        variables.extend([
            ("ORANGERY_APP".to_owned(), app.to_string()),
            ("ORANGERY_VERSION".to_owned(), manifest.version.to_string()),
            ("ORANGERY_RELEASE".to_owned(), release.to_string()),
            ("ORANGERY_NODE".to_owned(), self.node.to_string()),
            ("ORANGERY_DATA".to_owned(), self.layout.data(app).display().to_string()),
        ]);
        variables
    }

    fn probe_context(&self, app: &AppName, launch: &Launch) -> ProbeContext {
        ProbeContext::new(launch, self.runners.life(app))
    }
}

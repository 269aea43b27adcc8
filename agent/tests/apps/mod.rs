//! Apps for tests: shell scripts in a release's tree, and eyes to see what becomes of them.

#![allow(dead_code, reason = "each test program uses its own part of this")]
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use orangery_agent::launch::Launch;
use orangery_agent::layout::Layout;
use orangery_agent::runner::Preference;
use orangery_agent::runner::{Exit, RunnerSettings, Runners};
use orangery_wire::manifest::{self, Manifest, Restart, Run, Runner, StopSignal};
use orangery_wire::{AppName, Digest, ReleaseId};
use tokio::sync::mpsc::UnboundedReceiver;

/// How long anything may take before a test gives up on it.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub fn app() -> AppName {
    "greeter".parse().unwrap()
}

pub fn release(n: u8) -> ReleaseId {
    ReleaseId(Digest([n; 32]))
}

/// A manifest whose program is `bin/app` of the tree.
pub fn manifest(n: u8) -> Manifest {
    Manifest {
        format: manifest::FORMAT,
        app: app(),
        version: format!("{n}.0.0").parse().unwrap(),
        notes: None,
        source: None,
        constraints: manifest::Constraints::default(),
        run: Run {
            runner: Runner::Any,
            exec: vec!["bin/app".into()],
            env: BTreeMap::new(),
            sockets: vec![],
            restart: Restart { restarts_max: 2, uptime_min_secs: 60, backoff_ms: 10, backoff_max_ms: 20 },
            stop_signal: StopSignal::Term,
            stop_grace_secs: 10,
            memory_bytes_max: None,
            cpu_percent_max: None,
            sandbox: true,
        },
        probes: vec![],
        soak_secs: 0,
        gate: orangery_wire::manifest::Gate::default(),
        platforms: BTreeMap::new(),
    }
}

/// Release number `n` on the disk, with `script` as its program.
pub fn launch(layout: &Layout, n: u8, script: &str, change: impl FnOnce(&mut Run)) -> Launch {
    let (tree, data) = (layout.tree(&app(), &release(n)), layout.data(&app()));
    fs::create_dir_all(tree.join("bin")).unwrap();
    let program = tree.join("bin/app");
    if !program.exists() {
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o555)).unwrap();
    }
    let mut manifest = manifest(n);
    change(&mut manifest.run);
    let own = [
        ("ORANGERY_APP", app().to_string()),
        ("ORANGERY_RELEASE", release(n).to_string()),
        ("ORANGERY_VERSION", manifest.version.to_string()),
        ("ORANGERY_DATA", data.display().to_string()),
    ];
    let mut variables = manifest.run.env.clone();
    variables.extend(own.map(|(name, value)| (name.to_owned(), value)));
    let version = manifest.version.clone();
    Launch {
        app: app(),
        release: release(n),
        version,
        manifest: Arc::new(manifest),
        tree,
        data,
        variables,
        trial: true,
    }
}

pub struct World {
    pub layout: Layout,
    pub runners: Runners,
    pub exits: UnboundedReceiver<Exit>,
}

impl World {
    pub fn new(root: &Path, default: Preference) -> Self {
        let layout = Layout::new(root);
        let (tell, exits) = tokio::sync::mpsc::unbounded_channel();
        let launcher = env!("CARGO_BIN_EXE_orangery-agent").into();
        let settings = RunnerSettings { default, launcher, ..RunnerSettings::default() };
        Self { runners: Runners::new(layout.clone(), settings, tell), layout, exits }
    }

    pub async fn run(&self, launch: Launch) {
        self.runners.run(&app(), Some(launch)).await.unwrap();
    }

    /// The next exit that is told.
    pub async fn exit(&mut self) -> Exit {
        tokio::time::timeout(PATIENCE, self.exits.recv()).await.expect("no exit was told").unwrap()
    }

    /// What the app wrote to the file `name` in its directory, once there is a whole line.
    pub async fn said(&self, name: &str) -> String {
        let path = self.layout.data(&app()).join(name);
        eventually(&format!("the app wrote {name}"), || {
            fs::read_to_string(&path).ok().filter(|text| text.ends_with('\n')).map(|text| text.trim().to_owned())
        })
        .await
    }

    /// As [`Self::said`], a number; the file is removed so that the next one is a new one.
    pub async fn number(&self, name: &str) -> i32 {
        let number = self.said(name).await.parse().unwrap();
        fs::remove_file(self.layout.data(&app()).join(name)).unwrap();
        number
    }

    pub fn output(&self) -> String {
        fs::read_to_string(self.layout.logs(&app()).join("out.log")).unwrap_or_default()
    }
}

/// Asks again and again until there is an answer.
pub async fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Whether a process of this number runs; one that only waits to be asked how it ended does not.
pub fn runs(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

//! `orangery serve` as a process.

use std::fs::{self, OpenOptions};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// A coordinator that ends when this is dropped.
pub struct Coordinator(Child);

impl Coordinator {
    /// Starts `serve`, which was told of no ready file yet, and waits until it is reachable. The file and its log are in `directory`.
    pub fn start(mut serve: Command, directory: &Path) -> Self {
        let (ready, log) = (directory.join("ready.json"), directory.join("serve.log"));
        drop(fs::remove_file(&ready));
        let file = OpenOptions::new().create(true).append(true).open(&log).unwrap();
        let mut child = serve.arg("--ready-file").arg(&ready).stderr(file).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        while !ready.exists() {
            let log = || fs::read_to_string(&log).unwrap_or_default();
            assert!(child.try_wait().unwrap().is_none(), "the coordinator ended: {}", log());
            assert!(Instant::now() < deadline, "the coordinator is not ready: {}", log());
            std::thread::sleep(Duration::from_millis(10));
        }
        Self(child)
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

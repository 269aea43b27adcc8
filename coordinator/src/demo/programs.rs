//! The programs that the demo runs besides itself. They lie beside it; under `cargo run` they are built first, in the same
//! profile, so that they are never older than the demo.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, ensure};
use tokio::process::Command;

const AGENT: &str = "orangery-agent";
const GREETER: &str = "orangery-greeter";

/// Where the programs are.
#[derive(Debug, Clone)]
pub struct Programs {
    /// `orangery` itself.
    pub orangery: PathBuf,
    /// `orangery-agent`.
    pub agent: PathBuf,
    /// `orangery-greeter`.
    pub greeter: PathBuf,
}

impl Programs {
    /// Finds them beside this program, and builds them first if cargo runs us.
    pub async fn find() -> anyhow::Result<Self> {
        let orangery = std::env::current_exe().context("cannot find the path of this program")?;
        let (cargo, package) = (std::env::var_os("CARGO"), std::env::var_os("CARGO_MANIFEST_DIR"));
        if let (Some(cargo), Some(package)) = (cargo, package) {
            build(Path::new(&cargo), Path::new(&package), &orangery).await?;
        }
        let beside = |name: &str| -> anyhow::Result<PathBuf> {
            let path = orangery.with_file_name(name);
            ensure!(
                path.is_file(),
                "the demo needs {}; build it with `cargo build --bin {AGENT} --bin {GREETER}`, or install it there",
                path.display()
            );
            Ok(path)
        };
        Ok(Self { agent: beside(AGENT)?, greeter: beside(GREETER)?, orangery })
    }
}

async fn build(cargo: &Path, package: &Path, own: &Path) -> anyhow::Result<()> {
    let mut command = Command::new(cargo);
    // The whole workspace is selected, as `cargo run --bin orangery` does: with the same features nothing is built twice.
    command.args(["build", "--workspace", "--bin", AGENT, "--bin", GREETER]);
    command.args(same_place(own)).current_dir(package).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        // What `cargo run` says of this package would look like a change to build scripts that watch it.
        let name = name.to_string_lossy().into_owned();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_BIN_"].iter().any(|of| name.starts_with(of)) {
            command.env_remove(name);
        }
    }
    let status = command.status().await.with_context(|| format!("cannot run {}", cargo.display()))?;
    ensure!(status.success(), "cargo could not build {AGENT} and {GREETER}");
    Ok(())
}

/// The options by which cargo puts programs beside `own`, which is `TARGET/[TRIPLE/]PROFILE/orangery`.
fn same_place(own: &Path) -> Vec<String> {
    let name = |path: Option<&Path>| path.and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    let directory = own.parent();
    let profile = match name(directory).as_deref() {
        None | Some("debug") => "dev".to_owned(),
        Some(other) => other.to_owned(),
    };
    let mut options = vec!["--profile".to_owned(), profile];
    let (below, above) = (directory.and_then(Path::parent), own.ancestors().nth(3));
    // Cargo notes the compiler's version at the top of its target directory.
    let is_top = |path: &Path| path.join(".rustc_info.json").exists();
    let top = below.filter(|path| is_top(path)).or_else(|| {
        options.extend(name(below).map(|triple| format!("--target={triple}")));
        above
    });
    options.extend(top.map(|top| format!("--target-dir={}", top.display())));
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_built_where_this_one_is() {
        let directory = tempfile::tempdir().unwrap();
        let top = directory.path();
        std::fs::write(top.join(".rustc_info.json"), "{}").unwrap();
        let target = format!("--target-dir={}", top.display());
        assert_eq!(same_place(&top.join("debug/orangery")), ["--profile", "dev", &target]);
        assert_eq!(same_place(&top.join("release/orangery")), ["--profile", "release", &target]);
        let crossed = same_place(&top.join("aarch64-unknown-linux-gnu/dist/orangery"));
        assert_eq!(crossed, ["--profile", "dist", "--target=aarch64-unknown-linux-gnu", &target]);
    }
}

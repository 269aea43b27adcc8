//! The app that the demo deploys: its releases, and what it answers.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use orangery_wire::AppName;
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The manifest file of every release.
const RECIPE: &str = include_str!("../../greeter/greeter.toml");
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);
const ANSWER_BYTES_MAX: u64 = 16 * 1024;

/// The app's name.
pub fn app() -> anyhow::Result<AppName> {
    Ok("greeter".parse()?)
}

/// A release to be built.
pub struct Files {
    /// The directory with the platform's files.
    pub tree: PathBuf,
    /// The manifest file.
    pub recipe: PathBuf,
    /// Where the release file goes.
    pub bundle: PathBuf,
}

/// Lays out the files of one release below `directory`: the program, and a `greeter.conf` that makes the difference.
pub fn lay_out(directory: &Path, program: &Path, version: &str, health_status: u16) -> anyhow::Result<Files> {
    let files = Files {
        tree: directory.join("tree"),
        recipe: directory.join("greeter.toml"),
        bundle: directory.join("greeter.orangery"),
    };
    fs::create_dir_all(&files.tree)?;
    fs::write(&files.recipe, RECIPE)?;
    fs::copy(program, files.tree.join("greeter")).with_context(|| format!("cannot copy {}", program.display()))?;
    let text = format!("version = {version}\nmessage = Hello from {version}\nhealth_status = {health_status}\n");
    fs::write(files.tree.join("greeter.conf"), text)?;
    Ok(files)
}

#[derive(Deserialize)]
struct Greeting {
    version: String,
}

/// Asks the app on `port` of this machine for its version: `GET /`.
pub async fn version_on(port: u16) -> anyhow::Result<String> {
    let asked = timeout(ANSWER_TIME_MAX, get(port)).await;
    let answer = asked.context("no answer in time")?.context("no answer")?;
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer is not HTTP")?;
    if !head.starts_with("HTTP/1.1 200") {
        bail!("the answer is {:?}", head.lines().next().unwrap_or_default());
    }
    let greeting: Greeting = serde_json::from_str(body).context("the answer is not a greeting")?;
    Ok(greeting.version)
}

async fn get(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer).await?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::recipe::Recipe;

    #[test]
    fn the_demos_app_has_a_good_name_and_a_good_manifest_file() {
        assert_eq!(app().unwrap().as_str(), "greeter");
        Recipe::parse(RECIPE).unwrap();
    }
}

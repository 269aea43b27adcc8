//! The `git` command, as it is run for a repository: it may ask nobody anything, wait for ever, or answer without end.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::output;

/// Longest time for an answer out of the repository alone.
const HERE_TIME_MAX: Duration = Duration::from_mins(1);
/// Longest answer that is taken unless something else is said: the list of all files of a directory.
const ANSWER_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// So much of what it says about a failure is kept, in bytes and in characters of the text that is shown.
const SAID_BYTES_MAX: u64 = 8 * 1024;
const SAID_CHARS_MAX: usize = 400;

/// Why git has no answer.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// It cannot be started.
    #[error("cannot run `git`, which must be installed to read commits")]
    Start {
        /// Why not.
        source: io::Error,
    },
    /// It was ended, for it took too long.
    #[error("`git {deed}` was not done after {secs} s, and was ended")]
    Slow {
        /// The subcommand.
        deed: String,
        /// The longest time.
        secs: u64,
    },
    /// It was ended, for its answer was too long.
    #[error("`git {deed}` answers with more than {bytes_max} bytes, and was ended")]
    Long {
        /// The subcommand.
        deed: String,
        /// The most bytes.
        bytes_max: u64,
    },
    /// It says no.
    #[error("`git {deed}` failed: {said}")]
    Failed {
        /// The subcommand.
        deed: String,
        /// What it said.
        said: String,
    },
    /// Its answer is not what this program knows.
    #[error("`git {deed}` answers what this program does not understand")]
    Answer {
        /// The subcommand.
        deed: String,
    },
}

/// A repository, by any directory in it.
#[derive(Debug, Clone)]
pub struct Git {
    directory: PathBuf,
}

/// What one run of git is.
struct Run<'a> {
    /// Settings that count for this run alone, as `name=value`.
    settings: &'a [String],
    words: &'a [&'a str],
    /// Its standard input.
    given: &'a [u8],
    bytes_max: u64,
    time_max: Duration,
}

impl Git {
    /// The repository that `directory` is in, or is.
    pub fn at(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// An answer of one line.
    pub async fn line(&self, words: &[&str]) -> Result<String, GitError> {
        self.line_with(&[], words).await
    }

    /// An answer of one line, with settings that count for this run alone.
    pub async fn line_with(&self, settings: &[String], words: &[&str]) -> Result<String, GitError> {
        let run = Run { settings, words, given: b"", bytes_max: 64 * 1024, time_max: HERE_TIME_MAX };
        let answer = self.run(&run).await?;
        let text = String::from_utf8_lossy(&answer);
        Ok(text.strip_suffix('\n').unwrap_or(&text).to_owned())
    }

    /// Whatever it answers.
    pub async fn bytes(&self, words: &[&str]) -> Result<Vec<u8>, GitError> {
        self.run(&Run { settings: &[], words, given: b"", bytes_max: ANSWER_BYTES_MAX, time_max: HERE_TIME_MAX }).await
    }

    /// Whatever it answers to what it is given, which has at most `bytes_max` bytes.
    pub async fn exchange(&self, words: &[&str], given: &[u8], bytes_max: u64) -> Result<Vec<u8>, GitError> {
        self.run(&Run { settings: &[], words, given, bytes_max, time_max: HERE_TIME_MAX }).await
    }

    /// Asks another machine, for at most `time_max`. By TLS, SSH or a file system, and by nothing else.
    pub async fn fetch(&self, words: &[&str], time_max: Duration) -> Result<(), GitError> {
        // A line that is up and carries nothing is not waited for.
        let settings = ["http.lowSpeedLimit=500", "http.lowSpeedTime=60", "gc.autoDetach=false"].map(str::to_owned);
        let run = Run { settings: &settings, words, given: b"", bytes_max: SAID_BYTES_MAX, time_max };
        self.run(&run).await.map(drop)
    }

    fn command(&self, run: &Run<'_>) -> Command {
        let mut git = Command::new("git");
        git.arg("-C").arg(&self.directory);
        // Programs that the repository's own settings name are not run.
        git.args(["-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"]);
        run.settings.iter().for_each(|setting| {
            git.args(["-c", setting]);
        });
        git.args(run.words).envs([
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_ASKPASS", ""),
            ("SSH_ASKPASS_REQUIRE", "never"),
            ("GIT_OPTIONAL_LOCKS", "0"),
            ("GIT_NO_REPLACE_OBJECTS", "1"),
            ("GIT_ALLOW_PROTOCOL", "file:https:ssh"),
            ("LC_ALL", "C"),
        ]);
        // Where git runs as somebody's hook, these would lead it to another repository.
        for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"] {
            git.env_remove(name);
        }
        if std::env::var_os("GIT_SSH_COMMAND").is_none() {
            git.env("GIT_SSH_COMMAND", "ssh -o BatchMode=yes -o ConnectTimeout=20 -o ServerAliveInterval=20");
        }
        git.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
        git
    }

    async fn run(&self, run: &Run<'_>) -> Result<Vec<u8>, GitError> {
        let deed = run.words.first().copied().unwrap_or_default().to_owned();
        let mut child = self.command(run).spawn().map_err(|source| GitError::Start { source })?;
        let group = Group::of(&child);
        let Ok(talked) = timeout(run.time_max, talk(&mut child, run)).await else {
            return Err(GitError::Slow { deed, secs: run.time_max.as_secs() });
        };
        let Talked { answer, said, is_fine } = talked.map_err(|source| GitError::Start { source })?;
        if answer.len() as u64 > run.bytes_max {
            return Err(GitError::Long { deed, bytes_max: run.bytes_max });
        }
        group.ended();
        if is_fine { Ok(answer) } else { Err(GitError::Failed { deed, said: shown(&said) }) }
    }
}

struct Talked {
    answer: Vec<u8>,
    said: Vec<u8>,
    is_fine: bool,
}

/// Gives it its input, and reads its answer up to one byte more than it may have.
async fn talk(child: &mut Child, run: &Run<'_>) -> io::Result<Talked> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let give = async {
        if let Some(mut stdin) = stdin {
            // One that does not want it says why by how it ends.
            drop(stdin.write_all(run.given).await);
        }
    };
    let ((), answer, said) = tokio::join!(give, limited(stdout, run.bytes_max + 1), async {
        // What is beyond that is read and forgotten, so that it does not wait for us.
        let mut stderr = stderr;
        let said = limited(stderr.as_mut(), SAID_BYTES_MAX).await;
        if let Some(rest) = &mut stderr {
            drop(tokio::io::copy(rest, &mut tokio::io::sink()).await);
        }
        said
    });
    let (answer, said) = (answer?, said?);
    // It waits for somebody to read the rest, and nobody will.
    if answer.len() as u64 > run.bytes_max {
        return Ok(Talked { answer, said, is_fine: false });
    }
    let is_fine = child.wait().await?.success();
    Ok(Talked { answer, said, is_fine })
}

async fn limited(source: Option<impl AsyncRead + Unpin>, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(source) = source {
        source.take(bytes_max).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

/// What it said, on one line.
fn shown(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let line: String = output::clean(&lines.join("; ")).chars().take(SAID_CHARS_MAX).collect();
    if line.is_empty() { "it does not say why".to_owned() } else { line }
}

/// The process group of a git that runs, with the ssh and other programs that it has started. They are ended with it.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw))
    }

    /// It has ended by itself: the number may be somebody else's by now.
    fn ended(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // Nobody of it may be left already.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

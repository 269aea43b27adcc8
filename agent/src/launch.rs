//! What is to run, and what is known of it while it runs. Runners and probes meet here and nowhere else.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use orangery_wire::manifest::{UnknownVariable, expand};
use orangery_wire::{AppName, Digest, Manifest, ReleaseId, SocketName, Version};

/// Where programs are looked up, unless the release or the node says otherwise. Nothing else of the agent's own
/// environment reaches an app.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Of some output, so much is for people.
const LAST_LINES: usize = 5;
const LINE_CHARS_MAX: usize = 160;

/// A release that is to run on this node.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The app.
    pub app: AppName,
    /// The release.
    pub release: ReleaseId,
    /// Its version.
    pub version: Version,
    /// Its manifest.
    pub manifest: Arc<Manifest>,
    /// The directory of its files.
    pub tree: PathBuf,
    /// The app's own directory; it is the working directory.
    pub data: PathBuf,
    /// Every variable that the manifest's texts may name; the app has them as its environment.
    pub variables: BTreeMap<String, String>,
    /// Whether it is on trial: then nothing durable may start it at boot.
    pub trial: bool,
}

/// A socket that is held for an app, with every variable replaced.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listen {
    /// What the app knows it by.
    pub name: SocketName,
    /// Where it listens.
    pub address: SocketAddr,
}

/// A command with every variable replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Words {
    /// The program, an absolute path.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
}

impl Words {
    /// Replaces the variables in `words`. A first word that is no absolute path is a path in `tree`.
    pub fn new(words: &[String], tree: &Path, variables: &BTreeMap<String, String>) -> Result<Self, UnknownVariable> {
        let all = environment(tree, variables);
        let mut words = words.iter().map(|word| expand(word, &all));
        let program = words.next().transpose()?.unwrap_or_default();
        Ok(Self { program: tree.join(program), arguments: words.collect::<Result<_, _>>()? })
    }
}

/// The whole environment of an app or of a probe's command: `variables`, `ORANGERY_TREE`, and `PATH` unless it is given.
pub fn environment(tree: &Path, variables: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut all = BTreeMap::from([("PATH".to_owned(), PATH.to_owned())]);
    all.extend(variables.clone());
    all.insert("ORANGERY_TREE".to_owned(), tree.display().to_string());
    all
}

impl Launch {
    /// The command that starts the app.
    pub fn words(&self) -> Result<Words, UnknownVariable> {
        Words::new(&self.manifest.run.exec, &self.tree, &self.variables)
    }

    /// The app's environment.
    pub fn environment(&self) -> BTreeMap<String, String> {
        environment(&self.tree, &self.variables)
    }

    /// The sockets that are held for it, no two for one address.
    pub fn sockets(&self) -> Result<Vec<Listen>, String> {
        let mut all: Vec<Listen> = Vec::new();
        for socket in &self.manifest.run.sockets {
            let address = socket.address(&self.variables).map_err(|unusable| unusable.to_string())?;
            if let Some(other) = all.iter().find(|other| other.address == address) {
                return Err(format!(
                    "the sockets {} and {} are to listen on one address, {address}",
                    other.name, socket.name
                ));
            }
            all.push(Listen { name: socket.name.clone(), address });
        }
        Ok(all)
    }

    /// Tells two launches apart that would make different processes, even of one release: the node's settings count too.
    /// The tree does not: the same files are reached through the release's own path and through the `current` link.
    pub fn digest(&self) -> Digest {
        let mut context = ring::digest::Context::new(&ring::digest::SHA256);
        let variables = self.variables.iter().flat_map(|(name, value)| [name, value]);
        let sockets = self.manifest.run.sockets.iter().flat_map(|socket| [socket.name.as_str(), &socket.listen]);
        let texts = self.manifest.run.exec.iter().chain(variables).map(String::as_str).chain(sockets);
        for text in texts {
            // No text has a NUL in it.
            context.update(text.as_bytes());
            context.update(b"\0");
        }
        let mut bytes = [0; 32];
        bytes.copy_from_slice(context.finish().as_ref());
        Digest(bytes)
    }
}

/// Why a program was not started, with what to do about it.
pub fn not_started(program: &Path, error: &io::Error) -> String {
    const ENOEXEC: i32 = 8;
    let hint = match error.kind() {
        io::ErrorKind::NotFound if program.exists() => {
            "; it is there, but its interpreter or loader is not: build it for this system's C library, or statically"
        }
        io::ErrorKind::NotFound => "; there is no such file on this node",
        io::ErrorKind::PermissionDenied => "; check that it is executable and its file system not mounted noexec",
        _ if error.raw_os_error() == Some(ENOEXEC) => {
            "; it is no program for this machine: build it for the node's platform, or begin a script with #!"
        }
        _ => "",
    };
    format!("cannot start {}: {error}{hint}", program.display())
}

/// The last lines of some output, fit for a reason: at most five of 160 characters, printable, joined by " | ".
pub fn last_lines(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines = text.lines().map(printable).filter(|line| !line.is_empty());
    let mut last: Vec<String> = lines.rev().collect();
    // An app that is started again says the same again.
    last.dedup();
    last.truncate(LAST_LINES);
    last.reverse();
    last.join(" | ")
}

fn printable(line: &str) -> String {
    let shown = line.trim().chars().map(|c| if c.is_control() { ' ' } else { c });
    shown.take(LINE_CHARS_MAX).collect()
}

/// What is known of an app's run. A runner writes it, everyone may watch it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Life {
    /// The release that runs at this moment; `None` also between an exit and the restart.
    pub release: Option<ReleaseId>,
    /// How often it exited by itself since it was told to run.
    pub exits: u32,
    /// How it did the last time.
    pub exit: Option<String>,
    /// Why it counts as failed: on trial it exited more often than its restart policy allows and is not started again.
    pub failed: Option<String>,
}

impl Life {
    /// It exited by itself, in the way that `how` says.
    pub fn exited(&mut self, how: &str) {
        self.exits = self.exits.saturating_add(1);
        self.exit = Some(how.to_owned());
    }
}

/// The end of [`Life`] that is read.
pub type LifeWatch = tokio::sync::watch::Receiver<Life>;

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn words(words: &[&str], pairs: &[(&str, &str)]) -> Result<Words, UnknownVariable> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        Words::new(&words, Path::new("/tree"), &variables(pairs))
    }

    #[test]
    fn a_relative_program_is_in_the_tree_and_an_absolute_one_is_the_nodes_own() {
        assert_eq!(words(&["bin/a"], &[]).unwrap().program, Path::new("/tree/bin/a"));
        assert_eq!(words(&["/bin/sh"], &[]).unwrap().program, Path::new("/bin/sh"));
    }

    #[test]
    fn arguments_name_variables_and_the_tree() {
        let words = words(&["a", "--port=${PORT}", "${ORANGERY_TREE}/b", "$PORT"], &[("PORT", "80 ${X}")]).unwrap();
        assert_eq!(words.arguments, ["--port=80 ${X}", "/tree/b", "$PORT"]);
    }

    #[test]
    fn output_is_cut_to_a_few_short_lines() {
        let text = "dropped\nkept 1\nkept 2\nkept 2\n\nkept 3\nkept 4\n\nkept 4\nkept 5\n";
        assert_eq!(last_lines(text.as_bytes()), "kept 1 | kept 2 | kept 3 | kept 4 | kept 5");
        assert_eq!(last_lines(&vec![b'y'; 100_000]).len(), LINE_CHARS_MAX);
    }

    #[test]
    fn a_variable_that_nobody_defined_is_named() {
        assert_eq!(words(&["a", "${NO}"], &[]).unwrap_err().name, "NO");
    }

    #[test]
    fn the_environment_has_a_path_but_the_releases_own_goes_first() {
        assert_eq!(environment(Path::new("/tree"), &variables(&[]))["PATH"], PATH);
        assert_eq!(environment(Path::new("/tree"), &variables(&[("PATH", "/opt")]))["PATH"], "/opt");
    }
}

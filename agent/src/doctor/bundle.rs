//! A support bundle: one text file for whoever helps, without anything secret in it.
//!
//! Only what is named here goes in. Keys, certificates and tokens are never read. Settings are shown by their keys, with the
//! values of `env` left out; wherever the value of an app's variable stands in any other text, its name is put. Output of
//! apps is the owner's own and goes in only when asked for.

use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use orangery_wire::AppName;

use super::{Finding, Node, output, read};
use crate::config::DEFAULT_PATH;
use crate::disk::RealDisk;
use crate::evidence::Hidden;
use crate::{install, record};

/// Most bytes of a bundle.
const BYTES_MAX: usize = 1 << 20;
/// Most bytes of one section.
const SECTION_BYTES_MAX: usize = 96 << 10;
/// Where an app's own words begin in a reason.
const OUTPUT: &str = "last output: ";

/// What only the caller can say.
pub struct Told {
    /// The settings that were asked for, if any.
    pub config: Option<PathBuf>,
    /// Of this agent: `status`, `why` and `history`, in JSON or as text.
    pub sections: Vec<(&'static str, String)>,
    /// Whether output of apps is wanted.
    pub with_app_logs: bool,
}

/// Writes a bundle to `file`, which must not be there yet and is for its owner alone to read. Returns its size in bytes.
pub fn write(file: &Path, node: &Node, findings: &[Finding], told: &Told) -> std::io::Result<usize> {
    let text = compose(node, findings, told);
    let mut open = std::fs::OpenOptions::new();
    let mut out = open.write(true).create_new(true).mode(0o600).open(file)?;
    out.write_all(text.as_bytes())?;
    out.sync_all()?;
    Ok(text.len())
}

fn compose(node: &Node, findings: &[Finding], told: &Told) -> String {
    let mut bundle = Bundle { text: String::new(), hidden: hidden(node), with_app_logs: told.with_app_logs };
    let version = env!("CARGO_PKG_VERSION");
    bundle.section("about", &format!("orangery-agent {version}, {}\n", crate::clock::utc(node.clock.now())));
    bundle.section("doctor", &super::shown(findings));
    for (name, text) in &told.sections {
        bundle.section(name, text);
    }
    bundle.section("settings", &settings(told.config.as_deref().unwrap_or(Path::new(DEFAULT_PATH))));
    bundle.file(&node.layout.node_state());
    bundle.file(&node.layout.identity().join("coordinator.json"));
    bundle.section("trust", &listing(&node.layout.trust()));
    bundle.section("store", &listing(&node.layout.store()));
    for app in record::apps(&RealDisk, &node.layout) {
        bundle.app(node, &app);
    }
    bundle.section(
        "units",
        &output("systemctl", &["list-units", "--all", "--no-pager", "orangery-*"]).unwrap_or_default(),
    );
    let journal = ["--unit", super::units::UNIT, "--lines=200", "--output=short-iso", "--no-pager", "--quiet"];
    bundle.section("log of the agent", &output("journalctl", &journal).unwrap_or_default());
    for path in
        ["/etc/os-release", "/proc/version", "/proc/device-tree/model", "/proc/uptime", "/proc/meminfo", "/proc/mounts"]
    {
        bundle.section(path, &read(path).unwrap_or_default());
    }
    bundle.end()
}

struct Bundle {
    text: String,
    hidden: Hidden,
    with_app_logs: bool,
}

impl Bundle {
    fn section(&mut self, name: &str, text: &str) {
        if text.trim().is_empty() {
            return;
        }
        let text = self.hidden.hide(text);
        let _ = writeln!(self.text, "==== {name}");
        for line in text.lines().scan(0, |bytes, line| {
            *bytes += line.len() + 1;
            (*bytes <= SECTION_BYTES_MAX).then_some(line)
        }) {
            let line: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            let _ = writeln!(self.text, "{}", if self.with_app_logs { line.as_str() } else { without_output(&line) });
        }
        self.text.push('\n');
    }

    fn file(&mut self, path: &Path) {
        self.section(&path.display().to_string(), &read(path).unwrap_or_default());
    }

    fn app(&mut self, node: &Node, app: &AppName) {
        let record = node.layout.record(app);
        self.file(&record);
        self.section(&format!("releases of {app}"), &listing(&node.layout.releases(app)));
        if self.with_app_logs {
            self.file(&node.layout.refused(app));
            let log = read(node.layout.logs(app).join("out.log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().rev().take(200).collect();
            let lines: Vec<&str> = lines.into_iter().rev().collect();
            self.section(&format!("log of {app}"), &lines.join("\n"));
        }
    }

    fn end(mut self) -> String {
        let mut end = self.text.len().min(BYTES_MAX);
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        self.text.truncate(end);
        self.text
    }
}

/// The values of every variable of every app, of the node's settings and of the releases that are here.
fn hidden(node: &Node) -> Hidden {
    let mut all: Vec<_> = node.settings.apps.values().map(|app| app.env.clone()).collect();
    for app in record::apps(&RealDisk, &node.layout) {
        let state = record::load_app(&RealDisk, &node.layout, &app).state;
        let manifests = state.named().into_iter().filter_map(|id| install::sealed(&RealDisk, &node.layout, &app, &id));
        all.extend(manifests.map(|manifest| manifest.run.env));
    }
    Hidden::of(&all)
}

/// The settings as they are written, less what may be secret: comments, values of `env`, and who logs in to a web server.
fn settings(main: &Path) -> String {
    let mut files = vec![main.to_owned()];
    let beside = std::fs::read_dir(main.with_extension("d")).into_iter().flatten().flatten().map(|entry| entry.path());
    files.extend(beside.filter(|path| path.extension().is_some_and(|end| end == "toml")));
    let mut text = String::new();
    for file in files {
        let Some(written) = read(&file) else { continue };
        let _ = writeln!(text, "{}:", file.display());
        match written.parse::<toml::Table>() {
            Ok(mut table) => {
                redact(&mut table);
                let _ = writeln!(text, "{}", serde_json::to_string_pretty(&table).unwrap_or_default());
            }
            Err(_) => text.push_str("it is not valid TOML, so nobody knows what in it is secret\n"),
        }
    }
    text
}

fn redact(table: &mut toml::Table) {
    for (key, value) in table {
        match value {
            toml::Value::Table(inside) if key == "env" => {
                inside.iter_mut().for_each(|(_, value)| *value = toml::Value::String("(not shown)".to_owned()));
            }
            toml::Value::Table(inside) => redact(inside),
            toml::Value::String(text) => {
                if let Some((scheme, rest)) = text.split_once("://")
                    && let Some((_, host)) = rest.split_once('@')
                {
                    *text = format!("{scheme}://(not shown)@{host}");
                }
            }
            _ => {}
        }
    }
}

/// Names and sizes.
fn listing(directory: &Path) -> String {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let line = |entry: std::fs::DirEntry| {
        let bytes = entry.metadata().map_or(0, |about| about.len());
        format!("{bytes:>10}  {}", entry.file_name().display())
    };
    let mut lines: Vec<String> = entries.map(line).collect();
    lines.sort();
    lines.join("\n")
}

/// A reason may end with an app's own words.
fn without_output(line: &str) -> &str {
    line.find(OUTPUT).and_then(|at| line.get(..at + OUTPUT.len())).unwrap_or(line)
}

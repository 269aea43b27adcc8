//! `orangery-agent doctor`

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use super::{Failure, show};
use crate::doctor::{self, Level, Node, bundle};

/// What is wanted besides the findings.
#[derive(Debug, Default)]
pub struct Wanted {
    /// Where a support bundle is to be written.
    pub bundle: Option<PathBuf>,
    /// Whether output of apps is to be in it.
    pub with_app_logs: bool,
}

/// Looks at everything, shows it, and writes a bundle if one is wanted.
pub fn doctor(config: Option<&Path>, wanted: &Wanted, json: bool) -> Result<ExitCode, Failure> {
    let node = Arc::new(Node::look(config));
    let findings = doctor::examine(&node);
    if json {
        println!("{}", serde_json::to_string_pretty(&findings)?);
    } else {
        print!("{}", doctor::shown(&findings));
    }
    if let Some(file) = &wanted.bundle {
        let told = told(config, wanted.with_app_logs);
        let bytes = bundle::write(file, &node, &findings, &told)
            .map_err(|error| format!("cannot write the bundle {}: {error}", file.display()))?;
        eprintln!(
            "{} has {bytes} bytes. Keys, tokens and values of variables are not in it; read it before you send it.",
            file.display()
        );
    }
    let needs_person = findings.iter().any(|finding| finding.level >= Level::Warning);
    Ok(if needs_person { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What other commands say. Those that fail are left out: the findings say why.
fn told(config: Option<&Path>, with_app_logs: bool) -> bundle::Told {
    let mut sections = Vec::new();
    let events = super::events(config, 200).unwrap_or_default();
    if let (Ok(view), Ok(layout)) = (super::view(config), super::layout(config)) {
        sections.push(("status", serde_json::to_string_pretty(&view).unwrap_or_default()));
        let mut why = super::why::answer(&view, &layout, &events);
        if !with_app_logs {
            why.lines.iter_mut().for_each(|line| line.evidence = None);
        }
        sections.push(("why", super::why::shown(&why)));
    }
    let history: Vec<String> = events.iter().map(show::event).collect();
    sections.push(("history", history.join("\n")));
    bundle::Told { config: config.map(Path::to_owned), sections, with_app_logs }
}

//! The agent's command line. Exit codes: 0 done, 1 error, 2 the command line is not understood; `install` has more.

mod complete;
mod doctor;
mod follow;
mod help;
mod install;
mod metrics;
mod parse;
mod show;
mod why;

use std::path::Path;
use std::process::ExitCode;

use orangery_wire::messages::{Event, What};
use orangery_wire::{AppName, NodeId};

use crate::clock::Clock;
use crate::config::Settings;
use crate::control::{self, Reply, Request};
use crate::disk::RealDisk;
use crate::layout::Layout;
use crate::runner::launcher;
use crate::{check, errors, identity, record, run};
use parse::{Command, Invocation};

/// What went wrong, told once on standard error.
type Failure = Box<dyn std::error::Error>;

/// Runs the program.
pub fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    if words.next().is_some_and(|word| word == launcher::WORD) {
        return launcher::become_app(words);
    }
    let invocation = match parse::parse(std::env::args_os()) {
        Ok(invocation) => invocation,
        Err(error) => {
            eprintln!("orangery-agent: {error}\nTry 'orangery-agent --help'.");
            return ExitCode::from(2);
        }
    };
    match perform(invocation) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("orangery-agent: {}", errors::chain(&*error));
            ExitCode::FAILURE
        }
    }
}

fn perform(invocation: Invocation) -> Result<ExitCode, Failure> {
    let config = invocation.config.as_deref();
    let json = invocation.json;
    match invocation.command {
        Command::Help(text) => {
            print!("{text}");
            Ok(ExitCode::SUCCESS)
        }
        Command::Version => {
            println!("orangery-agent {}", env!("CARGO_PKG_VERSION"));
            Ok(ExitCode::SUCCESS)
        }
        Command::Completions { shell } => {
            print!("{}", complete::script(shell));
            Ok(ExitCode::SUCCESS)
        }
        Command::Run => run::run(Settings::load(config)?).map(|()| ExitCode::SUCCESS).map_err(Into::into),
        Command::Join { token, name } => join(config, &token, name.as_ref()),
        Command::Status => status(config, json),
        Command::Why { app } => why::why(config, app.as_ref(), json),
        Command::History { count } => history(config, count, json),
        Command::Metrics { out } => metrics::metrics(&view(config)?, out.as_deref()),
        Command::Doctor(wanted) => doctor::doctor(config, &wanted, json),
        Command::Check { state } => check_state(config, state.as_deref(), json),
        Command::Rollback { app } => rollback(config, app),
        Command::Install { release, place } => install::install(&layout(config)?, release, place, json),
    }
}

fn join(config: Option<&Path>, token: &str, name: Option<&NodeId>) -> Result<ExitCode, Failure> {
    let settings = Settings::load(config)?;
    let text = if token == "-" { std::io::read_to_string(std::io::stdin().lock())? } else { token.to_owned() };
    let token = text.parse()?;
    let (disk, layout) = (RealDisk, Layout::new(&settings.state_dir));
    run::make_state_directory(&layout)?;
    let _lock = run::lock(&layout)?;
    let clock = Clock::new(record::load_node(&disk, &layout).time_floor);
    let host = run::host_name();
    let wish = name.map(NodeId::as_str).or(host.as_deref());
    let joined = run::runtime()?.block_on(identity::join(&disk, &layout, &token, wish, &clock))?;
    println!("This node is {} and belongs to {}.", joined.node, joined.url);
    println!("Next: start it with `orangery-agent run{}`.", config_hint(config));
    Ok(ExitCode::SUCCESS)
}

fn config_hint(config: Option<&Path>) -> String {
    config.map(|path| format!(" --config {}", path.display())).unwrap_or_default()
}

fn status(config: Option<&Path>, json: bool) -> Result<ExitCode, Failure> {
    let view = view(config)?;
    if json {
        println!("{}", serde_json::to_string_pretty(&view)?);
    } else {
        print!("{}", show::status(&view));
    }
    Ok(ExitCode::SUCCESS)
}

/// The node as the agent sees it, or as its disk tells when it does not run.
fn view(config: Option<&Path>) -> Result<control::StatusView, Failure> {
    let layout = layout(config)?;
    match control::ask(&layout.socket(), &Request::Status) {
        Ok(Reply::Status(view)) => Ok(*view),
        Ok(other) => Err(unexpected(&other)),
        Err(control::ControlError::NotRunning { .. }) => Ok(run::status_from_disk(&layout, &Settings::load(config)?)?),
        Err(error) => Err(error.into()),
    }
}

/// The last `count` events, from the agent or from its disk.
fn events(config: Option<&Path>, count: u32) -> Result<Vec<Event>, Failure> {
    let layout = layout(config)?;
    match control::ask(&layout.socket(), &Request::History { count }) {
        Ok(Reply::History(events)) => Ok(events),
        Ok(other) => Err(unexpected(&other)),
        Err(control::ControlError::NotRunning { .. }) => {
            Ok(run::history_from_disk(&layout, &Settings::load(config)?, count)?)
        }
        Err(error) => Err(error.into()),
    }
}

fn history(config: Option<&Path>, count: u32, json: bool) -> Result<ExitCode, Failure> {
    let events = events(config, count)?;
    for event in &events {
        if json {
            println!("{}", serde_json::to_string(event)?);
        } else {
            println!("{}", show::event(event));
            if let What::Refused { evidence: Some(evidence), .. } = &event.what {
                evidence.lines().iter().for_each(|seen| println!("            {seen}"));
            }
        }
    }
    if events.is_empty() && !json {
        println!("Nothing has happened on this node yet.");
    }
    Ok(ExitCode::SUCCESS)
}

fn check_state(config: Option<&Path>, state: Option<&Path>, json: bool) -> Result<ExitCode, Failure> {
    let layout = match state {
        Some(state) => Layout::new(state),
        None => layout(config)?,
    };
    if !layout.root().is_dir() {
        return Err(format!(
            "cannot check {}: there is no such directory; name the agent's state directory with --state",
            layout.root().display()
        )
        .into());
    }
    let violations = check::check(&RealDisk, &layout);
    if json {
        println!("{}", serde_json::to_string_pretty(&violations)?);
    } else if violations.is_empty() {
        println!("{}: every invariant holds.", layout.root().display());
    } else {
        for violation in &violations {
            println!("{violation}");
        }
    }
    Ok(if violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn rollback(config: Option<&Path>, app: AppName) -> Result<ExitCode, Failure> {
    match control::ask(&layout(config)?.socket(), &Request::Rollback { app })? {
        Reply::Done(text) => {
            println!("{text}");
            Ok(ExitCode::SUCCESS)
        }
        other => Err(unexpected(&other)),
    }
}

fn layout(config: Option<&Path>) -> Result<Layout, Failure> {
    Ok(Layout::new(&Settings::load(config)?.state_dir))
}

fn unexpected(reply: &Reply) -> Failure {
    match reply {
        Reply::Refused(reason) => reason.clone().into(),
        _ => "the agent that runs is of another version; restart it".into(),
    }
}

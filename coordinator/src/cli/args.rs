//! What can be written on the command line, and nothing of what it does.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use orangery_wire::{AppName, NodeId, Version};

use super::audit::AuditArgs;
use super::backup::{BackupArgs, RestoreArgs};
use super::broker::BrokerCommand;
use super::completions::CompletionsArgs;
use super::directory::{ApplyArgs, ExportArgs, PlanArgs};
use super::doctor::DoctorArgs;
use super::events::{EventsArgs, HistoryArgs};
use super::group::GroupCommand;
use super::image::ImageCommand;
use super::init::InitArgs;
use super::keys::KeysCommand;
use super::logs::LogsArgs;
use super::node::HoldArgs;
use super::notify::NotifyCommand;
use super::repo::{BundleArgs, RepoCommand};
use super::rollout::args::RolloutCommand;
use super::user::UserCommand;
use super::why::WhyArgs;
pub(super) use crate::span::parse as parse_duration;

/// Over-the-air deployment for fleets of ARM boards: signed releases reach nodes, bad ones go back.
///
/// Exit codes: 0 done, 1 error, 2 changes pending.
#[derive(Debug, Parser)]
#[command(name = "orangery", version, max_term_width = 100)]
pub struct Cli {
    /// Directory that `orangery init` makes [default: $ORANGERY_DIR, else ~/.config/orangery]
    #[arg(long, global = true, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Log more on standard error; twice for still more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// File with the passphrase of the owner's keys; without it $ORANGERY_PASSPHRASE is the passphrase, else the terminal is asked
    #[arg(long, global = true, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make the owner's keys and trust root, and the coordinator's settings, CA and online keys
    Init(InitArgs),
    /// Run the coordinator
    Serve(ServeArgs),
    /// Invite, list, hold and revoke nodes
    #[command(subcommand)]
    Node(NodeCommand),
    /// Show and change whose keys count
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Build, sign, publish and verify releases
    #[command(subcommand)]
    Release(ReleaseCommand),
    /// Copy releases into one file, for nodes that no network reaches
    Bundle(BundleArgs),
    /// Copy all that nodes fetch, for a static web server or a USB stick
    #[command(subcommand)]
    Repo(RepoCommand),
    /// Make images of nodes out of stock images of boards
    #[command(subcommand)]
    Image(ImageCommand),
    /// Bring a release to nodes: show the plan, ask, apply it, follow it
    Deploy(DeployArgs),
    /// Bring a release to nodes in waves that stop by themselves when it is bad
    #[command(subcommand)]
    Rollout(RolloutCommand),
    /// Say when rollouts may tell the nodes of a group something: maintenance windows
    #[command(subcommand)]
    Group(GroupCommand),
    /// Write what is running as a directory of text files: the desired fleet
    Export(ExportArgs),
    /// Show what would be done so that the fleet is as a directory says
    Plan(PlanArgs),
    /// Do what `orangery plan` shows
    Apply(ApplyArgs),
    /// Show what every node runs
    Status(StatusArgs),
    /// Show what happened on the nodes
    Events(EventsArgs),
    /// List what happened on one node, with what was seen of each release that it refused
    History(HistoryArgs),
    /// Show what an app wrote last on a node: the node is asked now
    Logs(LogsArgs),
    /// Say why each app of a node is where it is
    Why(WhyArgs),
    /// Say what is wrong with the coordinator and the fleet, why it matters and what to do: exit code 1 if a person should act
    Doctor(DoctorArgs),
    /// Show what was done, by whom and from where, and check that nobody has changed that
    Audit(AuditArgs),
    /// Say who may use the coordinator, and give them tokens and passwords
    #[command(subcommand)]
    User(UserCommand),
    /// Show who is told what happens, and try whether they can be told
    #[command(subcommand)]
    Notify(NotifyCommand),
    /// Copy all that the coordinator must not lose into one file, while it runs or not; on its machine
    Backup(BackupArgs),
    /// Set the coordinator up from a backup, where there is none
    Restore(RestoreArgs),
    /// Prepare an MQTT broker other than the embedded one
    #[command(subcommand)]
    Broker(BrokerCommand),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
    /// Show all of it on this machine: a coordinator, three nodes, good and bad releases
    Demo(DemoArgs),
}

/// `orangery serve`
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// The coordinator's settings [default: coordinator/coordinator.toml in --dir]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Write the addresses into this file, as one line of JSON, once connections are accepted
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
}

/// `orangery node`
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Print one invite token, by which a board becomes a node
    Invite {
        /// The node's name [default: the board's host name]
        #[arg(long)]
        name: Option<NodeId>,
        /// How long the token can be used, such as 30m, 1h or 7d
        #[arg(long, default_value = "1h", value_parser = parse_duration)]
        expires: Duration,
        /// How many boards may use it
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
        uses: u32,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List all nodes
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show one node
    Show {
        /// The node
        node: NodeId,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Keep a node as it is: it is told nothing new until it is released
    Hold(HoldArgs),
    /// End a hold
    Release {
        /// The node
        node: NodeId,
        /// The app that was held [default: the hold of all apps]
        #[arg(long)]
        app: Option<AppName>,
    },
    /// Revoke a node's certificate and cut its connections
    Revoke {
        /// The node
        node: NodeId,
    },
}

/// `orangery release`
#[derive(Debug, Subcommand)]
pub enum ReleaseCommand {
    /// Build a release file from one directory for each platform
    Build(BuildArgs),
    /// Sign a release file with the owner's key
    Sign {
        /// The release file
        file: PathBuf,
        /// The oldest version of the app that nodes may be given from now on
        #[arg(long, value_name = "VERSION")]
        floor: Option<Version>,
    },
    /// Upload a signed release file
    Push {
        /// The release file
        file: PathBuf,
    },
    /// Build, sign and push
    Publish {
        /// What to build
        #[command(flatten)]
        build: BuildArgs,
        /// The oldest version of the app that nodes may be given from now on
        #[arg(long, value_name = "VERSION")]
        floor: Option<Version>,
    },
    /// Take a release back for good: nodes that do not have it refuse it, those that run it go on and say so
    Revoke {
        /// The release, as APP@VERSION
        #[arg(value_name = "APP@VERSION")]
        release: ReleaseName,
    },
    /// List what was published
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show one published release
    Show {
        /// The release, as APP@VERSION
        #[arg(value_name = "APP@VERSION")]
        release: ReleaseName,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Check a release file without any network: signature, digests, every file
    Verify {
        /// The release file
        file: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// `orangery release build` and `publish`
#[derive(Debug, Args)]
pub struct BuildArgs {
    /// The app
    #[arg(long)]
    pub app: AppName,
    /// The version (semver.org)
    #[arg(long)]
    pub version: Version,
    /// A platform and the directory with its files; repeat it for further platforms
    #[arg(long = "platform", value_name = "OS/ARCH=DIR", required = true)]
    pub platforms: Vec<Platform>,
    /// The manifest file: how the app runs and how one knows that it is well
    #[arg(long, value_name = "FILE.toml")]
    pub manifest: PathBuf,
    /// The release file to write [default: APP-VERSION.orangery; `publish` keeps none]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Zstandard's level, 1 to 22; 0 stores files as they are
    #[arg(long, default_value_t = crate::release::build::LEVEL, value_parser = clap::value_parser!(i32).range(0..=22))]
    pub level: i32,
}

/// `orangery deploy`
#[derive(Debug, Args)]
pub struct DeployArgs {
    /// The release, as APP@VERSION
    #[arg(value_name = "APP@VERSION")]
    pub release: ReleaseName,
    /// Which nodes: a name, a label as NAME=VALUE, or all
    #[arg(long, value_name = "NODE|LABEL=VALUE|all")]
    pub to: Selector,
    /// Apply the plan without asking
    #[arg(short, long)]
    pub yes: bool,
    /// Why, for the audit log
    #[arg(long)]
    pub note: Option<String>,
    /// Return as soon as the nodes are told, without following them
    #[arg(long)]
    pub detach: bool,
    /// Longest time to follow, such as 90s or 10m
    #[arg(long, default_value = "10m", value_parser = parse_duration)]
    pub timeout: Duration,
    /// Print JSON: the plan, then an event on each line
    #[arg(long)]
    pub json: bool,
}

/// `orangery status`
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Go on showing it until Ctrl-C
    #[arg(long)]
    pub watch: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `orangery demo`
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// End after the last step, with exit code 0 if every node reports what it should
    #[arg(long)]
    pub once: bool,
    /// Leave the directory with all keys, settings, state and logs behind
    #[arg(long)]
    pub keep: bool,
}

/// A release as people write it: `greeter@1.2.0`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseName {
    /// The app.
    pub app: AppName,
    /// The version.
    pub version: Version,
}

impl FromStr for ReleaseName {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('@').ok_or("write it as APP@VERSION, such as greeter@1.2.0")?;
        let app = parts.0.parse().map_err(|e: orangery_wire::ids::InvalidId| e.to_string())?;
        let version = parts.1.parse().map_err(|e: orangery_wire::ids::InvalidId| e.to_string())?;
        Ok(Self { app, version })
    }
}

impl std::fmt::Display for ReleaseName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.app, self.version)
    }
}

/// Which nodes are meant: a text that the coordinator understands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector(pub String);

impl FromStr for Selector {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let good = text.contains('=') || text.parse::<NodeId>().is_ok();
        good.then(|| Self(text.to_owned())).ok_or_else(|| "use a node's name, NAME=VALUE, or all".to_owned())
    }
}

/// A platform and its directory: `linux/arm64=DIR`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    /// The platform.
    pub name: String,
    /// The directory.
    pub directory: PathBuf,
}

impl FromStr for Platform {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, directory)) if orangery_wire::manifest::is_platform(name) && !directory.is_empty() => {
                Ok(Self { name: name.to_owned(), directory: directory.into() })
            }
            _ => Err("write it as OS/ARCH=DIR, such as linux/arm64=build/arm64".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_and_a_platform_read_as_people_write_them() {
        assert_eq!("greeter@1.2.0".parse::<ReleaseName>().map(|name| name.to_string()), Ok("greeter@1.2.0".into()));
        for wrong in ["greeter", "greeter@", "@1.0.0", "greeter@1.0", "Greeter@1.0.0"] {
            assert!(wrong.parse::<ReleaseName>().is_err(), "{wrong}");
        }
        assert!("linux/arm64=a=b".parse::<Platform>().is_ok_and(|p| p.directory.as_os_str() == "a=b"));
        for wrong in ["linux/arm64", "arm64=x", "linux/arm64="] {
            assert!(wrong.parse::<Platform>().is_err(), "{wrong}");
        }
    }
}

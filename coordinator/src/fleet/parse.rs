//! From texts to a fleet: each file by itself, then what they say of one another.

use std::collections::BTreeMap;

use orangery_wire::limits::REASON_BYTES_MAX;
use orangery_wire::rest::WINDOWS_MAX;
use orangery_wire::{AppName, NodeId, Version};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::files::{
    AppFile, ChannelsFile, Choice, FleetFile, GroupFile, HoldFile, NodeFile, PoliciesFile, PolicyFile, Wish,
};
use super::{Files, Problems};
use crate::nearest::{nearest, suggestion};
use crate::windows::Schedule;

/// The format of directories that this program knows.
pub const FORMAT: u32 = 1;
/// The policy of apps that name none.
pub const DEFAULT_POLICY: &str = "default";
/// Room in a hold's reason for what is added when it is set.
pub const REASON_MAX: usize = REASON_BYTES_MAX - 128;

const TOP: [&str; 6] = ["fleet.toml", "channels.toml", "rollouts.toml", "apps", "groups", "nodes"];

/// What a directory says. Every name in it leads to something that it has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Desired {
    /// `fleet.toml`
    pub fleet: FleetFile,
    /// `channels.toml`
    pub channels: BTreeMap<String, BTreeMap<AppName, Version>>,
    /// `rollouts.toml`
    pub policies: BTreeMap<String, PolicyFile>,
    /// `apps/*.toml`
    pub apps: BTreeMap<AppName, AppFile>,
    /// `groups/*.toml`
    pub groups: BTreeMap<String, GroupFile>,
    /// `nodes/*.toml`
    pub nodes: BTreeMap<NodeId, NodeFile>,
}

impl Desired {
    /// Understands a directory, or says all that is wrong with it.
    pub fn parse(files: &Files) -> Result<Self, Problems> {
        let (mut desired, mut problems) = (Self::default(), Problems::default());
        for (path, text) in files {
            if let Err(problem) = desired.take(path, text) {
                problems.add(problem);
            }
        }
        if problems.0.is_empty() {
            desired.check(&mut problems);
        }
        problems.none_or(desired)
    }

    fn take(&mut self, path: &str, text: &str) -> Result<(), String> {
        let named = |directory: &str| path.strip_prefix(directory)?.strip_prefix('/')?.strip_suffix(".toml");
        if path == "fleet.toml" {
            self.fleet = read(path, text)?;
        } else if path == "channels.toml" {
            self.channels = read::<ChannelsFile>(path, text)?.0;
        } else if path == "rollouts.toml" {
            self.policies = read::<PoliciesFile>(path, text)?.0;
        } else if let Some(app) = named("apps") {
            self.apps.insert(app.parse::<AppName>().map_err(|e| misnamed(path, &e))?, read(path, text)?);
        } else if let Some(node) = named("nodes") {
            self.nodes.insert(node.parse::<NodeId>().map_err(|e| misnamed(path, &e))?, read(path, text)?);
        } else if let Some(group) = named("groups") {
            check_name(group, "group").map_err(|rule| format!("{path}: {rule}"))?;
            self.groups.insert(group.to_owned(), read(path, text)?);
        } else {
            return Err(stray(path));
        }
        Ok(())
    }

    /// What the files say of one another.
    fn check(&self, problems: &mut Problems) {
        if let Some(format) = self.fleet.format.filter(|format| *format != FORMAT) {
            problems
                .add(format!("fleet.toml: its format is {format}, and this program knows {FORMAT}: update orangery"));
        }
        for (channel, apps) in &self.channels {
            check_name(channel, "channel").unwrap_or_else(|rule| problems.add(format!("channels.toml: {rule}")));
            for app in apps.keys() {
                self.check_app(app, "channels.toml", problems);
            }
        }
        for name in self.policies.keys() {
            check_name(name, "policy").unwrap_or_else(|rule| problems.add(format!("rollouts.toml: {rule}")));
        }
        for (app, says) in &self.apps {
            self.check_app_file(app, says, problems);
        }
        for (group, says) in &self.groups {
            if says.members().is_nobody() {
                problems.add(format!(
                    "groups/{group}.toml says of no node that it belongs to it: write `nodes` or `labels`"
                ));
            }
            if says.windows.len() > WINDOWS_MAX {
                problems.add(format!("groups/{group}.toml: a group has at most {WINDOWS_MAX} windows"));
            }
            if let Err(rule) = Schedule::new(&says.windows) {
                problems.add(format!("groups/{group}.toml: {rule}"));
            }
        }
        for (node, says) in &self.nodes {
            self.check_node_file(node, says, problems);
        }
    }

    fn check_app_file(&self, app: &AppName, says: &AppFile, problems: &mut Problems) {
        let path = format!("apps/{app}.toml");
        if let Some(policy) = says.rollout.as_ref().filter(|policy| !self.policies.contains_key(*policy)) {
            let meant = meant(policy, self.policies.keys().map(String::as_str));
            problems.add(format!("{path}: rollouts.toml has no policy {policy:?}{meant}"));
        }
        if let Some(wish) = &says.default {
            self.check_wish(app, wish, &format!("{path}: [default]"), problems);
        }
        for (group, wish) in &says.groups {
            if !self.groups.contains_key(group) {
                let meant = meant(group, self.groups.keys().map(String::as_str));
                problems.add(format!("{path}: there is no groups/{group}.toml{meant}"));
            }
            self.check_wish(app, wish, &format!("{path}: [groups.{group}]"), problems);
        }
    }

    fn check_node_file(&self, node: &NodeId, says: &NodeFile, problems: &mut Problems) {
        let path = format!("nodes/{node}.toml");
        for (app, on_node) in &says.apps {
            self.check_app(app, &path, problems);
            match on_node.wish() {
                Some(wish) => self.check_wish(app, &wish, &format!("{path}: [apps.{app}]"), problems),
                None if on_node.hold.is_none() => {
                    problems.add(format!(
                        "{path}: [apps.{app}] says nothing: write `version`, `channel`, `stop` or `hold`"
                    ));
                }
                None => {}
            }
        }
        for (_, hold) in says.holds() {
            check_hold(hold).unwrap_or_else(|rule| problems.add(format!("{path}: {rule}")));
        }
    }

    fn check_app(&self, app: &AppName, path: &str, problems: &mut Problems) {
        if !self.apps.contains_key(app) {
            let meant = meant(app.as_str(), self.apps.keys().map(AppName::as_str));
            problems.add(format!("{path}: there is no apps/{app}.toml{meant}"));
        }
    }

    fn check_wish(&self, app: &AppName, wish: &Wish, place: &str, problems: &mut Problems) {
        let channel = match wish.choice() {
            Some(Choice::Version(_) | Choice::Stop) => return,
            Some(Choice::Channel(channel)) => channel,
            None => {
                return problems.add(format!("{place}: write exactly one of `version`, `channel` and `stop = true`"));
            }
        };
        match self.channels.get(channel) {
            Some(apps) if apps.contains_key(app) => {}
            Some(_) => problems.add(format!("{place}: channels.toml has no version of {app} in the channel {channel}")),
            None => {
                let meant = meant(channel, self.channels.keys().map(String::as_str));
                problems.add(format!("{place}: channels.toml has no channel {channel:?}{meant}"));
            }
        }
    }
}

fn read<T: DeserializeOwned>(path: &str, text: &str) -> Result<T, String> {
    toml::from_str(text).map_err(|error| {
        let hint = suggestion(error.message()).map(|key| format!("\ndid you mean `{key}`?")).unwrap_or_default();
        format!("{path}: {}{hint}", error.to_string().trim_end())
    })
}

fn misnamed(path: &str, invalid: &orangery_wire::ids::InvalidId) -> String {
    format!("{path}: {invalid}")
}

/// Groups, channels and policies have names by the rule of all names.
fn check_name(name: &str, what: &str) -> Result<(), String> {
    name.parse::<AppName>()
        .map(drop)
        .map_err(|invalid| format!("{name:?} is not a valid {what} name: {}", invalid.rule))
}

fn check_hold(hold: &HoldFile) -> Result<(), String> {
    let reason = &hold.reason;
    if reason.trim().is_empty() || reason.len() > REASON_MAX || reason.chars().any(char::is_control) {
        return Err(format!("the reason of a hold has from 1 to {REASON_MAX} bytes and no control characters"));
    }
    match &hold.until {
        Some(until) if orangery_trust::time::parse(until).is_none() => {
            Err(format!("{until:?} is no time: write `until` in UTC, such as \"2026-12-24T18:00:00Z\""))
        }
        _ => Ok(()),
    }
}

/// A file that means nothing here was meant as something else.
fn stray(path: &str) -> String {
    let top = path.split('/').next().unwrap_or_default();
    let meant = match nearest(top, TOP) {
        Some("apps" | "groups" | "nodes") if TOP.contains(&top) => format!("; in {top} there are only files NAME.toml"),
        Some(name) => format!("; did you mean {name}?"),
        None => String::new(),
    };
    format!("{path} is no part of a fleet directory{meant}")
}

fn meant<'a>(name: &str, there: impl Iterator<Item = &'a str>) -> String {
    nearest(name, there).map(|name| format!("; did you mean {name}?")).unwrap_or_default()
}

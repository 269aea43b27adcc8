//! The way back: a directory that says what is so already, so that a plan of it is empty.

use std::collections::BTreeMap;

use orangery_wire::rest::HoldView;
use orangery_wire::{AppName, NodeId, Version};
use serde::Serialize;

use super::Files;
use super::files::{AppFile, FleetFile, GroupFile, HoldFile, NodeFile, Wish};
use super::groups::written;
use super::holds::written_reason;
use super::parse::{FORMAT, REASON_MAX};
use super::world::World;

/// `rollouts.toml`, with what counts anyway.
const ROLLOUTS: &str = r#"# By which rules a change is brought to nodes. docs/operating/fleet-directory.md says what each line means;
# apps/APP.toml names another policy with `rollout = "NAME"`.
[default]
waves = ["100%"]
soak = ["10m"]
failures = ["0"]
on_failure = "pause"
"#;

/// A file that cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {path} as TOML")]
pub struct Unwritable {
    path: String,
    source: toml::ser::Error,
}

/// Says in files where every node is heading, and who is held. What nobody ever said anything of stays out; so do revoked nodes.
pub fn export(world: &World, coordinator: Option<&str>) -> Result<Files, Unwritable> {
    let mut nodes: BTreeMap<&NodeId, NodeFile> = BTreeMap::new();
    for node in world.active() {
        for hold in &node.holds {
            let written = HoldFile {
                reason: cut(written_reason(hold)),
                until: hold.expires_at.map(orangery_trust::time::format),
            };
            keep(nodes.entry(&node.node).or_default(), hold, written);
        }
    }
    let mut files = Files::new();
    for group in &world.groups {
        put(&mut files, format!("groups/{}.toml", group.group), &written(group))?;
    }
    let fleet = FleetFile { format: Some(FORMAT), coordinator: coordinator.map(str::to_owned) };
    put(&mut files, "fleet.toml", &fleet)?;
    files.insert("rollouts.toml".to_owned(), ROLLOUTS.to_owned());
    for app in apps(world) {
        let (file, group) = app_file(world, &app, &mut nodes);
        put(&mut files, format!("apps/{app}.toml"), &file)?;
        if let Some(group) = group {
            put(&mut files, format!("groups/{}.toml", group_name(world, &app)), &group)?;
        }
    }
    for (node, says) in nodes {
        put(&mut files, format!("nodes/{node}.toml"), &says)?;
    }
    Ok(files)
}

/// A reason that fits into a file: one made by hand may be longer.
fn cut(reason: &str) -> String {
    reason.get(..reason.floor_char_boundary(REASON_MAX)).unwrap_or_default().to_owned()
}

fn keep(file: &mut NodeFile, hold: &HoldView, written: HoldFile) {
    match &hold.app {
        None => file.hold = Some(written),
        Some(app) => file.apps.entry(app.clone()).or_default().hold = Some(written),
    }
}

/// Every app that some node is heading to, was told to stop, or has held.
fn apps(world: &World) -> std::collections::BTreeSet<AppName> {
    let told = world.active().flat_map(|node| node.desired.iter().map(|desired| desired.app.clone()));
    let held = world.active().flat_map(|node| node.holds.iter().filter_map(|hold| hold.app.clone()));
    let coming = world.under_way().filter(|rollout| rollout.status != "reverting").map(|rollout| rollout.app.clone());
    told.chain(held).chain(coming).collect()
}

/// The commonest version becomes the default, or, if the app is not for all nodes, what a group of the app's name has. What is
/// otherwise stands in the nodes' own files.
fn app_file<'a>(
    world: &'a World,
    app: &AppName,
    nodes: &mut BTreeMap<&'a NodeId, NodeFile>,
) -> (AppFile, Option<GroupFile>) {
    let heading = world.active().map(|node| (node, world.heading(node, app)));
    let heading: Vec<_> = heading.filter(|(_, heading)| heading.is_spoken_of).collect();
    let mut counts: BTreeMap<&Version, usize> = BTreeMap::new();
    heading.iter().filter_map(|(_, heading)| heading.version.as_ref()).for_each(|v| *counts.entry(v).or_default() += 1);
    let commonest =
        counts.into_iter().max_by_key(|(version, count)| (*count, *version)).map(|(version, _)| version.clone());
    for (node, heading) in heading.iter().filter(|(_, heading)| heading.version != commonest) {
        let own = nodes.entry(&node.node).or_default().apps.entry(app.clone()).or_default();
        own.version.clone_from(&heading.version);
        own.stop = heading.version.is_none().then_some(true);
    }
    let Some(commonest) = commonest else { return (AppFile::default(), None) };
    let wish = Wish { version: Some(commonest.clone()), ..Wish::default() };
    if heading.len() == world.active().count() {
        return (AppFile { default: Some(wish), ..AppFile::default() }, None);
    }
    let has_it = heading.iter().filter(|(_, heading)| heading.version.as_ref() == Some(&commonest));
    let group = GroupFile { nodes: has_it.map(|(node, _)| node.node.clone()).collect(), ..GroupFile::default() };
    (AppFile { groups: [(group_name(world, app), wish)].into(), ..AppFile::default() }, Some(group))
}

/// The group of an app's nodes has the app's name, unless another group has that.
fn group_name(world: &World, app: &AppName) -> String {
    let is_free = |name: &String| world.groups.iter().all(|group| group.group != *name);
    let short = app.as_str().get(..40).unwrap_or(app.as_str());
    let others = (1..).map(|k| format!("with-{short}-{k}"));
    std::iter::once(app.to_string()).chain(others).find(is_free).unwrap_or_default()
}

fn put(files: &mut Files, path: impl Into<String>, value: &impl Serialize) -> Result<(), Unwritable> {
    let path = path.into();
    let text = toml::to_string(value).map_err(|source| Unwritable { path: path.clone(), source })?;
    files.insert(path, text);
    Ok(())
}

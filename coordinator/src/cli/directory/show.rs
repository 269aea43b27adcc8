//! A plan for people.

use orangery_wire::rest::PlannedWave;
use orangery_wire::{NodeId, Version};

use super::checkout::Checkout;
use crate::cli::group::who;
use crate::cli::rollout::{named, shut};
use crate::fleet::{GroupChange, HoldChange, Kept, Plan, PlannedRollout, Step};
use crate::output::{self, Tone, Word};
use crate::rollout::counted;
use crate::span;

/// The whole plan.
pub fn text(plan: &Plan, checkout: Option<&Checkout>) -> String {
    let mut parts: Vec<String> = plan.rollouts.iter().map(rollout).collect();
    if !plan.stops.is_empty() {
        let rows: Vec<_> = plan.stops.iter().map(|stop| row(None, &stop.step)).collect();
        parts.push(format!("To be stopped, at once:\n{}", output::table(&header("app"), &rows)));
    }
    list(&mut parts, "Maintenance windows:", plan.draft.groups.iter().map(group));
    list(&mut parts, "Holds:", plan.draft.holds.iter().map(hold));
    list(&mut parts, "Held, and left as they are:", plan.draft.held.iter().map(kept));
    list(&mut parts, "Cannot run it, and left as they are:", plan.draft.unfit.iter().map(kept));
    list(&mut parts, "Were told already, and refused it:", plan.draft.refused.iter().map(kept));
    let unknown = plan.draft.unknown.iter();
    list(
        &mut parts,
        "Not here:",
        unknown.map(|one| format!("{}, named in {}: {}", one.node, one.named_in, one.reason)),
    );
    let under_way = plan.draft.under_way.iter();
    list(
        &mut parts,
        "Under way:",
        under_way.map(|one| {
            format!("rollout {} of {} {} is {}: {}", one.rollout, one.app, one.version, one.status, one.reason)
        }),
    );
    let alone = plan.draft.left_alone.iter();
    list(
        &mut parts,
        "Left alone, for the directory does not speak of them:",
        alone.map(|one| format!("{} {} on {}", one.app, one.version, one.node)),
    );
    parts.push(end(plan, checkout));
    parts.join("\n\n")
}

fn end(plan: &Plan, checkout: Option<&Checkout>) -> String {
    let of = checkout.map(|checkout| format!(" of {}", checkout.text())).unwrap_or_default();
    let what = if plan.changes { "" } else { "Nothing to change. " };
    format!("{what}Plan {}{of}.", plan.digest)
}

/// The titles of a table of steps; the first column has waves or apps.
fn header(first: &str) -> [&str; 9] {
    [first, "node", "now", "then", "does", "fetches", "on disk", "free then", "remark"]
}

fn rollout(rollout: &PlannedRollout) -> String {
    let waves = rollout.waves.iter().enumerate();
    let rules: Vec<String> = waves.clone().map(|(k, wave)| rule(k + 1, wave)).collect();
    let mut rows = Vec::new();
    for (k, wave) in waves {
        let steps = wave.nodes.iter().filter_map(|node| rollout.steps.iter().find(|step| step.node == *node));
        rows.extend(steps.map(|step| row(Some(k + 1), step)));
    }
    let mut lines = vec![format!("{} {}, by the policy {}:", rollout.app, rollout.version, rollout.policy)];
    lines.push(output::table(&header("wave"), &rows));
    lines.extend(rules);
    lines.push(sum(&rollout.steps));
    lines.extend(rollout.supersedes.iter().map(|older| {
        let names: Vec<&str> = older.nodes.iter().map(NodeId::as_str).collect();
        format!("rollout {} of {} loses: {}", older.rollout, older.version, named(&names))
    }));
    lines.extend(shut(&rollout.shut));
    lines.join("\n")
}

fn rule(number: usize, wave: &PlannedWave) -> String {
    let approval = if wave.approve { ", opens after an approval" } else { "" };
    let nodes = counted(wave.nodes.len(), "node");
    format!("wave {number}: {nodes}, soak {}, {} may fail{approval}", span::text(wave.soak_secs), wave.failures)
}

/// What all nodes together fetch, and how many of them are restarted.
fn sum(steps: &[Step]) -> String {
    let wire = steps.iter().filter_map(|step| step.wire_bytes).fold(0, u64::saturating_add);
    let restarts = steps.iter().filter(|step| step.does == "restart").count();
    let unknown = steps.iter().filter(|step| step.wire_bytes.is_none()).count();
    let unknown = if unknown == 0 { String::new() } else { format!("; of {unknown} nobody knows yet") };
    format!("all together: {} fetched{unknown}, {restarts} restarts", output::size(wire))
}

fn row(wave: Option<usize>, step: &Step) -> Vec<Word> {
    let bytes = |bytes: Option<u64>| Word::plain(bytes.map_or_else(|| "-".to_owned(), output::size));
    let version =
        |version: Option<&Version>| Word::plain(version.map_or_else(|| "nothing".to_owned(), ToString::to_string));
    let free = match (step.free_after_bytes, step.wire_bytes) {
        (Some(0), Some(wire)) if wire > 0 => Word::new("no room", Tone::Bad),
        (free, _) => bytes(free),
    };
    vec![
        Word::plain(wave.map_or_else(|| step.app.to_string(), |wave| wave.to_string())),
        Word::plain(step.node.as_str()),
        version(step.from.as_ref()),
        version(step.to.as_ref()),
        Word::plain(step.does),
        bytes(step.wire_bytes),
        bytes(step.disk_bytes),
        free,
        if step.online { Word::plain("") } else { Word::new("offline: takes it when it is back", Tone::Wait) },
    ]
}

fn hold(change: &HoldChange) -> String {
    let app = change.app.as_ref().map(|app| format!("{app} on ")).unwrap_or_default();
    let until = change.until.map(|until| format!(" until {}", output::moment(until))).unwrap_or_default();
    match &change.reason {
        Some(reason) => format!("hold {app}{}{until}: {reason}", change.node),
        None => format!("end the hold of {app}{}", change.node),
    }
}

fn group(change: &GroupChange) -> String {
    let Some(says) = &change.says else { return format!("the group {} has none any more", change.group) };
    let windows: Vec<String> = says.windows.iter().map(ToString::to_string).collect();
    format!("the group {} ({}): {}", change.group, who(&says.members()), windows.join("; "))
}

fn kept(kept: &Kept) -> String {
    let version = |version: Option<&Version>| version.map_or_else(|| "nothing".to_owned(), ToString::to_string);
    let (from, to) = (version(kept.from.as_ref()), version(kept.to.as_ref()));
    format!("{} {}, {from} and not {to}: {}", kept.node, kept.app, kept.reason)
}

fn list(parts: &mut Vec<String>, title: &str, lines: impl Iterator<Item = String>) {
    let lines: Vec<String> = lines.map(|line| format!("  {}", output::clean(&line))).collect();
    if !lines.is_empty() {
        parts.push(format!("{title}\n{}", lines.join("\n")));
    }
}

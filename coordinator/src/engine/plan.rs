//! What a deployment would change: a pure function of what is desired and reported.

use std::collections::BTreeMap;

use orangery_wire::messages::{AppReport, DesiredApp};
use orangery_wire::rest::{Plan, PlanStep};
use orangery_wire::{AppName, Digest, Generation, NodeId, Version};
use serde::Serialize;

use super::refused::Refused;
use crate::nearest::nearest;
use crate::rollout::incompatible;
use crate::store::{NodeRow, ReleaseRow};

/// Which nodes a deployment is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// Every node that is not revoked.
    All,
    /// Every node that is not revoked and reports this label.
    Label(String, String),
    /// This one.
    Node(NodeId),
}

impl Selector {
    /// Reads `all`, `label=value` or a node's name.
    pub fn parse(to: &str) -> Result<Self, Refused> {
        let invalid = || Refused::InvalidSelector { to: to.chars().take(80).collect() };
        match to.split_once('=') {
            None if to == "all" => Ok(Self::All),
            None => to.parse().map(Self::Node).map_err(|_| invalid()),
            Some((name, value)) if !name.is_empty() && !value.is_empty() => {
                Ok(Self::Label(name.to_owned(), value.to_owned()))
            }
            Some(_) => Err(invalid()),
        }
    }

    /// Whether a node is chosen that is not revoked.
    pub fn matches(&self, row: &NodeRow) -> bool {
        match self {
            Self::All => true,
            Self::Label(name, value) => labels(row).is_some_and(|labels| labels.get(name) == Some(value)),
            Self::Node(node) => row.node == *node,
        }
    }

    /// The nodes that are meant; at least one.
    pub fn choose<'a>(&self, nodes: &'a [NodeRow]) -> Result<Vec<&'a NodeRow>, Refused> {
        let active = || nodes.iter().filter(|row| row.revoked_at.is_none());
        match self {
            Self::All => {
                let chosen: Vec<_> = active().collect();
                if chosen.is_empty() { Err(Refused::NoNodes) } else { Ok(chosen) }
            }
            Self::Label(name, value) => {
                let chosen: Vec<_> = active().filter(|row| self.matches(row)).collect();
                if chosen.is_empty() { Err(unknown_label(name, value, active())) } else { Ok(chosen) }
            }
            Self::Node(node) => match nodes.iter().find(|row| row.node == *node) {
                Some(row) => Ok(vec![row]),
                None => Err(unknown_node(node.as_str(), nodes.iter().map(|row| &row.node))),
            },
        }
    }
}

fn labels(row: &NodeRow) -> Option<&BTreeMap<String, String>> {
    row.reported.as_ref().map(|reported| &reported.labels)
}

fn unknown_label<'a>(name: &str, value: &str, nodes: impl Iterator<Item = &'a NodeRow>) -> Refused {
    let known: std::collections::BTreeSet<String> =
        nodes.filter_map(labels).flatten().map(|(name, value)| format!("{name}={value}")).collect();
    let known = match known.len() {
        0 => "no node reports any label".to_owned(),
        1..=10 => format!("there are {}", known.into_iter().collect::<Vec<_>>().join(", ")),
        count => format!("there are {count} others"),
    };
    Refused::UnknownLabel { selector: format!("{name}={value}"), known }
}

/// The refusal for a node that is not there, with the name that was probably meant.
pub fn unknown_node<'a>(node: &str, nodes: impl Iterator<Item = &'a NodeId>) -> Refused {
    let meant = nearest(node, nodes.map(NodeId::as_str)).map(str::to_owned);
    Refused::UnknownNode { node: node.to_owned(), meant }
}

/// The release that is meant; at fault are an app nobody published and a version that was not.
pub fn choose_release<'a>(
    app: &AppName,
    version: &Version,
    releases: &'a [ReleaseRow],
) -> Result<&'a ReleaseRow, Refused> {
    let of_app: Vec<_> = releases.iter().filter(|row| row.view.app == *app).collect();
    if of_app.is_empty() {
        let meant = nearest(app.as_str(), releases.iter().map(|row| row.view.app.as_str())).map(str::to_owned);
        return Err(Refused::UnknownApp { app: app.clone(), meant });
    }
    of_app.iter().find(|row| row.view.version == *version).copied().ok_or_else(|| {
        let published: Vec<_> = of_app.iter().take(5).map(|row| row.view.version.to_string()).collect();
        Refused::UnknownVersion { app: app.clone(), version: version.clone(), published: published.join(", ") }
    })
}

/// One node that was chosen, with what it was told about the app before.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// The node.
    pub row: &'a NodeRow,
    /// What it was told about the app.
    pub desired: Option<&'a DesiredApp>,
    /// Whether it is connected.
    pub online: bool,
    /// Who holds it and why.
    pub held: Option<&'a str>,
}

impl Candidate<'_> {
    fn report(&self, app: &AppName) -> Option<&AppReport> {
        self.row.reported.iter().flat_map(|reported| &reported.apps).find(|report| report.app == *app)
    }

    /// Whether telling the node to run `target` would be news to it. What it was told already is news again only if it
    /// refused that in the same generation, which makes it a retry, or if somebody on the node wants something else since.
    fn changes(&self, app: &AppName, target: Option<&ReleaseRow>) -> bool {
        if self.row.revoked_at.is_some() || self.held.is_some() {
            return false;
        }
        let report = self.report(app);
        let Some(desired) = self.desired else {
            return target.is_some() || report.is_some_and(|report| report.current.is_some());
        };
        let target = target.map(|target| target.view.id);
        if desired.release.as_ref().map(|release| release.id) != target {
            return true;
        }
        report.filter(|report| report.generation >= desired.generation).is_some_and(|report| {
            let refused = report.refusal.as_ref().is_some_and(|refusal| Some(refusal.release) == target);
            refused || report.desired.as_ref().is_some_and(|there| Some(there.id) != target)
        })
    }

    fn warning(&self, target: Option<&ReleaseRow>) -> Option<String> {
        let held = || self.held.map(|held| format!("the node is {held}"));
        if self.row.revoked_at.is_some() {
            unable(self.row, target)
        } else {
            held().or_else(|| unable(self.row, target))
        }
    }

    fn step(&self, app: &AppName, target: Option<&ReleaseRow>) -> PlanStep {
        let current = self.report(app).and_then(|report| report.current.as_ref());
        PlanStep {
            node: self.row.node.clone(),
            online: self.online,
            now: current.map(|current| current.version.clone()),
            then: target.map(|target| target.view.version.clone()),
            changes: self.changes(app, target),
            warning: self.warning(target),
            generation: 0,
        }
    }
}

/// Why the node will not run the release, as far as its last report tells. The node itself decides, when it comes to it.
fn unable(row: &NodeRow, target: Option<&ReleaseRow>) -> Option<String> {
    if row.revoked_at.is_some() {
        return Some("the node was revoked; it is told nothing".to_owned());
    }
    let target = target?;
    match &row.reported {
        None => Some("the node has never reported; nobody knows yet what it is".to_owned()),
        Some(reported) => incompatible(reported, &target.constraints, &target.view.platforms),
    }
}

/// What would change, by node. `target` is `None` to stop the app.
pub fn plan(app: &AppName, target: Option<&ReleaseRow>, chosen: &[Candidate<'_>]) -> Plan {
    let steps: Vec<PlanStep> = chosen.iter().map(|candidate| candidate.step(app, target)).collect();
    let mark = mark(app, target, chosen, &steps);
    Plan { app: app.clone(), mark, steps }
}

/// What an operator agreed to. Who is connected is not part of it: that changes by the minute and changes nothing.
#[derive(Serialize)]
struct Agreed<'a> {
    app: &'a AppName,
    release: Option<Digest>,
    steps: Vec<AgreedStep<'a>>,
}

#[derive(Serialize)]
struct AgreedStep<'a> {
    node: &'a NodeId,
    now: &'a Option<Version>,
    then: &'a Option<Version>,
    changes: bool,
    warning: &'a Option<String>,
    /// What the node was told before. A deployment by somebody else in between changes it.
    told: Option<Generation>,
}

fn mark(app: &AppName, target: Option<&ReleaseRow>, chosen: &[Candidate<'_>], steps: &[PlanStep]) -> Digest {
    let steps = steps.iter().zip(chosen).map(|(step, candidate)| AgreedStep {
        node: &step.node,
        now: &step.now,
        then: &step.then,
        changes: step.changes,
        warning: &step.warning,
        told: candidate.desired.map(|desired| desired.generation),
    });
    let agreed = Agreed { app, release: target.map(|target| target.view.id.0), steps: steps.collect() };
    // Names, numbers and texts always have a JSON form.
    crate::sha256::digest(&serde_json::to_vec(&agreed).unwrap_or_default())
}

#[cfg(test)]
#[path = "plan/tests.rs"]
mod tests;

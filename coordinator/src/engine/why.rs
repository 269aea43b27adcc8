//! Why each app of a node is where it is. Pure: what is known goes in, sentences that an operator understands come out, and
//! there is always at least one.

use std::collections::BTreeMap;

use orangery_wire::messages::{AppReport, Evidence, Phase, Refusal, RefusalCode, ReleaseRef, What};
use orangery_wire::rest::{DesiredView, NodeView, Why, WhyLine};
use orangery_wire::{AppName, UnixTime};

/// What is known besides the node itself.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The time now.
    pub now: UnixTime,
    /// Whether the broker is reached.
    pub broker_connected: bool,
    /// The newest event of each app.
    pub last: BTreeMap<AppName, What>,
    /// What rollouts and holds have to do with it.
    pub lines: Vec<WhyLine>,
    /// What each app's refused release was seen to do.
    pub evidence: BTreeMap<AppName, Box<Evidence>>,
}

/// Answers for one node.
pub fn why(node: &NodeView, facts: &Facts) -> Why {
    let mut lines = about_node(node, facts);
    let reports = node.reported.iter().flat_map(|reported| &reported.apps);
    let mut apps: BTreeMap<&AppName, (Option<&DesiredView>, Option<&AppReport>)> =
        reports.map(|report| (&report.app, (None, Some(report)))).collect();
    for desired in &node.desired {
        apps.entry(&desired.app).or_default().0 = Some(desired);
    }
    lines
        .extend(apps.into_iter().map(|(app, (desired, report))| Question { node, facts, app, desired, report }.line()));
    lines.extend(node.reported.iter().flat_map(|reported| &reported.apps).filter_map(|report| revoked(node, report)));
    lines.extend(facts.lines.iter().cloned());
    if lines.is_empty() {
        let text = format!(
            "{} was not told to run anything yet; `orangery deploy APP@VERSION --to {}` does that.",
            node.node, node.node
        );
        lines.push(line(None, "nothing_desired", text));
    }
    Why { node: node.node.clone(), lines }
}

fn line(app: Option<&AppName>, code: &str, text: String) -> WhyLine {
    WhyLine { app: app.cloned(), code: code.to_owned(), refusal: None, evidence: None, text }
}

/// What stands in the way of all apps.
fn about_node(node: &NodeView, facts: &Facts) -> Vec<WhyLine> {
    let name = &node.node;
    let mut lines = Vec::new();
    if node.revoked {
        let text = format!(
            "{name} was revoked: it is told nothing and given nothing. To take the board in again, invite it by another name."
        );
        lines.push(line(None, "revoked", text));
    } else if node.reported.is_none() {
        let text = format!(
            "{name} enrolled {} and has never reported. Check that `orangery-agent run` runs there and reaches the broker.",
            ago(facts.now, node.joined_at)
        );
        lines.push(line(None, "never_seen", text));
    } else if !facts.broker_connected {
        let text = format!(
            "The coordinator does not reach its broker, so it cannot hear {name}; what follows is what was last known."
        );
        lines.push(line(None, "offline", text));
    } else if !node.online {
        let text = format!("{name} is not connected; it was last heard {}.", heard(node, facts));
        lines.push(line(None, "offline", text));
    }
    if node.reported.as_ref().is_some_and(|reported| reported.trust.stale) {
        let text = format!(
            "{name}'s trusted metadata has expired: it goes on with what it runs and takes no new release until it can refresh it."
        );
        lines.push(line(None, "expired", text));
    }
    lines
}

/// What runs there though the owner has taken it back.
fn revoked(node: &NodeView, report: &AppReport) -> Option<WhyLine> {
    let current = report.current.as_ref().filter(|_| report.revoked)?;
    let text = format!(
        "The owner has revoked {} {}, which {} runs; it goes on running. Deploy another release to it.",
        report.app, current.version, node.node
    );
    Some(line(Some(&report.app), "release_revoked", text))
}

fn heard(node: &NodeView, facts: &Facts) -> String {
    node.seen_at.map_or_else(|| "before the coordinator's database was made".to_owned(), |at| ago(facts.now, at))
}

/// "3 minutes ago", with one unit: nobody needs two here.
fn ago(now: UnixTime, then: UnixTime) -> String {
    let secs = now.saturating_sub(then);
    let (count, unit) = match secs {
        0..=1 => return "just now".to_owned(),
        2..=119 => (secs, "seconds"),
        120..=7_199 => (secs / 60, "minutes"),
        7_200..=172_799 => (secs / 3_600, "hours"),
        _ => (secs / 86_400, "days"),
    };
    format!("{count} {unit} ago")
}

/// The release that runs because somebody on the node brought it, and not because it was deployed.
pub fn brought<'a>(desired: &DesiredView, report: &'a AppReport) -> Option<&'a ReleaseRef> {
    let settled = report.phase == Phase::Settled && report.generation >= desired.generation;
    let wanted = report.desired.as_ref().filter(|wanted| settled && Some(wanted.id) != desired.release)?;
    let current = report.current.as_ref().filter(|current| *current == wanted || tried(report, wanted).is_some())?;
    (Some(current.id) != desired.release).then_some(current)
}

/// Why the node refused what it tried last.
fn tried<'a>(report: &'a AppReport, wanted: &ReleaseRef) -> Option<&'a Refusal> {
    let refusal = report.refusal.as_ref().filter(|refusal| refusal.release == wanted.id)?;
    (refusal.code != RefusalCode::RolledBack).then_some(refusal)
}

/// The refusal of a release that somebody on the node rolled back, when that was another one than what was deployed.
fn rolled_back<'a>(desired: &DesiredView, report: &'a AppReport) -> Option<&'a Refusal> {
    let settled = report.phase == Phase::Settled && report.generation >= desired.generation;
    let refusal = report.refusal.as_ref().filter(|refusal| settled && refusal.code == RefusalCode::RolledBack)?;
    (Some(refusal.release) != desired.release).then_some(refusal)
}

/// With a capital letter.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// One app of the node.
struct Question<'a> {
    node: &'a NodeView,
    facts: &'a Facts,
    app: &'a AppName,
    desired: Option<&'a DesiredView>,
    report: Option<&'a AppReport>,
}

impl Question<'_> {
    fn line(&self) -> WhyLine {
        match (self.desired, self.report) {
            (None, _) => self.says(
                "nothing_desired",
                format!("Nobody told {} what to do with {}. {}", self.node.node, self.app, self.runs()),
            ),
            (Some(desired), None) => self.not_taken_in(desired),
            (Some(desired), Some(report)) if report.generation < desired.generation => self.not_taken_in(desired),
            (Some(desired), Some(report)) => self.taken_in(desired, report),
        }
    }

    fn says(&self, code: &str, text: String) -> WhyLine {
        line(Some(self.app), code, text)
    }

    /// "garage was told to run greeter 1.2.0 (generation 4)"
    fn told(&self, desired: &DesiredView) -> String {
        let (node, app, generation) = (&self.node.node, self.app, desired.generation);
        match &desired.version {
            Some(version) => format!("{node} was told to run {app} {version} (generation {generation})"),
            None => format!("{node} was told to stop {app} (generation {generation})"),
        }
    }

    /// "It runs 1.1.0."
    fn runs(&self) -> String {
        let Some(report) = self.report else { return "It has not reported anything about it.".to_owned() };
        match (&report.running, &report.current) {
            (Some(running), Some(current)) if running.id == current.id => format!("It runs {}.", running.version),
            (Some(running), Some(current)) => {
                format!("It runs {} on trial; {} is proven there.", running.version, current.version)
            }
            (Some(running), None) => format!("It runs {} on trial; no release is proven there yet.", running.version),
            (None, Some(current)) => format!("It should run {}, which is not running at this moment.", current.version),
            (None, None) => "It runs no release of it.".to_owned(),
        }
    }

    fn not_taken_in(&self, desired: &DesiredView) -> WhyLine {
        let told = self.told(desired);
        let (code, because) = if self.node.revoked {
            ("revoked", "but it was revoked".to_owned())
        } else if self.node.reported.is_none() {
            ("never_seen", "but has never reported anything".to_owned())
        } else if let (true, Some(waits)) = (self.node.online, self.waits()) {
            ("not_taken_in", format!("and cannot take that in: {waits}"))
        } else if self.node.online {
            ("not_taken_in", "and has not taken that in yet: it should within seconds".to_owned())
        } else {
            (
                "offline",
                format!(
                    "but is not connected (last heard {}); it will hear of it when it is",
                    heard(self.node, self.facts)
                ),
            )
        };
        let runs = if self.node.reported.is_some() { format!(" {}", self.runs()) } else { String::new() };
        self.says(code, format!("{told} {because}.{runs}"))
    }

    fn taken_in(&self, desired: &DesiredView, report: &AppReport) -> WhyLine {
        if let Some(refusal) = report.refusal.as_ref().filter(|refusal| Some(refusal.release) == desired.release) {
            return self.refused(desired, report, refusal);
        }
        let current = report.current.as_ref().map(|current| current.id);
        if let Some(brought) = brought(desired, report) {
            let after = report.desired.as_ref().and_then(|wanted| Some((wanted, tried(report, wanted)?)));
            let after = after.map(|(wanted, refusal)| {
                let reason = refusal.reason.trim_end_matches('.');
                format!(
                    " After that {} was to be installed there, and was refused: {} ({reason}).",
                    wanted.version, refusal.code
                )
            });
            let text = format!(
                "{}, and since then somebody on the node has installed {}; it stays until something newer is deployed.{}",
                self.told(desired),
                brought.version,
                after.unwrap_or_default()
            );
            return self.says("installed_there", text);
        }
        if let Some(refusal) = rolled_back(desired, report) {
            let text = format!(
                "{}, and since then somebody on the node has rolled back what ran there. {} It stays so until something newer is deployed.",
                self.told(desired),
                self.runs()
            );
            return WhyLine { refusal: Some(refusal.code), ..self.says(refusal.code.as_str(), text) };
        }
        if report.phase != Phase::Settled || current != desired.release {
            return self.in_progress(desired, report);
        }
        match (&report.current, report.healthy) {
            (None, _) => self.says("up_to_date", format!("{} and has done so.", self.told(desired))),
            (Some(current), Some(false)) => self.unhealthy(desired, current),
            (Some(_), _) => {
                let alone = " It was not connected when it tried it: its probes alone proved it.";
                let how = if report.unwitnessed { alone } else { "" };
                let text = format!("{} and does: it is proven there and its probes hold.{how}", self.told(desired));
                self.says("up_to_date", text)
            }
        }
    }

    fn refused(&self, desired: &DesiredView, report: &AppReport, refusal: &Refusal) -> WhyLine {
        let again = match report.phase {
            Phase::Settled => "",
            _ => " It is going back to what it ran before.",
        };
        let reason = refusal.reason.trim_end_matches('.');
        let text = format!("{} and refused it: {}: {reason}.{again} {}", self.told(desired), refusal.code, self.runs());
        let evidence = self.facts.evidence.get(self.app).cloned();
        WhyLine { refusal: Some(refusal.code), evidence, ..self.says(refusal.code.as_str(), text) }
    }

    /// What the node says that it waits for.
    fn waits(&self) -> Option<&str> {
        Some(self.report?.waits.as_ref()?.trim_end_matches('.'))
    }

    fn in_progress(&self, desired: &DesiredView, report: &AppReport) -> WhyLine {
        let waits = self.waits().is_some();
        // While it waits it does nothing of what the phase stands for.
        let doing = match report.phase {
            Phase::Fetching if waits => "it has not tried it yet",
            Phase::Activating | Phase::Probing if waits => "its trial cannot go on at this moment",
            Phase::Fetching => "it is downloading and checking it",
            Phase::Activating => "it is starting it on trial",
            Phase::Probing if !self.node.online => {
                "it runs on trial; it becomes current when its probes hold and the coordinator is reached again"
            }
            Phase::Probing => "it runs on trial and its probes are being asked",
            Phase::Restoring => "it is making what was proven before run again",
            Phase::Settled => "it is about to begin",
        };
        let trouble = match self.facts.last.get(self.app) {
            _ if self.waits().is_some() => format!(" {}.", sentence(self.waits().unwrap_or_default())),
            Some(What::Retrying { deed, reason }) => {
                format!(" The last attempt to {deed} failed and will be made again: {}.", reason.trim_end_matches('.'))
            }
            Some(What::AppExited { reason, restarts }) => {
                format!(" It ended by itself ({reason}), {restarts} times in a row.")
            }
            _ => String::new(),
        };
        self.says("in_progress", format!("{}: {doing}.{trouble} {}", self.told(desired), self.runs()))
    }

    fn unhealthy(&self, desired: &DesiredView, current: &ReleaseRef) -> WhyLine {
        let because = match self.facts.last.get(self.app) {
            Some(What::AppHealth { healthy: false, reason: Some(reason) } | What::AppExited { reason, .. }) => {
                format!(" ({})", reason.trim_end_matches('.'))
            }
            _ => String::new(),
        };
        let text = format!(
            "{} and does, but its probes fail now{because}. {} was proven there before, so nothing goes back by itself.",
            self.told(desired),
            current.version
        );
        self.says("unhealthy_now", text)
    }
}

#[cfg(test)]
#[path = "why/tests.rs"]
mod tests;

//! What one message tells: a single notice, or many of them as a digest.

use std::collections::BTreeMap;

use orangery_wire::UnixTime;

use super::{Kind, Notice, Severity, TargetSettings, plain};

/// Up to so many are told one by one; more become a digest.
const SINGLES_MAX: u64 = 3;
/// Notices that a digest shows to people.
pub(super) const LINES_MAX: usize = 10;
/// Notices that are kept of a digest, for programs.
pub(super) const NOTICES_MAX: usize = 100;
/// Longest text of one notice in a digest, in characters.
const LINE_CHARS_MAX: usize = 160;

/// What a target is to be told next, found by going through the list from the place up to which it was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The message, if it wants any of it.
    pub message: Option<Message>,
    /// How many notices it wants and was not told.
    pub count: u64,
    /// Where it will have been told up to after the message; after nothing, if there is none.
    pub upto: u64,
    /// Up to there nothing waits any more, whether or not the message is taken.
    pub passed: u64,
    /// How many before that it wanted that are too old to be told.
    pub expired: u64,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Names it for good: what was told twice has the same.
    pub id: String,
    /// What it tells, the oldest first; of a digest the first hundred.
    pub notices: Vec<Notice>,
    /// How many of each kind it tells of.
    pub counts: BTreeMap<Kind, u64>,
    /// The most severe of them.
    pub severity: Severity,
}

/// Goes through notices after a target's place, oldest first. What is older than `oldest` is not told any more.
pub fn waiting(
    settings: &TargetSettings,
    told: u64,
    oldest: UnixTime,
    notices: impl IntoIterator<Item = Notice>,
) -> Waiting {
    let (mut kept, mut counts) = (Vec::new(), BTreeMap::<Kind, u64>::new());
    let (mut last, mut passed, mut count, mut expired, mut severity) = (told, told, 0, 0, Severity::Info);
    for notice in notices {
        last = last.max(notice.id);
        let is_wanted = settings.wants(&notice);
        // One that is too old after one that is not was written while the clock was wrong: it is told.
        let is_expired = is_wanted && count == 0 && notice.at < oldest;
        expired += u64::from(is_expired);
        if count == 0 && (!is_wanted || is_expired) {
            passed = last;
        }
        if !is_wanted || is_expired {
            continue;
        }
        count += 1;
        *counts.entry(notice.kind).or_default() += 1;
        severity = severity.max(notice.severity);
        if kept.len() < NOTICES_MAX {
            kept.push(notice);
        }
    }
    if count > SINGLES_MAX {
        let first = kept.first().map_or(told, |notice| notice.id);
        let message = Message { id: format!("{first}-{last}"), notices: kept, counts, severity };
        return Waiting { message: Some(message), count, upto: last, passed, expired };
    }
    match kept.into_iter().next() {
        Some(notice) => Waiting { upto: notice.id, message: Some(Message::single(notice)), count, passed, expired },
        None => Waiting { message: None, count: 0, upto: last, passed: last, expired },
    }
}

impl Message {
    /// Of one notice.
    pub fn single(notice: Notice) -> Self {
        let (kind, severity) = (notice.kind, notice.severity);
        Self { id: notice.id.to_string(), notices: vec![notice], counts: BTreeMap::from([(kind, 1)]), severity }
    }

    /// The notice, if it is a single one.
    pub(super) fn only(&self) -> Option<&Notice> {
        match self.notices.as_slice() {
            [only] if self.total() == 1 => Some(only),
            _ => None,
        }
    }

    /// Of how many notices it tells.
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// In a few words, which hold nothing that a node could write.
    pub fn title(&self) -> String {
        match self.only() {
            Some(only) => only.title(),
            None => self.counts.iter().map(|(kind, count)| kind.count(*count)).collect::<Vec<_>>().join(", "),
        }
    }

    /// What there is to say after the title. What nodes wrote goes through `escape`.
    pub(super) fn text(&self, escape: fn(&str) -> String) -> String {
        if let Some(only) = self.only() {
            return escape(&only.text);
        }
        let line = |notice: &Notice| {
            let text = plain(&notice.text, LINE_CHARS_MAX);
            escape(&if text.is_empty() { notice.title() } else { format!("{}: {text}", notice.title()) })
        };
        let mut lines: Vec<String> = self.notices.iter().take(LINES_MAX).map(line).collect();
        let more = self.total() - (lines.len() as u64).min(self.total());
        if more > 0 {
            lines.push(format!("and {more} more"));
        }
        lines.join("\n")
    }
}

/// At most `units_max` of what `units` counts in a text, cut at a character.
pub(super) fn cut(text: &str, units_max: usize, units: fn(char) -> usize) -> String {
    if text.chars().map(units).sum::<usize>() <= units_max {
        return text.to_owned();
    }
    let mut left = units_max.saturating_sub(units('…'));
    let fits = |c: &char| {
        let fits = units(*c) <= left;
        left = left.saturating_sub(units(*c));
        fits
    };
    text.chars().take_while(fits).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::super::settings::Written;
    use super::super::{Settings, WrittenWatch};
    use super::*;

    fn target(more: &str) -> TargetSettings {
        let toml = format!("name = 'ops'\nkind = 'slack'\nurl = 'https://x'\n{more}");
        let written: Written = toml::from_str(&toml).unwrap();
        let mut settings = Settings::check(&WrittenWatch::default(), vec![written], std::path::Path::new("/")).unwrap();
        settings.targets.remove(0)
    }

    fn notice(id: u64, kind: Kind, node: &str) -> Notice {
        let mut notice = Notice::new(kind, "status 500");
        (notice.id, notice.at, notice.node) = (id, 1_000, Some(node.parse().unwrap()));
        notice
    }

    #[test]
    fn few_are_told_one_by_one_and_a_storm_as_a_digest() {
        let few = (1..=3).map(|id| notice(id, Kind::NodeSilent, "attic"));
        let waits = waiting(&target(""), 0, 0, few);
        assert_eq!((waits.count, waits.upto, waits.message.unwrap().id.as_str()), (3, 1, "1"));
        let storm = (1..=1_000).map(|id| notice(id, Kind::ReleaseRefused, "attic"));
        let waits = waiting(&target(""), 0, 0, storm);
        let message = waits.message.unwrap();
        assert_eq!((waits.count, waits.upto, message.id.as_str()), (1_000, 1_000, "1-1000"));
        assert_eq!((message.title().as_str(), message.notices.len()), ("1000 releases refused", 100));
        assert!(message.text(str::to_owned).ends_with("\nand 990 more"), "{}", message.text(str::to_owned));
        assert_eq!(message.text(str::to_owned).lines().count(), 11);
    }

    #[test]
    fn what_is_not_wanted_is_passed_by_and_what_is_too_old_is_counted() {
        let mut others = notice(2, Kind::NodeSilent, "cellar");
        others.labels.insert("site".into(), "lab".into());
        let mut old = notice(3, Kind::NodeSilent, "attic");
        old.at = 10;
        let list = [notice(1, Kind::NodeJoined, "attic"), others, old, notice(4, Kind::NodeBack, "attic")];
        let waits = waiting(&target("severity = 'warning'\nnodes = ['attic']"), 0, 100, list.clone());
        assert_eq!((waits.message, waits.upto, waits.expired), (None, 4, 1));
        let waits = waiting(&target("events = ['node_silent']\nnodes = ['site=lab']"), 0, 100, list);
        assert_eq!((waits.count, waits.upto), (1, 2));
    }

    #[test]
    fn a_target_hears_what_matters_as_much_as_it_says_or_more() {
        let silent = notice(1, Kind::NodeSilent, "attic");
        let as_grave_as = |severity| Notice { severity, ..silent.clone() };
        let all = [Severity::Info, Severity::Warning, Severity::Error];
        let heard = |more| all.map(|severity| target(more).wants(&as_grave_as(severity)));
        assert_eq!(heard(""), [true; 3]);
        assert_eq!(heard("severity = 'info'"), [true; 3]);
        assert_eq!(heard("severity = 'warning'"), [false, true, true]);
        assert_eq!(heard("severity = 'error'"), [false, false, true]);
    }

    #[test]
    fn an_app_filter_lets_pass_what_is_about_no_app() {
        let mut of_app = notice(1, Kind::ReleaseRefused, "attic");
        of_app.app = Some("web".parse().unwrap());
        assert!(target("apps = ['web']").wants(&of_app) && !target("apps = ['db']").wants(&of_app));
        assert!(target("apps = ['db']").wants(&notice(2, Kind::NodeSilent, "attic")));
    }

    #[test]
    fn a_text_is_cut_at_a_character() {
        assert_eq!(cut("abc", 3, char::len_utf8), "abc");
        assert_eq!(cut("ääää", 7, char::len_utf8), "ää…");
        assert_eq!(cut("😀😀", 3, char::len_utf16), "😀…");
    }
}

//! Maintenance windows: windows + time -> whether they are open, and when that changes. Pure: this module names no clock, file,
//! socket or task; the time zones are in the program (docs/adr/0020).
//!
//! One rule, of which all else follows: a window is open while a clock on the wall in its zone shows a time in it. So a
//! window in the hour that is left out in spring does not open that day, one that lies across it is shorter, and one in the
//! hour that comes twice in autumn is open both times.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Weekday};
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};
use orangery_wire::UnixTime;
use orangery_wire::rest::{Day, MaintenanceWindow};

use crate::nearest::nearest;
use crate::rollout::{Shut, Window};

/// The zones that are built in: the same on every machine, whatever is installed there.
static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// Days that are looked at for an opening: windows of zones that change on different days may meet in one week of a year.
const AHEAD_DAYS: u16 = 370;
/// Openings that are nearer than this are named by their day of the week alone.
const WEEK_SECS: u64 = 6 * 86_400;
/// By so much the coordinator's clock may differ from that of its nodes.
const SKEW_SECS_MAX: u64 = 300;

/// The windows of one group, with their zones.
#[derive(Debug, Clone)]
pub struct Schedule {
    windows: Vec<Known>,
}

#[derive(Debug, Clone)]
struct Known {
    window: MaintenanceWindow,
    zone: TimeZone,
}

impl Schedule {
    /// Understands windows, or says what is wrong with one.
    pub fn new(windows: &[MaintenanceWindow]) -> Result<Self, String> {
        Ok(Self { windows: windows.iter().map(Known::new).collect::<Result<_, _>>()? })
    }

    fn is_open(&self, at: Timestamp) -> bool {
        self.windows.iter().any(|known| known.is_open(at))
    }
}

impl Known {
    fn new(window: &MaintenanceWindow) -> Result<Self, String> {
        window.check()?;
        let zone = ZONES.get(&window.zone).map_err(|_| {
            let names: Vec<String> = ZONES.available().map(|name| name.to_string()).collect();
            let meant = nearest(&window.zone, names.iter().map(String::as_str));
            let rule = "zones are named as in the IANA database, such as Europe/Berlin or UTC".to_owned();
            let meant = meant.map_or(rule, |meant| format!("did you mean {meant}?"));
            let zone: String = window.zone.chars().filter(|c| !c.is_control()).collect();
            format!("there is no time zone {zone}; {meant}")
        })?;
        Ok(Self { window: window.clone(), zone })
    }

    fn is_open(&self, at: Timestamp) -> bool {
        let wall = self.zone.to_datetime(at);
        let minutes = minutes(&wall);
        let (from, to) = (self.window.from.minutes(), self.window.to.minutes());
        let today = self.window.days.contains(&day(wall.date()));
        if from < to {
            return today && (from..to).contains(&minutes);
        }
        let begun_yesterday = wall.date().yesterday().is_ok_and(|date| self.window.days.contains(&day(date)));
        (today && minutes >= from) || (begun_yesterday && minutes < to)
    }

    /// When it may open or close on one day: a time on the wall may come twice.
    fn edges(&self, date: Date) -> impl Iterator<Item = Timestamp> {
        let ambiguous = [self.window.from, self.window.to].into_iter().filter_map(move |time| {
            let (date, minutes) = match time.minutes() {
                1_440 => (date.tomorrow().ok()?, 0),
                minutes => (date, minutes),
            };
            let wall = date.at(i8::try_from(minutes / 60).ok()?, i8::try_from(minutes % 60).ok()?, 0, 0);
            Some((wall, self.zone.to_ambiguous_timestamp(wall).offset()))
        });
        ambiguous.flat_map(|(wall, offset)| {
            let offsets = match offset {
                AmbiguousOffset::Unambiguous { offset } => [Some(offset), None],
                AmbiguousOffset::Fold { before, after } => [Some(before), Some(after)],
                // That time does not come; what follows from the gap is looked at where it is.
                AmbiguousOffset::Gap { .. } => [None, None],
            };
            offsets.into_iter().flatten().filter_map(move |offset| offset.to_timestamp(wall).ok())
        })
    }
}

fn minutes(wall: &DateTime) -> u16 {
    u16::try_from(i16::from(wall.hour()) * 60 + i16::from(wall.minute())).unwrap_or_default()
}

fn day(date: Date) -> Day {
    match date.weekday() {
        Weekday::Monday => Day::Mon,
        Weekday::Tuesday => Day::Tue,
        Weekday::Wednesday => Day::Wed,
        Weekday::Thursday => Day::Thu,
        Weekday::Friday => Day::Fri,
        Weekday::Saturday => Day::Sat,
        Weekday::Sunday => Day::Sun,
    }
}

/// Whether a node whose groups have these schedules may be told something: it must be inside a window of each.
pub fn is_open(groups: &[&Schedule], at: UnixTime) -> bool {
    timestamp(at).is_some_and(|at| groups.iter().all(|schedule| schedule.is_open(at)))
}

/// When [`is_open`] changes next; `None`: not within a year.
pub fn changes_at(groups: &[&Schedule], now: UnixTime) -> Option<UnixTime> {
    let begin = timestamp(now)?;
    let before = is_open(groups, now);
    let knowns = || groups.iter().flat_map(|schedule| &schedule.windows);
    // Clocks that are set do so at these moments, and windows may open or close with them.
    let set: BTreeSet<Timestamp> = knowns().flat_map(|known| known.transitions(begin)).collect();
    for ahead in 0..AHEAD_DAYS {
        let mut edges: BTreeSet<Timestamp> = BTreeSet::new();
        let (from, until) = (after_days(begin, ahead)?, after_days(begin, ahead + 1)?);
        edges.extend(set.range(from..until));
        for known in knowns() {
            // What happens within these 24 hours lies on two days there, or, with `24:00`, on the one before.
            let first = known.zone.to_datetime(from).date();
            let dates = [first.yesterday().ok(), Some(first), first.tomorrow().ok()];
            edges.extend(dates.into_iter().flatten().flat_map(|date| known.edges(date)));
        }
        let changes = |at: &Timestamp| groups.iter().all(|schedule| schedule.is_open(*at)) != before;
        if let Some(at) = edges.into_iter().filter(|at| *at > begin && (from..until).contains(at)).find(changes) {
            return u64::try_from(at.as_second()).ok();
        }
    }
    None
}

impl Known {
    fn transitions(&self, begin: Timestamp) -> Vec<Timestamp> {
        let end = after_days(begin, AHEAD_DAYS).unwrap_or(begin);
        self.zone.following(begin).map(|transition| transition.timestamp()).take_while(|at| *at < end).collect()
    }
}

fn timestamp(at: UnixTime) -> Option<Timestamp> {
    Timestamp::from_second(i64::try_from(at).ok()?).ok()
}

fn after_days(begin: Timestamp, days: u16) -> Option<Timestamp> {
    Timestamp::from_second(begin.as_second().checked_add(i64::from(days) * 86_400)?).ok()
}

/// What the planner of rollouts is told of a node in these groups; `None`: it is in no group with windows.
pub fn look(groups: &[(&str, &Schedule)], now: UnixTime) -> Option<Window> {
    let schedules: Vec<&Schedule> = groups.iter().map(|(_, schedule)| *schedule).collect();
    if schedules.is_empty() {
        return None;
    }
    if is_open(&schedules, now) {
        return Some(Window::Open);
    }
    Some(Window::Shut(match changes_at(&schedules, now) {
        Some(at) => Shut { opens_at: Some(at), says: format!("opens {}", names(&schedules, at, now)), waits: true },
        None => Shut { opens_at: None, says: never(groups), waits: false },
    }))
}

fn never(groups: &[(&str, &Schedule)]) -> String {
    let names: Vec<&str> = groups.iter().map(|(name, _)| *name).collect();
    format!("never opens, for the windows of its groups {} never meet", names.join(" and "))
}

/// "Sat 02:00 Europe/Berlin", by the first window that is open then.
fn names(schedules: &[&Schedule], at: UnixTime, now: UnixTime) -> String {
    let Some(then) = timestamp(at) else { return String::new() };
    let knowns = schedules.iter().flat_map(|schedule| &schedule.windows);
    let Some(known) = knowns.into_iter().find(|known| known.is_open(then)) else { return String::new() };
    let wall = known.zone.to_datetime(then);
    let day = day(wall.date()).as_str();
    let day = format!("{}{}", day.get(..1).unwrap_or_default().to_uppercase(), day.get(1..).unwrap_or_default());
    let date = if at.saturating_sub(now) < WEEK_SECS { String::new() } else { format!(" {}", wall.date()) };
    format!("{day}{date} {:02}:{:02} {}", wall.hour(), wall.minute(), known.window.zone)
}

/// Why the coordinator's clock is not to be believed: most nodes whose clocks are synchronised say another time. `ahead` has by
/// how many seconds each of them is ahead of the coordinator.
pub fn doubt(mut ahead: Vec<i64>) -> Option<String> {
    ahead.sort_unstable();
    let median = *ahead.get(ahead.len() / 2)?;
    let most = ahead.iter().filter(|ahead| ahead.unsigned_abs() > SKEW_SECS_MAX).count();
    (median.unsigned_abs() > SKEW_SECS_MAX && most * 2 > ahead.len()).then(|| {
        let (secs, way) = (median.unsigned_abs(), if median > 0 { "behind" } else { "ahead of" });
        format!("the coordinator's clock is {secs} s {way} those of its nodes, so nobody can say whether it is open")
    })
}

/// What a node with windows is told while the coordinator's clock is not believed.
pub fn doubted(why: &str) -> Window {
    Window::Shut(Shut { opens_at: None, says: why.to_owned(), waits: true })
}

#[cfg(test)]
mod tests;

//! How a node was over the last day, in a bounded number of points, each the worst of what the node said in its span. Pure.
//!
//! The points begin fine, so that something is to be seen a minute after a node has joined, and are made coarser each time
//! that there are too many, until they reach over a day. From then on the oldest go.

use std::collections::VecDeque;

use orangery_wire::UnixTime;
use orangery_wire::messages::Health;
use orangery_wire::rest::{HealthHistory, HealthPoint};

/// Most points of one node: 16 bytes each, 2.3 kB.
pub const POINTS_MAX: usize = 144;
/// What a point stands for at first, in seconds.
pub const FINEST_SECS: u64 = 10;
/// What a point stands for at last: all of them reach over 25 hours.
pub const COARSEST_SECS: u64 = FINEST_SECS << 6;
/// Older points are not shown, however few there are.
const DAY_SECS: u64 = 86_400;
/// More is nonsense, and not every number has a form that every reader takes.
const LOAD_MAX: f64 = 1e6;
/// A share that is not known.
const UNKNOWN: u16 = u16::MAX;
/// A temperature that is not known.
const NO_SENSOR: i16 = i16::MIN;

/// The points of one node.
#[derive(Debug, Clone, PartialEq)]
pub struct Day {
    point_secs: u64,
    points: VecDeque<Point>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Point {
    /// Counts spans since 1970.
    span: u32,
    load_1m: f32,
    memory_permille: u16,
    disk_permille: u16,
    tenths_celsius: i16,
}

impl Default for Day {
    fn default() -> Self {
        Self { point_secs: FINEST_SECS, points: VecDeque::new() }
    }
}

impl Day {
    /// The node has said how it is.
    pub fn add(&mut self, now: UnixTime, health: &Health) {
        let point = Point::of(self.span(now), health);
        // A clock that was set back: what lies ahead of it never was.
        while self.points.back().is_some_and(|last| last.span > point.span) {
            self.points.pop_back();
        }
        match self.points.back_mut().filter(|last| last.span == point.span) {
            Some(last) => *last = last.worst(point),
            None => self.points.push_back(point),
        }
        while self.points.len() > POINTS_MAX {
            if self.point_secs < COARSEST_SECS {
                self.coarsen();
            } else {
                let _ = self.points.pop_front();
            }
        }
    }

    /// What there is of the last day.
    pub fn history(&self, now: UnixTime) -> HealthHistory {
        let begin = self.span(now.saturating_sub(DAY_SECS));
        let points = self.points.iter().filter(|point| point.span >= begin);
        HealthHistory {
            point_secs: self.point_secs,
            points: points.map(|point| point.shown(self.point_secs)).collect(),
        }
    }

    fn span(&self, at: UnixTime) -> u32 {
        u32::try_from(at / self.point_secs).unwrap_or(u32::MAX)
    }

    /// Makes one point of each two neighbours.
    fn coarsen(&mut self) {
        self.point_secs *= 2;
        let mut points: VecDeque<Point> = VecDeque::with_capacity(POINTS_MAX);
        for point in self.points.drain(..) {
            let point = Point { span: point.span / 2, ..point };
            match points.back_mut().filter(|last| last.span == point.span) {
                Some(last) => *last = last.worst(point),
                None => points.push_back(point),
            }
        }
        self.points = points;
    }
}

impl Point {
    #[expect(clippy::cast_possible_truncation, reason = "a load needs no more digits, and the temperature is clamped")]
    fn of(span: u32, health: &Health) -> Self {
        let Health { memory_bytes, memory_used_bytes, disk_bytes, disk_free_bytes, .. } = *health;
        let tenths = |celsius: f32| (celsius.clamp(-300.0, 3_000.0) * 10.0).round() as i16;
        Self {
            span,
            load_1m: health.load_1m.clamp(0.0, LOAD_MAX) as f32,
            memory_permille: permille(memory_used_bytes, memory_bytes),
            disk_permille: permille(disk_bytes.saturating_sub(disk_free_bytes), disk_bytes),
            tenths_celsius: health.temperature_celsius.map_or(NO_SENSOR, tenths),
        }
    }

    fn worst(self, other: Self) -> Self {
        let share = |one: u16, other: u16| if one == UNKNOWN { other } else { one.max(share_or_least(other)) };
        Self {
            span: self.span,
            load_1m: self.load_1m.max(other.load_1m),
            memory_permille: share(self.memory_permille, other.memory_permille),
            disk_permille: share(self.disk_permille, other.disk_permille),
            tenths_celsius: self.tenths_celsius.max(other.tenths_celsius),
        }
    }

    fn shown(&self, point_secs: u64) -> HealthPoint {
        let known = |share: u16| (share != UNKNOWN).then_some(share);
        HealthPoint {
            at: u64::from(self.span) * point_secs,
            load_1m: self.load_1m,
            memory_permille: known(self.memory_permille),
            disk_permille: known(self.disk_permille),
            temperature_celsius: (self.tenths_celsius != NO_SENSOR).then(|| f32::from(self.tenths_celsius) / 10.0),
        }
    }
}

fn share_or_least(share: u16) -> u16 {
    if share == UNKNOWN { 0 } else { share }
}

/// What a node says of itself may be nonsense; a share is never more than all.
fn permille(part: u64, whole: u64) -> u16 {
    let share = (u128::from(part) * 1_000).checked_div(u128::from(whole));
    share.map_or(UNKNOWN, |share| u16::try_from(share.min(1_000)).unwrap_or(1_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health(load_1m: f64) -> Health {
        Health {
            load_1m,
            memory_bytes: 1_000,
            memory_used_bytes: 250,
            disk_bytes: 10,
            disk_free_bytes: 1,
            ..Health::default()
        }
    }

    #[test]
    fn a_day_of_any_length_has_at_most_so_many_points_and_none_is_older_than_a_day() {
        for each_secs in [1, 7, 60, 600, 7_200] {
            let mut day = Day::default();
            let mut now = 1_790_000_000;
            for _ in 0..(3 * DAY_SECS / each_secs) {
                now += each_secs;
                day.add(now, &health(1.0));
                assert!(day.points.len() <= POINTS_MAX, "each {each_secs} s");
            }
            let history = day.history(now);
            let oldest = history.points.first().unwrap().at;
            assert!(now - oldest <= DAY_SECS + history.point_secs, "each {each_secs} s");
            assert!(
                now - oldest + history.point_secs + each_secs >= DAY_SECS,
                "each {each_secs} s: a whole day is there"
            );
            assert!(history.points.is_sorted_by(|one, next| one.at < next.at));
        }
    }

    #[test]
    fn the_worst_of_a_span_is_kept_when_it_is_made_coarser() {
        let mut day = Day::default();
        for second in 0..(DAY_SECS / 2) {
            day.add(1_790_000_000 + second, &health(if second == 5_000 { 9.0 } else { 1.0 }));
        }
        let history = day.history(1_790_000_000 + DAY_SECS / 2);
        assert_eq!(history.point_secs, 320);
        let highest: Vec<_> = history.points.iter().filter(|point| point.load_1m > 8.0).collect();
        let [peak] = highest[..] else { panic!("one point has the peak: {highest:?}") };
        assert!((peak.at..peak.at + 320).contains(&1_790_005_000));
        assert_eq!((peak.memory_permille, peak.disk_permille, peak.temperature_celsius), (Some(250), Some(900), None));
    }

    #[test]
    fn nonsense_is_bounded_and_what_a_node_does_not_say_is_not_made_up() {
        let mut day = Day::default();
        let lies = Health {
            memory_bytes: 1,
            memory_used_bytes: u64::MAX,
            load_1m: 1e300,
            temperature_celsius: Some(f32::MAX),
            ..Health::default()
        };
        day.add(u64::MAX, &lies);
        let shown = day.history(u64::MAX).points[0];
        assert_eq!((shown.memory_permille, shown.disk_permille), (Some(1_000), None));
        assert_eq!((shown.load_1m, shown.temperature_celsius), (1e6, Some(3_000.0)));
        day.add(1_790_000_000, &health(0.0));
        assert_eq!(day.points.len(), 1, "a clock that was ahead");
    }
}

//! Windows on days when clocks are set, and windows of several groups.

use super::*;

/// A moment in UTC: `2026-03-29T00:59`.
fn utc(text: &str) -> UnixTime {
    orangery_trust::time::parse(&format!("{text}:00Z")).unwrap()
}

fn schedule(windows: &[&str]) -> Schedule {
    Schedule::new(&windows.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>()).unwrap()
}

/// When it is open from a moment on, as far as the first changes tell.
fn spans(windows: &[&str], begin: &str, count: usize) -> Vec<String> {
    let schedule = schedule(windows);
    let mut at = utc(begin);
    let mut told = Vec::new();
    for _ in 0..count {
        at = changes_at(&[&schedule], at).unwrap();
        let verb = if is_open(&[&schedule], at) { "opens" } else { "closes" };
        told.push(format!("{verb} {}", orangery_trust::time::format(at)));
    }
    told
}

#[test]
fn a_window_opens_on_its_days_by_the_clock_on_the_wall() {
    assert_eq!(
        spans(&["sat,sun 02:00-05:00 Europe/Berlin"], "2026-11-22T12:00", 4),
        [
            "opens 2026-11-28T01:00:00Z",
            "closes 2026-11-28T04:00:00Z",
            "opens 2026-11-29T01:00:00Z",
            "closes 2026-11-29T04:00:00Z"
        ]
    );
    // Over midnight, and to the end of the day.
    assert_eq!(
        spans(&["fri 22:00-04:00 America/New_York"], "2026-11-22T12:00", 2),
        ["opens 2026-11-28T03:00:00Z", "closes 2026-11-28T09:00:00Z"]
    );
    assert_eq!(spans(&["sun 20:00-24:00 UTC"], "2026-11-22T21:00", 1), ["closes 2026-11-23T00:00:00Z"]);
    // Two that touch are one.
    let two = ["mon 20:00-24:00 UTC", "tue 00:00-02:00 UTC"];
    assert_eq!(spans(&two, "2026-11-22T21:00", 2), ["opens 2026-11-23T20:00:00Z", "closes 2026-11-24T02:00:00Z"]);
}

#[test]
fn an_hour_that_is_left_out_in_spring_opens_nothing_and_shortens_what_lies_across_it() {
    // On 29 March 2026 Berlin goes from 02:00 to 03:00, at 01:00 UTC.
    assert_eq!(
        spans(&["sun 02:00-03:00 Europe/Berlin"], "2026-03-28T12:00", 2),
        ["opens 2026-04-05T00:00:00Z", "closes 2026-04-05T01:00:00Z"]
    );
    assert_eq!(
        spans(&["sun 02:30-04:00 Europe/Berlin"], "2026-03-28T12:00", 2),
        ["opens 2026-03-29T01:00:00Z", "closes 2026-03-29T02:00:00Z"]
    );
    assert_eq!(
        spans(&["sun 01:30-02:30 Europe/Berlin"], "2026-03-28T12:00", 2),
        ["opens 2026-03-29T00:30:00Z", "closes 2026-03-29T01:00:00Z"]
    );
}

#[test]
fn an_hour_that_comes_twice_in_autumn_is_open_both_times() {
    // On 25 October 2026 Berlin goes from 03:00 back to 02:00, at 01:00 UTC.
    assert_eq!(
        spans(&["sun 02:00-02:30 Europe/Berlin"], "2026-10-24T12:00", 4),
        [
            "opens 2026-10-25T00:00:00Z",
            "closes 2026-10-25T00:30:00Z",
            "opens 2026-10-25T01:00:00Z",
            "closes 2026-10-25T01:30:00Z"
        ]
    );
    assert_eq!(
        spans(&["sun 01:30-02:30 Europe/Berlin"], "2026-10-24T12:00", 4),
        [
            "opens 2026-10-24T23:30:00Z",
            "closes 2026-10-25T00:30:00Z",
            "opens 2026-10-25T01:00:00Z",
            "closes 2026-10-25T01:30:00Z"
        ]
    );
}

#[test]
fn the_changes_are_those_that_looking_each_five_minutes_finds_in_the_weeks_when_clocks_are_set() {
    for windows in [
        &["sun 02:15-02:45 Europe/Berlin", "wed 23:30-00:30 Europe/Berlin"][..],
        &["daily 01:00-02:15 Australia/Lord_Howe"],
        &["sat 23:00-01:00 America/Sao_Paulo", "mon 01:00-02:00 Asia/Kathmandu"],
    ] {
        let schedule = schedule(windows);
        for (begin, end) in [("2026-03-15T00:00", "2026-04-15T00:00"), ("2026-09-25T00:00", "2026-11-05T00:00")] {
            let (begin, end) = (utc(begin), utc(end));
            let mut found = Vec::new();
            let mut before = is_open(&[&schedule], begin);
            for at in (begin..end).step_by(300) {
                if is_open(&[&schedule], at) != before {
                    before = !before;
                    found.push(at);
                }
            }
            let next = |at: &UnixTime| changes_at(&[&schedule], *at).filter(|next| *next < end);
            let told: Vec<UnixTime> = std::iter::successors(next(&begin), next).collect();
            assert_eq!(told, found, "{windows:?}");
        }
    }
}

#[test]
fn a_node_of_two_groups_must_be_inside_a_window_of_both() {
    let (night, weekend) = (schedule(&["daily 22:00-06:00 UTC"]), schedule(&["sat 00:00-24:00 UTC"]));
    let sentence = |groups: &[(&str, &Schedule)], now: &str| match look(groups, utc(now)) {
        Some(Window::Shut(shut)) => shut.says,
        other => format!("{other:?}"),
    };
    let both = [("night", &night), ("weekend", &weekend)];
    assert_eq!(sentence(&both, "2026-11-24T23:00"), "opens Sat 00:00 UTC");
    assert_eq!(sentence(&both, "2026-11-28T01:00"), "Some(Open)");
    assert_eq!(sentence(&both, "2026-11-28T12:00"), "opens Sat 22:00 UTC");
    assert_eq!(sentence(&both[1..], "2026-11-22T00:00"), "opens Sat 2026-11-28 00:00 UTC", "that is a while");
    let noon = schedule(&["daily 12:00-13:00 UTC"]);
    let never = look(&[("night", &night), ("noon", &noon)], utc("2026-11-24T23:00"));
    let Some(Window::Shut(never)) = never else { panic!("{never:?}") };
    assert_eq!((never.opens_at, never.waits), (None, false));
    assert_eq!(never.says, "never opens, for the windows of its groups night and noon never meet");
    assert_eq!(look(&[], utc("2026-11-24T23:00")), None);
}

#[test]
fn windows_of_two_zones_that_meet_in_a_few_weeks_of_the_year_alone_do_open() {
    // New York is five hours behind Berlin for three weeks in March, else six.
    let (berlin, york) =
        (schedule(&["daily 12:00-13:00 Europe/Berlin"]), schedule(&["daily 07:00-08:00 America/New_York"]));
    let at = changes_at(&[&berlin, &york], utc("2026-05-01T00:00")).unwrap();
    assert_eq!(orangery_trust::time::format(at), "2026-10-25T11:00:00Z");
}

#[test]
fn a_zone_that_there_is_not_is_refused_with_the_one_that_was_meant() {
    let wrong: MaintenanceWindow = "sat 02:00-05:00 Europe/Berlim".parse().unwrap();
    let said = Schedule::new(&[wrong]).unwrap_err();
    assert!(said.contains("there is no time zone Europe/Berlim; did you mean Europe/Berlin?"), "{said}");
}

#[test]
fn a_clock_that_most_synchronised_nodes_contradict_is_not_believed() {
    assert_eq!(doubt(vec![]), None);
    assert_eq!(doubt(vec![0, 3, -200]), None);
    assert_eq!(doubt(vec![0, 9_000, 1]), None, "one node that is wrong");
    assert!(doubt(vec![9_000, 9_001, 1]).unwrap().contains("9000 s behind"));
    assert!(doubt(vec![-86_400]).unwrap().contains("86400 s ahead of"));
}

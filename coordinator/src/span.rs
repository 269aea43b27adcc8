//! Times as people write them: `90s`, `10m`, `1h:skip`.

use std::str::FromStr;
use std::time::Duration;

use orangery_wire::rest::{Compare, Deadline, Overdue};
use serde::{Deserialize, Serialize};

/// Reads a time such as `90s`, `30m`, `1h` or `7d`: from a second to a year.
pub fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || "write a number with s, m, h or d, such as 30m or 7d".to_owned();
    let unit = text.chars().last().ok_or_else(wrong)?;
    let secs = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = text.strip_suffix(unit).unwrap_or_default().parse().map_err(|_| wrong())?;
    let secs = number.checked_mul(secs).filter(|secs| (1..=31_536_000).contains(secs));
    secs.map(Duration::from_secs).ok_or_else(|| "it must be from 1s to 365d".to_owned())
}

/// Like any other time, and none at all: `0s`.
pub fn parse_soak(text: &str) -> Result<Duration, String> {
    if text == "0" || text == "0s" { Ok(Duration::ZERO) } else { parse(text) }
}

/// "90s", "10m", "2h", "7d": as it can be typed.
pub fn text(secs: u64) -> String {
    match secs {
        0 => "0s".to_owned(),
        secs if secs % 86_400 == 0 => format!("{}d", secs / 86_400),
        secs if secs % 3_600 == 0 => format!("{}h", secs / 3_600),
        secs if secs % 60 == 0 => format!("{}m", secs / 60),
        secs => format!("{secs}s"),
    }
}

/// A soak as people write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Soak(pub Duration);

impl TryFrom<String> for Soak {
    type Error = String;
    fn try_from(written: String) -> Result<Self, String> {
        parse_soak(&written).map(Self).map_err(|rule| format!("{written:?} is no time: {rule}"))
    }
}

impl From<Soak> for String {
    fn from(soak: Soak) -> Self {
        text(soak.0.as_secs())
    }
}

/// A deadline as people write it: `1h` or `1h:skip`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Within(pub Deadline);

impl FromStr for Within {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (time, then) = text.split_once(':').unwrap_or((text, "fail"));
        let then = match then {
            "fail" => Overdue::Fail,
            "skip" => Overdue::Skip,
            "wait" => Overdue::Wait,
            other => return Err(format!("{other:?}: after the time write fail, skip or wait, such as 1h:skip")),
        };
        Ok(Self(Deadline { secs: parse(time)?.as_secs(), then }))
    }
}

impl TryFrom<String> for Within {
    type Error = String;
    fn try_from(written: String) -> Result<Self, String> {
        written.parse().map_err(|rule| format!("{written:?} is no deadline: {rule}"))
    }
}

impl From<Within> for String {
    fn from(Within(deadline): Within) -> Self {
        let then = match deadline.then {
            Overdue::Fail => "fail",
            Overdue::Skip => "skip",
            Overdue::Wait => "wait",
        };
        format!("{}:{then}", text(deadline.secs))
    }
}

/// How much worse a release may make a node, as people write it: `memory=150%,latency=200%,patience=30m`. What is left out is as in
/// [`Compare::default`]; `yes` leaves out all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Limits(pub Compare);

impl FromStr for Limits {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let mut limits = Compare::default();
        for part in text.split(',').filter(|_| text != "yes") {
            let wrong =
                || format!("{part:?}: write memory=150%, latency=200% or patience=30m, with commas between, or yes");
            let (name, value) = part.split_once('=').ok_or_else(wrong)?;
            let percent = || value.strip_suffix('%').and_then(|number| number.parse().ok()).ok_or_else(wrong);
            match name {
                "memory" => limits.memory_percent = percent()?,
                "latency" => limits.latency_percent = percent()?,
                "patience" => limits.patience_secs = parse_soak(value)?.as_secs(),
                _ => return Err(wrong()),
            }
        }
        Ok(Self(limits))
    }
}

impl TryFrom<String> for Limits {
    type Error = String;
    fn try_from(written: String) -> Result<Self, String> {
        written.parse().map_err(|rule| format!("{written:?} is no comparison: {rule}"))
    }
}

impl From<Limits> for String {
    fn from(Limits(limits): Limits) -> Self {
        let Compare { memory_percent, latency_percent, patience_secs } = limits;
        format!("memory={memory_percent}%,latency={latency_percent}%,patience={}", self::text(patience_secs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit_and_bounds() {
        assert_eq!(parse("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse("7d"), Ok(Duration::from_hours(168)));
        for wrong in ["", "1", "h", "-1h", "1w", "0s", "366d", "1hh", "99999999999999999999d"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!("yes".parse(), Ok(Limits(Compare::default())));
        let some = "latency=300%,patience=0s".parse::<Limits>().unwrap();
        assert_eq!(String::from(some), "memory=150%,latency=300%,patience=0s");
        for wrong in ["", "memory", "memory=2", "memory=150%,", "speed=2%", "patience=soon"] {
            assert!(wrong.parse::<Limits>().is_err(), "{wrong}");
        }
        assert_eq!(parse_soak("0s"), Ok(Duration::ZERO));
    }

    #[test]
    fn times_are_shown_as_they_can_be_typed() {
        assert_eq!([0, 90, 600, 7_200, 604_800].map(text), ["0s", "90s", "10m", "2h", "7d"]);
    }

    #[test]
    fn deadlines_read_as_people_write_them_and_are_written_like_that() {
        assert_eq!("1h:skip".parse(), Ok(Within(Deadline { secs: 3_600, then: Overdue::Skip })));
        assert_eq!("90s".parse(), Ok(Within(Deadline { secs: 90, then: Overdue::Fail })));
        for wrong in ["", ":skip", "1h:", "1h:never", "1w:skip"] {
            assert!(wrong.parse::<Within>().is_err(), "{wrong}");
        }
        for written in ["1h:skip", "90s:fail", "2d:wait"] {
            assert_eq!(written.parse::<Within>().map(String::from), Ok(written.to_owned()));
        }
    }
}

//! One maintenance window, as people write it: `sat,sun 02:00-05:00 Europe/Berlin`.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Minutes of a day.
const DAY_MINUTES: u16 = 1_440;
/// Longest name of a zone that is looked at, in bytes.
const ZONE_BYTES_MAX: usize = 64;

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Day {
    /// Monday.
    Mon,
    /// Tuesday.
    Tue,
    /// Wednesday.
    Wed,
    /// Thursday.
    Thu,
    /// Friday.
    Fri,
    /// Saturday.
    Sat,
    /// Sunday.
    Sun,
}

impl Day {
    /// All of them, from Monday on.
    pub const ALL: [Self; 7] = [Self::Mon, Self::Tue, Self::Wed, Self::Thu, Self::Fri, Self::Sat, Self::Sun];

    /// The word in messages and files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mon => "mon",
            Self::Tue => "tue",
            Self::Wed => "wed",
            Self::Thu => "thu",
            Self::Fri => "fri",
            Self::Sat => "sat",
            Self::Sun => "sun",
        }
    }

    fn read(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|day| day.as_str() == text);
        found.ok_or_else(|| format!("{text:?} is no day: write mon, tue, wed, thu, fri, sat or sun"))
    }
}

/// A time on a clock on the wall, in minutes: `00:00` to `24:00`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TimeOfDay(u16);

impl TimeOfDay {
    /// Minutes since the day began: 0 to 1440.
    pub fn minutes(self) -> u16 {
        self.0
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

impl FromStr for TimeOfDay {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no time of a day: write HH:MM from 00:00 to 24:00");
        let (hours, minutes) = text.split_once(':').ok_or_else(wrong)?;
        let number = |digits: &str| {
            let good = digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_digit());
            good.then(|| digits.parse::<u16>().ok()).flatten().ok_or_else(wrong)
        };
        let (hours, minutes) = (number(hours)?, number(minutes)?);
        let all = hours * 60 + minutes;
        if minutes < 60 && all <= DAY_MINUTES { Ok(Self(all)) } else { Err(wrong()) }
    }
}

impl TryFrom<String> for TimeOfDay {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<TimeOfDay> for String {
    fn from(time: TimeOfDay) -> Self {
        time.to_string()
    }
}

/// A maintenance window: on these days a clock on the wall in this zone shows a time from `from` on and before `to`. If `to` is
/// not later than `from` it is a time of the day after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct MaintenanceWindow {
    /// The days on which it opens; left out: every day.
    #[serde(default = "every_day")]
    pub days: BTreeSet<Day>,
    /// When it opens: `HH:MM`, before 24:00.
    #[cfg_attr(feature = "openapi", schema(value_type = String, pattern = "^([01][0-9]|2[0-3]):[0-5][0-9]$"))]
    pub from: TimeOfDay,
    /// When it closes: `HH:MM`, another time than `from`; `24:00` is the end of the day.
    #[cfg_attr(feature = "openapi", schema(value_type = String, pattern = "^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$"))]
    pub to: TimeOfDay,
    /// An IANA time zone such as `Europe/Berlin`, or `UTC`.
    #[cfg_attr(feature = "openapi", schema(max_length = 64))]
    pub zone: String,
}

fn every_day() -> BTreeSet<Day> {
    Day::ALL.into()
}

impl MaintenanceWindow {
    /// What is wrong with it by itself; whether there is such a zone is for whoever knows zones.
    ///
    /// # Errors
    /// The rule that it breaks: it would never open, or the name of the zone is too long.
    pub fn check(&self) -> Result<(), String> {
        if self.days.is_empty() {
            return Err(
                "a window without a day never opens: name its days, or leave `days` out for every day".to_owned()
            );
        }
        if self.from == self.to || self.from.minutes() == DAY_MINUTES {
            return Err(format!(
                "a window from {} to {} never opens: a whole day is from 00:00 to 24:00",
                self.from, self.to
            ));
        }
        if self.zone.len() > ZONE_BYTES_MAX {
            return Err(format!("the name of a time zone has at most {ZONE_BYTES_MAX} bytes"));
        }
        Ok(())
    }
}

impl fmt::Display for MaintenanceWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days: Vec<&str> = self.days.iter().map(|day| day.as_str()).collect();
        let days = if days.len() == 7 { "daily".to_owned() } else { days.join(",") };
        write!(f, "{days} {}-{} {}", self.from, self.to, self.zone)
    }
}

impl FromStr for MaintenanceWindow {
    type Err = String;

    /// Reads `sat,sun 02:00-05:00 Europe/Berlin`, `mon-fri 22:00-04:00 UTC`, `daily 01:00-04:00 America/New_York`.
    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let [days, times, zone] = words[..] else {
            return Err(format!(
                "{text:?} is no window: write DAYS HH:MM-HH:MM ZONE, such as \"sat,sun 02:00-05:00 Europe/Berlin\""
            ));
        };
        let (from, to) = times.split_once('-').ok_or_else(|| format!("{times:?} is no span: write HH:MM-HH:MM"))?;
        let window = Self { days: read_days(days)?, from: from.parse()?, to: to.parse()?, zone: zone.to_owned() };
        window.check().map(|()| window)
    }
}

fn read_days(text: &str) -> Result<BTreeSet<Day>, String> {
    if text == "daily" {
        return Ok(every_day());
    }
    let mut days = BTreeSet::new();
    for part in text.split(',') {
        match part.split_once('-') {
            None => drop(days.insert(Day::read(part)?)),
            Some((first, last)) => {
                let (first, last) = (Day::read(first)?, Day::read(last)?);
                let round = Day::ALL.into_iter().cycle().skip_while(|day| *day != first);
                days.extend(
                    round
                        .take(7)
                        .scan(false, |ended, day| (!std::mem::replace(ended, *ended || day == last)).then_some(day)),
                );
            }
        }
    }
    Ok(days)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_read_as_people_write_them_and_are_written_like_that() {
        for text in ["sat,sun 02:00-05:00 Europe/Berlin", "daily 22:00-04:00 UTC", "mon 00:00-24:00 Asia/Kolkata"] {
            assert_eq!(text.parse::<MaintenanceWindow>().map(|window| window.to_string()), Ok(text.to_owned()));
        }
        let ranges = "fri-mon,wed 02:00-05:00 UTC".parse::<MaintenanceWindow>().unwrap();
        assert_eq!(ranges.to_string(), "mon,wed,fri,sat,sun 02:00-05:00 UTC");
        assert_eq!("tue-tue 02:00-05:00 UTC".parse::<MaintenanceWindow>().unwrap().days, [Day::Tue].into());
    }

    #[test]
    fn what_is_no_window_or_never_opens_is_refused() {
        for wrong in [
            "",
            "sat 02:00-05:00",
            "sat 2:00-05:00 UTC",
            "sat 02:00 UTC",
            "someday 02:00-05:00 UTC",
            "sat 02:60-05:00 UTC",
            "sat 25:00-05:00 UTC",
            "sat +2:00-05:00 UTC",
            "sat 02:00-02:00 UTC",
            "sat 24:00-02:00 UTC",
        ] {
            assert!(wrong.parse::<MaintenanceWindow>().is_err(), "{wrong}");
        }
        let json = r#"{"days":[],"from":"02:00","to":"03:00","zone":"UTC"}"#;
        let never: MaintenanceWindow = serde_json::from_str(json).unwrap();
        assert!(never.check().unwrap_err().contains("never opens"));
    }
}

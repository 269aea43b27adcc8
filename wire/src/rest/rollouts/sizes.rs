//! How far waves reach and how many may fail, as people write them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How far a wave reaches: `10%` or `5` of all chosen nodes, counted from the first wave on, or `label=value`, the nodes with
/// that label which are in no wave before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum WaveSize {
    /// Up to so many of a hundred, 1 to 100.
    Percent(u8),
    /// Up to so many.
    Count(u32),
    /// Those with this label.
    Label(String, String),
}

/// Failures that a wave may have: `2` nodes, or `5%` of its nodes, rounded down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Allowance {
    /// So many nodes.
    Count(u32),
    /// So many of a hundred, 0 to 100.
    Percent(u8),
}

impl fmt::Display for WaveSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Percent(percent) => write!(f, "{percent}%"),
            Self::Count(count) => write!(f, "{count}"),
            Self::Label(name, value) => write!(f, "{name}={value}"),
        }
    }
}

impl FromStr for WaveSize {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no wave: write 10%, a count or label=value");
        if let Some((name, value)) = text.split_once('=') {
            let good = !name.is_empty() && !value.is_empty();
            return good.then(|| Self::Label(name.to_owned(), value.to_owned())).ok_or_else(wrong);
        }
        match text.strip_suffix('%') {
            Some(number) => {
                let percent = number.parse().ok().filter(|percent| (1..=100).contains(percent));
                percent.map(Self::Percent).ok_or_else(|| format!("{text:?}: a share is from 1% to 100%"))
            }
            None => text.parse().ok().filter(|count| *count > 0).map(Self::Count).ok_or_else(wrong),
        }
    }
}

impl fmt::Display for Allowance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl FromStr for Allowance {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no number of failures: write 2 or 5%");
        match text.strip_suffix('%') {
            Some(number) => {
                let percent = number.parse().ok().filter(|percent| *percent <= 100);
                percent.map(Self::Percent).ok_or_else(|| format!("{text:?}: a share is from 0% to 100%"))
            }
            None => text.parse().map(Self::Count).map_err(|_| wrong()),
        }
    }
}

impl Allowance {
    /// How many of `nodes` may fail.
    pub fn of(self, nodes: usize) -> usize {
        match self {
            Self::Count(count) => usize::try_from(count).unwrap_or(usize::MAX),
            Self::Percent(percent) => nodes.saturating_mul(usize::from(percent)) / 100,
        }
    }
}

/// What travels as text is read and written as text, and described as one that looks like the pattern.
macro_rules! as_text {
    ($name:ident, $pattern:literal) => {
        #[cfg(feature = "openapi")]
        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                use utoipa::openapi::schema::{ObjectBuilder, Type};
                ObjectBuilder::new().schema_type(Type::String).pattern(Some($pattern)).into()
            }
        }

        #[cfg(feature = "openapi")]
        impl utoipa::ToSchema for $name {}

        impl TryFrom<String> for $name {
            type Error = String;
            fn try_from(text: String) -> Result<Self, String> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }
    };
}

as_text!(WaveSize, "^([1-9][0-9]?%|100%|[1-9][0-9]{0,8}|[^=]+=.+)$");
as_text!(Allowance, "^([1-9]?[0-9]%|100%|0|[1-9][0-9]{0,8})$");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_allowances_read_as_people_write_them() {
        for good in ["1%", "100%", "5", "site=attic"] {
            assert_eq!(good.parse::<WaveSize>().map(|size| size.to_string()), Ok(good.to_owned()));
        }
        for wrong in ["", "0", "0%", "101%", "-1", "=x", "x=", "10 %", "attic"] {
            assert!(wrong.parse::<WaveSize>().is_err(), "{wrong}");
        }
        for good in ["0", "2", "0%", "5%"] {
            assert_eq!(good.parse::<Allowance>().map(|allowed| allowed.to_string()), Ok(good.to_owned()));
        }
        for wrong in ["", "-1", "101%", "x"] {
            assert!(wrong.parse::<Allowance>().is_err(), "{wrong}");
        }
        let of = |text: &str, nodes| text.parse::<Allowance>().unwrap().of(nodes);
        assert_eq!((of("2", 1), of("5%", 19), of("5%", 20), of("100%", 3)), (2, 0, 1, 3));
    }
}

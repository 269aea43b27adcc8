//! The `Range` header (RFC 9110 section 14): one range of bytes. Anything else is ignored, as a server may.

/// What part of a file is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// These bytes, both included.
    Bytes {
        /// The first.
        first: u64,
        /// The last.
        last: u64,
    },
    /// Nothing that the file has.
    Unsatisfiable,
}

/// Reads a `Range` header for a file of `size` bytes.
pub fn part(header: &str, size: u64) -> Part {
    let Some((first, last)) = header.trim().strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return Part::Whole;
    };
    let number = |text: &str| if text.bytes().all(|b| b.is_ascii_digit()) { text.parse::<u64>().ok() } else { None };
    match (number(first), number(last)) {
        // The last so many bytes.
        (None, Some(count)) if first.is_empty() => match size.checked_sub(1) {
            Some(last) if count > 0 => Part::Bytes { first: size.saturating_sub(count), last },
            _ => Part::Unsatisfiable,
        },
        (Some(first), None) if last.is_empty() => bytes(first, u64::MAX, size),
        (Some(first), Some(last)) if first <= last => bytes(first, last, size),
        _ => Part::Whole,
    }
}

fn bytes(first: u64, last: u64, size: u64) -> Part {
    match size.checked_sub(1) {
        Some(end) if first <= end => Part::Bytes { first, last: last.min(end) },
        _ => Part::Unsatisfiable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_is_understood_and_everything_else_ignored() {
        let bytes = |first, last| Part::Bytes { first, last };
        for (header, expected) in [
            ("bytes=0-4", bytes(0, 4)),
            ("bytes=5-", bytes(5, 9)),
            ("bytes=-3", bytes(7, 9)),
            ("bytes=-30", bytes(0, 9)),
            ("bytes=9-9", bytes(9, 9)),
            ("bytes=3-99999999999999999999", Part::Whole),
            ("bytes=3-99", bytes(3, 9)),
            ("bytes=10-", Part::Unsatisfiable),
            ("bytes=-0", Part::Unsatisfiable),
            ("bytes=4-2", Part::Whole),
            ("bytes=0-1,3-4", Part::Whole),
            ("bytes=+1-2", Part::Whole),
            ("bytes=-", Part::Whole),
            ("items=0-1", Part::Whole),
            ("", Part::Whole),
        ] {
            assert_eq!(part(header, 10), expected, "{header}");
        }
        assert_eq!(part("bytes=0-", 0), Part::Unsatisfiable);
        assert_eq!(part("bytes=-1", 0), Part::Unsatisfiable);
    }
}

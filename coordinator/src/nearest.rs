//! "Did you mean ...?": the known word that is closest to a mistyped one.

/// Longest text that is compared; a longer one was not mistyped, it is something else.
const CHARS_MAX: usize = 64;

/// The candidate with the fewest typing errors, if it has few enough to be the one that was meant.
pub fn nearest<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (text.chars().count() / 3).max(1);
    let within = |candidate: &'a str| Some((distance(text, candidate)?, candidate));
    let (errors, found) = candidates.into_iter().filter_map(within).min()?;
    (errors <= allowed).then_some(found)
}

/// The known word that an unknown one most resembles, taken from serde's message: "unknown field `a`, expected one of `b`,
/// `c`", or "unknown variant" in its place. Tests of those who use it hold serde to that form.
pub fn suggestion(message: &str) -> Option<&str> {
    let rest = message.strip_prefix("unknown field ").or_else(|| message.strip_prefix("unknown variant "))?;
    let mut names = rest.split('`').skip(1).step_by(2);
    let unknown = names.next()?;
    nearest(unknown, names)
}

/// Insertions, deletions and replacements from one text to the other (Levenshtein); `None` for long texts.
fn distance(from: &str, to: &str) -> Option<usize> {
    if from.chars().count() > CHARS_MAX || to.chars().count() > CHARS_MAX {
        return None;
    }
    let mut row: Vec<usize> = (0..=to.chars().count()).collect();
    for (line, a) in from.chars().enumerate() {
        let mut left = line + 1;
        let mut next = vec![left];
        for (pair, b) in row.windows(2).zip(to.chars()) {
            let [diagonal, above] = pair else { continue };
            left = (diagonal + usize::from(a != b)).min(above + 1).min(left + 1);
            next.push(left);
        }
        row = next;
    }
    row.last().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_word_finds_its_neighbour_and_a_foreign_one_finds_none() {
        let names = ["garage", "attic", "cellar"];
        assert_eq!(nearest("garge", names), Some("garage"));
        assert_eq!(nearest("atic", names), Some("attic"));
        assert_eq!(nearest("kitchen", names), None);
        assert_eq!(nearest("", names), None);
        assert_eq!(nearest(&"x".repeat(1_000), names), None);
        assert_eq!(distance("kitten", "sitting"), Some(3));
    }
}

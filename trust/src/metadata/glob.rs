//! Patterns of target paths (PATHPATTERN of TUF 4.5), as the shell knows them (glob(7)): `*`, `?` and `[...]`, none of
//! which matches a `/`. Upper and lower case differ, and a dot at the beginning is nothing special.

/// Whether `pattern` matches the whole of `path`. A bracket that is never closed stands for itself. Takes at most as many
/// steps as the product of the lengths.
pub fn matches(pattern: &str, path: &str) -> bool {
    let (mut patterns, mut parts) = (pattern.split('/'), path.split('/'));
    loop {
        match (patterns.next(), parts.next()) {
            (None, None) => return true,
            (Some(pattern), Some(part)) if part_matches(pattern, part) => {}
            _ => return false,
        }
    }
}

/// One part between slashes. Goes back to the last `*` only: what an earlier one could take, this one can take as well.
fn part_matches(pattern: &str, part: &str) -> bool {
    let (mut pattern, mut part) = (pattern, part);
    // What follows the last star, and what of the part it has not yet been tried on.
    let mut star: Option<(&str, &str)> = None;
    loop {
        if let Some(after) = pattern.strip_prefix('*') {
            (star, pattern) = (Some((after, part)), after);
            continue;
        }
        let mut rest = part.chars();
        match rest.next() {
            None => return pattern.is_empty(),
            Some(letter) => {
                if let Some(after) = one(pattern, letter) {
                    (pattern, part) = (after, rest.as_str());
                    continue;
                }
            }
        }
        let Some((after, tried)) = star else { return false };
        let mut rest = tried.chars();
        rest.next();
        (star, pattern, part) = (Some((after, rest.as_str())), after, rest.as_str());
    }
}

/// What is left of the pattern if its first element, no star, matches `letter`.
fn one(pattern: &str, letter: char) -> Option<&str> {
    let mut rest = pattern.chars();
    let first = rest.next()?;
    let rest = rest.as_str();
    match first {
        '?' => Some(rest),
        '[' => match set(rest) {
            Some((set, after)) => contains(set, letter).then_some(after),
            None => (letter == '[').then_some(rest),
        },
        _ => (first == letter).then_some(rest),
    }
}

/// The inside of a bracket, and what follows it. A `]` in the first place belongs to the set.
fn set(pattern: &str) -> Option<(&str, &str)> {
    let begin = pattern.strip_prefix('!').unwrap_or(pattern);
    let inside = begin.strip_prefix(']').unwrap_or(begin);
    let end = pattern.len() - inside.len() + inside.find(']')?;
    let (set, after) = pattern.split_at_checked(end)?;
    after.strip_prefix(']').map(|after| (set, after))
}

fn contains(set: &str, letter: char) -> bool {
    let (negated, set) = set.strip_prefix('!').map_or((false, set), |set| (true, set));
    let mut letters = set.chars();
    let mut found = false;
    while let Some(low) = letters.next() {
        let mut ahead = letters.clone();
        let high = match (ahead.next(), ahead.next()) {
            (Some('-'), Some(high)) => {
                letters = ahead;
                high
            }
            _ => low,
        };
        found |= (low..=high).contains(&letter);
    }
    found != negated
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, yes: &[&str], no: &[&str]) {
        for path in yes {
            assert!(matches(pattern, path), "{pattern} must match {path}");
        }
        for path in no {
            assert!(!matches(pattern, path), "{pattern} must not match {path}");
        }
    }

    #[test]
    fn the_specifications_examples_hold() {
        check("targets/*.tgz", &["targets/foo.tgz", "targets/bar.tgz"], &["targets/foo.txt"]);
        check("foo-version-?.tgz", &["foo-version-2.tgz", "foo-version-a.tgz"], &["foo-version-alpha.tgz"]);
        check("*.tgz", &["foo.tgz", "bar.tgz"], &["targets/foo.tgz"]);
        check("foo.tgz", &["foo.tgz"], &["Foo.tgz", "foo.tgz/", "/foo.tgz", "xfoo.tgz", ""]);
    }

    #[test]
    fn stars_match_anything_but_a_slash() {
        check("*", &["a", "", ".a", "äö"], &["a/b", "/", "a/"]);
        check("*/*", &["a/b", "/", "a/"], &["a", "a/b/c"]);
        check("a*b*c", &["abc", "aXbYc", "abbbcc", "abcabc"], &["ab", "acb", "aXbY"]);
        check("**", &["", "abc"], &["a/b"]);
        check("?", &["a", "ä"], &["", "/", "ab"]);
        check("", &[""], &["a"]);
    }

    #[test]
    fn brackets_are_sets_and_ranges() {
        check("v[0-9]", &["v0", "v9"], &["v", "va", "v10", "v-"]);
        check("[!a-c]x", &["dx", "-x", "!x"], &["ax", "bx", "x"]);
        check("[]a]", &["]", "a"], &["b", "]a"]);
        check("[a-]", &["a", "-"], &["b"]);
        check("[ab", &["[ab"], &["a", "b"]);
        check("[!]", &["[!]"], &["a"]);
        check("a[/]b", &["a[/]b"], &["a/b"]);
    }

    #[test]
    fn a_spiteful_pattern_is_soon_done() {
        let part = "a".repeat(1_000);
        assert!(!matches(&format!("{}b", "a*".repeat(500)), &part));
    }
}

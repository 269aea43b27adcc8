use super::*;

#[test]
fn words_are_unique_and_each_finding_says_why_and_what_to_do() {
    let mut words: Vec<&str> = Code::ALL.iter().map(|code| code.entry().word).collect();
    words.sort_unstable();
    words.dedup();
    assert_eq!(words.len(), Code::ALL.len());
    for code in Code::ALL {
        let entry = code.entry();
        assert!(entry.word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{}", entry.word);
        assert!(entry.level > Level::Ok && entry.why.ends_with('.') && entry.fix.ends_with('.'), "{}", entry.word);
    }
}

#[test]
fn the_page_for_operators_has_the_same_table() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operating/doctor.md");
    let page = std::fs::read_to_string(page).unwrap();
    let row = |code: &Code| {
        let Entry { word, level, why, fix } = code.entry();
        format!("| `{word}` | {} | {why} | {fix} |", level.as_str())
    };
    let wanted: Vec<String> = Code::ALL.iter().map(row).collect();
    // Below that are the codes of the coordinator's.
    let page = page.split("\n## `orangery doctor`").next().unwrap_or_default();
    let has: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
    assert_eq!(has, wanted, "docs/operating/doctor.md is to have these rows:\n{}", wanted.join("\n"));
}

#[test]
fn a_look_that_hangs_holds_up_nobody() {
    let begin = Instant::now();
    let hangs = within(Duration::from_millis(50), std::thread::park);
    assert_eq!(hangs, None);
    assert!(begin.elapsed() < Duration::from_secs(5));
    assert_eq!(within(PATIENCE, || 7), Some(7));
}

#[test]
fn sizes_are_told_in_one_unit() {
    for (bytes, text) in [(0, "0 bytes"), (1_023, "1023 bytes"), (1_536, "1.5 KiB"), (29 << 30, "29.0 GiB")] {
        assert_eq!(size(bytes), text);
    }
}

#[test]
fn nothing_that_is_found_can_drive_a_terminal() {
    let mut found = Findings { look: "apps", found: Vec::new() };
    found.add(Code::AppRefused, "\u{1b}[2J".repeat(9_999));
    let what = &found.found[0].what;
    assert!(!what.contains(char::is_control) && what.len() <= 1_024);
}

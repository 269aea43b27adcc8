//! The pages for operators: complete, and leading to one another.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use orangery_agent::doctor::Code;
use orangery_tests::process::{output, program};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every page of docs/operating by its name.
fn pages() -> BTreeMap<String, String> {
    let entries = std::fs::read_dir(root().join("docs/operating")).unwrap().map(|entry| entry.unwrap());
    let name = |entry: &std::fs::DirEntry| entry.file_name().into_string().unwrap();
    entries.map(|entry| (name(&entry), std::fs::read_to_string(entry.path()).unwrap())).collect()
}

/// The words of codes, from the API's description, which a test keeps equal to the code.
fn words(schema: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(root().join("docs/openapi.json")).unwrap();
    let api: serde_json::Value = serde_json::from_str(&text).unwrap();
    let schema = &api["components"]["schemas"][schema];
    let mut found = BTreeSet::new();
    let alternatives = schema["oneOf"].as_array().into_iter().flatten();
    for place in alternatives.chain([schema]).flat_map(|one| [one, &one["properties"]["code"]]) {
        let texts = place["enum"].as_array().into_iter().flatten().chain([&place["const"]]);
        found.extend(texts.filter_map(|word| word.as_str()).map(str::to_owned));
    }
    found
}

fn missing<'a>(words: impl IntoIterator<Item = &'a str>, pages: &BTreeMap<String, String>) -> Vec<&'a str> {
    let told = |word: &str| pages.values().any(|page| page.contains(&format!("`{word}`")));
    words.into_iter().filter(|word| !told(word)).collect()
}

#[test]
fn every_code_that_an_operator_may_meet_stands_on_a_page() {
    let pages = pages();
    let (refusals, events) = (words("RefusalCode"), words("What"));
    assert!(refusals.len() > 15 && events.len() > 14, "{refusals:?} {events:?}");
    let none: Vec<&str> = Vec::new();
    assert_eq!(missing(refusals.iter().map(String::as_str), &pages), none, "codes of refusals");
    assert_eq!(missing(events.iter().map(String::as_str), &pages), none, "codes of events");
    assert_eq!(missing(Code::ALL.iter().map(|code| code.entry().word), &pages), none, "codes of doctor");
}

#[test]
fn pages_lead_to_pages_that_are_there_and_the_index_to_all() {
    let pages = pages();
    for (name, text) in &pages {
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap();
            let there =
                link.contains("://") || link.starts_with('#') || root().join("docs/operating").join(file).exists();
            assert!(there, "{name} leads to {link}, which is not there");
        }
    }
    let index = &pages["README.md"];
    for name in pages.keys().filter(|name| *name != "README.md") {
        assert!(index.contains(&format!("({name}")), "the index does not lead to {name}");
    }
    for code in Code::ALL {
        for word in code.entry().fix.split(|c: char| !(c.is_ascii_alphanumeric() || "-.".contains(c))) {
            let page = word.trim_end_matches('.');
            let is_page = Path::new(page).extension().is_some_and(|end| end == "md");
            assert!(!is_page || pages.contains_key(page), "{} sends people to {page}", code.entry().word);
        }
    }
}

/// The names by which a page's headings are linked to, as forges make them: lower case, words joined by hyphens.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings = page.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let kept = |c: char| c.is_alphanumeric() || "-_ ".contains(c);
    let anchor =
        |heading: &str| heading.chars().filter(|c| kept(*c)).collect::<String>().to_lowercase().replace(' ', "-");
    headings.map(anchor).collect()
}

#[test]
fn links_into_a_page_lead_to_a_heading_that_is_there() {
    let pages = pages();
    let mut followed = 0;
    for (name, text) in &pages {
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let Some((file, anchor)) = link.split_once('#').filter(|(file, _)| !file.contains("://")) else { continue };
            let Some(page) = pages.get(if file.is_empty() { name.as_str() } else { file }) else { continue };
            assert!(anchors(page).contains(anchor), "{name} leads to {link}, and that page has no such heading");
            followed += 1;
        }
    }
    assert!(followed > 15, "{followed} links were followed");
}

#[test]
fn each_alert_names_the_heading_that_says_what_to_do() {
    let rules = std::fs::read_to_string(root().join("docs/examples/monitoring/orangery.rules.yml")).unwrap();
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let named: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("page: ")).collect();
    assert!(alerts.len() > 12 && alerts.len() == named.len(), "{alerts:?} {named:?}");
    let page = &pages()["alerts.md"];
    let sections: BTreeMap<&str, &str> = page.split("\n## ").skip(1).filter_map(|part| part.split_once('\n')).collect();
    for (alert, page) in alerts.iter().zip(named) {
        assert_eq!(page, format!("\"docs/operating/alerts.md#{}\"", alert.to_lowercase()));
        let section = sections.get(alert).unwrap_or_else(|| panic!("alerts.md has no heading {alert}"));
        assert!(section.contains("```sh\n"), "{alert} has nothing to look at first");
    }
    assert_eq!(sections.len(), alerts.len(), "alerts.md has a heading without an alert");
}

/// A command of ours in a page: its program, the words before the first that stands for something else, and its options.
type Example = (String, Vec<String>, Vec<String>);

/// The commands in the code of a page. A prompt, `sudo` and what follows a `|`, `;`, `&` or `#` are not part of them.
fn examples(page: &str) -> BTreeSet<Example> {
    let code = page.split('`').flat_map(str::lines);
    let commands = code.map(|line| {
        let line = line.trim().trim_start_matches("$ ").trim_start_matches("sudo ");
        line.split(['|', ';', '&', '#', '<', '>']).next().unwrap_or_default().split_whitespace()
    });
    let example = |mut words: std::str::SplitWhitespace<'_>| -> Option<Example> {
        let program = words.next().filter(|program| matches!(*program, "orangery" | "orangery-agent"))?;
        let rest: Vec<&str> = words.collect();
        let is_word = |word: &&&str| word.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !word.starts_with('-');
        let own = |word: &&str| (*word).to_owned();
        let words: Vec<String> = rest.iter().take_while(is_word).map(own).collect();
        let options = rest.iter().filter(|word| word.starts_with("--"));
        let options = options.map(|word| word.split('=').next().unwrap_or_default().to_owned()).collect();
        (!words.is_empty()).then(|| (program.to_owned(), words, options))
    };
    commands.filter_map(example).collect()
}

#[test]
fn every_command_on_a_page_is_one_that_the_programs_know_with_these_options() {
    let pages = pages();
    let text = |(name, page): (&String, &String)| {
        examples(page).into_iter().map(|one| (name.clone(), one)).collect::<Vec<_>>()
    };
    let all: Vec<(String, Example)> = pages.iter().flat_map(text).collect();
    let mut known = BTreeMap::new();
    for (page, (program_name, words, options)) in &all {
        let help = known.entry((program_name, words)).or_insert_with(|| {
            let asked = output(Command::new(program(program_name)).args(words).arg("--help"));
            assert!(asked.status.success(), "{page}: {program_name} does not know {words:?}");
            String::from_utf8(asked.stdout).unwrap()
        });
        for option in options {
            assert!(help.contains(option.as_str()), "{page}: {program_name} {words:?} has no {option}");
        }
    }
    assert!(known.len() > 25, "{} commands were found", known.len());
}

#[test]
fn each_page_on_a_failure_says_what_happens_what_is_seen_and_what_to_do() {
    let others = ["README.md", "alerts.md", "doctor.md", "fleet-size.md", "keys.md", "monitoring.md"];
    for (name, text) in pages().iter().filter(|(name, _)| !others.contains(&name.as_str())) {
        let headings: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("## ")).collect();
        for part in ["by itself", "sees", "can do"] {
            assert!(headings.iter().any(|heading| heading.contains(part)), "{name} has no section with {part:?}");
        }
    }
}

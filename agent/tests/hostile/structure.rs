//! Entries that do not go together.

use serde_json::json;

use super::{Cases, Draft, directory, file, link};

pub fn add(cases: &mut Cases) {
    let new = Draft::new;
    let (twice, listed, case) = ("twice", "not listed before", "upper and lower case");
    let drafts: Vec<(&str, &'static str, Draft)> = vec![
        ("a file twice", twice, new().with_file("f", b"one").with_file("f", b"two")),
        ("the program twice", twice, new().with_file("app", b"evil")),
        ("a directory twice", twice, new().with(directory("d"))),
        ("a link twice", twice, new().with(link("l", "app")).with(link("l", "d"))),
        ("a file that is also a directory", twice, new().with_file("f", b"x").with(directory("f"))),
        ("a directory that is also a file", twice, new().with_file("d", b"x")),
        ("a link that is also a directory", twice, new().with(link("l", "d")).with(directory("l"))),
        ("a file below a file", listed, new().with_file("f", b"x").with_file("f/x", b"y")),
        ("a directory below a file", listed, new().with_file("f", b"x").with(directory("f/x"))),
        ("a file in a directory that is not listed", listed, new().with_file("e/x", b"y")),
        ("a file deep in directories that are not listed", listed, new().with_file("e/f/g/x", b"y")),
        ("a directory after what is in it", listed, new().with_file("e/x", b"y").with(directory("e"))),
        ("entries that are not sorted", "not sorted", new().with_file("z", b"x").with_file("y", b"x")),
        ("names that differ in case", case, new().with_file("f", b"y").with_file("F", b"x").sorted()),
        ("programs that differ in case", case, new().with_file("d0", b"x").with_file("D0", b"y").sorted()),
        ("directories that differ in case", case, new().with(directory("D")).sorted()),
        ("a file and a directory that differ in case", case, new().with_file("D", b"x").sorted()),
        ("a link and a directory that differ in case", case, new().with(link("D", "app")).sorted()),
        ("contents of directories that differ in case", case, cased_directories()),
        ("letters beyond ASCII that differ in case", case, new().with_file("Ä", b"x").with_file("ä", b"y")),
        ("a sign that is a letter to some", case, new().with_file("k", b"x").with_file("\u{212a}", b"y")),
        ("the angstrom sign and the letter", case, new().with_file("å", b"x").with_file("\u{212b}", b"y")),
        ("a letter composed and decomposed", "NFC", new().with_file("e\u{301}", b"x").with_file("é", b"y")),
        ("no entries", "no entries", new().tree(|tree| (tree["entries"], tree["size_bytes"]) = (json!([]), json!(0)))),
        ("no files", "size_bytes", new().tree(|tree| tree["entries"] = json!([directory("d")]))),
        ("no program", "exec", Draft { entries: vec![file("data", b"")], content: Vec::new(), ..new() }),
        ("16385 entries", "too many", many(16_385)),
        ("100000 entries", "too many", many(100_000)),
    ];
    for (name, why, draft) in drafts {
        cases.invalid(name, why, draft);
    }
}

fn cased_directories() -> Draft {
    Draft::new().with(directory("D")).with(directory("D/e")).with(directory("d/E")).sorted()
}

/// So many entries in all.
fn many(count: usize) -> Draft {
    let mut draft = Draft::new();
    for n in draft.entries.len()..count {
        draft.entries.push(directory(&format!("e{n:06}")));
    }
    draft
}

impl Draft {
    /// The same with its entries by path. Only for files of no importance: contents are not moved.
    fn sorted(mut self) -> Self {
        let path = |entry: &serde_json::Value| {
            entry.as_object().unwrap().values().next().unwrap()["path"].as_str().unwrap().to_owned()
        };
        self.entries.sort_by_key(path);
        self
    }
}

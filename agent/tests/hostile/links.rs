//! Links that lead out of the tree, or would be led through.

use std::path::Path;

use super::{Cases, Draft, directory, file, link};

/// What it is, where the link leads, and what the refusal says.
const TARGETS: &[(&str, &str, &str)] = &[
    ("to the root", "/", "absolute"),
    ("to a file of the system", "/etc/passwd", "absolute"),
    ("to a file of the system, by two slashes", "//etc/passwd", "absolute"),
    ("to the agent's own directory", "/proc/self/cwd", "absolute"),
    ("to the parent", "..", "leads out"),
    ("to the parent, with a slash", "../", "leads out"),
    ("two up", "../..", "leads out"),
    ("to a neighbour", "../x", "leads out"),
    ("to the seal", "../manifest.json", "leads out"),
    ("to another release", "../../other/tree/app", "leads out"),
    ("to the settings of the node", "../../../../../trust/root.json", "leads out"),
    ("down and up again", "d/..", "leads out"),
    ("down, up and out", "d/../../x", "leads out"),
    ("up at the end", "d/../..", "leads out"),
    ("nowhere", "", "does not lead"),
    ("to here", ".", "does not lead"),
    ("to here, by a slash", "./", "does not lead"),
    ("by a detour", "./app", "does not lead"),
    ("with a slash at its end", "d/", "does not lead"),
    ("below a file", "app/x", "does not lead"),
    ("to itself", "l", "does not lead"),
    ("to what is not there", "none", "does not lead"),
    ("to a NUL", "app\0", "does not lead"),
    ("to a line break", "app\n", "does not lead"),
    ("by backslash", "..\\x", "does not lead"),
    ("home", "~", "does not lead"),
    ("to a variable", "$HOME", "does not lead"),
];

pub fn add(cases: &mut Cases, outside: &Path) {
    let absolute = outside.display().to_string();
    let (long, deep) = ("n".repeat(513), "../".repeat(200) + "etc/passwd");
    let longer = [
        ("to a place outside", absolute.as_str(), "absolute"),
        ("to 513 bytes", &long, "absolute"),
        ("200 up", &deep, "absolute"),
    ];
    for (what, target, why) in TARGETS.iter().copied().chain(longer) {
        cases.invalid(format!("a link {what}"), why, Draft::new().with(link("l", target)));
    }
    for (what, target) in [("one up too many", "../../x"), ("to the tree itself", ".."), ("to its own place", ".")] {
        cases.invalid(format!("a link in a directory {what}"), "lead", Draft::new().with(link("d/l", target)));
    }
    chains(cases, &absolute);
}

/// Several links, or a link and what would go through it.
fn chains(cases: &mut Cases, outside: &str) {
    let listed = "not listed before";
    let drafts: Vec<(&str, &'static str, Draft)> = vec![
        ("a link to a link", "does not lead", Draft::new().with(link("l", "m")).with(link("m", "app"))),
        ("two links in a ring", "does not lead", Draft::new().with(link("l", "m")).with(link("m", "l"))),
        ("a link through a link", "does not lead", Draft::new().with(link("l", "d")).with(link("m", "l/x"))),
        ("a link up through a link", "leads out", Draft::new().with(link("l", "d")).with(link("m", "l/../x"))),
        ("a file through a link", listed, Draft::new().with(link("l", "d")).with_file("l/x", b"evil")),
        ("a file through a link that leads out", listed, Draft::new().with(link("l", "..")).with_file("l/x", b"evil")),
        ("a file through an absolute link", listed, Draft::new().with(link("l", outside)).with_file("l/x", b"evil")),
        ("a directory through a link", listed, Draft::new().with(link("l", outside)).with(directory("l/x"))),
        ("a link through an absolute link", listed, Draft::new().with(link("l", outside)).with(link("l/x", "app"))),
        ("a link in the place of a directory", "twice", Draft::new().with(link("d", outside)).with(file("d/x", b""))),
        ("a directory in the place of a link", "twice", Draft::new().with(link("l", outside)).with(directory("l"))),
        ("a file in the place of a link", "twice", Draft::new().with(link("l", outside)).with_file("l", b"evil")),
        ("a link in the place of a file", "twice", Draft::new().with_file("f", b"good").with(link("f", outside))),
    ];
    for (name, why, draft) in drafts {
        cases.invalid(name, why, draft);
    }
    let mut chain = Draft::new();
    for n in 100..140 {
        chain = chain.with(link(&format!("l{n}"), &format!("l{}", n + 1)));
    }
    cases.invalid("a chain of 40 links", "does not lead", chain.with(link("l140", "../..")));
}

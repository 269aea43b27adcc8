//! What the manifest has no word for: devices, pipes, owners, modes.

use orangery_wire::manifest::this_platform;
use serde_json::{Value, json};

use super::{Cases, Draft, file};

pub fn add(cases: &mut Cases) {
    for kind in
        ["device", "char", "block", "fifo", "socket", "hardlink", "sparse", "whiteout", "portal", "unknown", "File"]
    {
        let entry = json!({ kind: { "path": "x", "target": "app", "major": 1, "minor": 3, "mode": "0666" } });
        cases.invalid(format!("an entry of the kind {kind}"), "unknown variant", Draft::new().with(entry));
    }
    for (key, value) in [
        ("mode", json!("04755")),
        ("mode", json!(2541)),
        ("permissions", json!(4095)),
        ("setuid", json!(true)),
        ("setgid", json!(true)),
        ("sticky", json!(true)),
        ("uid", json!(0)),
        ("gid", json!(0)),
        ("owner", json!("root")),
        ("mtime", json!(0)),
        ("xattrs", json!({ "security.capability": "AQAAAg==" })),
        ("capabilities", json!(["cap_sys_admin"])),
        ("offset", json!(1_u64 << 40)),
        ("target", json!("/etc/passwd")),
    ] {
        let what = format!("{key} {value}");
        let change = move |tree: &mut Value| tree["entries"][0]["file"][key] = value;
        cases.invalid(format!("a file with {what}"), "unknown field", Draft::new().tree(change));
    }
    let of = |kind: &'static str, key: &'static str| {
        Draft::new().with(json!({ kind: { "path": "x", "target": "app", key: "1777" } }))
    };
    cases.invalid("a directory with a mode", "unknown field", of("directory", "mode"));
    cases.invalid("a link with a mode", "unknown field", of("link", "mode"));
    let executable = |value: Value| Draft::new().tree(move |tree| tree["entries"][0]["file"]["executable"] = value);
    cases.invalid("a mode in the place of yes or no", "invalid type", executable(json!("04755")));
    cases.invalid("a number in the place of yes or no", "invalid type", executable(json!(2)));
    let two = json!({ "file": file("x", b"")["file"], "link": { "path": "y", "target": "app" } });
    cases.invalid("an entry of two kinds", "cannot be read", Draft::new().with(two));
    for (what, entry) in
        [("a list", json!([1])), ("nothing", Value::Null), ("a number", json!(7)), ("a text", json!("x"))]
    {
        cases.invalid(format!("an entry that is {what}"), "cannot be read", Draft::new().with(entry));
    }
    programs(cases);
}

/// Commands that are no program of the tree.
fn programs(cases: &mut Cases) {
    for (what, word) in [
        ("out of the tree", "../../../bin/sh"),
        ("by a detour", "d/../app"),
        ("a directory", "d"),
        ("not there", "none"),
        ("nothing", ""),
        ("a text with a line break", "app\n"),
        ("a text with a NUL", "app\0"),
    ] {
        let draft = Draft::new().changed(move |manifest| manifest["run"]["exec"] = json!([word]));
        cases.invalid(format!("a program that is {what}"), "exec", draft);
    }
    let through = Draft::new().with(super::link("l", "app"));
    cases.invalid(
        "a program that is a link",
        "exec",
        through.changed(|manifest| manifest["run"]["exec"] = json!(["l"])),
    );
    let unmarked = Draft::new().with_file("f", b"x");
    cases.invalid(
        "a program that is not executable",
        "exec",
        unmarked.changed(|manifest| manifest["run"]["exec"] = json!(["f"])),
    );
    let loader = |manifest: &mut Value| manifest["run"]["env"] = json!({ "LD_PRELOAD=x;": "evil" });
    cases.invalid("a variable that is two", "run.env", Draft::new().changed(loader));
    let platform = |manifest: &mut Value| {
        let tree = manifest["platforms"][this_platform()].clone();
        manifest["platforms"]["../../linux"] = tree;
    };
    cases.invalid("a platform that is a path", "platforms", Draft::new().changed(platform));
}

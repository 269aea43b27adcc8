//! Numbers that lie, sizes without bound, and manifests that are none.

use orangery_wire::limits::{MANIFEST_BYTES_MAX, TREE_BYTES_MAX};
use orangery_wire::messages::RefusalCode;
use serde_json::{Value, json};

use super::{Cases, Draft, file};

pub fn add(cases: &mut Cases) {
    sizes(cases);
    headers(cases);
    for (what, raw) in [
        ("nothing", Vec::new()),
        ("zeros", vec![0; 64]),
        ("not UTF-8", vec![0xff; 64]),
        ("a list", b"[]".to_vec()),
        ("a number", b"1e999".to_vec()),
        ("an open bracket, many times", vec![b'['; 100_000]),
        ("an open brace, many times", b"{\"a\":".repeat(20_000)),
        ("a text without end", b"\"abc".to_vec()),
        ("a lone surrogate", b"{\"format\":1,\"app\":\"\\ud800\"}".to_vec()),
        ("a program", b"#!/bin/sh\nrm -rf /\n".to_vec()),
    ] {
        cases.invalid(format!("a manifest that is {what}"), "cannot be read", Draft::new().raw(raw));
    }
    let long = Draft::new().raw(vec![b' '; MANIFEST_BYTES_MAX + 1]);
    cases.add("a manifest that is too long", RefusalCode::Unverified, "longer than", long);
}

fn sizes(cases: &mut Cases) {
    for (what, size) in [
        ("negative", json!(-1)),
        ("half a byte", json!(0.5)),
        ("a text", json!("10")),
        ("a list", json!([10])),
        ("nothing", Value::Null),
        ("more than 64 bits", json!(1e30)),
    ] {
        let (in_file, in_pack) = (size.clone(), size.clone());
        let name = |of: &str| format!("the size of {of} is {what}");
        let of_file = Draft::new().tree(|tree| tree["entries"][0]["file"]["size_bytes"] = in_file);
        cases.invalid(name("a file"), "cannot be read", of_file);
        cases.invalid(name("the tree"), "cannot be read", Draft::new().tree(|tree| tree["size_bytes"] = size));
        let of_pack = Draft::new().tree(|tree| tree["pack"]["size_bytes"] = in_pack);
        cases.invalid(name("the pack"), "cannot be read", of_pack);
    }
    let tree_of = |size: u64| Draft::new().tree(move |tree| tree["size_bytes"] = json!(size));
    cases.invalid("a tree said to be larger than its files", "size_bytes", tree_of(11));
    cases.invalid("a tree said to be smaller than its files", "size_bytes", tree_of(9));
    cases.invalid("a tree said to be empty", "size_bytes", tree_of(0));
    cases.invalid("a tree larger than any", "too large", tree_of(TREE_BYTES_MAX + 1));
    cases.invalid("a tree of all bytes there are", "too large", tree_of(u64::MAX));
    cases.invalid("a tree that grows a thousandfold and more", "grow too much", tree_of(64 << 20));
    let overflowing = Draft::new().with(file("e", b"")).with(file("f", b"")).tree(|tree| {
        tree["entries"][2]["file"]["size_bytes"] = json!(u64::MAX);
        tree["entries"][3]["file"]["size_bytes"] = json!(u64::MAX - 8);
        tree["size_bytes"] = json!(1);
    });
    cases.invalid("sizes that overflow to a small sum", "size_bytes", overflowing);
}

/// Fields that are not of this format.
fn headers(cases: &mut Cases) {
    let change = |change: fn(&mut Value)| Draft::new().changed(change);
    let tree = |change: fn(&mut Value)| Draft::new().tree(change);
    let rows: Vec<(&str, &'static str, Draft)> = vec![
        ("format 0", "format", change(|m| m["format"] = json!(0))),
        ("format 2", "format", change(|m| m["format"] = json!(2))),
        ("no format", "missing field", change(|m| drop(m.as_object_mut().unwrap().remove("format")))),
        ("another app", "says", change(|m| m["app"] = json!("other"))),
        ("another version", "says", change(|m| m["version"] = json!("9.9.9"))),
        ("an app that is a path", "cannot be read", change(|m| m["app"] = json!("../greeter"))),
        ("a version that is a path", "cannot be read", change(|m| m["version"] = json!("../1.0.0"))),
        ("no platforms", "platforms", change(|m| m["platforms"] = json!({}))),
        ("a key that nobody knows", "unknown field", change(|m| m["pre_install"] = json!("rm -rf /"))),
        ("a key of the tree that nobody knows", "unknown field", tree(|t| t["post_install"] = json!("sh"))),
        ("a key of the pack that nobody knows", "unknown field", tree(|t| t["pack"]["url"] = json!("http://x"))),
        ("an encoding that nobody knows", "unknown variant", tree(|t| t["pack"]["encoding"] = json!("tar"))),
        ("an encoding in capitals", "unknown variant", tree(|t| t["pack"]["encoding"] = json!("ZSTD"))),
        ("a digest that is a path", "not a valid digest", tree(|t| t["pack"]["digest"] = json!("../../etc/passwd"))),
        ("a digest in capitals", "not a valid digest", tree(|t| t["pack"]["digest"] = json!("AB".repeat(32)))),
        ("a digest that is short", "not a valid digest", tree(|t| t["pack"]["digest"] = json!("ab"))),
        (
            "a file's digest that is short",
            "not a valid digest",
            tree(|t| t["entries"][0]["file"]["digest"] = json!("")),
        ),
        ("a soak longer than a day", "soak", change(|m| m["soak_secs"] = json!(86_401))),
        ("17 platforms", "platforms", change(many_platforms)),
    ];
    for (name, why, draft) in rows {
        cases.invalid(name, why, draft);
    }
    let twice =
        br#"{"format":1,"app":"greeter","app":"greeter","version":"1.0.0","run":{"exec":["/x"]},"platforms":{}}"#;
    cases.invalid("a key twice", "duplicate field", Draft::new().raw(twice.to_vec()));
}

fn many_platforms(manifest: &mut Value) {
    let tree = manifest["platforms"][orangery_wire::manifest::this_platform()].clone();
    for n in 0..17 {
        manifest["platforms"][format!("linux/arch{n}")] = tree.clone();
    }
}

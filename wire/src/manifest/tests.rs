use super::*;

fn file(path: &str) -> Entry {
    Entry::File { path: path.into(), digest: Digest([7; 32]), size_bytes: 5, executable: true }
}

fn manifest(entries: Vec<Entry>) -> Manifest {
    let size_bytes = entries.iter().map(|e| if let Entry::File { size_bytes, .. } = e { *size_bytes } else { 0 }).sum();
    let pack = Pack { digest: Digest([9; 32]), size_bytes: 100, encoding: Encoding::Zstd };
    Manifest {
        format: FORMAT,
        app: "greeter".parse().unwrap(),
        version: "1.0.0".parse().unwrap(),
        notes: None,
        source: None,
        constraints: Constraints::default(),
        run: serde_json::from_str(r#"{"exec":["bin/greeter","--port","${PORT}"]}"#).unwrap(),
        probes: vec![],
        soak_secs: 0,
        gate: Gate::default(),
        platforms: BTreeMap::from([("linux/arm64".to_owned(), Tree { size_bytes, pack, entries })]),
    }
}

fn tree() -> Vec<Entry> {
    vec![Entry::Directory { path: "bin".into() }, file("bin/greeter")]
}

fn link(path: &str, target: &str) -> Entry {
    Entry::Link { path: path.into(), target: target.into() }
}

fn check(entries: Vec<Entry>, expected: Result<(), &str>) {
    match (manifest(entries).validate(), expected) {
        (Ok(()), Ok(())) => {}
        (Err(e), Err(part)) => assert!(e.to_string().contains(part), "{e}"),
        (got, wanted) => panic!("{got:?}, wanted {wanted:?}"),
    }
}

fn with(extra: Entry) -> Vec<Entry> {
    let mut entries = tree();
    entries.push(extra);
    entries
}

#[test]
fn a_manifest_survives_its_bytes() {
    let manifest = manifest(tree());
    assert_eq!(Manifest::parse(&manifest.to_bytes()), Ok(manifest));
}

#[test]
fn trees_hold_only_files_directories_and_links_that_stay_inside() {
    check(tree(), Ok(()));
    check(with(link("current", "bin/greeter")), Ok(()));
    check(with(link("current", "bin")), Ok(()));
    check(with(link("out", "../etc/passwd")), Err("out of the tree"));
    check(with(link("out", "/etc/passwd")), Err("absolute"));
    check(with(link("out", "bin/../../etc")), Err("out of the tree"));
    check(with(link("loop", "loop")), Err("does not lead to"));
    check(with(file("/etc/passwd")), Err("absolute"));
    check(with(file("../x")), Err("'..'"));
    check(with(file("bin/../x")), Err("'..'"));
    check(with(file("x//y")), Err("empty"));
    check(with(file("bin/greeter")), Err("twice"));
    check(with(file("bin/greeter/below")), Err("not listed before"));
    check(with(file("new\nline")), Err("control character"));
    check(with(file(&"d/".repeat(40))), Err("too deep"));
    check(with(file("bin/Greeter2")), Err("not sorted"));
    check(with(file("bin/greeteR2")), Err("not sorted"));
    check(with(file("e\u{301}")), Err("NFC"));
    check(with(file("txt.\u{202e}exe")), Err("invisible"));
    check(with(file("ä")), Ok(()));
    check(vec![Entry::Directory { path: "BIN".into() }, file("bin")], Err("upper and lower case"));
    check(vec![file("bin/greeter")], Err("not listed before"));
    check(vec![file("other")], Err("executable"));
}

#[test]
fn a_link_through_a_link_is_refused_because_dot_dot_would_escape() {
    // `self -> .` and `x -> self/../..` would lead out while looking harmless.
    check(with(link("self", ".")), Err("does not lead to"));
    let mut entries = with(link("here", "bin"));
    entries.push(link("there", "here/greeter"));
    check(entries, Err("does not lead to"));
}

#[test]
fn unknown_keys_and_wrong_sizes_are_refused() {
    let mut json: serde_json::Value = serde_json::from_slice(&manifest(tree()).to_bytes()).unwrap();
    json["platforms"]["linux/arm64"]["entries"][1]["file"]["mode"] = "4755".into();
    let refused = Manifest::parse(json.to_string().as_bytes()).unwrap_err().to_string();
    assert!(refused.contains("unknown field `mode`"), "{refused}");

    let mut short = manifest(tree());
    short.platforms.values_mut().for_each(|tree| tree.size_bytes = 4);
    assert!(short.validate().unwrap_err().to_string().contains("size_bytes"));

    let mut bomb = manifest(tree());
    for tree in bomb.platforms.values_mut() {
        tree.size_bytes = 1 << 33;
        tree.pack.size_bytes = 1;
    }
    assert!(bomb.validate().unwrap_err().to_string().contains("grow too much"));
}

#[test]
fn variables_are_replaced_once() {
    let variables = BTreeMap::from([("PORT".to_owned(), "${X}".to_owned())]);
    assert_eq!(expand("a${PORT}b$", &variables).unwrap(), "a${X}b$");
    assert_eq!(expand("${NO}", &variables).unwrap_err().name, "NO");
    assert!(expand("${PORT", &variables).is_err());
}

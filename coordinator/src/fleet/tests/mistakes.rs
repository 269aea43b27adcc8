//! Each mistake with its text.

use super::*;

const APP: (&str, &str) = ("apps/web.toml", "[default]\nversion = \"1.1.0\"\n");

/// What is said of a directory that is not sound, or not sound for this fleet.
fn said(texts: &[(&str, &str)], world: &World) -> String {
    let desired = match Desired::parse(&files(texts)) {
        Ok(desired) => desired,
        Err(problems) => return problems.to_string(),
    };
    match resolve(&desired, world) {
        Ok(resolved) => draft(&desired, &resolved, world).unwrap_err().to_string(),
        Err(problems) => problems.to_string(),
    }
}

fn is_said(texts: &[(&str, &str)], expected: &[&str]) {
    let said = said(texts, &world());
    for part in expected {
        assert!(said.contains(part), "{texts:?}: {part:?} is not in {said:?}");
    }
}

#[test]
fn an_unknown_key_is_told_with_file_line_and_the_one_that_was_meant() {
    for (path, text, meant) in [
        ("fleet.toml", "formats = 1", "`format`"),
        ("rollouts.toml", "[default]\nsoaks = [\"1h\"]", "`soak`"),
        ("rollouts.toml", "[default]\non_failure = \"pauze\"", "`pause`"),
        ("apps/web.toml", "[defaults]\nversion = \"1.0.0\"", "`default`"),
        ("apps/web.toml", "[default]\nversions = \"1.0.0\"", "`version`"),
        ("groups/north.toml", "node = [\"attic\"]", "`nodes`"),
        ("nodes/attic.toml", "[holds]\nreason = \"x\"", "`hold`"),
        ("nodes/attic.toml", "[hold]\nreasons = \"x\"", "`reason`"),
        ("nodes/attic.toml", "[apps.web]\nversio = \"1.0.0\"", "`version`"),
    ] {
        is_said(&[(path, text)], &[path, "line ", &format!("did you mean {meant}?")]);
    }
}

#[test]
fn a_value_that_is_none_is_told_with_its_file_and_the_rule() {
    for (path, text, rule) in [
        ("fleet.toml", "format = 2", "fleet.toml: its format is 2, and this program knows 1: update orangery"),
        ("fleet.toml", "format", "fleet.toml: TOML parse error"),
        ("apps/web.toml", "[default]\nversion = \"1.1\"", "MAJOR.MINOR.PATCH"),
        ("apps/Web.toml", "", "apps/Web.toml: \"Web\" is not a valid app name"),
        ("nodes/-x.toml", "", "nodes/-x.toml: \"-x\" is not a valid node name"),
        ("groups/a b.toml", "", "groups/a b.toml: \"a b\" is not a valid group name: use 1 to 63"),
        ("channels.toml", "[Stable]", "channels.toml: \"Stable\" is not a valid channel name"),
        ("rollouts.toml", "[default]\nsoak = [\"1w\"]", "\"1w\" is no time: write a number with s, m, h or d"),
        ("rollouts.toml", "[default]\nwaves = [\"0%\"]", "a share is from 1% to 100%"),
        ("rollouts.toml", "[default]\nfailures = [\"x\"]", "is no number of failures"),
        ("rollouts.toml", "[default]\ndone_within = \"1h:never\"", "write fail, skip or wait"),
        ("groups/north.toml", "", "groups/north.toml says of no node that it belongs to it"),
        (
            "groups/north.toml",
            "all = true\n[[windows]]\nfrom = \"2:00\"\nto = \"03:00\"\nzone = \"UTC\"",
            "write HH:MM from 00:00",
        ),
        (
            "groups/north.toml",
            "all = true\n[[windows]]\nfrom = \"02:00\"\nto = \"02:00\"\nzone = \"UTC\"",
            "groups/north.toml: a window from 02:00 to 02:00 never opens",
        ),
        (
            "groups/north.toml",
            "all = true\n[[windows]]\nfrom = \"02:00\"\nto = \"03:00\"\nzone = \"Europe/Berlim\"",
            "there is no time zone Europe/Berlim; did you mean Europe/Berlin?",
        ),
        ("nodes/attic.toml", "[hold]\nreason = \" \"", "nodes/attic.toml: the reason of a hold has from 1 to"),
        ("nodes/attic.toml", "[hold]\nreason = \"a\\nb\"", "no control characters"),
        (
            "nodes/attic.toml",
            "[hold]\nreason = \"x\"\nuntil = \"tomorrow\"",
            "\"tomorrow\" is no time: write `until` in UTC",
        ),
        ("app/web.toml", "", "app/web.toml is no part of a fleet directory; did you mean apps?"),
        ("apps/web.tml", "", "apps/web.tml is no part of a fleet directory; in apps there are only files NAME.toml"),
        ("channel.toml", "", "did you mean channels.toml?"),
        ("xyzzy", "", "xyzzy is no part of a fleet directory"),
    ] {
        is_said(&[(path, text)], &[rule]);
    }
}

#[test]
fn what_files_say_of_one_another_must_be_there() {
    for (path, text, rule) in [
        ("apps/web.toml", "rollout = \"carefull\"", "rollouts.toml has no policy \"carefull\"; did you mean careful?"),
        (
            "apps/web.toml",
            "[default]\nchannel = \"stabel\"",
            "[default]: channels.toml has no channel \"stabel\"; did you mean stable?",
        ),
        (
            "apps/web.toml",
            "[default]\nchannel = \"stable\"",
            "channels.toml has no version of web in the channel stable",
        ),
        (
            "apps/web.toml",
            "[default]",
            "apps/web.toml: [default]: write exactly one of `version`, `channel` and `stop = true`",
        ),
        ("apps/web.toml", "[default]\nversion = \"1.0.0\"\nstop = true", "write exactly one of"),
        ("apps/web.toml", "[default]\nstop = false", "write exactly one of"),
        ("apps/web.toml", "[groups.nort]\nversion = \"1.0.0\"", "there is no groups/nort.toml; did you mean north?"),
        (
            "nodes/attic.toml",
            "[apps.wep]\nversion = \"1.0.0\"",
            "nodes/attic.toml: there is no apps/wep.toml; did you mean web?",
        ),
        ("nodes/attic.toml", "[apps.web]", "[apps.web] says nothing"),
        ("channels.toml", "[beta]\nwep = \"1.0.0\"", "channels.toml: there is no apps/wep.toml"),
    ] {
        let mut all = vec![
            ("channels.toml", "[stable]\n"),
            ("rollouts.toml", "[careful]\n"),
            ("groups/north.toml", "nodes = [\"attic\"]\n"),
            ("apps/web.toml", ""),
        ];
        all.retain(|(there, _)| *there != path);
        all.push((path, text));
        is_said(&all, &[rule]);
    }
}

#[test]
fn every_mistake_is_told_and_many_are_cut() {
    let texts: Vec<(String, String)> = (0..30).map(|k| (format!("apps/app{k}.toml"), "x = 1".to_owned())).collect();
    let texts: Vec<(&str, &str)> = texts.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let said = said(&texts, &world());
    assert!(
        said.contains("apps/app0.toml") && said.contains("apps/app1.toml") && said.ends_with("... and 10 more"),
        "{said}"
    );
}

#[test]
fn a_group_that_matches_nothing_names_its_file_and_what_it_asked_for() {
    is_said(
        &[APP, ("groups/west.toml", "labels = { site = \"west\" }")],
        &["groups/west.toml matches no node: no node reports site=west"],
    );
    is_said(
        &[APP, ("groups/west.toml", "nodes = [\"loft\"]")],
        &["groups/west.toml matches no node: none of its `nodes` is there"],
    );
}

#[test]
fn two_groups_that_want_different_things_for_a_node_are_both_named() {
    let app = "[groups.north]\nversion = \"1.1.0\"\n[groups.old]\nversion = \"1.2.0\"\n";
    let texts = [
        ("apps/web.toml", app),
        ("groups/north.toml", "labels = { site = \"north\" }"),
        ("groups/old.toml", "nodes = [\"cellar\"]"),
    ];
    is_said(
        &texts,
        &["groups/north.toml and groups/old.toml both have cellar", "apps/web.toml wants 1.1.0", "1.2.0 in the other"],
    );
    let own = ("nodes/cellar.toml", "[apps.web]\nversion = \"1.1.0\"\n");
    let resolved = resolve(&desired(&[texts[0], texts[1], texts[2], own]), &world()).unwrap();
    assert_eq!(resolved.targets.len(), 2, "the node's own file settles it");
}

#[test]
fn versions_that_were_not_published_or_were_taken_back_are_refused() {
    is_said(
        &[("apps/web.toml", "[default]\nversion = \"1.3.0\"")],
        &["apps/web.toml: web 1.3.0 was not published; published are 1.2.0, 1.1.0, 1.0.0"],
    );
    is_said(
        &[("apps/wep.toml", "[default]\nversion = \"1.1.0\"")],
        &["no release of the app wep was published; did you mean web?"],
    );
    is_said(
        &[("channels.toml", "[beta]\nweb = \"9.0.0\""), ("apps/web.toml", "")],
        &["channels.toml: web 9.0.0 was not published"],
    );
    let mut world = world();
    world.releases[1].withdrawn = Some("release_revoked".into());
    assert!(said(&[APP], &world).contains("web 1.1.0 was taken back (release_revoked)"));
}

#[test]
fn waves_that_leave_nodes_out_name_their_policy() {
    is_said(
        &[("rollouts.toml", "[default]\nwaves = [\"50%\"]"), APP],
        &["rollouts.toml: [default]: the waves leave 1"],
    );
}

#[test]
fn more_nodes_than_a_rollout_can_name_are_refused_with_a_way_out() {
    let mut world = world();
    world.nodes = (0..1_001).map(|k| node(&format!("n{k}"), "north", &[("web", "1.0.0")])).collect();
    let said = said(&[APP], &world);
    assert!(said.contains("1001 nodes") && said.contains("orangery rollout start web@1.1.0 --nodes all"), "{said}");
}

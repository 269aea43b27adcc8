use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use orangery_wire::manifest::{Manifest, Run};
use orangery_wire::{Digest, ReleaseId};

use super::unit::{LISTS, Place, Unwritable, drop_in, quoted, unit};
use crate::launch::Launch;
use crate::layout::Layout;

const STATE: &str = "/var/lib/orangery";

fn launch(state: &str, change: impl FnOnce(&mut Run)) -> Launch {
    let json = r#"{"format":1,"app":"a","version":"1.0.0","run":{"exec":["bin/a"]},"platforms":{}}"#;
    let mut manifest: Manifest = serde_json::from_str(json).unwrap();
    change(&mut manifest.run);
    let layout = Layout::new(state);
    let release = ReleaseId(Digest([1; 32]));
    Launch {
        app: manifest.app.clone(),
        release,
        version: manifest.version.clone(),
        tree: layout.tree(&manifest.app, &release),
        data: layout.data(&manifest.app),
        variables: manifest.run.env.clone(),
        manifest: Arc::new(manifest),
        trial: true,
    }
}

fn written(text: Result<String, Unwritable>) -> String {
    text.unwrap()
}

fn text_of(launch: &Launch, version: u32) -> String {
    let layout = Layout::new(STATE);
    written(unit(launch, Place { layout: &layout, version, own_users: true }))
}

/// The values of `key`, in order.
fn values<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs.filter(|(name, _)| *name == key).map(|(_, value)| value).collect()
}

#[test]
fn a_word_cannot_break_out_of_its_quotes() {
    for (text, written) in [
        ("plain", r#""plain""#),
        ("", r#""""#),
        ("two words; $HOME %n", r#""two words; $HOME %%n""#),
        (r#"a"b\c"#, r#""a\"b\\c""#),
        ("a\nExecStart=/bin/sh\t\r\x7f", r#""a\nExecStart=/bin/sh\t\x0d\x7f""#),
        ("ä€", "\"ä€\""),
    ] {
        assert_eq!(quoted(text), written);
    }
}

#[test]
fn no_value_of_a_release_begins_a_line_of_its_own() {
    let evil = "\nExecStartPre=+/bin/sh\n[Service]\\";
    let launch = launch(STATE, |run| {
        run.exec.push(evil.into());
        run.env.insert("EVIL".into(), evil.into());
    });
    let plain = text_of(&self::launch(STATE, |_| ()), 252);
    let text = text_of(&launch, 252);
    assert_eq!(text.lines().count(), plain.lines().count() + 1, "one more variable, and no other line");
    assert!(text.lines().all(|line| !line.starts_with("ExecStartPre")));
}

#[test]
fn a_drop_in_says_everything_that_a_unit_says_and_empties_every_list() {
    let keys = |text: &str| -> BTreeSet<String> {
        text.lines().filter_map(|line| Some(line.split_once('=')?.0.to_owned())).collect()
    };
    let layout = Layout::new(STATE);
    let place = Place { layout: &layout, version: 252, own_users: true };
    let confined = launch(STATE, |_| ());
    let free = launch(STATE, |run| {
        run.sandbox = false;
        run.memory_bytes_max = Some(1);
        run.cpu_percent_max = Some(1);
    });
    for below in [&confined, &free] {
        for above in [&confined, &free] {
            let (below, above) = (written(unit(below, place)), written(drop_in(above, place)));
            let missing: Vec<_> = keys(&below).difference(&keys(&above)).cloned().collect();
            assert_eq!(missing, ["WantedBy"], "the trial does not start at boot");
            for key in LISTS {
                assert_eq!(values(&above, key).first(), Some(&""), "{key}");
            }
            for (key, count) in counts(&below).iter().filter(|(key, _)| **key != "WantedBy") {
                assert!(*count == 1 || LISTS.contains(key), "{key} has several values and is no list");
            }
        }
    }
}

fn counts(text: &str) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for (key, _) in text.lines().filter_map(|line| line.split_once('=')) {
        *counts.entry(key).or_default() += 1;
    }
    counts
}

#[test]
fn limits_and_the_way_to_stop_come_from_the_manifest() {
    let launch = launch(STATE, |run| {
        run.memory_bytes_max = Some(64 << 20);
        run.cpu_percent_max = Some(150);
        run.stop_grace_secs = 0;
        run.stop_signal = orangery_wire::manifest::StopSignal::Int;
    });
    let text = text_of(&launch, 252);
    assert_eq!(values(&text, "MemoryMax"), ["67108864"]);
    assert_eq!(values(&text, "CPUQuota"), ["150%"]);
    assert_eq!(values(&text, "KillSignal"), ["SIGINT"]);
    assert_eq!(values(&text, "TimeoutStopSec"), ["1ms"], "0 would be for ever");
}

#[test]
fn a_proven_app_is_restarted_without_end_but_not_without_pause() {
    let proven = Launch { trial: false, ..launch(STATE, |_| ()) };
    let old = text_of(&proven, 252);
    assert_eq!(values(&old, "StartLimitIntervalSec"), ["0"]);
    assert_eq!((values(&old, "RestartSec"), values(&old, "RestartSteps")), (vec!["2000ms"], vec![]));
    let new = text_of(&proven, 254);
    assert_eq!((values(&new, "RestartSec"), values(&new, "RestartMaxDelaySec")), (vec!["200ms"], vec!["30000ms"]));
    assert_eq!(values(&text_of(&launch(STATE, |_| ()), 252), "RestartSec"), ["200ms"], "on trial the agent counts");
}

#[test]
fn a_confined_app_is_a_user_of_its_own_where_systemd_can_make_one() {
    let text = text_of(&launch(STATE, |_| ()), 252);
    assert_eq!(values(&text, "DynamicUser"), ["yes"]);
    assert_eq!(values(&text, "StateDirectory"), ["orangery/apps/a/data"]);
    let layout = Layout::new(STATE);
    for (state, own_users) in [("/srv/orangery", true), (STATE, false)] {
        let launch = launch(state, |_| ());
        let elsewhere = written(unit(&launch, Place { layout: &layout, version: 252, own_users }));
        assert_eq!(values(&elsewhere, "DynamicUser"), ["no"]);
        assert!(values(&elsewhere, "StateDirectory").is_empty());
        assert_eq!(values(&elsewhere, "ReadWritePaths"), [launch.data.to_str().unwrap()]);
        assert_eq!(values(&elsewhere, "CapabilityBoundingSet"), [""], "but it has no capability");
    }
}

#[test]
fn what_systemd_would_drop_or_misread_is_refused() {
    let layout = Layout::new(STATE);
    let place = Place { layout: &layout, version: 252, own_users: true };
    let control = launch(STATE, |run| drop(run.env.insert("A".into(), "\u{1b}[31m".into())));
    assert_eq!(unit(&control, place), Err(Unwritable::Control("A".into())));
    for state in ["/srv/with space", "/srv/with\"quote", "/srv/with\nline"] {
        assert!(matches!(unit(&launch(state, |_| ()), place), Err(Unwritable::Path(_))), "{state:?}");
    }
    let long = launch(STATE, |run| run.exec = vec!["a".repeat(4096); 256]);
    assert_eq!(unit(&long, place), Err(Unwritable::TooLong("the command line")));
    let unknown = launch(STATE, |run| run.exec.push("${NO}".into()));
    assert!(matches!(unit(&unknown, place), Err(Unwritable::Variable(_))));
}

//! Settings that can be used, and those that cannot.

use std::collections::BTreeSet;
use std::path::Path;

use orangery::config::Config;
use orangery::notify::Targets;

use crate::settings;

#[test]
fn the_examples_of_the_manual_are_settings_that_can_be_used() {
    let page = include_str!("../../../docs/operating/notifications.md");
    let examples: Vec<&str> = page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let kinds: BTreeSet<&str> =
        examples.iter().flat_map(|example| settings(example).targets).map(|target| target.way.as_str()).collect();
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), ["discord", "ntfy", "slack", "smtp", "webhook"]);
    for kind in orangery::notify::Kind::ALL {
        let row = format!("\n| `{kind}` | {}", kind.severity().as_str());
        assert!(page.contains(&row), "the manual does not say how much {kind} matters");
    }
}

#[test]
fn settings_that_cannot_work_are_refused_with_the_target_and_the_rule_and_without_secrets() {
    let refused = |target: &str| {
        let text = format!(
            "[https]\nlisten = '127.0.0.1:0'\nurl = 'https://h:1'\n[mqtt]\nlisten = '127.0.0.1:0'\nadvertise = 'h:1'\n{target}"
        );
        Config::parse(&text, Path::new("/etc/c.toml")).map(|_| ()).unwrap_err().to_string()
    };
    let ops = "[[notify]]\nname = 'ops'\nkind = 'slack'\nurl = 'https://hooks.slack.com/services/T/B/hunter2'\n";
    let cases = [
        (format!("{ops}template = '{{nod}}'"), "did you mean {node}?"),
        (format!("{ops}secret = 'x'"), "secret does not belong to kind = \"slack\""),
        (format!("{ops}sevrity = 'info'"), "did you mean `severity`?"),
        (format!("{ops}events = ['node_silnt']"), "did you mean `node_silent`?"),
        (format!("{ops}{ops}"), "another target has this name"),
        (format!("{ops}per_minute = 0"), "per_minute"),
        (format!("{ops}nodes = ['a b']"), "nodes"),
        ("[[notify]]\nname = 'ops'\nkind = 'slack'".into(), "url is missing"),
        ("[watch]\nsilent_after = '5s'".into(), "1m at the earliest"),
        ("[[notify]]\nname = 'm'\nkind = 'smtp'\nhost = 'h'\nfrom = 'x'\nto = ['a@b.c']".into(), "from"),
        ("[[notify]]\nname = 'm'\nkind = 'smtp'\nhost = 'h'\nfrom = 'a@b.c'\nto = ['a@b.c']\ntls = 'none'\nallow_http = true\nuser = 'u'\npassword = 'hunter2'".into(), "no password"),
        ("[[notify]]\nname = 'ops'\nkind = 'slack'\nurl = 'hunter2' oops".into(), "(not shown)"),
    ];
    for (target, says) in cases {
        let error = refused(&target);
        assert!(error.contains(says) && !error.contains("hunter2"), "{target}\n{error}");
    }
}

#[test]
fn targets_that_nobody_should_go_to_are_refused_at_the_start() {
    let open = |more: &str| {
        let target = format!("[[notify]]\nname = 'ops'\nkind = 'webhook'\n{more}");
        Targets::open(&settings(&target), "https://nas:8443").map(|_| ()).map_err(|error| error.to_string())
    };
    for (more, says) in [
        ("url = 'https://169.254.169.254/latest/meta-data'", "allow_link_local"),
        ("url = 'https://2852039166/'", "allow_link_local"),
        ("url = 'https://[fe80::1]/'", "allow_link_local"),
        ("url = 'http://192.168.1.5/in'", "allow_http"),
        ("url = 'ftp://example.org/'", "https://"),
        ("url = 'https://me:secret@example.org/'", "names and passwords"),
        ("url = { file = 'nowhere.url' }", "/nowhere/nowhere.url"),
        ("url = 'https://example.org'\nsecret = 'short'", "16 bytes"),
        ("url = 'https://example.org'\nca_file = 'none.pem'", "none.pem"),
    ] {
        let error = open(more).unwrap_err();
        assert!(error.contains(says) && error.contains("\"ops\"") && !error.contains("me:secret"), "{more}: {error}");
    }
    assert_eq!(open("url = 'http://169.254.1.1/'\nallow_http = true\nallow_link_local = true"), Ok(()));
}

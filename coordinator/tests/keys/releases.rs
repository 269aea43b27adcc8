//! What keys say of releases: revoked, below a floor, or of an app that has a key of its own.

use std::fs;

use orangery_trust::Refusal;

use super::Place;

#[test]
fn a_revoked_release_and_one_below_the_floor_are_neither_trusted_nor_deployed() {
    let place = Place::plain();
    place.published("1.0.0", &[]);
    place.published("1.1.0", &[]);
    let said = place.publish("home", "1.2.0", &["--floor", "9.0.0"]);
    assert!(said.code == 1 && said.err.contains("floor"), "{}", said.err);
    place.published("1.2.0", &["--floor", "1.1.0"]);
    assert!(matches!(place.node_takes("1.0.0"), Err(Refusal::BelowFloor { .. })));
    place.node_takes("1.1.0").unwrap();
    let said = place.refused(&["deploy", "app@1.0.0", "--to", "all", "--yes"]);
    assert!(said.contains("[below_floor]") && said.contains("1.1.0"), "{said}");

    let said = place.done(&["release", "revoke", "app@1.2.0"]);
    assert!(said.contains("for good"), "{said}");
    place.done(&["release", "revoke", "app@1.2.0"]);
    assert!(matches!(place.node_takes("1.2.0"), Err(Refusal::UnknownTarget { .. })));
    assert!(matches!(place.node_takes("1.0.0"), Err(Refusal::BelowFloor { .. })), "the floor outlives its release");
    place.node_takes("1.1.0").unwrap();
    let said = place.refused(&["deploy", "app@1.2.0", "--to", "all", "--yes"]);
    assert!(said.contains("[release_revoked]"), "{said}");
    let list = place.done(&["release", "list"]);
    assert!(list.contains("1.2.0 revoked") && list.contains("1.0.0 below the floor"), "{list}");
    assert!(place.done(&["release", "show", "app@1.1.0"]).contains("yes"));
    let said = place.publish("home", "1.2.0", &[]);
    assert!(said.code == 1 && said.err.contains("revoked"), "{}", said.err);
    assert!(place.refused(&["release", "revoke", "app@7.7.7"]).contains("release list"));
    place.published("1.3.0", &[]);
    place.node_takes("1.3.0").unwrap();
}

#[test]
fn an_app_that_is_delegated_is_signed_with_its_own_key_until_that_ends() {
    let mut place = Place::plain();
    place.published("1.0.0", &[]);
    let said = place.done(&["keys", "delegate", "app"]);
    assert!(said.contains("sign and revoke releases of app"), "{said}");
    let key = fs::read(place.owner("app.key")).unwrap();
    place.done(&["keys", "delegate", "app"]);
    assert_eq!(fs::read(place.owner("app.key")).unwrap(), key, "the same again changes nothing");
    assert!(place.refused(&["keys", "delegate", "app", "--name", "other"]).contains("undelegate"));
    assert!(place.refused(&["keys", "delegate", "x", "--name", "targets"]).contains("targets"));

    let targets = fs::read(place.owner("targets.json")).unwrap();
    place.published("1.1.0", &["--floor", "1.0.0"]);
    place.published("1.2.0", &[]);
    assert_eq!(fs::read(place.owner("targets.json")).unwrap(), targets, "the owner's key has signed nothing");
    for version in ["1.0.0", "1.1.0", "1.2.0"] {
        place.node_takes(version).unwrap();
    }
    let status = place.status("home");
    assert_eq!(status["delegated"]["app"]["version"], 2);
    assert!(status["days_left"]["delegated"]["app"].as_i64().unwrap() > 300);

    // The role takes back what it signed; where its key is not, the owner does.
    place.done(&["release", "revoke", "app@1.1.0"]);
    assert!(matches!(place.node_takes("1.1.0"), Err(Refusal::UnknownTarget { .. })));
    fs::rename(place.owner("app.key"), place.path("app.key")).unwrap();
    assert!(place.publish("home", "1.3.0", &[]).err.contains("keys undelegate"));
    place.done(&["release", "revoke", "app@1.2.0"]);
    assert!(matches!(place.node_takes("1.2.0"), Err(Refusal::UnknownTarget { .. })), "the owner's word counts");
    place.node_takes("1.0.0").unwrap();
    let plan = place.refused(&["deploy", "app@1.2.0", "--to", "all", "--yes"]);
    assert!(plan.contains("release_revoked"), "{plan}");

    place.stop();
    place.serve();
    fs::rename(place.path("app.key"), place.owner("app.key")).unwrap();
    place.published("1.3.0", &[]);
    place.node_takes("1.3.0").unwrap();
    place.done(&["keys", "undelegate", "app"]);
    place.done(&["keys", "undelegate", "app"]);
    assert!(matches!(place.node_takes("1.3.0"), Err(Refusal::UnknownTarget { .. })));
    place.published("1.4.0", &[]);
    place.node_takes("1.4.0").unwrap();
    // Another key takes the same role over: its versions go on.
    fs::remove_file(place.owner("app.key")).unwrap();
    place.done(&["keys", "delegate", "app"]);
    place.published("1.5.0", &[]);
    place.node_takes("1.5.0").unwrap();
    assert_eq!(place.status("home")["delegated"]["app"]["version"], 5);
}

#[test]
fn the_holder_of_a_delegated_key_signs_on_a_machine_without_the_owners_keys() {
    let place = Place::plain();
    place.published("1.0.0", &[]);
    let public = place.in_home("team", 0, &["keys", "new", "team.key", "--no-passphrase"]);
    place.done(&["keys", "delegate", "app", "--name", "team", "--key", public.trim()]);
    for directory in ["team/owner", "team/coordinator"] {
        fs::create_dir_all(place.path(directory)).unwrap();
    }
    fs::rename(place.path("team.key"), place.path("team/owner/team.key")).unwrap();
    for name in ["client.toml", "operator.token", "coordinator/ca.pem", "owner/1.root.json"] {
        fs::copy(place.path("home").join(name), place.path("team").join(name)).unwrap();
    }
    let said = place.publish("team", "1.1.0", &[]);
    assert_eq!(said.code, 0, "{}", said.err);
    place.node_takes("1.1.0").unwrap();
    place.in_home("team", 0, &["release", "revoke", "app@1.1.0"]);
    assert!(place.node_takes("1.1.0").is_err());
    // Without the operator's token they sign files, which the owner pushes.
    fs::create_dir_all(place.path("offline/owner")).unwrap();
    for name in ["1.root.json", "targets.json", "team.key", "team.json"] {
        fs::copy(place.path("team/owner").join(name), place.path("offline/owner").join(name)).unwrap();
    }
    let build = ["release", "build", "--app", "app", "--version", "1.1.5", "--platform", "linux/amd64=tree"];
    place.in_home("offline", 0, &[&build[..], &["--manifest", "app.toml", "--out", "it.orangery"]].concat());
    place.in_home("offline", 0, &["release", "sign", "it.orangery"]);
    assert!(place.in_home("offline", 0, &["release", "verify", "it.orangery"]).contains("signed by team"));
    place.done(&["release", "push", "it.orangery"]);
    place.node_takes("1.1.5").unwrap();
    // Not a thing beyond the app: neither another app nor whose keys count.
    let refused = place.in_home("team", 1, &["keys", "undelegate", "app"]);
    assert!(refused.contains("targets.key"), "{refused}");
    place.done(&["keys", "undelegate", "app"]);
    assert_ne!(place.publish("team", "1.2.0", &[]).code, 0);
    assert!(place.node_takes("1.2.0").is_err());
}

use orangery_wire::manifest::Constraints;
use orangery_wire::messages::{FORMAT, Phase, Refusal, RefusalCode, ReleaseRef, Reported, TrustReport};
use orangery_wire::rest::ReleaseView;
use orangery_wire::{Digest, ReleaseId};

use super::*;

fn app() -> AppName {
    "greeter".parse().unwrap()
}

fn release(version: &str) -> ReleaseRow {
    let id = ReleaseId(crate::sha256::digest(version.as_bytes()));
    let view = ReleaseView {
        app: app(),
        version: version.parse().unwrap(),
        id,
        platforms: vec!["linux/arm64".into()],
        notes: None,
        published_at: 1,
        withdrawn: None,
        signed_by: Vec::new(),
    };
    ReleaseRow { view, constraints: Constraints::default() }
}

fn reference(version: &str) -> ReleaseRef {
    release(version).reference()
}

fn report(generation: Generation, current: Option<&str>, refused: Option<&str>) -> AppReport {
    let refusal =
        |version| Refusal { release: reference(version).id, code: RefusalCode::Unhealthy, reason: String::new() };
    AppReport {
        app: app(),
        generation,
        desired: None,
        current: current.map(reference),
        running: current.map(reference),
        phase: Phase::Settled,
        refusal: refused.map(refusal),
        healthy: Some(true),
        revoked: false,
        unwitnessed: false,
        waits: None,
    }
}

fn node(name: &str, label: &str, apps: Vec<AppReport>) -> NodeRow {
    let node: NodeId = name.parse().unwrap();
    let reported = Reported {
        format: FORMAT,
        node: node.clone(),
        boot_id: "b".into(),
        sequence: 1,
        generation: 0,
        agent_version: "0.1.0".into(),
        platform: "linux/arm64".into(),
        board: Some("Raspberry Pi 4".into()),
        labels: [("site".to_owned(), label.to_owned())].into(),
        trust: TrustReport::default(),
        apps,
    };
    NodeRow {
        node,
        joined_at: 1,
        revoked_at: None,
        generation: 0,
        reported: Some(reported),
        health: None,
        seen_at: None,
    }
}

fn desired(generation: Generation, version: Option<&str>) -> DesiredApp {
    DesiredApp { app: app(), generation, release: version.map(reference) }
}

/// Plans `version` for one node and returns its step.
fn step(row: &NodeRow, told: Option<&DesiredApp>, version: Option<&str>) -> PlanStep {
    let target = version.map(release);
    let candidate = Candidate { row, desired: told, online: true, held: None };
    plan(&app(), target.as_ref(), &[candidate]).steps.remove(0)
}

#[test]
fn selectors_choose_by_name_label_or_all_and_say_what_there_is_otherwise() {
    let revoked = NodeRow { revoked_at: Some(1), ..node("shed", "attic", vec![]) };
    let nodes = [node("garage", "ground", vec![]), node("loft", "attic", vec![]), revoked];
    let chosen = |to: &str| -> Result<Vec<String>, Refused> {
        Ok(Selector::parse(to)?.choose(&nodes)?.iter().map(|row| row.node.to_string()).collect())
    };
    assert_eq!(chosen("all").unwrap(), ["garage", "loft"]);
    assert_eq!(chosen("site=attic").unwrap(), ["loft"]);
    assert_eq!(chosen("shed").unwrap(), ["shed"], "by its name even a revoked one, with a warning");
    assert_eq!(chosen("garge").unwrap_err().to_string(), "there is no node garge; did you mean garage?");
    let error = chosen("site=moon").unwrap_err();
    assert_eq!(error.to_string(), "no node has the label site=moon; there are site=attic, site=ground");
    for bad in ["", "=", "a=", "=b", "No Node", "all,garage"] {
        assert_eq!(chosen(bad).unwrap_err().code(), "invalid_selector", "{bad}");
    }
    assert_eq!(Selector::All.choose(&[]).unwrap_err(), Refused::NoNodes);
}

#[test]
fn an_unknown_app_or_version_is_refused_with_what_there_is() {
    let releases = [release("1.1.0"), release("1.0.0")];
    let choose = |app: &str, version: &str| {
        choose_release(&app.parse().unwrap(), &version.parse().unwrap(), &releases)
            .map(|row| row.view.version.to_string())
    };
    assert_eq!(choose("greeter", "1.0.0").unwrap(), "1.0.0");
    assert!(choose("greater", "1.0.0").unwrap_err().to_string().ends_with("did you mean greeter?"));
    assert_eq!(
        choose("greeter", "2.0.0").unwrap_err().to_string(),
        "greeter 2.0.0 was not published; published are 1.1.0, 1.0.0"
    );
}

#[test]
fn what_is_told_already_is_not_told_again_unless_it_was_refused() {
    let settled = node("garage", "x", vec![report(4, Some("1.1.0"), None)]);
    let told = desired(4, Some("1.1.0"));
    assert!(!step(&settled, Some(&told), Some("1.1.0")).changes);
    assert!(step(&settled, Some(&told), Some("1.0.0")).changes);
    assert!(step(&settled, Some(&told), None).changes);
    assert!(step(&settled, None, Some("1.1.0")).changes);

    let refused = node("garage", "x", vec![report(4, Some("1.1.0"), Some("1.2.0"))]);
    assert!(step(&refused, Some(&desired(4, Some("1.2.0"))), Some("1.2.0")).changes, "a retry");
    assert!(!step(&refused, Some(&desired(5, Some("1.2.0"))), Some("1.2.0")).changes, "it was told to retry already");
    assert!(!step(&refused, Some(&desired(5, Some("1.1.0"))), Some("1.1.0")).changes, "another release was refused");
}

#[test]
fn what_somebody_on_the_node_wants_instead_can_be_taken_back_by_the_same_deployment() {
    let elsewhere = AppReport { desired: Some(reference("1.0.0")), ..report(4, Some("1.0.0"), None) };
    let told = desired(4, Some("1.1.0"));
    assert!(step(&node("garage", "x", vec![elsewhere.clone()]), Some(&told), Some("1.1.0")).changes);
    let as_told = AppReport { desired: Some(reference("1.1.0")), ..elsewhere.clone() };
    assert!(!step(&node("garage", "x", vec![as_told]), Some(&told), Some("1.1.0")).changes);
    let not_yet = AppReport { generation: 3, ..elsewhere };
    assert!(!step(&node("garage", "x", vec![not_yet]), Some(&told), Some("1.1.0")).changes, "it will hear of it");
}

#[test]
fn stopping_changes_something_only_where_something_may_run() {
    let running = node("garage", "x", vec![report(4, Some("1.1.0"), None)]);
    assert!(step(&running, None, None).changes);
    assert!(step(&running, Some(&desired(4, Some("1.1.0"))), None).changes);
    assert!(!step(&running, Some(&desired(5, None)), None).changes);
    assert!(!step(&node("garage", "x", vec![]), None, None).changes);
}

#[test]
fn a_step_warns_of_what_is_known_to_fail() {
    let row = node("garage", "ground", vec![]);
    let warning = |change: &dyn Fn(&mut ReleaseRow)| {
        let mut target = release("1.0.0");
        change(&mut target);
        plan(&app(), Some(&target), &[Candidate { row: &row, desired: None, online: true, held: None }])
            .steps
            .remove(0)
            .warning
    };
    assert_eq!(warning(&|_| ()), None);
    let text = |change: &dyn Fn(&mut ReleaseRow)| warning(change).unwrap();
    assert!(text(&|r| r.view.platforms = vec!["linux/amd64".into()]).contains("linux/arm64"));
    assert!(text(&|r| r.constraints.labels = [("site".into(), "attic".into())].into()).contains("site=attic"));
    assert!(text(&|r| r.constraints.boards = vec!["Pine64".into()]).contains("Raspberry Pi 4"));
    assert!(text(&|r| r.constraints.agent_min = Some("9.0.0".parse().unwrap())).contains("9.0.0"));
    assert_eq!(warning(&|r| r.constraints.boards = vec!["raspberry PI 4".into()]), None, "compared without case");

    let silent = NodeRow { reported: None, ..row.clone() };
    assert!(step(&silent, None, Some("1.0.0")).warning.unwrap().contains("never reported"));
    let revoked = NodeRow { revoked_at: Some(1), ..row.clone() };
    let step = step(&revoked, None, Some("1.0.0"));
    assert!(!step.changes && step.warning.unwrap().contains("revoked"));
}

#[test]
fn the_mark_changes_with_what_was_agreed_to_and_not_with_who_is_connected() {
    let row = node("garage", "x", vec![report(4, Some("1.1.0"), None)]);
    let told = desired(4, Some("1.1.0"));
    let mark = |version: Option<&str>, desired: Option<&DesiredApp>, online: bool, row: &NodeRow| -> Digest {
        plan(&app(), version.map(release).as_ref(), &[Candidate { row, desired, online, held: None }]).mark
    };
    let shown = mark(Some("1.2.0"), Some(&told), true, &row);
    assert_eq!(shown, mark(Some("1.2.0"), Some(&told), false, &row));
    assert_ne!(shown, mark(Some("1.3.0"), Some(&told), true, &row));
    assert_ne!(shown, mark(None, Some(&told), true, &row));
    assert_ne!(
        shown,
        mark(Some("1.2.0"), Some(&desired(5, Some("1.1.0"))), true, &row),
        "somebody deployed in between"
    );
    let moved = node("garage", "x", vec![report(4, Some("1.0.0"), None)]);
    assert_ne!(shown, mark(Some("1.2.0"), Some(&told), true, &moved), "it runs something else than was shown");
}

use orangery_wire::messages::{AppVitals, ReleaseRef};
use orangery_wire::{Digest, ReleaseId};

use super::super::{begin, plan};
use super::*;
use crate::vitals::Apps;

const LIMITS: Compare = Compare { memory_percent: 150, latency_percent: 200, patience_secs: 1_800 };

fn id(number: u8) -> ReleaseId {
    ReleaseId(Digest([number; 32]))
}

/// How an app is after one sample a minute, each with its memory in MiB and time in ms.
fn vitals(release: u8, samples: &[(u64, u32)], restarts: u32) -> Vitals {
    let (mut apps, app) = (Apps::default(), "web".parse().unwrap());
    for (k, (mib, millis)) in (1..).zip(samples) {
        apps.note(&[AppVitals {
            app: "web".parse().unwrap(),
            release: id(release),
            watched_secs: k * 60,
            restarts,
            memory_bytes: Some(mib << 20),
            probe_micros: Some(millis * 1_000),
        }]);
    }
    apps.vitals(&app).unwrap()
}

fn found(before: &Vitals, since: &Vitals) -> Finding {
    worst(&LIMITS, Some(before), Some(since), &Drift::NONE)
}

#[test]
fn a_release_is_worse_by_memory_by_probes_and_by_restarts_and_says_by_which() {
    let before = vitals(1, &[(40, 100); 10], 0);
    let seen = |samples: &[(u64, u32)], restarts| found(&before, &vitals(2, samples, restarts));
    assert_eq!(seen(&[(55, 190); 10], 0), (Verdict::Pass, "is no worse than before".to_owned()));
    let memory = "its memory went from 40 MiB to 80 MiB; at most 1.5 times is allowed";
    assert_eq!(seen(&[(80, 100); 10], 0), (Verdict::Fail, memory.to_owned()));
    let probes = "its probes went from 100 ms to 300 ms; at most 2 times is allowed";
    assert_eq!(seen(&[(40, 300); 10], 0), (Verdict::Fail, probes.to_owned()));
    let restarts = "restarted 4 times in 10 min, and 0 in 10 min before";
    assert_eq!(seen(&[(40, 100); 10], 4), (Verdict::Fail, restarts.to_owned()));
    assert_eq!(seen(&[(40, 100); 10], 2).0, Verdict::Pass, "in so short a time nothing is known of before");
}

#[test]
fn too_little_and_too_much_between_is_inconclusive() {
    let before = vitals(1, &[(40, 100); 10], 0);
    let seen = |samples: &[(u64, u32)]| found(&before, &vitals(2, samples, 0));
    assert_eq!(seen(&[(400, 100); 4]), (Verdict::Inconclusive, "has said too little of its memory yet".to_owned()));
    let spread = found(
        &vitals(1, &[(10, 100), (10, 100), (30, 100), (90, 100), (90, 100)], 0),
        &vitals(2, &[(30, 100), (30, 100), (60, 100), (90, 100), (90, 100)], 0),
    );
    assert_eq!(spread.0, Verdict::Inconclusive, "{}", spread.1);
    assert_eq!(worst(&LIMITS, None, Some(&before), &Drift::NONE).0, Verdict::Inconclusive);
    assert_eq!(worst(&LIMITS, Some(&before), None, &Drift::NONE).0, Verdict::Inconclusive);
    // An agent that was started a moment before has seen nothing of before.
    let moment = Vitals { watched_secs: 2, ..before };
    assert_eq!(found(&moment, &vitals(2, &[(40, 100); 10], 5)).0, Verdict::Inconclusive);
    assert_eq!(found(&moment, &vitals(2, &[(40, 100); 10], 0)).0, Verdict::Pass);
    // After a quiet day one restart is much, and is waited for to be two.
    let day = Vitals { watched_secs: 86_400, ..before };
    assert_eq!(found(&day, &vitals(2, &[(40, 100); 10], 1)).0, Verdict::Inconclusive);
    assert_eq!(found(&day, &vitals(2, &[(40, 100); 10], 2)).0, Verdict::Fail);
}

#[test]
fn what_is_very_little_may_be_a_multiple_and_what_was_not_measured_is_not_compared() {
    let before = vitals(1, &[(1, 1); 10], 0);
    assert_eq!(found(&before, &vitals(2, &[(4, 19); 10], 0)).0, Verdict::Pass);
    let unmeasured = Vitals { memory_kib: None, probe_micros: None, ..before };
    assert_eq!(found(&unmeasured, &vitals(2, &[(400, 900); 10], 0)).0, Verdict::Pass);
}

#[test]
fn what_happens_to_nodes_without_the_release_too_is_not_the_releases_fault() {
    let before = vitals(1, &[(40, 100); 10], 0);
    let since = vitals(2, &[(80, 300); 10], 4);
    let drift = Drift { memory: 1.9, probes: 2.9, restarts: 0.01 };
    assert_eq!(worst(&LIMITS, Some(&before), Some(&since), &drift).0, Verdict::Pass);
    let less = Drift { memory: 1.2, ..drift };
    let text = "its memory went from 40 MiB to 80 MiB, more than the 1.2 times on nodes that do not run it; at most 1.5 times is allowed";
    assert_eq!(worst(&LIMITS, Some(&before), Some(&since), &less), (Verdict::Fail, text.to_owned()));
}

/// A rollout of release 2 to `n0` in a first wave and `controls` nodes after it, begun on nodes that are as `before`.
fn begun(controls: usize, before: Vitals) -> (Rollout, Scene) {
    let nodes = (0..=controls).map(|k| format!("n{k}").parse().unwrap());
    let facts = NodeFacts {
        generation: 1,
        has_reported: true,
        online: true,
        chosen: true,
        vitals: Some(before),
        report: Some(
            serde_json::from_value(serde_json::json!({
                "app": "web", "generation": 1, "phase": "settled",
                "current": { "id": id(1), "version": "1.0.0" }, "running": { "id": id(1), "version": "1.0.0" },
            }))
            .unwrap(),
        ),
        ..NodeFacts::default()
    };
    let scene = Scene { now: 1, listening_secs: Some(9), nodes: nodes.map(|node| (node, facts.clone())).collect() };
    let request = serde_json::from_value(serde_json::json!({
        "app": "web", "version": "2.0.0", "to": ["all"], "canaries": ["n0"], "policy": { "compare": {} },
    }));
    let release = ReleaseRef { id: id(2), version: "2.0.0".parse().unwrap() };
    let deed = orangery_wire::rest::Deed { by: "ann".to_owned(), at: 1, note: None };
    let (rollout, _) = begin(1, &request.unwrap(), release, deed, &scene, &std::collections::BTreeMap::new()).unwrap();
    (plan(&rollout, &scene).next, scene)
}

#[test]
fn the_drift_is_the_middle_of_three_nodes_or_more_that_wait() {
    let before = vitals(1, &[(40, 100); 10], 0);
    let drift = |controls: usize, now: &[Vitals]| {
        let (rollout, mut scene) = begun(controls, before);
        assert!(rollout.turns.values().filter(|turn| turn.stage == Stage::Waiting).count() == controls);
        for (facts, now) in scene.nodes.values_mut().skip(1).zip(now) {
            facts.vitals = Some(*now);
        }
        Drift::of(&rollout, &scene)
    };
    let later = |mib, millis, restarts| vitals(1, &[(mib, millis); 20], restarts);
    let three = [later(48, 400, 10), later(60, 150, 0), later(400, 100, 20)];
    let seen = drift(3, &three);
    assert_eq!((seen.memory, seen.probes), (1.5, 1.5));
    assert!((seen.restarts - 10.0 / 600.0).abs() < 1e-9, "{seen:?}");
    assert_eq!(drift(2, &three), Drift::NONE, "two nodes say nothing");
    assert_eq!(drift(3, &[later(4, 10, 0); 3]), Drift::NONE, "what got better elsewhere accuses nobody");
    let other = vitals(3, &[(400, 100); 20], 0);
    assert_eq!(drift(3, &[other; 3]), Drift::NONE, "a node that runs something else now says nothing");
}

#[test]
fn why_a_comparison_shows_nothing_is_said_as_it_is_now_and_an_acceptance_lasts() {
    let before = vitals(1, &[(40, 100); 10], 0);
    let (mut rollout, mut scene) = begun(3, before);
    let node: orangery_wire::NodeId = "n0".parse().unwrap();
    let generation = scene.nodes[&node].generation + 1;
    let facts = scene.nodes.get_mut(&node).unwrap();
    let release = serde_json::json!({ "id": id(2), "version": "2.0.0" });
    facts.desired = serde_json::from_value(
        serde_json::json!({ "app": "web", "generation": generation, "release": release.clone() }),
    )
    .unwrap();
    facts.report =
        serde_json::from_value(serde_json::json!({ "app": "web", "generation": generation, "phase": "settled",
        "current": release.clone(), "running": release }))
        .unwrap();
    let name = node.clone();
    let mut says = |rollout: &mut Rollout, vitals: Vitals| {
        scene.nodes.get_mut(&node).unwrap().vitals = Some(vitals);
        *rollout = plan(rollout, &scene).next;
        match &rollout.turns[&node].stage {
            Stage::Told(told) => told.compared.clone().unwrap(),
            other => panic!("{other:?}"),
        }
    };
    let few = says(&mut rollout, vitals(2, &[(40, 100)], 0));
    assert_eq!((few.verdict, few.text.as_str()), (Verdict::Inconclusive, "has said too little of its memory yet"));
    let Stage::Told(told) = &mut rollout.turns.get_mut(&name).unwrap().stage else { panic!("it was told") };
    told.compared.as_mut().unwrap().accepted = true;
    let varied = says(&mut rollout, vitals(2, &[(30, 100), (30, 100), (90, 100), (90, 100), (90, 100)], 0));
    let text = "may be worse by its memory: its samples vary too much to tell";
    assert_eq!((varied.verdict, varied.text.as_str(), varied.accepted), (Verdict::Inconclusive, text, true));
}

/// A dice that wanders: each value lies near the one before it, as memory does.
struct Wandering(u64, f64);

impl Wandering {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let dice = f64::from(u32::try_from(self.0 >> 33).unwrap()) / f64::from(1_u32 << 31) - 0.5;
        self.1 = 0.8 * self.1 + 0.2 * dice;
        1.0 + self.1
    }
}

/// What 10,000 nodes say whose memory and times wander by up to a half, when the release takes so many times as much.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "they are small and not negative")]
fn verdicts(times: f64) -> [u32; 3] {
    let mut verdicts = [0; 3];
    for seed in 0..10_000 {
        let mut dice = Wandering(seed, 0.0);
        let mut samples = |times: f64| -> Vec<(u64, u32)> {
            (0..10).map(|_| ((dice.next() * times * 400.0) as u64, (dice.next() * times * 1_000.0) as u32)).collect()
        };
        let (before, since) = (vitals(1, &samples(1.0), 0), vitals(2, &samples(times), 0));
        verdicts[found(&before, &since).0 as usize] += 1;
    }
    verdicts
}

#[test]
fn of_a_hundred_nodes_fewer_than_one_is_found_worse_by_chance_and_nearly_all_that_are() {
    let (same, twice) = (verdicts(1.0), verdicts(2.0));
    println!("pass, inconclusive, fail of 10,000: as before {same:?}, twice as much {twice:?}");
    assert!(same[2] < 100 && same[0] > 9_000, "{same:?}");
    assert!(twice[0] < 100 && twice[2] > 9_000, "{twice:?}");
}

#[test]
fn restarts_are_rarely_many_by_chance() {
    assert!((chance_of(1, 0.5) - 0.393_469).abs() < 1e-6);
    assert!((chance_of(3, 2.0) - 0.323_324).abs() < 1e-6);
    assert!(chance_of(1, 0.0) < 1e-12 && chance_of(0, 9.0) > 0.999);
}

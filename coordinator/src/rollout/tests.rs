//! What the simulation in tests/sim does not show: how waves are written out.

use std::collections::{BTreeMap, BTreeSet};

use orangery_wire::rest::{DeedRequest, RolloutPolicy, RolloutRequest, WaveSize};
use orangery_wire::{Digest, ReleaseId};

use super::*;

fn names(count: usize) -> Vec<NodeId> {
    (0..count).map(|k| format!("n{k}").parse().unwrap()).collect()
}

fn request(canaries: &[&str], waves: &[&str]) -> RolloutRequest {
    RolloutRequest {
        app: "greeter".parse().unwrap(),
        version: "1.2.0".parse().unwrap(),
        to: vec!["all".to_owned()],
        canaries: canaries.iter().map(|name| name.parse().unwrap()).collect(),
        waves: waves.iter().map(|size| size.parse::<WaveSize>().unwrap()).collect(),
        policy: RolloutPolicy::default(),
        deed: DeedRequest::default(),
        plan: None,
        ignore_windows: false,
    }
}

fn waves_of(release: u8, count: usize, request: &RolloutRequest) -> Result<Vec<Vec<NodeId>>, Unsound> {
    let names = names(count);
    let attic: BTreeMap<String, String> = [("site".to_owned(), "attic".to_owned())].into();
    let chosen = |(k, node)| Chosen { node, labels: (k % 4 == 0).then_some(&attic) };
    let chosen: Vec<Chosen<'_>> = names.iter().enumerate().map(chosen).collect();
    let waves = written_out(request, &ReleaseId(Digest([release; 32])), &chosen)?;
    Ok(waves.into_iter().map(|(nodes, _)| nodes).collect())
}

fn sizes(count: usize, canaries: &[&str], waves: &[&str]) -> Result<Vec<usize>, Unsound> {
    Ok(waves_of(1, count, &request(canaries, waves))?.iter().map(Vec::len).collect())
}

#[test]
fn shares_and_counts_are_of_all_nodes_from_the_first_wave_on() {
    assert_eq!(sizes(10, &[], &[]), Ok(vec![10]));
    assert_eq!(sizes(10, &[], &["10%", "50%", "100%"]), Ok(vec![1, 4, 5]));
    assert_eq!(sizes(10, &["n3"], &["50%", "100%"]), Ok(vec![1, 4, 5]));
    assert_eq!(sizes(10, &["n3", "n4"], &["1", "3", "100%"]), Ok(vec![2, 1, 7]));
    assert_eq!(sizes(8, &["n1"], &["site=attic", "100%"]), Ok(vec![1, 2, 5]));
    assert_eq!(sizes(1, &["n0"], &[]), Ok(vec![1]));
    assert_eq!(sizes(3, &[], &["1%", "2%", "100%"]), Ok(vec![1, 2]), "what rounds to nobody is no wave");
}

#[test]
fn every_chosen_node_is_in_exactly_one_wave() {
    for count in 1..40 {
        let waves = waves_of(7, count, &request(&["n0"], &["site=attic", "20%", "5", "77%", "100%"]));
        let Ok(waves) = waves else { continue };
        let all: Vec<&NodeId> = waves.iter().flatten().collect();
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), count);
        assert_eq!(all.len(), count);
    }
}

#[test]
fn not_always_the_same_boards_are_the_first() {
    let first = |release| waves_of(release, 50, &request(&[], &["10%", "100%"])).unwrap().remove(0);
    assert_eq!(first(1), first(1));
    assert_ne!(first(1), first(2));
}

#[test]
fn waves_that_cannot_be_meant_are_refused() {
    assert_eq!(sizes(10, &[], &["10%", "50%"]), Err(Unsound::Unfinished { left: 5 }));
    assert_eq!(sizes(10, &["moon"], &[]), Err(Unsound::StrangeCanary { canary: "moon".parse().unwrap() }));
    assert_eq!(
        sizes(10, &[], &["site=attic", "site=attic", "100%"]),
        Err(Unsound::EmptyWave { size: "site=attic".into() })
    );
    let mut endless = request(&[], &[]);
    endless.policy.start.secs = 31 * 86_400;
    assert!(matches!(waves_of(1, 3, &endless), Err(Unsound::OutOfBounds { .. })));
}

#[test]
fn the_last_soak_counts_for_all_further_waves() {
    let mut request = request(&[], &["1", "2", "100%"]);
    request.policy.soak_secs = vec![900, 60];
    request.policy.approve_between = true;
    let names = names(4);
    let chosen: Vec<Chosen<'_>> = names.iter().map(|node| Chosen { node, labels: None }).collect();
    let waves = written_out(&request, &ReleaseId(Digest([1; 32])), &chosen).unwrap();
    let rules: Vec<(u64, bool)> = waves.iter().map(|(_, rule)| (rule.soak_secs, rule.approve)).collect();
    assert_eq!(rules, [(900, false), (60, true), (60, true)]);
}

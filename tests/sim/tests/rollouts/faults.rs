//! What goes wrong, who changes their mind, and which fault is planted.

use orangery::rollout::{self, Planned, RolloutId, Scene, Stage, Standing, Status, Telling, Window};
use orangery::vitals::Vitals;
use orangery_sim::Random;
use orangery_wire::messages::Phase;
use orangery_wire::rest::{Allowance, Deadline, OnFailure, Overdue, RolloutPolicy, RolloutRequest, WaveSize};

use crate::center::Hold;
use crate::kinds::Mutant;
use crate::laws::Law;
use crate::node::{Fate, app, release};
use crate::world::{Due, TICK, World};

/// When faults stop.
const FAULTS_END: u64 = 6_000;
/// The longest until all must be at rest then: it is longer than all deadlines of all waves together.
const REST_WITHIN: u64 = 10 * 3_600;

/// Lives through a world: faults and people for a while, then quiet, in which all must come to rest.
pub fn live(world: &mut World) {
    prepare(world);
    world.run_until(FAULTS_END);
    mend(world);
    let end = world.now + REST_WITHIN;
    while !is_at_rest(world) && world.laws.broken.is_none() {
        if world.now >= end {
            let what = format!("after {REST_WITHIN} s: {}", unrest(world));
            world.laws.breaks(Law::AllComesToRest, what);
        }
        world.run_until(world.now + 60);
    }
    world.laws.judge_end(&world.center.rollouts, &world.nodes, &world.names);
    count(world);
}

fn prepare(world: &mut World) {
    let nodes = world.nodes.len();
    crate::windows::prepare(world);
    world.laws.kills_per_thousand = world.random.below(8);
    // Some have not joined yet.
    if nodes > 5 && world.random.percent(50) {
        for k in nodes - 2..nodes {
            let name = world.nodes[k].name.clone();
            world.center.known.get_mut(&name).unwrap().joined = false;
        }
    }
    for _ in 0..nodes.min(40) * 2 {
        let at = world.random.below(FAULTS_END);
        world.at(at, Due::Fault);
    }
    world.at(5, Due::Person);
    for _ in 0..12 {
        let at = world.random.below(FAULTS_END);
        world.at(at, Due::Person);
    }
}

fn count(world: &mut World) {
    let (center, counts) = (&world.center, &mut world.counts);
    counts.cores = world.nodes.len() as u64;
    counts.commits = world.nodes.iter().map(|node| node.commits).sum();
    counts.refusals = world.nodes.iter().map(|node| node.refusals).sum();
    counts.done = center.count(|status| matches!(status, Status::Done { .. }));
    counts.paused = center.count(|status| matches!(status, Status::Paused(_)));
    counts.reverted = center.count(|status| matches!(status, Status::Reverted { .. }));
    counts.superseded = center.count(|status| matches!(status, Status::Superseded { .. }));
    counts.late =
        center.rollouts.values().filter(|rollout| rollout.waves.iter().any(|wave| wave.trailing)).count() as u64;
    (counts.shut, counts.missed) = (world.laws.shut, world.laws.missed);
    (counts.worse, counts.unclear) = (world.laws.worse, world.laws.unclear);
    counts.ignored = center.rollouts.values().filter(|rollout| rollout.ignores_windows.is_some()).count() as u64;
    counts.promoted =
        center.rollouts.values().filter(|rollout| rollout.waves.iter().any(|wave| wave.promoted.is_some())).count()
            as u64;
}

/// Something goes wrong.
pub fn fault(world: &mut World) {
    let k = world.random.index(world.nodes.len());
    let secs = world.random.between(5, 900);
    match world.random.below(10) {
        0..=3 => {
            world.link(k, false);
            world.at(world.now + secs, Due::Link(k, true));
        }
        4..=6 if world.nodes[k].is_on => world.go_down(k, secs),
        7 if world.center.is_up => world.kill(),
        8 => {
            world.center.is_listening = false;
            world.at(world.now + secs, Due::Listen(true));
        }
        9 => {
            let jump = [3_600, -3_600, 86_400, -86_400][world.random.index(4)];
            world.center.clock_off += jump;
        }
        _ => {}
    }
}

/// Everything works from now on, and nobody does anything any more.
fn mend(world: &mut World) {
    world.options.loss_percent = 0;
    world.laws.kills_per_thousand = 0;
    (world.center.is_up, world.center.is_listening) = (true, true);
    for k in 0..world.nodes.len() {
        world.nodes[k].is_dead = false;
        // Whoever came to the board has seen to it that it stays on.
        for fate in &mut world.nodes[k].fates {
            if matches!(fate, Fate::Dies(_)) {
                *fate = Fate::Good;
            }
        }
        world.nodes[k].is_linked = true;
        world.start(k);
    }
    world.everyone_reconnects();
}

/// Somebody does something.
pub fn person(world: &mut World) {
    let ids: Vec<RolloutId> = world.center.rollouts.keys().copied().collect();
    if world.now >= FAULTS_END || !world.center.is_up {
        return;
    }
    let Some(id) = ids.last().copied() else { return begin(world) };
    match world.random.below(12) {
        0..=1 => begin(world),
        2 => drop(world.deed(id, "pause", None)),
        3..=4 => drop(world.deed(id, "resume", None)),
        5 => drop(world.deed(id, "promote", None)),
        6..=7 => drop(world.deed(id, "approve", None)),
        8 => drop(world.deed(id, "revert", None)),
        9 => hold(world),
        11 if world.random.percent(30) => drop(world.deed(id, "ignore-windows", None)),
        _ => let_join(world),
    }
}

fn hold(world: &mut World) {
    let (k, until) = (world.random.index(world.nodes.len()), world.now + world.random.between(60, 2_000));
    let name = world.nodes[k].name.clone();
    world.center.known.get_mut(&name).unwrap().hold = Some(Hold { reason: "guests".into(), until });
}

fn let_join(world: &mut World) {
    let late = world.center.known.values_mut().find(|known| !known.joined);
    if let Some(known) = late {
        known.joined = true;
    }
}

fn begin(world: &mut World) {
    let number = u8::try_from(world.center.rollouts.len() + 2).unwrap();
    if number > 5 {
        return;
    }
    let share = [0, 0, 20, 100][world.random.index(4)];
    for k in 0..world.nodes.len() {
        let fate = if world.random.percent(share) { bad(&mut world.random) } else { Fate::Good };
        world.nodes[k].fates[usize::from(number)] = fate;
    }
    let mut request = request(&mut world.random, number, world.nodes.len());
    request.policy.compare = crate::worse::prepare(world, number);
    let takes_over = world.options.mutant != Some(Mutant::OlderGoesOn);
    // Not every request makes sense; those that do not are refused.
    drop(world.center.begin(world.now, &request, number, takes_over));
}

fn bad(random: &mut Random) -> Fate {
    match random.below(7) {
        0 => Fate::Unhealthy,
        1 => Fate::WontStart,
        2 => Fate::Unverified,
        3 => Fate::CrashLoop,
        4 => Fate::Sours(random.between(20, 300)),
        5 => Fate::Dies(random.between(20, 300)),
        _ => Fate::Stuck,
    }
}

fn request(random: &mut Random, number: u8, nodes: usize) -> RolloutRequest {
    let to = if random.percent(80) { "all" } else { "site=ground" };
    let canary = format!("n{}", random.index(nodes)).parse().unwrap();
    let waves = match random.below(4) {
        0 => vec![],
        1 => vec![WaveSize::Percent(30), WaveSize::Percent(100)],
        2 => vec![WaveSize::Count(1), WaveSize::Count(3), WaveSize::Percent(100)],
        _ => vec![WaveSize::Percent(10), WaveSize::Percent(50), WaveSize::Percent(100)],
    };
    let then = |random: &mut Random| [Overdue::Fail, Overdue::Skip, Overdue::Fail, Overdue::Wait][random.index(4)];
    let policy = RolloutPolicy {
        soak_secs: vec![random.between(100, 400), random.between(100, 200)],
        failures: vec![[Allowance::Count(0), Allowance::Count(1), Allowance::Percent(20)][random.index(3)]],
        on_failure: if random.percent(50) { OnFailure::Pause } else { OnFailure::Revert },
        approve_between: random.percent(20),
        start: Deadline { secs: random.between(200, 900), then: then(random) },
        progress: Deadline { secs: random.between(200, 900), then: then(random) },
        done: Deadline { secs: random.between(300, 1_200), then: then(random) },
        compare: None,
    };
    RolloutRequest {
        app: app(),
        version: release(number).version,
        to: vec![to.into()],
        canaries: if random.percent(40) { vec![canary] } else { vec![] },
        waves,
        policy,
        deed: orangery_wire::rest::DeedRequest::default(),
        plan: None,
        ignore_windows: false,
    }
}

/// What the planner says, with the fault that is planted, if one is.
pub fn planned(world: &World, id: RolloutId) -> (Scene, Planned) {
    let Some(mutant) = world.options.mutant else { return world.center.plan(world.now, id) };
    let before = &world.center.rollouts[&id];
    let scene = world.center.scene(world.now, id, &before.to);
    let (mut rollout, mut seen) = (before.clone(), scene.clone());
    plant_before(mutant, &mut rollout, &mut seen);
    let mut planned = rollout::plan(&rollout, &seen);
    for (wave, was) in planned.next.waves.iter_mut().zip(&before.waves) {
        wave.rule = was.rule.clone();
    }
    planned.next.compare = before.compare;
    plant_after(mutant, &scene, before, &mut planned);
    (scene, planned)
}

fn plant_before(mutant: Mutant, rollout: &mut rollout::Rollout, seen: &mut Scene) {
    let never = Deadline { secs: 86_400 * 30, then: Overdue::Fail };
    for wave in &mut rollout.waves {
        match mutant {
            Mutant::SoakIsSkipped => wave.rule.soak_secs = 0,
            Mutant::LimitIsIgnored => wave.rule.failures = Allowance::Percent(100),
            Mutant::DeadlinesNeverEnd => {
                (wave.rule.start, wave.rule.progress, wave.rule.done) = (never, never, never);
            }
            _ => {}
        }
    }
    if mutant == Mutant::ComparisonIsSkipped {
        rollout.compare = None;
    }
    if mutant == Mutant::ComparedWithItself {
        for (node, turn) in &mut rollout.turns {
            let Stage::Told(rollout::Told { earlier: Some(earlier), .. }) = &turn.stage else { continue };
            let now = seen.nodes.get(node).and_then(|facts| facts.vitals);
            turn.before = now.map(|now| Vitals { release: earlier.id, ..now });
        }
    }
    if mutant == Mutant::UnwatchedTimeCounts {
        let passed = seen.now.saturating_sub(rollout.looked_at);
        rollout.watched_secs += passed.saturating_sub(TICK);
    }
    for facts in seen.nodes.values_mut() {
        match mutant {
            Mutant::SilenceIsProof => facts.heard_secs = Some(0),
            Mutant::HoldIsIgnored => facts.held = None,
            Mutant::WindowIsIgnored => facts.window = None,
            Mutant::AwayIsTold => facts.online |= facts.window.is_some(),
            Mutant::ShutIsPassed => {
                if let Some(Window::Shut(shut)) = &mut facts.window {
                    shut.waits = false;
                }
            }
            Mutant::InstalledCounts => {
                if let Some(report) = facts.report.as_mut().filter(|report| report.phase != Phase::Settled) {
                    report.phase = Phase::Settled;
                    (report.current, report.running) = (report.desired.clone(), report.desired.clone());
                }
            }
            _ => {}
        }
    }
}

fn plant_after(mutant: Mutant, scene: &Scene, before: &rollout::Rollout, planned: &mut Planned) {
    let next = &mut planned.next;
    match mutant {
        Mutant::UnopenedIsTold => {
            let is_closed = |wave: u32| next.waves[wave as usize].opened_at.is_none();
            let ahead = next.turns.iter().find(|(_, turn)| turn.stage == Stage::Waiting && is_closed(turn.wave));
            if let Some((node, _)) = ahead {
                let generation = scene.nodes[node].generation + 1;
                planned.assign.push(Telling { node: node.clone(), generation, release: Some(next.release.clone()) });
            }
        }
        Mutant::RevertForgetsOne if matches!(before.status, Status::Reverting(_)) => {
            let back = planned.assign.iter().position(|telling| telling.release.as_ref() != Some(&next.release));
            if let Some(back) = back {
                let forgotten = planned.assign.remove(back);
                next.turns.remove(&forgotten.node);
            }
        }
        Mutant::GenerationIsReused => planned.assign.iter_mut().for_each(|telling| telling.generation -= 1),
        Mutant::ReasonIsMissing => drop(planned.waiting.pop_first()),
        Mutant::ReasonIsOld => {
            planned.waiting = rollout::plan(before, &Scene { nodes: scene.nodes.clone(), ..Scene::default() }).waiting;
        }
        _ => {}
    }
}

/// Whether nothing will happen any more, unless somebody does something.
pub fn is_at_rest(world: &World) -> bool {
    unrest(world).is_empty()
}

/// What still moves, or should.
pub fn unrest(world: &World) -> String {
    for node in &world.nodes {
        let known = &world.center.known[&node.name];
        let is_stuck = matches!(&node.record.phase, orangery_agent::deployment::Phase::Fetching { release, .. }
            if node.fate(release) == Fate::Stuck);
        let is_heard = !known.joined || known.report.as_ref() == Some(&node.report());
        let rests = matches!(node.record.phase, orangery_agent::deployment::Phase::Settled) && node.healthy.is_some();
        let has_taken = known.desired.as_ref().is_none_or(|desired| node.record.generation >= desired.generation);
        if !(is_heard && has_taken && (rests || is_stuck)) {
            return format!("{} is {:?}, reported {:?}", node.name, node.record, known.report);
        }
    }
    let moves = world.center.active().into_iter().find_map(|id| moves(world, id));
    moves.unwrap_or_default()
}

/// Why a rollout is not at rest.
fn moves(world: &World, id: RolloutId) -> Option<String> {
    let (scene, planned) = world.center.plan(world.now, id);
    let next = &planned.next;
    let says = |what: &str| Some(format!("rollout {id} {what}: {:?}", planned.waiting));
    if !planned.assign.is_empty() || !planned.news.is_empty() {
        return says("goes on");
    }
    let any = |is: &dyn Fn(&Standing) -> bool| {
        next.turns.iter().any(|(node, turn)| next.standing(node, turn, &scene).is_some_and(|standing| is(&standing)))
    };
    let waits_for_ever = any(&|standing| matches!(standing, Standing::Overdue(missed) if missed.then == Overdue::Wait));
    let asks = any(&|standing| matches!(standing, Standing::Inconclusive(_)));
    let gate = next.gate(&scene).map(|(_, why)| why.code);
    let waits_for_a_person = matches!(gate, Some("approval" | "nobody_proved"));
    let is_free = |standing: &Standing| {
        matches!(
            standing,
            Standing::NotTaken { .. }
                | Standing::Working(_)
                | Standing::Soaking { .. }
                | Standing::Comparing(_)
                | Standing::GoingBack { .. }
                | Standing::Away
        ) || matches!(standing, Standing::Shut(shut) if shut.waits)
    };
    match next.status {
        Status::Paused(_) => None,
        Status::Running if waits_for_ever || waits_for_a_person || asks => None,
        _ if any(&is_free) => says("waits"),
        _ => says("does not end"),
    }
}

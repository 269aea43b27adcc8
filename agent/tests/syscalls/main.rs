//! The real agent, killed at every system call that touches its disk, and with each of them failing: EIO and ENOSPC.
//!
//! A deployment and a start are recorded under strace. Each call of the list (the n-th of its kind on its path) is then the one
//! at which a fresh copy of the node is hit. After that the agent is started as ever and must be on one proven release, with all
//! invariants, and must take the new release; no event may be missing.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../joined/mod.rs"]
mod joined;
#[path = "../origin/mod.rs"]
mod origin;
#[path = "../owner/mod.rs"]
mod owner;
#[path = "../traced/mod.rs"]
mod traced;

mod board;
mod strace;
mod template;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use board::{Board, Outcome};
use strace::{Call, Fault};
use template::Template;

/// Cases at the same time.
const WORKERS: usize = 2;

/// What the node does when it is hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    /// It starts, with its app.
    Start,
    /// It installs 2.0.0.
    Deploy,
}

/// Hits the node and says how that went. Panics where it must not end so.
fn hit(template: &Template, deed: Deed, call: &Call, fault: Fault) -> String {
    let what = format!("{fault:?} at {call:?} of {deed:?}");
    let mut board = Board::copy_of(template);
    let outcome = match deed {
        Deed::Start => {
            board.start_under(call, fault);
            board.settles_or_dies(&what)
        }
        Deed::Deploy => {
            board.start();
            board.settled(&what);
            board.attach(call, fault);
            board.deploy()
        }
    };
    if board.lives() && !matches!(outcome, Outcome::Died) {
        board.settled(&what);
        board.stop();
    }
    board.kill();
    board.start();
    let current = board.settled(&what);
    if outcome == Outcome::Current {
        assert_eq!(current, "2.0.0", "{what}: it was told that it is current");
    }
    if current != "2.0.0" {
        let again = board.deploy();
        assert_eq!(again, Outcome::Current, "{what}: nothing is in the way any more\n{}", board.log());
    }
    board.assert_nothing_is_missing(&what);
    board.stop();
    board.assert_sound(&what);
    outcome.word()
}

/// Goes through `cases` with a few at a time, and prints how they ended.
fn go_through(template: &Template, cases: &[(Deed, Call, Fault)]) {
    let (next, outcomes) = (AtomicUsize::new(0), Mutex::new(BTreeMap::<String, usize>::new()));
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::SeqCst);
                    let Some((deed, call, fault)) = cases.get(n) else { return };
                    if n > 0 && n.is_multiple_of(100) {
                        println!("{n} of {} begun after {} s", cases.len(), begun.elapsed().as_secs());
                    }
                    let begun = Instant::now();
                    let word = hit(template, *deed, call, *fault);
                    if begun.elapsed() > SLOW {
                        println!("{:?}: {fault:?} at {call:?} of {deed:?}: {word}", begun.elapsed());
                    }
                    let word = format!("{deed:?}, {fault:?}: {word}");
                    *outcomes.lock().unwrap().entry(word).or_default() += 1;
                }
            });
        }
    });
    let took = begun.elapsed().as_secs();
    println!("{} system calls hit in {took} s, 0 bad outcomes:", cases.len());
    for (word, count) in &*outcomes.lock().unwrap() {
        println!("  {count:>4}  {word}");
    }
}

fn all_cases(template: &Template) -> Vec<(Deed, Call, Fault)> {
    let mut cases = Vec::new();
    for (deed, calls) in
        [(Deed::Start, strace::record_start(template)), (Deed::Deploy, strace::record_deploy(template))]
    {
        println!("{deed:?}: {} calls that touch the disk", calls.len());
        for fault in [Fault::Kill, Fault::Eio, Fault::Enospc] {
            // An errno that the call never gives would test nothing; a kill hits any.
            let fitting = calls.iter().filter(|call| fault == Fault::Kill || call.writes());
            cases.extend(fitting.map(|call| (deed, call.clone(), fault)));
        }
    }
    cases
}

#[test]
fn an_agent_hit_at_some_of_its_system_calls_ends_where_it_should() {
    if !traced::possible() {
        return;
    }
    let template = Template::new();
    let all = all_cases(&template);
    // Evenly over the list, and others in each run of it: the day decides.
    let step = all.len().div_ceil(24);
    let offset = usize::try_from(std::process::id()).unwrap() % step;
    println!("every {step}th, from {offset}");
    let some: Vec<_> = all.into_iter().skip(offset).step_by(step).collect();
    go_through(&template, &some);
}

#[test]
#[ignore = "takes five minutes; run by `just test-long`"]
fn long_an_agent_hit_at_every_system_call_ends_where_it_should() {
    if !traced::possible() {
        return;
    }
    let template = Template::new();
    let all = all_cases(&template);
    assert!(all.len() > 300, "only {} calls", all.len());
    go_through(&template, &all);
}

/// What takes longer is printed.
const SLOW: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(40);

/// Asks until there is an answer.
fn eventually<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    eventually_or(|| what.to_owned(), ask)
}

/// Asks until there is an answer; `what` is for when there is none.
fn eventually_or<T>(what: impl Fn() -> String, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {}", what());
        std::thread::sleep(Duration::from_millis(5));
    }
}

//! `just bench`: the figures of size and speed, each beside what it is to be compared with, measured in one run.
//!
//! `bench [size|idle|start|deploy|trust|endurance]...` runs some of them; without a word all. `ORANGERY_PROGRAMS` names the
//! directory of the programs to measure; `ORANGERY_DEPLOYMENTS` the length of the endurance run (1000); `ORANGERY_TARGETS` how
//! many there are for `trust` (500).

mod deploy;
mod endurance;
mod idle;
mod start;
mod trust;

use orangery_tests::process::program;

type Outcome = anyhow::Result<()>;
type Figure = fn() -> Outcome;

fn main() -> Outcome {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let figures: [(&str, Figure); 6] = [
        ("size", size),
        ("idle", idle::measure),
        ("start", start::measure),
        ("deploy", deploy::measure),
        ("trust", trust::measure),
        ("endurance", endurance::measure),
    ];
    for (name, measure) in figures {
        if wanted.is_empty() || wanted.iter().any(|word| word == name) {
            measure()?;
        }
    }
    Ok(())
}

fn size() -> Outcome {
    let bytes = std::fs::metadata(program("orangery-agent"))?.len();
    println!(
        "size: orangery-agent for {} has {bytes} bytes ({:.2} MB); the goal is at most 4 MB, static for aarch64",
        std::env::consts::ARCH,
        mega(bytes)
    );
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn mega(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// The middle one, and the lowest and highest.
fn spread(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
    (at(values.len() / 2), at(0), at(values.len().saturating_sub(1)))
}

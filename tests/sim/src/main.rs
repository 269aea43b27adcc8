//! `sim SEED`: lives through one world and prints what came of it; again, it prints the same.

use std::process::ExitCode;
use std::time::Instant;

use orangery_sim::{Mutant, Options, Printing, simulate};

const USAGE: &str =
    "usage: sim SEED [--nodes N] [--days D] [--faults PERCENT] [--seeds COUNT] [--mutant NAME] [--print NODE|all]";

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)) {
        Ok((options, seeds)) => run(options, seeds),
        Err(text) => {
            eprintln!("{text}\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn run(options: Options, seeds: u64) -> ExitCode {
    let begun = Instant::now();
    for seed in options.seed..options.seed.saturating_add(seeds) {
        match simulate(Options { seed, ..options }) {
            Err(text) => {
                eprintln!("{text}");
                return ExitCode::FAILURE;
            }
            Ok(summary) if seeds == 1 || summary.broken.is_some() => {
                println!("{summary}\n  {:.1} s", begun.elapsed().as_secs_f32());
                if summary.broken.is_some() {
                    return ExitCode::FAILURE;
                }
            }
            Ok(_) => {}
        }
    }
    if seeds > 1 {
        println!("{seeds} seeds from {}: no law broken, {:.1} s", options.seed, begun.elapsed().as_secs_f32());
    }
    ExitCode::SUCCESS
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<(Options, u64), String> {
    let (mut options, mut seeds) = (Options::small(0), 1);
    let number = |text: String| text.parse::<u64>().map_err(|_| format!("{text} is not a number"));
    options.seed = number(words.next().ok_or("a seed is missing")?)?;
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
        match word.as_str() {
            "--nodes" => options.nodes = usize::try_from(number(value)?.max(1)).map_err(|error| error.to_string())?,
            "--days" => options.days = number(value)?.max(3),
            "--faults" => options.faults_percent = number(value)?,
            "--seeds" => seeds = number(value)?,
            "--mutant" => options.mutant = Some(mutant(&value)?),
            "--print" if value == "all" => options.printing = Some(Printing::All),
            "--print" => {
                let node = number(value)?;
                options.printing = Some(Printing::Node(usize::try_from(node).map_err(|error| error.to_string())?));
            }
            _ => return Err(format!("{word} is not known")),
        }
    }
    Ok((options, seeds))
}

fn mutant(name: &str) -> Result<Mutant, String> {
    let known = Mutant::ALL.iter().find(|mutant| format!("{mutant:?}") == name);
    known.copied().ok_or_else(|| {
        let names: Vec<String> = Mutant::ALL.iter().map(|mutant| format!("{mutant:?}")).collect();
        format!("{name} is not one of {}", names.join(", "))
    })
}

//! Records when the program was built: no clock may be earlier. `SOURCE_DATE_EPOCH` makes the build reproducible
//! (reproducible-builds.org/specs/source-date-epoch). And seeds faults into copies of the deployment machine, for the test that
//! must find them.

use std::fmt::Write;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

#[path = "tests/exhaustive/seeds.rs"]
mod seeds;

use seeds::{SEEDS, Seed};

const MACHINE: &str = "src/deployment.rs";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    let given = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.parse::<u64>().ok());
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    println!("cargo::rustc-env=ORANGERY_BUILD_TIME={}", given.unwrap_or_else(now));
    write_mutations();
}

/// Writes a module for each seed of `tests/exhaustive/seeds.rs`. No part of the agent includes them.
fn write_mutations() {
    println!("cargo::rerun-if-changed={MACHINE}");
    println!("cargo::rerun-if-changed=tests/exhaustive/seeds.rs");
    let machine = std::fs::read_to_string(MACHINE).expect("the deployment machine is there");
    let machine = machine.split("\n#[cfg(test)]").next().unwrap_or_default();
    let mut text = String::new();
    let mut names = String::new();
    for Seed { name, from, to } in SEEDS {
        match machine.matches(from).count() {
            1 => {
                let mutated = machine.replacen(from, to, 1);
                let _ =
                    writeln!(text, "pub mod {name} {{ mod deployment {{ {mutated} }} crate::machine::machine!(); }}");
                let _ = write!(names, "(\"{name}\", crate::hunt::<{name}::Core>), ");
            }
            count => {
                let _ = writeln!(text, "compile_error!(\"the seed {name} finds its text {count} times, not once\");");
            }
        }
    }
    let _ = writeln!(text, "pub const ALL: &[(&str, fn() -> Option<&'static str>)] = &[{names}];");
    let out = std::env::var_os("OUT_DIR").expect("cargo names the directory");
    std::fs::write(Path::new(&out).join("mutations.rs"), text).expect("the build directory can be written");
}

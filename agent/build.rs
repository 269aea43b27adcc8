//! Records when the program was built: no clock may be earlier. `SOURCE_DATE_EPOCH` makes the build reproducible
//! (reproducible-builds.org/specs/source-date-epoch).

use std::time::{SystemTime, UNIX_EPOCH};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    let given = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.parse::<u64>().ok());
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    println!("cargo::rustc-env=ORANGERY_BUILD_TIME={}", given.unwrap_or_else(now));
}

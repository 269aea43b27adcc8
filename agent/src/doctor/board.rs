//! Memory, heat and power.

use super::{Code, Findings, Node, read, size};
use crate::health::Sampler;

/// Where a Raspberry Pi's firmware says what it has seen: bits 0 and 16 are too low a voltage, now and since the start.
const THROTTLED: &str = "/sys/devices/platform/soc/soc:firmware/get_throttled";
const LOW_VOLTAGE: u64 = 1 | 1 << 16;
const HOT_CELSIUS: f32 = 80.0;
/// Less than this part of the memory is little.
const MEMORY_PART: u64 = 20;

pub(super) fn board(node: &Node, found: &mut Findings) {
    let memory = |key: &str| {
        let text = read("/proc/meminfo")?;
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
    };
    if let (Some(all), Some(free)) = (memory("MemTotal:"), memory("MemAvailable:")) {
        let what = format!("{} of {} of memory are available", size(free), size(all));
        if free < all / MEMORY_PART { found.add(Code::MemoryLow, what) } else { found.ok(what) }
    }
    if let Some(celsius) = Sampler::new(node.layout.root()).sample(&node.clock).temperature_celsius {
        let what = format!("{celsius:.0} degrees Celsius");
        if celsius >= HOT_CELSIUS { found.add(Code::TooHot, what) } else { found.ok(what) }
    }
    let throttled = read(THROTTLED).and_then(|text| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok());
    if throttled.is_some_and(|bits| bits & LOW_VOLTAGE != 0) {
        found.add(Code::PowerWeak, format!("{THROTTLED} says {:#x}", throttled.unwrap_or(0)));
    }
}

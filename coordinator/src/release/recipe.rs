//! The manifest file that a person writes: TOML with everything of a [`Manifest`] but what `release build` adds (format,
//! app, version, platforms).
//!
//! ```toml
//! soak_secs = 5
//!
//! [run]
//! exec = ["greeter"]
//! env = { PORT = "8080" }
//!
//! [[run.sockets]]
//! name = "http"
//! listen = "127.0.0.1:${PORT}"
//!
//! [[probes]]
//! http = { port = "${PORT}", path = "/health" }
//!
//! [gate]
//! connectivity_secs = 120
//! ```

use std::collections::BTreeMap;

use orangery_wire::manifest::{self, Check, Constraints, Gate, Manifest, Probe, Run, Tree};
use orangery_wire::{AppName, Version};
use serde::Deserialize;

use crate::nearest::suggestion;

/// What a manifest file says. The keys mean what they mean in [`Manifest`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    #[serde(default)]
    notes: Option<String>,
    #[serde(default)]
    source: Option<String>,
    #[serde(default)]
    constraints: Constraints,
    run: Run,
    #[serde(default)]
    probes: Vec<WrittenProbe>,
    #[serde(default)]
    soak_secs: u64,
    #[serde(default)]
    gate: Gate,
}

/// A probe as it is written: one of `http`, `tcp`, `exec`, and its times. What is left out is [`Probe`]'s default.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenProbe {
    #[serde(default)]
    http: Option<Http>,
    #[serde(default)]
    tcp: Option<Tcp>,
    #[serde(default)]
    exec: Option<Exec>,
    #[serde(default)]
    interval_ms: Option<u64>,
    #[serde(default)]
    timeout_ms: Option<u64>,
    #[serde(default)]
    start_delay_ms: Option<u64>,
    #[serde(default)]
    successes: Option<u32>,
    #[serde(default)]
    failures: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Http {
    port: Port,
    path: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tcp {
    port: Port,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exec {
    command: Vec<String>,
}

/// A port as a number or, so that it can be a variable, as text.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "a port is a number from 1 to 65535 or a text such as \"${PORT}\"")]
enum Port {
    Number(std::num::NonZeroU16),
    Text(String),
}

impl Port {
    fn into_text(self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text,
        }
    }
}

/// Why a manifest file is refused: where, what is wrong and, for a key that is unknown, which one is like it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidRecipe(String);

impl Recipe {
    /// Understands the text of a manifest file.
    pub fn parse(text: &str) -> Result<Self, InvalidRecipe> {
        toml::from_str(text).map_err(|error| {
            let hint = suggestion(error.message()).map(|key| format!("\ndid you mean `{key}`?")).unwrap_or_default();
            InvalidRecipe(format!("{}{hint}", error.to_string().trim_end()))
        })
    }

    /// The manifest of one release made by this recipe. It is not validated yet.
    pub fn into_manifest(
        self,
        app: AppName,
        version: Version,
        platforms: BTreeMap<String, Tree>,
    ) -> Result<Manifest, InvalidRecipe> {
        let probes = self.probes.into_iter().enumerate().map(|(n, probe)| probe.into_probe(n));
        Ok(Manifest {
            format: manifest::FORMAT,
            app,
            version,
            notes: self.notes,
            source: self.source,
            constraints: self.constraints,
            run: self.run,
            probes: probes.collect::<Result<_, _>>()?,
            soak_secs: self.soak_secs,
            gate: self.gate,
            platforms,
        })
    }
}

impl WrittenProbe {
    fn into_probe(self, n: usize) -> Result<Probe, InvalidRecipe> {
        let check = match (self.http, self.tcp, self.exec) {
            (Some(http), None, None) => Check::Http { port: http.port.into_text(), path: http.path },
            (None, Some(tcp), None) => Check::Tcp { port: tcp.port.into_text() },
            (None, None, Some(exec)) => Check::Exec { command: exec.command },
            _ => {
                let rule = "each [[probes]] asks one thing: write exactly one of `http`, `tcp` and `exec` in it";
                return Err(InvalidRecipe(format!("probe {} of the manifest file: {rule}", n + 1)));
            }
        };
        let usual = Probe::new(check);
        Ok(Probe {
            interval_ms: self.interval_ms.unwrap_or(usual.interval_ms),
            timeout_ms: self.timeout_ms.unwrap_or(usual.timeout_ms),
            start_delay_ms: self.start_delay_ms.unwrap_or(usual.start_delay_ms),
            successes: self.successes.unwrap_or(usual.successes),
            failures: self.failures.unwrap_or(usual.failures),
            check: usual.check,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: &str = "[run]\nexec = [\"app\"]\n";

    fn manifest(text: &str) -> Result<Manifest, InvalidRecipe> {
        let (app, version) = ("app".parse().unwrap(), "1.0.0".parse().unwrap());
        Recipe::parse(text)?.into_manifest(app, version, BTreeMap::new())
    }

    #[test]
    fn ports_are_numbers_or_variables_and_times_default() {
        let text = format!(
            "{RUN}[[probes]]\nhttp = {{ port = 8080, path = \"/health\" }}\ninterval_ms = 50\n\
             [[probes]]\ntcp = {{ port = \"${{PORT}}\" }}\n[[probes]]\nexec = {{ command = [\"bin/ok\", \"-q\"] }}\n"
        );
        let probes = manifest(&text).unwrap().probes;
        let checks: Vec<Check> = probes.iter().map(|p| p.check.clone()).collect();
        let expected = vec![
            Check::Http { port: "8080".into(), path: "/health".into() },
            Check::Tcp { port: "${PORT}".into() },
            Check::Exec { command: vec!["bin/ok".into(), "-q".into()] },
        ];
        assert_eq!(checks, expected);
        assert_eq!((probes[0].interval_ms, probes[0].failures), (50, 3));
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest_one() {
        for (text, nearest) in [
            ("[run]\nexecs = [\"app\"]\n", "`exec`"),
            ("[run]\nexec = [\"app\"]\nenvs = { A = \"b\" }\n", "`env`"),
            (&format!("soak_sec = 5\n{RUN}"), "`soak_secs`"),
            (&format!("{RUN}[[probes]]\nhttp = {{ ports = 80, path = \"/\" }}\n"), "`port`"),
            (&format!("{RUN}[run.restart]\nrestart_max = 1\n"), "`restarts_max`"),
        ] {
            let refused = manifest(text).unwrap_err().to_string();
            assert!(refused.contains(&format!("did you mean {nearest}?")), "{text}: {refused}");
        }
        let refused = manifest(&format!("{RUN}xyzzy = 1\n")).unwrap_err().to_string();
        assert!(refused.contains("xyzzy") && !refused.contains("did you mean"), "{refused}");
    }

    #[test]
    fn a_probe_asks_exactly_one_thing() {
        for probe in ["interval_ms = 100", "tcp = { port = 1 }\nhttp = { port = 1, path = \"/\" }"] {
            let refused = manifest(&format!("{RUN}[[probes]]\n{probe}\n")).unwrap_err().to_string();
            assert!(refused.contains("probe 1") && refused.contains("exactly one"), "{refused}");
        }
    }

    #[test]
    fn a_port_that_is_none_is_refused() {
        for port in ["0", "70000", "true"] {
            let refused = manifest(&format!("{RUN}[[probes]]\ntcp = {{ port = {port} }}\n")).unwrap_err().to_string();
            assert!(refused.contains("1 to 65535"), "{refused}");
        }
    }
}

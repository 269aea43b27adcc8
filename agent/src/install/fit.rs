//! Whether a release is for this node.

use std::collections::BTreeMap;

use orangery_wire::manifest::{Tree, this_platform};
use orangery_wire::messages::RefusalCode;
use orangery_wire::{Manifest, Version, limits};

use crate::deployment::Reason;

/// What a release can be picky about.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) platform: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) board: Option<String>,
    pub(super) agent: Option<Version>,
}

impl Node {
    /// The node that this program runs on.
    pub(super) fn this(labels: BTreeMap<String, String>, board: Option<String>) -> Self {
        Self { platform: this_platform(), labels, board, agent: env!("CARGO_PKG_VERSION").parse().ok() }
    }

    /// The files for this node, if the release is for it at all.
    pub(super) fn tree_for<'m>(&self, manifest: &'m Manifest) -> Result<&'m Tree, Reason> {
        self.misfit(manifest).map_or(Ok(()), Err).and_then(|()| self.tree(manifest)).map_err(|text| {
            let text = format!("{} {} {text}", manifest.app, manifest.version);
            Reason { code: RefusalCode::Incompatible, text: limits::reason(text) }
        })
    }

    fn tree<'m>(&self, manifest: &'m Manifest) -> Result<&'m Tree, String> {
        manifest.platforms.get(&self.platform).ok_or_else(|| {
            let built: Vec<&str> = manifest.platforms.keys().map(String::as_str).collect();
            format!("is built for {}; this node is {}", built.join(", "), self.platform)
        })
    }

    /// The first constraint that does not hold, naming both sides.
    fn misfit(&self, manifest: &Manifest) -> Option<String> {
        let constraints = &manifest.constraints;
        for (label, wanted) in &constraints.labels {
            match self.labels.get(label) {
                Some(is) if is == wanted => {}
                Some(is) => return Some(format!("is for nodes with {label}={wanted}; this node has {label}={is}")),
                None => return Some(format!("is for nodes with {label}={wanted}; this node has no label {label}")),
            }
        }
        let board = self.board.as_deref();
        let listed =
            |board: &str| constraints.boards.iter().any(|wanted| wanted.to_lowercase() == board.to_lowercase());
        if !constraints.boards.is_empty() && !board.is_some_and(listed) {
            let is = board.map_or_else(|| "does not say what it is".to_owned(), |board| format!("is {board:?}"));
            return Some(format!("is for the boards {:?}; this board {is}", constraints.boards));
        }
        let least = constraints.agent_min.as_ref()?;
        let new_enough = |agent: &Version| agent.semver() >= least.semver();
        if self.agent.as_ref().is_some_and(new_enough) {
            return None;
        }
        let is = self.agent.as_ref().map_or_else(|| "unknown".to_owned(), Version::to_string);
        Some(format!("needs an agent of version {least} or newer; this one is {is}: update the agent first"))
    }
}

#[cfg(test)]
mod tests {
    use orangery_wire::manifest::Constraints;

    use super::*;

    fn check(constraints: Constraints, expected: Result<(), &str>) {
        let json = r#"{"format":1,"app":"greeter","version":"1.0.0","run":{"exec":["/bin/true"]},"platforms":{}}"#;
        let mut manifest: Manifest = serde_json::from_str(json).unwrap();
        let tree = r#"{"size_bytes":0,"pack":{"digest":"00","size_bytes":0,"encoding":"none"},"entries":[]}"#;
        let tree = serde_json::from_str(&tree.replace("00", &"00".repeat(32))).unwrap();
        manifest.platforms.insert("linux/arm64".into(), tree);
        manifest.constraints = constraints;
        let node = Node {
            platform: "linux/arm64".into(),
            labels: BTreeMap::from([("site".into(), "attic".into())]),
            board: Some("Raspberry Pi 4 Model B".into()),
            agent: "1.2.0".parse().ok(),
        };
        let fits = node.tree_for(&manifest).map(drop);
        match expected {
            Ok(()) => assert_eq!(fits, Ok(())),
            Err(text) => {
                let reason = fits.unwrap_err();
                assert_eq!(reason.code, RefusalCode::Incompatible);
                assert_eq!(reason.text, format!("greeter 1.0.0 {text}"));
            }
        }
    }

    fn label(value: &str) -> Constraints {
        Constraints { labels: BTreeMap::from([("site".into(), value.into())]), ..Constraints::default() }
    }

    fn boards(boards: &[&str]) -> Constraints {
        Constraints { boards: boards.iter().map(ToString::to_string).collect(), ..Constraints::default() }
    }

    fn agent(version: &str) -> Constraints {
        Constraints { agent_min: version.parse().ok(), ..Constraints::default() }
    }

    #[test]
    fn a_release_runs_only_where_every_constraint_holds() {
        check(Constraints::default(), Ok(()));
        check(label("attic"), Ok(()));
        check(label("cellar"), Err("is for nodes with site=cellar; this node has site=attic"));
        check(boards(&["other", "raspberry pi 4 model b"]), Ok(()));
        check(boards(&["x"]), Err(r#"is for the boards ["x"]; this board is "Raspberry Pi 4 Model B""#));
        check(agent("1.2.0"), Ok(()));
        check(agent("1.2.0-rc.1"), Ok(()));
        check(
            agent("1.10.0"),
            Err("needs an agent of version 1.10.0 or newer; this one is 1.2.0: update the agent first"),
        );
    }
}

//! Who answers on the greeters' ports while a release is on trial.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use orangery_wire::NodeId;

use super::greeter;

/// Time between two questions to each greeter.
const PAUSE: Duration = Duration::from_millis(50);

/// How often each version answered on one node; `None` counts questions without an answer, which there are for a moment
/// whenever one process makes room for the next.
pub type Answers = BTreeMap<Option<String>, u32>;

/// Asks every greeter again and again. It never ends: drop it.
pub async fn ask_all(ports: &[(NodeId, u16)], answers: &mut BTreeMap<NodeId, Answers>) -> Infallible {
    loop {
        for (node, port) in ports {
            let version = greeter::version_on(*port).await.ok();
            *answers.entry(node.clone()).or_default().entry(version).or_default() += 1;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The answers of one node in words; those of `trial` are marked.
pub fn in_words(answers: &Answers, trial: &str) -> String {
    let times = |count: u32| if count == 1 { "once".to_owned() } else { format!("{count} times") };
    let words = answers.iter().map(|(version, count)| {
        let mark = if version.as_deref() == Some(trial) { " (on trial)" } else { "" };
        format!("{}{mark} {}", version.as_deref().unwrap_or("nobody"), times(*count))
    });
    words.rev().collect::<Vec<_>>().join(", ")
}

//! Shows the coordinator what an app wrote last, when somebody asks. Nothing depends on it and nothing is kept of it: an asking
//! that fails is asked again by whoever wants to know.

use std::collections::VecDeque;

use orangery_wire::limits::{OUTPUT_BYTES_MAX, OUTPUT_LINES_MAX, SHOW_MAX};
use orangery_wire::messages::Show;
use orangery_wire::rest::{OutputRequest, OutputTaken};

use super::{Driver, World};
use crate::errors::chain;
use crate::{evidence, identity, tls};

/// Numbers of the latest askings: the desired state is retained, so each may come several times.
pub(super) type Shown = VecDeque<u64>;

impl Driver {
    /// Shows each output that was not shown yet. Of an app that the node does not know there is nothing to show.
    pub(super) fn show(&mut self, shows: Vec<Show>) {
        for show in shows {
            if self.shown.contains(&show.request) || !self.apps.contains_key(&show.app) {
                continue;
            }
            self.shown.push_back(show.request);
            if self.shown.len() > 2 * SHOW_MAX {
                self.shown.pop_front();
            }
            self.outside.show(show);
        }
    }
}

/// Reads what an app wrote last and tells the coordinator.
pub(super) async fn tell(world: &World, show: Show) {
    let Some(identity) = &world.identity else { return };
    let Show { app, request } = show;
    let output = world.runners.last_output(&app, OUTPUT_LINES_MAX).await;
    let hidden = world.hidden(&app, world.runners.running(&app));
    let lines = evidence::printable(&hidden.hide(whole_lines(&String::from_utf8_lossy(&output))), OUTPUT_LINES_MAX);
    let answer = OutputRequest { app, request, lines };
    let config = tls::client_config(identity, world.clock.clone());
    match identity::post(&identity.url, config, "/v1/output", &answer, identity::PATIENCE).await {
        Ok(OutputTaken { taken }) => {
            tracing::info!(app = %answer.app, lines = answer.lines.len(), taken, "showed what the app wrote last");
        }
        Err(error) => {
            tracing::warn!(app = %answer.app, reason = %chain(&error), "cannot show what the app wrote last");
        }
    }
}

/// Without the first line if that may be the end of one: a secret of which half is cut off is not known for one.
fn whole_lines(text: &str) -> &str {
    if text.len() < OUTPUT_BYTES_MAX {
        return text;
    }
    text.split_once('\n').map_or("", |(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_whose_beginning_is_not_there_is_not_shown() {
        assert_eq!(whole_lines("one\ntwo\n"), "one\ntwo\n");
        let long = format!("{}\ntwo\n", "x".repeat(OUTPUT_BYTES_MAX));
        assert_eq!(whole_lines(&long), "two\n");
        assert_eq!(whole_lines(&"x".repeat(OUTPUT_BYTES_MAX)), "");
    }
}

//! What the demo shows: a live table on a terminal, plain lines elsewhere.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use orangery_wire::messages::What;
use orangery_wire::rest::{EventView, Status};
use tokio::task::AbortHandle;

use crate::cli::{fleet_table, is_news, sentence};
use crate::client::Client;
use crate::output::{self, Live};

const REDRAW_EVERY: Duration = Duration::from_millis(250);

/// The screen. Clones share it.
#[derive(Clone)]
pub struct Screen {
    live: Arc<Live>,
}

/// The table is redrawn until this is dropped.
pub struct Redraw(AbortHandle);

impl Drop for Redraw {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Screen {
    /// A table that is redrawn in place, if standard output is a terminal.
    pub fn new() -> Self {
        Self { live: Arc::new(Live::new()) }
    }

    /// A line that stays.
    pub fn say(&self, text: impl AsRef<str>) -> io::Result<()> {
        self.live.say(text.as_ref())
    }

    /// A line for an event. On a terminal the table shows the phases as they come, so that only endings are written down.
    pub fn event(&self, view: &EventView) -> io::Result<()> {
        let is_in_table = !self.live.is_plain() && matches!(view.event.what, What::PhaseChanged { .. });
        if is_in_table || !is_news(&view.event) {
            return Ok(());
        }
        self.say(format!("  {:<7} {}", view.event.node, sentence(&view.event)))
    }

    /// Keeps the table up to date with what the coordinator says.
    pub fn keep_table(&self, client: &Client) -> Redraw {
        let (live, client) = (Arc::clone(&self.live), client.clone());
        let redraw = async move {
            loop {
                // While the coordinator starts or stops there is nothing new to show.
                if let Ok(status) = client.get::<Status>("/v1/status").await {
                    live.show(&format!("\n{}", fleet_table(&status.nodes, output::now())));
                }
                tokio::time::sleep(REDRAW_EVERY).await;
            }
        };
        Redraw(tokio::spawn(redraw).abort_handle())
    }
}

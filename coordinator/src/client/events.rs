//! The coordinator's events as they come: server-sent events (HTML Living Standard, section 9.2), resumed after a cut.

use std::collections::VecDeque;
use std::time::Duration;

use orangery_wire::NodeId;
use orangery_wire::rest::EventView;
use reqwest::{Method, Response};

use super::{Client, ClientError};

/// Pause before a stream that broke off is opened again.
const PAUSE: Duration = Duration::from_millis(500);
/// Attempts in a row to open a broken stream again before it is given up.
const ATTEMPTS_MAX: u32 = 20;
/// Longest line of the stream. An event is at most one MQTT packet.
const LINE_BYTES_MAX: usize = 1024 * 1024;

impl Client {
    /// The newest events, of one node if it is given: at most `count`, the oldest of them first.
    pub async fn newest_events(&self, count: u32, node: Option<&NodeId>) -> Result<Vec<EventView>, ClientError> {
        let of_node = node.map(|node| format!("&node={node}")).unwrap_or_default();
        self.get(&format!("/v1/events?newest={count}{of_node}")).await
    }

    /// The id of the newest event, 0 before the first: where a stream begins that shall tell what happens from now on.
    pub async fn newest_event(&self) -> Result<u64, ClientError> {
        Ok(self.newest_events(1, None).await?.last().map_or(0, |event| event.id))
    }

    /// All events after the one with the id `after`, those of the past first, then each as it is stored.
    pub async fn events(&self, after: u64) -> Result<EventStream, ClientError> {
        let response = self.open_stream(after).await?;
        Ok(EventStream { client: self.clone(), response: Some(response), parser: Parser::default(), last: after })
    }

    async fn open_stream(&self, after: u64) -> Result<Response, ClientError> {
        let resume = |request: reqwest::RequestBuilder| {
            request.header("accept", "text/event-stream").header("last-event-id", after)
        };
        self.send(Method::GET, "/v1/events/stream", resume).await
    }
}

/// Events in the order in which the coordinator stored them, each once.
pub struct EventStream {
    client: Client,
    response: Option<Response>,
    parser: Parser,
    last: u64,
}

impl EventStream {
    /// Waits for the next event. A connection that breaks is made again, from the last event on; an error means that the
    /// coordinator stayed out of reach for some time, or refuses. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<EventView, ClientError> {
        let mut failures = 0;
        loop {
            while let Some(event) = self.parser.events.pop_front() {
                // After a cut the coordinator may say one again.
                if event.id > self.last {
                    self.last = event.id;
                    return Ok(event);
                }
            }
            let Some(response) = &mut self.response else {
                match self.client.open_stream(self.last).await {
                    Ok(response) => self.response = Some(response),
                    Err(error) if error.is_silence() && failures < ATTEMPTS_MAX => {
                        failures += 1;
                        tracing::debug!(reason = %error, "event stream not reopened yet");
                        tokio::time::sleep(PAUSE).await;
                    }
                    Err(error) => return Err(error),
                }
                continue;
            };
            match response.chunk().await {
                Ok(Some(part)) if self.parser.take_in(&part) => failures = 0,
                // The end, a broken connection, or something that is no event stream.
                _ => {
                    self.response = None;
                    self.parser = Parser::default();
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

/// Lines become events. Only `data` counts: the id is in it as well.
#[derive(Default)]
struct Parser {
    rest: Vec<u8>,
    data: String,
    events: VecDeque<EventView>,
}

impl Parser {
    /// Takes in a part of the stream. False if a line grows beyond all bounds.
    fn take_in(&mut self, part: &[u8]) -> bool {
        for piece in part.split_inclusive(|byte| *byte == b'\n') {
            self.rest.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut self.rest);
                self.take_line(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']));
            }
        }
        self.rest.len() <= LINE_BYTES_MAX && self.data.len() <= LINE_BYTES_MAX
    }

    fn take_line(&mut self, line: &str) {
        if line.is_empty() {
            let data = std::mem::take(&mut self.data);
            // What is not an event, such as one of a later version, is passed over.
            self.events.extend(serde_json::from_str::<EventView>(&data).ok());
        } else if let Some(data) = line.strip_prefix("data:") {
            if !self.data.is_empty() {
                self.data.push('\n');
            }
            self.data.push_str(data.strip_prefix(' ').unwrap_or(data));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: u64) -> String {
        let event = serde_json::json!({
            "id": id, "stored_at": 1,
            "event": {"format": 1, "node": "a", "epoch": 1, "sequence": id, "at": 1, "clock_synced": true,
                      "boot_id": "b", "what": {"code": "agent_stopped"}},
        });
        event.to_string()
    }

    #[test]
    fn events_are_found_however_the_stream_is_cut() {
        let text =
            format!(": hello\n\nid: 1\nevent: event\ndata: {}\r\n\r\ndata:{}\n\ndata: junk\n\n", event(1), event(2));
        for length in 1..text.len() {
            let mut parser = Parser::default();
            assert!(text.as_bytes().chunks(length).all(|part| parser.take_in(part)));
            let ids: Vec<u64> = parser.events.iter().map(|event| event.id).collect();
            assert_eq!(ids, [1, 2], "cut every {length} bytes");
        }
    }

    #[test]
    fn a_line_without_an_end_is_given_up() {
        let mut parser = Parser::default();
        assert!(!parser.take_in(&vec![b'x'; LINE_BYTES_MAX + 1]));
    }
}

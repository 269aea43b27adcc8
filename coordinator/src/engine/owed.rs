//! What nodes said once and will not say again: kept while the database does not take it.
//!
//! Events are offered again until they are acknowledged, health is soon followed by newer health. A proof, and whether a
//! node is connected, come once: a batch that failed must not lose them, or the picture of a node is wrong until it changes.

use std::collections::BTreeSet;

use orangery_wire::topics::Channel;

use super::command::Command;
use crate::link::LinkEvent;

/// What of these commands must not be lost: of each node the newest proof and the newest word on its connection, and whether
/// the broker is reached, in the order in which they came.
pub(super) fn lasting(commands: &[Command]) -> Vec<LinkEvent> {
    let mut known = BTreeSet::new();
    let events = commands.iter().rev().filter_map(|command| match command {
        Command::Link(event) => Some(event),
        _ => None,
    });
    let mut kept: Vec<LinkEvent> =
        events.filter(|event| key(event).is_some_and(|key| known.insert(key))).cloned().collect();
    kept.reverse();
    kept
}

/// What a newer one takes the place of; `None` if it need not be kept.
fn key(event: &LinkEvent) -> Option<(&str, &'static str)> {
    match event {
        LinkEvent::Up | LinkEvent::Down { .. } => Some(("", "broker")),
        LinkEvent::FromNode(message) => match message.channel {
            Channel::Reported | Channel::Online => Some((message.node.as_str(), message.channel.as_str())),
            Channel::Desired | Channel::Acked | Channel::Health | Channel::Event => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::FromNode;

    fn said(node: &str, channel: Channel, payload: &'static str) -> Command {
        Command::Link(LinkEvent::FromNode(FromNode { node: node.parse().unwrap(), channel, payload: payload.into() }))
    }

    #[test]
    fn the_newest_of_each_kind_is_kept_in_order() {
        let commands = [
            said("a", Channel::Reported, "1"),
            Command::Link(LinkEvent::Up),
            said("a", Channel::Health, "1"),
            said("b", Channel::Reported, "1"),
            said("a", Channel::Online, "1"),
            said("a", Channel::Event, "1"),
            said("a", Channel::Reported, "2"),
            Command::Stop,
        ];
        let kept: Vec<String> = lasting(&commands)
            .into_iter()
            .map(|event| match event {
                LinkEvent::FromNode(m) => {
                    format!("{} {} {}", m.node, m.channel.as_str(), String::from_utf8_lossy(&m.payload))
                }
                LinkEvent::Up => "up".to_owned(),
                LinkEvent::Down { .. } => "down".to_owned(),
            })
            .collect();
        assert_eq!(kept, ["up", "b reported 1", "a online 1", "a reported 2"]);
    }
}

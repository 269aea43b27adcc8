//! The command line.

use anyhow::{Context, bail};

/// How to call it.
pub const USAGE: &str =
    "bench-fleet [--json] [--repeat RUNS] [--messages COUNT] [--broker embedded|mosquitto]... [NODES]...";

/// What is measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arguments {
    /// Sizes of fleets; 1,000 and 5,000 without any.
    pub nodes: Vec<usize>,
    /// Runs of each, alternating between the brokers; the figures are their medians.
    pub runs: usize,
    /// Messages of each kind that are taken in as fast as that goes.
    pub messages: usize,
    /// Which brokers; both without any, if Mosquitto is installed.
    pub brokers: Vec<Broker>,
    /// JSON instead of tables.
    pub json: bool,
}

/// Which broker nodes and coordinator meet at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Broker {
    /// The one in the coordinator.
    Embedded,
    /// Mosquitto in its place.
    Mosquitto,
}

impl Broker {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Mosquitto => "mosquitto",
        }
    }
}

impl Arguments {
    /// Reads the words after the program's name.
    pub fn read(words: impl IntoIterator<Item = String>) -> anyhow::Result<Self> {
        let mut read = Self { nodes: Vec::new(), runs: 1, messages: 100_000, brokers: Vec::new(), json: false };
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let mut number = || -> anyhow::Result<usize> {
                let value = words.next().with_context(|| format!("{word} needs a number: {USAGE}"))?;
                value.parse().with_context(|| format!("{value:?} is no number: {USAGE}"))
            };
            match word.as_str() {
                "--json" => read.json = true,
                "--repeat" => read.runs = number()?,
                "--messages" => read.messages = number()?,
                "--broker" => read.brokers.push(match words.next().as_deref() {
                    Some("embedded") => Broker::Embedded,
                    Some("mosquitto") => Broker::Mosquitto,
                    _ => bail!("--broker needs embedded or mosquitto: {USAGE}"),
                }),
                count => {
                    read.nodes.push(count.parse().with_context(|| format!("{count:?} is not understood: {USAGE}"))?);
                }
            }
        }
        if read.nodes.is_empty() {
            read.nodes = vec![1_000, 5_000];
        }
        // A fleet needs some that stay connected while all others come back; ports of loopback end at about 28,000.
        if !read.nodes.iter().all(|count| (10..=12_000).contains(count)) || !(1..=100).contains(&read.runs) {
            bail!("from 10 to 12000 nodes and from 1 to 100 runs: {USAGE}");
        }
        Ok(read)
    }
}

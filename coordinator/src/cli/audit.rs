//! `orangery audit`

use std::str::FromStr;

use clap::{Args, Subcommand};
use orangery_wire::UnixTime;
use orangery_wire::rest::{AuditEntry, AuditLine, AuditPage};

use super::Outcome;
use super::args::parse_duration;
use crate::audit::{Broken, Chain, Link, Whole};
use crate::client::{Client, ClientError};
use crate::home::Home;
use crate::output::{self, Tone, Word};

/// Entries that one request asks for.
const PAGE: u32 = 1_000;

/// `orangery audit`
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct AuditArgs {
    /// What to do instead of listing
    #[command(subcommand)]
    command: Option<AuditCommand>,
    /// All that was done since then: 24h, 7d, or a time such as 2026-11-01 or 2026-11-01T12:00:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<Since>,
    /// All that somebody did: a user's name, node:NAME, invite:ID, or coordinator
    #[arg(long, value_name = "WHO")]
    who: Option<String>,
    /// How many of the newest, if neither --since nor --who is given
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    limit: u32,
    /// Print JSON, an entry on each line
    #[arg(long)]
    json: bool,
}

/// What to do instead of listing.
#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// Check that no entry was changed, removed, put in or moved; exit code 1 if one was
    Verify(VerifyArgs),
}

/// `orangery audit verify`
#[derive(Debug, Args)]
struct VerifyArgs {
    /// An entry that was noted earlier and must still be there, as this command printed it
    #[arg(long, value_name = "SEQUENCE:DIGEST")]
    noted: Option<Link>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A time, as people say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Since(UnixTime);

impl FromStr for Since {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(span) = parse_duration(text) {
            return Ok(Self(output::now().saturating_sub(span.as_secs())));
        }
        let time =
            orangery_trust::time::parse(text).or_else(|| orangery_trust::time::parse(&format!("{text}T00:00:00Z")));
        time.map(Self).ok_or_else(|| "write it as 24h, 7d, 2026-11-01 or 2026-11-01T12:00:00Z".to_owned())
    }
}

pub async fn run(home: &Home, args: AuditArgs) -> anyhow::Result<Outcome> {
    let client = Client::open(home)?;
    match args.command {
        Some(AuditCommand::Verify(verify_args)) => verify(&client, &verify_args).await,
        None => list(&client, &args).await,
    }
}

async fn list(client: &Client, args: &AuditArgs) -> anyhow::Result<Outcome> {
    if args.since.is_none() && args.who.is_none() {
        let page: AuditPage = client.get(&format!("/v1/audit?newest={}", args.limit)).await?;
        print(&page.entries, args.json)?;
        return Ok(Outcome::Done);
    }
    let since = args.since.as_ref().map(|Since(since)| format!("&since={since}")).unwrap_or_default();
    let mut who_asked = String::new();
    if let Some(who) = &args.who {
        let is_plain = who.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b':'));
        anyhow::ensure!(
            is_plain,
            "{who:?} is nobody's name here; use a user's name, node:NAME, invite:ID or coordinator"
        );
        who_asked = format!("&who={who}");
    }
    let mut after = Some(0);
    while let Some(place) = after {
        let page: AuditPage = client.get(&format!("/v1/audit?limit={PAGE}{since}{who_asked}&after={place}")).await?;
        print(&page.entries, args.json)?;
        after = page.next;
    }
    Ok(Outcome::Done)
}

fn print(lines: &[AuditLine], json: bool) -> anyhow::Result<()> {
    for line in lines {
        match serde_json::from_str::<AuditEntry>(&line.entry) {
            Ok(entry) if json => output::json_line(&entry)?,
            Ok(entry) => output::line(sentence(&entry).text)?,
            Err(_) if json => output::json_line(line)?,
            Err(_) => {
                let text = format!("{:>6}  cannot be read: it was changed; see `orangery audit verify`", line.sequence);
                output::line(Word::new(text, Tone::Bad).text)?;
            }
        }
    }
    Ok(())
}

fn sentence(entry: &AuditEntry) -> Word {
    let outcome = if entry.outcome == "done" { String::new() } else { format!("  REFUSED: {}", entry.outcome) };
    let from = entry.from.as_ref().map(|from| format!(" from {from}")).unwrap_or_default();
    let detail: Vec<String> = entry.detail.iter().map(|(name, value)| format!("  {name}={value}")).collect();
    let detail = detail.concat();
    Word::plain(format!(
        "{:>6}  {}  {}{from}  {}  {}{outcome}{detail}",
        entry.sequence,
        output::moment(entry.at),
        entry.who,
        entry.deed,
        entry.object
    ))
}

async fn verify(client: &Client, args: &VerifyArgs) -> anyhow::Result<Outcome> {
    let mut found = walk(client, args.noted).await?;
    if found.is_err() {
        // Old entries may have been deleted during the walk.
        found = walk(client, args.noted).await?;
    }
    match found {
        Ok(Whole { first, last }) => {
            if args.json {
                output::json(&serde_json::json!({ "whole": true, "first": first, "last": last.to_string() }))?;
            } else if last.sequence == 0 {
                output::line("The audit log is empty.")?;
            } else {
                let count = last.sequence - first + 1;
                output::line(format!("The audit log is whole: {count} entries, {first} to {}.", last.sequence))?;
                output::line(format!("Noted elsewhere, this shows later that none of them was written anew:\n{last}"))?;
            }
            Ok(Outcome::Done)
        }
        Err(Broken { sequence, reason }) => {
            if args.json {
                output::json(&serde_json::json!({ "whole": false, "sequence": sequence, "reason": reason }))?;
            } else {
                output::line(format!(
                    "The audit log was tampered with. Entry {sequence}: {}.",
                    output::clean(&reason)
                ))?;
            }
            Ok(Outcome::Failed)
        }
    }
}

async fn walk(client: &Client, noted: Option<Link>) -> Result<Result<Whole, Broken>, ClientError> {
    let mut chain = Chain::noting(noted);
    let mut after = Some(0);
    while let Some(place) = after {
        let page: AuditPage = client.get(&format!("/v1/audit?limit={PAGE}&after={place}")).await?;
        if let Err(broken) = page.entries.iter().try_for_each(|line| chain.push(line)) {
            return Ok(Err(broken));
        }
        after = page.next;
    }
    Ok(chain.end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_span_a_day_or_a_moment() {
        assert_eq!("2026-11-01".parse(), Ok(Since(1_793_491_200)));
        assert_eq!("2026-11-01T12:00:00Z".parse(), Ok(Since(1_793_534_400)));
        let Since(week) = "7d".parse().unwrap();
        assert!(output::now() - week >= 7 * 86_400 && output::now() - week < 7 * 86_400 + 60);
        for wrong in ["", "yesterday", "2026-13-01", "7w"] {
            assert!(wrong.parse::<Since>().is_err(), "{wrong}");
        }
    }
}

//! `orangery doctor`

use clap::Args;

use super::Outcome;
use crate::client::{Client, ClientError};
use crate::doctor::{Finding, Level, Seen, examine, unanswered};
use crate::home::Home;
use crate::output::{self, Tone, Word};

/// `orangery doctor`
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

pub async fn run(home: &Home, args: DoctorArgs) -> anyhow::Result<Outcome> {
    let findings = match seen(home).await {
        Ok(seen) => examine(&seen),
        Err(error) => unanswered(&error.to_string()),
    };
    if args.json {
        output::json(&findings)?;
    } else {
        output::line(output::pairs(&findings.iter().flat_map(rows).collect::<Vec<_>>()))?;
    }
    let needs_person = findings.iter().any(|finding| finding.level > Level::Ok);
    Ok(if needs_person { Outcome::Failed } else { Outcome::Done })
}

async fn seen(home: &Home) -> Result<Seen, ClientError> {
    let client = Client::open(home)?;
    let fleet = client.get("/v1/fleet").await?;
    let now = output::now();
    let metrics = client.file("/metrics").await?.unwrap_or_default();
    Ok(Seen {
        fleet,
        rollouts: client.get("/v1/rollouts").await?,
        notify: client.get("/v1/notify").await?,
        metrics: String::from_utf8_lossy(&metrics).into_owned(),
        now,
    })
}

fn rows(finding: &Finding) -> Vec<Vec<Word>> {
    let tone = match finding.level {
        Level::Ok => Tone::Good,
        Level::Warning => Tone::Wait,
        Level::Bad => Tone::Bad,
    };
    let code = finding.code.map(|code| format!("{code}: ")).unwrap_or_default();
    let what = Word::plain(format!("{code}{}", finding.what));
    let mut rows = vec![vec![Word::new(finding.level.as_str(), tone), Word::plain(finding.look), what]];
    for (name, text) in [("why", finding.why), ("fix", finding.fix)] {
        rows.extend(text.map(|text| vec![Word::plain(""), Word::plain(""), Word::plain(format!("{name}: {text}"))]));
    }
    rows
}

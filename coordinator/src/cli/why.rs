//! `orangery why`

use orangery_wire::rest::Why;

use super::Outcome;
use super::args::WhyArgs;
use crate::client::Client;
use crate::home::Home;
use crate::output;

pub async fn run(home: &Home, args: WhyArgs) -> anyhow::Result<Outcome> {
    let why: Why = Client::open(home)?.get(&format!("/v1/nodes/{}/why", args.node)).await?;
    if args.json {
        output::json(&why)?;
        return Ok(Outcome::Done);
    }
    for line in why.lines {
        let app = line.app.map(|app| format!("{app}: ")).unwrap_or_default();
        output::line(format!("{app}{} [{}]", output::clean(&line.text), line.code))?;
    }
    Ok(Outcome::Done)
}

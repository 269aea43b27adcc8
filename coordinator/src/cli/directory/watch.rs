//! `orangery apply --watch`: follows the commits of a fleet directory. docs/adr/0023 says what it does by itself, and what not.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use orangery_wire::rest::RolloutView;

use self::place::{Place, Reached};
use self::said::Said;
use super::ApplyArgs;
use super::apply::{self, AGAIN_MAX, How, MADE_AGAIN, is_overtaken};
use super::source::{Remote, Seen, Source, is_lasting};
use super::survey;
use crate::cli::Outcome;
use crate::client::Client;
use crate::fleet::Plan;
use crate::home::Home;
use crate::output;
use crate::signals::Ends;
use crate::span::parse as parse_duration;

mod place;
mod said;

/// The first pause after something went wrong; each further one is twice as long.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// The longest of those pauses, if the watch does not look less often anyway.
const PAUSE_MAX: Duration = Duration::from_mins(5);

/// What is said of a watch.
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// Go on: follow the commits of the git checkout that DIR is in. Without --yes plans are shown and nothing is changed
    #[arg(long, conflicts_with_all = ["plan", "commit"])]
    pub watch: bool,
    /// Follow this git repository instead; DIR is where the copy of it is kept, and is made
    #[arg(long, value_name = "URL", requires = "watch")]
    pub remote: Option<String>,
    /// Follow this branch [default: HEAD]
    #[arg(long, value_name = "NAME", requires = "watch")]
    pub branch: Option<String>,
    /// How often to look for a new commit
    #[arg(long, value_name = "SPAN", default_value = "1m", value_parser = parse_duration, requires = "watch")]
    pub every: Duration,
    /// Longest time for a fetch
    #[arg(long, value_name = "SPAN", default_value = "10m", value_parser = parse_duration, requires = "remote")]
    pub fetch_within: Duration,
    /// Take only commits that are signed by an SSH key of this file of allowed signers, as ssh-keygen(1) describes it
    #[arg(long, value_name = "FILE", requires = "watch")]
    pub signed_by: Option<PathBuf>,
    /// Go along with a branch that was rewound or rewritten
    #[arg(long, requires = "watch")]
    pub rewritten: bool,
    /// Look once and end: 0 nothing left to do, 1 an error, 2 nobody agreed to the changes
    #[arg(long, requires = "watch")]
    pub once: bool,
}

/// What a look has found.
enum Found {
    /// The commit that was there before.
    Nothing,
    /// Another commit with the same directory.
    Same(Seen),
    /// What a commit would change.
    Planned(Box<Planned>),
    /// A commit with which nothing is done.
    Refused { seen: Seen, reason: String },
}

struct Planned {
    client: Client,
    seen: Seen,
    plan: Plan,
    /// Releases that it would bring again although they were taken back.
    taken_back: Vec<String>,
}

struct Watch<'a> {
    home: &'a Home,
    args: &'a ApplyArgs,
    source: Source,
    place: Place,
    /// The commit that was refused last, and the plan that was shown last: each is told once.
    refused: Option<String>,
    shown: Option<(String, String)>,
    announced: Option<String>,
    /// What is waited for, and how often it was in vain.
    waits: Option<String>,
    failures: u32,
}

/// Does what `orangery apply --watch` says.
pub async fn watch(home: &Home, args: &ApplyArgs) -> anyhow::Result<Outcome> {
    let source = source(args).await?;
    let place = Place::take(home, &source)?;
    let mut ends = Ends::listen().context("cannot listen for signals")?;
    let begun = Said::Begun {
        follows: source.text(),
        automatic: args.yes,
        every_secs: args.watch.every.as_secs(),
        reached: place.reached().map(|reached| reached.commit.as_str()),
    };
    begun.say(args.json)?;
    let (refused, shown, announced, waits) = (None, None, None, None);
    let mut watch = Watch { home, args, source, place, refused, shown, announced, waits, failures: 0 };
    let mut again = AGAIN_MAX;
    loop {
        // To look changes nothing and can be broken off; what is begun after it is done to its end.
        let found = tokio::select! {
            found = watch.find() => found,
            () = ends.next() => break,
        };
        let done = match found {
            Ok(found) => watch.act(found).await,
            Err(error) => Err(error),
        };
        if again > 0 && done.as_ref().is_err_and(is_overtaken) {
            again -= 1;
            output::note(MADE_AGAIN);
            continue;
        }
        if args.watch.once {
            return done;
        }
        again = AGAIN_MAX;
        let pause = watch.pause_after(done)?;
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = ends.next() => break,
        }
    }
    Said::Ended.say(args.json)?;
    Ok(Outcome::Done)
}

async fn source(args: &ApplyArgs) -> anyhow::Result<Source> {
    let (directory, path) = (&args.directory, args.path.as_deref());
    let branch = args.watch.branch.as_deref();
    let source = match &args.watch.remote {
        Some(url) => {
            let remote = Remote { url: url.clone(), time_max: args.watch.fetch_within };
            Source::elsewhere(directory, path, branch, remote).await?
        }
        None => Source::here(directory, path, branch).await?,
    };
    match &args.watch.signed_by {
        Some(signers) => source.signed_by(signers),
        None => Ok(source),
    }
}

impl Watch<'_> {
    /// Looks whether there is something to do. What fails here may be better the next time; a commit that stays wrong is no
    /// failure.
    async fn find(&self) -> anyhow::Result<Found> {
        let mut seen = self.source.look().await?;
        let reached = self.place.reached();
        if reached.is_some_and(|reached| reached.commit == seen.commit) || self.refused.as_ref() == Some(&seen.commit) {
            return Ok(Found::Nothing);
        }
        if let Some(reached) = reached
            && !self.args.watch.rewritten
            && !self.source.follows(&seen.commit, &reached.commit).await
        {
            let reason = format!(
                "it does not come after {}, to which the fleet was brought; the branch was rewound or rewritten: --rewritten goes along",
                reached.commit
            );
            return Ok(Found::Refused { seen, reason });
        }
        match self.source.signer(&seen.commit).await {
            Ok(signer) => seen.signer = signer,
            Err(reason) => return Ok(Found::Refused { seen, reason }),
        }
        if reached.is_some_and(|reached| reached.tree == seen.tree) {
            return Ok(Found::Same(seen));
        }
        self.planned(seen).await
    }

    async fn planned(&self, seen: Seen) -> anyhow::Result<Found> {
        let desired = match self.source.read(&seen).await {
            Ok(desired) => desired,
            Err(error) if is_lasting(&error) => return Ok(Found::Refused { seen, reason: error.to_string() }),
            Err(error) => return Err(error.into()),
        };
        // Opened anew, so that a token that was put in place of one that has ended is found.
        let client = Client::open(self.home)?;
        if let Err(error) = super::check_coordinator(&desired, &client) {
            return Ok(Found::Refused { seen, reason: error.to_string() });
        }
        let failed = || format!("cannot plan commit {}", seen.commit);
        let plan = survey::plan(&client, &desired).await.with_context(failed)?;
        let rollouts: Vec<RolloutView> = client.get("/v1/rollouts").await?;
        let taken_back = taken_back(&plan, &rollouts);
        Ok(Found::Planned(Box::new(Planned { client, seen, plan, taken_back })))
    }

    async fn act(&mut self, found: Found) -> anyhow::Result<Outcome> {
        match found {
            Found::Nothing => Ok(Outcome::Done),
            Found::Same(seen) => {
                self.say(&Said::Same { commit: &seen.commit })?;
                let plan = self.place.reached().map(|reached| reached.plan.clone()).unwrap_or_default();
                self.keep(&seen, plan)?;
                Ok(Outcome::Done)
            }
            Found::Refused { seen, reason } => {
                self.announce(&seen)?;
                self.say(&Said::Refused { commit: &seen.commit, reason })?;
                self.refused = Some(seen.commit);
                Ok(Outcome::Failed)
            }
            Found::Planned(planned) => self.act_on(*planned).await,
        }
    }

    async fn act_on(&mut self, planned: Planned) -> anyhow::Result<Outcome> {
        let Planned { client, seen, plan, taken_back } = planned;
        self.announce(&seen)?;
        if !plan.changes {
            return self.arrived(&seen, &plan, false);
        }
        let key = (seen.commit.clone(), plan.digest.clone());
        let is_news = self.shown.as_ref() != Some(&key);
        if is_news {
            self.say(&Said::Plan { commit: &seen.commit, plan: &plan })?;
            self.shown = Some(key);
        }
        if !self.args.yes || !taken_back.is_empty() {
            if is_news {
                let reason = if self.args.yes { taken_back.join("; ") } else { "nobody has agreed yet".to_owned() };
                let command = self.command(&seen, &plan);
                self.say(&Said::Pending { commit: &seen.commit, plan: &plan.digest, reason, command })?;
            }
            return Ok(Outcome::Pending);
        }
        let how = How {
            place: format!("{} --commit {}", self.args.directory.display(), seen.commit),
            note: self.args.note.as_deref(),
            origin: Some(seen.origin()),
            commit: Some(&seen.commit),
            json: self.args.json,
        };
        apply::apply(&client, &plan, &how).await?;
        self.arrived(&seen, &plan, true)
    }

    fn arrived(&mut self, seen: &Seen, plan: &Plan, applied: bool) -> anyhow::Result<Outcome> {
        self.keep(seen, plan.digest.clone())?;
        self.say(&Said::Reached { commit: &seen.commit, plan: &plan.digest, applied })?;
        Ok(Outcome::Done)
    }

    fn keep(&mut self, seen: &Seen, plan: String) -> anyhow::Result<()> {
        let (commit, tree) = (seen.commit.clone(), seen.tree.clone());
        let reached = Reached { follows: self.source.text(), commit, tree, plan, at: output::now() };
        (self.refused, self.shown) = (None, None);
        Ok(self.place.keep(reached)?)
    }

    /// Names a commit once.
    fn announce(&mut self, seen: &Seen) -> anyhow::Result<()> {
        if self.announced.as_ref() != Some(&seen.commit) {
            self.say(&Said::Commit(seen))?;
            self.announced = Some(seen.commit.clone());
        }
        Ok(())
    }

    fn say(&self, said: &Said<'_>) -> anyhow::Result<()> {
        said.say(self.args.json).context("cannot say what happens")
    }

    /// The command by which somebody agrees to a plan.
    fn command(&self, seen: &Seen, plan: &Plan) -> String {
        let directory = quoted(&self.args.directory.to_string_lossy());
        let path = self.args.path.as_ref().map(|path| format!(" --path {}", quoted(path))).unwrap_or_default();
        format!("orangery apply {directory}{path} --commit {} --plan {}", seen.commit, plan.digest)
    }

    /// How long to wait now. What went wrong is said when it begins and when it is something else.
    fn pause_after(&mut self, done: anyhow::Result<Outcome>) -> anyhow::Result<Duration> {
        let every = self.args.watch.every.max(PAUSE_MIN);
        let error = match done {
            Ok(_) => {
                (self.waits, self.failures) = (None, 0);
                return Ok(every);
            }
            Err(error) if crate::cli::is_closed_pipe(&error) => return Err(error),
            Err(error) => crate::cli::said_once(&error),
        };
        let pause = PAUSE_MIN.saturating_mul(1 << self.failures.min(20)).min(PAUSE_MAX.max(every));
        self.failures = self.failures.saturating_add(1);
        if self.waits.as_ref() != Some(&error) {
            self.say(&Said::Waiting { reason: &error, again_secs: pause.as_secs() })?;
            self.waits = Some(error);
        }
        Ok(pause)
    }
}

/// Releases of a plan that the newest rollout of them has taken back, or takes back: what a rollout or a person has
/// judged, a commit that still has the old line does not bring again by itself.
fn taken_back(plan: &Plan, rollouts: &[RolloutView]) -> Vec<String> {
    let judged = plan.rollouts.iter().filter_map(|planned| {
        let same = rollouts.iter().filter(|one| one.app == planned.app && one.version == planned.version);
        let newest = same.max_by_key(|one| one.rollout)?;
        let is_back = matches!(newest.status.as_str(), "reverting" | "reverted");
        is_back.then(|| format!("{} {} was taken back by rollout {}", planned.app, planned.version, newest.rollout))
    });
    judged.collect()
}

/// A word for a shell.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./+:@".contains(c);
    if word.chars().all(is_plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn a_path_in_a_command_is_one_word() {
        assert_eq!(quoted("/srv/fleet.git"), "/srv/fleet.git");
        assert_eq!(quoted("my fleet's; rm"), "'my fleet'\\''s; rm'");
    }
}

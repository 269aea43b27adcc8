//! `orangery user password` and `orangery user sessions`

use std::fs::File;
use std::io::{self, IsTerminal as _, Read};
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use orangery_wire::UserName;
use orangery_wire::rest::{OwnPasswordRequest, PasswordRequest, SessionView, SignedInView};

use super::Outcome;
use crate::client::Client;
use crate::output::{self, Word};

/// Most bytes that are read for passwords.
const BYTES_MAX: u64 = 4_096;

/// `orangery user password`
#[derive(Debug, Args)]
pub struct PasswordArgs {
    /// Their name
    name: UserName,
    /// Read the password from standard input: one line; for your own, the old one on the line before
    #[arg(long, conflicts_with = "file")]
    stdin: bool,
    /// Read it from a file instead, in the same form
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// `orangery user sessions`
#[derive(Debug, Args)]
pub struct SessionsArgs {
    /// Their name
    name: UserName,
    /// End all of them at once
    #[arg(long)]
    end: bool,
    /// Print JSON
    #[arg(long, conflicts_with = "end")]
    json: bool,
}

/// A new password, and the one that the user has, if it is one's own. Nothing prints it.
struct Given {
    old: Option<String>,
    new: String,
}

/// Gives a user a password. Everyone can change their own; an admin gives others theirs.
pub async fn set(client: &Client, args: PasswordArgs) -> anyhow::Result<Outcome> {
    let PasswordArgs { name, stdin, file } = args;
    let me: SessionView = client.get("/v1/session").await?;
    let is_own = me.user == name;
    let given = match (&file, stdin) {
        (Some(path), _) => {
            let open = || format!("cannot read the password from {}", path.display());
            read(File::open(path).with_context(open)?).with_context(open)?
        }
        (None, true) => read(io::stdin()).context("cannot read the password from standard input")?,
        (None, false) => ask(&name, is_own)?,
    };
    anyhow::ensure!(
        is_own || given.old.is_none(),
        "{name}'s password is set without the old one: give one line, the new one"
    );
    let Given { old, new } = given;
    let failed = || format!("cannot set {name}'s password");
    if let Some(old) = old {
        let request = OwnPasswordRequest { old, password: new };
        client.post_unanswered("/v1/session/password", &request).await.with_context(failed)?;
    } else {
        let path = format!("/v1/users/{name}/password");
        client.post_unanswered(&path, &PasswordRequest { password: new }).await.with_context(failed)?;
    }
    output::line(format!(
        "{name} can sign in with the new password; wherever they were signed in, they no longer are."
    ))?;
    Ok(Outcome::Done)
}

/// Asks on the terminal, for the new one twice.
fn ask(name: &UserName, is_own: bool) -> anyhow::Result<Given> {
    anyhow::ensure!(
        io::stdin().is_terminal(),
        "there is no terminal to ask for a password; use --stdin or --file FILE"
    );
    let prompt = |question: &str| output::ask_secret(question).context("cannot ask for the password on the terminal");
    let old = if is_own { prompt("The password that you have (Enter if there is none yet): ")? } else { String::new() };
    let new = prompt(&format!("New password for {name}: "))?;
    anyhow::ensure!(prompt("The same again: ")? == new, "the two passwords differ; nothing was changed");
    Ok(Given { old: Some(old).filter(|old| !old.is_empty()), new })
}

/// One line, or two.
fn read(source: impl Read) -> anyhow::Result<Given> {
    let mut text = String::new();
    source.take(BYTES_MAX + 1).read_to_string(&mut text)?;
    anyhow::ensure!(text.len() as u64 <= BYTES_MAX, "it has more than {BYTES_MAX} bytes");
    match text.lines().collect::<Vec<_>>()[..] {
        [new] if !new.is_empty() => Ok(Given { old: None, new: new.to_owned() }),
        [old, new] if !old.is_empty() && !new.is_empty() => {
            Ok(Given { old: Some(old.to_owned()), new: new.to_owned() })
        }
        _ => anyhow::bail!("there must be one line with the new password, or two: the old one and the new one"),
    }
}

/// Shows where a user is signed in, or ends that.
pub async fn sessions(client: &Client, args: SessionsArgs) -> anyhow::Result<Outcome> {
    let SessionsArgs { name, end, json } = args;
    let path = format!("/v1/users/{name}/sessions");
    if end {
        let path = format!("{path}/end");
        client.post_bare(&path).await.with_context(|| format!("cannot end the sessions of {name}"))?;
        output::line(format!("{name} is signed in nowhere any more. Their password still opens a new session."))?;
        return Ok(Outcome::Done);
    }
    let open: Vec<SignedInView> = client.get(&path).await?;
    if json {
        output::json(&open)?;
    } else if open.is_empty() {
        output::line(format!("{name} is signed in nowhere."))?;
    } else {
        output::line(table(&open))?;
    }
    Ok(Outcome::Done)
}

fn table(open: &[SignedInView]) -> String {
    let now = output::now();
    let row = |session: &SignedInView| {
        let id = session.id.trim_start_matches("session:");
        let from = session.from.as_deref().unwrap_or("-");
        let (since, used) = (output::ago(session.created_at, now), output::ago(session.used_at, now));
        vec![
            Word::plain(id),
            Word::plain(from),
            Word::plain(since),
            Word::plain(used),
            Word::plain(output::moment(session.expires_at)),
        ]
    };
    let rows: Vec<Vec<Word>> = open.iter().map(row).collect();
    output::table(&["session", "from", "since", "used", "ends"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_is_a_new_password_and_two_are_the_old_one_and_the_new_one() {
        let check = |text: &str, expected: Option<(Option<&str>, &str)>| {
            let read = read(text.as_bytes()).ok().map(|given| (given.old, given.new));
            let expected = expected.map(|(old, new)| (old.map(str::to_owned), new.to_owned()));
            assert_eq!(read, expected, "{text:?}");
        };
        check("a quiet tram\n", Some((None, "a quiet tram")));
        check(" a quiet tram ", Some((None, " a quiet tram ")));
        check("an old one\r\na quiet tram\r\n", Some((Some("an old one"), "a quiet tram")));
        check("", None);
        check("\n", None);
        check("\nnew\n", None);
        check("one\ntwo\nthree\n", None);
        check(&"x".repeat(5_000), None);
        assert!(self::read(&b"\xff\xfe"[..]).is_err());
    }
}

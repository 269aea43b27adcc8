//! `orangery user`

use std::time::Duration;

use anyhow::Context as _;
use clap::Subcommand;
use orangery_wire::UserName;
use orangery_wire::rest::{NewToken, Role, RoleRequest, TokenRequest, TokenView, UserRequest, UserView};

use super::Outcome;
use super::args::parse_duration;
use super::password::{self, PasswordArgs, SessionsArgs};
use crate::client::Client;
use crate::home::Home;
use crate::output::{self, Tone, Word};

/// `orangery user`
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Add a user, who can do nothing until they have a token or a password
    Add {
        /// Their name
        name: UserName,
        /// What they may do: viewer (look), operator (deploy, roll out, hold, invite), admin (all)
        #[arg(long)]
        role: Role,
    },
    /// List all users, when their passwords were set, and their tokens
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove a user; all their tokens and sessions end at once
    Remove {
        /// Their name
        name: UserName,
    },
    /// Say what a user may do from now on
    Role {
        /// Their name
        name: UserName,
        /// viewer, operator or admin
        role: Role,
    },
    /// Make a token for a user and print it: it cannot be shown again
    Token {
        /// Their name
        name: UserName,
        /// How long it can be used, such as 12h or 30d [default: until it is revoked]
        #[arg(long, value_parser = parse_duration)]
        expires: Option<Duration>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Give a user a password for the dashboard, or change your own
    Password(PasswordArgs),
    /// Show where a user is signed in, or end that
    Sessions(SessionsArgs),
    /// End a token at once
    Revoke {
        /// Its id, from `orangery user list`
        #[arg(value_name = "TOKEN-ID")]
        token: String,
    },
}

pub async fn run(home: &Home, command: UserCommand) -> anyhow::Result<Outcome> {
    let client = Client::open(home)?;
    match command {
        UserCommand::Add { name, role } => {
            let request = UserRequest { name: name.clone(), role };
            let user: UserView =
                client.post("/v1/users", &request).await.with_context(|| format!("cannot add {name}"))?;
            output::line(format!("{} is added, with the role {}.", user.name, user.role))?;
            output::note(format!(
                "they can do nothing without a token (orangery user token {name}) or, in a browser, a password (orangery user password {name})"
            ));
        }
        UserCommand::List { json } => {
            let users: Vec<UserView> = client.get("/v1/users").await?;
            if json { output::json(&users)? } else { output::line(table(&users))? }
        }
        UserCommand::Remove { name } => {
            let path = format!("/v1/users/{name}/remove");
            client.post_bare(&path).await.with_context(|| format!("cannot remove {name}"))?;
            output::line(format!("{name} is removed, and all their tokens and sessions have ended."))?;
        }
        UserCommand::Role { name, role } => {
            let path = format!("/v1/users/{name}/role");
            let failed = || format!("cannot give {name} the role {role}");
            let user: UserView = client.post(&path, &RoleRequest { role }).await.with_context(failed)?;
            output::line(format!(
                "{} has the role {}, with every token; in a browser they sign in again.",
                user.name, user.role
            ))?;
        }
        UserCommand::Token { name, expires, json } => token(&client, &name, expires, json).await?,
        UserCommand::Password(args) => return password::set(&client, args).await,
        UserCommand::Sessions(args) => return password::sessions(&client, args).await,
        UserCommand::Revoke { token } => {
            // Whatever was typed must stay one part of the path.
            let is_id = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_alphanumeric());
            anyhow::ensure!(is_id, "{token:?} is not the id of a token; `orangery user list` shows them");
            let path = format!("/v1/tokens/{token}/revoke");
            client.post_bare(&path).await.with_context(|| format!("cannot revoke the token {token}"))?;
            output::line(format!("The token {token} opens nothing any more."))?;
        }
    }
    Ok(Outcome::Done)
}

/// The token alone on standard output, so that it can be piped; the rest beside it.
async fn token(client: &Client, name: &UserName, expires: Option<Duration>, json: bool) -> anyhow::Result<()> {
    let request = TokenRequest { expires_secs: expires.map(|expires| expires.as_secs()) };
    let path = format!("/v1/users/{name}/tokens");
    let made: NewToken =
        client.post(&path, &request).await.with_context(|| format!("cannot make a token for {name}"))?;
    if json {
        return Ok(output::json(&made)?);
    }
    output::line(&made.token)?;
    let until =
        made.expires_at.map_or_else(|| "until it is revoked".to_owned(), |at| format!("until {}", output::moment(at)));
    output::note(format!(
        "{name} puts it into operator.token, beside client.toml. It can be used {until}, and is not shown again.\n\
         To end it: orangery user revoke {}",
        made.id
    ));
    Ok(())
}

fn table(users: &[UserView]) -> String {
    let now = output::now();
    let rows: Vec<Vec<Word>> = users.iter().flat_map(|user| rows(user, now)).collect();
    output::table(&["user", "role", "password", "token", "made", "ends", "used"], &rows)
}

/// One line for each token, and one for who has none.
fn rows(user: &UserView, now: u64) -> Vec<Vec<Word>> {
    let password = user.password_at.map_or_else(|| "-".to_owned(), |at| output::ago(at, now));
    let head = || vec![Word::plain(user.name.as_str()), Word::plain(user.role.as_str()), Word::plain(&password)];
    let row = |token: &TokenView| {
        let ends = match token.expires_at {
            None => Word::plain("-"),
            Some(at) if at <= now => Word::new(format!("ended {}", output::ago(at, now)), Tone::Bad),
            Some(at) => Word::plain(output::moment(at)),
        };
        let last_use = token.used_at.map_or_else(|| "never".to_owned(), |at| output::ago(at, now));
        let (id, made) = (Word::plain(&token.id), Word::plain(output::ago(token.created_at, now)));
        head().into_iter().chain([id, made, ends, Word::plain(last_use)]).collect()
    };
    if user.tokens.is_empty() {
        return vec![head().into_iter().chain([Word::plain("none")]).collect()];
    }
    user.tokens.iter().map(row).collect()
}

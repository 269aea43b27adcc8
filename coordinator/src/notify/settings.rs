//! `[[notify]]` and `[watch]` in `coordinator.toml`: what is written, and what of it is sound.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use lettre::message::Mailbox;
use orangery_wire::AppName;
use serde::Deserialize;

use super::{Kind, Notice, Severity, Source, TARGETS_MAX, Template};
use crate::engine::Selector;
use crate::span;

/// A node is silent after so many seconds, unless the settings say otherwise.
const SILENT_SECS: u64 = 600;
/// Messages to one target in a minute, unless the settings say otherwise.
const PER_MINUTE: u32 = 10;
/// Longest name of a target, and most entries of its lists.
const NAME_MAX: usize = 63;
const ENTRIES_MAX: usize = 100;

/// Whom to tell what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// A node that was not heard for so long is silent.
    pub silent_secs: u64,
    /// The targets, in the order of the file; no two have one name.
    pub targets: Vec<TargetSettings>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { silent_secs: SILENT_SECS, targets: Vec::new() }
    }
}

/// One target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetSettings {
    /// Its name: letters a-z, digits and '-'.
    pub name: String,
    /// How it is told.
    pub way: Way,
    /// What it is told.
    pub events: BTreeSet<Kind>,
    /// What matters less is not told.
    pub severity: Severity,
    /// Of these apps alone, if there are any here; what is about no app is told.
    pub apps: BTreeSet<AppName>,
    /// Of these nodes alone, if there are any here; what is about no node is told.
    pub nodes: Vec<Selector>,
    /// The operator's own text for a single notice.
    pub template: Option<Template>,
    /// Most messages in a minute.
    pub per_minute: u32,
    /// Believe the authorities in this file alone, in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// Go to addresses of the local link too, where clouds keep what they know of a machine.
    pub allow_link_local: bool,
    /// Go without TLS.
    pub allow_http: bool,
}

/// How a target is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// JSON of our own, signed if there is a secret.
    Webhook {
        /// Where to.
        url: Source,
        /// The key of the signature.
        secret: Option<Source>,
    },
    /// A topic of a ntfy server.
    Ntfy {
        /// The server.
        url: Source,
        /// The topic, which is as good as a password.
        topic: Source,
        /// An access token.
        token: Option<Source>,
    },
    /// An incoming webhook of Slack.
    Slack {
        /// Where to; whoever has it can write there.
        url: Source,
    },
    /// A webhook of Discord.
    Discord {
        /// Where to; whoever has it can write there.
        url: Source,
    },
    /// Mail.
    Smtp(Mail),
}

impl Way {
    /// The word in the settings.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Webhook { .. } => "webhook",
            Self::Ntfy { .. } => "ntfy",
            Self::Slack { .. } => "slack",
            Self::Discord { .. } => "discord",
            Self::Smtp(_) => "smtp",
        }
    }
}

/// Mail by SMTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// The server.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// When TLS begins.
    pub tls: MailTls,
    /// Who we are there, if it asks.
    pub login: Option<(String, Source)>,
    /// Whom the mail is from.
    pub from: Mailbox,
    /// Whom it is to.
    pub to: Vec<Mailbox>,
}

/// When TLS begins in a conversation by SMTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MailTls {
    /// With the first byte: port 465.
    Implicit,
    /// After STARTTLS, which must be there: port 587.
    Starttls,
    /// Never: port 25. Only with `allow_http`, and without a password.
    None,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WrittenKind {
    Webhook,
    Ntfy,
    Slack,
    Discord,
    Smtp,
}

/// `[watch]` as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenWatch {
    silent_after: Option<String>,
}

/// One `[[notify]]` as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    name: String,
    kind: WrittenKind,
    url: Option<Source>,
    secret: Option<Source>,
    topic: Option<Source>,
    token: Option<Source>,
    host: Option<String>,
    port: Option<u16>,
    tls: Option<MailTls>,
    user: Option<String>,
    password: Option<Source>,
    from: Option<String>,
    to: Option<Vec<String>>,
    events: Option<BTreeSet<Kind>>,
    severity: Option<Severity>,
    #[serde(default)]
    apps: BTreeSet<AppName>,
    #[serde(default)]
    nodes: Vec<String>,
    template: Option<String>,
    per_minute: Option<u32>,
    ca_file: Option<PathBuf>,
    #[serde(default)]
    allow_link_local: bool,
    #[serde(default)]
    allow_http: bool,
}

impl Settings {
    /// Checks what was written. Paths are relative to `directory`. An error names the target and what is wrong with it.
    pub fn check(watch: &WrittenWatch, written: Vec<Written>, directory: &Path) -> Result<Self, (String, String)> {
        let silent_secs = match &watch.silent_after {
            None => SILENT_SECS,
            Some(text) => silent_after(text).map_err(|rule| ("[watch] silent_after".to_owned(), rule))?,
        };
        if written.len() > TARGETS_MAX {
            return Err(("[[notify]]".to_owned(), format!("there are at most {TARGETS_MAX} targets")));
        }
        let mut targets: Vec<TargetSettings> = Vec::new();
        for one in written {
            let place = format!("[[notify]] {:?}", one.name.chars().take(80).collect::<String>());
            if targets.iter().any(|target| target.name == one.name) {
                return Err((place, "another target has this name".to_owned()));
            }
            targets.push(one.check(directory).map_err(|rule| (place, rule))?);
        }
        Ok(Self { silent_secs, targets })
    }
}

fn silent_after(text: &str) -> Result<u64, String> {
    let secs = span::parse(text)?.as_secs();
    if secs < 60 { Err("a node is silent after 1m at the earliest".to_owned()) } else { Ok(secs) }
}

/// What a TOML reader says of a file, without what stands after `=` in the lines that it quotes: that may be a secret.
pub fn without_secrets(text: &str) -> String {
    let quoted = |line: &str| {
        let (number, quote) = line.split_once(" | ")?;
        number.trim().parse::<u64>().ok()?;
        let shown = match quote.split_once('=') {
            Some((key, _)) => format!("{key}= (not shown)"),
            None if quote.trim_start().starts_with('[') => return None,
            None => "(not shown)".to_owned(),
        };
        Some(format!("{number} | {shown}"))
    };
    text.lines().map(|line| quoted(line).unwrap_or_else(|| line.to_owned())).collect::<Vec<_>>().join("\n")
}

impl Written {
    fn check(mut self, directory: &Path) -> Result<TargetSettings, String> {
        let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if self.name.is_empty() || self.name.len() > NAME_MAX || !self.name.bytes().all(letter) {
            return Err("a name has 1 to 63 of a-z, 0-9 and '-'".to_owned());
        }
        if self.nodes.len() > ENTRIES_MAX || self.apps.len() > ENTRIES_MAX {
            return Err(format!("there are at most {ENTRIES_MAX} apps, and as many nodes"));
        }
        if self.events.as_ref().is_some_and(|events| events.is_empty() || events.contains(&Kind::Test)) {
            return Err("events: name some of those that the manual lists, or leave it out for all of them".to_owned());
        }
        let nodes = self.nodes.iter().map(|node| Selector::parse(node).map_err(|refused| format!("nodes: {refused}")));
        let nodes = nodes.collect::<Result<_, _>>()?;
        let template = self.template.as_deref().map(Template::parse).transpose();
        let template = template.map_err(|rule| format!("template: {rule}"))?;
        let per_minute = self.per_minute.unwrap_or(PER_MINUTE);
        if !(1..=600).contains(&per_minute) {
            return Err("per_minute: use 1 to 600".to_owned());
        }
        let way = self.way(directory)?;
        self.nothing_left(&way)?;
        Ok(TargetSettings {
            name: self.name,
            way,
            events: self.events.unwrap_or_else(|| Kind::ALL.into()),
            severity: self.severity.unwrap_or(Severity::Info),
            apps: self.apps,
            nodes,
            template,
            per_minute,
            ca_file: self.ca_file.map(|path| directory.join(path)),
            allow_link_local: self.allow_link_local,
            allow_http: self.allow_http,
        })
    }

    /// Takes the keys that belong to the kind.
    fn way(&mut self, directory: &Path) -> Result<Way, String> {
        let below = |source: Source| source.below(directory);
        let needed = |key: &str| format!("{key} is missing");
        if let WrittenKind::Smtp = self.kind {
            return self.mail(directory).map(Way::Smtp);
        }
        let url = self.url.take().map(below);
        Ok(match self.kind {
            WrittenKind::Webhook => {
                Way::Webhook { url: url.ok_or_else(|| needed("url"))?, secret: self.secret.take().map(below) }
            }
            WrittenKind::Ntfy => Way::Ntfy {
                url: url.unwrap_or_else(|| Source::Inline(super::Secret::new("https://ntfy.sh"))),
                topic: self.topic.take().map(below).ok_or_else(|| needed("topic"))?,
                token: self.token.take().map(below),
            },
            WrittenKind::Slack => Way::Slack { url: url.ok_or_else(|| needed("url"))? },
            WrittenKind::Discord | WrittenKind::Smtp => Way::Discord { url: url.ok_or_else(|| needed("url"))? },
        })
    }

    fn mail(&mut self, directory: &Path) -> Result<Mail, String> {
        let needed = |key: &str| format!("{key} is missing");
        let host = self.host.take().ok_or_else(|| needed("host"))?;
        if host.is_empty() || host.len() > 253 || host.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err("host: name a host".to_owned());
        }
        let tls = self.tls.take().unwrap_or(MailTls::Starttls);
        let login = match (self.user.take(), self.password.take()) {
            (None, None) => None,
            (Some(user), Some(password)) => Some((user, password.below(directory))),
            _ => return Err("user and password come together".to_owned()),
        };
        if tls == MailTls::None && (login.is_some() || !self.allow_http) {
            return Err("tls = \"none\" takes allow_http = true, and no password may go that way".to_owned());
        }
        let port = self.port.take().unwrap_or(match tls {
            MailTls::Implicit => 465,
            MailTls::Starttls => 587,
            MailTls::None => 25,
        });
        let mailbox = |key: &str, text: &str| -> Result<Mailbox, String> {
            text.parse().map_err(|error| format!("{key}: {text:?} is no address: {error}"))
        };
        let from = mailbox("from", &self.from.take().ok_or_else(|| needed("from"))?)?;
        let to = self.to.take().unwrap_or_default();
        if to.is_empty() || to.len() > ENTRIES_MAX {
            return Err(format!("to: name 1 to {ENTRIES_MAX} addresses"));
        }
        let to = to.iter().map(|text| mailbox("to", text)).collect::<Result<_, _>>()?;
        Ok(Mail { host, port, tls, login, from, to })
    }

    /// A key that belongs to another kind was meant to do something.
    fn nothing_left(&self, way: &Way) -> Result<(), String> {
        let left = [
            ("url", self.url.is_some()),
            ("secret", self.secret.is_some()),
            ("topic", self.topic.is_some()),
            ("token", self.token.is_some()),
            ("host", self.host.is_some()),
            ("port", self.port.is_some()),
            ("tls", self.tls.is_some()),
            ("user", self.user.is_some()),
            ("password", self.password.is_some()),
            ("from", self.from.is_some()),
            ("to", self.to.is_some()),
        ];
        match left.into_iter().find(|(_, is_left)| *is_left) {
            Some((key, _)) => Err(format!("{key} does not belong to kind = {:?}", way.as_str())),
            None if self.template.is_some() && matches!(way, Way::Webhook { .. }) => {
                Err("template does not belong to kind = \"webhook\": programs read its body".to_owned())
            }
            None => Ok(()),
        }
    }
}

impl TargetSettings {
    /// Whether the target wants to hear of it.
    pub fn wants(&self, notice: &Notice) -> bool {
        let of_node = |selector: &Selector| match selector {
            Selector::All => true,
            Selector::Label(name, value) => notice.labels.get(name) == Some(value),
            Selector::Node(node) => notice.node.as_ref() == Some(node),
        };
        self.events.contains(&notice.kind)
            && notice.severity >= self.severity
            && (self.apps.is_empty() || notice.app.as_ref().is_none_or(|app| self.apps.contains(app)))
            && (self.nodes.is_empty() || notice.node.is_none() || self.nodes.iter().any(of_node))
    }
}

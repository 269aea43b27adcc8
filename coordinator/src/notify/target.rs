//! A target that is ready to be told something: its settings, its secrets, and a client.

use std::sync::Arc;
use std::time::Duration;

use orangery_wire::UnixTime;
use tokio::time::timeout;

use super::http::{Place, signature};
use super::mail::Mailer;
use super::message::Message;
use super::{Kind, Notice, Secret, Settings, Source, TargetSettings, Way, body};

/// Longest time that one attempt may take.
const ATTEMPT_MAX: Duration = Duration::from_secs(20);
/// The header with the signature of a webhook, and the one with the message's id.
const SIGNATURE_HEADER: &str = "orangery-signature";
const ID_HEADER: &str = "orangery-message";
/// Shortest secret of a webhook, in bytes.
const SECRET_BYTES_MIN: usize = 16;

/// A target cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the target {target:?} of [[notify]]: {reason}")]
pub struct NotifyError {
    /// Its name.
    pub target: String,
    /// Why. Holds no secret.
    pub reason: String,
}

/// What a target answered when it took a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// For people.
    pub text: String,
}

/// Why a target did not take a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// For people. Holds no secret.
    pub text: String,
    /// Whether it is the message that it does not take, so that trying for ever will not help.
    pub is_refused: bool,
    /// How long it asked to be left alone.
    pub asked: Option<Duration>,
}

impl Failure {
    pub(super) fn later(text: String, asked: Option<Duration>) -> Self {
        Self { text, is_refused: false, asked }
    }

    pub(super) fn refused(text: String) -> Self {
        Self { text, is_refused: true, asked: None }
    }
}

/// One target, ready.
pub struct Target {
    /// Its settings.
    pub settings: TargetSettings,
    sender: Sender,
    /// All of them, so that no text shows one.
    secrets: Vec<Secret>,
    coordinator: String,
    /// One test at a time.
    testing: tokio::sync::Mutex<()>,
}

enum Sender {
    Webhook { place: Place, secret: Option<Secret> },
    Ntfy { place: Place, topic: Secret, token: Option<Secret> },
    Slack(Place),
    Discord(Place),
    Smtp(Mailer),
}

impl Target {
    /// Reads its secrets and makes its client. `coordinator` is the address by which this coordinator is known.
    pub fn open(settings: TargetSettings, coordinator: &str) -> Result<Self, NotifyError> {
        let mut secrets = Vec::new();
        let sender = Sender::open(&settings, &mut secrets);
        let sender = sender.map_err(|reason| NotifyError { target: settings.name.clone(), reason })?;
        Ok(Self {
            settings,
            sender,
            secrets,
            coordinator: coordinator.to_owned(),
            testing: tokio::sync::Mutex::default(),
        })
    }

    /// What may be shown of where it is.
    pub fn address(&self) -> String {
        match &self.sender {
            Sender::Webhook { place, .. }
            | Sender::Ntfy { place, .. }
            | Sender::Slack(place)
            | Sender::Discord(place) => place.shown(),
            Sender::Smtp(mailer) => mailer.shown(),
        }
    }

    /// Sends a message once. Ends within twenty seconds.
    pub async fn send(&self, message: &Message, now: UnixTime) -> Result<Answer, Failure> {
        let sent = timeout(ATTEMPT_MAX, self.attempt(message, now)).await;
        let sent = sent.unwrap_or_else(|_| Err(Failure::later("no answer within 20 s".to_owned(), None)));
        sent.map(|answer| Answer { text: self.without_secrets(answer.text) })
            .map_err(|failure| Failure { text: self.without_secrets(failure.text), ..failure })
    }

    /// Sends a test at once, past what waits. `None`: another test is under way.
    pub async fn test(&self, by: &str, now: UnixTime) -> Option<Result<Answer, Failure>> {
        let _turn = self.testing.try_lock().ok()?;
        let mut notice = Notice::new(Kind::Test, &format!("{by} asked for it; nothing is wrong"));
        notice.at = now;
        let message = Message { id: format!("test-{now}"), ..Message::single(notice) };
        Some(self.send(&message, now).await)
    }

    async fn attempt(&self, message: &Message, now: UnixTime) -> Result<Answer, Failure> {
        let template = self.settings.template.as_ref();
        match &self.sender {
            Sender::Webhook { place, secret } => {
                let body = body::webhook(message, &self.settings.name, &self.coordinator, now);
                let signed = secret.as_ref().map(|secret| signature(secret, now, &body.to_string()));
                let mut headers = vec![(ID_HEADER, message.id.clone())];
                headers.extend(signed.map(|signed| (SIGNATURE_HEADER, signed)));
                place.post(&body, &headers, None).await
            }
            Sender::Ntfy { place, topic, token } => {
                place.post(&body::ntfy(message, topic.expose(), template), &[], token.as_ref()).await
            }
            Sender::Slack(place) => place.post(&body::slack(message, template), &[], None).await,
            Sender::Discord(place) => place.post(&body::discord(message, template), &[], None).await,
            Sender::Smtp(mailer) => mailer.send(message, template, &self.settings.name, &self.coordinator).await,
        }
    }

    /// A service may repeat what it was sent.
    fn without_secrets(&self, text: String) -> String {
        self.secrets.iter().fold(text, |text, secret| text.replace(secret.expose(), "(secret)"))
    }
}

impl Sender {
    fn open(settings: &TargetSettings, secrets: &mut Vec<Secret>) -> Result<Self, String> {
        let mut read = |key: &str, source: &Source| {
            let secret = source.read().map_err(|reason| format!("{key}: {reason}"))?;
            secrets.push(secret.clone());
            Ok::<_, String>(secret)
        };
        let mut optional =
            |key: &str, source: &Option<Source>| source.as_ref().map(|source| read(key, source)).transpose();
        Ok(match &settings.way {
            Way::Webhook { url, secret } => {
                let secret = optional("secret", secret)?;
                if secret.as_ref().is_some_and(|secret| secret.expose().len() < SECRET_BYTES_MIN) {
                    return Err(format!("secret: it has at least {SECRET_BYTES_MIN} bytes"));
                }
                Self::Webhook { place: Place::open(&read("url", url)?, settings)?, secret }
            }
            Way::Ntfy { url, topic, token } => {
                let token = optional("token", token)?;
                let topic = read("topic", topic)?;
                // As the server itself has it.
                let letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
                if topic.expose().len() > 64 || !topic.expose().chars().all(letter) {
                    return Err("topic: it has 1 to 64 letters, digits, '_' and '-'".to_owned());
                }
                // The server's address is no secret.
                Self::Ntfy { place: Place::open(&url.read()?, settings)?, topic, token }
            }
            Way::Slack { url } => Self::Slack(Place::open(&read("url", url)?, settings)?),
            Way::Discord { url } => Self::Discord(Place::open(&read("url", url)?, settings)?),
            Way::Smtp(mail) => {
                let password = mail.login.as_ref().map(|(_, source)| read("password", source)).transpose()?;
                Self::Smtp(Mailer::open(mail, password.as_ref(), settings)?)
            }
        })
    }
}

/// All targets, ready.
#[derive(Default)]
pub struct Targets(Vec<Arc<Target>>);

impl Targets {
    /// Opens all of them, or says which cannot be used and why.
    pub fn open(settings: &Settings, coordinator: &str) -> Result<Self, NotifyError> {
        let open = |target: &TargetSettings| Target::open(target.clone(), coordinator).map(Arc::new);
        settings.targets.iter().map(open).collect::<Result<_, _>>().map(Self)
    }

    /// All of them.
    pub fn all(&self) -> &[Arc<Target>] {
        &self.0
    }

    /// The one of this name.
    pub fn find(&self, name: &str) -> Option<&Arc<Target>> {
        self.0.iter().find(|target| target.settings.name == name)
    }
}

//! Sending by SMTP.

use std::time::{Duration, SystemTime};

use lettre::message::header::{ContentType, Header, HeaderName, HeaderValue};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message as Letter, Tokio1Executor};

use super::address::look_up;
use super::http::authorities;
use super::message::Message;
use super::settings::{Mail, MailTls};
use super::target::{Answer, Failure};
use super::{Secret, TargetSettings, Template, plain};
use crate::repository::chain;
use crate::sha256;

/// Longest wait for one answer of the server.
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// Longest subject, in characters.
const SUBJECT_CHARS_MAX: usize = 200;

/// A mail server and whom it writes to.
pub(super) struct Mailer {
    mail: Mail,
    credentials: Option<Credentials>,
    tls: Tls,
    allow_link_local: bool,
}

impl Mailer {
    /// Reads the authorities. Nothing is sent yet.
    pub(super) fn open(mail: &Mail, password: Option<&Secret>, settings: &TargetSettings) -> Result<Self, String> {
        let tls = match mail.tls {
            MailTls::None => Tls::None,
            MailTls::Implicit => Tls::Wrapper(parameters(mail, settings)?),
            MailTls::Starttls => Tls::Required(parameters(mail, settings)?),
        };
        let credentials = match (&mail.login, password) {
            (Some((user, _)), Some(password)) => Some(Credentials::new(user.clone(), password.expose().to_owned())),
            _ => None,
        };
        Ok(Self { mail: mail.clone(), credentials, tls, allow_link_local: settings.allow_link_local })
    }

    /// What may be shown of the address.
    pub(super) fn shown(&self) -> String {
        format!("{}:{}", self.mail.host, self.mail.port)
    }

    /// Sends it once and says what became of it.
    pub(super) async fn send(
        &self,
        message: &Message,
        template: Option<&Template>,
        target: &str,
        coordinator: &str,
    ) -> Result<Answer, Failure> {
        let letter = letter(&self.mail, message, template, target, coordinator).map_err(Failure::refused)?;
        let addresses = look_up(&self.mail.host, self.mail.port, self.allow_link_local).await;
        let addresses = addresses.map_err(|reason| Failure::later(reason, None))?;
        let mut last = Failure::later("the host has no address".to_owned(), None);
        for address in addresses {
            // To the address that was looked at, and not to what the name means a moment later.
            let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(address.ip().to_string())
                .port(address.port())
                .tls(self.tls.clone())
                .timeout(Some(SILENCE_MAX));
            if let Some(credentials) = &self.credentials {
                builder = builder.credentials(credentials.clone());
            }
            match builder.build().send(letter.clone()).await {
                Ok(response) => {
                    let said = response.message().collect::<Vec<_>>().join(" ");
                    return Ok(Answer { text: plain(&format!("{} {said}", response.code()), SUBJECT_CHARS_MAX) });
                }
                Err(error) => last = failed(&error),
            }
            if last.is_refused {
                break;
            }
        }
        Err(last)
    }
}

/// A lasting answer (5xx) is about the letter, but for what is wrong with the login (530, 534, 535, 538) and the connection (554
/// before any letter is told apart by nobody, and counts as about the letter: it is tried again, then given up).
fn failed(error: &lettre::transport::smtp::Error) -> Failure {
    let text = plain(&chain(error), SUBJECT_CHARS_MAX);
    let code = error.status().map(|code| code.to_string()).unwrap_or_default();
    if error.is_permanent() && !code.starts_with("53") { Failure::refused(text) } else { Failure::later(text, None) }
}

fn parameters(mail: &Mail, settings: &TargetSettings) -> Result<TlsParameters, String> {
    let unusable = |error: lettre::transport::smtp::Error| format!("cannot use TLS: {}", chain(&error));
    let mut builder = TlsParameters::builder(mail.host.clone());
    if let Some(path) = &settings.ca_file {
        builder = builder.certificate_store(CertificateStore::None);
        for authority in authorities(path)? {
            builder = builder.add_root_certificate(Certificate::from_der(authority.to_vec()).map_err(unusable)?);
        }
    }
    builder.build().map_err(unusable)
}

/// "Auto-Submitted: auto-generated" (RFC 3834): nobody's absence is answered to a coordinator.
#[derive(Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }
    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }
    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

fn letter(
    mail: &Mail,
    message: &Message,
    template: Option<&Template>,
    target: &str,
    coordinator: &str,
) -> Result<Letter, String> {
    let text = match (template, message.only()) {
        (Some(template), Some(only)) => template.fill(only, str::to_owned),
        _ => format!("{}\n\n{}\n", message.title(), message.text(str::to_owned)),
    };
    let site: String = sha256::digest(coordinator.as_bytes()).to_string().chars().take(12).collect();
    let domain = mail.from.email.domain();
    let mut builder = Letter::builder()
        .from(mail.from.clone())
        .subject(plain(&format!("[orangery] {}", message.title()), SUBJECT_CHARS_MAX))
        .date(SystemTime::now())
        // The same for what is told twice, so that a mail program can see it.
        .message_id(Some(format!("<orangery-{site}-{target}-{}@{domain}>", message.id)))
        .header(AutoSubmitted)
        .header(ContentType::TEXT_PLAIN);
    for to in &mail.to {
        builder = builder.to(to.clone());
    }
    builder.body(text).map_err(|error| format!("cannot write the letter: {error}"))
}

#[cfg(test)]
mod tests {
    use super::super::{Kind, Notice};
    use super::*;

    #[test]
    fn nothing_that_a_node_says_becomes_a_header() {
        let mail = Mail {
            host: "mail.example".into(),
            port: 587,
            tls: MailTls::Starttls,
            login: None,
            from: "Orangery <orangery@example.org>".parse().unwrap(),
            to: vec!["kim@example.org".parse().unwrap()],
        };
        let mut notice = Notice::new(Kind::ReleaseRefused, "x\r\nBcc: all@example.org\r\n\r\n.\r\nMAIL FROM:<>");
        notice.node = Some("attic".parse().unwrap());
        let letter = letter(&mail, &Message::single(notice), None, "ops", "https://nas:8443").unwrap();
        let text = String::from_utf8(letter.formatted()).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.lines().all(|line| !line.starts_with("Bcc")), "{head}");
        assert!(head.contains("Subject: [orangery] attic refused an app"), "{head}");
        assert!(head.contains("Auto-Submitted: auto-generated"), "{head}");
        assert!(body.contains("x Bcc: all@example.org . MAIL FROM"), "{body}");
        assert_eq!(letter.envelope().to().len(), 1);
    }
}

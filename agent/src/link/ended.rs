//! Why connections end, in words for people.

use std::error::Error;
use std::io;
use std::time::Duration;

use rumqttc::{ConnectReturnCode, ConnectionError, StateError, mqttbytes};

use super::INCOMING_BYTES_MAX;

/// Why a connection ended or was not made. Shown to people.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("{0:?} is not a broker's address: it must be host:port; enrol the node again")]
    Address(String),
    #[error("the broker did not answer within {} s", .0.as_secs_f32())]
    ConnectTimeout(Duration),
    #[error("the broker refused the node: {0}")]
    Refused(&'static str),
    #[error("the broker does not accept the node's certificate ({0:?}); if the node was revoked, enrol it again")]
    Certificate(rustls::AlertDescription),
    #[error("the broker does not let the node subscribe to its own topics; check its access rules")]
    SubscriptionRefused,
    #[error("the broker did not answer the subscription within {} s", .0.as_secs_f32())]
    SubscriptionTimeout(Duration),
    #[error("nothing was heard of the broker for {} s", .0.as_secs())]
    Silent(Duration),
    #[error("the broker did not answer a ping within one keepalive")]
    NoPong,
    #[error("the broker did not acknowledge a message within {} s", .0.as_secs_f32())]
    Unanswered(Duration),
    #[error("the broker sent a packet of {0} bytes; at most {INCOMING_BYTES_MAX} are read")]
    Oversized(usize),
    #[error("the broker does not acknowledge what the node publishes")]
    NotAcknowledged,
    #[error("the broker closed the connection")]
    Closed,
    #[error("the broker's certificate is not valid at the node's time: look at the node's clock: {}", innermost(.0))]
    Clock(Box<ConnectionError>),
    #[error("the connection to the broker failed: {}", innermost(.0))]
    Network(Box<ConnectionError>),
    #[error("a network appeared while the broker was called")]
    Appeared,
    #[error("stopped")]
    Stopped,
}

impl Ended {
    /// Whether the coordinator's machine said something, if only that nothing listens there.
    pub(super) fn is_an_answer(&self) -> bool {
        match self {
            Self::Refused(_)
            | Self::Certificate(_)
            | Self::Clock(_)
            | Self::SubscriptionRefused
            | Self::Oversized(_)
            | Self::Closed => true,
            Self::Network(error) => is_of_kind(error, &[io::ErrorKind::ConnectionRefused]) || is_about_tls(error),
            Self::Address(_)
            | Self::ConnectTimeout(_)
            | Self::SubscriptionTimeout(_)
            | Self::Silent(_)
            | Self::NoPong
            | Self::Unanswered(_)
            | Self::NotAcknowledged
            | Self::Appeared
            | Self::Stopped => false,
        }
    }
}

impl From<ConnectionError> for Ended {
    fn from(error: ConnectionError) -> Self {
        use mqttbytes::Error::PayloadSizeLimitExceeded;
        match error {
            ConnectionError::ConnectionRefused(code) => Self::Refused(refusal(code)),
            ConnectionError::MqttState(StateError::Deserialization(PayloadSizeLimitExceeded(size))) => {
                Self::Oversized(size)
            }
            ConnectionError::MqttState(StateError::CollisionTimeout) => Self::NotAcknowledged,
            ConnectionError::MqttState(StateError::AwaitPingResp) => Self::NoPong,
            ConnectionError::MqttState(StateError::ConnectionAborted) => Self::Closed,
            other => match alert(&other) {
                Some(alert) if is_about_certificate(alert) => Self::Certificate(alert),
                _ if is_about_time(&other) => Self::Clock(Box::new(other)),
                _ if is_cut(&other) => Self::Closed,
                _ => Self::Network(Box::new(other)),
            },
        }
    }
}

/// The library repeats each cause in the error above it; the last one says it all.
fn innermost(error: &ConnectionError) -> String {
    causes(error).last().map(ToString::to_string).unwrap_or_default()
}

/// MQTT 3.1.1 section 3.2.2.3.
fn refusal(code: ConnectReturnCode) -> &'static str {
    match code {
        ConnectReturnCode::RefusedProtocolVersion => "it does not speak MQTT 3.1.1",
        ConnectReturnCode::BadClientId => "its name is not accepted",
        ConnectReturnCode::ServiceUnavailable => "the broker is not available",
        ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized => {
            "it is not authorised; if it was revoked, enrol it again"
        }
        ConnectReturnCode::Success => "no reason given",
    }
}

/// The alert by which the other side ended TLS, if it did. In TLS 1.3 a server judges the client's certificate after the
/// client thinks the handshake done, so it may come with the first read (RFC 8446 section 4.4.2.4).
fn alert(error: &ConnectionError) -> Option<rustls::AlertDescription> {
    tls_error(error).and_then(|error| if let rustls::Error::AlertReceived(it) = error { Some(it) } else { None })
}

/// Whether the broker's certificate would be good at another time.
fn is_about_time(error: &ConnectionError) -> bool {
    use rustls::CertificateError as Bad;
    let Some(rustls::Error::InvalidCertificate(bad)) = tls_error(error) else { return false };
    matches!(bad, Bad::Expired | Bad::ExpiredContext { .. } | Bad::NotValidYet | Bad::NotValidYetContext { .. })
}

fn tls_error(error: &ConnectionError) -> Option<rustls::Error> {
    causes(error).find_map(|error: &(dyn Error + 'static)| match error.downcast_ref::<io::Error>() {
        Some(io) => io.get_ref()?.downcast_ref::<rustls::Error>().cloned(),
        None => error.downcast_ref::<rustls::Error>().cloned(),
    })
}

/// Whether the other side is gone without a word of TLS: a restart, a cut line.
fn is_cut(error: &ConnectionError) -> bool {
    is_of_kind(error, &[io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe])
}

fn is_of_kind(error: &ConnectionError, kinds: &[io::ErrorKind]) -> bool {
    causes(error).filter_map(<dyn Error>::downcast_ref).any(|error: &io::Error| kinds.contains(&error.kind()))
}

/// Whether somebody spoke, and it was not to TLS's liking.
fn is_about_tls(error: &ConnectionError) -> bool {
    matches!(error, ConnectionError::Tls(rumqttc::TlsError::TLS(_)))
}

/// The error and its causes, outermost first.
fn causes(error: &ConnectionError) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(Some(error as &(dyn Error + 'static)), |&error| error.source())
}

/// RFC 8446 section 6.2. A certificate of an authority of the same name but another key is a failed signature.
fn is_about_certificate(alert: rustls::AlertDescription) -> bool {
    use rustls::AlertDescription as Alert;
    matches!(
        alert,
        Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::DecryptError
    )
}

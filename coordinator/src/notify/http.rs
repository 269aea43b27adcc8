//! Sending by HTTP: one POST, without redirects or proxies, to an address that may be gone to.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use orangery_wire::UnixTime;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode, Url};
use ring::hmac;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use super::address::{Guarded, closed, is_closed};
use super::target::{Answer, Failure};
use super::{Secret, TargetSettings, plain};
use crate::repository::chain;

/// Bytes of an answer that are read: services explain themselves in fewer.
const ANSWER_BYTES_MAX: usize = 2_048;
/// Characters of it that are shown.
const ANSWER_CHARS_MAX: usize = 200;
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);

/// A place that takes a POST.
pub(super) struct Place {
    client: Client,
    url: Url,
}

impl Place {
    /// Checks the address and makes a client for it. Nothing is sent yet.
    pub(super) fn open(url: &Secret, settings: &TargetSettings) -> Result<Self, String> {
        let url = checked(url.expose(), settings)?;
        let mut builder = Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .referer(false)
            .connect_timeout(CONNECT_TIME_MAX)
            .user_agent(concat!("orangery/", env!("CARGO_PKG_VERSION")))
            .dns_resolver(Guarded { allow_link_local: settings.allow_link_local });
        builder = builder.tls_backend_preconfigured(tls(settings.ca_file.as_deref(), url.scheme() == "https")?);
        let client = builder.build().map_err(|error| format!("cannot make a client: {}", chain(&error)))?;
        Ok(Self { client, url })
    }

    /// Scheme, host and port: what may be shown of the address.
    pub(super) fn shown(&self) -> String {
        self.url.origin().ascii_serialization()
    }

    /// Sends it once and says what became of it.
    pub(super) async fn post(
        &self,
        body: &serde_json::Value,
        headers: &[(&'static str, String)],
        bearer: Option<&Secret>,
    ) -> Result<Answer, Failure> {
        let mut request = self.client.post(self.url.clone()).header(CONTENT_TYPE, "application/json");
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        if let Some(token) = bearer {
            request = request.bearer_auth(token.expose());
        }
        // Without its address, which may be a secret.
        let failed = |error: reqwest::Error| Failure::later(chain(&error.without_url()), None);
        let response = request.body(body.to_string()).send().await.map_err(failed)?;
        judge(response).await
    }
}

/// What was answered, as far as it matters.
async fn judge(response: Response) -> Result<Answer, Failure> {
    let (status, headers) = (response.status(), response.headers().clone());
    let said = said(response).await;
    let text = if said.is_empty() { status.to_string() } else { format!("{status}: {said}") };
    if status.is_success() {
        return Ok(Answer { text });
    }
    if status.is_redirection() {
        return Err(Failure::later(
            format!("{status}: redirects are not followed; name the address it leads to"),
            None,
        ));
    }
    let asked = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let asked = asked.and_then(|text| retry_after(text, crate::output::now()));
    match status {
        StatusCode::BAD_REQUEST
        | StatusCode::PAYLOAD_TOO_LARGE
        | StatusCode::UNSUPPORTED_MEDIA_TYPE
        | StatusCode::UNPROCESSABLE_ENTITY => Err(Failure::refused(text)),
        _ => Err(Failure::later(text, asked)),
    }
}

/// The beginning of the answer's body; nothing if it does not come.
async fn said(mut response: Response) -> String {
    let mut read = Vec::new();
    while read.len() < ANSWER_BYTES_MAX
        && let Ok(Some(chunk)) = response.chunk().await
    {
        read.extend(chunk.iter().take(ANSWER_BYTES_MAX - read.len()));
    }
    plain(&String::from_utf8_lossy(&read), ANSWER_CHARS_MAX)
}

/// `Retry-After`, in seconds or as a date (RFC 9110, 10.2.3).
fn retry_after(text: &str, now: UnixTime) -> Option<Duration> {
    if let Ok(secs) = text.trim().parse::<f64>() {
        return Duration::try_from_secs_f64(secs).ok();
    }
    let at = OffsetDateTime::parse(text.trim(), &Rfc2822).ok()?;
    let at = UnixTime::try_from(at.unix_timestamp()).ok()?;
    Some(Duration::from_secs(at.saturating_sub(now)))
}

/// The signature of a webhook's body: HMAC-SHA256 over the time, a point and the body.
pub(super) fn signature(secret: &Secret, sent_at: UnixTime, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
    let tag = hmac::sign(&key, format!("{sent_at}.{body}").as_bytes());
    let mut text = format!("t={sent_at},v1=");
    for byte in tag.as_ref() {
        // Writing into a text does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn checked(text: &str, settings: &TargetSettings) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("url: {error}"))?;
    match url.scheme() {
        "https" => {}
        "http" if settings.allow_http => {}
        "http" => {
            return Err("url: without TLS anybody on the way reads it; allow_http = true does it all the same".into());
        }
        _ => return Err("url: use https://".to_owned()),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("url: names and passwords do not belong into it".to_owned());
    }
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    match host.parse::<IpAddr>() {
        Ok(address) if is_closed(address) && !settings.allow_link_local => Err(format!("url: {}", closed(address))),
        _ => Ok(url),
    }
}

/// TLS by the authorities in a file, or by the system's.
fn tls(ca_file: Option<&Path>, needed: bool) -> Result<ClientConfig, String> {
    let certificates = match ca_file {
        Some(path) => authorities(path)?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(certificates);
    if added == 0 && needed {
        return Err("this machine knows no certificate authorities: install ca-certificates, or name ca_file".into());
    }
    let provider = rustls::crypto::ring::default_provider();
    let builder = ClientConfig::builder_with_provider(provider.into()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| format!("cannot use TLS: {error}"))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// The certificates in a PEM file; at least one.
pub(super) fn authorities(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let unreadable = |error: &dyn std::fmt::Display| format!("ca_file: cannot read {}: {error}", path.display());
    let read = CertificateDer::pem_file_iter(path).map_err(|error| unreadable(&error))?;
    let read = read.collect::<Result<Vec<_>, _>>().map_err(|error| unreadable(&error))?;
    if read.is_empty() { Err(format!("ca_file: {} has no certificate in PEM", path.display())) } else { Ok(read) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_asked_for_in_seconds_or_by_a_date() {
        assert_eq!(retry_after("120", 0), Some(Duration::from_mins(2)));
        assert_eq!(retry_after("1.5", 0), Some(Duration::from_millis(1_500)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_700), Some(Duration::from_secs(77)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_999), Some(Duration::ZERO));
        for wrong in ["", "soon", "-1", "nan", "inf"] {
            assert_eq!(retry_after(wrong, 0), None, "{wrong}");
        }
    }

    #[test]
    fn a_signature_can_be_made_by_anybody_who_has_the_secret() {
        // printf '1700000000.{}' | openssl dgst -sha256 -hmac 0123456789abcdef
        let signed = signature(&Secret::new("0123456789abcdef"), 1_700_000_000, "{}");
        assert_eq!(signed, "t=1700000000,v1=e4f8e2ecae2295b2ddb2f0b5584c8275e226c0ebe9b3b819e70156bb67122e3e");
    }
}

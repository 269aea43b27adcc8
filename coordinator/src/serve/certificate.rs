//! The certificate that the listeners show. It is made anew when the settings name an address that it is not for, as after a move to
//! another machine.

use std::net::IpAddr;
use std::sync::Arc;

use orangery_wire::UnixTime;
use x509_parser::prelude::{GeneralName, parse_x509_certificate};

use super::{ServeError, read};
use crate::ca::Ca;
use crate::config::{Config, Mqtt};
use crate::durable;
use crate::tls::ServerCertificate;

/// Reads the certificate and its key. One that lacks a name of the settings gives way to one that has it too; the key stays.
pub(super) fn server(config: &Config, ca: &Ca, now: UnixTime) -> Result<Arc<ServerCertificate>, ServeError> {
    let keys = &config.keys;
    let (certificate, key) = (read(&keys.server)?, read(&keys.server_key)?);
    let shown = ServerCertificate::from_pem(&certificate, &key)?;
    ca.check_issued(&keys.server, &certificate)?;
    let had = names(&certificate);
    let lacking: Vec<String> = wanted(config).into_iter().filter(|name| !had.contains(name)).collect();
    if lacking.is_empty() {
        return Ok(shown);
    }
    let issued = ca.reissue_server(&key, &[had, lacking.clone()].concat(), now)?;
    shown.replace(&issued.pem, &key)?;
    durable::replace(&keys.server, issued.pem.as_bytes(), 0o644)
        .map_err(|source| ServeError::Write { path: keys.server.clone(), source })?;
    tracing::info!(names = lacking.join(", "), "the servers' certificate is for these addresses as well from now on");
    Ok(shown)
}

/// The names by which nodes and operators come here.
fn wanted(config: &Config) -> Vec<String> {
    let https = config.https.url.strip_prefix("https://").unwrap_or(&config.https.url);
    let mqtt = match &config.mqtt {
        Mqtt::Embedded { advertise, .. } => Some(advertise.as_str()),
        Mqtt::External { .. } => None,
    };
    let mut all: Vec<String> = [Some(https), mqtt].into_iter().flatten().map(host).collect();
    all.dedup();
    all
}

/// The host in `HOST:PORT` or `HOST`, in the form that a certificate's names have here.
fn host(authority: &str) -> String {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.parse::<IpAddr>().map_or_else(|_| host.to_ascii_lowercase(), |address| address.to_string())
}

/// The names that a certificate is for.
fn names(certificate_pem: &str) -> Vec<String> {
    let Ok((_, pem)) = x509_parser::pem::parse_x509_pem(certificate_pem.as_bytes()) else { return Vec::new() };
    let Ok((_, certificate)) = parse_x509_certificate(&pem.contents) else { return Vec::new() };
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    extension.value.general_names.iter().filter_map(name).collect()
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        GeneralName::IPAddress(bytes) => {
            let four = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            four.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from)).ok().map(|address| address.to_string())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_what_stands_before_the_port() {
        for (authority, expected) in [
            ("nas.local:7443", "nas.local"),
            ("NAS", "nas"),
            ("10.0.0.7:1", "10.0.0.7"),
            ("[fd00::0007]:8443", "fd00::7"),
        ] {
            assert_eq!(host(authority), expected);
        }
    }

    #[test]
    fn the_names_of_a_certificate_are_read_as_they_were_asked_for() {
        let ca = Ca::create(1_800_000_000).unwrap();
        let asked = ["nas.local".to_owned(), "10.0.0.7".to_owned(), "fd00::7".to_owned()];
        let issued = ca.issue_server(&asked, 1_800_000_000).unwrap();
        let had = names(&issued.certificate.pem);
        assert!(asked.iter().all(|name| had.contains(name)), "{had:?}");
        assert!(names("no PEM").is_empty());
    }
}

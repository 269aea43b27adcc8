//! How the coordinator speaks TLS: version 1.3 only, our own CA only, ring only.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::crypto::{CryptoProvider, ring};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// A key or certificate cannot be used for TLS.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the {what} for TLS: {reason}; restore it from a backup, or make new ones with `orangery init`")]
pub struct TlsError {
    /// Which key or certificate.
    pub what: &'static str,
    /// Why.
    pub reason: String,
}

fn unusable(what: &'static str, reason: impl std::fmt::Display) -> TlsError {
    TlsError { what, reason: reason.to_string() }
}

/// The certificate that a listener shows. It can be replaced while the listener serves: later handshakes show the new one.
#[derive(Debug)]
pub struct ServerCertificate(RwLock<Arc<CertifiedKey>>);

impl ServerCertificate {
    /// Takes a certificate chain and its key, both PEM, and checks that they belong together.
    pub fn from_pem(certificate_pem: &str, key_pem: &str) -> Result<Arc<Self>, TlsError> {
        Ok(Arc::new(Self(RwLock::new(certified("server certificate", certificate_pem, key_pem)?))))
    }

    /// Shows another certificate from now on. Nothing changes if it cannot be used.
    pub fn replace(&self, certificate_pem: &str, key_pem: &str) -> Result<(), TlsError> {
        let new = certified("server certificate", certificate_pem, key_pem)?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// The rule by which a listener believes client certificates: issued by `ca`, for clients, and not expired. With
/// `optional` a client may also come without one; a certificate that it does show must be good.
pub fn client_verifier(ca: &CertificateDer<'static>, optional: bool) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let builder = WebPkiClientVerifier::builder_with_provider(roots(ca)?.into(), provider());
    let builder = if optional { builder.allow_unauthenticated() } else { builder };
    builder.build().map_err(|e| unusable("CA certificate", e))
}

/// A listener's settings. Sessions are never resumed: each connection proves its certificate anew, so one that was
/// revoked or has expired is refused at the next handshake.
pub fn server_config(
    clients: Arc<dyn ClientCertVerifier>,
    certificate: Arc<ServerCertificate>,
) -> Result<ServerConfig, TlsError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| unusable("crypto provider", e))?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(certificate);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// A client's settings: only servers of `ca`, showing the certificate and key in `identity` (both PEM).
pub fn client_config(ca: &CertificateDer<'static>, identity: (&str, &str)) -> Result<Arc<ClientConfig>, TlsError> {
    let (certificate_pem, key_pem) = identity;
    let (chain, key) = parse("link certificate", certificate_pem, key_pem)?;
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| unusable("crypto provider", e))?
        .with_root_certificates(roots(ca)?)
        .with_client_auth_cert(chain, key)
        .map_err(|e| unusable("link certificate", e))?;
    Ok(Arc::new(config))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn roots(ca: &CertificateDer<'static>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.clone()).map_err(|e| unusable("CA certificate", e))?;
    Ok(roots)
}

fn certified(what: &'static str, certificate_pem: &str, key_pem: &str) -> Result<Arc<CertifiedKey>, TlsError> {
    let (chain, key) = parse(what, certificate_pem, key_pem)?;
    CertifiedKey::from_der(chain, key, &provider()).map(Arc::new).map_err(|e| unusable(what, e))
}

fn parse(
    what: &'static str,
    certificate_pem: &str,
    key_pem: &str,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate_pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|e| unusable(what, e))?;
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|e| unusable(what, e))?;
    Ok((chain, key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ca::Ca;

    #[test]
    fn a_certificate_with_another_key_is_refused_and_the_old_one_stays() {
        let ca = Ca::create(1_800_000_000).unwrap();
        let server = || ca.issue_server(&["localhost".to_owned()], 1_800_000_000).unwrap();
        let (first, second) = (server(), server());
        let shown = ServerCertificate::from_pem(&first.certificate.pem, &first.key_pem).unwrap();
        let before = shown.0.read().unwrap().clone();
        assert!(shown.replace(&second.certificate.pem, &first.key_pem).is_err());
        assert!(Arc::ptr_eq(&before, &shown.0.read().unwrap()));
        shown.replace(&second.certificate.pem, &second.key_pem).unwrap();
        assert_ne!(before.cert, shown.0.read().unwrap().cert);
    }
}

//! Certificates that have expired may still renew themselves: a board that was off for months comes back by itself.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use crate::ca::Peer;

/// Believes a client certificate as `issued` does, but for its end: an expired one is checked as of its last second. What
/// an expired one may ask for is decided where routes are.
pub(super) struct EvenExpired {
    issued: Arc<dyn ClientCertVerifier>,
}

impl EvenExpired {
    pub(super) fn new(issued: Arc<dyn ClientCertVerifier>) -> Self {
        Self { issued }
    }
}

impl fmt::Debug for EvenExpired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EvenExpired")
    }
}

impl ClientCertVerifier for EvenExpired {
    fn offer_client_auth(&self) -> bool {
        self.issued.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.issued.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.issued.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verify = |at| self.issued.verify_client_cert(certificate, intermediates, at);
        match verify(now) {
            Err(Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. })) => {
                let malformed = Error::InvalidCertificate(CertificateError::BadEncoding);
                let last = Peer::of(certificate).ok_or(malformed)?.not_after;
                verify(UnixTime::since_unix_epoch(std::time::Duration::from_secs(last)))
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.issued.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.issued.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.issued.supported_verify_schemes()
    }
}

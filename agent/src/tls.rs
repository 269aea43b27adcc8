//! Whom the node believes and how it proves itself: TLS 1.3 only, one CA only, client certificates that can be renewed under
//! a configuration in use.
//!
//! Time is special here, for boards start in 1970. Expiry is judged by the node's [`Clock`], which is never before its
//! floor. A *beginning* in the future is not held against a certificate: only the pinned CA can sign one, so its date proves
//! that this time has come and the board's clock is behind. The date is used for this one judgement and never raises the
//! clock's floor: a coordinator that was broken into could otherwise move a node's clock ahead for good.

mod validity;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use orangery_wire::Digest;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption, WebPkiServerVerifier};
use rustls::crypto::{self, CryptoProvider};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, PeerIncompatible, RootCertStore, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use crate::clock::Clock;
use crate::identity::Identity;

pub use validity::Validity;

/// How the node connects to its coordinator: it shows its certificate and believes only the CA that it joined.
///
/// Made once; a certificate renewed later is shown in every handshake from then on.
pub fn client_config(identity: &Identity, clock: Arc<Clock>) -> Arc<ClientConfig> {
    config(Anchor::Certificate(identity.ca().clone()), clock, Some(identity.certificate()))
}

/// How a node that has not joined yet connects: it has nothing to show, and believes the CA whose certificate has this
/// SHA-256. The server must send that certificate in its chain.
pub fn join_config(ca: Digest, clock: Arc<Clock>) -> Arc<ClientConfig> {
    config(Anchor::Fingerprint(ca), clock, None)
}

/// How the node connects to a static web server: it has nothing to show, and believes servers that one of `authorities`
/// vouches for. What it gets there is judged by other signatures. `None` if none of them can be used.
pub fn site_config(authorities: Vec<CertificateDer<'static>>, clock: Arc<Clock>) -> Option<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(authorities);
    (added > 0).then(|| config(Anchor::Authorities(Arc::new(roots)), clock, None))
}

/// The SHA-256 of a certificate's DER.
pub fn fingerprint(certificate: &CertificateDer<'_>) -> Digest {
    sha256(certificate)
}

/// The SHA-256 of any bytes.
pub(crate) fn sha256(bytes: &[u8]) -> Digest {
    let mut digest = [0; 32];
    digest.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref());
    Digest(digest)
}

fn config(anchor: Anchor, clock: Arc<Clock>, shown: Option<Arc<NodeCertificate>>) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_details(provider(), clock)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("ring has cipher suites for TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PinnedCa { anchor, provider: provider() }));
    let mut config = match shown {
        Some(certificate) => builder.with_client_cert_resolver(certificate),
        None => builder.with_no_client_auth(),
    };
    // A resumed session would be the old certificate's.
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(crypto::ring::default_provider())
}

/// The node's certificate and key, as TLS shows them. Whoever has it may put a newer certificate in.
#[derive(Debug)]
pub struct NodeCertificate {
    ca: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    shown: RwLock<Arc<CertifiedKey>>,
}

impl NodeCertificate {
    /// Takes the key and a certificate for it. Fails, and says why, if it is not for this key or not from this CA. That it
    /// has expired is no failure: it may still be good for its own renewal.
    pub fn new(
        ca: CertificateDer<'static>,
        key: PrivateKeyDer<'static>,
        certificate: CertificateDer<'static>,
    ) -> Result<Self, Error> {
        let shown = RwLock::new(check(&ca, &key, certificate)?);
        Ok(Self { ca, key, shown })
    }

    /// Checks another certificate for the same key, as [`Self::new`] does, without using it.
    pub fn check(&self, certificate: CertificateDer<'static>) -> Result<(), Error> {
        check(&self.ca, &self.key, certificate).map(drop)
    }

    /// Shows another certificate from the next handshake on. If it fails, the one before is kept.
    pub fn replace(&self, certificate: CertificateDer<'static>) -> Result<(), Error> {
        let new = check(&self.ca, &self.key, certificate)?;
        *self.shown.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// When the certificate that is shown begins and ends.
    pub fn validity(&self) -> Option<Validity> {
        Validity::of(self.shown().cert.first()?)
    }

    pub(crate) fn ca(&self) -> &CertificateDer<'static> {
        &self.ca
    }

    fn shown(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.shown.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ResolvesClientCert for NodeCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.shown())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn check(
    ca: &CertificateDer<'static>,
    key: &PrivateKeyDer<'static>,
    certificate: CertificateDer<'static>,
) -> Result<Arc<CertifiedKey>, Error> {
    let begins = Validity::of(&certificate).ok_or(CertificateError::BadEncoding)?.not_before;
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(ca)?, provider()).build();
    let verifier = verifier.map_err(|error| Error::General(error.to_string()))?;
    verifier.verify_client_cert(&certificate, &[], unix(begins))?;
    CertifiedKey::from_der(vec![certificate], key.clone_key(), &provider()).map(Arc::new)
}

fn roots(ca: &CertificateDer<'_>) -> Result<Arc<RootCertStore>, Error> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.clone().into_owned())?;
    Ok(Arc::new(roots))
}

fn unix(seconds: orangery_wire::UnixTime) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

/// What the node knows of the CA.
#[derive(Debug)]
enum Anchor {
    Fingerprint(Digest),
    Certificate(CertificateDer<'static>),
    /// Any of these; for servers that are not believed any further.
    Authorities(Arc<RootCertStore>),
}

/// Believes servers that the pinned CA vouches for, under the name that was asked for.
#[derive(Debug)]
struct PinnedCa {
    anchor: Anchor,
    provider: Arc<CryptoProvider>,
}

impl PinnedCa {
    /// Anybody can send the CA's certificate along; what counts is that its key signed the server's, which is checked after
    /// this.
    fn find(&self, sent: &[CertificateDer<'_>]) -> Result<Arc<RootCertStore>, Error> {
        match &self.anchor {
            Anchor::Certificate(ca) => roots(ca),
            Anchor::Fingerprint(wanted) => {
                let found = sent.iter().find(|certificate| fingerprint(certificate) == *wanted);
                roots(found.ok_or(CertificateError::ApplicationVerificationFailure)?)
            }
            Anchor::Authorities(authorities) => Ok(Arc::clone(authorities)),
        }
    }
}

impl ServerCertVerifier for PinnedCa {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let roots = self.find(intermediates)?;
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&self.provider)).build();
        let verifier = verifier.map_err(|error| Error::General(error.to_string()))?;
        let begins = intermediates.iter().chain([end_entity]).filter_map(Validity::of).map(|v| v.not_before).max();
        let at = unix(begins.unwrap_or(0)).max(now);
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, at)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // Never offered.
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

//! The coordinator's own certificate authority: it names nodes, the coordinator's link and its server. Nothing else
//! trusts it and it trusts nothing else. What it does to files is in [`Ca::load`] and [`Ca::save`] alone.
//!
//! Everything is ECDSA on P-256, the one curve that every TLS 1.3 stack must have (RFC 8446 section 9.1). All
//! certificates begin in 2020: nodes have no clock of their own, and a beginning protects nothing that the end does not.

use std::fmt;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use orangery_wire::topics::COORDINATOR;
use orangery_wire::{Digest, NodeId, UnixTime};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};
use ring::rand::{SecureRandom as _, SystemRandom};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Life of a node's certificate. The node renews it when two thirds are over.
pub const NODE_DAYS: u64 = 90;
/// Life of the server's and the link's certificate: their keys lie beside the CA's own, a shorter one would only stop fleets.
pub const OWN_DAYS: u64 = 10 * 365;
/// What the certificate of the servers is called.
const SERVER: &str = "orangery server";
/// Life of the CA itself.
pub const CA_DAYS: u64 = 20 * 365;
/// Largest certificate signing request that is read, in bytes; a real one has about 500.
pub const CSR_BYTES_MAX: usize = 8 * 1024;

/// What every server certificate names besides the names that were asked for.
pub const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

const DAY_SECS: u64 = 86_400;
/// 2020-01-01T00:00:00Z.
const NOT_BEFORE: i64 = 1_577_836_800;

/// The certificate authority could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaError {
    /// A file could not be read.
    #[error("cannot read {}: {source}; run `orangery init`, or restore it from a backup", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A key or certificate is not what it should be.
    #[error("cannot use the {what} of the CA: {reason}; restore ca.key and ca.pem from one backup")]
    Load {
        /// "key" or "certificate".
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// A certificate is of another CA.
    #[error(
        "{} was not issued by the CA whose certificate is in ca.pem; restore ca.*, server.* and link.* from one backup",
        path.display()
    )]
    Foreign {
        /// The certificate's file.
        path: PathBuf,
    },
    /// A certificate could not be made.
    #[error("cannot issue a certificate for {name}: {source}")]
    Issue {
        /// Who it was for.
        name: String,
        /// What the library said.
        source: rcgen::Error,
    },
    /// A signing request was refused.
    #[error("the certificate signing request of {node} is refused: {reason}")]
    Request {
        /// The node that asked.
        node: String,
        /// Why.
        reason: String,
    },
    /// The system gave no random bytes.
    #[error("the system gives no random numbers, so no certificate can be issued")]
    Random,
}

/// A certificate that the CA issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// The certificate, without the CA's.
    pub pem: String,
    /// Its serial number, random, in lower-case hexadecimal digits.
    pub serial: String,
    /// When it ends.
    pub not_after: UnixTime,
}

/// A certificate with the key that the coordinator made for itself. Not printable: it holds the key.
pub struct IssuedWithKey {
    /// The private key, PKCS#8 in PEM. Write it with [`write_secret`].
    pub key_pem: String,
    /// The certificate.
    pub certificate: Issued,
}

impl fmt::Debug for IssuedWithKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuedWithKey").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// The certificate authority, with its key.
pub struct Ca {
    certificate: CertificateDer<'static>,
    certificate_pem: String,
    key_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl fmt::Debug for Ca {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ca").field("fingerprint", &self.fingerprint()).finish_non_exhaustive()
    }
}

impl Ca {
    /// Makes a new CA that ends [`CA_DAYS`] after `now`. Nothing is written.
    pub fn create(now: UnixTime) -> Result<Self, CaError> {
        let name = "Orangery CA".to_owned();
        let issue = |source| CaError::Issue { name: name.clone(), source };
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(issue)?;
        let mut params = params(&name, now, CA_DAYS)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.use_authority_key_identifier_extension = false;
        let certificate = params.self_signed(&key).map_err(issue)?;
        Self::from_pem(&key.serialize_pem(), &certificate.pem())
    }

    /// Takes a CA from its key and certificate, and checks that they belong together.
    pub fn from_pem(key_pem: &str, certificate_pem: &str) -> Result<Self, CaError> {
        let failed = |what: &'static str| move |reason: String| CaError::Load { what, reason };
        let key = KeyPair::from_pem(key_pem).map_err(|e| failed("key")(e.to_string()))?;
        let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .map_err(|e| failed("certificate")(e.to_string()))?;
        if spki(&certificate).map_err(failed("certificate"))? != rcgen::PublicKeyData::subject_public_key_info(&key) {
            return Err(failed("certificate")("it was made with another key".to_owned()));
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(|e| failed("certificate")(e.to_string()))?;
        let (certificate_pem, key_pem) = (certificate_pem.to_owned(), key_pem.to_owned());
        Ok(Self { certificate, certificate_pem, key_pem, issuer })
    }

    /// Reads a CA from the two files that [`Ca::save`] wrote.
    pub fn load(key: &Path, certificate: &Path) -> Result<Self, CaError> {
        let read = |path: &Path| {
            std::fs::read_to_string(path).map_err(|source| CaError::Read { path: path.to_owned(), source })
        };
        Self::from_pem(&read(key)?, &read(certificate)?)
    }

    /// Writes the key (mode 0600) and the certificate. Existing files are an error: an old CA is never lost this way.
    pub fn save(&self, key: &Path, certificate: &Path) -> Result<(), CaError> {
        write_secret(key, &self.key_pem)?;
        write_new(certificate, &self.certificate_pem, 0o644)
    }

    /// The certificate in PEM: what nodes and operators pin.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The certificate in DER.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The SHA-256 of the certificate's DER, which invite tokens carry.
    pub fn fingerprint(&self) -> Digest {
        fingerprint(&self.certificate)
    }

    /// Refuses the certificate from `path` unless this CA has issued it. When it ends and what it is for is not looked at.
    pub fn check_issued(&self, path: &Path, certificate_pem: &str) -> Result<(), CaError> {
        let foreign = || CaError::Foreign { path: path.to_owned() };
        let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes()).map_err(|_| foreign())?;
        let (_, issued) = X509Certificate::from_der(&certificate).map_err(|_| foreign())?;
        let (_, own) = X509Certificate::from_der(&self.certificate).map_err(|_| foreign())?;
        issued.verify_signature(Some(own.public_key())).map_err(|_| foreign())
    }

    /// Makes a key and certificate for the coordinator's servers. `names` are host names or IP addresses; this machine's
    /// own ([`LOOPBACK`]) are always among them, because the coordinator is a client of its own broker.
    pub fn issue_server(&self, names: &[String], now: UnixTime) -> Result<IssuedWithKey, CaError> {
        self.issue_with_key(SERVER, server_params(names, now)?, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// The same for a key that the servers have already.
    pub fn reissue_server(&self, key_pem: &str, names: &[String], now: UnixTime) -> Result<Issued, CaError> {
        let key = KeyPair::from_pem(key_pem).map_err(|source| issue(SERVER.to_owned(), source))?;
        self.issue(SERVER, server_params(names, now)?, ExtendedKeyUsagePurpose::ServerAuth, &key)
    }

    /// Makes a key and certificate for the coordinator's own connection to the broker.
    pub fn issue_link(&self, now: UnixTime) -> Result<IssuedWithKey, CaError> {
        self.issue_with_key(COORDINATOR, params(COORDINATOR, now, OWN_DAYS)?, ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// Issues a certificate for the key in a node's signing request. Only the key is taken from the request; its
    /// signature proves that the node has it. The name, the life and the use are the CA's.
    pub fn issue_node(&self, node: &NodeId, csr_pem: &str, now: UnixTime) -> Result<Issued, CaError> {
        let refused = |reason: &str| CaError::Request { node: node.to_string(), reason: reason.to_owned() };
        if node.as_str() == COORDINATOR {
            return Err(refused("this name is the coordinator's own; choose another name for the node"));
        }
        if csr_pem.len() > CSR_BYTES_MAX {
            return Err(refused("it is too large"));
        }
        let request = CertificateSigningRequestParams::from_pem(csr_pem).map_err(|e| refused(&e.to_string()))?;
        if *request.public_key.algorithm() != PKCS_ECDSA_P256_SHA256 {
            return Err(refused("its key is not ECDSA on P-256"));
        }
        let mut params = params(node.as_str(), now, NODE_DAYS)?;
        let uri = format!("urn:orangery:node:{node}");
        params.subject_alt_names =
            vec![SanType::URI(uri.try_into().map_err(|source| issue(node.to_string(), source))?)];
        self.issue(node.as_str(), params, ExtendedKeyUsagePurpose::ClientAuth, &request.public_key)
    }

    fn issue_with_key(
        &self,
        name: &str,
        params: CertificateParams,
        usage: ExtendedKeyUsagePurpose,
    ) -> Result<IssuedWithKey, CaError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|source| issue(name.to_owned(), source))?;
        let certificate = self.issue(name, params, usage, &key)?;
        Ok(IssuedWithKey { key_pem: key.serialize_pem(), certificate })
    }

    fn issue(
        &self,
        name: &str,
        mut params: CertificateParams,
        usage: ExtendedKeyUsagePurpose,
        key: &impl rcgen::PublicKeyData,
    ) -> Result<Issued, CaError> {
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        let serial = params.serial_number.as_ref().map(SerialNumber::to_bytes).unwrap_or_default();
        let not_after = UnixTime::try_from(params.not_after.unix_timestamp()).unwrap_or_default();
        let certificate =
            params.signed_by(key, &self.issuer).map_err(|source| CaError::Issue { name: name.to_owned(), source })?;
        Ok(Issued { pem: certificate.pem(), serial: hex(&serial), not_after })
    }
}

/// Who a verified certificate names. Says nothing about whether it *is* verified: TLS does that first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The common name: a node's id, or `coordinator`.
    pub name: String,
    /// The serial number, as in [`Issued::serial`].
    pub serial: String,
    /// When it ends.
    pub not_after: UnixTime,
}

impl Peer {
    /// Reads the name, serial and end out of a certificate. `None` if it is malformed or has not exactly one common name.
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let mut names = parsed.subject().iter_common_name();
        let name = names.next()?.as_str().ok()?.to_owned();
        if names.next().is_some() {
            return None;
        }
        let not_after = parsed.validity().not_after.timestamp().try_into().ok()?;
        Some(Self { name, serial: hex(significant(parsed.raw_serial())), not_after })
    }

    /// Like [`Peer::of`], for a certificate in PEM.
    pub fn of_pem(pem: &str) -> Option<Self> {
        Self::of(&CertificateDer::from_pem_slice(pem.as_bytes()).ok()?)
    }

    /// The node that it names; `None` for the coordinator's own.
    pub fn node(&self) -> Option<NodeId> {
        self.name.parse().ok().filter(|_| self.name != COORDINATOR)
    }
}

/// The SHA-256 of a certificate's DER.
pub fn fingerprint(certificate: &CertificateDer<'_>) -> Digest {
    let digest = ring::digest::digest(&ring::digest::SHA256, certificate);
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest.as_ref());
    Digest(bytes)
}

/// Writes a new file that only its owner can read, and syncs it. An existing file is an error.
pub fn write_secret(path: &Path, text: &str) -> Result<(), CaError> {
    write_new(path, text, 0o600)
}

fn write_new(path: &Path, text: &str, mode: u32) -> Result<(), CaError> {
    let write = || {
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|source| CaError::Write { path: path.to_owned(), source })
}

fn issue(name: String, source: rcgen::Error) -> CaError {
    CaError::Issue { name, source }
}

fn server_params(names: &[String], now: UnixTime) -> Result<CertificateParams, CaError> {
    let mut all = names.to_vec();
    all.extend(LOOPBACK.map(str::to_owned));
    all.sort();
    all.dedup();
    let mut params = params(SERVER, now, OWN_DAYS)?;
    let parsed = CertificateParams::new(all).map_err(|source| issue(names.join(", "), source))?;
    params.subject_alt_names = parsed.subject_alt_names;
    Ok(params)
}

fn params(name: &str, now: UnixTime, days: u64) -> Result<CertificateParams, CaError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number = Some(random_serial()?);
    params.not_before = date(NOT_BEFORE);
    params.not_after = date(i64::try_from(now.saturating_add(days * DAY_SECS)).unwrap_or(i64::MAX));
    Ok(params)
}

/// The date, or the last one that X.509 can write (RFC 5280 section 4.1.2.5).
fn date(at: i64) -> OffsetDateTime {
    const LAST: i64 = 253_402_300_799;
    OffsetDateTime::from_unix_timestamp(at.min(LAST)).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// 127 random bits with a leading one: positive, never empty, at most 20 octets (RFC 5280 section 4.1.2.2).
fn random_serial() -> Result<SerialNumber, CaError> {
    let mut bytes = [0_u8; 16];
    SystemRandom::new().fill(&mut bytes).map_err(|_| CaError::Random)?;
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

fn spki(certificate: &CertificateDer<'_>) -> Result<Vec<u8>, String> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|e| e.to_string())?;
    Ok(parsed.public_key().raw.to_vec())
}

/// A DER integer without the zero octet that only says "positive".
fn significant(integer: &[u8]) -> &[u8] {
    match integer {
        [0, rest @ ..] if !rest.is_empty() => rest,
        all => all,
    }
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
#[path = "ca/tests.rs"]
mod tests;

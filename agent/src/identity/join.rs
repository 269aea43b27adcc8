//! Joins a coordinator with an invite token.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use orangery_wire::NodeId;
use orangery_wire::rest::{JoinRequest, JoinResponse};
use orangery_wire::token::Token;
use rcgen::KeyPair;

use super::https::{self, HttpsError};
use super::{CA, CERTIFICATE, COORDINATOR, Coordinator, DIR_MODE, FILE_MODE, FORMAT, Identity, IdentityError, KEY};
use crate::clock::Clock;
use crate::disk::{self, Disk};
use crate::layout::Layout;
use crate::tls::{self, NodeCertificate, sha256};

/// The owner's first root of trust, as it was when the node joined.
const FIRST_ROOT: &str = "1.root.json";
/// The root that is trusted now.
const ROOT: &str = "root.json";
/// Trust metadata is public; only writing it is not.
const ROOT_MODE: u32 = 0o644;

/// Why the node has not joined. None contains the token or its secret.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// It has joined before. Nothing was changed.
    #[error("this node is already {node} of {url}; to enrol it elsewhere, stop the agent, remove {dir} and join again")]
    AlreadyJoined {
        /// Its name.
        node: NodeId,
        /// Its coordinator.
        url: String,
        /// What to remove.
        dir: PathBuf,
    },
    /// There is an identity, but it cannot be used.
    #[error("cannot use the identity that is there")]
    ReadIdentity(#[from] IdentityError),
    /// A file cannot be written.
    #[error("cannot write {path}; check who may write there and the free space, then join again with the same token")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No key.
    #[error("cannot make the node's key")]
    MakeKey(#[source] rcgen::Error),
    /// The coordinator cannot be asked.
    #[error(
        "cannot reach the coordinator at {url}; check that it runs and that this node can reach it, then join again"
    )]
    Reach {
        /// Where.
        url: String,
        /// Why.
        source: HttpsError,
    },
    /// Somebody else answers there.
    #[error(
        "the coordinator at {url} is not the one that made this token; check the address, or ask for a new token. \
         Nothing secret was sent"
    )]
    WrongCoordinator {
        /// Where.
        url: String,
    },
    /// Its certificate is no good.
    #[error(
        "the coordinator at {url} shows a certificate that cannot be accepted; if it is said to be expired or not valid yet, look at \
         this node's clock"
    )]
    BadCertificate {
        /// Where.
        url: String,
        /// Why.
        source: HttpsError,
    },
    /// Never made, or withdrawn.
    #[error("the coordinator at {url} does not know this token; make a new one with `orangery node invite`")]
    TokenUnknown {
        /// Where.
        url: String,
    },
    /// Used up.
    #[error("this token has been used already; make a new one with `orangery node invite`")]
    TokenUsed,
    /// Too late.
    #[error("this token has expired; make a new one with `orangery node invite`")]
    TokenExpired,
    /// The name is taken, revoked, reserved, or no name.
    #[error(
        "the coordinator does not give this node a name: {message}; join with --name and another one, or ask for a token with one"
    )]
    NameRefused {
        /// What it says.
        message: String,
    },
    /// Any other refusal.
    #[error("the coordinator at {url} refuses: {message} ({code}){}", next.as_ref().map(|n| format!("; {n}")).unwrap_or_default())]
    Refused {
        /// Where.
        url: String,
        /// Its stable word.
        code: String,
        /// What it says.
        message: String,
        /// What it advises.
        next: Option<String>,
    },
    /// The answer does not hold together.
    #[error("the coordinator at {url} sent {what} that cannot be used: {reason}; nothing was kept")]
    Answer {
        /// Where.
        url: String,
        /// "a certificate", ...
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// The root of trust is not the owner's.
    #[error(
        "the coordinator at {url} sent a root of trust that is not the one of this token; it may have been broken into. \
         Nothing was kept: ask the owner"
    )]
    WrongRoot {
        /// Where.
        url: String,
    },
    /// The node trusts somebody else already.
    #[error(
        "this node trusts the root of another owner ({path}); to hand it over, remove that directory, then join with a \
         new token"
    )]
    OtherOwner {
        /// The root.
        path: PathBuf,
    },
}

/// Joins the coordinator that made `token`: makes a key, has it certified, and writes down whom to believe from now on.
///
/// `name` is a wish; the invite may name the node otherwise. The server is believed only if the CA that the token names by
/// its SHA-256 vouches for it, and before that nothing secret is sent. The root of trust in the answer must be the one that
/// the token names, so that a coordinator cannot bring in an owner of its own.
///
/// Cut anywhere, it may be run again: the key that was made is used again, so that the coordinator can tell that it is the
/// same node asking. Once it has returned, the identity is durable, and joining again is [`JoinError::AlreadyJoined`].
pub async fn join(
    disk: &dyn Disk,
    layout: &Layout,
    token: &Token,
    name: Option<&str>,
    clock: &Arc<Clock>,
) -> Result<Identity, JoinError> {
    let dir = layout.identity();
    if let Some(Identity { node, url, .. }) = super::load(disk, layout)? {
        return Err(JoinError::AlreadyJoined { node, url, dir });
    }
    check_owner(disk, layout, token)?;
    disk::make_dir(disk, &dir, DIR_MODE).map_err(|source| JoinError::Write { path: dir.clone(), source })?;
    let key = make_key(disk, &dir)?;
    let answer = ask(token, name, &key, clock).await?;
    let certificate = check_answer(token, &answer, &key)?;
    keep(disk, layout, token, &answer)?;
    let coordinator = coordinator(token, &answer);
    Ok(Identity::new(coordinator, certificate, key))
}

/// Whether the node trusts an owner.
pub fn trusts(disk: &dyn Disk, layout: &Layout) -> bool {
    disk.exists(&layout.trust().join(ROOT))
}

/// Trusts the owner whose first root this is, if it is the one that the token names: what [`join`] does, from a file instead of
/// from the coordinator. May be repeated.
pub fn trust_first_root(disk: &dyn Disk, layout: &Layout, token: &Token, root: &[u8]) -> Result<(), JoinError> {
    if sha256(root) != token.root {
        return Err(JoinError::WrongRoot { url: token.url.clone() });
    }
    check_owner(disk, layout, token)?;
    let trust = layout.trust();
    disk::make_dir(disk, &trust, DIR_MODE).map_err(|source| JoinError::Write { path: trust.clone(), source })?;
    write(disk, &trust.join(FIRST_ROOT), root, ROOT_MODE)?;
    if trusts(disk, layout) { Ok(()) } else { write(disk, &trust.join(ROOT), root, ROOT_MODE) }
}

/// A node that has trusted an owner goes on to; see [`JoinError::OtherOwner`].
fn check_owner(disk: &dyn Disk, layout: &Layout, token: &Token) -> Result<(), JoinError> {
    let path = layout.trust().join(FIRST_ROOT);
    if !disk.exists(&path) {
        return Ok(());
    }
    let root = disk.read(&path, https::ANSWER_BYTES_MAX);
    let root = root.map_err(|source| IdentityError::Read { path: path.clone(), source })?;
    if sha256(&root) == token.root { Ok(()) } else { Err(JoinError::OtherOwner { path }) }
}

/// The node's key: the one that a join which was cut left here, or a new one, durable before it is used.
fn make_key(disk: &dyn Disk, dir: &Path) -> Result<KeyPair, JoinError> {
    let path = dir.join(KEY);
    if disk.exists(&path) {
        match super::read_key(disk, &path) {
            Ok(key) => return Ok(key),
            // No certificate was ever issued for it that anybody has.
            Err(error) => tracing::warn!(reason = %error, "made a new key in place of one that cannot be used"),
        }
    }
    let key = KeyPair::generate().map_err(JoinError::MakeKey)?;
    write(disk, &path, key.serialize_pem().as_bytes(), FILE_MODE)?;
    Ok(key)
}

async fn ask(token: &Token, name: Option<&str>, key: &KeyPair, clock: &Arc<Clock>) -> Result<JoinResponse, JoinError> {
    let csr_pem = super::signing_request(key, name.unwrap_or("node")).map_err(JoinError::MakeKey)?;
    let request = JoinRequest { secret: token.secret.clone(), name: name.map(ToOwned::to_owned), csr_pem };
    let tls = tls::join_config(token.ca, Arc::clone(clock));
    let answer = https::post(&token.url, tls, "/v1/join", &request, https::PATIENCE).await;
    answer.map_err(|error| explain(error, token))
}

/// Says what the operator has to do next.
fn explain(error: HttpsError, token: &Token) -> JoinError {
    use rustls::CertificateError as Bad;
    let url = token.url.clone();
    if let HttpsError::Refused { body, .. } = error {
        // Should a server repeat what it was sent, it is not repeated here.
        let hide = |text: String| text.replace(&token.secret, "[secret]");
        let (code, message, next) = (hide(body.code), hide(body.message), body.next.map(hide));
        return match code.as_str() {
            "token_unknown" => JoinError::TokenUnknown { url },
            "token_used" => JoinError::TokenUsed,
            "token_expired" => JoinError::TokenExpired,
            "name_taken" | "name_revoked" | "name_reserved" | "name_invalid" => JoinError::NameRefused { message },
            _ => JoinError::Refused { url, code, message, next },
        };
    }
    match error.certificate() {
        Some(Bad::ApplicationVerificationFailure | Bad::UnknownIssuer | Bad::BadSignature) => {
            JoinError::WrongCoordinator { url }
        }
        Some(_) => JoinError::BadCertificate { url, source: error },
        None => JoinError::Reach { url, source: error },
    }
}

/// Nothing is kept unless all of it holds together.
fn check_answer(token: &Token, answer: &JoinResponse, key: &KeyPair) -> Result<NodeCertificate, JoinError> {
    let url = || token.url.clone();
    let unusable = |what, reason: String| JoinError::Answer { url: url(), what, reason };
    let ca = super::certificate(answer.ca_pem.as_bytes()).map_err(|reason| unusable("a CA certificate", reason))?;
    if tls::fingerprint(&ca) != token.ca {
        return Err(JoinError::WrongCoordinator { url: url() });
    }
    if sha256(answer.root.as_bytes()) != token.root {
        return Err(JoinError::WrongRoot { url: url() });
    }
    let own = super::certificate(answer.certificate_pem.as_bytes());
    let own = own.map_err(|reason| unusable("a certificate", reason))?;
    NodeCertificate::new(ca, super::der(key), own).map_err(|error| unusable("a certificate", error.to_string()))
}

fn coordinator(token: &Token, answer: &JoinResponse) -> Coordinator {
    Coordinator { format: FORMAT, node: answer.node.clone(), url: token.url.clone(), mqtt: answer.mqtt.clone() }
}

/// Writes it all, each file durable before the next. The last one makes it count.
fn keep(disk: &dyn Disk, layout: &Layout, token: &Token, answer: &JoinResponse) -> Result<(), JoinError> {
    let (trust, dir) = (layout.trust(), layout.identity());
    disk::make_dir(disk, &trust, DIR_MODE).map_err(|source| JoinError::Write { path: trust.clone(), source })?;
    // A root that is there descends from the first one, which is the token's: see `check_owner`. It is never set back.
    let root = trust.join(ROOT);
    if !disk.exists(&root) {
        write(disk, &root, answer.root.as_bytes(), ROOT_MODE)?;
    }
    write(disk, &trust.join(FIRST_ROOT), answer.root.as_bytes(), ROOT_MODE)?;
    write(disk, &dir.join(CA), answer.ca_pem.as_bytes(), FILE_MODE)?;
    write(disk, &dir.join(CERTIFICATE), answer.certificate_pem.as_bytes(), FILE_MODE)?;
    // Names and texts cannot fail to serialise.
    let coordinator = serde_json::to_vec_pretty(&coordinator(token, answer)).unwrap_or_default();
    write(disk, &dir.join(COORDINATOR), &coordinator, FILE_MODE)
}

fn write(disk: &dyn Disk, path: &Path, bytes: &[u8], mode: u32) -> Result<(), JoinError> {
    disk::replace(disk, path, bytes, mode).map_err(|source| JoinError::Write { path: path.to_owned(), source })
}

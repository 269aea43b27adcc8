//! Renews the node's certificate while it runs.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use orangery_wire::UnixTime;
use orangery_wire::rest::{RenewRequest, RenewResponse};

use super::https::{self, HttpsError};
use super::{CERTIFICATE, FILE_MODE, Identity};
use crate::backoff;
use crate::clock::Clock;
use crate::disk::{self, Disk};
use crate::errors::chain;
use crate::layout::Layout;
use crate::tls;

/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_hours(1);
/// Pauses after a failure double from the first to the longest.
const FIRST_PAUSE: Duration = Duration::from_mins(1);
const LONGEST_PAUSE: Duration = Duration::from_hours(6);

/// Certificates are renewed when a third of their life is left, but not earlier than this before their end: some say that
/// they began long ago, for the sake of boards without a clock.
const LEFT_MAX_SECS: u64 = 30 * 86_400;

/// Why the certificate is still the old one.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// No signing request.
    #[error("cannot ask for a new certificate")]
    MakeRequest(#[source] rcgen::Error),
    /// The coordinator cannot be asked, or says no.
    #[error("cannot get a new certificate from {url}")]
    Ask {
        /// Where.
        url: String,
        /// Why.
        source: HttpsError,
    },
    /// What it sent is no good.
    #[error("the coordinator at {url} sent a certificate that cannot be used: {reason}; the old one stays")]
    Answer {
        /// Where.
        url: String,
        /// Why.
        reason: String,
    },
    /// It cannot be written.
    #[error("cannot write {path}; the old certificate stays")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl Identity {
    /// Whether two thirds of the certificate's life are over. True also when it has none that can be read.
    pub fn renewal_due(&self, now: UnixTime) -> bool {
        let Some(validity) = self.certificate.validity() else { return true };
        let third = validity.not_after.saturating_sub(validity.not_before) / 3;
        now.saturating_add(third.min(LEFT_MAX_SECS)) >= validity.not_after
    }

    /// Has [`keep_fresh`] renew the certificate whatever the clock says: for when somebody would not have it. The node's clock
    /// may be far behind.
    pub fn renew_soon(&self) {
        self.renewal_asked.notify_one();
    }
}

/// Gets a new certificate for the same key with the present one, writes it in its place and shows it from the next
/// handshake on. On an error nothing has changed. May be repeated.
pub async fn renew(
    disk: &Arc<dyn Disk>,
    layout: &Layout,
    identity: &Identity,
    clock: &Arc<Clock>,
) -> Result<(), RenewError> {
    let url = || identity.url.clone();
    let csr_pem = super::signing_request(&identity.key, identity.node.as_str()).map_err(RenewError::MakeRequest)?;
    let config = tls::client_config(identity, Arc::clone(clock));
    let answer = https::post(&identity.url, config, "/v1/renew", &RenewRequest { csr_pem }, https::PATIENCE).await;
    let RenewResponse { certificate_pem } = answer.map_err(|source| RenewError::Ask { url: url(), source })?;
    let new = super::certificate(certificate_pem.as_bytes());
    let new = new.map_err(|reason| RenewError::Answer { url: url(), reason })?;
    let unusable = |error: rustls::Error| RenewError::Answer { url: url(), reason: error.to_string() };
    identity.certificate.check(new.clone()).map_err(unusable)?;

    let (disk, path) = (Arc::clone(disk), layout.identity().join(CERTIFICATE));
    let writing = {
        let path = path.clone();
        move || disk::replace(&*disk, &path, certificate_pem.as_bytes(), FILE_MODE)
    };
    let written = tokio::task::spawn_blocking(writing).await.unwrap_or_else(|panic| Err(panic.into()));
    written.map_err(|source| RenewError::Write { path, source })?;
    identity.certificate.replace(new).map_err(unusable)
}

/// Renews the certificate whenever it is due or asked for, for ever. Failures are tried again, with growing pauses.
pub async fn keep_fresh(disk: &Arc<dyn Disk>, layout: &Layout, identity: &Identity, clock: &Arc<Clock>) {
    let mut asked = false;
    let mut failures = 0_u32;
    loop {
        if !asked && !identity.renewal_due(clock.now()) {
            asked = tokio::time::timeout(LOOK_EVERY, identity.renewal_asked.notified()).await.is_ok();
            continue;
        }
        asked = false;
        failures = attempt(disk, layout, identity, clock, failures).await;
        // Not even a broker that refuses every certificate has them renewed all the time.
        let pause = match failures {
            0 => LOOK_EVERY,
            _ => backoff::delay(failures, FIRST_PAUSE, LONGEST_PAUSE, backoff::random()),
        };
        tokio::time::sleep(pause).await;
    }
}

/// One attempt; returns how many have failed in a row.
async fn attempt(disk: &Arc<dyn Disk>, layout: &Layout, identity: &Identity, clock: &Arc<Clock>, failures: u32) -> u32 {
    match renew(disk, layout, identity, clock).await {
        Ok(()) => {
            tracing::info!(node = %identity.node, "renewed the node's certificate");
            0
        }
        Err(error) => {
            tracing::warn!(node = %identity.node, reason = chain(&error), "cannot renew the certificate; will try again");
            failures.saturating_add(1)
        }
    }
}

//! Where metadata is asked for.

use std::future::Future;

use crate::fetch::{FetchError, Http};

/// A place that serves metadata, by whatever road it got there. Nothing it says is believed.
pub trait Source: Sync {
    /// The whole of the metadata file `file`, such as `2.root.json`; `None` if there is none. A file of more than
    /// `length_max` bytes is an error, and is not read further. May be repeated freely.
    fn metadata(&self, file: &str, length_max: u64)
    -> impl Future<Output = Result<Option<Vec<u8>>, FetchError>> + Send;
}

/// The coordinator.
impl Source for Http {
    async fn metadata(&self, file: &str, length_max: u64) -> Result<Option<Vec<u8>>, FetchError> {
        self.get(&format!("/metadata/{file}"), length_max).await
    }
}

//! A download that goes on where it stopped.
//!
//! Each *go* is one request: for the whole file, or for the rest of what a part file already holds. Whatever a go brings
//! is appended and hashed. In the end the digest decides, and a wrong one is held against the release only if one single
//! answer was wrong from its first byte to its last. Otherwise the pieces are dropped and the next go begins at zero.

use std::fs::File;
use std::path::Path;

use hyper::body::Incoming;
use hyper::header::{CONTENT_RANGE, ETAG, HeaderMap, TRANSFER_ENCODING};
use hyper::{Response, StatusCode, Uri};
use orangery_wire::Digest;

use super::part::Sink;
use super::{Body, FetchError, Http, Wanted, content_length};

/// One download: what is asked for and what is here.
struct Download<'a> {
    http: &'a Http,
    url: Uri,
    digest: &'a Digest,
    size_bytes: u64,
    sink: Sink,
    /// The file's entity tag, as far as known: the digest, by which the coordinator tags, or what the last answer said.
    tag: String,
    /// Whether what is here came in one answer, from the first byte to the end that the server meant.
    whole: bool,
    goes_left: u32,
}

impl Http {
    /// Downloads an artifact of exactly `size_bytes` into the file `part` and returns that file, verified against
    /// `digest` and at its beginning. What `part` already holds is used.
    ///
    /// After an error for which [`FetchError::again`] is true the part is kept, and the same call goes on from there; after
    /// any other it is removed. The directory of `part` must exist. A future that is dropped loses at most the last
    /// half megabyte; while another download into `part` is under way the call fails with [`FetchError::Busy`].
    pub async fn download(
        &self,
        path: &str,
        digest: &Digest,
        size_bytes: u64,
        part: &Path,
    ) -> Result<File, FetchError> {
        let url = self.url(path)?;
        let sink = Sink::open(part, size_bytes).await?;
        tracing::debug!(%url, size_bytes, held_bytes = sink.len(), "download begins");
        let mut download = Download {
            http: self,
            url,
            digest,
            size_bytes,
            sink,
            tag: format!("\"{digest}\""),
            // Nothing can be wrong with a file of no bytes but what was signed.
            whole: size_bytes == 0,
            goes_left: self.patience.resumes_max,
        };
        match download.run().await {
            Ok(()) => download.sink.into_file().await,
            Err(error) => {
                if error.again() {
                    download.sink.settle().await?;
                } else if let Err(left) = download.sink.delete().await {
                    tracing::debug!(error = %left, "a refused download was left behind");
                }
                Err(error)
            }
        }
    }
}

impl Download<'_> {
    /// Goes until the file is complete and right.
    async fn run(&mut self) -> Result<(), FetchError> {
        loop {
            if self.sink.len() == self.size_bytes {
                match self.verify().await {
                    Err(error @ FetchError::Mixed { .. }) => self.begin_anew(error).await?,
                    verdict => return verdict,
                }
            }
            let before = self.sink.len();
            match self.go().await {
                Ok(()) => {}
                Err(error @ FetchError::Range { .. }) => self.begin_anew(error).await?,
                Err(error) => self.take_up(before, error)?,
            }
        }
    }

    async fn verify(&mut self) -> Result<(), FetchError> {
        let got = self.sink.digest().await?;
        let url = || self.url.to_string();
        match (got == *self.digest, self.whole) {
            (true, _) => Ok(()),
            (false, true) => Err(FetchError::WrongDigest { url: url(), got }),
            (false, false) => Err(FetchError::Mixed { url: url() }),
        }
    }

    /// Drops what is here, so that the next go asks for all of it; gives up after too many.
    async fn begin_anew(&mut self, why: FetchError) -> Result<(), FetchError> {
        tracing::debug!(url = %self.url, reason = %why, "download begins anew");
        self.sink.empty().await?;
        self.spend(why)
    }

    /// Goes on after an interruption, unless it brought too little for it to be worth another request at once.
    fn take_up(&mut self, before: u64, why: FetchError) -> Result<(), FetchError> {
        let brought = self.sink.len().saturating_sub(before);
        let complete = self.sink.len() == self.size_bytes;
        if !why.again() || !(complete || brought >= self.http.patience.stall_bytes) {
            return Err(why);
        }
        tracing::debug!(url = %self.url, reason = %why, held_bytes = self.sink.len(), "download is taken up again");
        self.spend(why)
    }

    fn spend(&mut self, why: FetchError) -> Result<(), FetchError> {
        self.goes_left = self.goes_left.checked_sub(1).ok_or(why)?;
        Ok(())
    }

    /// One request. `Ok` means that all bytes are here.
    async fn go(&mut self) -> Result<(), FetchError> {
        let offset = self.sink.len();
        let wanted = if offset == 0 { Wanted::All } else { Wanted::Rest(offset, &self.tag) };
        let response = self.http.ask(&self.url, wanted).await?;
        let all = response.status() == StatusCode::OK;
        if all {
            self.accept_all(&response).await?;
        } else {
            self.accept_rest(&response, offset)?;
        }
        if let Some(tag) = strong_tag(response.headers()) {
            tag.clone_into(&mut self.tag);
        }
        let framed = is_framed(response.headers());
        self.pour(response, all).await?;
        let (url, got, size_bytes) = (self.url.to_string(), self.sink.len(), self.size_bytes);
        match (got == size_bytes, all && framed) {
            (true, _) => self.whole = all,
            (false, true) => return Err(FetchError::WrongSize { url, got, size_bytes }),
            (false, false) => return Err(FetchError::Short { url, got, size_bytes }),
        }
        Ok(())
    }

    /// A whole file: it replaces what is here, and must have the right size if it says one.
    async fn accept_all(&mut self, response: &Response<Incoming>) -> Result<(), FetchError> {
        if let Some(got) = content_length(response.headers()).filter(|&got| got != self.size_bytes) {
            return Err(FetchError::WrongSize { url: self.url.to_string(), got, size_bytes: self.size_bytes });
        }
        if self.sink.len() > 0 {
            self.sink.empty().await?;
        }
        Ok(())
    }

    /// The rest of a file: it must be exactly the rest that was asked for (RFC 9110 section 14.4).
    fn accept_rest(&self, response: &Response<Incoming>, offset: u64) -> Result<(), FetchError> {
        let range = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok()).unwrap_or("none");
        let right = offset > 0 && range == format!("bytes {offset}-{}/{}", self.size_bytes - 1, self.size_bytes);
        if right { Ok(()) } else { Err(FetchError::Range { url: self.url.to_string(), got: range.to_owned() }) }
    }

    async fn pour(&mut self, response: Response<Incoming>, all: bool) -> Result<(), FetchError> {
        let url = self.url.clone();
        let mut body = Body::new(response, &url, &self.http.patience);
        while let Some(piece) = body.next().await? {
            if self.sink.len() + piece.len() as u64 > self.size_bytes {
                let url = url.to_string();
                if all {
                    return Err(FetchError::TooLong { url, bytes_max: self.size_bytes });
                }
                return Err(FetchError::Range { url, got: "more bytes than it announced".to_owned() });
            }
            self.sink.push(piece).await?;
        }
        Ok(())
    }
}

/// Whether the end of the body is the end that the server meant. Without framing a cut looks the same
/// (RFC 9112 section 6.3, rule 8).
fn is_framed(headers: &HeaderMap) -> bool {
    content_length(headers).is_some() || headers.contains_key(TRANSFER_ENCODING)
}

/// An entity tag that stands for the very bytes (RFC 9110 section 8.8.1); only such a one may be in `If-Range`.
fn strong_tag(headers: &HeaderMap) -> Option<&str> {
    headers.get(ETAG)?.to_str().ok().filter(|tag| tag.starts_with('"') && tag.len() <= 256)
}

//! Requests that change something: done once, however often their answers are lost on the way.

use std::time::Duration;

use bytes::Bytes;
use reqwest::{Method, RequestBuilder};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Client, ClientError, understand};

/// Pauses before a request is sent again. The coordinator knows its key for a day; one that crashed meanwhile does not.
const PAUSES: [Duration; 4] =
    [Duration::from_millis(100), Duration::from_millis(400), Duration::from_secs(1), Duration::from_secs(2)];

impl Client {
    /// `POST path` with a JSON body. If the answer is lost the request is sent again under the same `Idempotency-Key`, so it is
    /// done once.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &(impl Serialize + Sync),
    ) -> Result<T, ClientError> {
        let answer = self.deed(path, |request| request.json(body)).await?;
        understand(&Method::POST, path, &answer)
    }

    /// The same; whatever the answer says is not looked at.
    pub async fn post_unanswered(&self, path: &str, body: &(impl Serialize + Sync)) -> Result<(), ClientError> {
        self.deed(path, |request| request.json(body)).await.map(drop)
    }

    /// The same without a body.
    pub async fn post_bare(&self, path: &str) -> Result<(), ClientError> {
        self.deed(path, |request| request).await.map(drop)
    }

    async fn deed(&self, path: &str, build: impl Fn(RequestBuilder) -> RequestBuilder) -> Result<Bytes, ClientError> {
        let key = key();
        let keyed = |request| {
            let request = build(request);
            key.iter().fold(request, |request, key| request.header("Idempotency-Key", key))
        };
        let mut pauses = PAUSES.iter();
        let mut lost = None;
        loop {
            let error = match self.answer(Method::POST, path, keyed).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            // Nobody was reached by the first: then nothing was done, and whoever asks may as well hear so at once.
            let goes_on = key.is_some() && (may_be_done(&error) || lost.is_some() && error.is_silence());
            let Some(pause) = pauses.next().filter(|_| goes_on) else {
                // The first tells more than that there is silence now.
                return Err(lost.filter(|_| error.is_silence()).unwrap_or(error));
            };
            tracing::info!(path, reason = %error, "the answer was lost; asking for it again");
            lost.get_or_insert(error);
            tokio::time::sleep(*pause).await;
        }
    }
}

/// 128 random bits in hexadecimal; without random numbers a request has no key, and is not sent again.
fn key() -> Option<String> {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(format!("{:032x}", u128::from_be_bytes(bytes)))
}

fn may_be_done(error: &ClientError) -> bool {
    matches!(error, ClientError::Lost { .. }) || error.code() == Some("request_under_way")
}

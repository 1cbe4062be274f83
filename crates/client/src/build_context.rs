//! Build contexts at the server: asks whether one is there, and brings it (`compose.md` §11).

use remuda_model::build_context;
use reqwest::{Body, Method, StatusCode};

use crate::engine::Upload;
use crate::error::{Error, Subject};
use crate::http::Client;

/// What the server says of a context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    Yes,
    /// And how many bytes it would take, if it says so.
    No {
        max_bytes: Option<u64>,
    },
}

impl Client {
    /// Whether the server keeps the context of that hash for this environment.
    pub async fn build_context_kept(&self, hash: &str) -> Result<Kept, Error> {
        let answer = self.ask(Method::HEAD, &self.build_context_url(hash)).await?;
        match answer.status() {
            StatusCode::NOT_FOUND => {
                let limit = answer.headers().get("x-build-context-max-bytes").and_then(|limit| limit.to_str().ok());
                Ok(Kept::No { max_bytes: limit.and_then(|limit| limit.parse().ok()) })
            }
            status if status.is_success() => Ok(Kept::Yes),
            // The body of the same question says more than a status.
            _ => self.get(&self.build_context_url(hash)).await.map(|_| Kept::Yes),
        }
    }

    /// Sends the context of that hash; `name` is what messages call it.
    pub async fn build_context_put(&self, hash: &str, name: &str, pieces: Upload) -> Result<(), Error> {
        let url = self.build_context_url(hash);
        let sent = self.send_body(Method::PUT, &url, "application/x-tar", Body::wrap(pieces)).await;
        sent.map(drop).map_err(|error| error.concerning(Subject::new_in("build context", name)))
    }

    fn build_context_url(&self, hash: &str) -> String {
        format!("{}{}", self.base(), build_context::reference(hash).trim_start_matches("/v1"))
    }
}

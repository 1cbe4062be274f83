//! Files from the server, build contexts and secrets: plain HTTP with the agent's key, beside its one connection, which a
//! context of two gigabytes would keep busy.

use std::time::Duration;

use futures_util::StreamExt;
use serde_json::Value;

use crate::engine::Tar;
use crate::state_dir::Keys;

const CONNECT_LIMIT: Duration = Duration::from_secs(20);
/// Nothing for that long: the download is dead.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);

/// What is at that path, as it arrives; the error is a sentence about the server.
pub async fn get(keys: &Keys, path: &str) -> Result<Tar, String> {
    let http = reqwest::Client::builder().connect_timeout(CONNECT_LIMIT).read_timeout(SILENCE_LIMIT).build();
    let http = http.map_err(|error| format!("cannot make an HTTP client: {error}"))?;
    let asked = http.get(url(&keys.url, path)).basic_auth(&keys.access_key, Some(&keys.secret_key)).send().await;
    let answer = asked.map_err(|error| format!("the server does not answer: {}", chain(&error)))?;
    let status = answer.status();
    if status.is_success() {
        return Ok(answer.bytes_stream().map(|piece| piece.map_err(std::io::Error::other)).boxed());
    }
    let said: Value = answer.json().await.unwrap_or_default();
    let said = said["message"].as_str().or_else(|| said["detail"].as_str()).unwrap_or("it says no more");
    Err(format!("the server refuses (HTTP {}): {said}", status.as_u16()))
}

/// `http://h:8080/v1` and `/v1/x` make `http://h:8080/v1/x`; a prefix stays.
fn url(base: &str, path: &str) -> String {
    let base = base.trim_end_matches('/');
    format!("{}{path}", base.strip_suffix("/v1").unwrap_or(base))
}

/// An error and what is behind it: the outer one alone says "error sending request".
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_asked_of_the_agents_own_server() {
        assert_eq!(url("https://h/prefix/v1/", "/v1/x/1"), "https://h/prefix/v1/x/1");
        assert_eq!(url("http://h:8080", "/v1/x/1"), "http://h:8080/v1/x/1");
    }
}

//! How a host becomes known: a token once, keys from then on (`resources-infra.md` §1.3).

use std::time::Duration;

use remuda_runtime::Clock;
use serde::Deserialize;
use serde_json::json;

use crate::state_dir::Keys;
use crate::tls;

/// User name that goes with a registration token.
const TOKEN_USER: &str = "registrationToken";
const REQUEST_LIMIT: Duration = Duration::from_secs(30);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot make an HTTP client")]
    Client(#[source] reqwest::Error),
    #[error("the server refuses the registration token (HTTP {status}); make a new one (`remuda host add`)")]
    Token { status: u16 },
    #[error("the server refuses the registration: {message}")]
    Refused { message: String },
}

/// What the server knows under our register key.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Register {
    state: String,
    access_key: Option<String>,
    secret_key: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Collection {
    data: Vec<Register>,
}

/// What one request gave.
enum Step {
    Keys(Keys),
    /// Nothing known under the key: to be posted.
    Unknown,
    /// Being made.
    Wait,
}

/// Asks, registers, and asks again until the keys are there. A server that cannot be reached is waited for.
pub async fn register(clock: &Clock, url: &str, token: &str, register_key: &str) -> Result<Keys, Error> {
    tls::provider_choose();
    let client = reqwest::Client::builder().timeout(REQUEST_LIMIT).build().map_err(Error::Client)?;
    let base = url.trim_end_matches('/');
    let base = base.strip_suffix("/v1").unwrap_or(base);
    let resource = format!("{base}/v1/register");
    let mut pause = FIRST_PAUSE;
    loop {
        // Our own key: a uuid, so nothing in it needs escaping.
        let found = client.get(format!("{resource}?key={register_key}")).basic_auth(TOKEN_USER, Some(token)).send();
        let step = match read(base, found.await).await? {
            Some(Step::Unknown) => {
                let body = json!({ "type": "register", "key": register_key });
                let posted = client.post(&resource).basic_auth(TOKEN_USER, Some(token)).json(&body).send().await;
                // The answer shows no keys; the next look does.
                match posted {
                    Ok(answer) => check(answer).await?.map(|_| Step::Wait),
                    Err(error) => {
                        unreachable(&error);
                        None
                    }
                }
            }
            other => other,
        };
        match step {
            Some(Step::Keys(keys)) => return Ok(keys),
            Some(_) => {}
            None => pause = (pause * 2).min(LONGEST_PAUSE),
        }
        clock.sleep(pause).await;
    }
}

fn unreachable(error: &reqwest::Error) {
    tracing::warn!(%error, "the server cannot be reached yet");
}

/// `None`: ask again later.
async fn read(base: &str, answer: Result<reqwest::Response, reqwest::Error>) -> Result<Option<Step>, Error> {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => {
            unreachable(&error);
            return Ok(None);
        }
    };
    let Some(answer) = check(answer).await? else { return Ok(None) };
    let collection: Collection = match answer.json().await {
        Ok(collection) => collection,
        Err(error) => {
            unreachable(&error);
            return Ok(None);
        }
    };
    Ok(Some(step(base, collection)))
}

/// Refusals are final, faults of the server are not.
async fn check(answer: reqwest::Response) -> Result<Option<reqwest::Response>, Error> {
    let status = answer.status();
    if status.is_success() {
        return Ok(Some(answer));
    }
    if status.as_u16() == 401 || status.as_u16() == 403 || status.as_u16() == 404 {
        return Err(Error::Token { status: status.as_u16() });
    }
    if status.is_client_error() && status.as_u16() != 409 && status.as_u16() != 429 {
        let text = answer.text().await.unwrap_or_default();
        return Err(Error::Refused { message: format!("HTTP {} {text}", status.as_u16()) });
    }
    tracing::warn!(status = status.as_u16(), "the server cannot register this host yet");
    Ok(None)
}

fn step(base: &str, collection: Collection) -> Step {
    let Some(register) = collection.data.into_iter().find(|register| register.state != "removed") else {
        return Step::Unknown;
    };
    match (register.access_key, register.secret_key) {
        (Some(access_key), Some(secret_key)) if register.state == "active" => {
            Step::Keys(Keys { url: base.to_owned(), access_key, secret_key })
        }
        _ => Step::Wait,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_says_what_comes_next() {
        let check = |json: serde_json::Value, expected: &str| {
            let collection = serde_json::from_value(json).expect("a collection");
            let word = match step("http://h", collection) {
                Step::Keys(keys) => format!("keys {} {}", keys.url, keys.access_key),
                Step::Unknown => "unknown".to_owned(),
                Step::Wait => "wait".to_owned(),
            };
            assert_eq!(word, expected);
        };
        check(json!({ "data": [] }), "unknown");
        check(json!({ "data": [{ "state": "registering", "accessKey": null }] }), "wait");
        check(json!({ "data": [{ "state": "active", "accessKey": "a", "secretKey": "s" }] }), "keys http://h a");
        check(json!({ "data": [{ "state": "removed", "accessKey": "a", "secretKey": "s" }] }), "unknown");
    }
}

//! Requests: where the API is, who we are, and one function per verb.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, StatusCode, Url};
use serde_json::{Value, json};

use crate::error::{ApiAnswer, Error, Subject};
use crate::events::Feed;
use crate::resource::Resource;

/// How to reach a server. `Debug` shows no secret.
#[derive(Clone, Default)]
pub struct Config {
    /// Root, `/v1` or a project's URL; a path prefix is kept.
    pub url: String,
    pub access_key: Option<String>,
    pub secret_key: Option<String>,
    /// Id or name of the environment (API type `project`) to work in.
    pub environment: Option<String>,
    /// PEM of an authority to trust besides the system's.
    pub ca: Option<Vec<u8>>,
    /// Accepts any certificate. By hand only.
    pub insecure: bool,
    /// Every request is told here: method, URL without query values, status.
    pub trace: Option<fn(&str)>,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("url", &self.url)
            .field("access_key", &self.access_key)
            .field("environment", &self.environment)
            .finish_non_exhaustive()
    }
}

const CONNECT_WITHIN: Duration = Duration::from_secs(5);
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Reads that may be repeated when the connection broke or a proxy had no server.
const READ_TRIES: u32 = 4;
const PAGE: &str = "1000";

/// A connection to one environment of one server. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    config: Config,
    /// `…/v1` without trailing slash.
    root: String,
    /// `root`, or `root/projects/<id>`.
    base: String,
    /// The one subscription behind all waits.
    feed: Arc<Feed>,
}

impl Client {
    /// Finds the API at the URL, checks the keys, and enters the environment.
    pub async fn connect(config: Config) -> Result<Client, Error> {
        // Whoever comes first decides; both are the same provider.
        drop(rustls::crypto::ring::default_provider().install_default());
        let (root, scoped) = api_root(&config.url)?;
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT_WITHIN)
            .user_agent(concat!("remuda/", env!("CARGO_PKG_VERSION")))
            .tls_danger_accept_invalid_certs(config.insecure);
        if let Some(pem) = &config.ca {
            let authority = reqwest::Certificate::from_pem(pem).map_err(|error| Error::Tls(error.to_string()))?;
            builder = builder.tls_certs_merge([authority]);
        }
        let http = builder.build().map_err(|error| Error::Tls(error.to_string()))?;
        let mut client = Client { http, base: root.clone(), root, config, feed: Arc::default() };
        client.probe().await?;
        if let Some(project) = scoped.or(client.config.environment.clone()) {
            client.enter(&project).await?;
        }
        Ok(client)
    }

    /// URL of the API without environment.
    pub fn root(&self) -> &str {
        &self.root
    }

    /// URL everything is relative to: the API, or one environment of it.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Id of the environment we are in, if any was chosen.
    pub fn environment(&self) -> Option<&str> {
        self.base.strip_prefix(&self.root)?.strip_prefix("/projects/")
    }

    pub fn access_key(&self) -> Option<&str> {
        self.config.access_key.as_deref()
    }

    pub(crate) fn credentials(&self) -> Option<(&str, &str)> {
        Some((self.config.access_key.as_deref()?, self.config.secret_key.as_deref()?))
    }

    async fn probe(&self) -> Result<(), Error> {
        let answer = self.send(Method::GET, &self.root, None).await?;
        if answer.status() == StatusCode::UNAUTHORIZED {
            return Err(Error::Rejected { key: self.config.access_key.clone() });
        }
        match answer.headers().get("x-api-schemas") {
            Some(_) => Ok(()),
            None => Err(Error::NotAnApi { url: self.root.clone() }),
        }
    }

    /// Works in that environment from now on; by id or name.
    pub async fn enter(&mut self, environment: &str) -> Result<(), Error> {
        let projects = self.list_at(&format!("{}/projects", self.root), &[]).await?;
        let by_id = projects.iter().find(|project| project.id() == environment);
        let found = by_id.or_else(|| projects.iter().find(|project| project.name() == environment));
        let Some(project) = found else {
            let names: Vec<String> =
                projects.iter().map(|project| format!("{} ({})", project.name(), project.id())).collect();
            return Err(Error::NoEnvironment(environment.to_owned(), names.join(", ")));
        };
        self.enter_project(project);
        Ok(())
    }

    /// The same, for one that was read already.
    pub fn enter_project(&mut self, project: &Resource) {
        self.base = format!("{}/projects/{}", self.root, project.id());
        self.feed = Arc::default();
    }

    /// All resources of a collection, page by page. `collection` is a type or plural name.
    pub async fn list(&self, collection: &str, filters: &[(&str, &str)]) -> Result<Vec<Resource>, Error> {
        self.list_at(&format!("{}/{collection}", self.base), filters).await
    }

    /// All resources of a collection URL.
    pub async fn list_at(&self, url: &str, filters: &[(&str, &str)]) -> Result<Vec<Resource>, Error> {
        let mut url = parse(url)?;
        {
            let mut query = url.query_pairs_mut();
            query.extend_pairs(filters);
            if !filters.iter().any(|(name, _)| *name == "limit") {
                query.append_pair("limit", PAGE);
            }
        }
        let mut all = Vec::new();
        let mut next = Some(url.to_string());
        while let Some(url) = next {
            let page = self.get(&url).await?;
            let Some(data) = page.get("data").and_then(Value::as_array) else {
                return Err(Error::Garbled { url, reason: "a collection has no `data`".to_owned() });
            };
            all.extend(data.iter().cloned().map(Resource));
            next = page.pointer("/pagination/next").and_then(Value::as_str).map(str::to_owned);
        }
        Ok(all)
    }

    /// The first resource that matches.
    pub async fn find(&self, collection: &str, filters: &[(&str, &str)]) -> Result<Option<Resource>, Error> {
        Ok(self.list(collection, filters).await?.into_iter().next())
    }

    /// One resource; `None` when it is not there.
    pub async fn by_id(&self, collection: &str, id: &str) -> Result<Option<Resource>, Error> {
        match self.get(&format!("{}/{collection}/{}", self.base, encode(id))).await {
            Ok(value) => Ok(Some(Resource(value))),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub async fn create(&self, collection: &str, body: &Value) -> Result<Resource, Error> {
        let made = self.write(Method::POST, &format!("{}/{collection}", self.base), body).await;
        let name = body.get("name").and_then(Value::as_str).unwrap_or_default();
        made.map(Resource).map_err(|error| error.concerning(Subject::new_in(collection, name)))
    }

    pub async fn update(&self, resource: &Resource, body: &Value) -> Result<Resource, Error> {
        let answer = self.write(Method::PUT, self.own_url(resource)?, body).await;
        answer.map(Resource).map_err(|error| error.concerning(resource.into()))
    }

    pub async fn delete(&self, resource: &Resource) -> Result<Resource, Error> {
        let answer = self.write(Method::DELETE, self.own_url(resource)?, &Value::Null).await;
        answer.map(Resource).map_err(|error| error.concerning(resource.into()))
    }

    /// The resource as it is now.
    pub async fn reload(&self, resource: &Resource) -> Result<Resource, Error> {
        let answer = self.get(self.own_url(resource)?).await;
        answer.map(Resource).map_err(|error| error.concerning(resource.into()))
    }

    /// Posts an action the resource offers; the answer is the action's output.
    pub async fn action(&self, resource: &Resource, action: &str, input: &Value) -> Result<Resource, Error> {
        let Some(url) = resource.action(action) else {
            return Err(Error::ActionMissing {
                what: resource.into(),
                action: action.to_owned(),
                state: resource.state().to_owned(),
                allowed: resource.actions().join(", "),
            });
        };
        let answer = self.write(Method::POST, url, input).await;
        answer.map(Resource).map_err(|error| error.concerning(resource.into()))
    }

    /// What a link leads to: a resource, or the members of a collection.
    pub async fn follow(&self, resource: &Resource, link: &str) -> Result<Vec<Resource>, Error> {
        let value = self.get(self.link_url(resource, link)?).await?;
        match value.get("data").and_then(Value::as_array) {
            Some(data) => Ok(data.iter().cloned().map(Resource).collect()),
            None => Ok(vec![Resource(value)]),
        }
    }

    pub(crate) fn link_url<'a>(&self, resource: &'a Resource, link: &str) -> Result<&'a str, Error> {
        resource.link(link).ok_or_else(|| Error::LinkMissing { what: resource.into(), link: link.to_owned() })
    }

    fn own_url<'a>(&self, resource: &'a Resource) -> Result<&'a str, Error> {
        self.link_url(resource, "self")
    }

    /// JSON at a URL (absolute, or relative to the environment).
    pub async fn get(&self, url: &str) -> Result<Value, Error> {
        self.read(Method::GET, &self.absolute(url), None).await
    }

    /// Any request; `url` absolute, or relative to the environment.
    pub async fn write(&self, method: Method, url: &str, body: &Value) -> Result<Value, Error> {
        let body = if body.is_null() { json!({}) } else { body.clone() };
        self.read(method, &self.absolute(url), Some(&body)).await
    }

    /// A raw call: method, URL and body as given; status and text as answered, whatever they are.
    pub async fn raw(&self, method: Method, url: &str, body: Option<&Value>) -> Result<(u16, String), Error> {
        let url = self.absolute(url);
        let answer = self.send(method, &url, body).await?;
        let status = answer.status().as_u16();
        let text = answer.text().await.map_err(|error| unreachable(&url, error))?;
        Ok((status, text))
    }

    /// A page outside the API, like `/ping`: status and text.
    pub async fn outside(&self, path: &str) -> Result<(u16, String), Error> {
        let root = self.root.strip_suffix("/v1").unwrap_or(&self.root);
        self.raw(Method::GET, &format!("{root}{path}"), None).await
    }

    /// The clock of the server, as the text of its `Date` header.
    pub async fn date(&self) -> Result<Option<String>, Error> {
        let answer = self.send(Method::GET, &self.root, None).await?;
        Ok(answer.headers().get("date").and_then(|date| date.to_str().ok()).map(str::to_owned))
    }

    /// The changes of the environment, shared by everybody who waits.
    pub fn feed(&self) -> &Feed {
        &self.feed
    }

    fn absolute(&self, url: &str) -> String {
        if url.starts_with("http://") || url.starts_with("https://") {
            url.to_owned()
        } else {
            format!("{}/{}", self.base, url.trim_start_matches('/'))
        }
    }

    async fn read(&self, method: Method, url: &str, body: Option<&Value>) -> Result<Value, Error> {
        let answer = self.send(method.clone(), url, body).await?;
        self.understood(&method, url, answer).await
    }

    /// A body that is no JSON, however long it takes.
    pub(crate) async fn send_body(
        &self,
        method: Method,
        url: &str,
        content_type: &'static str,
        body: reqwest::Body,
    ) -> Result<Value, Error> {
        let mut request = self.http.request(method.clone(), parse(url)?).header(CONTENT_TYPE, content_type).body(body);
        if let Some((key, secret)) = self.credentials() {
            request = request.basic_auth(key, Some(secret));
        }
        let answer = request.send().await.map_err(|error| unreachable(url, error))?;
        self.understood(&method, url, answer).await
    }

    /// A request without body, as it is answered.
    pub(crate) async fn ask(&self, method: Method, url: &str) -> Result<reqwest::Response, Error> {
        self.send(method, url, None).await
    }

    async fn understood(&self, method: &Method, url: &str, answer: reqwest::Response) -> Result<Value, Error> {
        let status = answer.status();
        let text = answer.text().await.map_err(|error| unreachable(url, error))?;
        let parsed: Option<Value> = serde_json::from_str(&text).ok();
        if status.is_success() {
            return match parsed {
                Some(value) => Ok(value),
                None if text.is_empty() => Ok(Value::Null),
                None => Err(Error::Garbled { url: url.to_owned(), reason: "the body is not JSON".to_owned() }),
            };
        }
        if status == StatusCode::UNAUTHORIZED {
            return Err(Error::Rejected { key: self.config.access_key.clone() });
        }
        let body = parsed.unwrap_or(Value::Null);
        let field = |name: &str| body.get(name).and_then(Value::as_str).map(str::to_owned);
        let path = parse(url).map_or_else(|_| url.to_owned(), |url| url.path().to_owned());
        Err(Error::Api(Box::new(ApiAnswer {
            status: status.as_u16(),
            code: field("code").unwrap_or_else(|| status.to_string()),
            field: field("fieldName"),
            message: field("message"),
            detail: field("detail"),
            request: format!("{method} {path}"),
            about: None,
            body,
        })))
    }

    /// Sends once, or for reads a few times while nothing useful answers.
    async fn send(&self, method: Method, url: &str, body: Option<&Value>) -> Result<reqwest::Response, Error> {
        let tries = if method == Method::GET { READ_TRIES } else { 1 };
        let mut pause = Duration::from_millis(100);
        let mut attempt = 1;
        loop {
            let mut request = self.http.request(method.clone(), parse(url)?).timeout(ANSWER_WITHIN);
            request = request.header(ACCEPT, HeaderValue::from_static("application/json"));
            if let Some((key, secret)) = self.credentials() {
                request = request.basic_auth(key, Some(secret));
            }
            if let Some(body) = body {
                request = request.json(body);
            }
            let outcome = request.send().await;
            if let Some(trace) = self.config.trace {
                let shown = url.split('?').next().unwrap_or_default();
                let status =
                    outcome.as_ref().map_or_else(|_| "no answer".to_owned(), |answer| answer.status().to_string());
                trace(&format!("{method} {shown}: {status}"));
            }
            let again = match &outcome {
                Ok(answer) => matches!(answer.status().as_u16(), 502..=504),
                Err(error) => !error.is_timeout() && !error.is_builder(),
            };
            if !again || attempt >= tries {
                return outcome.map_err(|error| unreachable(url, error));
            }
            attempt += 1;
            tokio::time::sleep(pause).await;
            pause *= 3;
        }
    }
}

fn unreachable(url: &str, error: reqwest::Error) -> Error {
    let shown = parse(url).map_or_else(|_| url.to_owned(), |url| url.origin().ascii_serialization());
    Error::Unreachable { url: shown, source: Box::new(error.without_url()) }
}

fn parse(url: &str) -> Result<Url, Error> {
    Url::parse(url).map_err(|_| Error::BadUrl(url.to_owned()))
}

/// Escapes what an id given by a person may hold and a path may not.
fn encode(id: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'!' | b':');
    id.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// The `/v1` root of a URL people give, and the project it names, if it is one of a project.
fn api_root(text: &str) -> Result<(String, Option<String>), Error> {
    let text = text.trim();
    let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url = parse(&with_scheme).map_err(|_| Error::BadUrl(text.to_owned()))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(Error::BadUrl(text.to_owned()));
    }
    let segments: Vec<&str> = url.path().split('/').filter(|segment| !segment.is_empty()).collect();
    let version = segments.iter().position(|segment| *segment == "v1" || *segment == "v2-beta");
    let (prefix, rest) = match version {
        Some(at) => (&segments[..at], &segments[at + 1..]),
        None => (&segments[..], &[][..]),
    };
    let project = match rest {
        ["projects", id, ..] => Some((*id).to_owned()),
        _ => None,
    };
    let prefix: String = prefix.iter().map(|segment| format!("/{segment}")).collect();
    Ok((format!("{}{prefix}/v1", url.origin().ascii_serialization()), project))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_give_many_urls() {
        let cases = [
            ("http://h:8080", "http://h:8080/v1", None),
            ("h:8080", "http://h:8080/v1", None),
            ("https://h/v1/", "https://h/v1", None),
            ("https://h/v2-beta", "https://h/v1", None),
            ("https://h/rancher/v1/projects/1a5/schemas", "https://h/rancher/v1", Some("1a5")),
            ("https://h/rancher", "https://h/rancher/v1", None),
        ];
        for (given, root, project) in cases {
            let (found, scoped) = api_root(given).expect(given);
            assert_eq!((found.as_str(), scoped.as_deref()), (root, project), "{given}");
        }
        for bad in ["", "ftp://h", "http://", ":"] {
            assert!(api_root(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ids_cannot_leave_their_place_in_the_path() {
        assert_eq!(encode("1i!rancher_id:1a7"), "1i!rancher_id:1a7");
        assert_eq!(encode("../x?y"), "..%2Fx%3Fy");
    }
}

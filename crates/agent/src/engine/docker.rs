//! Docker Engine, API 1.41 and later. Paths carry no version: each engine answers in its own newest, and what we read
//! is the same in all of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use hyper::Method;
use remuda_runtime::Seams;
use remuda_wire::plan::{Build, VolumePlan};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::engine::http::{self, Address, Client, Payload, escaped, output};
use crate::engine::{
    Answer, Engine, Error, Event, ExecQuery, Info, Listed, LogsQuery, Output, Process, Progress, Socket, Tar, inspect,
};
use crate::health::probe::{Prober, Sockets};
use crate::tls;

const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";
/// What an engine under load still manages.
const USUAL: Duration = Duration::from_secs(60);
const LONG: Duration = Duration::from_secs(180);
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Events that change what we report.
const EVENTS: [&str; 12] = [
    "create",
    "start",
    "restart",
    "die",
    "stop",
    "kill",
    "oom",
    "pause",
    "unpause",
    "rename",
    "destroy",
    "health_status",
];

/// One Docker Engine.
#[derive(Clone)]
pub struct DockerEngine {
    client: Client,
    seams: Seams,
    /// For build contexts.
    downloads: reqwest::Client,
}

impl DockerEngine {
    /// The engine at `unix:///PATH` or `tcp://HOST:PORT`; without one, where Docker listens by default. Nothing is
    /// connected yet: an engine that is away now may answer later.
    pub fn connect(docker_host: Option<&str>, seams: &Seams) -> Result<DockerEngine, Error> {
        let address: Address = docker_host
            .unwrap_or(DEFAULT_HOST)
            .parse()
            .map_err(|bad: http::BadAddress| Error::Refused { status: 400, message: bad.to_string() })?;
        tls::provider_choose();
        let downloads = reqwest::Client::builder().connect_timeout(CONNECT_LIMIT).build();
        let downloads = downloads.map_err(|error| refused(format!("cannot make an HTTP client: {error}")))?;
        Ok(DockerEngine { client: Client::new(address, seams.clone()), seams: seams.clone(), downloads })
    }

    async fn get(&self, path: &str) -> Result<Value, Error> {
        self.client.call(Method::GET, path, Payload::None, USUAL).await
    }

    async fn post(&self, path: &str, payload: Payload, limit: Duration) -> Result<Value, Error> {
        self.client.call(Method::POST, path, payload, limit).await
    }

    async fn delete(&self, path: &str) -> Result<(), Error> {
        self.client.call(Method::DELETE, path, Payload::None, LONG).await.map(drop)
    }

    async fn follow_progress(
        &self,
        mut steps: BoxStream<'static, Result<Value, Error>>,
        image: &str,
        progress: &Progress,
    ) -> Result<(), Error> {
        let mut layers = Layers::default();
        while let Some(step) = steps.next().await {
            let step = step?;
            if let Some(message) = refusal(&step) {
                return Err(refused(message));
            }
            if let Some((message, percent)) = layers.take(image, &step) {
                progress(message, percent);
            }
        }
        Ok(())
    }

    async fn build_image(
        &self,
        image: &str,
        build: &Build,
        context: Option<Tar>,
        progress: Progress,
    ) -> Result<(), Error> {
        let mut path = format!("/build?rm=true&t={}", escaped(image));
        let mut ask = |key: &str, value: &str| path.push_str(&format!("&{key}={}", escaped(value)));
        if let Some(dockerfile) = build.dockerfile.as_deref().filter(|name| !name.is_empty()) {
            ask("dockerfile", dockerfile);
        }
        if !build.args.is_empty() {
            ask("buildargs", &json!(build.args).to_string());
        }
        if let Some(target) = &build.target {
            ask("target", target);
        }
        if build.no_cache {
            ask("nocache", "true");
        }
        if build.force_rm {
            ask("forcerm", "true");
        }
        let payload = match (&build.context, &build.remote) {
            _ if context.is_some() => context.map_or(Payload::None, Payload::Tar),
            (Some(context), _) if !context.is_empty() => Payload::Tar(self.download(context).await?),
            (_, Some(remote)) if !remote.is_empty() => {
                ask("remote", &remote.replace("git@github.com:", "git://github.com/"));
                Payload::None
            }
            _ => return Err(refused("the build has neither a context nor a remote".to_owned())),
        };
        let steps = self.client.values(Method::POST, &path, payload).await?;
        self.follow_progress(steps, image, &progress).await
    }

    async fn download(&self, url: &str) -> Result<BoxStream<'static, std::io::Result<bytes::Bytes>>, Error> {
        let failed = |error: reqwest::Error| refused(format!("cannot download the build context: {error}"));
        let answer = self.downloads.get(url).send().await.map_err(failed)?;
        let answer = answer.error_for_status().map_err(failed)?;
        Ok(answer.bytes_stream().map(|piece| piece.map_err(std::io::Error::other)).boxed())
    }

    async fn process(&self, id: String, path: &str, payload: Payload, tty: bool) -> Result<Process, Error> {
        let socket = self.client.upgrade(path, payload).await?;
        let (from, to) = tokio::io::split(socket);
        Ok(Process { id, output: output(from, tty), input: Box::new(to) })
    }

    async fn has_terminal(&self, container: &str) -> Result<bool, Error> {
        let answer = Engine::inspect(self, container).await?;
        Ok(answer["Config"]["Tty"].as_bool().unwrap_or(false))
    }
}

fn refused(message: String) -> Error {
    Error::Refused { status: 500, message }
}

/// An error in the middle of a stream that began well.
fn refusal(step: &Value) -> Option<String> {
    let text = step["errorDetail"]["message"].as_str().or_else(|| step["error"].as_str());
    text.map(|text| text.trim().to_owned())
}

/// `repository:tag`, `repository@digest` or a bare name, which means `latest`: the engine would pull every tag.
fn pull_path(image: &str) -> String {
    if let Some((repository, digest)) = image.split_once('@') {
        return format!("/images/create?fromImage={}&tag={}", escaped(repository), escaped(digest));
    }
    let name_at = image.rfind('/').map_or(0, |slash| slash + 1);
    let (repository, tag) = match image[name_at..].rfind(':') {
        Some(colon) => (&image[..name_at + colon], &image[name_at + colon + 1..]),
        None => (image, "latest"),
    };
    format!("/images/create?fromImage={}&tag={}", escaped(repository), escaped(tag))
}

/// How far a pull is, put together from its layers.
#[derive(Default)]
struct Layers(BTreeMap<String, (u64, u64)>);

impl Layers {
    fn take(&mut self, image: &str, step: &Value) -> Option<(String, Option<i64>)> {
        if let Some(text) = step["stream"].as_str() {
            let text = text.trim();
            return (!text.is_empty()).then(|| (text.to_owned(), None));
        }
        let status = step["status"].as_str()?;
        let id = step["id"].as_str().unwrap_or_default();
        let detail = &step["progressDetail"];
        match (status, detail["current"].as_u64(), detail["total"].as_u64()) {
            ("Downloading", Some(current), Some(total)) => drop(self.0.insert(id.to_owned(), (current, total))),
            ("Download complete" | "Pull complete", ..) => {
                if let Some((current, total)) = self.0.get_mut(id) {
                    *current = *total;
                }
            }
            _ => {}
        }
        let (current, total) = self.0.values().fold((0, 0), |sum, layer| (sum.0 + layer.0, sum.1 + layer.1));
        let percent = (total > 0).then(|| i64::try_from(current.saturating_mul(100) / total).unwrap_or(100));
        let message = match percent {
            Some(percent) => format!("Pulling {image}: {percent} %"),
            None => format!("Pulling {image}: {status}"),
        };
        Some((message, percent))
    }
}

fn events_path() -> String {
    let filters = json!({ "type": ["container"], "event": EVENTS });
    format!("/events?filters={}", escaped(&filters.to_string()))
}

fn event(value: &Value) -> Event {
    let id = value["Actor"]["ID"].as_str().or_else(|| value["id"].as_str());
    id.map_or(Event::Unknown, |id| Event::Container { docker_id: id.to_owned() })
}

fn listed(value: &Value) -> Option<Listed> {
    let names = value["Names"].as_array().into_iter().flatten().filter_map(Value::as_str);
    Some(Listed {
        docker_id: value["Id"].as_str()?.to_owned(),
        names: names.map(|name| name.trim_start_matches('/').to_owned()).collect(),
        labels: inspect::strings(&value["Labels"]),
    })
}

fn info(info: &Value, version: &Value) -> Info {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let number = text(&version["Version"]);
    let number = if number.is_empty() { text(&info["ServerVersion"]) } else { number };
    let commit = version["GitCommit"].as_str().filter(|commit| !commit.is_empty());
    let pairs = info["DriverStatus"].as_array().into_iter().flatten();
    Info {
        version_text: match commit {
            Some(commit) => format!("Docker version {number}, build {commit}"),
            None => format!("Docker version {number}"),
        },
        version: number,
        operating_system: text(&info["OperatingSystem"]),
        kernel_version: text(&info["KernelVersion"]),
        storage_driver: text(&info["Driver"]),
        storage_driver_status: pairs.map(|pair| (text(&pair[0]), text(&pair[1]))).collect(),
        docker_root: text(&info["DockerRootDir"]),
        n_cpus: info["NCPU"].as_i64().unwrap_or(0),
        memory_bytes: info["MemTotal"].as_i64().unwrap_or(0),
    }
}

impl Engine for DockerEngine {
    fn kind(&self) -> &'static str {
        "docker"
    }

    fn info(&self) -> Answer<'_, Info> {
        Box::pin(async move { Ok(info(&self.get("/info").await?, &self.get("/version").await?)) })
    }

    fn list(&self) -> Answer<'_, Vec<Listed>> {
        Box::pin(async move {
            let answer = self.get("/containers/json?all=1").await?;
            Ok(answer.as_array().into_iter().flatten().filter_map(listed).collect())
        })
    }

    fn inspect<'a>(&'a self, container: &'a str) -> Answer<'a, Value> {
        Box::pin(async move { self.get(&format!("/containers/{}/json", escaped(container))).await })
    }

    fn create<'a>(&'a self, name: &'a str, body: &'a Value) -> Answer<'a, String> {
        Box::pin(async move {
            let path = format!("/containers/create?name={}", escaped(name));
            let answer = self.post(&path, Payload::Json(body.clone()), LONG).await?;
            for warning in answer["Warnings"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                tracing::warn!(container = name, warning, "the engine warns");
            }
            answer["Id"]
                .as_str()
                .map(str::to_owned)
                .ok_or_else(|| Error::Odd { call: "create".to_owned(), reason: "it has no `Id`".to_owned() })
        })
    }

    fn start<'a>(&'a self, container: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            let path = format!("/containers/{}/start", escaped(container));
            self.post(&path, Payload::None, LONG).await.map(drop)
        })
    }

    fn stop<'a>(&'a self, container: &'a str, timeout_seconds: i64) -> Answer<'a, ()> {
        Box::pin(async move {
            let path = format!("/containers/{}/stop?t={}", escaped(container), timeout_seconds.max(0));
            let limit = USUAL + Duration::from_secs(u64::try_from(timeout_seconds).unwrap_or(0));
            self.post(&path, Payload::None, limit).await.map(drop)
        })
    }

    fn kill<'a>(&'a self, container: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            let path = format!("/containers/{}/kill", escaped(container));
            self.post(&path, Payload::None, USUAL).await.map(drop)
        })
    }

    fn remove<'a>(&'a self, container: &'a str) -> Answer<'a, ()> {
        Box::pin(async move { self.delete(&format!("/containers/{}?force=true&v=false", escaped(container))).await })
    }

    fn image_exists<'a>(&'a self, image: &'a str) -> Answer<'a, bool> {
        Box::pin(async move {
            match self.get(&format!("/images/{}/json", escaped(image))).await {
                Ok(_) => Ok(true),
                Err(Error::NotFound(_)) => Ok(false),
                Err(other) => Err(other),
            }
        })
    }

    fn pull<'a>(&'a self, image: &'a str, progress: Progress) -> Answer<'a, ()> {
        Box::pin(async move {
            progress(format!("Pulling {image}"), None);
            let steps = self.client.values(Method::POST, &pull_path(image), Payload::None).await?;
            self.follow_progress(steps, image, &progress).await
        })
    }

    fn build<'a>(
        &'a self,
        image: &'a str,
        build: &'a Build,
        context: Option<Tar>,
        progress: Progress,
    ) -> Answer<'a, ()> {
        Box::pin(self.build_image(image, build, context, progress))
    }

    fn volume_create<'a>(&'a self, volume: &'a VolumePlan) -> Answer<'a, ()> {
        Box::pin(async move {
            let driver = volume.driver.as_deref().filter(|driver| !driver.is_empty()).unwrap_or("local");
            let body = json!({ "Name": volume.name, "Driver": driver, "DriverOpts": volume.driver_opts });
            self.post("/volumes/create", Payload::Json(body), LONG).await.map(drop)
        })
    }

    fn volume_inspect<'a>(&'a self, name: &'a str) -> Answer<'a, Value> {
        Box::pin(async move { self.get(&format!("/volumes/{}", escaped(name))).await })
    }

    fn volume_remove<'a>(&'a self, name: &'a str) -> Answer<'a, ()> {
        Box::pin(async move { self.delete(&format!("/volumes/{}", escaped(name))).await })
    }

    fn network_list(&self) -> Answer<'_, Vec<Value>> {
        Box::pin(async move {
            let answer = self.get("/networks").await?;
            Ok(answer.as_array().cloned().unwrap_or_default())
        })
    }

    fn network_inspect<'a>(&'a self, name: &'a str) -> Answer<'a, Value> {
        Box::pin(async move { self.get(&format!("/networks/{}", escaped(name))).await })
    }

    fn network_create<'a>(&'a self, body: &'a Value) -> Answer<'a, String> {
        Box::pin(async move {
            let answer = self.post("/networks/create", Payload::Json(body.clone()), LONG).await?;
            Ok(answer["Id"].as_str().unwrap_or_default().to_owned())
        })
    }

    fn network_remove<'a>(&'a self, name: &'a str) -> Answer<'a, ()> {
        Box::pin(async move { self.delete(&format!("/networks/{}", escaped(name))).await })
    }

    fn events(&self) -> Answer<'_, BoxStream<'static, Result<Event, Error>>> {
        Box::pin(async move {
            let values = self.client.values(Method::GET, &events_path(), Payload::None).await?;
            Ok(values.map(|value| value.map(|value| event(&value))).boxed())
        })
    }

    fn logs<'a>(&'a self, container: &'a str, query: LogsQuery) -> Answer<'a, Output> {
        Box::pin(async move {
            let tty = self.has_terminal(container).await?;
            let tail = query.lines.filter(|lines| *lines >= 0).map_or_else(|| "all".to_owned(), |it| it.to_string());
            let mut path = format!(
                "/containers/{}/logs?stdout=1&stderr=1&timestamps=1&follow={}&tail={tail}",
                escaped(container),
                u8::from(query.follow)
            );
            for (name, second) in [("since", query.since), ("until", query.until)] {
                if let Some(second) = second {
                    path.push_str(&format!("&{name}={second}"));
                }
            }
            self.client.output(&path, tty).await
        })
    }

    fn exec<'a>(&'a self, container: &'a str, query: ExecQuery) -> Answer<'a, Process> {
        Box::pin(async move {
            let mut body = json!({
                "AttachStdin": query.stdin, "AttachStdout": query.stdout, "AttachStderr": query.stdout,
                "Tty": query.tty, "Cmd": query.command, "Env": query.env,
            });
            for (key, value) in [("User", &query.user), ("WorkingDir", &query.working_dir)] {
                if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
                    body[key] = json!(value);
                }
            }
            let path = format!("/containers/{}/exec", escaped(container));
            let made = self.post(&path, Payload::Json(body), USUAL).await?;
            let id = made["Id"].as_str().unwrap_or_default().to_owned();
            let start = Payload::Json(json!({ "Detach": false, "Tty": query.tty }));
            let path = format!("/exec/{}/start", escaped(&id));
            self.process(id, &path, start, query.tty).await
        })
    }

    fn exec_resize<'a>(&'a self, exec: &'a str, rows: u16, columns: u16) -> Answer<'a, ()> {
        Box::pin(async move {
            let path = format!("/exec/{}/resize?h={rows}&w={columns}", escaped(exec));
            self.post(&path, Payload::None, USUAL).await.map(drop)
        })
    }

    fn exec_exit_code<'a>(&'a self, exec: &'a str) -> Answer<'a, Option<i64>> {
        Box::pin(async move {
            let answer = self.get(&format!("/exec/{}/json", escaped(exec))).await?;
            let running = answer["Running"].as_bool().unwrap_or(false);
            Ok(answer["ExitCode"].as_i64().filter(|_| !running))
        })
    }

    fn attach<'a>(&'a self, container: &'a str) -> Answer<'a, Process> {
        Box::pin(async move {
            let tty = self.has_terminal(container).await?;
            let path = format!("/containers/{}/attach?stream=1&stdin=1&stdout=1&stderr=1", escaped(container));
            self.process(container.to_owned(), &path, Payload::None, tty).await
        })
    }

    fn attach_resize<'a>(&'a self, container: &'a str, rows: u16, columns: u16) -> Answer<'a, ()> {
        Box::pin(async move {
            let path = format!("/containers/{}/resize?h={rows}&w={columns}", escaped(container));
            self.post(&path, Payload::None, USUAL).await.map(drop)
        })
    }

    fn stats<'a>(&'a self, container: &'a str) -> Answer<'a, BoxStream<'static, Result<Value, Error>>> {
        Box::pin(async move {
            let path = format!("/containers/{}/stats?stream=1", escaped(container));
            self.client.values(Method::GET, &path, Payload::None).await
        })
    }

    fn dial(&self) -> Answer<'_, Box<dyn Socket>> {
        Box::pin(self.client.dial())
    }

    fn prober(&self) -> Arc<dyn Prober> {
        Arc::new(Sockets { clock: self.seams.clock.clone() })
    }

    fn dial_tcp<'a>(&'a self, address: &'a str) -> Answer<'a, Box<dyn Socket>> {
        Box::pin(async move {
            let failed =
                |why: String| Error::Refused { status: 502, message: format!("cannot connect to {address}: {why}") };
            let connected = tokio::select! {
                biased;
                connected = TcpStream::connect(address) => connected,
                () = self.seams.clock.sleep(CONNECT_LIMIT) => return Err(failed("no answer".to_owned())),
            };
            let socket = connected.map_err(|error| failed(error.to_string()))?;
            Ok(Box::new(socket) as Box<dyn Socket>)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_asked_for_with_a_tag() {
        let check = |image: &str, expected: &str| assert_eq!(pull_path(image), format!("/images/create?{expected}"));
        check("nginx", "fromImage=nginx&tag=latest");
        check("nginx:1.9", "fromImage=nginx&tag=1.9");
        check("localhost:5000/a/b", "fromImage=localhost%3A5000%2Fa%2Fb&tag=latest");
        check("localhost:5000/a/b:c", "fromImage=localhost%3A5000%2Fa%2Fb&tag=c");
        check("a@sha256:00", "fromImage=a&tag=sha256%3A00");
    }

    #[test]
    fn progress_is_summed_over_layers() {
        let mut layers = Layers::default();
        let mut check = |step: Value, expected: Option<(&str, Option<i64>)>| {
            let expected = expected.map(|(message, percent)| (message.to_owned(), percent));
            assert_eq!(layers.take("nginx", &step), expected);
        };
        check(json!({ "status": "Pulling fs layer", "id": "a" }), Some(("Pulling nginx: Pulling fs layer", None)));
        let half = json!({ "status": "Downloading", "id": "a", "progressDetail": { "current": 50, "total": 100 } });
        check(half, Some(("Pulling nginx: 50 %", Some(50))));
        let other = json!({ "status": "Downloading", "id": "b", "progressDetail": { "current": 0, "total": 100 } });
        check(other, Some(("Pulling nginx: 25 %", Some(25))));
        check(json!({ "status": "Download complete", "id": "a" }), Some(("Pulling nginx: 50 %", Some(50))));
        check(json!({ "stream": "Step 1/2 : FROM x\n" }), Some(("Step 1/2 : FROM x", None)));
        check(json!({ "aux": {} }), None);
        assert_eq!(refusal(&json!({ "error": "a", "errorDetail": { "message": "b" } })).as_deref(), Some("b"));
    }

    #[test]
    fn odd_answers_are_read_as_far_as_they_go() {
        assert_eq!(event(&json!({ "Type": "hologram" })), Event::Unknown);
        assert_eq!(event(&json!({ "Actor": { "ID": "a" }, "Type": "x" })), Event::Container { docker_id: "a".into() });
        assert_eq!(listed(&json!({ "Names": ["/x"] })), None);
        let odd = listed(&json!({ "Id": "a", "Names": null, "Labels": { "n": 1 }, "State": "levitating" }));
        assert_eq!(odd, Some(Listed { docker_id: "a".into(), ..Listed::default() }));
        assert_eq!(info(&json!({ "DriverStatus": [["a", "b"], 7] }), &json!(null)).version_text, "Docker version ");
    }
}

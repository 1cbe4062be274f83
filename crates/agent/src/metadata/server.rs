//! The sockets: HTTP/1.1, read only, bounded in connections, header sizes and time.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use remuda_runtime::Tasks;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use super::render;
use super::request::{self, Asked, Form, Refused, Version, Wait};
use super::tree::Tree;
use crate::book::Book;
use crate::dns::server::Shelf;

/// Connections at once; each container that waits for a change has one.
const MAX_CONNECTIONS: usize = 4096;
/// How long a client may take to send a request.
const HEADER_PATIENCE: Duration = Duration::from_secs(30);
/// Longest request line with all headers.
const MAX_HEADERS: usize = 32 << 10;
/// A waiting request is looked at again that often, whether anything changed or not.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Pause after a socket failed, so that a lasting fault does not take a core.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// Answers from the current book; shared by all sockets.
#[derive(Debug)]
pub struct Server {
    shelf: Shelf,
    /// Says that what is shown has changed.
    seen: watch::Receiver<i64>,
    room: Arc<Semaphore>,
}

impl Server {
    pub fn new(shelf: Shelf, seen: watch::Receiver<i64>) -> Server {
        Server { shelf, seen, room: Arc::new(Semaphore::new(MAX_CONNECTIONS)) }
    }

    /// What the client at `source` finds at that path now; `None`: nothing is there.
    pub fn find(&self, source: IpAddr, version: Version, path: &[String]) -> Option<Value> {
        let shelf = self.shelf.read().unwrap_or_else(PoisonError::into_inner);
        let book = shelf.as_ref()?;
        let tree = Tree::new(book, source, version);
        if !tree.is_large(path) {
            return tree.find(path);
        }
        // Questions to DNS and changes need not wait for long lists: those are made from a copy that shares the rows.
        let (directory, host_uuid, version_of, of_source) =
            (book.copy(), book.host_uuid().to_owned(), book.version(), book.source.clone());
        drop(shelf);
        let mut copy = Book::with_version(directory, &host_uuid, version_of);
        copy.source = of_source;
        Tree::new(&copy, source, version).find(path)
    }

    async fn answer(&self, request: Request<Incoming>, source: IpAddr) -> Response<Full<Bytes>> {
        let accept = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok());
        let form = request::form(accept);
        if request.method() != Method::GET && request.method() != Method::HEAD {
            let mut response = reply(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed\n".to_owned(), Form::Text);
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        let found = match request::read(request.uri().path(), request.uri().query()) {
            Ok(Asked::Versions) => Ok(versions(form)),
            Ok(Asked::Tree { version, path, wait: None }) => self.find(source, version, &path).ok_or(Refused::NotFound),
            Ok(Asked::Tree { version, path, wait: Some(wait) }) => {
                self.changed(source, version, &path, &wait).await.ok_or(Refused::NotFound)
            }
            Err(refused) => Err(refused),
        };
        match found {
            Ok(value) => reply(StatusCode::OK, render::body(&value, form), form),
            Err(refused) => {
                let status = match refused {
                    Refused::BadEscape(_) => StatusCode::BAD_REQUEST,
                    Refused::NotFound | Refused::InvalidVersion => StatusCode::NOT_FOUND,
                };
                reply(status, render::refusal(&refused, status.as_u16(), form), form)
            }
        }
    }

    /// The value as soon as it is another one, or what is there when the time is over.
    async fn changed(&self, source: IpAddr, version: Version, path: &[String], wait: &Wait) -> Option<Value> {
        let mut seen = self.seen.clone();
        let changed = async {
            loop {
                seen.borrow_and_update();
                let found = self.find(source, version, path);
                if found.as_ref().is_some_and(|found| render::plain(found) != wait.value) {
                    return found;
                }
                let _ = timeout(LOOK_EVERY, seen.changed()).await;
            }
        };
        match timeout(wait.longest, changed).await {
            Ok(found) => found,
            Err(_) => self.find(source, version, path),
        }
    }
}

fn versions(form: Form) -> Value {
    let known = ["2015-07-25", "2015-12-19", "latest"];
    match form {
        Form::Text => Value::Object(known.iter().map(|name| ((*name).to_owned(), Value::Null)).collect()),
        Form::Json | Form::Yaml => {
            Value::Object(known.iter().map(|name| ((*name).to_owned(), json!(format!("/{name}")))).collect())
        }
    }
}

fn reply(status: StatusCode, body: String, form: Form) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(render::content_type(form)));
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}

/// Starts answering on that address; gives where. The socket lives until `tasks` stops.
pub async fn listen(server: &Arc<Server>, tasks: &Tasks, address: SocketAddr) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    tasks.spawn_until_stopped("metadata", accept(server.clone(), tasks.clone(), listener));
    Ok(bound)
}

async fn accept(server: Arc<Server>, tasks: Tasks, listener: TcpListener) {
    loop {
        let Ok(room) = server.room.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, peer)) => {
                let server = server.clone();
                tasks.spawn_until_stopped("metadata connection", async move {
                    serve(&server, stream, peer.ip()).await;
                    drop(room);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accepting a metadata connection failed");
                let _ = timeout(AFTER_FAILURE, std::future::pending::<()>()).await;
            }
        }
    }
}

async fn serve(server: &Arc<Server>, stream: TcpStream, source: IpAddr) {
    let answer = service_fn(|request| answered(server.answer(request, source)));
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_PATIENCE).max_buf_size(MAX_HEADERS);
    if let Err(error) = http.serve_connection(TokioIo::new(stream), answer).await {
        tracing::debug!(%error, %source, "a metadata connection ended");
    }
}

async fn answered(answer: impl Future<Output = Response<Full<Bytes>>>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(answer.await)
}

#[cfg(test)]
mod tests {
    use std::sync::RwLock;

    use remuda_wire::directory::{Directory, DirectoryUpdate, Entry, Stack};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    struct Bed {
        tasks: Tasks,
        shelf: Shelf,
        seen: watch::Sender<i64>,
        address: SocketAddr,
    }

    async fn bed() -> Bed {
        let mut directory = Directory { revision: 1, ..Directory::default() };
        directory.put(Entry::Stack(Stack { id: 1, name: "shop".into(), ..Stack::default() }));
        let shelf: Shelf = Arc::new(RwLock::new(Some(Book::of(directory, "host"))));
        let (tasks, seen) = (Tasks::new(), watch::Sender::new(1));
        let server = Arc::new(Server::new(shelf.clone(), seen.subscribe()));
        let address = listen(&server, &tasks, "127.0.0.1:0".parse().unwrap()).await.unwrap();
        Bed { tasks, shelf, seen, address }
    }

    impl Bed {
        /// What comes back for a request, up to the end of the connection.
        async fn send(&self, request: &str) -> String {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut text = Vec::new();
            let read = timeout(Duration::from_secs(20), stream.read_to_end(&mut text)).await.unwrap();
            // A connection that is refused in the middle of its request may be reset.
            let _ = read;
            String::from_utf8_lossy(&text).into_owned()
        }

        /// Status, content type and body.
        async fn ask(&self, method: &str, path: &str, accept: &str) -> (u16, String, String) {
            let request =
                format!("{method} {path} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\nConnection: close\r\n\r\n");
            let text = self.send(&request).await;
            let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
            assert!(head.to_lowercase().contains("access-control-allow-origin: *"), "{text}");
            let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
            let kind =
                head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-type: ").map(str::to_owned));
            (status, kind.unwrap_or_default(), body.to_owned())
        }

        fn rename(&self, revision: i64, name: &str) {
            let stack = Stack { id: 1, name: name.into(), ..Stack::default() };
            let update = DirectoryUpdate {
                revision,
                base: Some(revision - 1),
                upserts: vec![Entry::Stack(stack)],
                removed: vec![],
            };
            self.shelf.write().unwrap().as_mut().unwrap().apply(update).unwrap();
            self.seen.send_replace(revision);
        }
    }

    #[tokio::test]
    async fn answers_have_status_type_and_body() {
        let bed = bed().await;
        let (text, json) = ("text/plain; charset=utf-8", "application/json");
        let cases = [
            ("GET", "/", "*/*", 200, text, "2015-07-25\n2015-12-19\nlatest\n"),
            (
                "GET",
                "/",
                json,
                200,
                json,
                r#"{"2015-07-25":"/2015-07-25","2015-12-19":"/2015-12-19","latest":"/latest"}"#,
            ),
            ("GET", "/latest/stacks/0/name", "*/*", 200, text, "shop"),
            ("HEAD", "/latest/stacks/0/name", "*/*", 200, text, ""),
            ("GET", "/latest/stacks/0/name/", json, 200, json, "\"shop\""),
            ("GET", "/latest/stacks/7", "*/*", 404, text, "Not found\n"),
            ("GET", "/2014-01-01/self", "*/*", 404, text, "Invalid version\n"),
            ("GET", "/favicon.ico", "*/*", 404, text, "Not found\n"),
            ("GET", "/latest/%zz", "*/*", 400, text, "invalid URL escape \"%zz\"\n"),
            ("GET", "/latest/x", json, 404, json, "{\"code\":404,\"message\":\"Not found\",\"type\":\"error\"}\n"),
            ("POST", "/latest", "*/*", 405, text, "Method not allowed\n"),
        ];
        for (method, path, accept, status, kind, body) in cases {
            let found = bed.ask(method, path, accept).await;
            assert_eq!(found, (status, kind.to_owned(), body.to_owned()), "{method} {path} {accept}");
        }
        assert!(bed.tasks.shut_down(Duration::from_secs(5)).await);
    }

    #[tokio::test]
    async fn what_is_no_request_is_refused_and_others_go_on() {
        let bed = bed().await;
        let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(MAX_HEADERS * 2));
        for request in ["\0\0\0\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", &long] {
            let text = bed.send(request).await;
            assert!(text.is_empty() || text.starts_with("HTTP/1.1 4"), "{text}");
        }
        assert_eq!(bed.ask("GET", "/latest/stacks/0/name", "*/*").await.2, "shop");
        assert!(bed.tasks.shut_down(Duration::from_secs(5)).await);
    }

    #[tokio::test]
    async fn waiting_ends_with_the_change() {
        let bed = bed().await;
        let path = "/latest/stacks/0/name?wait=true&maxWait=20&value=";
        assert_eq!(bed.ask("GET", &format!("{path}old"), "*/*").await.2, "shop", "another value already");
        let waiting = format!("{path}shop");
        let (found, ()) = tokio::join!(bed.ask("GET", &waiting, "*/*"), async {
            tokio::task::yield_now().await;
            bed.rename(2, "store");
        });
        assert_eq!((found.0, found.2.as_str()), (200, "store"));
        // A path that is missing is waited for, and the time ends.
        let missing = bed.ask("GET", "/latest/stacks/1/name?wait=true&maxWait=1&value=x", "*/*").await;
        assert_eq!((missing.0, missing.2.as_str()), (404, "Not found\n"));
        assert!(bed.tasks.shut_down(Duration::from_secs(5)).await);
    }
}

//! Client sockets against a host that is a few lines of test: framing, endings, backpressure, the proxy.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use remuda_runtime::{Clock, Link, Random, Tasks};
use remuda_server::access::{Claim, Tokens};
use remuda_server::hub::sessions::Sessions;
use remuda_server::streams::{self, Streams};
use remuda_wire::session::Down;
use remuda_wire::stream::{Channel, Control, StreamRequest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};

const HOST: i64 = 3;
const AGENT: i64 = 77;
const PATIENCE: Duration = Duration::from_secs(20);

struct Server {
    address: SocketAddr,
    tokens: Tokens,
    clock: Clock,
    tasks: Tasks,
}

/// A server with one connected host; `host` plays the host's end of every stream.
async fn server<F, Fut>(host: F) -> Server
where
    F: Fn(StreamRequest, Link) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let (tasks, clock, tokens) = (Tasks::new(), Clock::system(), Tokens::new(&[1; 32]));
    let sessions = Sessions::new(Random::from_os());
    let mut downs = sessions.enter(HOST, 1, AGENT);
    let streams =
        Streams { sessions: sessions.clone(), tokens: tokens.clone(), clock: clock.clone(), tasks: tasks.clone() };
    let spawner = tasks.clone();
    tasks.spawn_until_stopped("host", async move {
        while let Some(Down::Open(open)) = downs.recv().await {
            let (near, far) = Link::pair(1);
            spawner.spawn_until_stopped("stream", host(open.request, near));
            sessions.arrive(&open.stream, AGENT, far);
        }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let stop = tasks.clone();
    tasks.spawn("http", async move {
        let serve = axum::serve(listener, streams::routes(streams));
        tokio::select! { biased; () = stop.stopping() => {}, served = async { serve.await } => served.expect("serves") }
    });
    Server { address, tokens, clock, tasks }
}

type Socket = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

impl Server {
    fn token(&self, claim: Claim) -> String {
        self.tokens.sign(claim, self.clock.now_ms() + 60_000).expect("signs")
    }

    async fn dial(&self, path: &str, token: &str, protocol: Option<&str>) -> Result<Socket, Error> {
        let mut request = format!("ws://{}{path}?token={token}", self.address).into_client_request()?;
        if let Some(protocol) = protocol {
            request.headers_mut().insert("Sec-WebSocket-Protocol", protocol.parse().expect("a header value"));
        }
        Ok(tokio_tungstenite::connect_async(request).await?.0)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

fn chunk(channel: Channel, bytes: &[u8]) -> Bytes {
    [&[channel as u8], bytes].concat().into()
}

fn control(message: &Control) -> Bytes {
    chunk(Channel::Control, &serde_json::to_vec(message).expect("plain data"))
}

async fn next(socket: &mut Socket) -> Message {
    tokio::time::timeout(PATIENCE, socket.next()).await.expect("in time").expect("not ended").expect("a frame")
}

fn exec() -> Claim {
    Claim::Exec {
        host_id: HOST,
        container: "abc".into(),
        command: vec!["cat".into()],
        stdin: true,
        stdout: true,
        tty: true,
        user: None,
        working_dir: None,
        env: Vec::new(),
    }
}

/// A process that repeats its input until `q`, then exits with 3.
async fn echo(_: StreamRequest, mut link: Link) {
    while let Some(Ok(bytes)) = link.receive().await {
        match (bytes.first(), &bytes[1..]) {
            (Some(0), b"q") => {
                drop(link.send(control(&Control::Exit { code: 3 })).await);
                return;
            }
            (Some(0), input) => drop(link.send(chunk(Channel::Stdout, input)).await),
            _ => {}
        }
    }
}

#[tokio::test]
async fn exec_in_each_framing() {
    let server = server(echo).await;
    let token = server.token(exec());

    let mut old = server.dial("/v1/exec/", &token, None).await.expect("upgrades");
    old.send(Message::text(BASE64_STANDARD.encode("hi"))).await.expect("sends");
    assert_eq!(next(&mut old).await, Message::text(BASE64_STANDARD.encode("hi")));
    old.send(Message::text(BASE64_STANDARD.encode("q"))).await.expect("sends");
    assert!(matches!(next(&mut old).await, Message::Close(Some(frame)) if u16::from(frame.code) == 1000));

    let mut raw = server.dial("/v1/exec", &token, Some("binary")).await.expect("upgrades");
    raw.send(Message::binary(Bytes::from_static(b"hi"))).await.expect("sends");
    assert_eq!(next(&mut raw).await, Message::binary(Bytes::from_static(b"hi")));

    let mut ours = server.dial("/v1/exec", &token, Some("remuda.exec.v1")).await.expect("upgrades");
    ours.send(Message::binary(chunk(Channel::Stdin, b"q"))).await.expect("sends");
    assert_eq!(next(&mut ours).await, Message::binary(control(&Control::Exit { code: 3 })));
    assert!(matches!(next(&mut ours).await, Message::Close(_)));
}

#[tokio::test]
async fn a_bad_token_is_refused_before_the_upgrade() {
    let server = server(echo).await;
    let foreign = Tokens::new(&[2; 32]).sign(exec(), i64::MAX).expect("signs");
    let elsewhere = server.token(Claim::DockerSocket { host_id: HOST + 1 });
    for token in ["", "x.y", &foreign, &elsewhere] {
        match server.dial("/v1/exec/", token, None).await {
            Err(Error::Http(answer)) => {
                assert_eq!(answer.status(), 401);
                assert_eq!(answer.body().as_deref(), Some(&b"Failed authentication"[..]));
            }
            other => panic!("token {token:?}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn logs_name_their_stream() {
    let server = server(|_, mut link| async move {
        drop(link.send(chunk(Channel::Stdout, b"2016-04-02T10:11:12Z out\n")).await);
        drop(link.send(chunk(Channel::Stderr, b"2016-04-02T10:11:12Z err\n")).await);
        drop(link.send(control(&Control::Tty)).await);
        drop(link.send(chunk(Channel::Stdout, b"2016-04-02T10:11:12Z tty\n")).await);
    })
    .await;
    let claim =
        Claim::Logs { host_id: HOST, container: "abc".into(), follow: false, lines: None, since: None, until: None };
    let mut socket = server.dial("/v1/logs/", &server.token(claim), None).await.expect("upgrades");
    for expected in ["01 2016-04-02T10:11:12Z out\n", "02 2016-04-02T10:11:12Z err\n", "00 2016-04-02T10:11:12Z tty\n"]
    {
        assert_eq!(next(&mut socket).await, Message::text(expected));
    }
    assert!(matches!(next(&mut socket).await, Message::Close(_)));
}

#[tokio::test]
async fn stats_of_several_hosts_share_a_socket() {
    let server = server(|request, mut link| async move {
        let StreamRequest::HostStats { host_id } = request else { return };
        drop(link.send(chunk(Channel::Stdout, format!("[{{\"id\":\"{host_id}\"}}]").as_bytes())).await);
    })
    .await;
    // The second host is not connected: it is left out, the first one is served.
    let claim = Claim::HostStats { hosts: BTreeMap::from([(HOST, "1h3".into()), (HOST + 1, "1h4".into())]) };
    let mut socket = server.dial("/v1/hoststats/project/", &server.token(claim), None).await.expect("upgrades");
    assert_eq!(next(&mut socket).await, Message::text("[{\"id\":\"1h3\"}]"));
    assert!(matches!(next(&mut socket).await, Message::Close(_)));
}

/// A client that does not read must stop the host, not fill the server: the host's sends stay far below what it
/// has, whatever the kernel's socket buffers take.
#[tokio::test]
async fn a_slow_reader_holds_its_host_back() {
    const CHUNK_BYTES: usize = 64 << 10;
    const CHUNKS: usize = 4000;
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = sent.clone();
    let server = server(move |_, mut link| {
        let sent = counter.clone();
        async move {
            for _ in 0..CHUNKS {
                if link.send(chunk(Channel::Stdout, &[b'x'; CHUNK_BYTES])).await.is_err() {
                    return;
                }
                sent.fetch_add(1, Ordering::Relaxed);
            }
        }
    })
    .await;
    let mut socket = server
        .dial("/v1/dockersocket/", &server.token(Claim::DockerSocket { host_id: HOST }), Some("binary"))
        .await
        .expect("upgrades");
    // It has settled when the count no longer moves between two looks that each let every task run.
    let mut before = usize::MAX;
    while before != sent.load(Ordering::Relaxed) || before == 0 {
        before = sent.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(before < CHUNKS / 4, "{before} of {CHUNKS} chunks were sent to a client that reads nothing");
    let mut received = 0;
    while received < CHUNKS * CHUNK_BYTES {
        match next(&mut socket).await {
            Message::Binary(bytes) => received += bytes.len(),
            other => panic!("expected data, got {other:?}"),
        }
    }
    assert_eq!(received, CHUNKS * CHUNK_BYTES);
}

#[tokio::test]
async fn two_hundred_streams_at_once() {
    let server = server(echo).await;
    let token = server.token(exec());
    let one = |number: usize| {
        let (server, token) = (&server, &token);
        async move {
            let mut socket = server.dial("/v1/exec", token, Some("binary")).await.expect("upgrades");
            let word = format!("stream {number}");
            socket.send(Message::binary(Bytes::from(word.clone()))).await.expect("sends");
            assert_eq!(next(&mut socket).await, Message::binary(Bytes::from(word)));
            socket
        }
    };
    let open = futures_util::future::join_all((0..200).map(one)).await;
    assert_eq!(open.len(), 200);
}

/// The container's web server: answers one request, echoing its head.
async fn web(request: StreamRequest, mut link: Link) {
    assert_eq!(request, StreamRequest::Tcp { address: "10.42.0.9:80".into() });
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match link.receive().await {
            Some(Ok(bytes)) => head.extend_from_slice(&bytes[1..]),
            _ => return,
        }
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    let answer = if head.contains("upgrade: echo") {
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n".to_owned()
    } else {
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{head}", head.len())
    };
    drop(link.send(chunk(Channel::Stdout, answer.as_bytes())).await);
    while let Some(Ok(bytes)) = link.receive().await {
        drop(link.send(chunk(Channel::Stdout, &bytes[1..])).await);
    }
}

fn proxy() -> Claim {
    Claim::Proxy { host_id: HOST, address: "10.42.0.9:80".into(), scheme: "http".into() }
}

#[tokio::test]
async fn the_proxy_relays_requests_without_the_token() {
    let server = server(web).await;
    let url = format!("http://{}/v1/container-proxy/a/b?x=1&token={}", server.address, server.token(proxy()));
    rustls::crypto::ring::default_provider().install_default().ok();
    let head = reqwest::get(url).await.expect("answers").text().await.expect("a body");
    assert!(head.starts_with("get /a/b?x=1 http/1.1\r\n"), "{head}");
    assert!(head.contains("host: 10.42.0.9:80\r\n") && head.contains("x-forwarded-host: 127.0.0.1"), "{head}");
    assert!(!head.contains("token="), "{head}");
    let refused =
        reqwest::get(format!("http://{}/v1/container-proxy/?token=no", server.address)).await.expect("answers");
    assert_eq!(refused.status(), 401);
}

#[tokio::test]
async fn the_proxy_relays_upgrades() {
    let server = server(web).await;
    let mut socket = tokio::net::TcpStream::connect(server.address).await.expect("connects");
    let head = format!(
        "GET /v1/container-proxy/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\nAuthorization: Bearer {}\r\n\r\n",
        server.token(proxy())
    );
    socket.write_all(head.as_bytes()).await.expect("sends");
    let mut answer = Vec::new();
    while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
        assert!(socket.read_buf(&mut answer).await.expect("reads") > 0);
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
    socket.write_all(b"ping").await.expect("sends");
    let mut echoed = [0; 4];
    tokio::time::timeout(PATIENCE, socket.read_exact(&mut echoed)).await.expect("in time").expect("reads");
    assert_eq!(&echoed, b"ping");
}

//! Asks a container: a TCP connection, or an HTTP request whose answer must be 2xx or 3xx.
//!
//! An interface, so that simulated hosts ask simulated containers. What is read is bounded: a status line, no more.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::future::BoxFuture;
use remuda_runtime::Clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longest status line.
const MAX_STATUS_BYTES: usize = 1024;

/// Whom to ask, and what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The container's.
    pub uuid: String,
    pub address: String,
    pub port: u16,
    /// HTTP request with its header lines.
    pub request: Option<String>,
    pub timeout: Duration,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    Passed,
    /// Why, for people.
    Failed(String),
    /// This host could not even ask: that says nothing about the container.
    Unknown(String),
}

/// Who asks.
pub trait Prober: Send + Sync + 'static {
    fn probe<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, Finding>;
}

/// Asks over the host's own network.
#[derive(Clone, Debug)]
pub struct Sockets {
    pub clock: Clock,
}

impl Prober for Sockets {
    fn probe<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, Finding> {
        Box::pin(async move {
            let asked = async {
                match ask(target).await {
                    Ok(finding) => finding,
                    Err(error) if is_our_fault(&error) => Finding::Unknown(error.to_string()),
                    Err(error) => Finding::Failed(error.to_string()),
                }
            };
            tokio::select! {
                biased;
                finding = asked => finding,
                () = self.clock.sleep(target.timeout) => {
                    Finding::Failed(format!("no answer within {} ms", target.timeout.as_millis()))
                }
            }
        })
    }
}

/// Out of descriptors, ports or memory.
fn is_our_fault(error: &std::io::Error) -> bool {
    let code = error.raw_os_error();
    matches!(error.kind(), ErrorKind::OutOfMemory | ErrorKind::AddrNotAvailable)
        || matches!(code, Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS))
}

async fn ask(target: &Target) -> std::io::Result<Finding> {
    let Ok(address) = target.address.parse::<IpAddr>() else {
        return Ok(Finding::Unknown(format!("`{}` is no address", target.address)));
    };
    let mut stream = TcpStream::connect((address, target.port)).await?;
    let Some(request) = &target.request else { return Ok(Finding::Passed) };
    stream.write_all(&request_bytes(request)).await?;
    let mut answer = Vec::new();
    let mut piece = [0; MAX_STATUS_BYTES];
    while !answer.contains(&b'\n') && answer.len() < MAX_STATUS_BYTES {
        match stream.read(&mut piece).await? {
            0 => break,
            n => answer.extend_from_slice(&piece[..n]),
        }
    }
    Ok(judge(&answer))
}

/// The request as it is sent. The first line may lack method and version, and `\r\n` may be written out, as HAProxy
/// reads it.
fn request_bytes(line: &str) -> Vec<u8> {
    let plain = line.replace("\\r", "\r").replace("\\n", "\n").replace("\\t", "\t").replace("\\ ", " ");
    let mut lines = plain.split('\n').map(|line| line.trim_end_matches('\r'));
    let words: Vec<&str> = lines.next().unwrap_or_default().split_whitespace().collect();
    let first = match words[..] {
        [uri] => format!("OPTIONS {uri} HTTP/1.0"),
        [method, uri] => format!("{method} {uri} HTTP/1.0"),
        _ => words.join(" "),
    };
    let headers: Vec<&str> = lines.filter(|line| !line.trim().is_empty()).collect();
    let mut request = first;
    for header in headers {
        request.push_str("\r\n");
        request.push_str(header.trim());
    }
    request.push_str("\r\n\r\n");
    request.into_bytes()
}

/// `HTTP/1.1 204 No Content`.
fn judge(answer: &[u8]) -> Finding {
    let line = answer.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let mut words = line.split_whitespace();
    let code = words.next().filter(|word| word.starts_with("HTTP/")).and_then(|_| words.next()?.parse::<u16>().ok());
    match code {
        Some(200..=399) => Finding::Passed,
        Some(code) => Finding::Failed(format!("HTTP status {code}")),
        None if answer.is_empty() => Finding::Failed("the connection ended without an answer".to_owned()),
        None => Finding::Failed("the answer is not HTTP".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn requests_are_completed() {
        for (line, sent) in [
            ("GET / HTTP/1.0", "GET / HTTP/1.0\r\n\r\n"),
            ("/up", "OPTIONS /up HTTP/1.0\r\n\r\n"),
            ("HEAD /up", "HEAD /up HTTP/1.0\r\n\r\n"),
            ("GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n", "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n"),
            (r"GET / HTTP/1.1\r\nHost:\ a", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ] {
            assert_eq!(String::from_utf8(request_bytes(line)).unwrap(), sent, "{line}");
        }
    }

    #[test]
    fn two_and_three_hundreds_pass() {
        let failed = |text: &str| Finding::Failed(text.to_owned());
        for (answer, finding) in [
            ("HTTP/1.0 200 OK\r\n", Finding::Passed),
            ("HTTP/1.1 304 Not Modified\r\nX: y\r\n", Finding::Passed),
            ("HTTP/1.1 503 Gone\r\n", failed("HTTP status 503")),
            ("HTTP/1.1 199 x\r\n", failed("HTTP status 199")),
            ("SSH-2.0-x\r\n", failed("the answer is not HTTP")),
            ("HTTP/1.1 two\r\n", failed("the answer is not HTTP")),
            ("", failed("the connection ended without an answer")),
        ] {
            assert_eq!(judge(answer.as_bytes()), finding, "{answer}");
        }
    }

    async fn asked(answer: Option<&'static str>, request: Option<&str>) -> Finding {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = Target {
            uuid: String::new(),
            address: "127.0.0.1".into(),
            port: listener.local_addr().unwrap().port(),
            request: request.map(str::to_owned),
            timeout: Duration::from_millis(300),
        };
        let serving = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = [0; 4];
            if request.is_some() {
                stream.read_exact(&mut asked).await.unwrap();
                assert_eq!(&asked, b"GET ");
            }
            match answer {
                Some(answer) => stream.write_all(answer.as_bytes()).await.unwrap(),
                None => std::future::pending::<()>().await,
            }
            std::future::pending::<()>().await;
        };
        let sockets = Sockets { clock: Clock::system() };
        tokio::select! {
            biased;
            finding = sockets.probe(&target) => finding,
            () = serving => unreachable!(),
        }
    }

    #[tokio::test]
    async fn sockets_connect_and_ask_and_give_up() {
        assert_eq!(asked(None, None).await, Finding::Passed);
        assert_eq!(asked(Some("HTTP/1.0 200 OK\r\n\r\n"), Some("GET / HTTP/1.0")).await, Finding::Passed);
        let slow = Finding::Failed("no answer within 300 ms".into());
        assert_eq!(asked(None, Some("GET / HTTP/1.0")).await, slow);
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let target = Target {
            uuid: String::new(),
            address: "127.0.0.1".into(),
            port,
            request: None,
            timeout: Duration::from_secs(1),
        };
        let refused = Sockets { clock: Clock::system() }.probe(&target).await;
        assert!(matches!(&refused, Finding::Failed(why) if why.contains("refused")), "{refused:?}");
    }
}

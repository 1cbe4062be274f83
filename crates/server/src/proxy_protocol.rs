//! The PROXY protocol, version 1: a line a TCP load balancer puts before everything else to say who is calling
//! (`api-conventions.md` §1.2). It is recognised, not required; without it the socket's peer is the caller.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// The longest such line, by its specification.
const MAX_LINE: usize = 107;
const SIGNATURE: &[u8] = b"PROXY ";

/// Who called whom, when the line says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Called {
    pub client: SocketAddr,
    /// The port the client dialled at the load balancer.
    pub port: u16,
}

/// Parses a line without its end. `Ok(None)` is `UNKNOWN`: the balancer's own health checks.
pub fn parse(line: &str) -> Result<Option<Called>, io::Error> {
    let bad = || io::Error::new(io::ErrorKind::InvalidData, "malformed PROXY protocol line");
    let mut words = line.split(' ');
    match (words.next(), words.next()) {
        (Some("PROXY"), Some("UNKNOWN")) => return Ok(None),
        (Some("PROXY"), Some("TCP4" | "TCP6")) => {}
        _ => return Err(bad()),
    }
    let mut word = || words.next().ok_or_else(bad);
    let client: IpAddr = word()?.parse().map_err(|_| bad())?;
    let _server: IpAddr = word()?.parse().map_err(|_| bad())?;
    let client_port: u16 = word()?.parse().map_err(|_| bad())?;
    let port: u16 = word()?.parse().map_err(|_| bad())?;
    Ok(Some(Called { client: SocketAddr::new(client, client_port), port }))
}

/// A connection whose first bytes may already have been read.
#[derive(Debug)]
pub struct Connection<S> {
    unread: Vec<u8>,
    stream: S,
}

/// Takes the PROXY line off a fresh connection, if one is there.
pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> io::Result<(Connection<S>, Option<Called>)> {
    let mut read = Vec::with_capacity(MAX_LINE);
    loop {
        let compared = read.len().min(SIGNATURE.len());
        if read[..compared] != SIGNATURE[..compared] {
            return Ok((Connection { unread: read, stream }, None));
        }
        if let Some(end) = read.windows(2).position(|pair| pair == b"\r\n") {
            let called = parse(&String::from_utf8_lossy(&read[..end]))?;
            return Ok((Connection { unread: read.split_off(end + 2), stream }, called));
        }
        if read.len() >= MAX_LINE {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "PROXY protocol line without an end"));
        }
        let mut chunk = [0; MAX_LINE];
        let n_read = stream.read(&mut chunk[..MAX_LINE - read.len()]).await?;
        if n_read == 0 {
            return Ok((Connection { unread: read, stream }, None));
        }
        read.extend_from_slice(&chunk[..n_read]);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.unread.is_empty() {
            let n_given = self.unread.len().min(out.remaining());
            out.put_slice(&self.unread[..n_given]);
            self.unread.drain(..n_given);
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, out)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[test]
    fn lines_are_parsed_strictly() {
        let called = Called { client: "192.0.2.7:4711".parse().expect("an address"), port: 443 };
        assert_eq!(parse("PROXY TCP4 192.0.2.7 10.0.0.1 4711 443").ok(), Some(Some(called)));
        assert_eq!(parse("PROXY UNKNOWN").ok(), Some(None));
        assert_eq!(parse("PROXY UNKNOWN ffff ffff 1 2").ok(), Some(None));
        for bad in [
            "PROXY",
            "PROXY TCP4",
            "PROXY TCP4 a b c d",
            "PROXY UDP4 1.1.1.1 2.2.2.2 1 2",
            "PROXY TCP4 1.1.1.1 2.2.2.2 1 99999",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn what_follows_the_line_is_not_lost() {
        for (sent, expected, is_proxied) in [
            ("PROXY TCP4 192.0.2.7 10.0.0.1 4711 443\r\nGET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\n", true),
            ("GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\n", false),
            ("P", "P", false),
        ] {
            let (mut near, far) = tokio::io::duplex(256);
            near.write_all(sent.as_bytes()).await.expect("written");
            drop(near);
            let (mut connection, called) = accept(far).await.expect("accepted");
            let mut rest = String::new();
            connection.read_to_string(&mut rest).await.expect("read");
            assert_eq!((rest.as_str(), called.is_some()), (expected, is_proxied));
        }
    }
}

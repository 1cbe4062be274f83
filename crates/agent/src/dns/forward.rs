//! Questions that are not ours: the packet's bytes go to the upstream servers as they are, one server after the other,
//! and the first response of any kind comes back as it is. No cache: containers have their own, and TTLs stay true.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::answer::usable_upstream;
use super::packet;

/// How long one server may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Longest response taken over UDP; EDNS sizes above are asked for by nobody.
const UDP_BUFFER: usize = 8192;
/// Asked when a host names no usable server.
const FALLBACK: [Ipv4Addr; 2] = [Ipv4Addr::new(8, 8, 8, 8), Ipv4Addr::new(8, 8, 4, 4)];

/// The servers a host's `resolv.conf` names, without this machine's own stubs and ourselves.
pub fn host_upstreams(resolv_conf: &str) -> Vec<SocketAddr> {
    let servers = resolv_conf.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()).flatten()
    });
    let found: Vec<IpAddr> = servers.filter_map(usable_upstream).filter(|server| !server.is_loopback()).collect();
    match found.is_empty() {
        true => FALLBACK.iter().map(|server| with_port(IpAddr::V4(*server))).collect(),
        false => found.into_iter().map(with_port).collect(),
    }
}

/// Where a server listens.
pub fn with_port(server: IpAddr) -> SocketAddr {
    SocketAddr::new(server, 53)
}

/// Asks the servers in order; `None` when none answered.
pub async fn relay(request: &[u8], servers: &[SocketAddr]) -> Option<Vec<u8>> {
    for server in servers {
        match timeout(PATIENCE, ask(request, *server)).await {
            Ok(Ok(response)) => return Some(response),
            Ok(Err(error)) => tracing::debug!(%server, %error, "upstream name server failed"),
            Err(_) => tracing::debug!(%server, "upstream name server did not answer in time"),
        }
    }
    None
}

async fn ask(request: &[u8], server: SocketAddr) -> io::Result<Vec<u8>> {
    let response = ask_udp(request, server).await?;
    if !packet::is_truncated(&response) {
        return Ok(response);
    }
    // A server without TCP still gave something: the client sees that it is cut.
    Ok(ask_tcp(request, server).await.unwrap_or(response))
}

async fn ask_udp(request: &[u8], server: SocketAddr) -> io::Result<Vec<u8>> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(request).await?;
    let mut buffer = vec![0; UDP_BUFFER];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if packet::is_response_to(request, &buffer[..length]) {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

async fn ask_tcp(request: &[u8], server: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    write_framed(&mut stream, request).await?;
    let response = read_framed(&mut stream).await?;
    match packet::is_response_to(request, &response) {
        true => Ok(response),
        false => Err(io::Error::new(io::ErrorKind::InvalidData, "the response belongs to another request")),
    }
}

/// A message on TCP: two bytes of length, then the message.
pub(super) async fn read_framed(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut message = vec![0; usize::from(length)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

/// Length and message in one write, so that they travel in one segment.
pub(super) async fn write_framed(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a DNS message has at most 65535 bytes"))?;
    let mut framed = Vec::with_capacity(message.len() + 2);
    framed.extend_from_slice(&length.to_be_bytes());
    framed.extend_from_slice(message);
    stream.write_all(&framed).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstreams_come_from_the_hosts_file() {
        let cases = [
            ("nameserver 10.0.0.2\nnameserver 10.0.0.3\n", "10.0.0.2:53 10.0.0.3:53"),
            ("# nameserver 1.1.1.1\nsearch lan\nnameserver\t10.0.0.2 # lan\noptions ndots:2", "10.0.0.2:53"),
            ("nameserver 127.0.0.53\nnameserver 169.254.169.250\nnameserver ::1\n", "8.8.8.8:53 8.8.4.4:53"),
            ("nameserver 2620:fe::fe\nnameserver nonsense", "[2620:fe::fe]:53"),
            ("", "8.8.8.8:53 8.8.4.4:53"),
        ];
        for (text, expected) in cases {
            let found: Vec<_> = host_upstreams(text).iter().map(SocketAddr::to_string).collect();
            assert_eq!(found.join(" "), expected, "{text:?}");
        }
    }
}

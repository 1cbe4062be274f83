//! Container proxy: one HTTP request relayed to a container through its host, upgrades included.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use hyper_util::rt::TokioIo;
use remuda_runtime::Link;
use remuda_wire::stream::{Channel, StreamRequest};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::{FromHost, Streams, chunk, refused, take_apart};
use crate::access::Claim;

/// Bytes in flight per direction.
const PIPE_BYTES: usize = 64 << 10;
const PREFIX: &str = "/v1/container-proxy";

/// Relays the request the token allows.
pub async fn relay(State(streams): State<Streams>, mut request: Request) -> Response {
    let Some(Claim::Proxy { host_id, address, scheme }) = streams.claim(request.headers(), request.uri().query())
    else {
        return refused();
    };
    if scheme != "http" {
        return (StatusCode::SERVICE_UNAVAILABLE, "only http can be relayed").into_response();
    }
    let link = match streams.sessions.open(host_id, StreamRequest::Tcp { address: address.clone() }).await {
        Ok(link) => link,
        Err(error) => {
            tracing::info!(host_id, %error, "container proxy cannot reach its host");
            return (StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable").into_response();
        }
    };
    let (near, far) = tokio::io::duplex(PIPE_BYTES);
    streams.tasks.spawn_until_stopped("container proxy pipe", pipe(link, far));
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(near)).await;
    let Ok((mut sender, connection)) = handshake else { return failed("no connection to the container") };
    streams.tasks.spawn_until_stopped("container proxy connection", async move {
        drop(connection.with_upgrades().await);
    });
    let client_upgrade = request.extensions_mut().remove::<hyper::upgrade::OnUpgrade>();
    if rewrite(&mut request, &address).is_none() {
        return failed("the path cannot be relayed");
    }
    let answer = match sender.send_request(request).await {
        Ok(answer) => answer,
        Err(error) => {
            tracing::debug!(%error, address, "container proxy relay failed");
            return failed("the container did not answer");
        }
    };
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS
        && let Some(client_upgrade) = client_upgrade
    {
        let (parts, _) = answer.into_parts();
        let answer = hyper::Response::from_parts(parts.clone(), ());
        let host_upgrade = hyper::upgrade::on(answer);
        streams.tasks.spawn_until_stopped("container proxy upgrade", async move {
            if let (Ok(client), Ok(host)) = (client_upgrade.await, host_upgrade.await) {
                drop(tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(host)).await);
            }
        });
        return Response::from_parts(parts, Body::empty());
    }
    answer.map(Body::new).into_response()
}

fn failed(reason: &'static str) -> Response {
    (StatusCode::INTERNAL_SERVER_ERROR, reason).into_response()
}

/// Path without our prefix and token, `Host` of the target, `X-Forwarded-*` of the client.
fn rewrite(request: &mut Request, address: &str) -> Option<()> {
    let uri = request.uri();
    let path = uri.path().strip_prefix(PREFIX).filter(|path| !path.is_empty()).unwrap_or("/");
    let kept: Vec<&str> = uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty() && !pair.starts_with("token="))
        .collect();
    let target = if kept.is_empty() { path.to_owned() } else { format!("{path}?{}", kept.join("&")) };
    *request.uri_mut() = target.parse::<Uri>().ok()?;
    let headers: &mut HeaderMap = request.headers_mut();
    if let Some(host) = headers.insert(header::HOST, HeaderValue::from_str(address).ok()?) {
        headers.entry(HeaderName::from_static("x-forwarded-host")).or_insert(host);
    }
    headers.entry(HeaderName::from_static("x-forwarded-proto")).or_insert(HeaderValue::from_static("http"));
    // The token is for us, not for the container.
    if headers.get(header::AUTHORIZATION).is_some_and(|value| value.as_bytes().starts_with(b"Bearer ")) {
        headers.remove(header::AUTHORIZATION);
    }
    Some(())
}

/// Copies between the host's chunks and the byte pipe until either ends.
async fn pipe(mut link: Link, mut far: DuplexStream) {
    let mut buffer = vec![0; 16 << 10];
    loop {
        tokio::select! {
            biased;
            from_host = link.receive() => match from_host.map(|chunk| chunk.map(take_apart)) {
                Some(Ok(FromHost::Bytes(_, bytes))) => {
                    if far.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            },
            read = far.read(&mut buffer) => match read {
                Ok(0) | Err(_) => return,
                Ok(length) => {
                    if link.send(chunk(Channel::Stdin, &buffer[..length])).await.is_err() {
                        return;
                    }
                }
            },
        }
    }
}

//! Stats: one text frame a second and host, each a JSON array. Several hosts share one socket; it closes when the
//! last of them is gone. A client that reads slowly holds its hosts back: samples are dropped there, not here.

use axum::extract::ws::{Message, WebSocketUpgrade};
use axum::response::Response;
use futures_util::StreamExt;
use futures_util::stream::SelectAll;
use remuda_wire::stream::StreamRequest;

use super::{FromHost, NORMAL, Streams, close, refused, take_apart};
use crate::access::Claim;

/// Opens a stream on every host of the claim that is connected, and upgrades when there is at least one.
pub async fn open(streams: Streams, claim: Claim, upgrade: WebSocketUpgrade) -> Response {
    let requests: Vec<(i64, StreamRequest)> = match claim {
        Claim::ContainerStats { hosts } => {
            hosts.into_iter().map(|(host, containers)| (host, StreamRequest::ContainerStats { containers })).collect()
        }
        Claim::HostStats { hosts } => {
            hosts.into_iter().map(|(host, host_id)| (host, StreamRequest::HostStats { host_id })).collect()
        }
        _ => return refused(),
    };
    let mut samples = SelectAll::new();
    // The sending halves keep the hosts' ends open.
    let mut senders = Vec::new();
    for (host, request) in requests {
        match streams.sessions.open(host, request).await {
            Ok(link) => {
                samples.push(link.receiver);
                senders.push(link.sender);
            }
            Err(error) => tracing::debug!(host, %error, "no stats from this host"),
        }
    }
    if samples.is_empty() {
        return refused();
    }
    let stop = streams.tasks.clone();
    upgrade.on_upgrade(move |mut socket| async move {
        let _senders = senders;
        loop {
            tokio::select! {
                biased;
                () = stop.stopping() => return close(socket, NORMAL, "the server stops").await,
                from_client = socket.recv() => match from_client {
                    Some(Ok(Message::Close(_))) | Some(Err(_)) | None => return,
                    Some(Ok(_)) => {}
                },
                sample = samples.next() => match sample.map(|chunk| chunk.map(take_apart)) {
                    Some(Ok(FromHost::Bytes(_, bytes))) => {
                        let text = String::from_utf8_lossy(&bytes).into_owned();
                        if socket.send(Message::Text(text.into())).await.is_err() {
                            return;
                        }
                    }
                    Some(_) => {}
                    None => return close(socket, NORMAL, "no host is left").await,
                },
            }
        }
    })
}

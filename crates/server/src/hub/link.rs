//! A WebSocket as a [`Link`]: binary messages in and out, everything else is the protocol's own business.

use std::future::ready;

use axum::extract::ws::{Message, WebSocket};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use remuda_runtime::Link;
use remuda_runtime::link::Closed;

/// Wraps an accepted WebSocket.
pub fn link(socket: WebSocket) -> Link {
    let (sink, stream) = socket.split();
    let sender = sink
        .sink_map_err(|error| Closed(error.to_string()))
        .with(|bytes: Bytes| ready(Ok::<Message, Closed>(Message::Binary(bytes))));
    let receiver = stream.filter_map(|message| {
        ready(match message {
            Ok(Message::Binary(bytes)) => Some(Ok(bytes)),
            Ok(_) => None,
            Err(error) => Some(Err(Closed(error.to_string()))),
        })
    });
    Link { sender: Box::pin(sender), receiver: Box::pin(receiver) }
}

//! Console and docker socket: one byte stream in each direction.

use axum::extract::ws::{Message, WebSocket};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use remuda_runtime::Link;
use remuda_wire::stream::{Channel, Control};

use super::{Framing, FromHost, NORMAL, SERVER_ERROR, chunk, close, take_apart};

/// Copies until either side ends.
pub async fn copy(mut socket: WebSocket, mut link: Link, framing: Framing) {
    loop {
        tokio::select! {
            biased;
            from_host = link.receive() => match from_host.map(|chunk| chunk.map(take_apart)) {
                Some(Ok(FromHost::Bytes(_, bytes))) => {
                    let message = match framing {
                        Framing::Base64 => Message::Text(BASE64_STANDARD.encode(&bytes).into()),
                        Framing::Binary | Framing::Channels => Message::Binary(bytes),
                    };
                    if socket.send(message).await.is_err() {
                        return;
                    }
                }
                Some(Ok(FromHost::Control(Control::Failed { message }))) => return close(socket, SERVER_ERROR, &message).await,
                Some(Ok(FromHost::Control(_) | FromHost::Skipped)) => {}
                Some(Err(_)) | None => return close(socket, NORMAL, "the stream ended").await,
            },
            from_client = socket.recv() => {
                let bytes = match from_client {
                    Some(Ok(Message::Text(text))) if framing == Framing::Base64 => match BASE64_STANDARD.decode(text.as_str()) {
                        Ok(bytes) => bytes.into(),
                        Err(_) => return close(socket, SERVER_ERROR, "input frames are base64 text").await,
                    },
                    Some(Ok(Message::Text(text))) => bytes::Bytes::from(text),
                    Some(Ok(Message::Binary(bytes))) => bytes,
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                    Some(Ok(Message::Close(_))) | Some(Err(_)) | None => return,
                };
                if link.send(chunk(Channel::Stdin, &bytes)).await.is_err() {
                    return close(socket, SERVER_ERROR, "the host went away").await;
                }
            }
        }
    }
}

//! Exec: a process in a container, its terminal or its three streams.
//!
//! Old clients: base64 (or raw) bytes both ways, output of both channels together; closing sends EOT. Ours:
//! `remuda.exec.v1`, whose frames are the chunks of `wire::stream` unchanged, the exit status last.

use axum::extract::ws::{Message, WebSocket};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use remuda_runtime::Link;
use remuda_wire::stream::{Channel, Control};

use super::{Framing, FromHost, NORMAL, SERVER_ERROR, chunk, close, take_apart, tell};

/// End of transmission, what a terminal sends for Ctrl-D.
const EOT: &[u8] = &[4];

/// Copies until either side ends.
pub async fn copy(mut socket: WebSocket, mut link: Link, framing: Framing, tty: bool) {
    loop {
        tokio::select! {
            biased;
            from_host = link.receive() => {
                let Some(Ok(bytes)) = from_host else {
                    return close(socket, NORMAL, "the process ended").await;
                };
                if framing == Framing::Channels {
                    let ended = matches!(take_apart(bytes.clone()), FromHost::Control(Control::Exit { .. } | Control::Failed { .. }));
                    if socket.send(Message::Binary(bytes)).await.is_err() {
                        return;
                    }
                    if ended {
                        return close(socket, NORMAL, "the process ended").await;
                    }
                    continue;
                }
                match take_apart(bytes) {
                    FromHost::Bytes(_, bytes) => {
                        let message = match framing {
                            Framing::Binary => Message::Binary(bytes),
                            _ => Message::Text(BASE64_STANDARD.encode(&bytes).into()),
                        };
                        if socket.send(message).await.is_err() {
                            return;
                        }
                    }
                    FromHost::Control(Control::Exit { .. }) => return close(socket, NORMAL, "the process ended").await,
                    FromHost::Control(Control::Failed { message }) => return close(socket, SERVER_ERROR, &message).await,
                    FromHost::Control(_) | FromHost::Skipped => {}
                }
            }
            from_client = socket.recv() => {
                let input = match from_client {
                    Some(Ok(Message::Text(text))) if framing == Framing::Base64 => match BASE64_STANDARD.decode(text.as_str()) {
                        Ok(bytes) => chunk(Channel::Stdin, &bytes),
                        Err(_) => return close(socket, SERVER_ERROR, "input frames are base64 text").await,
                    },
                    Some(Ok(Message::Binary(bytes))) if framing == Framing::Channels => bytes,
                    Some(Ok(Message::Binary(bytes))) => chunk(Channel::Stdin, &bytes),
                    Some(Ok(Message::Text(text))) => chunk(Channel::Stdin, text.as_bytes()),
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                    Some(Ok(Message::Close(_))) | Some(Err(_)) | None => {
                        if tty {
                            drop(link.send(chunk(Channel::Stdin, EOT)).await);
                        }
                        tell(&mut link, &Control::StdinClosed).await;
                        return;
                    }
                };
                if link.send(input).await.is_err() {
                    return close(socket, SERVER_ERROR, "the host went away").await;
                }
            }
        }
    }
}

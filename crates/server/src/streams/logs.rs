//! Logs: text frames, two-digit stream id, a space, then lines with their timestamps. What the client sends is ignored.

use axum::extract::ws::{Message, WebSocket};
use remuda_runtime::Link;
use remuda_wire::stream::{Channel, Control};

use super::{FromHost, NORMAL, SERVER_ERROR, close, take_apart};

/// Copies until the log ends or the client closes.
pub async fn copy(mut socket: WebSocket, mut link: Link) {
    let mut terminal = false;
    loop {
        tokio::select! {
            biased;
            from_client = socket.recv() => match from_client {
                Some(Ok(Message::Close(_))) | Some(Err(_)) | None => return,
                Some(Ok(_)) => {}
            },
            from_host = link.receive() => match from_host.map(|chunk| chunk.map(take_apart)) {
                Some(Ok(FromHost::Bytes(channel, bytes))) => {
                    let prefix = match channel {
                        _ if terminal => "00 ",
                        Channel::Stderr => "02 ",
                        _ => "01 ",
                    };
                    let text = format!("{prefix}{}", String::from_utf8_lossy(&bytes));
                    if socket.send(Message::Text(text.into())).await.is_err() {
                        return;
                    }
                }
                Some(Ok(FromHost::Control(Control::Tty))) => terminal = true,
                Some(Ok(FromHost::Control(Control::Failed { message }))) => return close(socket, SERVER_ERROR, &message).await,
                Some(Ok(FromHost::Control(_) | FromHost::Skipped)) => {}
                Some(Err(_)) | None => return close(socket, NORMAL, "the log ended").await,
            },
        }
    }
}

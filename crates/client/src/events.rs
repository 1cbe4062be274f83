//! Changes as they happen: one WebSocket, JSON frames, for one reader ([`Events`]) or many ([`Feed`]). The server says ping every 5 s; silence means it is gone.

use std::time::Duration;

use futures_util::StreamExt;
use serde_json::Value;
use tokio::sync::{Mutex, broadcast};
use tokio_tungstenite::tungstenite::Message;

use crate::error::Error;
use crate::http::Client;
use crate::resource::Resource;
use crate::stream::{Socket, dial};

const SILENCE: Duration = Duration::from_secs(20);

/// A subscription to the changes of one environment.
#[derive(Debug)]
pub struct Events(Socket);

/// A resource changed. `resource` is `None` when it is gone or not ours to see.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    pub kind: String,
    pub id: String,
    pub resource: Option<Resource>,
}

/// One subscription for many waits. There is no task behind it: whoever waits longest reads the socket, for all.
#[derive(Debug)]
pub struct Feed {
    socket: Mutex<Option<Events>>,
    heard: broadcast::Sender<Change>,
}

/// One reader of a [`Feed`].
pub struct Ear(broadcast::Receiver<Change>);

/// More changes than any reader is late. One that is nevertheless reads again what it waits for.
const HEARD: usize = 1024;

impl Default for Feed {
    fn default() -> Feed {
        Feed { socket: Mutex::default(), heard: broadcast::channel(HEARD).0 }
    }
}

impl Feed {
    /// Begins to listen: what changes after this is heard.
    pub async fn listen(&self, client: &Client) -> Result<Ear, Error> {
        let mut socket = self.socket.lock().await;
        if socket.is_none() {
            *socket = Some(client.events().await?);
        }
        Ok(Ear(self.heard.subscribe()))
    }

    /// The next change. An error means: read anew what matters, and listen again.
    pub async fn next(&self, ear: &mut Ear) -> Result<Change, Error> {
        loop {
            let read = async {
                let mut socket = self.socket.lock().await;
                // Somebody else may have heard the end of it.
                let Some(open) = socket.as_mut() else {
                    return Err(Error::Stream("the subscription ended".to_owned()));
                };
                match open.next().await {
                    Ok(change) => {
                        // This reader hears it too, so there is one.
                        let _ = self.heard.send(change);
                        Ok(())
                    }
                    Err(error) => {
                        *socket = None;
                        Err(error)
                    }
                }
            };
            tokio::select! {
                biased;
                heard = ear.0.recv() => {
                    return heard.map_err(|error| Error::Stream(error.to_string()));
                }
                outcome = read => outcome?,
            }
        }
    }
}

impl Client {
    /// Subscribes to changes. Needs an environment: accounts have no events of their own.
    pub async fn events(&self) -> Result<Events, Error> {
        let url = format!("{}/subscribe?eventNames=resource.change", self.base()).replacen("http", "ws", 1);
        Ok(Events(dial(&url, "", self.credentials()).await?.0))
    }
}

impl Events {
    /// The next change. An error means: subscribe again and read anew what matters.
    pub async fn next(&mut self) -> Result<Change, Error> {
        loop {
            let frame = tokio::time::timeout(SILENCE, self.0.next()).await;
            let frame = frame.map_err(|_| Error::Stream(format!("nothing heard for {} s", SILENCE.as_secs())))?;
            let text = match frame {
                Some(Ok(Message::Text(text))) => text,
                Some(Ok(Message::Close(_))) | None => {
                    return Err(Error::Stream("the server closed the subscription".to_owned()));
                }
                Some(Ok(_)) => continue,
                Some(Err(error)) => return Err(Error::Stream(error.to_string())),
            };
            let event: Value = serde_json::from_str(text.as_str()).map_err(|error| Error::Stream(error.to_string()))?;
            if event.get("name").and_then(Value::as_str) != Some("resource.change") {
                continue;
            }
            let text = |name: &str| event.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
            let resource = event.pointer("/data/resource").filter(|value| value.is_object()).cloned().map(Resource);
            return Ok(Change { kind: text("resourceType"), id: text("resourceId"), resource });
        }
    }
}

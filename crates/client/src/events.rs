//! Changes as they happen: one WebSocket, JSON frames. The server says ping every 5 s; silence means it is gone.

use std::time::Duration;

use futures_util::StreamExt;
use serde_json::Value;
use tokio_tungstenite::tungstenite::Message;

use crate::error::Error;
use crate::http::Client;
use crate::resource::Resource;
use crate::stream::{Socket, dial};

const SILENCE: Duration = Duration::from_secs(20);

/// A subscription to the changes of one environment.
pub struct Events(Socket);

/// A resource changed. `resource` is `None` when it is gone or not ours to see.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    pub kind: String,
    pub id: String,
    pub resource: Option<Resource>,
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

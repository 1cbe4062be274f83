//! Event streams (`api-conventions.md` §13).

use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use futures_util::StreamExt;
use remuda_apitests::{Harness, PATIENCE, on_both_stores};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

on_both_stores!(changes_arrive_as_the_subscriber_sees_them, who_may_not_listen_is_refused);

type Socket = WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>;

async fn subscribe(h: &Harness, path: &str, key: Option<&(String, String)>) -> Result<Socket, tungstenite::Error> {
    let url = format!("{}{path}", h.url.replace("http://", "ws://"));
    let mut request = url.into_client_request()?;
    if let Some((access, secret)) = key {
        let basic = BASE64_STANDARD.encode(format!("{access}:{secret}"));
        request.headers_mut().insert("authorization", format!("Basic {basic}").parse().unwrap());
    }
    connect_async(request).await.map(|(socket, _)| socket)
}

async fn event(socket: &mut Socket, wanted: impl Fn(&Value) -> bool) -> Value {
    let reading = async {
        while let Some(Ok(message)) = socket.next().await {
            if let Message::Text(text) = message {
                let event: Value = serde_json::from_str(&text).unwrap();
                if wanted(&event) {
                    return event;
                }
            }
        }
        panic!("the stream ended");
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("the event arrives")
}

async fn changes_arrive_as_the_subscriber_sees_them(h: Harness) {
    let key = h.admin_key.clone();
    let path = "/v1/projects/1a5/subscribes?eventNames=resource.change&include=services";
    let mut socket = subscribe(&h, path, key.as_ref()).await.expect("101");
    let first = event(&mut socket, |_| true).await;
    assert_eq!((&first["name"], &first["resourceId"]), (&json!("ping"), &Value::Null));
    // Somebody else's project is not heard of.
    let other = h.admin().create("projects", json!({"name": "other"})).await;
    let elsewhere = h.admin().inside(other["id"].as_str().unwrap());
    let outside = elsewhere.post("environments", json!({"name": "outside"})).await;
    let stack = h.project().create("environments", json!({"name": "s"})).await;
    let seen = event(&mut socket, |event| {
        assert_ne!(event["data"]["resource"]["name"], "outside", "{outside:?}");
        event["resourceId"] == stack["id"]
    })
    .await;
    assert_eq!((&seen["name"], &seen["resourceType"]), (&json!("resource.change"), &json!("environment")));
    assert!(seen["time"].is_i64() && seen["previousIds"].is_null());
    let resource = &seen["data"]["resource"];
    assert_eq!(resource["services"], json!([]));
    assert_eq!(resource["links"]["self"], stack["links"]["self"]);
    h.project().put(stack["links"]["self"].as_str().unwrap(), json!({"description": "d"})).await.expect_status(200);
    event(&mut socket, |event| event["data"]["resource"]["description"] == "d").await;
    let closed = async {
        let reason = tokio::time::timeout(Duration::from_secs(10), async {
            while let Some(Ok(message)) = socket.next().await {
                if let Message::Close(Some(frame)) = message {
                    return frame.reason.to_string();
                }
            }
            String::new()
        });
        let reason = reason.await.expect("the stream is closed");
        drop(socket);
        reason
    };
    let (stopped, reason) = tokio::join!(h.stop(), closed);
    assert_eq!(reason, "the server is stopping");
    assert!(stopped);
}

async fn who_may_not_listen_is_refused(h: Harness) {
    let status = |outcome: Result<Socket, tungstenite::Error>| match outcome {
        Err(tungstenite::Error::Http(response)) => response.status().as_u16(),
        other => panic!("{other:?}"),
    };
    let key = h.admin_key.clone();
    let scoped = "/v1/projects/1a5/subscribe";
    assert_eq!(status(subscribe(&h, &format!("{scoped}?eventNames=x"), None).await), 401);
    assert_eq!(status(subscribe(&h, "/v1/subscribe?eventNames=x", key.as_ref()).await), 404);
    assert_eq!(status(subscribe(&h, scoped, key.as_ref()).await), 422);
    assert_eq!(status(subscribe(&h, &format!("{scoped}?eventNames=a%20b"), key.as_ref()).await), 422);
    assert_eq!(status(subscribe(&h, "/v1/projects/1a999/subscribe?eventNames=x", key.as_ref()).await), 403);
}

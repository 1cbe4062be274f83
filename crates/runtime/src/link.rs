//! A connection between server and agent: whole messages in both directions, bounded, closed by dropping.
//!
//! A WebSocket is one kind; the in-process pair is the other, so that server and agents run in one process without
//! sockets (`--dev`, simulation). Sending waits while the other side is slow.

use std::pin::Pin;

use bytes::Bytes;
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use tokio::sync::mpsc;

/// Why a connection ended, for people.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("connection closed: {0}")]
pub struct Closed(pub String);

/// Outgoing half.
pub type Sender = Pin<Box<dyn Sink<Bytes, Error = Closed> + Send>>;
/// Incoming half; ends when the other side closed.
pub type Receiver = Pin<Box<dyn Stream<Item = Result<Bytes, Closed>> + Send>>;

/// Both halves of one connection.
pub struct Link {
    pub sender: Sender,
    pub receiver: Receiver,
}

impl Link {
    /// Two ends of an in-process connection that holds at most `capacity` messages per direction.
    pub fn pair(capacity: usize) -> (Link, Link) {
        let (to_right, from_left) = mpsc::channel::<Bytes>(capacity);
        let (to_left, from_right) = mpsc::channel::<Bytes>(capacity);
        (Link::end(to_right, from_right), Link::end(to_left, from_left))
    }

    fn end(sender: mpsc::Sender<Bytes>, receiver: mpsc::Receiver<Bytes>) -> Link {
        let sender = futures_util::sink::unfold(sender, |sender, message: Bytes| async move {
            match sender.send(message).await {
                Ok(()) => Ok(sender),
                Err(_) => Err(Closed("the other end is gone".to_owned())),
            }
        });
        let receiver = futures_util::stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|message| (Ok(message), receiver))
        });
        Link { sender: Box::pin(sender), receiver: Box::pin(receiver) }
    }

    pub async fn send(&mut self, message: Bytes) -> Result<(), Closed> {
        self.sender.send(message).await
    }

    /// The next message; `None` when the other side closed in order.
    pub async fn receive(&mut self) -> Option<Result<Bytes, Closed>> {
        self.receiver.next().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_arrive_and_dropping_closes() {
        let (mut left, mut right) = Link::pair(2);
        assert_eq!(left.send(Bytes::from_static(b"hello")).await, Ok(()));
        assert_eq!(right.receive().await, Some(Ok(Bytes::from_static(b"hello"))));
        drop(right);
        assert!(left.send(Bytes::from_static(b"anyone?")).await.is_err());
        assert_eq!(left.receive().await, None);
    }
}

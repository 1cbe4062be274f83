//! One message on the wire: a flag byte and JSON, deflated when that pays.

use std::io::{Read, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Largest message accepted, unpacked: a snapshot of 50,000 containers fits several times.
pub const MAX_MESSAGE_BYTES: usize = 256 << 20;

const PLAIN: u8 = 0;
const DEFLATED: u8 = 1;
/// Below this size packing costs more than it saves: making the packer ready alone is as much work as sending this.
const WORTH_PACKING_BYTES: usize = 16 << 10;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("message is empty")]
    Empty,
    #[error("message has unknown flag byte {0}; is the other side newer?")]
    UnknownFlag(u8),
    #[error("message is larger than {MAX_MESSAGE_BYTES} bytes")]
    TooLarge,
    #[error("message does not unpack")]
    Unpack(#[source] std::io::Error),
    #[error("message does not read as JSON of protocol {}", crate::session::PROTOCOL)]
    Json(#[source] serde_json::Error),
    #[error("message cannot be written as JSON")]
    Write(#[source] serde_json::Error),
}

/// Message to bytes.
pub fn encode<T: Serialize>(message: &T) -> Result<Bytes, Error> {
    let json = serde_json::to_vec(message).map_err(Error::Write)?;
    if json.len() < WORTH_PACKING_BYTES {
        let mut plain = Vec::with_capacity(json.len() + 1);
        plain.push(PLAIN);
        plain.extend_from_slice(&json);
        return Ok(plain.into());
    }
    let mut packer = DeflateEncoder::new(vec![DEFLATED], Compression::fast());
    packer.write_all(&json).map_err(Error::Unpack)?;
    Ok(packer.finish().map_err(Error::Unpack)?.into())
}

/// Bytes to message, bounded.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    let (flag, rest) = bytes.split_first().ok_or(Error::Empty)?;
    match *flag {
        PLAIN => serde_json::from_slice(rest).map_err(Error::Json),
        DEFLATED => {
            let mut json = Vec::new();
            let limit = MAX_MESSAGE_BYTES as u64 + 1;
            DeflateDecoder::new(rest).take(limit).read_to_end(&mut json).map_err(Error::Unpack)?;
            if json.len() > MAX_MESSAGE_BYTES {
                return Err(Error::TooLarge);
            }
            serde_json::from_slice(&json).map_err(Error::Json)
        }
        other => Err(Error::UnknownFlag(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Up;

    #[test]
    fn small_and_large_messages_survive() {
        for message in ["x".to_owned(), "long ".repeat(5000)] {
            let up = Up::Stopping { reason: message };
            let bytes = encode(&up).expect("encodes");
            assert_eq!(decode::<Up>(&bytes).expect("decodes"), up);
            assert!(bytes.len() < 2000);
        }
    }

    proptest::proptest! {
        #[test]
        fn garbage_is_an_error_not_a_panic(bytes: Vec<u8>) {
            drop(decode::<Up>(&bytes));
        }
    }
}

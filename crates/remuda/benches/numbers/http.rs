//! As little HTTP as measuring needs: one kept connection, whole answers with a Content-Length.
//!
//! A real client library costs more than some of the answers it would measure.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// A connection to the API.
pub struct Api {
    stream: BufReader<TcpStream>,
    host: String,
    keys: Option<(String, String)>,
    /// What requests are scoped to.
    pub project: Option<String>,
}

impl Api {
    pub fn connect(host: &str, port: u16, keys: Option<(String, String)>) -> Result<Api> {
        let stream = TcpStream::connect((host, port)).with_context(|| format!("cannot connect to {host}:{port}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Api { stream: BufReader::new(stream), host: host.to_string(), keys, project: None })
    }

    /// Another connection of the same caller.
    pub fn again(&self, port: u16) -> Result<Api> {
        let mut api = Api::connect(&self.host, port, self.keys.clone())?;
        api.project = self.project.clone();
        Ok(api)
    }

    pub fn get_raw(&mut self, path: &str) -> Result<Vec<u8>> {
        self.request("GET", path, None)
    }

    pub fn post(&mut self, path: &str, body: &Value) -> Result<Value> {
        let answer = self.request("POST", path, Some(&body.to_string()))?;
        serde_json::from_slice(&answer).context("an answer that is not JSON")
    }

    pub fn put(&mut self, path: &str, body: &Value) -> Result<()> {
        self.request("PUT", path, Some(&body.to_string())).map(drop)
    }

    pub fn delete(&mut self, path: &str) -> Result<()> {
        self.request("DELETE", path, None).map(drop)
    }

    fn request(&mut self, method: &str, path: &str, body: Option<&str>) -> Result<Vec<u8>> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nAccept: application/json\r\n", self.host);
        if let Some((access, secret)) = &self.keys {
            head += &format!("Authorization: Basic {}\r\n", base64(format!("{access}:{secret}").as_bytes()));
        }
        if let Some(project) = &self.project {
            head += &format!("X-API-Project-Id: {project}\r\n");
        }
        if let Some(body) = body {
            head += &format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
        }
        head += "\r\n";
        head += body.unwrap_or_default();
        self.stream.get_mut().write_all(head.as_bytes())?;

        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let status: u16 = line.split(' ').nth(1).and_then(|status| status.parse().ok()).context("no status line")?;
        let mut length = None;
        loop {
            let mut header = String::new();
            self.stream.read_line(&mut header)?;
            let Some((name, value)) = header.trim_end().split_once(':') else { break };
            if name.eq_ignore_ascii_case("content-length") {
                length = Some(value.trim().parse().context("Content-Length is no number")?);
            }
        }
        let mut answer = vec![0; length.with_context(|| format!("{method} {path}: no Content-Length"))?];
        self.stream.read_exact(&mut answer)?;
        if !(200..300).contains(&status) {
            bail!("{method} {path} answered {status}: {}", String::from_utf8_lossy(&answer));
        }
        Ok(answer)
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0u32, |group, byte| group << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for digit_idx in 0..4 {
            let digit = DIGITS[(group >> (18 - 6 * digit_idx) & 63) as usize];
            text.push(if digit_idx <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

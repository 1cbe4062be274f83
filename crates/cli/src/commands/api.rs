//! `api`: any call, with our keys.

use std::io::Read;

use remuda_client::Method;
use serde_json::Value;

use crate::failure::{Failure, exit};
use crate::globals::Globals;
use crate::output::Format;
use crate::session;

/// Call the API.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  remuda api GET services\n  remuda api GET /v1/schemas/service\n  remuda api POST environments -d '{\"name\": \"shop\"}'\n  remuda api POST 'services/1s5?action=activate'\n\nPaths are relative to the environment; those that begin with `/` to the server. Exit code 1 for a refused call"
)]
pub struct Args {
    /// GET, POST, PUT or DELETE
    #[arg(value_parser = method)]
    method: Method,
    /// Path, or a whole URL of this server
    path: String,
    /// JSON to send; `-` reads it from stdin, `@FILE` from a file
    #[arg(short, long, value_name = "JSON")]
    data: Option<String>,
}

fn method(text: &str) -> Result<Method, String> {
    match text.to_uppercase().as_str() {
        "GET" => Ok(Method::GET),
        "POST" => Ok(Method::POST),
        "PUT" => Ok(Method::PUT),
        "DELETE" => Ok(Method::DELETE),
        _ => Err(format!("`{text}` is no method of the API; there are GET, POST, PUT, DELETE")),
    }
}

pub async fn run(globals: &Globals, args: Args) -> Result<u8, Failure> {
    let body = args.data.as_deref().map(body).transpose()?;
    let client = session::entered(globals).await?;
    let url = absolute(client.root(), client.base(), &args.path)?;
    let (status, text) = client.raw(args.method.clone(), &url, body.as_ref()).await?;
    let out = session::out(globals);
    match serde_json::from_str::<Value>(&text) {
        Ok(value) if globals.output == Some(Format::Yaml) => out.object(&value)?,
        Ok(value) if globals.output == Some(Format::Jsonl) => out.object(&value)?,
        Ok(value) if out.format == Format::Id || out.format == Format::Name => ids(&out, &value)?,
        Ok(value) => out.object(&value)?,
        Err(_) if text.is_empty() || text.ends_with('\n') => out.text(&text)?,
        Err(_) => out.line(&text)?,
    }
    if (200..400).contains(&status) {
        return Ok(exit::DONE);
    }
    let exit = match status {
        401 | 403 => exit::NO_SERVER,
        404 => exit::NOT_FOUND,
        405 | 409 => exit::STATE,
        _ => exit::FAILED,
    };
    Err(Failure::new(exit, format!("{} {} was answered with {status}", args.method, args.path)))
}

/// Of every member where it is a collection.
fn ids(out: &crate::output::Out, value: &Value) -> Result<(), Failure> {
    match value.get("data").and_then(Value::as_array) {
        Some(members) => members.iter().try_for_each(|member| out.object(member)),
        None => out.object(value),
    }
}

fn body(text: &str) -> Result<Value, Failure> {
    let text = match text.strip_prefix('@') {
        _ if text == "-" => {
            let mut input = String::new();
            std::io::stdin().lock().read_to_string(&mut input)?;
            input
        }
        Some(path) => {
            std::fs::read_to_string(path).map_err(|error| Failure::usage(format!("cannot read {path}: {error}")))?
        }
        None => text.to_owned(),
    };
    serde_json::from_str(&text).map_err(|error| Failure::usage(format!("the data is not JSON: {error}")))
}

/// Where a path leads. Our keys go to this server only.
fn absolute(root: &str, base: &str, path: &str) -> Result<String, Failure> {
    // `…/v1` without it: what the server calls `/`, a path prefix included.
    let server = root.strip_suffix("/v1").unwrap_or(root);
    if path.contains("://") {
        let ours = path.strip_prefix(server).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        return if ours {
            Ok(path.to_owned())
        } else {
            Err(Failure::usage(format!("{path} is not on {server}; keys are not sent elsewhere"))
                .hint("`--url` or `--context` choose another server"))
        };
    }
    Ok(match path.strip_prefix('/') {
        Some(rest) => format!("{server}/{rest}"),
        None => format!("{base}/{path}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_this_server_only() {
        let (root, base) = ("http://h/r/v1", "http://h/r/v1/projects/1a5");
        let cases = [
            ("services", Ok("http://h/r/v1/projects/1a5/services")),
            ("/v1/schemas", Ok("http://h/r/v1/schemas")),
            ("/ping", Ok("http://h/r/ping")),
            ("http://h/r/v1/x", Ok("http://h/r/v1/x")),
            ("http://h/rest", Err(exit::USAGE)),
            ("http://other/v1", Err(exit::USAGE)),
        ];
        for (path, expected) in cases {
            let found = absolute(root, base, path);
            assert_eq!(found.as_deref().map_err(|failure| failure.exit), expected, "{path}");
        }
        assert!(method("get").is_ok() && method("BREW").is_err());
    }
}

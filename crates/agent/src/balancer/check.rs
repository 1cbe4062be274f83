//! Asks HAProxy itself, in the balancer's container, whether it would take a configuration.

use std::time::Duration;

use futures_util::StreamExt;
use remuda_runtime::Clock;

use crate::balancer::place::Dir;
use crate::engine::{self, Chunk, Engine, ExecQuery};

const LIMIT: Duration = Duration::from_secs(60);
/// As much of what HAProxy says as is read.
const LONGEST_OUTPUT: usize = 256 << 10;
/// As much of it as is shown.
const LONGEST_REFUSAL: usize = 1_000;

/// `Ok(Err(…))`: it would not, for that reason.
pub async fn check(
    engine: &dyn Engine,
    clock: &Clock,
    container: &str,
    generation: u64,
    config: &str,
) -> Result<Result<(), String>, engine::Error> {
    let query = ExecQuery { command: Dir::check_command(generation), stdout: true, ..ExecQuery::default() };
    let run = async {
        let process = engine.exec(container, query).await?;
        let mut output = process.output;
        let mut said = Vec::new();
        while let Some(piece) = output.next().await {
            let (Chunk::Stdout(piece) | Chunk::Stderr(piece)) = piece?;
            if said.len() < LONGEST_OUTPUT {
                said.extend_from_slice(&piece);
            }
        }
        Ok((engine.exec_exit_code(&process.id).await?, String::from_utf8_lossy(&said).into_owned()))
    };
    let (code, said) = tokio::select! {
        biased;
        ended = run => ended?,
        () = clock.sleep(LIMIT) => {
            return Err(engine::Error::Unreachable(format!("HAProxy's check took more than {} s", LIMIT.as_secs())));
        }
    };
    match code {
        Some(0) => Ok(Ok(())),
        _ => Ok(Err(refusal(&said, config))),
    }
}

/// HAProxy's own words without what means something only to itself, with the lines it speaks of.
pub fn refusal(said: &str, config: &str) -> String {
    let alerts = said.lines().filter_map(|line| {
        // [ALERT]    (123) : config : parsing [haproxy.cfg:12] : unknown keyword …
        let (_, words) = line.strip_prefix("[ALERT]")?.split_once(':')?;
        let words = words.trim();
        Some(words.strip_prefix("config :").unwrap_or(words).trim())
    });
    let told = alerts.filter(|words| {
        let summary = ["Error(s) found in configuration file", "Fatal errors found in configuration"];
        !summary.iter().any(|known| words.starts_with(known))
    });
    let mut text = String::new();
    for words in told {
        if !text.is_empty() {
            text.push_str("; ");
        }
        text.push_str(words);
        if let Some(line) = line_spoken_of(words).and_then(|number| config.lines().nth(number.checked_sub(1)?)) {
            text.push_str(&format!(" (`{}`)", line.trim()));
        }
    }
    if text.is_empty() {
        text = said.trim().to_owned();
    }
    match text.char_indices().nth(LONGEST_REFUSAL) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// `parsing [haproxy.cfg:12]`
fn line_spoken_of(words: &str) -> Option<usize> {
    let (_, rest) = words.split_once("[haproxy.cfg:")?;
    rest.split_once(']')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn haproxys_own_line_is_shown_with_the_line_it_means() {
        let said = "[NOTICE]   (7) : haproxy version is 2.6.12\n[WARNING]  (7) : config : missing timeouts for frontend '80'\n[ALERT]    (7) : config : parsing [haproxy.cfg:2] : unknown keyword 'maxcon' in 'global' section; did you mean 'maxconn' maybe ?\n[ALERT]    (7) : config : Error(s) found in configuration file : haproxy.cfg\n[ALERT]    (7) : config : Fatal errors found in configuration.\n";
        insta::assert_snapshot!(
            refusal(said, "global\n    maxcon 7\n"),
            @"parsing [haproxy.cfg:2] : unknown keyword 'maxcon' in 'global' section; did you mean 'maxconn' maybe ? (`maxcon 7`)"
        );
        assert_eq!(refusal("exec: haproxy: not found\n", ""), "exec: haproxy: not found");
        assert_eq!(refusal(&"ä".repeat(5_000), "").chars().count(), LONGEST_REFUSAL + 1);
    }
}

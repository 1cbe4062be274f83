//! What simulated containers say: logs computed from when they ran, exec, stats. Nothing is stored per line, so a
//! container that ran for a year costs what one costs that ran for a second.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;

use super::shell::{self, Command, Outcome, Surroundings};
use super::{Container, Simulated};
use crate::engine::{Chunk, Error, ExecQuery, LogsQuery, Output, Process};

/// One line every so often while it runs.
const TICK_MS: i64 = 1000;

/// Line `number` of the current run, with its time; `None` when it was not said (yet).
fn line(container: &Container, number: i64, now: i64) -> Option<(i64, bool, String)> {
    let started = container.started_ms?;
    let burst = i64::try_from(container.behaviour.lines).unwrap_or(i64::MAX);
    let until = if container.status.is_up() { now } else { container.finished_ms? };
    if number == 0 {
        return Some((started, false, format!("{} of {} starts", container.name, container.image)));
    }
    if number <= burst {
        return Some((started, false, format!("line {number} of {burst}")));
    }
    let tick = number - burst;
    let at = started.checked_add(tick.checked_mul(TICK_MS)?)?;
    if at <= until {
        return Some((at, false, format!("tick {tick}")));
    }
    let last = (until - started) / TICK_MS + 1;
    let ended = !container.status.is_up() && tick == last;
    ended.then(|| (until, container.exit_code != 0, format!("ends with exit code {}", container.exit_code)))
}

/// How many lines there are now.
fn count(container: &Container, now: i64) -> i64 {
    let Some(started) = container.started_ms else { return 0 };
    let up = container.status.is_up();
    let until = if up { now } else { container.finished_ms.unwrap_or(started) };
    let burst = i64::try_from(container.behaviour.lines).unwrap_or(i64::MAX);
    burst.saturating_add(1 + (until - started).max(0) / TICK_MS).saturating_add(i64::from(!up))
}

struct Reader {
    engine: Simulated,
    id: String,
    query: LogsQuery,
    run: u64,
    next: i64,
}

/// Log lines, each with its time in front as Docker gives them.
pub(super) fn logs(engine: Simulated, id: String, query: LogsQuery) -> Output {
    let (run, next) = {
        let state = engine.state();
        let container = state.containers.get(&id);
        let total = container.map_or(0, |container| count(container, engine.inner.seams.clock.now_ms()));
        let first = query.lines.filter(|lines| *lines >= 0).map_or(0, |lines| (total - lines).max(0));
        (container.map_or(0, |container| container.run), first)
    };
    let reader = Reader { engine, id, query, run, next };
    futures_util::stream::unfold(reader, |mut reader| async move {
        let chunk = reader.read().await?;
        Some((Ok(chunk), reader))
    })
    .boxed()
}

impl Reader {
    async fn read(&mut self) -> Option<Chunk> {
        loop {
            let now = self.engine.inner.seams.clock.now_ms();
            let container = self.engine.state().containers.get(&self.id).cloned()?;
            if container.run != self.run {
                // Started anew: its lines begin again.
                (self.run, self.next) = (container.run, 0);
            }
            if let Some((at, stderr, text)) = line(&container, self.next, now) {
                self.next += 1;
                let second = at / 1000;
                if self.query.until.is_some_and(|until| second > until) {
                    return None;
                }
                if self.query.since.is_some_and(|since| second < since) {
                    continue;
                }
                let text = Bytes::from(format!("{} {text}\n", super::time_text(Some(at))));
                let tty = container.body["Tty"].as_bool().unwrap_or(false);
                return Some(if stderr && !tty { Chunk::Stderr(text) } else { Chunk::Stdout(text) });
            }
            if !self.query.follow || self.engine.state().unreachable {
                return None;
            }
            let over = !container.status.is_up() && container.policy_restarts == 0;
            if over && container.started_ms.is_some() {
                return None;
            }
            self.engine.inner.seams.clock.sleep(Duration::from_millis(200)).await;
        }
    }
}

/// What an attached terminal sees: the lines without their times.
pub(super) fn without_times(output: Output) -> Output {
    let cut = |text: Bytes| match text.iter().position(|byte| *byte == b' ') {
        Some(space) => text.slice(space + 1..),
        None => text,
    };
    output
        .map(move |chunk| {
            chunk.map(|chunk| match chunk {
                Chunk::Stdout(text) => Chunk::Stdout(cut(text)),
                Chunk::Stderr(text) => Chunk::Stderr(cut(text)),
            })
        })
        .boxed()
}

/// Runs one of the commands [`shell`] knows.
pub(super) fn exec(engine: Simulated, exec: String, container: &Container, query: ExecQuery) -> Process {
    let text = |name: &str| container.body[name].as_str().unwrap_or_default().to_owned();
    let variables = container.body["Env"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let variables = variables.chain(query.env.iter().map(String::as_str)).filter_map(|pair| pair.split_once('='));
    let around = Surroundings {
        hostname: Some(text("Hostname")).filter(|name| !name.is_empty()).unwrap_or_else(|| container.name.clone()),
        environment: variables.map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        working_dir: query.working_dir.clone().unwrap_or_else(|| text("WorkingDir")),
        user: query.user.clone().unwrap_or_else(|| text("User")),
    };
    // One chunk at a time: a slow reader makes the command wait.
    let (output, shown) = mpsc::channel::<Chunk>(1);
    let (input, typed) = tokio::io::duplex(4096);
    let mut running = Running { tty: query.tty, output, typed, around };
    let tasks = engine.inner.seams.tasks.clone();
    let id = exec.clone();
    let clock = engine.inner.seams.clock.clone();
    let name = container.name.clone();
    tasks.spawn_until_stopped("simulated-exec", async move {
        let code = match shell::command(&query.command, &running.around) {
            Command::Done(outcome) => running.say(outcome).await,
            Command::Copy => running.copy().await,
            Command::Health(healthy) => {
                engine.set_healthy(&name, healthy);
                0
            }
            Command::Shell => running.shell().await,
            Command::Sleep(seconds) => {
                clock.sleep(Duration::from_secs(seconds)).await;
                0
            }
        };
        // Before the output ends: whoever sees the end may ask for the code.
        engine.exec_ended(&exec, code);
        drop(running);
    });
    let output = futures_util::stream::unfold(shown, |mut shown| async move {
        shown.recv().await.map(|chunk| (Ok::<_, Error>(chunk), shown))
    });
    Process { id, output: output.boxed(), input: Box::new(input) }
}

struct Running {
    tty: bool,
    output: mpsc::Sender<Chunk>,
    typed: DuplexStream,
    around: Surroundings,
}

/// End of transmission: what a terminal sends for Ctrl-D.
const EOT: u8 = 4;
/// Exit code of a process whose reader went away.
const CUT_OFF: i64 = 137;

impl Running {
    async fn write(&self, stderr: bool, text: &str) -> bool {
        if text.is_empty() {
            return true;
        }
        let text = if self.tty { text.replace('\n', "\r\n") } else { text.to_owned() };
        let chunk = if stderr && !self.tty { Chunk::Stderr(text.into()) } else { Chunk::Stdout(text.into()) };
        self.output.send(chunk).await.is_ok()
    }

    async fn say(&self, outcome: Outcome) -> i64 {
        let heard = self.write(false, &outcome.stdout).await && self.write(true, &outcome.stderr).await;
        if heard { outcome.code } else { CUT_OFF }
    }

    /// What was typed next; empty at the end of input.
    async fn read(&mut self) -> Vec<u8> {
        let mut piece = vec![0; 4096];
        let n_bytes = self.typed.read(&mut piece).await.unwrap_or(0);
        piece.truncate(n_bytes);
        if self.tty
            && let Some(end) = piece.iter().position(|byte| *byte == EOT)
        {
            piece.truncate(end);
        }
        piece
    }

    async fn copy(&mut self) -> i64 {
        loop {
            let piece = self.read().await;
            if piece.is_empty() {
                return 0;
            }
            if self.output.send(Chunk::Stdout(piece.into())).await.is_err() {
                return CUT_OFF;
            }
        }
    }

    async fn shell(&mut self) -> i64 {
        let mut typed = String::new();
        let mut code = 0;
        let prompt = if self.tty { "/ # " } else { "" };
        if !self.write(false, prompt).await {
            return CUT_OFF;
        }
        loop {
            let piece = self.read().await;
            if piece.is_empty() {
                return code;
            }
            let piece = String::from_utf8_lossy(&piece).replace('\r', "\n");
            if self.tty && !self.write(false, &piece).await {
                return CUT_OFF;
            }
            typed.push_str(&piece);
            while let Some(end) = typed.find('\n') {
                let line: String = typed.drain(..=end).collect();
                if line.trim().starts_with("exit") {
                    let word = line.split_whitespace().nth(1);
                    return word.and_then(|word| word.parse().ok()).unwrap_or(code);
                }
                if let Command::Done(outcome) = shell::script_command(line.trim(), &self.around) {
                    code = self.say(outcome).await;
                }
                if !self.write(false, prompt).await {
                    return CUT_OFF;
                }
            }
        }
    }
}

/// Docker's stats answers: counters that grow with the time it runs.
pub(super) fn stats(engine: Simulated, id: String) -> BoxStream<'static, Result<Value, Error>> {
    futures_util::stream::unfold((engine, id, true), |(engine, id, first)| async move {
        if !first {
            engine.inner.seams.clock.sleep(Duration::from_secs(1)).await;
        }
        let now = engine.inner.seams.clock.now_ms();
        let container = engine.state().containers.get(&id).filter(|container| container.status.is_up()).cloned()?;
        let ran_ms = now - container.started_ms.unwrap_or(now);
        let sample = sample(&id, &container, now, ran_ms);
        Some((Ok(sample), (engine, id, false)))
    })
    .boxed()
}

fn sample(id: &str, container: &Container, now: i64, ran_ms: i64) -> Value {
    let cpu = ran_ms * 20_000;
    json!({
        "id": id,
        "name": format!("/{}", container.name),
        "read": super::time_text(Some(now)),
        "cpu_stats": {
            "cpu_usage": {
                "total_usage": cpu, "percpu_usage": [cpu / 2, cpu - cpu / 2],
                "usage_in_usermode": cpu / 4 * 3, "usage_in_kernelmode": cpu / 4,
            },
            "online_cpus": 2,
        },
        "memory_stats": { "usage": 4 << 20, "limit": container.body["HostConfig"]["Memory"].as_i64().unwrap_or(8 << 30) },
        "networks": { "eth0": { "rx_bytes": ran_ms, "tx_bytes": ran_ms / 2 } },
        "blkio_stats": { "io_service_bytes_recursive": [
            { "major": 8, "minor": 0, "op": "Read", "value": 4096 },
            { "major": 8, "minor": 0, "op": "Write", "value": ran_ms },
            { "major": 8, "minor": 0, "op": "Total", "value": ran_ms + 4096 },
        ] },
    })
}

/// The engine's socket: answers `_ping` like Docker and refuses the rest, because nothing is behind it.
pub(super) async fn answer_socket(socket: DuplexStream) {
    answer(socket, |line| match line.contains("/_ping") {
        true => ("200 OK", "OK".to_owned()),
        false => ("501 Not Implemented", "{\"message\":\"this host is simulated\"}".to_owned()),
    })
    .await;
}

/// A web server in a container: says who it is.
pub(super) async fn answer_http(socket: DuplexStream, name: String) {
    answer(socket, |line| ("200 OK", format!("{name} answers {line}\n"))).await;
}

/// Requests without a body, one after the other.
async fn answer(mut socket: DuplexStream, reply: impl Fn(&str) -> (&'static str, String)) {
    let mut request = Vec::new();
    let mut piece = [0; 4096];
    loop {
        match socket.read(&mut piece).await {
            Ok(n_bytes) if n_bytes > 0 => request.extend_from_slice(&piece[..n_bytes]),
            _ => return,
        }
        if request.len() > 64 << 10 {
            return;
        }
        while let Some(end) = request.windows(4).position(|window| window == b"\r\n\r\n") {
            let line = String::from_utf8_lossy(&request[..end]).lines().next().unwrap_or_default().to_owned();
            request.drain(..end + 4);
            let (status, body) = reply(&line);
            let answer = format!(
                "HTTP/1.1 {status}\r\nApi-Version: 1.41\r\nContent-Length: {}\r\nContent-Type: text/plain\r\n\r\n{body}",
                body.len()
            );
            if socket.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}

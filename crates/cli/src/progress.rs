//! What is going on, on stderr: a line per thing on a terminal, one line per change elsewhere.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use remuda_client::Resource;
use serde_json::{Value, json};

use crate::session::{environment, now_ms};

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Style {
    Auto,
    /// A line per thing, redrawn
    Tty,
    /// A line per change
    Plain,
    /// A JSON object per change
    Json,
    /// Errors only
    Quiet,
    /// The lines of rancher-compose, on stdout
    Legacy,
}

/// In plain style something is said at least this often while somebody waits.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// Shows progress. Cheap to share between concurrent waits.
pub struct Progress {
    style: Style,
    lines: MultiProgress,
    shown: Arc<Mutex<Shown>>,
    begun_ms: i64,
}

#[derive(Default)]
struct Shown {
    lines: BTreeMap<String, Line>,
    /// Something was printed since the last heartbeat.
    is_fresh: bool,
    has_heart: bool,
    /// Warnings are said again at the end of a redrawn screen.
    warnings: Vec<String>,
}

#[derive(Default)]
struct Line {
    bar: Option<ProgressBar>,
    text: String,
    is_done: bool,
    /// The last thing that was said of a container that ended.
    ended: Option<String>,
}

/// How the server says that a container ended which should run.
const ENDED: &str = "Exited with code ";

impl Progress {
    /// `auto` draws on a terminal and writes plain lines elsewhere.
    pub fn new(style: Option<Style>) -> Progress {
        let is_ci = || environment("CI").is_some_and(|value| !value.is_empty());
        let style = match style {
            None | Some(Style::Auto) if std::io::stderr().is_terminal() && !is_ci() => Style::Tty,
            None | Some(Style::Auto) => Style::Plain,
            Some(style) => style,
        };
        Progress { style, lines: MultiProgress::new(), shown: Arc::default(), begun_ms: now_ms() }
    }

    /// `thing` is in that phase now. Said once per change.
    pub fn say(&self, thing: &str, phase: &str, message: Option<&str>) {
        self.show(thing, phase, None, message);
    }

    /// `thing` is as its row says.
    pub fn row(&self, thing: &str, row: &Resource) {
        let wanted = row.int("scale");
        let counts = row.int("currentScale").zip(wanted);
        self.show(thing, row.state(), counts, row.message().filter(|_| row.is_transitioning()));
    }

    fn show(&self, thing: &str, phase: &str, counts: Option<(i64, i64)>, message: Option<&str>) {
        let counted = counts.map(|(running, wanted)| format!(" {running}/{wanted}")).unwrap_or_default();
        let text = match message {
            Some(message) => format!("{phase}{counted}  {message}"),
            None => format!("{phase}{counted}"),
        };
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let line = shown.lines.entry(thing.to_owned()).or_default();
        if line.text == text {
            return;
        }
        line.text.clone_from(&text);
        line.is_done = false;
        if let Some((_, said)) = message.and_then(|message| message.split_once(ENDED)) {
            line.ended = Some(format!("{ENDED}{}", said.split(';').next().unwrap_or(said)));
        }
        match self.style {
            Style::Tty => {
                let bar = line.bar.get_or_insert_with(|| {
                    let bar = self.lines.add(ProgressBar::new_spinner());
                    if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix:24} {wide_msg} {elapsed:>4}") {
                        bar.set_style(style);
                    }
                    bar.set_prefix(thing.to_owned());
                    bar.enable_steady_tick(Duration::from_millis(120));
                    bar
                });
                bar.set_message(text);
            }
            Style::Plain => {
                shown.is_fresh = true;
                if !std::mem::replace(&mut shown.has_heart, true) {
                    beat(Arc::downgrade(&self.shown));
                }
                eprintln!("{} {thing} {text}", clock());
            }
            Style::Json => eprintln!("{}", object(thing, phase, counts, message, "info")),
            Style::Auto | Style::Quiet | Style::Legacy => {}
        }
    }

    /// `thing` is done, well or not.
    pub fn done(&self, thing: &str, phase: &str, well: bool) {
        self.say(thing, phase, None);
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(line) = shown.lines.get_mut(thing) else { return };
        line.is_done = true;
        if let Some(bar) = line.bar.take() {
            let template = if well { "✓ {prefix:24} {wide_msg}" } else { "✗ {prefix:24} {wide_msg}" };
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar.finish();
        }
    }

    /// Things whose containers ended while they were waited for, and what was said of it.
    pub fn restarts(&self) -> Vec<(String, String)> {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = shown.lines.iter().filter_map(|(thing, line)| Some((thing.clone(), line.ended.clone()?)));
        ended.collect()
    }

    /// A remark that belongs to no line.
    pub fn note(&self, text: &str) {
        match self.style {
            Style::Quiet => {}
            Style::Json => eprintln!("{}", object("", "note", None, Some(text), "info")),
            // Above the lines that are being redrawn.
            Style::Tty => self.lines.suspend(|| eprintln!("{text}")),
            Style::Legacy => legacy("info", text, now_ms() - self.begun_ms),
            Style::Auto | Style::Plain => eprintln!("{text}"),
        }
    }

    /// Something that may be wrong. Where lines are redrawn it is said at the end.
    pub fn warn(&self, text: &str) {
        match self.style {
            Style::Quiet => {}
            Style::Json => eprintln!("{}", object("", "note", None, Some(text), "warning")),
            Style::Tty => {
                self.shown.lock().unwrap_or_else(PoisonError::into_inner).warnings.push(text.to_owned());
            }
            Style::Legacy => legacy("warning", text, now_ms() - self.begun_ms),
            Style::Auto | Style::Plain => eprintln!("warning: {text}"),
        }
    }

    /// A line of rancher-compose; only scripts written for it want those.
    pub fn old(&self, line: &str) {
        if self.style == Style::Legacy {
            legacy("info", line, now_ms() - self.begun_ms);
        }
    }

    /// Scripts written for rancher-compose read along.
    pub fn is_old(&self) -> bool {
        self.style == Style::Legacy
    }

    /// What it came to, after the warnings: `3 services, 1 upgraded, 12.4 s`.
    pub fn summary(&self, text: &str) {
        self.flush();
        if !matches!(self.style, Style::Legacy) {
            let tenths = (now_ms() - self.begun_ms) / 100;
            self.note(&format!("{text}, {}.{} s", tenths / 10, tenths % 10));
        }
    }

    /// The warnings that were held back.
    pub fn flush(&self) {
        let warnings = std::mem::take(&mut self.shown.lock().unwrap_or_else(PoisonError::into_inner).warnings);
        for warning in warnings {
            self.lines.suspend(|| eprintln!("warning: {warning}"));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Says every now and then what is still waited for. The thread ends with the program or with the progress.
fn beat(shown: Weak<Mutex<Shown>>) {
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(HEARTBEAT);
            let Some(shown) = shown.upgrade() else { return };
            let mut shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
            if !std::mem::take(&mut shown.is_fresh) {
                for (thing, line) in shown.lines.iter().filter(|(_, line)| !line.is_done) {
                    eprintln!("{} {thing} still {}", clock(), line.text);
                }
            }
        }
    });
}

/// `12:01:07`, in the time of the place.
fn clock() -> String {
    let now = jiff::Timestamp::from_millisecond(now_ms()).unwrap_or_default();
    now.to_zoned(jiff::tz::TimeZone::system()).strftime("%H:%M:%S").to_string()
}

fn object(thing: &str, phase: &str, counts: Option<(i64, i64)>, message: Option<&str>, level: &str) -> Value {
    let now = jiff::Timestamp::from_millisecond(now_ms()).unwrap_or_default().to_string();
    json!({
        "ts": now, "service": thing, "phase": phase, "running": counts.map(|counts| counts.0),
        "wanted": counts.map(|counts| counts.1), "message": message, "level": level,
    })
}

/// The last line of a command that failed, where rancher-compose put it.
pub fn fatal(text: &str) {
    legacy("fatal", text, 0);
}

/// A line as logrus wrote it: for people on a terminal, for programs elsewhere.
fn legacy(level: &str, text: &str, elapsed_ms: i64) {
    let mut out = std::io::stdout().lock();
    let line = if std::io::stdout().is_terminal() {
        let word = match level {
            "info" => "INFO",
            "warning" => "WARN",
            _ => "FATA",
        };
        format!("{word}[{:04}] {text}", elapsed_ms / 1000)
    } else {
        let now = jiff::Timestamp::from_millisecond(now_ms() / 1000 * 1000).unwrap_or_default();
        format!("time=\"{now}\" level={level} msg={} ", Value::from(text))
    };
    // Nobody is left to tell when stdout is closed.
    drop(writeln!(out, "{line}"));
}

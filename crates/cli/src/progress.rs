//! What is going on, on stderr: a line per thing on a terminal, one line per change elsewhere.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::json;

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
}

/// Shows progress. Cheap to share between concurrent waits.
pub struct Progress {
    style: Style,
    lines: MultiProgress,
    shown: Mutex<BTreeMap<String, Line>>,
}

#[derive(Default)]
struct Line {
    bar: Option<ProgressBar>,
    text: String,
}

impl Progress {
    /// `auto` draws on a terminal and writes plain lines elsewhere.
    pub fn new(style: Option<Style>) -> Progress {
        let style = match style {
            None | Some(Style::Auto) if std::io::stderr().is_terminal() => Style::Tty,
            None | Some(Style::Auto) => Style::Plain,
            Some(style) => style,
        };
        Progress { style, lines: MultiProgress::new(), shown: Mutex::default() }
    }

    /// `thing` is in that phase now. Said once per change.
    pub fn say(&self, thing: &str, phase: &str, message: Option<&str>) {
        let text = match message {
            Some(message) => format!("{phase}  {message}"),
            None => phase.to_owned(),
        };
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let line = shown.entry(thing.to_owned()).or_default();
        if line.text == text {
            return;
        }
        line.text.clone_from(&text);
        match self.style {
            Style::Tty => {
                let bar = line.bar.get_or_insert_with(|| {
                    let bar = self.lines.add(ProgressBar::new_spinner());
                    if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix:20} {wide_msg}") {
                        bar.set_style(style);
                    }
                    bar.set_prefix(thing.to_owned());
                    bar.enable_steady_tick(Duration::from_millis(120));
                    bar
                });
                bar.set_message(text);
            }
            Style::Plain => eprintln!("{thing} {text}"),
            Style::Json => eprintln!("{}", json!({"service": thing, "phase": phase, "message": message})),
            Style::Auto | Style::Quiet => {}
        }
    }

    /// `thing` is done, well or not.
    pub fn done(&self, thing: &str, phase: &str, well: bool) {
        self.say(thing, phase, None);
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bar) = shown.get_mut(thing).and_then(|line| line.bar.take()) {
            if let Ok(style) = ProgressStyle::with_template(if well {
                "✓ {prefix:20} {wide_msg}"
            } else {
                "✗ {prefix:20} {wide_msg}"
            }) {
                bar.set_style(style);
            }
            bar.finish();
        }
    }

    /// A remark that belongs to no line.
    pub fn note(&self, text: &str) {
        match self.style {
            Style::Quiet => {}
            Style::Json => eprintln!("{}", json!({"level": "note", "message": text})),
            // Above the lines that are being redrawn.
            Style::Tty => self.lines.suspend(|| eprintln!("{text}")),
            Style::Auto | Style::Plain => eprintln!("{text}"),
        }
    }
}

//! What a simulated container does, written in its image or its labels, so that a test asks for it through the API
//! like everything else.
//!
//! Image: the words after `sim:` or anywhere in the path or tag, separated by `/`, e.g. `sim:run-for/500ms/exit/3`.
//! Labels: `io.remuda.sim.run-for=500ms`. Everything else runs until it is stopped.

use std::collections::BTreeMap;
use std::time::Duration;

const LABEL_PREFIX: &str = "io.remuda.sim.";

/// What was asked for. The default runs until it is stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Behaviour {
    /// `exit/3`: ends by itself with that code (at once, or after `run-for`).
    pub exit: Option<i64>,
    /// `run-for/500ms`: ends by itself after that time.
    pub run_for: Option<Duration>,
    /// `pull-fail`: the image cannot be pulled.
    pub pull_fail: bool,
    /// `create-fail`: the engine refuses the container.
    pub create_fail: bool,
    /// `start-fail` (always) or `start-fail/2` (the first two times).
    pub start_fail: Option<u64>,
    /// `pull-takes/2s`: how long the pull takes.
    pub pull_takes: Option<Duration>,
    /// `start-takes/2s`.
    pub start_takes: Option<Duration>,
    /// `ignore-term`: a stop takes the whole grace period.
    pub ignore_term: bool,
    /// `unhealthy` (never answers health checks) or `unhealthy-after/5s`.
    pub unhealthy_after: Option<Duration>,
    /// `healthy-after/2s`: answers health checks only when it has run so long.
    pub healthy_after: Option<Duration>,
    /// `lines/1000`: log lines written at once when it starts.
    pub lines: u64,
}

/// Reads image and labels; words that mean nothing are just names.
pub fn read(image: &str, labels: &BTreeMap<String, String>) -> Behaviour {
    let mut behaviour = Behaviour::default();
    let words: Vec<&str> = image.split(['/', ':']).collect();
    for (position, word) in words.iter().enumerate() {
        behaviour.take(word, words.get(position + 1).copied());
    }
    for (label, value) in labels {
        if let Some(word) = label.strip_prefix(LABEL_PREFIX) {
            behaviour.take(word, Some(value));
        }
    }
    behaviour
}

impl Behaviour {
    /// Whether it answers health checks when it has run so long.
    pub fn is_healthy(&self, ran: Duration) -> bool {
        self.healthy_after.is_none_or(|after| ran >= after) && self.unhealthy_after.is_none_or(|after| ran < after)
    }

    fn take(&mut self, word: &str, value: Option<&str>) {
        let number = || value.and_then(|value| value.parse::<u64>().ok());
        match word {
            "exit" => self.exit = value.and_then(|value| value.parse().ok()).or(self.exit),
            "run-for" => self.run_for = value.and_then(duration).or(self.run_for),
            "pull-fail" => self.pull_fail = true,
            "create-fail" => self.create_fail = true,
            "start-fail" => self.start_fail = Some(number().unwrap_or(u64::MAX)),
            "pull-takes" => self.pull_takes = value.and_then(duration).or(self.pull_takes),
            "start-takes" => self.start_takes = value.and_then(duration).or(self.start_takes),
            "ignore-term" => self.ignore_term = true,
            "unhealthy" => self.unhealthy_after = Some(Duration::ZERO),
            "unhealthy-after" => self.unhealthy_after = value.and_then(duration).or(self.unhealthy_after),
            "healthy-after" => self.healthy_after = value.and_then(duration).or(self.healthy_after),
            "lines" => self.lines = number().unwrap_or(self.lines),
            _ => {}
        }
    }
}

/// `500ms`, `2s`, `1m`.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    match &text[digits..] {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_secs(number.checked_mul(60)?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_and_labels_say_what_happens() {
        let check = |image: &str, label: Option<(&str, &str)>, expected: Behaviour| {
            let labels = label.map(|(key, value)| (format!("{LABEL_PREFIX}{key}"), value.to_owned()));
            assert_eq!(read(image, &labels.into_iter().collect()), expected, "{image}");
        };
        let d = Behaviour::default;
        check("sim:web", None, d());
        check("nginx:latest", None, d());
        check("sim:exit/3", None, Behaviour { exit: Some(3), ..d() });
        check("sim:run-for/500ms", None, Behaviour { run_for: Some(Duration::from_millis(500)), ..d() });
        let both = Behaviour { run_for: Some(Duration::from_secs(2)), exit: Some(1), ..d() };
        check("sim:run-for/2s/exit/1", None, both);
        check("sim:start-fail", None, Behaviour { start_fail: Some(u64::MAX), ..d() });
        check("sim:start-fail/2", None, Behaviour { start_fail: Some(2), ..d() });
        check("nginx", Some(("pull-fail", "true")), Behaviour { pull_fail: true, ..d() });
        check("sim:exit/x", None, d());
        check("sim:unhealthy", None, Behaviour { unhealthy_after: Some(Duration::ZERO), ..d() });
    }

    #[test]
    fn health_follows_the_time_it_ran() {
        let at = |image: &str, seconds: u64| read(image, &BTreeMap::new()).is_healthy(Duration::from_secs(seconds));
        assert!(at("sim:web", 0) && at("sim:healthy-after/2s", 2) && at("sim:unhealthy-after/2s", 1));
        assert!(!at("sim:unhealthy", 0) && !at("sim:healthy-after/2s", 1) && !at("sim:unhealthy-after/2s", 2));
    }
}

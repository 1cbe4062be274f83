//! The table of numbers, on the terminal and in `docs/performance.md`.

use std::fmt;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

const BEGIN: &str = "<!-- numbers: written by `make bench RECORD=1` -->";
const END: &str = "<!-- end of numbers -->";

/// What was measured, in the order it was.
pub struct Table(Vec<[String; 5]>);

impl Table {
    pub fn new() -> Table {
        Table(Vec::new())
    }

    /// A time beside another of the same run.
    #[allow(clippy::too_many_arguments, reason = "a row has this many cells")]
    pub fn row(
        &mut self,
        what: &str,
        value: String,
        target: &str,
        beside: &str,
        other: String,
        own: Duration,
        base: Duration,
    ) {
        let ratio = own.as_secs_f64() / base.as_secs_f64().max(1e-9);
        self.add([what.to_string(), value, target.to_string(), format!("{beside}: {other}"), format!("{ratio:.2}")]);
    }

    /// A size beside another of the same run.
    pub fn size_row(&mut self, what: &str, mib: f64, target: &str, beside: &str, other_mib: f64) {
        let ratio = format!("{:.2}", mib / other_mib.max(0.01));
        self.add([
            what.to_string(),
            format!("{mib:.1} MB"),
            target.to_string(),
            format!("{beside}: {other_mib:.1} MB"),
            ratio,
        ]);
    }

    /// A rate beside another of the same run.
    pub fn ratio_row(&mut self, what: &str, value: String, beside: &str, other: String, ratio: f64) {
        self.add([what.to_string(), value, String::new(), format!("{beside}: {other}"), format!("{ratio:.2}")]);
    }

    /// A number with nothing to stand beside.
    pub fn plain_row(&mut self, what: &str, value: String, target: &str) {
        self.add([what.to_string(), value, target.to_string(), String::new(), String::new()]);
    }

    fn add(&mut self, row: [String; 5]) {
        // Hours later the table comes as a whole; meanwhile a person wants to see that something happens.
        eprintln!("{}: {}", row[0], row[1]);
        self.0.push(row);
    }

    /// Replaces what stands between the two marks of a page.
    pub fn record(&self, path: &Path) -> Result<()> {
        let page = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let (before, rest) = page.split_once(BEGIN).with_context(|| format!("{} lacks `{BEGIN}`", path.display()))?;
        let (_, after) = rest.split_once(END).with_context(|| format!("{} lacks `{END}`", path.display()))?;
        fs::write(path, format!("{before}{BEGIN}\n{}\n\n{self}\n{END}{after}", machine()))
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

impl fmt::Display for Table {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "| what | measured | target | beside, in the same run | ratio |")?;
        writeln!(out, "|---|---|---|---|---|")?;
        for row in &self.0 {
            writeln!(out, "| {} |", row.join(" | "))?;
        }
        Ok(())
    }
}

/// What the numbers were taken on.
fn machine() -> String {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpu = text("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, name)| name));
    let n_cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = text("/proc/sys/kernel/osrelease");
    let profile = if cfg!(debug_assertions) { "debug build: not the promised numbers" } else { "release build" };
    format!("On {n_cpus} × {}, Linux {}, {profile}.", model.unwrap_or("unknown processor"), kernel.trim())
}

/// The value that this many of a hundred do not exceed. Sorts.
pub fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort();
    times[(times.len() * percent / 100).min(times.len() - 1)]
}

pub fn milliseconds(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1e3;
    if ms < 10.0 { format!("{ms:.2} ms") } else { format!("{ms:.0} ms") }
}

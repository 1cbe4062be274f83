//! Flags that every command takes.

use std::path::PathBuf;
use std::time::Duration;

use crate::apply::Patience;
use crate::complete;
use crate::failure::Look;
use crate::output::Format;
use crate::paint::Colour;
use crate::progress::Style;

#[derive(Clone, Debug, Default, clap::Args)]
pub struct Globals {
    /// Context to use, by name (see `remuda context`)
    #[arg(
        long,
        global = true,
        env = "REMUDA_CONTEXT",
        hide_env = true,
        value_name = "NAME",
        help_heading = "Global options",
        add = complete::contexts()
    )]
    pub context: Option<String>,
    /// Address of the server
    #[arg(long, global = true, value_name = "URL", help_heading = "Global options")]
    pub url: Option<String>,
    /// Access key
    #[arg(long, global = true, value_name = "KEY", help_heading = "Global options")]
    pub access_key: Option<String>,
    /// Secret key
    #[arg(long, global = true, value_name = "KEY", help_heading = "Global options")]
    pub secret_key: Option<String>,
    /// Environment to work in, by id or name
    #[arg(
        long = "environment",
        visible_alias = "env",
        global = true,
        value_name = "ENV",
        help_heading = "Global options",
        add = complete::environments()
    )]
    pub environment: Option<String>,
    /// Form of the output
    #[arg(short, long, global = true, value_enum, value_name = "FORM", help_heading = "Global options")]
    pub output: Option<Format>,
    /// Print ids only
    #[arg(short, long, global = true, help_heading = "Global options")]
    pub quiet: bool,
    /// Leave the heading of tables out
    #[arg(long, global = true, help_heading = "Global options")]
    pub no_headers: bool,
    /// Colour in tables, logs and messages
    #[arg(long, global = true, value_enum, value_name = "WHEN", help_heading = "Global options")]
    pub color: Option<Colour>,
    /// Form of progress on stderr
    #[arg(long, global = true, value_enum, value_name = "FORM", help_heading = "Global options")]
    pub progress: Option<Style>,
    /// Longest wait for a transition, like 90s, 10m or 1h
    #[arg(long, global = true, value_parser = duration, value_name = "TIME", default_value = "10m", help_heading = "Global options")]
    pub timeout: Option<Duration>,
    /// Ask nothing: yes to every question
    #[arg(short, long, global = true, help_heading = "Global options")]
    pub yes: bool,
    /// Never ask; a question that would be asked is an error
    #[arg(long, global = true, help_heading = "Global options")]
    pub no_input: bool,
    /// Print every request to stderr
    #[arg(long, global = true, help_heading = "Global options")]
    pub debug: bool,
    /// Compose file, several are merged in order; `-` reads stdin (before the command also `-f`)
    #[arg(long, global = true, value_name = "FILE", help_heading = "Project options")]
    pub file: Vec<PathBuf>,
    /// rancher-compose file [default: rancher-compose.yml beside the compose file] (before the command also `-r`)
    #[arg(long, global = true, value_name = "FILE", help_heading = "Project options")]
    pub rancher_file: Option<PathBuf>,
    /// Name of the stack [default: name in the file, or the directory] (before the command also `-s`, `-p`)
    #[arg(
        long = "stack",
        visible_alias = "project-name",
        global = true,
        value_name = "NAME",
        help_heading = "Project options",
        add = complete::stacks()
    )]
    pub stack: Option<String>,
    /// File with values of variables (before the command also `-e`)
    #[arg(long, global = true, value_name = "FILE", help_heading = "Project options")]
    pub env_file: Vec<PathBuf>,
    /// Profile to switch on; `*` is all
    #[arg(long, global = true, value_name = "NAME", help_heading = "Project options")]
    pub profile: Vec<String>,
    /// Directory that names the stack and holds `.env` [default: that of the compose file]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Project options")]
    pub project_directory: Option<PathBuf>,
    /// A variable without value is an error
    #[arg(long, global = true, help_heading = "Project options")]
    pub strict: bool,
    /// Wait also for health, as `-w` before the command asks
    #[arg(skip)]
    pub wait: bool,
    /// The old command line's file of keys, where it is not in its usual place
    #[arg(skip)]
    pub rancher_config: Option<PathBuf>,
    #[command(flatten)]
    pub short: Short,
}

/// Short names of the project options. Not global: after a command its own short names mean something else
/// (`logs -f`, `exec -e`), before it these keep what rancher-compose gave them.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Short {
    #[arg(id = "short-rancher-file", short = 'r', value_name = "FILE", hide = true)]
    rancher_file: Option<PathBuf>,
    #[arg(id = "short-project", short = 'p', value_name = "NAME", hide = true)]
    project: Option<String>,
    #[arg(id = "short-wait", short = 'w', hide = true)]
    wait: bool,
    #[command(flatten)]
    project_options: ProjectOptions,
}

/// Those that also follow `up` and its like, as in the old command line.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ProjectOptions {
    #[arg(id = "short-file", short = 'f', value_name = "FILE", hide = true)]
    file: Vec<PathBuf>,
    #[arg(id = "short-stack", short = 's', value_name = "NAME", hide = true)]
    stack: Option<String>,
    #[arg(id = "short-env-file", short = 'e', value_name = "FILE", hide = true)]
    env_file: Vec<PathBuf>,
}

/// How long an acting command stays.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct WaitOptions {
    /// Wait also until everything is healthy
    #[arg(long, conflicts_with = "no_wait")]
    pub wait: bool,
    /// Return when the server has accepted the requests
    #[arg(long)]
    pub no_wait: bool,
}

impl WaitOptions {
    pub fn patience(self, globals: &Globals) -> Patience {
        match (self.no_wait, self.wait || globals.wait) {
            (true, _) => Patience::None,
            (false, true) => Patience::Healthy,
            (false, false) => Patience::Settled,
        }
    }
}

impl Globals {
    /// The short options where the long ones are looked for.
    #[must_use]
    pub fn merged(mut self) -> Globals {
        let Short { rancher_file, project, wait, project_options } = std::mem::take(&mut self.short);
        self.rancher_file = rancher_file.or(self.rancher_file);
        self.stack = project.or(self.stack);
        self.wait = wait;
        self.with(project_options)
    }

    /// With options given after the command.
    #[must_use]
    pub fn with(mut self, options: ProjectOptions) -> Globals {
        self.file.extend(options.file);
        self.stack = options.stack.or(self.stack);
        self.env_file.extend(options.env_file);
        self
    }

    pub fn colour(&self) -> Colour {
        self.color.unwrap_or_default()
    }

    /// Form of failures.
    pub fn look(&self) -> Look {
        Look { json: matches!(self.output, Some(Format::Json | Format::Jsonl)), colour: self.colour().on_stderr() }
    }

    /// Longest wait for a transition.
    pub fn timeout(&self) -> Duration {
        self.timeout.unwrap_or(Duration::from_secs(600))
    }
}

/// `90s`, `10m`, `1h`, `500ms`; a bare number is seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| format!("`{text}` is no time; write 90s, 10m or 1h"))?;
    match &text[digits.len()..] {
        "ms" => Ok(Duration::from_millis(number)),
        "" | "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number.saturating_mul(60))),
        "h" => Ok(Duration::from_secs(number.saturating_mul(3600))),
        unit => Err(format!("`{unit}` is no unit of time; there are ms, s, m, h")),
    }
}

/// A point in time, as people give it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    Ago(Duration),
    At(jiff::Timestamp),
}

impl Moment {
    pub fn at(self, now_ms: i64) -> jiff::Timestamp {
        match self {
            Moment::At(at) => at,
            Moment::Ago(time) => {
                let ago_ms = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
                jiff::Timestamp::from_millisecond(now_ms.saturating_sub(ago_ms)).unwrap_or(jiff::Timestamp::MIN)
            }
        }
    }
}

/// `10m` ago, or `2026-05-01T12:00:00Z`.
pub fn moment(text: &str) -> Result<Moment, String> {
    match text.parse() {
        Ok(at) => Ok(Moment::At(at)),
        Err(_) => {
            duration(text).map(Moment::Ago).map_err(|error| format!("{error}, or a time like 2026-05-01T12:00:00Z"))
        }
    }
}

/// The same, but a bare number is milliseconds, as rancher-compose had it.
pub fn interval(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(number) => Ok(Duration::from_millis(number)),
        Err(_) => duration(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        globals: Globals,
        #[command(subcommand)]
        command: crate::Command,
    }

    #[test]
    fn short_options_mean_what_their_place_says() {
        use clap::Parser;
        let check = |line: &str, file: Option<&str>, stack: Option<&str>| {
            let Line { globals, mut command } = Line::try_parse_from(line.split(' ')).expect(line);
            let globals = globals.merged().with(command.project_options());
            assert_eq!(globals.file.first().map(PathBuf::as_path), file.map(std::path::Path::new), "{line}");
            assert_eq!(globals.stack.as_deref(), stack, "{line}");
        };
        check("remuda -f a.yml -p shop up -d", Some("a.yml"), Some("shop"));
        check("remuda up -d -f a.yml -s shop web", Some("a.yml"), Some("shop"));
        check("remuda up --file a.yml --project-name shop", Some("a.yml"), Some("shop"));
        check("remuda -s shop logs -f web", None, Some("shop"));
        check("remuda ps -s shop", None, Some("shop"));
        check("remuda exec -e A=1 web -- env -f", None, None);
        check("remuda run -p 80:80 -e A=1 nginx", None, None);
        check("remuda rm -f web", None, None);
        check("remuda -p shop -f a.yml up -d -u -c --batch-size 1 --interval 500", Some("a.yml"), Some("shop"));
        check("remuda up -r -s shop web", None, Some("shop"));
        check("remuda upgrade finish web", None, None);
        check("remuda upgrade web1 web2 --update-links=false --cleanup", None, None);
        check("remuda diff -f a.yml", Some("a.yml"), None);
        check("remuda -w up -d", None, None);
    }

    #[test]
    fn every_command_is_well_formed() {
        <Line as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn times_people_write() {
        for (text, ms) in [("90s", 90_000), ("10m", 600_000), ("1h", 3_600_000), ("5", 5_000), ("20ms", 20)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)));
        }
        assert_eq!(moment("10m"), Ok(Moment::Ago(Duration::from_secs(600))));
        let at = moment("1970-01-01T00:00:01Z").map(|moment| moment.at(0).as_millisecond());
        assert_eq!((at, Moment::Ago(Duration::from_secs(1)).at(5000).as_millisecond()), (Ok(1000), 4000));
        assert!(moment("yesterday").is_err());
        assert_eq!(interval("500"), Ok(Duration::from_millis(500)));
        assert_eq!(interval("2s"), Ok(Duration::from_secs(2)));
        assert!(duration("soon").is_err() && duration("5d").is_err());
    }
}

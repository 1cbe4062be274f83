//! `remuda-testbed`: the testbed by hand, to try things on several hosts without several machines.
//!
//! With `--remuda PROGRAM` each host has an agent and they have a server.
//!
//! `up` leaves a keeper process behind that owns the hosts and listens on a socket in the testbed's directory; `down`
//! tells it to end. A killed keeper is no trouble: its guardian cleans, and so does `sweep`.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

mod orders;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use remuda_testbed::{Fleet, Postgres, Testbed, Tuning, bed, wait};

use orders::{Bed, Order};

/// Hosts for tests: network namespaces with a Docker daemon each
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: What,
}

#[derive(Subcommand)]
enum What {
    /// Make hosts and leave them running
    Up {
        /// How many
        #[arg(short = 'n', long, default_value_t = 1)]
        hosts: usize,
        /// Load the testbed's images on them
        #[arg(long)]
        images: bool,
        /// Start this `remuda` as a server, and as an agent on each host
        #[arg(long, value_name = "PROGRAM")]
        remuda: Option<PathBuf>,
    },
    #[command(flatten)]
    Order(Order),
    /// Remove the hosts that `up` made
    Down,
    /// Show the hosts that `up` made
    Ls,
    /// Run a command on a host, with DOCKER_HOST set to its daemon
    Exec {
        /// `host1`, `host2` …
        host: String,
        /// The command and its arguments
        #[arg(last = true, required = true)]
        argv: Vec<String>,
    },
    /// Remove what killed tests left behind, and see the shared PostgreSQL stop when nobody uses it
    Sweep,
    /// Run a command with a PostgreSQL for tests kept running beside it
    WithPostgres {
        /// The command and its arguments
        #[arg(last = true, required = true)]
        argv: Vec<String>,
    },
    /// Own hosts until told otherwise, or killed; prints `ready DIRECTORY`, where kept.json tells about them
    #[command(hide = true)]
    Keep {
        #[arg(long)]
        hosts: usize,
        #[arg(long)]
        images: bool,
        #[arg(long)]
        remuda: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("remuda-testbed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(what: What) -> Result<ExitCode> {
    match what {
        What::Up { hosts, images, remuda } => up(hosts, images, remuda)?,
        What::Order(order) => give(&order)?,
        What::Down => down()?,
        What::Ls => print!("{}", kept()?.context("no hosts are up")?.1.table()),
        What::Exec { host, argv } => return exec(&host, &argv),
        What::Sweep => {
            for number in bed::sweep()? {
                println!("removed what was left of testbed {number}");
            }
            Postgres::wait_until_unused_has_stopped()?;
        }
        What::WithPostgres { argv } => {
            let _server = Postgres::start(Tuning::ForTests)?;
            let (program, args) = argv.split_first().context("no command given")?;
            let status = Command::new(program).args(args).status().with_context(|| format!("cannot run {program}"))?;
            return Ok(ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1)));
        }
        What::Keep { hosts, images, remuda } => keep(hosts, images, remuda)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn up(n_hosts: usize, images: bool, remuda: Option<PathBuf>) -> Result<()> {
    if let Some((_, bed)) = kept()? {
        bail!("hosts are up already; `remuda-testbed down` removes them:\n{}", bed.table());
    }
    let mut keeper = Command::new(std::env::current_exe().context("cannot find this program")?);
    keeper.args(["keep", "--hosts", &n_hosts.to_string()]).args(images.then_some("--images"));
    if let Some(program) = remuda {
        let program = fs::canonicalize(&program).with_context(|| format!("there is no {}", program.display()))?;
        keeper.arg("--remuda").arg(program);
    }
    // It outlives us and our terminal, so what it has to say goes to a file.
    let log = std::env::temp_dir().join(format!("remuda-testbed-keeper-{}.log", std::process::id()));
    let errors = fs::File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut keeper = keeper
        .process_group(0)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(errors)
        .spawn()
        .context("cannot start the keeper")?;
    let mut word = String::new();
    if let Some(stdout) = keeper.stdout.take() {
        BufReader::new(stdout).read_line(&mut word).context("cannot hear the keeper")?;
    }
    let said = fs::read_to_string(&log).unwrap_or_default();
    // The keeper still has it open; what it says from now on nobody would look for.
    fs::remove_file(&log).with_context(|| format!("cannot remove {}", log.display()))?;
    if !word.starts_with("ready ") {
        let status = keeper.wait().context("cannot wait for the keeper")?;
        bail!("the keeper ended ({status}): {}", said.trim());
    }
    let (dir, bed) = kept()?.context("the hosts are gone again")?;
    print!("{}", bed.table());
    if dir.join("env").exists() {
        println!("the server: `. {}` and use `remuda`", dir.join("env").display());
    }
    Ok(())
}

fn keep(n_hosts: usize, images: bool, remuda: Option<PathBuf>) -> Result<()> {
    let kept = match remuda {
        Some(program) => Bed::Fleet(Fleet::start(&program, n_hosts)?),
        None => Bed::Hosts(Testbed::start(n_hosts)?),
    };
    let bed = kept.testbed();
    if images {
        for name in remuda_testbed::image::NAMES {
            bed.load_image(name)?;
        }
    }
    let listener = UnixListener::bind(bed.dir().join("keeper.sock")).context("cannot listen")?;
    let state = serde_json::to_vec_pretty(&Kept::of(bed)?.to_json()).context("cannot write the state")?;
    fs::write(bed.dir().join("kept.json"), state).context("cannot write the state")?;
    if let Bed::Fleet(fleet) = &kept {
        fs::write(bed.dir().join("env"), fleet.environment()).context("cannot write the state")?;
    }
    writeln!(std::io::stdout(), "ready {}", bed.dir().display()).context("nobody listens")?;
    loop {
        let (mut stream, _) = listener.accept().context("cannot accept")?;
        let mut word = String::new();
        BufReader::new(&stream).read_line(&mut word).ok();
        if word.trim() == "down" {
            drop(kept);
            // Closing the stream tells the other side that all is gone.
            return Ok(());
        }
        let words: Vec<&str> = word.split_whitespace().collect();
        let said = match Order::parse(&words).and_then(|order| kept.carry_out(&order)) {
            Ok(()) => String::from("done\n"),
            Err(error) => format!("{error:#}\n"),
        };
        // Whoever asked may be gone.
        stream.write_all(said.as_bytes()).ok();
    }
}

/// Has the keeper do something.
fn give(order: &Order) -> Result<()> {
    let Some((dir, _)) = kept()? else { bail!("no hosts are up: run `remuda-testbed up`") };
    let mut stream = UnixStream::connect(dir.join("keeper.sock")).context("cannot reach the keeper")?;
    writeln!(stream, "{}", order.words().join(" ")).context("cannot tell the keeper")?;
    let mut said = String::new();
    BufReader::new(stream).read_line(&mut said).context("cannot hear the keeper")?;
    match said.trim() {
        "done" => Ok(()),
        said => bail!("{said}"),
    }
}

fn down() -> Result<()> {
    let Some((dir, _)) = kept()? else { bail!("no hosts are up") };
    let mut stream = UnixStream::connect(dir.join("keeper.sock")).context("cannot reach the keeper")?;
    stream.write_all(b"down\n").context("cannot tell the keeper")?;
    let mut rest = String::new();
    BufReader::new(stream).read_line(&mut rest).ok();
    wait::until_true("the testbed's directory to go", Duration::from_secs(30), || !dir.exists())
}

fn exec(host: &str, argv: &[String]) -> Result<ExitCode> {
    let (_, bed) = kept()?.context("no hosts are up: run `remuda-testbed up`")?;
    let names = bed.0.iter().map(|host| host.name.clone()).collect::<Vec<_>>().join(", ");
    let Some(host) = bed.0.iter().find(|known| known.name == host) else {
        bail!("no host `{host}`; there are {names}")
    };
    let mut command = Command::new("sh");
    command.args(&host.enter).args(argv).env("DOCKER_HOST", format!("unix://{}", host.docker_socket));
    Err(command.exec()).context("cannot run sh")
}

/// What `up` made, as written down for later commands.
struct Kept(Vec<KeptHost>);

struct KeptHost {
    name: String,
    address: String,
    netns: String,
    docker_socket: String,
    enter: Vec<String>,
}

impl Kept {
    fn of(bed: &Testbed) -> Result<Kept> {
        let hosts = bed.hosts().iter().map(|host| {
            Ok(KeptHost {
                name: host.name.clone(),
                address: host.address.to_string(),
                netns: host.netns_name.clone(),
                docker_socket: host.docker_socket().display().to_string(),
                enter: host.enter()?.map(|part| part.display().to_string()).to_vec(),
            })
        });
        hosts.collect::<Result<_>>().map(Kept)
    }

    fn to_json(&self) -> serde_json::Value {
        let hosts = self.0.iter().map(|host| {
            serde_json::json!({
                "name": host.name, "address": host.address, "netns": host.netns, "dockerSocket": host.docker_socket,
                "enter": host.enter,
            })
        });
        hosts.collect()
    }

    fn from_json(value: &serde_json::Value) -> Option<Kept> {
        let text = |host: &serde_json::Value, key: &str| Some(host.get(key)?.as_str()?.to_string());
        let hosts = value.as_array()?.iter().map(|host| {
            Some(KeptHost {
                name: text(host, "name")?,
                address: text(host, "address")?,
                netns: text(host, "netns")?,
                docker_socket: text(host, "dockerSocket")?,
                enter: host
                    .get("enter")?
                    .as_array()?
                    .iter()
                    .filter_map(|part| Some(part.as_str()?.to_string()))
                    .collect(),
            })
        });
        hosts.collect::<Option<Vec<_>>>().map(Kept)
    }

    fn table(&self) -> String {
        let mut text = format!("{:<8} {:<16} {:<10} {}\n", "HOST", "ADDRESS", "NETNS", "DOCKER_HOST");
        for host in &self.0 {
            text +=
                &format!("{:<8} {:<16} {:<10} unix://{}\n", host.name, host.address, host.netns, host.docker_socket);
        }
        text
    }
}

/// The directory and hosts of the testbed that a live keeper owns.
fn kept() -> Result<Option<(PathBuf, Kept)>> {
    for dir in bed::dirs_in_use()? {
        let Ok(text) = fs::read(dir.join("kept.json")) else { continue };
        let value = serde_json::from_slice(&text).with_context(|| format!("{} is broken", dir.display()))?;
        return Ok(Some((dir, Kept::from_json(&value).context("kept.json is not ours")?)));
    }
    Ok(None)
}

//! Something to balance and somebody who asks: targets that stop softly, and clients that never ask twice. Also of
//! `make bench`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use remuda_agent::balancer::rendered::Server;
use remuda_runtime::{Seams, Tasks};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// How long a request for `/slow` takes.
const SLOW: Duration = Duration::from_secs(2);
/// A target that ends serves what is in its backlog, as programs that stop softly do.
const BACKLOG: Duration = Duration::from_millis(50);
/// No answer takes that long.
const PATIENCE: Duration = Duration::from_secs(20);

/// HTTP servers that answer with their name.
pub struct Targets {
    address: IpAddr,
    seams: Seams,
    open: BTreeMap<String, Tasks>,
}

impl Targets {
    pub fn new(address: Ipv4Addr) -> Targets {
        Targets { address: address.into(), seams: Seams::real(), open: BTreeMap::new() }
    }

    pub async fn open(&mut self, name: &str) -> Server {
        let listener = TcpListener::bind((self.address, 0)).await.expect("binds");
        let address = listener.local_addr().expect("has one");
        let (own, all, name) = (self.seams.tasks.child(), self.seams.tasks.clone(), name.to_owned());
        self.open.insert(name.clone(), own.clone());
        self.seams.tasks.spawn("target", {
            let name = name.clone();
            async move {
                loop {
                    let accepted = if own.is_stopping() {
                        let Ok(accepted) = tokio::time::timeout(BACKLOG, listener.accept()).await else { return };
                        accepted
                    } else {
                        tokio::select! {
                            biased;
                            () = own.stopping() => continue,
                            accepted = listener.accept() => accepted,
                        }
                    };
                    let Ok((stream, _)) = accepted else { continue };
                    all.spawn("conversation", serve(stream, name.clone(), own.clone()));
                }
            }
        });
        Server { name, address, options: Vec::new(), drain: false }
    }

    pub fn close(&mut self, name: &str) {
        self.open.remove(name).expect("is open").stop();
    }
}

async fn serve(stream: TcpStream, name: String, stop: Tasks) {
    let mut stream = BufReader::new(stream);
    let mut first = true;
    loop {
        // One that was accepted is answered; between requests the end may come.
        let mut is_slow = false;
        let head = async {
            let mut line = String::new();
            let mut is_empty = true;
            loop {
                line.clear();
                if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                    return false;
                }
                if line == "\r\n" {
                    return !is_empty;
                }
                is_slow |= is_empty && line.contains(" /slow ");
                is_empty = false;
            }
        };
        let goes_on = if first {
            head.await
        } else {
            tokio::select! { biased; goes_on = head => goes_on, () = stop.stopping() => false }
        };
        first = false;
        if is_slow {
            tokio::time::sleep(SLOW).await;
        }
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len());
        if !goes_on || stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// What clients met.
#[derive(Default)]
pub struct Met {
    pub answered: AtomicU64,
    pub failed: AtomicU64,
    pub first_failures: std::sync::Mutex<Vec<String>>,
}

impl Met {
    fn failure(&self, why: String) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        let mut known = self.first_failures.lock().expect("nobody panics with it");
        if known.len() < 10 {
            known.push(why);
        }
    }

    pub fn check(&self) {
        let (answered, failed) = (self.answered.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed));
        assert_eq!(failed, 0, "of {}: {:#?}", answered + failed, self.first_failures.lock().expect("nobody panics"));
    }
}

/// Clients that ask as fast as they are answered, until `tasks` stops: every other one over one connection for as
/// long as it is let, the rest over a new one each time.
pub fn clients(address: SocketAddr, n_clients: usize, tasks: &Tasks) -> Arc<Met> {
    let met = Arc::new(Met::default());
    for number in 0..n_clients {
        let (met, tasks_here) = (met.clone(), tasks.clone());
        tasks.spawn("client", async move {
            let mut connection = None;
            while !tasks_here.is_stopping() {
                let asked = tokio::time::timeout(PATIENCE, ask(address, number % 2 == 0, &mut connection)).await;
                match asked {
                    Ok(Ok(())) => drop(met.answered.fetch_add(1, Ordering::Relaxed)),
                    Ok(Err(why)) => {
                        connection = None;
                        met.failure(why);
                    }
                    Err(_) => {
                        connection = None;
                        met.failure("no answer".to_owned());
                    }
                }
            }
        });
    }
    met
}

async fn ask(address: SocketAddr, keep: bool, connection: &mut Option<BufReader<TcpStream>>) -> Result<(), String> {
    let said = |step: &'static str| move |error: std::io::Error| format!("{step}: {error}");
    let mut stream = match connection.take() {
        Some(stream) => stream,
        None => BufReader::new(TcpStream::connect(address).await.map_err(said("connect"))?),
    };
    let close = if keep { "" } else { "Connection: close\r\n" };
    let request = format!("GET / HTTP/1.1\r\nHost: test\r\n{close}\r\n");
    stream.write_all(request.as_bytes()).await.map_err(said("write"))?;
    let (mut status, mut length, mut closes) = (String::new(), 0_usize, !keep);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.map_err(said("read"))? == 0 {
            return Err("the connection ended without an answer".to_owned());
        }
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if status.is_empty() {
            status = line;
        } else if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        } else if line == "connection: close" {
            closes = true;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.map_err(said("read"))?;
    if !status.contains(" 200 ") {
        return Err(status);
    }
    if !closes {
        *connection = Some(stream);
    }
    Ok(())
}

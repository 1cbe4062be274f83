//! What HAProxy's command socket is told and how its answers read: text in, values out.
//!
//! Whether servers are as they shall be is read from `show servers state`, not from what each command answered: those
//! sentences differ between releases, that table does not.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use crate::balancer::decide::{Step, weight};
use crate::balancer::rendered::{Rendered, Server};

/// One line may have 16 kB with HAProxy's default buffers.
const LONGEST_LINE: usize = 4_000;
/// Says to the master process: for the worker that serves now.
const WORKER: &str = "@1 ";

/// Bits of `srv_admin_state` that mean maintenance, for whatever reason.
const MAINTENANCE: u32 = 0x01 | 0x02 | 0x04 | 0x20 | 0x40;
/// Bits that mean draining.
const DRAIN: u32 = 0x08 | 0x10;

/// The lines that carry out steps on servers. Certificates and reloads are conversations of their own.
pub fn lines(steps: &[Step]) -> Vec<String> {
    pack(steps.iter().flat_map(server_commands))
}

/// The lines that delete servers.
pub fn deletions<'a>(servers: impl IntoIterator<Item = &'a (String, String)>) -> Vec<String> {
    pack(servers.into_iter().map(|(backend, name)| format!("del server {backend}/{name}")))
}

/// Several commands per line, so that a thousand servers are some dozens of conversations.
fn pack(commands: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for command in commands {
        match lines.last_mut().filter(|line| line.len() + command.len() < LONGEST_LINE) {
            Some(line) => {
                line.push_str("; ");
                line.push_str(WORKER);
                line.push_str(&command);
            }
            None => lines.push(format!("{WORKER}{command}")),
        }
    }
    lines
}

fn server_commands(step: &Step) -> Vec<String> {
    let state = |of: &str, drain: bool| format!("set server {of} state {}", if drain { "drain" } else { "ready" });
    match step {
        Step::Add { backend, server } => {
            let of = format!("{backend}/{}", server.name);
            let mut commands =
                vec![format!("add server {of} {} {}", server.address, server.options.join(" ")).trim_end().to_owned()];
            if server.options.iter().any(|word| word == "check") {
                commands.push(format!("enable health {of}"));
            }
            // Last: from here on it gets work.
            commands.push(state(&of, server.drain));
            commands
        }
        Step::TakeBack { backend, server } => {
            let of = format!("{backend}/{}", server.name);
            let weight = weight(server).map(|weight| format!("set server {of} weight {weight}"));
            weight.into_iter().chain([state(&of, server.drain)]).collect()
        }
        Step::Drain { backend, name, drain } => vec![state(&format!("{backend}/{name}"), *drain)],
        Step::Weight { backend, name, weight } => vec![format!("set server {backend}/{name} weight {weight}")],
        Step::Withdraw { backend, name } => vec![format!("set server {backend}/{name} state maint")],
        Step::Certificate { .. } | Step::Reload { .. } => Vec::new(),
    }
}

/// Hands new bytes over for a certificate file. A blank line ends them, so they must have none of their own.
pub fn certificate_set(path: &str, pem: &[u8]) -> String {
    let text = String::from_utf8_lossy(pem);
    let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    format!("{WORKER}set ssl cert {path} <<\n{}\n", lines.join("\n"))
}

pub fn certificate_commit(path: &str) -> String {
    format!("{WORKER}commit ssl cert {path}")
}

pub fn certificate_abort(path: &str) -> String {
    format!("{WORKER}abort ssl cert {path}")
}

pub const SHOW_SERVERS: &str = "@1 show servers state";
pub const SHOW_PROCESSES: &str = "show proc";
pub const RELOAD: &str = "reload";

/// A server as the worker has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Actual {
    /// `None`: a name that is not resolved.
    pub address: Option<SocketAddr>,
    pub maintenance: bool,
    pub drain: bool,
}

/// Servers by backend and name.
pub type ActualServers = BTreeMap<(String, String), Actual>;

/// Reads the answer to [`SHOW_SERVERS`]; `None`: it is no such table.
pub fn servers(answer: &str) -> Option<ActualServers> {
    let mut lines = answer.lines().skip_while(|line| !line.starts_with("# be_id"));
    let header: Vec<&str> = lines.next()?.trim_start_matches("# ").split(' ').collect();
    let column = |name: &str| header.iter().position(|column| *column == name);
    let (backend, name) = (column("be_name")?, column("srv_name")?);
    let (address, port) = (column("srv_addr")?, column("srv_port")?);
    let admin = column("srv_admin_state")?;
    let mut found = BTreeMap::new();
    for line in lines.filter(|line| !line.trim().is_empty()) {
        let words: Vec<&str> = line.split(' ').collect();
        let flags: u32 = words.get(admin)?.parse().ok()?;
        let ip: Option<IpAddr> = words.get(address).and_then(|word| word.parse().ok());
        let port: Option<u16> = words.get(port).and_then(|word| word.parse().ok());
        let actual = Actual {
            address: ip.zip(port).map(SocketAddr::from),
            maintenance: flags & MAINTENANCE != 0,
            drain: flags & DRAIN != 0,
        };
        found.insert(((*words.get(backend)?).to_owned(), (*words.get(name)?).to_owned()), actual);
    }
    Some(found)
}

/// What is not as it shall be, for people; `None`: all is.
pub fn mismatch(actual: &ActualServers, wanted: &Rendered) -> Option<String> {
    let wanted = wanted.backends.iter().flat_map(|(backend, servers)| servers.iter().map(move |it| (backend, it)));
    wanted.into_iter().find_map(|(backend, server)| {
        let Server { name, address, drain, .. } = server;
        match actual.get(&(backend.clone(), name.clone())) {
            None => Some(format!("server {name} of {backend} is not there")),
            Some(it) if it.address != Some(*address) => Some(format!("server {name} of {backend} has another address")),
            Some(it) if it.maintenance => Some(format!("server {name} of {backend} takes no work")),
            Some(it) if it.drain != *drain => Some(format!("server {name} of {backend} is in another state")),
            Some(_) => None,
        }
    })
}

/// HAProxy's processes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Processes {
    /// How often the master has read its configuration anew.
    pub reloads: u64,
    /// Workers that serve: process id and the reloads each has survived.
    pub workers: Vec<(u32, u64)>,
    /// Workers that finish what they have.
    pub n_old: usize,
}

impl Processes {
    /// The worker of the last reload; `None` when that reload did not succeed.
    pub fn newest(&self) -> Option<u32> {
        self.workers.iter().find(|(_, reloads)| *reloads == 0).map(|(pid, _)| *pid)
    }
}

/// Reads the answer to [`SHOW_PROCESSES`]; `None`: it is none.
pub fn processes(answer: &str) -> Option<Processes> {
    let mut found = Processes::default();
    let mut section = "";
    let mut has_master = false;
    for line in answer.lines() {
        if let Some(title) = line.strip_prefix('#') {
            section = title.trim();
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let [pid, kind, reloads, ..] = words.as_slice() else { continue };
        let (Ok(pid), Ok(reloads)) = (pid.parse(), reloads.parse()) else { continue };
        match (*kind, section) {
            ("master", _) => (found.reloads, has_master) = (reloads, true),
            ("worker", "old workers") => found.n_old += 1,
            ("worker", _) => found.workers.push((pid, reloads)),
            _ => {}
        }
    }
    has_master.then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(name: &str, options: &[&str]) -> Server {
        let options = options.iter().map(|word| (*word).to_owned()).collect();
        Server { name: name.into(), address: "10.42.0.1:80".parse().expect("an address"), options, drain: false }
    }

    #[test]
    fn a_new_server_gets_work_last() {
        let steps = [
            Step::Add { backend: "80_".into(), server: server("a", &["check", "inter", "2000"]) },
            Step::Withdraw { backend: "80_".into(), name: "b".into() },
        ];
        insta::assert_snapshot!(lines(&steps).join("\n").replace("; ", "\n"), @r"
        @1 add server 80_/a 10.42.0.1:80 check inter 2000
        @1 enable health 80_/a
        @1 set server 80_/a state ready
        @1 set server 80_/b state maint
        ");
        let many: Vec<Step> =
            (0..1_000).map(|n| Step::Withdraw { backend: "80_".into(), name: format!("s{n}") }).collect();
        let lines = lines(&many);
        assert!(lines.len() < 20 && lines.iter().all(|line| line.len() <= LONGEST_LINE + 10), "{}", lines.len());
        assert_eq!(lines.iter().map(|line| line.matches("@1 set server").count()).sum::<usize>(), 1_000);
    }

    #[test]
    fn a_certificate_has_no_blank_line() {
        assert_eq!(certificate_set("c/a.pem", b"A\r\n\n \nB\n\n"), "@1 set ssl cert c/a.pem <<\nA\nB\n");
    }

    /// As HAProxy 2.6 answered.
    const SERVERS: &str = "1
# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl srv_check_port srv_check_addr srv_agent_addr srv_agent_port
5 80_ 1 a 10.42.0.1 2 0 1 1 50 8 2 0 6 0 0 0 - 80 - 0 0 - - 0
5 80_ 2 b 10.42.0.1 0 1 1 1 20 1 0 0 2 0 0 0 - 80 - 0 0 - - 0
5 80_ 3 c - 2 8 5 5 0 1 0 0 0 0 0 0 host.test 80 - 0 0 - - 0
";

    #[test]
    fn the_table_of_servers_says_what_is_wrong() {
        let actual = servers(SERVERS).expect("reads");
        let wanted = |name: &str, drain: bool| Rendered {
            backends: [("80_".to_owned(), vec![Server { drain, ..server(name, &[]) }])].into(),
            ..Rendered::default()
        };
        let check = |name: &str, drain: bool, expected: Option<&str>| {
            assert_eq!(mismatch(&actual, &wanted(name, drain)).as_deref(), expected);
        };
        check("a", false, None);
        check("a", true, Some("server a of 80_ is in another state"));
        check("b", false, Some("server b of 80_ takes no work"));
        check("c", true, Some("server c of 80_ has another address"));
        check("d", false, Some("server d of 80_ is not there"));
        assert_eq!(servers("Unknown command"), None);
    }

    #[test]
    fn processes_say_whether_a_reload_succeeded() {
        let good = "#<PID>          <type>          <reloads>       <uptime>        <version>\n29443           master          1 [failed: 0]   0d00h02m18s     2.6.12\n# workers\n3926            worker          0               0d00h00m00s     2.6.12\n# old workers\n29449           worker          1               0d00h01m00s     2.6.12\n# programs\n\n";
        let found = processes(good).expect("reads");
        assert_eq!(found, Processes { reloads: 1, workers: vec![(3926, 0)], n_old: 1 });
        assert_eq!(found.newest(), Some(3926));
        let bad = "29443 master 2 [failed: 1] 0d00h02m18s 2.6.12\n# workers\n3926 worker 1 0d00h00m00s 2.6.12\n";
        assert_eq!(processes(bad).expect("reads").newest(), None);
        assert_eq!(processes("Permission denied"), None);
    }
}

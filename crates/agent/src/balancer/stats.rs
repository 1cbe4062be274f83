//! How much a balancer does, from HAProxy's own table: totals that go on over reloads, and rates between two looks.
//!
//! Each reload begins its counters anew in a new worker, so what the worker before had counted is kept. What old workers
//! still finish is not seen: some requests at each reload.

use std::collections::BTreeMap;

use remuda_wire::observe::BalancerSample;

pub const SHOW_STATISTICS: &str = "@1 show stat";

/// Sums over the listeners of a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// HTTP requests, and connections where HTTP is not read.
    pub requests: u64,
    /// Answers 5xx, and connections to which no server was found.
    pub errors: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Connections now.
    pub connections: u64,
}

/// A look at a worker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    pub totals: Totals,
    /// By backend: requests so far, and how long servers took for the latest thousand, in milliseconds.
    pub backends: BTreeMap<String, (u64, u64)>,
}

/// Reads the answer to [`SHOW_STATISTICS`]; `None`: it is no such table.
pub fn look(answer: &str) -> Option<Look> {
    let mut lines = answer.lines().skip_while(|line| !line.starts_with("# pxname"));
    let header: Vec<&str> = lines.next()?.trim_start_matches("# ").split(',').collect();
    let column = |name: &str| header.iter().position(|column| *column == name);
    let (proxy, server) = (column("pxname")?, column("svname")?);
    let known = ["stot", "req_tot", "hrsp_5xx", "econ", "bin", "bout", "scur", "rtime"].map(column);
    let mut look = Look::default();
    for line in lines.filter(|line| !line.is_empty()) {
        let words: Vec<&str> = line.split(',').collect();
        let [sessions, requests, failures, unconnected, bytes_in, bytes_out, connections, response] = known.map(|at| {
            at.and_then(|at| words.get(at)).filter(|word| !word.is_empty()).and_then(|word| word.parse().ok())
        });
        let count = |value: Option<u64>| value.unwrap_or(0);
        // Without HTTP there are connections only.
        let n_requests: u64 = requests.filter(|_| failures.is_some()).or(sessions).unwrap_or(0);
        match (*words.get(proxy)?, *words.get(server)?) {
            // The platform's own question whether HAProxy lives is no traffic.
            ("health", _) => {}
            (_, "FRONTEND") => {
                look.totals.requests += n_requests;
                look.totals.errors += count(failures);
                look.totals.bytes_in += count(bytes_in);
                look.totals.bytes_out += count(bytes_out);
                look.totals.connections += count(connections);
            }
            (name, "BACKEND") => {
                if failures.is_none() {
                    look.totals.errors += count(unconnected);
                }
                look.backends.insert(name.to_owned(), (n_requests, count(response)));
            }
            _ => {}
        }
    }
    Some(look)
}

/// Puts looks together.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Of workers that reloads have replaced.
    past: Totals,
    last: Option<(u32, u64, Look)>,
}

impl Summary {
    /// What the looks so far come to, with one of the worker `pid` at that time.
    pub fn take(&mut self, uuid: &str, pid: u32, now_ms: u64, look: Look) -> BalancerSample {
        let (mut since_ms, mut before) = (0, Look::default());
        match self.last.take() {
            Some((known, at_ms, last)) if known == pid => (since_ms, before) = (now_ms.saturating_sub(at_ms), last),
            Some((_, at_ms, last)) => {
                self.past.requests += last.totals.requests;
                self.past.errors += last.totals.errors;
                self.past.bytes_in += last.totals.bytes_in;
                self.past.bytes_out += last.totals.bytes_out;
                since_ms = now_ms.saturating_sub(at_ms);
            }
            None => {}
        }
        let rate = |now: u64, before: u64| match since_ms {
            0 => 0.0,
            since_ms => now.saturating_sub(before) as f64 * 1_000.0 / since_ms as f64,
        };
        let answered = look.backends.iter().map(|(name, (requests, response_ms))| {
            let before = before.backends.get(name).map_or(0, |(requests, _)| *requests);
            (requests.saturating_sub(before), *response_ms)
        });
        let (n_answered, weighted) =
            answered.fold((0, 0), |sum, (n, response_ms)| (sum.0 + n, sum.1 + n.saturating_mul(response_ms)));
        let (past, now) = (self.past, look.totals);
        let sample = BalancerSample {
            uuid: uuid.to_owned(),
            requests: past.requests + now.requests,
            errors: past.errors + now.errors,
            bytes_in: past.bytes_in + now.bytes_in,
            bytes_out: past.bytes_out + now.bytes_out,
            connections: now.connections,
            requests_per_second: rate(now.requests, before.totals.requests),
            errors_per_second: rate(now.errors, before.totals.errors),
            response_ms: (n_answered > 0).then(|| weighted as f64 / n_answered as f64),
        };
        self.last = Some((pid, now_ms, look));
        sample
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As HAProxy 2.6 answered, without columns that are not read.
    fn table(rows: &[&str]) -> String {
        let header = "# pxname,svname,scur,stot,bin,bout,econ,hrsp_5xx,rtime,req_tot,mode,";
        format!("{header}\n{}\n\n", rows.join("\n"))
    }

    #[test]
    fn listeners_are_summed_and_the_health_listener_is_none() {
        let answer = table(&[
            "health,FRONTEND,0,9,1,1,,,,,tcp,",
            "health,BACKEND,0,9,1,1,0,,0,,tcp,",
            "80,FRONTEND,3,10,100,200,,2,,40,http,",
            "5000,FRONTEND,1,7,10,20,,,,,tcp,",
            "80_,s1,1,40,100,200,0,2,5,40,http,",
            "80_,BACKEND,1,40,100,200,0,2,5,40,http,",
            "5000_,BACKEND,1,7,10,20,4,,0,,tcp,",
        ]);
        let look = look(&answer).expect("reads");
        let expected = Totals { requests: 47, errors: 6, bytes_in: 110, bytes_out: 220, connections: 4 };
        assert_eq!(look.totals, expected);
        assert_eq!(look.backends["80_"], (40, 5));
        assert_eq!(self::look("Unknown command"), None);
    }

    #[test]
    fn totals_go_on_over_a_reload() {
        let at = |requests: u64| Look {
            totals: Totals { requests, ..Totals::default() },
            backends: [("80_".to_owned(), (requests, 4))].into(),
        };
        let mut summary = Summary::default();
        let first = summary.take("b", 1, 1_000, at(10));
        assert_eq!((first.requests, first.requests_per_second), (10, 0.0));
        let second = summary.take("b", 1, 3_000, at(50));
        assert_eq!((second.requests, second.requests_per_second, second.response_ms), (50, 20.0, Some(4.0)));
        let reloaded = summary.take("b", 2, 5_000, at(6));
        assert_eq!((reloaded.requests, reloaded.requests_per_second), (56, 3.0));
        let idle = summary.take("b", 2, 7_000, at(6));
        assert_eq!((idle.requests, idle.requests_per_second, idle.response_ms), (56, 0.0, None));
    }
}

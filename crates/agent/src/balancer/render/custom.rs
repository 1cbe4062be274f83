//! The user's own HAProxy text: one text with section headers (`load-balancer.md` §13), merged into what is generated.
//!
//! It is not checked here. HAProxy does that, in its own words, before a configuration is used.

use remuda_wire::balancer::BalancerPlan;

use super::routes::Resolved;
use crate::balancer::rendered::SECTIONS;

/// Settings of which HAProxy knows only one at a time, in several words.
const CONNECTION_MODES: [&str; 5] = ["http-server-close", "http-keep-alive", "httpclose", "forceclose", "http-tunnel"];

/// The text in its sections. Lines end with a line feed and are otherwise as they were written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Custom {
    /// What stands before any header. HAProxy refuses it, and says so.
    pub prelude: Vec<String>,
    pub global: Vec<String>,
    pub defaults: Vec<String>,
    /// Everything else: header line and lines.
    others: Vec<(String, Vec<String>)>,
}

impl Custom {
    pub fn parse(text: &str) -> Custom {
        enum Place {
            Prelude,
            Global,
            Defaults,
            Other,
        }
        let mut custom = Custom::default();
        let mut place = Place::Prelude;
        for line in text.lines() {
            // A NUL ends HAProxy's reading of the line, with a complaint about itself and not about the line.
            let line = line.trim_end().replace('\0', "");
            let mut words = line.split_whitespace();
            let (first, second) = (words.next().unwrap_or_default(), words.next());
            if first.is_empty() {
                continue;
            }
            if SECTIONS.contains(&first) {
                place = match (first, second) {
                    ("global", _) => Place::Global,
                    ("defaults", None) => Place::Defaults,
                    _ => {
                        custom.others.push((format!("{}\n", line.trim()), Vec::new()));
                        Place::Other
                    }
                };
                continue;
            }
            let line = format!("    {}\n", line.trim_start());
            match place {
                Place::Prelude => custom.prelude.push(line),
                Place::Global => custom.global.push(line),
                Place::Defaults => custom.defaults.push(line),
                Place::Other => custom.others.last_mut().into_iter().for_each(|(_, lines)| lines.push(line.clone())),
            }
        }
        custom
    }

    fn named(&self, kind: &str, name: &str) -> &[String] {
        let found = self.others.iter().find(|(header, _)| is_headed(header, kind, name));
        found.map(|(_, lines)| lines.as_slice()).unwrap_or_default()
    }

    /// Lines for the listener of that port.
    pub fn frontend(&self, port: &str) -> &[String] {
        self.named("frontend", port)
    }

    /// Lines for that generated backend.
    pub fn backend(&self, name: &str) -> &[String] {
        self.named("backend", name)
    }

    /// Sections that belong to nothing generated, to be appended as they are. Of two with one name the first was
    /// taken, and HAProxy refuses the second.
    pub fn left<'a>(
        &'a self,
        plan: &'a BalancerPlan,
        resolved: &'a Resolved,
    ) -> impl Iterator<Item = (&'a String, &'a Vec<String>)> {
        let ports: Vec<String> = plan.listeners.iter().map(|listener| listener.port.to_string()).collect();
        let left = self.others.iter().enumerate().filter(move |(at, (header, _))| {
            let is_first = !self.others[..*at].iter().any(|(other, _)| other == header);
            let is_taken = ports.iter().any(|port| is_headed(header, "frontend", port))
                || resolved.backends.iter().any(|backend| is_headed(header, "backend", &backend.name));
            !(is_taken && is_first)
        });
        left.map(|(_, (header, lines))| (header, lines))
    }
}

fn is_headed(header: &str, kind: &str, name: &str) -> bool {
    let mut words = header.split_whitespace();
    words.next() == Some(kind) && words.next() == Some(name)
}

/// Whether a line of the user's says what the generated line says, or its contrary.
pub fn overrules(users: &[String], generated: &str) -> bool {
    let mut words = generated.split_whitespace();
    let key: Vec<&str> = match words.next() {
        Some(first @ ("timeout" | "option")) => [Some(first), words.next()].into_iter().flatten().collect(),
        // Several destinations are no contradiction.
        Some("log" | "tcp-request") | None => return false,
        Some(first) => vec![first],
    };
    users.iter().any(|line| {
        let mut words = line.split_whitespace().peekable();
        words.next_if(|word| matches!(*word, "no" | "default"));
        let said: Vec<&str> = words.take(key.len()).collect();
        let both_modes = |one: &[&str], other: &[&str]| {
            matches!((one, other), (["option", a], ["option", b])
                if CONNECTION_MODES.contains(a) && CONNECTION_MODES.contains(b))
        };
        said == key || both_modes(&said, &key)
    })
}

/// Takes the lines `server $IP <options>` out: their options go onto every generated server.
pub fn server_options(users: &[String]) -> (Vec<String>, Vec<String>) {
    let (mut lines, mut options) = (Vec::new(), Vec::new());
    for line in users {
        let mut words = line.split_whitespace();
        if (words.next(), words.next()) == (Some("server"), Some("$IP")) {
            options.extend(words.map(str::to_owned));
        } else {
            lines.push(line.clone());
        }
    }
    (lines, options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_told_apart() {
        let text = "stray\r\nglobal\n\n  maxconn 5\ndefaults\nbalance first\nfrontend 80\n acl x src 1.1.1.1\n\
                    listen stats\n  bind *:9\ndefaults own\n  mode http\n# a word\nglobal\n nbthread 1\n";
        let custom = Custom::parse(text);
        assert_eq!(custom.prelude, ["    stray\n"]);
        assert_eq!(custom.global, ["    maxconn 5\n", "    nbthread 1\n"]);
        assert_eq!(custom.defaults, ["    balance first\n"]);
        assert_eq!(custom.frontend("80"), ["    acl x src 1.1.1.1\n"]);
        let left: Vec<&String> = custom.others.iter().map(|(header, _)| header).collect();
        assert_eq!(left, ["frontend 80\n", "listen stats\n", "defaults own\n"]);
    }

    #[test]
    fn the_users_word_stands_for_the_generated_one() {
        let users: Vec<String> =
            ["timeout client 1s", "no option redispatch", "option http-keep-alive", "log 1.1.1.1 local0"]
                .map(|line| format!("    {line}\n"))
                .to_vec();
        for (generated, expected) in [
            ("timeout client 50000", true),
            ("timeout server 50000", false),
            ("option redispatch", true),
            ("option http-server-close", true),
            ("option forwardfor", false),
            ("log global", false),
            ("retries 3", false),
        ] {
            assert_eq!(overrules(&users, generated), expected, "{generated}");
        }
    }

    #[test]
    fn options_for_every_server_are_taken_out() {
        let users = ["    server $IP proto h2\n".to_owned(), "    server own 1.1.1.1:80\n".to_owned()];
        let (lines, options) = server_options(&users);
        assert_eq!((lines.as_slice(), options), (&users[1..], vec!["proto".to_owned(), "h2".to_owned()]));
    }
}

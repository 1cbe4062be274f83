//! `/etc/resolv.conf` of a container (`networking-and-dns.md` §12). Whether a container gets one (network mode and
//! label `io.rancher.container.dns`) and the project's search domains are in the plan; only the host's own search
//! domains are added here, because only the host knows them.

use std::fmt::Write;

use super::ResolverRequest;
use crate::dns::answer::{DOMAIN, SERVICE_ADDRESS, is_below_domain};

/// What matters of the host's own `resolv.conf`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostResolver {
    pub servers: Vec<String>,
    pub search: Vec<String>,
    pub options: Vec<String>,
}

impl HostResolver {
    /// Reads the file's text. As for resolver libraries, the last `search` or `domain` line counts.
    pub fn parse(text: &str) -> HostResolver {
        let mut host = HostResolver::default();
        for line in text.lines() {
            let mut words = line.split_whitespace().take_while(|word| !word.starts_with(['#', ';']));
            match words.next() {
                Some("nameserver") => host.servers.extend(words.next().map(str::to_owned)),
                Some("search" | "domain") => host.search = words.map(str::to_owned).collect(),
                Some("options") => host.options.extend(words.map(str::to_owned)),
                _ => {}
            }
        }
        host.search.retain(|domain| domain != ".");
        host
    }
}

/// The file of a container. Ours is the only active server: the others are asked by it, and kept as comments for people.
pub fn resolv_conf(request: &ResolverRequest, host: &HostResolver) -> String {
    let mut text = String::from("# Written by Remuda.\n");
    let search = search_domains(&request.dns_search, &host.search);
    if !search.is_empty() {
        writeln!(text, "search {}", search.join(" ")).expect("writing to a string does not fail");
    }
    writeln!(text, "nameserver {SERVICE_ADDRESS}").expect("writing to a string does not fail");
    let ours = SERVICE_ADDRESS.to_string();
    for server in request.dns.iter().chain(&host.servers).filter(|server| **server != ours && is_plain(server)) {
        writeln!(text, "# nameserver {server}").expect("writing to a string does not fail");
    }
    if !host.options.is_empty() {
        writeln!(text, "options {}", host.options.join(" ")).expect("writing to a string does not fail");
    }
    text
}

/// The host's domains go in front when the user gave none of his own, that is when all are the project's.
fn search_domains(wanted: &[String], host: &[String]) -> Vec<String> {
    let wanted: Vec<String> = wanted.iter().map(|domain| domain.trim_end_matches('.').to_lowercase()).collect();
    let user_gave_none = wanted.iter().all(|domain| is_below_domain(domain));
    let host = if user_gave_none { host } else { &[] };
    let mut search: Vec<String> = Vec::new();
    for domain in host.iter().map(|domain| domain.to_lowercase()).chain(wanted) {
        if !search.contains(&domain) && is_plain(&domain) {
            search.push(domain);
        }
    }
    // Without any domain of the project (priority `none`) the user's list stands as it is.
    if search.iter().any(|domain| domain == DOMAIN) {
        search.retain(|domain| domain != DOMAIN);
        search.push(DOMAIN.to_owned());
    }
    search
}

/// One word that cannot end the line or begin a comment.
fn is_plain(word: &str) -> bool {
    !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_.:%".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn search_domains_are_ordered_by_who_gave_them() {
        let project = "stacka.rancher.internal web.stacka.rancher.internal rancher.internal";
        // (plan, host, expected)
        let cases = [
            (project.to_owned(), "lan.example", format!("lan.example {project}")),
            (format!("corp {project}"), "lan.example", format!("corp {project}")),
            ("rancher.internal".into(), "a b", "a b rancher.internal".into()),
            (
                "StackA.rancher.internal. rancher.internal".into(),
                "LAN lan",
                "lan stacka.rancher.internal rancher.internal".into(),
            ),
            ("rancher.internal corp".into(), "lan", "corp rancher.internal".into()),
            ("corp".into(), "lan", "corp".into()),
            ("".into(), "lan", "lan".into()),
            ("rancher.internal".into(), "rancher.internal lan", "lan rancher.internal".into()),
            ("bad\u{7f}domain good".into(), "", "good".into()),
        ];
        for (plan, host, expected) in cases {
            assert_eq!(search_domains(&words(&plan), &words(host)), words(&expected), "{plan} on {host}");
        }
    }

    #[test]
    fn the_file_has_one_active_server() {
        let host = HostResolver::parse(
            "# lan\ndomain old\nsearch lan.example . # here\nnameserver 10.0.0.2\nnameserver 169.254.169.250\n\
             nameserver fe80::1%eth0 ; six\noptions ndots:2 edns0\nsortlist x\nnameserver\n",
        );
        let request = ResolverRequest {
            uuid: "u".into(),
            dns: words("9.9.9.9 169.254.169.250"),
            dns_search: words("s.rancher.internal rancher.internal"),
        };
        insta::assert_snapshot!(resolv_conf(&request, &host), @r"
        # Written by Remuda.
        search lan.example s.rancher.internal rancher.internal
        nameserver 169.254.169.250
        # nameserver 9.9.9.9
        # nameserver 10.0.0.2
        # nameserver fe80::1%eth0
        options ndots:2 edns0
        ");
        let plain = resolv_conf(&ResolverRequest::default(), &HostResolver::parse(""));
        assert_eq!(plain, "# Written by Remuda.\nnameserver 169.254.169.250\n");
    }
}

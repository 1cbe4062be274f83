//! Our firewall rules as text for `iptables-restore --noflush`, decided from what `iptables-save` shows.
//!
//! Everything is in chains of our own (`REMUDA-*`), each hooked into one of the kernel's or Docker's chains. dockerd,
//! firewalld and people rewrite those: so what is there is compared with what should be, and repaired in one
//! transaction per table. Rules carry a comment with a digest of the whole set; comparing digests and counts was
//! chosen over comparing rule texts, because each iptables version prints the same rule in its own way.

use std::fmt::Write;
use std::net::SocketAddr;

use ring::digest::{SHA256, digest};

use super::routes::Subnet;
use crate::dns::answer::SERVICE_ADDRESS;

/// What the rules depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    pub bridge: String,
    pub subnet: Subnet,
    /// The way to other hosts.
    pub tunnel: Tunnel,
    /// Where the datapath really answers DNS.
    pub dns: SocketAddr,
    /// Where it really answers metadata.
    pub metadata: SocketAddr,
}

/// How packets of other hosts arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tunnel {
    /// Through an interface of its own, in UDP to this port.
    Device { name: String, port: u16 },
    /// Through any interface of the host.
    Neighbours,
}

/// The two tables' text, as `iptables-save -t TABLE` prints it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    pub nat: String,
    pub filter: String,
}

/// A chain of ours.
struct Chain {
    name: &'static str,
    hook: &'static str,
    rules: Vec<String>,
    /// Our jump comes before the first rule of the hook that ends like this.
    before: Option<&'static str>,
}

/// Docker's chains are in this table: iptables programs of the other backend do not see them.
pub fn has_docker_chains(nat: &str) -> bool {
    nat.lines().any(|line| line.starts_with(":DOCKER "))
}

/// Text that makes the tables what they should be; `None` when they are.
pub fn repair(saved: &Saved, rules: &Rules) -> Option<String> {
    let (nat, filter) = (nat_chains(rules), filter_chains(rules, &saved.filter));
    let mark = mark(&nat, &filter);
    let parts = [repair_table("nat", &saved.nat, &nat, &mark), repair_table("filter", &saved.filter, &filter, &mark)];
    let text: String = parts.into_iter().flatten().collect();
    (!text.is_empty()).then_some(text)
}

/// Text that takes all of ours away; `None` when nothing is there.
pub fn removal(saved: &Saved) -> Option<String> {
    let parts = [removal_of_table("nat", &saved.nat), removal_of_table("filter", &saved.filter)];
    let text: String = parts.into_iter().flatten().collect();
    (!text.is_empty()).then_some(text)
}

/// Names of our chains that are there, with their table.
pub fn present(saved: &Saved) -> Vec<String> {
    let tables = [("nat", &saved.nat), ("filter", &saved.filter)];
    tables
        .iter()
        .flat_map(|(table, text)| own_chains(text).into_iter().map(move |chain| format!("{table}/{chain}")))
        .collect()
}

fn nat_chains(rules: &Rules) -> Vec<Chain> {
    let Rules { bridge, subnet, dns, tunnel, metadata } = rules;
    let to_dns = |protocol| {
        format!("-d {SERVICE_ADDRESS}/32 -p {protocol} -m {protocol} --dport 53 -j DNAT --to-destination {dns}")
    };
    let to_metadata =
        || format!("-d {SERVICE_ADDRESS}/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination {metadata}");
    let out = format!("-s {subnet} ! -d {subnet} ! -o {bridge}");
    // A container may publish port 53 or 80: Docker's rule for it takes every local address, ours among them.
    let before_docker = Some("-j DOCKER");
    let mut before_published = vec![to_dns("udp"), to_dns("tcp"), to_metadata()];
    if let Tunnel::Device { port, .. } = tunnel {
        // A container that publishes this port does not get what other hosts send.
        before_published.push(format!("-p udp -m udp --dport {port} -m addrtype --dst-type LOCAL -j ACCEPT"));
    }
    vec![
        Chain { name: "REMUDA-PREROUTING", hook: "PREROUTING", rules: before_published, before: before_docker },
        Chain {
            name: "REMUDA-OUTPUT",
            hook: "OUTPUT",
            rules: vec![to_dns("udp"), to_dns("tcp"), to_metadata()],
            before: before_docker,
        },
        Chain {
            name: "REMUDA-POSTROUTING",
            hook: "POSTROUTING",
            rules: vec![
                format!("{out} -p tcp -j MASQUERADE --to-ports 1024-65535"),
                format!("{out} -p udp -j MASQUERADE --to-ports 1024-65535"),
                format!("{out} -j MASQUERADE"),
            ],
            before: None,
        },
    ]
}

/// Where Docker's chains work we add what they leave out, after the administrator's own rules in DOCKER-USER; where
/// they do not (flushed, or Docker without iptables) our chain also lets the network out.
fn filter_chains(rules: &Rules, filter: &str) -> Vec<Chain> {
    let Rules { bridge, subnet, tunnel, .. } = rules;
    let docker_works = filter.lines().any(|line| line == "-A FORWARD -j DOCKER-USER");
    let mut forward = vec![format!("-i {bridge} -o {bridge} -s {subnet} -d {subnet} -j ACCEPT")];
    let inside = format!("-s {subnet} -d {subnet}");
    match tunnel {
        Tunnel::Device { name, .. } => forward.extend([
            format!("-i {bridge} -o {name} {inside} -j ACCEPT"),
            format!("-i {name} -o {bridge} {inside} -j ACCEPT"),
            // The tunnel is for the managed network: not a way into other networks of a host, nor from them.
            format!("-i {name} -j DROP"),
            format!("-o {name} -j DROP"),
        ]),
        Tunnel::Neighbours => forward.extend([
            format!("-i {bridge} ! -o {bridge} {inside} -j ACCEPT"),
            format!("! -i {bridge} -o {bridge} {inside} -j ACCEPT"),
        ]),
    }
    if !docker_works {
        forward.extend([
            format!("-i {bridge} ! -o {bridge} -s {subnet} -j ACCEPT"),
            format!("-o {bridge} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"),
        ]);
    }
    let to_us = format!("-d {SERVICE_ADDRESS}/32");
    let ours = |interface: &str| format!("{to_us} -i {interface} -j ACCEPT");
    vec![
        Chain {
            name: "REMUDA-FORWARD",
            hook: if docker_works { "DOCKER-USER" } else { "FORWARD" },
            rules: forward,
            before: docker_works.then_some("-A DOCKER-USER -j RETURN"),
        },
        // The address is for this host and its containers, not for neighbours who route it here.
        Chain {
            name: "REMUDA-INPUT",
            hook: "INPUT",
            rules: vec![ours("lo"), ours(bridge), ours("docker+"), ours("br-+"), format!("{to_us} -j DROP")],
            before: None,
        },
        // To a container all of the network is one wire: a better way to an address that has moved would be none. The
        // bridge's own `send_redirects` does not keep the kernel from it while that of `all` is on.
        Chain {
            name: "REMUDA-OUTPUT",
            hook: "OUTPUT",
            rules: vec![format!("-o {bridge} -p icmp -m icmp --icmp-type 5 -j DROP")],
            before: None,
        },
    ]
}

fn mark(nat: &[Chain], filter: &[Chain]) -> String {
    let text: Vec<&str> = nat.iter().chain(filter).flat_map(|chain| &chain.rules).map(String::as_str).collect();
    let digest = digest(&SHA256, text.join("\n").as_bytes());
    let hex: String = digest.as_ref().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("remuda:{hex}")
}

fn repair_table(table: &str, saved: &str, chains: &[Chain], mark: &str) -> Option<String> {
    let stray = stray_jumps(saved, chains);
    if stray.is_empty() && chains.iter().all(|chain| is_whole(saved, chain, mark)) {
        return None;
    }
    let mut text = format!("*{table}\n");
    for chain in chains {
        // Naming a chain creates it, or empties it.
        let _ = writeln!(text, ":{} - [0:0]", chain.name);
    }
    for jump in stray {
        let _ = writeln!(text, "{}", jump.replacen("-A ", "-D ", 1));
    }
    for chain in chains {
        for rule in &chain.rules {
            let _ = writeln!(text, "-A {} -m comment --comment {mark} {rule}", chain.name);
        }
        let jump = jump(chain);
        let hooked: Vec<&str> = rules_of(saved, chain.hook).collect();
        if is_hooked(&hooked, chain) {
            continue;
        }
        for _ in hooked.iter().filter(|line| **line == jump) {
            let _ = writeln!(text, "{}", jump.replacen("-A ", "-D ", 1));
        }
        let rest: Vec<_> = hooked.iter().filter(|line| **line != jump).collect();
        let position = match chain.before {
            Some(end) if chain.hook == "DOCKER-USER" => rest.iter().position(|line| line.ends_with(end)),
            _ => Some(0),
        };
        let _ = match position {
            Some(position) => writeln!(text, "-I {} {} -j {}", chain.hook, position + 1, chain.name),
            None => writeln!(text, "{jump}"),
        };
    }
    text.push_str("COMMIT\n");
    Some(text)
}

fn removal_of_table(table: &str, saved: &str) -> Option<String> {
    let chains = own_chains(saved);
    if chains.is_empty() {
        return None;
    }
    let mut text = format!("*{table}\n");
    for jump in saved.lines().filter(|line| is_own_jump(line)) {
        let _ = writeln!(text, "{}", jump.replacen("-A ", "-D ", 1));
    }
    for order in ["-F", "-X"] {
        for chain in &chains {
            let _ = writeln!(text, "{order} {chain}");
        }
    }
    text.push_str("COMMIT\n");
    Some(text)
}

fn own_chains(saved: &str) -> Vec<&str> {
    let named = saved.lines().filter_map(|line| line.strip_prefix(':')?.split_whitespace().next());
    named.filter(|chain| chain.starts_with("REMUDA-")).collect()
}

fn jump(chain: &Chain) -> String {
    format!("-A {} -j {}", chain.hook, chain.name)
}

fn is_own_jump(line: &str) -> bool {
    line.starts_with("-A ") && line.contains(" -j REMUDA-")
}

/// Jumps to our chains from where they no longer belong (Docker's chains came, or went).
fn stray_jumps<'s>(saved: &'s str, chains: &[Chain]) -> Vec<&'s str> {
    let wanted: Vec<String> = chains.iter().map(jump).collect();
    saved.lines().filter(|line| is_own_jump(line) && !wanted.iter().any(|wanted| wanted == line)).collect()
}

fn rules_of<'s>(saved: &'s str, chain: &str) -> impl Iterator<Item = &'s str> {
    let prefix = format!("-A {chain} ");
    saved.lines().map(str::trim_end).filter(move |line| line.starts_with(&prefix))
}

fn is_whole(saved: &str, chain: &Chain, mark: &str) -> bool {
    let hooked: Vec<&str> = rules_of(saved, chain.hook).collect();
    let n_ours = rules_of(saved, chain.name).filter(|line| line.contains(mark)).count();
    n_ours == chain.rules.len() && rules_of(saved, chain.name).count() == n_ours && is_hooked(&hooked, chain)
}

/// Exactly one jump, early enough.
fn is_hooked(hooked: &[&str], chain: &Chain) -> bool {
    let jump = jump(chain);
    let mut at = hooked.iter().enumerate().filter(|(_, line)| **line == jump).map(|(idx, _)| idx);
    let (Some(ours), None) = (at.next(), at.next()) else { return false };
    chain.before.and_then(|end| hooked.iter().position(|line| line.ends_with(end))).is_none_or(|other| ours < other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        Rules {
            bridge: "remuda0".into(),
            subnet: "10.42.0.0/16".parse().unwrap(),
            tunnel: Tunnel::Device { name: "remuda1".into(), port: 4500 },
            dns: "169.254.169.250:42053".parse().unwrap(),
            metadata: "169.254.169.250:42080".parse().unwrap(),
        }
    }

    /// What Docker 20.10 makes, shortened.
    fn docker() -> Saved {
        Saved {
            nat: "*nat\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n:DOCKER - [0:0]\n\
                  -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER\n\
                  -A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER\n\
                  -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE\nCOMMIT\n"
                .into(),
            filter: "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n:DOCKER-USER - [0:0]\n\
                     -A FORWARD -j DOCKER-USER\n-A FORWARD -o docker0 -j DOCKER\n\
                     -A DOCKER-USER -s 10.9.9.9/32 -j DROP\n-A DOCKER-USER -j RETURN\nCOMMIT\n"
                .into(),
        }
    }

    /// Carries out our own restore texts on saved texts, as far as they use iptables' language.
    fn restore(saved: &Saved, text: &str) -> Saved {
        let mut after = saved.clone();
        for table in text.split_inclusive("COMMIT\n") {
            let (head, body) = table.split_once('\n').unwrap();
            let target = if head == "*nat" { &mut after.nat } else { &mut after.filter };
            let mut lines: Vec<String> = target.lines().filter(|line| *line != "COMMIT").map(str::to_owned).collect();
            for order in body.lines().filter(|line| *line != "COMMIT") {
                let words: Vec<&str> = order.split(' ').collect();
                let of = |chain: &str| format!("-A {chain} ");
                match words[0] {
                    name if name.starts_with(':') => {
                        lines.retain(|line| {
                            !line.starts_with(&of(&name[1..])) && !line.starts_with(&format!("{name} "))
                        });
                        lines.push(order.to_owned());
                    }
                    "-A" => lines.push(order.to_owned()),
                    "-D" => {
                        let rule = order.replacen("-D", "-A", 1);
                        let at = lines.iter().position(|line| *line == rule).expect("what is deleted is there");
                        lines.remove(at);
                    }
                    "-I" => {
                        let rule = format!("-A {} {}", words[1], words[3..].join(" "));
                        let place: usize = words[2].parse().unwrap();
                        let chain: Vec<usize> =
                            (0..lines.len()).filter(|idx| lines[*idx].starts_with(&of(words[1]))).collect();
                        let at = chain.get(place - 1).copied().unwrap_or(lines.len());
                        lines.insert(at, rule);
                    }
                    "-F" => lines.retain(|line| !line.starts_with(&of(words[1]))),
                    "-X" => lines.retain(|line| !line.starts_with(&format!(":{} ", words[1]))),
                    other => panic!("unknown order {other}"),
                }
            }
            *target = lines.join("\n") + "\nCOMMIT\n";
        }
        after
    }

    /// As `iptables -F` leaves it: chains without rules.
    fn flushed(text: &str) -> String {
        text.lines().filter(|line| !line.starts_with("-A")).map(|line| format!("{line}\n")).collect()
    }

    fn repaired(saved: &Saved) -> Saved {
        let after = repair(saved, &rules()).map_or_else(|| saved.clone(), |text| restore(saved, &text));
        assert_eq!(repair(&after, &rules()), None, "one repair is enough:\n{}\n{}", after.nat, after.filter);
        after
    }

    #[test]
    fn the_first_text_is_this() {
        insta::assert_snapshot!(repair(&docker(), &rules()).unwrap(), @r"
        *nat
        :REMUDA-PREROUTING - [0:0]
        :REMUDA-OUTPUT - [0:0]
        :REMUDA-POSTROUTING - [0:0]
        -A REMUDA-PREROUTING -m comment --comment remuda:0f7f620e3053 -d 169.254.169.250/32 -p udp -m udp --dport 53 -j DNAT --to-destination 169.254.169.250:42053
        -A REMUDA-PREROUTING -m comment --comment remuda:0f7f620e3053 -d 169.254.169.250/32 -p tcp -m tcp --dport 53 -j DNAT --to-destination 169.254.169.250:42053
        -A REMUDA-PREROUTING -m comment --comment remuda:0f7f620e3053 -d 169.254.169.250/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 169.254.169.250:42080
        -A REMUDA-PREROUTING -m comment --comment remuda:0f7f620e3053 -p udp -m udp --dport 4500 -m addrtype --dst-type LOCAL -j ACCEPT
        -I PREROUTING 1 -j REMUDA-PREROUTING
        -A REMUDA-OUTPUT -m comment --comment remuda:0f7f620e3053 -d 169.254.169.250/32 -p udp -m udp --dport 53 -j DNAT --to-destination 169.254.169.250:42053
        -A REMUDA-OUTPUT -m comment --comment remuda:0f7f620e3053 -d 169.254.169.250/32 -p tcp -m tcp --dport 53 -j DNAT --to-destination 169.254.169.250:42053
        -A REMUDA-OUTPUT -m comment --comment remuda:0f7f620e3053 -d 169.254.169.250/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 169.254.169.250:42080
        -I OUTPUT 1 -j REMUDA-OUTPUT
        -A REMUDA-POSTROUTING -m comment --comment remuda:0f7f620e3053 -s 10.42.0.0/16 ! -d 10.42.0.0/16 ! -o remuda0 -p tcp -j MASQUERADE --to-ports 1024-65535
        -A REMUDA-POSTROUTING -m comment --comment remuda:0f7f620e3053 -s 10.42.0.0/16 ! -d 10.42.0.0/16 ! -o remuda0 -p udp -j MASQUERADE --to-ports 1024-65535
        -A REMUDA-POSTROUTING -m comment --comment remuda:0f7f620e3053 -s 10.42.0.0/16 ! -d 10.42.0.0/16 ! -o remuda0 -j MASQUERADE
        -I POSTROUTING 1 -j REMUDA-POSTROUTING
        COMMIT
        *filter
        :REMUDA-FORWARD - [0:0]
        :REMUDA-INPUT - [0:0]
        :REMUDA-OUTPUT - [0:0]
        -A REMUDA-FORWARD -m comment --comment remuda:0f7f620e3053 -i remuda0 -o remuda0 -s 10.42.0.0/16 -d 10.42.0.0/16 -j ACCEPT
        -A REMUDA-FORWARD -m comment --comment remuda:0f7f620e3053 -i remuda0 -o remuda1 -s 10.42.0.0/16 -d 10.42.0.0/16 -j ACCEPT
        -A REMUDA-FORWARD -m comment --comment remuda:0f7f620e3053 -i remuda1 -o remuda0 -s 10.42.0.0/16 -d 10.42.0.0/16 -j ACCEPT
        -A REMUDA-FORWARD -m comment --comment remuda:0f7f620e3053 -i remuda1 -j DROP
        -A REMUDA-FORWARD -m comment --comment remuda:0f7f620e3053 -o remuda1 -j DROP
        -I DOCKER-USER 2 -j REMUDA-FORWARD
        -A REMUDA-INPUT -m comment --comment remuda:0f7f620e3053 -d 169.254.169.250/32 -i lo -j ACCEPT
        -A REMUDA-INPUT -m comment --comment remuda:0f7f620e3053 -d 169.254.169.250/32 -i remuda0 -j ACCEPT
        -A REMUDA-INPUT -m comment --comment remuda:0f7f620e3053 -d 169.254.169.250/32 -i docker+ -j ACCEPT
        -A REMUDA-INPUT -m comment --comment remuda:0f7f620e3053 -d 169.254.169.250/32 -i br-+ -j ACCEPT
        -A REMUDA-INPUT -m comment --comment remuda:0f7f620e3053 -d 169.254.169.250/32 -j DROP
        -I INPUT 1 -j REMUDA-INPUT
        -A REMUDA-OUTPUT -m comment --comment remuda:0f7f620e3053 -o remuda0 -p icmp -m icmp --icmp-type 5 -j DROP
        -I OUTPUT 1 -j REMUDA-OUTPUT
        COMMIT
        ");
    }

    #[test]
    fn any_damage_is_repaired_at_once() {
        let whole = repaired(&docker());
        type Damage = fn(&str) -> String;
        let damage: [(&str, Damage); 9] = [
            ("nothing", |text| text.to_owned()),
            ("flush", flushed),
            ("empty", |_| String::new()),
            ("jumps gone", |text| {
                text.replace("-A PREROUTING -j REMUDA-PREROUTING\n", "").replace("-A INPUT -j REMUDA-INPUT\n", "")
            }),
            ("jump twice", |text| {
                text.replace("-A INPUT -j REMUDA-INPUT\n", "-A INPUT -j REMUDA-INPUT\n-A INPUT -j REMUDA-INPUT\n")
            }),
            ("docker first", |text| {
                let docker = "-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER\n";
                text.replace(docker, "").replace("-A PREROUTING -j R", &format!("{docker}-A PREROUTING -j R"))
            }),
            ("a rule gone", |text| {
                text.lines().filter(|line| !line.contains("-j DNAT")).map(|line| format!("{line}\n")).collect()
            }),
            ("a rule of another release", |text| text.replace("remuda:", "remuda:old")),
            ("an added rule", |text| format!("{text}-A REMUDA-FORWARD -j DROP\n")),
        ];
        for (name, damage) in damage {
            let damaged = Saved { nat: damage(&whole.nat), filter: damage(&whole.filter) };
            let after = repaired(&damaged);
            assert_eq!(present(&after).len(), 6, "{name}");
        }
    }

    #[test]
    fn without_dockers_chains_ours_let_the_network_out_and_go_back() {
        let flushed = Saved { nat: flushed(&docker().nat), filter: flushed(&docker().filter) };
        let alone = repaired(&flushed);
        assert!(alone.filter.contains("-A FORWARD -j REMUDA-FORWARD"));
        assert!(alone.filter.contains("-i remuda0 ! -o remuda0 -s 10.42.0.0/16 -j ACCEPT"));
        let docker_is_back = Saved {
            filter: alone.filter.replace("COMMIT\n", "-A FORWARD -j DOCKER-USER\n-A DOCKER-USER -j RETURN\nCOMMIT\n"),
            ..alone
        };
        let with_docker = repaired(&docker_is_back);
        assert!(!with_docker.filter.contains("-A FORWARD -j REMUDA-FORWARD"));
        assert!(!with_docker.filter.contains("! -o remuda0"));
        let user: Vec<_> = rules_of(&with_docker.filter, "DOCKER-USER").collect();
        assert_eq!(user, ["-A DOCKER-USER -j REMUDA-FORWARD", "-A DOCKER-USER -j RETURN"]);
    }

    #[test]
    fn the_administrators_rules_come_first() {
        let user: Vec<_> = repaired(&docker())
            .filter
            .lines()
            .filter(|line| line.starts_with("-A DOCKER-USER"))
            .map(str::to_owned)
            .collect();
        assert_eq!(
            user,
            ["-A DOCKER-USER -s 10.9.9.9/32 -j DROP", "-A DOCKER-USER -j REMUDA-FORWARD", "-A DOCKER-USER -j RETURN"]
        );
    }

    #[test]
    fn removal_leaves_what_was_there_before() {
        let whole = repaired(&docker());
        let removed = restore(&whole, &removal(&whole).unwrap());
        assert_eq!(removed, docker());
        assert_eq!(removal(&removed), None);
        assert!(has_docker_chains(&docker().nat) && !has_docker_chains("*nat\n:DOCKER-USER - [0:0]\n"));
    }
}

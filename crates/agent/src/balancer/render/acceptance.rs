//! What clients of a balancer observe: the checklist of `load-balancer.md` §15, asked of real HAProxy.
//!
//! Each test runs the rendered configuration with unix sockets in the place of ports and targets, so that tests neither
//! need a network nor meet each other. Targets answer with their address and what they were sent.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::tests::{certificate_for, checked, directory, listener, plan, route, to};
use super::*;
use remuda_wire::balancer::{Certificate, Route, Stickiness};

/// A running HAProxy; ends with the test.
struct Serving {
    dir: tempfile::TempDir,
    child: Child,
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn socket(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{}.sock", name.replace(['[', ']', ':'], "-")))
}

impl Serving {
    fn start(plan: &BalancerPlan) -> Serving {
        let rendered = render(plan, &directory()).expect("renders");
        let dir = tempfile::tempdir().expect("a directory");
        let at = dir.path();
        let mut config = String::new();
        let mut targets = std::collections::BTreeSet::new();
        for line in rendered.config.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let line = match words.as_slice() {
                ["bind", port, rest @ ..] => {
                    let name = port.trim_start_matches("*:");
                    format!("    bind unix@{} {}", socket(at, name).display(), rest.join(" "))
                }
                ["server", name, address, rest @ ..] => {
                    targets.insert((*address).to_owned());
                    // A check would ask another port of the target.
                    let rest: Vec<&str> = rest.iter().copied().take_while(|word| *word != "check").collect();
                    format!("    server {name} unix@{} {}", socket(at, address).display(), rest.join(" "))
                }
                _ => line.to_owned(),
            };
            config.push_str(&line);
            config.push('\n');
        }
        for target in targets {
            let _ = write!(
                config,
                "frontend target-{}\n    bind unix@{}\n    mode http\n    http-request return status 200 content-type \
                 text/plain lf-string \"{target} %[path] proto=%[req.hdr(X-Forwarded-Proto)] \
                 port=%[req.hdr(X-Forwarded-Port)]\"\n",
                target.replace(['[', ']', ':'], "-"),
                socket(at, &target).display()
            );
        }
        for (path, bytes) in &rendered.files {
            let path = at.join(path);
            std::fs::create_dir_all(path.parent().expect("below it")).expect("made");
            std::fs::write(path, bytes).expect("written");
        }
        std::fs::write(at.join("haproxy.cfg"), &config).expect("written");
        let child = Command::new("/usr/sbin/haproxy")
            .args(["-db", "-f", "haproxy.cfg"])
            .current_dir(at)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("haproxy is installed: run packaging/install-deps test");
        let mut serving = Serving { dir, child };
        let first = socket(serving.dir.path(), &plan.listeners[0].port.to_string());
        for _ in 0..1_000 {
            if std::os::unix::net::UnixStream::connect(&first).is_ok() {
                return serving;
            }
            assert!(serving.child.try_wait().expect("asked").is_none(), "HAProxy ended:\n{config}");
            std::thread::park_timeout(Duration::from_millis(10));
        }
        panic!("HAProxy does not listen");
    }

    /// What curl gets at the port, with the status after it; the exit code when it got nothing.
    fn curl(&self, port: u16, url: &str, more: &[&str]) -> String {
        let path = socket(self.dir.path(), &port.to_string());
        let out = Command::new("curl")
            .args(["-s", "-k", "-m", "10", "-w", " %{http_code}", "--unix-socket"])
            .arg(path)
            .args(more)
            .arg(url)
            .output()
            .expect("curl is installed");
        match out.status.code() {
            Some(0) => String::from_utf8_lossy(&out.stdout).trim().to_owned(),
            code => format!("curl ends with {}", code.unwrap_or_default()),
        }
    }

    /// Address and status only.
    fn get(&self, port: u16, url: &str) -> String {
        let told = self.curl(port, &format!("http://{url}"), &[]);
        if told.contains("503 Service Unavailable") {
            return "503".to_owned();
        }
        told.split(' ').next().unwrap_or_default().to_owned()
    }
}

fn http(port: u16, rules: &[(&str, i64, u16)]) -> BalancerPlan {
    let routes = rules.iter().map(|(rule, service, target)| route(port, rule, vec![to(*service, *target)])).collect();
    plan(vec![listener(port, Protocol::Http)], routes)
}

#[test]
fn item_1_containers_are_visited_in_a_fixed_cycle() {
    let serving = Serving::start(&http(80, &[("", 1, 80), ("", 2, 80)]));
    let visits: Vec<String> = (0..8).map(|_| serving.get(80, "x/")).collect();
    let mut cycle = visits[..4].to_vec();
    assert_eq!(visits[4..], cycle);
    cycle.sort();
    cycle.dedup();
    assert_eq!(cycle.len(), 4, "{visits:?}");
}

#[test]
fn items_2_and_7_paths_reach_exactly_their_services() {
    let serving = Serving::start(&http(80, &[("www.a.test/s1", 2, 1), ("www.a.test/n", 3, 2)]));
    assert_eq!(serving.get(80, "www.a.test/s1/x"), "10.42.7.7:1");
    assert_eq!(serving.get(80, "WWW.A.TEST:80/N"), "10.42.9.1:2", "neither case nor the port matter");
    assert_eq!(serving.get(80, "www.a.test/other"), "503");
    assert_eq!(serving.get(80, "b.test/s1"), "503");
    assert!(serving.curl(80, "http://b.test/", &[]).ends_with("503"));
}

#[test]
fn item_3_longer_paths_first() {
    let serving = Serving::start(&http(80, &[("/81", 2, 1), ("/81/x", 2, 2), ("/svc", 2, 3)]));
    let told = ["x/81/x", "x/81/y", "x/svc1"].map(|url| serving.get(80, url));
    assert_eq!(told, ["10.42.7.7:2", "10.42.7.7:1", "10.42.7.7:3"]);
}

#[test]
fn item_4_wildcards_come_after_names() {
    let rules = ["*.domain.com", "domain.*", "abc.domain.com", "abc.domain.com/p", "*.domain.com/p"];
    let rules: Vec<(&str, i64, u16)> = (1..).zip(rules).map(|(n, rule)| (rule, 2, n)).collect();
    let serving = Serving::start(&http(80, &rules));
    for (url, rule) in [
        ("abc.domain.com/p", 4),
        ("abc.domain.com/", 3),
        ("x.domain.com/p", 5),
        ("x.domain.com/", 1),
        ("domain.x.y/", 2),
        ("x.domain.com:80/", 1),
    ] {
        assert_eq!(serving.get(80, url), format!("10.42.7.7:{rule}"), "{url}");
    }
    // A header that names several hosts is none of them.
    let two = serving.curl(80, "http://x/", &["-H", "Host: evil.test,abc.domain.com"]);
    assert!(two.ends_with("503") || two.starts_with("10.42.7.7:1 "), "{two}");
    assert!(!two.starts_with("10.42.7.7:3"), "{two}");
}

#[test]
fn item_5_ports_of_their_own() {
    let mut routes = Vec::new();
    for (port, rules) in [(1000, ["h/a", "k", "/a", ""]), (1001, ["h/b", "k", "/b", ""])] {
        routes.extend((1..).zip(rules).map(|(n, rule)| route(port, rule, vec![to(2, n)])));
    }
    let serving = Serving::start(&plan(vec![listener(1000, Protocol::Http), listener(1001, Protocol::Http)], routes));
    for (port, url, rule) in
        [(1000, "h/c", 4), (1000, "z/a", 3), (1000, "k/any", 2), (1001, "k/any", 2), (1001, "h/b", 1)]
    {
        assert_eq!(serving.get(port, url), format!("10.42.7.7:{rule}"), "{port} {url}");
    }
}

#[test]
fn item_6_tcp_serves_all_whatever_rules_say() {
    let routes: Vec<Route> = [("a.test", 2, 1), ("b.test/x", 3, 2)]
        .iter()
        .flat_map(|(rule, service, port)| [80, 81].map(|listener| route(listener, rule, vec![to(*service, *port)])))
        .collect();
    let serving = Serving::start(&plan(vec![listener(80, Protocol::Http), listener(81, Protocol::Tcp)], routes));
    let mut told = [serving.get(81, "c.test/"), serving.get(81, "c.test/")];
    told.sort();
    assert_eq!(told, ["10.42.7.7:1", "10.42.9.1:2"]);
    assert_eq!((serving.get(80, "a.test/"), serving.get(80, "c.test/")), ("10.42.7.7:1".to_owned(), "503".to_owned()));
}

#[test]
fn item_9_certificates_are_chosen_by_name() {
    let mut plan = plan(vec![listener(443, Protocol::Https)], vec![route(443, "", vec![to(2, 80)])]);
    let certificate = |id: &str, name: &str| Certificate { id: id.into(), ..certificate_for(name) };
    plan.certificates = vec![certificate("1c1", "main.test"), certificate("1c2", "other.test")];
    let shown = |plan: &BalancerPlan, name: &str| {
        let serving = Serving::start(plan);
        let told = serving.curl(
            443,
            &format!("https://{name}/x"),
            &["-w", " %{http_code} %{http_version} %{ssl_verify_result} %{certs}"],
        );
        let subject = ["main.test", "other.test"].into_iter().find(|of| told.contains(&format!("DNS:{of}")));
        (subject.unwrap_or("none").to_owned(), told)
    };
    plan.default_certificate = Some("1c1".into());
    for (name, expected) in [("main.test", "main.test"), ("other.test", "other.test"), ("unknown.test", "main.test")] {
        let (subject, told) = shown(&plan, name);
        assert_eq!(subject, expected, "{name}: {told}");
        assert!(told.contains("10.42.7.7:80 /x proto=https port="), "{told}");
        assert!(told.contains(" 200 2 "), "HTTP/2 to the client: {told}");
    }
    // Without a default one a handshake with another name fails; without any, every one does.
    plan.default_certificate = None;
    assert_eq!(shown(&plan, "other.test").0, "other.test");
    assert_eq!(shown(&plan, "unknown.test").1, "curl ends with 35");
    plan.certificates.clear();
    assert_eq!(shown(&plan, "main.test").1, "curl ends with 35");
    let plain = Serving::start(&plan).curl(443, "http://main.test/", &[]);
    assert!(plain.starts_with("curl ends with"), "nothing travels in the clear: {plain}");
}

#[test]
fn item_11_a_cookie_keeps_a_client_at_one_container() {
    let mut plan = http(80, &[("", 1, 80)]);
    plan.stickiness = Some(Stickiness { cookie: Some("lb".into()), ..Stickiness::default() });
    let serving = Serving::start(&plan);
    let jar = serving.dir.path().join("jar");
    let jar = jar.to_str().expect("text");
    let visits: Vec<String> = (0..10)
        .map(|_| {
            let told = serving.curl(80, "http://x/", &["-b", jar, "-c", jar]);
            told.split(' ').next().unwrap_or_default().to_owned()
        })
        .collect();
    assert!(visits.iter().all(|visit| *visit == visits[0]), "{visits:?}");
    assert_ne!(serving.get(80, "x/"), serving.get(80, "x/"), "others go round");
}

#[test]
fn item_12_custom_defaults_rule() {
    let mut plan = http(80, &[("", 1, 80)]);
    plan.config = "defaults\nbalance first\n".into();
    let serving = Serving::start(&plan);
    let visits: Vec<String> = (0..6).map(|_| serving.get(80, "x/")).collect();
    assert!(visits.iter().all(|visit| *visit == visits[0]), "{visits:?}");
}

#[test]
fn sni_passes_tls_on_and_the_proxy_protocol_is_required() {
    let routes = vec![route(8443, "one.test", vec![to(2, 1)]), route(8443, "*.two.test", vec![to(2, 2)])];
    let mut plan = plan(vec![listener(8443, Protocol::Sni), listener(80, Protocol::Http)], routes);
    plan.listeners[1].accept_proxy = true;
    plan.routes.push(route(80, "", vec![checked(2, 3, "GET /")]));
    let serving = Serving::start(&plan);
    // The target speaks no TLS, so the handshake reaches it and fails there; an unknown name reaches nobody.
    for name in ["one.test", "x.two.test", "unknown.test"] {
        let told = serving.curl(8443, &format!("https://{name}/"), &[]);
        assert!(told.starts_with("curl ends with"), "{name}: {told}");
    }
    assert!(serving.curl(80, "http://x/", &[]).starts_with("curl ends with"), "no header of the PROXY protocol");
    let told = serving.curl(80, "http://x/", &["--haproxy-protocol"]);
    assert!(told.starts_with("10.42.7.7:3 "), "{told}");
}

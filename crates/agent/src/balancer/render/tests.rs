//! Golden files, each of which real HAProxy accepts, and a search for rules that would make a line it does not.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::OnceLock;

use proptest::prelude::*;
use remuda_wire::balancer::{
    BalancerPlan, Certificate, Check, CookieMode, HealthListener, Listener, Locality, Protocol, Route, Servers,
    Stickiness, Target,
};
use remuda_wire::directory::{Container, Directory, Membership};

use super::*;

/// What HAProxy says about a configuration: nothing when it would start with it.
fn refusal(rendered: &Rendered) -> Option<String> {
    let dir = tempfile::tempdir().expect("a directory");
    let files = rendered.files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice()));
    for (path, bytes) in files.chain([("haproxy.cfg", rendered.config.as_bytes())]) {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().expect("below it")).expect("made");
        std::fs::write(path, bytes).expect("written");
    }
    let checked = Command::new("/usr/sbin/haproxy").args(["-c", "-f", "haproxy.cfg"]).current_dir(dir.path()).output();
    let checked = checked.expect("haproxy is installed: run packaging/install-deps test");
    (!checked.status.success()).then(|| String::from_utf8_lossy(&checked.stderr).into_owned())
}

/// The configuration, which HAProxy accepts.
fn accepted(plan: &BalancerPlan) -> Rendered {
    let rendered = render(plan, &directory()).expect("renders");
    assert_eq!(refusal(&rendered), None, "{}", rendered.config);
    for (name, servers) in &rendered.backends {
        for server in servers {
            let line = [format!("    server {} {}", server.name, server.address)];
            let line: Vec<String> = line.into_iter().chain(server.options.iter().cloned()).collect();
            let section = rendered.config.split(&format!("\nbackend {name}\n")).nth(1).expect("a section");
            assert!(section.contains(&line.join(" ")), "{line:?} is a line of {name}");
        }
    }
    rendered
}

fn member(id: i64, service: i64, address: &str, state: &str, host: i64) -> Container {
    Container {
        id,
        uuid: format!("uuid-{id}"),
        name: format!("c{id}"),
        state: state.into(),
        health: Some("unhealthy".into()),
        host_id: Some(host),
        address: Some(address.into()),
        network_mode: "managed".into(),
        services: vec![Membership { service_id: service, sidekick: None }],
        ..Container::default()
    }
}

/// Service 1 is web, 2 admin, 3 db.
pub(super) fn directory() -> Directory {
    let mut containers = vec![
        member(11, 1, "10.42.3.1", "running", 1),
        member(12, 1, "10.42.3.2", "updating-running", 2),
        member(13, 1, "10.42.3.3", "stopping", 1),
        member(14, 1, "10.42.3.4", "running", 2),
        member(17, 1, "10.42.3.7", "starting", 2),
        member(18, 1, "10.42.3.8", "restarting", 2),
        member(21, 2, "10.42.7.7", "running", 2),
        member(31, 3, "10.42.9.1", "running", 1),
    ];
    let mut sidekick = member(15, 1, "10.42.3.5", "running", 1);
    sidekick.services[0].sidekick = Some("data".into());
    let bridge = Container { network_mode: "bridge".into(), ..member(16, 1, "172.17.0.2", "running", 1) };
    containers.extend([sidekick, bridge]);
    Directory { containers: containers.into_iter().map(|of| (of.id, of.into())).collect(), ..Directory::default() }
}

pub(super) fn listener(port: u16, protocol: Protocol) -> Listener {
    Listener { port, protocol, accept_proxy: false }
}

pub(super) fn to(service: i64, port: u16) -> Target {
    Target { servers: Servers::Service(service), port, ..Target::default() }
}

pub(super) fn checked(service: i64, port: u16, request_line: &str) -> Target {
    let check = Check {
        port: 8080,
        interval_ms: 2000,
        response_timeout_ms: 1500,
        healthy_threshold: 2,
        unhealthy_threshold: 3,
        request_line: request_line.into(),
    };
    Target { check: Some(check), ..to(service, port) }
}

pub(super) fn route(port: u16, rule: &str, targets: Vec<Target>) -> Route {
    let (host, path) = rule.find('/').map_or((rule, ""), |at| rule.split_at(at));
    Route { port, host: host.into(), path: path.into(), targets, ..Route::default() }
}

pub(super) fn plan(listeners: Vec<Listener>, routes: Vec<Route>) -> BalancerPlan {
    let health = Some(HealthListener { port: 42, http: false });
    BalancerPlan { container: "b".into(), host_id: 1, health, listeners, routes, ..BalancerPlan::default() }
}

fn certificate(id: &str) -> Certificate {
    static MADE: OnceLock<(String, String)> = OnceLock::new();
    let (cert, key) = MADE.get_or_init(|| {
        let made = rcgen::generate_simple_self_signed(vec!["a.test".to_owned()]).expect("a certificate");
        (made.cert.pem(), made.signing_key.serialize_pem())
    });
    Certificate { id: id.into(), name: id.into(), cert: cert.clone(), key: key.clone(), chain: String::new() }
}

/// A certificate for that name.
pub(super) fn certificate_for(name: &str) -> Certificate {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).expect("a certificate");
    let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    Certificate { id: String::new(), name: name.into(), cert, key, chain: String::new() }
}

/// Asked questions in order, with the backend each leads to.
fn order(rendered: &Rendered, port: u16) -> Vec<String> {
    let section = rendered.config.split(&format!("\nfrontend {port}\n")).nth(1).expect("a section");
    let lines = section.lines().take_while(|line| line.starts_with(' '));
    let lines = lines
        .filter_map(|line| line.trim().strip_prefix("use_backend ").or(line.trim().strip_prefix("default_backend ")));
    lines.map(|line| line.split(' ').next().unwrap_or_default().to_owned()).collect()
}

/// The example of the specification.
#[test]
fn the_example() {
    let web = |port| checked(1, port, "GET / HTTP/1.0");
    let mut plan = plan(
        vec![listener(80, Protocol::Http), listener(443, Protocol::Https), listener(5000, Protocol::Tcp)],
        vec![
            route(80, "", vec![web(8080)]),
            route(443, "", vec![web(8080)]),
            route(5000, "", vec![web(5432)]),
            route(80, "*.corp.test/adm", vec![to(2, 9000)]),
            route(443, "", vec![to(2, 8080)]),
            route(5000, "", vec![to(2, 5432)]),
        ],
    );
    plan.certificates = vec![certificate("1c1")];
    plan.default_certificate = Some("1c1".into());
    let rendered = accepted(&plan);
    insta::assert_snapshot!("the_example", rendered.config);
    assert_eq!(rendered.files.keys().collect::<Vec<_>>(), ["certs/1c1.pem"]);
}

#[test]
fn every_protocol_and_option() {
    let mut plan = plan(
        vec![
            Listener { accept_proxy: true, ..listener(80, Protocol::Http) },
            listener(443, Protocol::Https),
            listener(993, Protocol::Tls),
            listener(8443, Protocol::Sni),
            Listener { accept_proxy: true, ..listener(3306, Protocol::Tcp) },
        ],
        vec![
            route(80, "web.test", vec![Target { weight: Some(3), ..to(1, 80) }]),
            route(443, "web.test/a", vec![to(1, 80)]),
            route(993, "ignored.test/x", vec![to(1, 143)]),
            route(993, "", vec![to(2, 143)]),
            route(8443, "One.test/ignored", vec![to(1, 443)]),
            route(8443, "*.two.test", vec![to(2, 443)]),
            route(3306, "", vec![to(3, 3306), to(3, 3306)]),
        ],
    );
    plan.health = Some(HealthListener { port: 43, http: true });
    plan.certificates = ["1c1", "1c2", "1c3"].map(certificate).to_vec();
    plan.stickiness = Some(Stickiness {
        cookie: Some("my cookie".into()),
        mode: CookieMode::Prefix,
        indirect: true,
        nocache: true,
        postonly: true,
        domain: Some(".web.test".into()),
    });
    let rendered = accepted(&plan);
    insta::assert_snapshot!("every_protocol", rendered.config);
    let list = String::from_utf8_lossy(&rendered.files["certs/list"]).into_owned();
    assert_eq!(list, "certs/1c1.pem\ncerts/1c2.pem\ncerts/1c3.pem\n");
    let pem = String::from_utf8_lossy(&rendered.files["certs/1c2.pem"]).into_owned();
    assert!(pem.starts_with("-----BEGIN PRIVATE KEY") && pem.contains("-----BEGIN CERTIFICATE"), "key first");
}

#[test]
fn external_targets_and_the_users_text() {
    let outside = |servers: Servers| Target { servers, ..checked(0, 443, "") };
    let mut plan = plan(
        vec![listener(80, Protocol::Http), listener(81, Protocol::Tcp)],
        vec![
            route(80, "", vec![to(1, 80)]),
            route(
                80,
                "out.test",
                vec![
                    outside(Servers::Address("192.0.2.1".into())),
                    outside(Servers::Address("2001:db8::1".into())),
                    outside(Servers::Address("192.0.2.1".into())),
                    outside(Servers::Name("db.example.com".into())),
                    outside(Servers::Name("unix@/run/x ${HOME}".into())),
                ],
            ),
            Route { backend: Some("grpc".into()), ..route(80, "/pkg.Service", vec![to(2, 50051)]) },
        ],
    );
    plan.config =
        "global\n    maxconn 99\n    ssl-server-verify none\ndefaults\n  balance first\n  timeout client 30s\n\
                   no option dontlognull\nfrontend 80\n  accept-proxy\n  acl evil src 198.51.100.0/24\n  \
                   http-request deny if evil\nbackend grpc\n  timeout server 1h\n  server $IP proto h2\n\
                   frontend 81\n  bind *:82\nlisten stats\n  bind *:9000\n  mode http\n  stats enable\n"
            .into();
    let rendered = accepted(&plan);
    insta::assert_snapshot!("external_and_custom", rendered.config);
}

#[test]
fn without_certificates_no_handshake_succeeds_and_nothing_is_plain() {
    let plan = plan(vec![listener(443, Protocol::Https)], vec![route(443, "", vec![to(1, 80)])]);
    let rendered = accepted(&plan);
    assert!(rendered.config.contains("    bind *:443 ssl strict-sni alpn h2,http/1.1\n"), "{}", rendered.config);
}

#[test]
fn listeners_without_targets_are_open() {
    let plan = plan(vec![listener(80, Protocol::Http), listener(81, Protocol::Tcp)], vec![route(80, "a.test", vec![])]);
    let rendered = accepted(&plan);
    assert_eq!(order(&rendered, 80), ["80_a_test_"]);
    assert_eq!(order(&rendered, 81), Vec::<String>::new());
    assert_eq!(rendered.backends, BTreeMap::from([("80_a_test_".to_owned(), vec![])]));
}

#[test]
fn the_health_port_gives_way_to_a_listener() {
    let plan = BalancerPlan {
        health: Some(HealthListener { port: 80, http: false }),
        ..plan(vec![listener(80, Protocol::Http)], vec![])
    };
    assert!(!accepted(&plan).config.contains("listen health"));
}

/// `load-balancer.md` §5.2, and its acceptance examples 3 and 4.
#[test]
fn the_more_particular_rule_is_asked_first() {
    let with = |rules: &[&str]| {
        let routes = rules.iter().map(|rule| route(80, rule, vec![to(1, 80)])).collect();
        order(&accepted(&plan(vec![listener(80, Protocol::Http)], routes)), 80)
    };
    assert_eq!(
        with(&["", "/a", "*.a.test", "*.a.test/p", "a.test", "/a/longer", "a.test/p", "b.longer.test", "a.test/p/q"]),
        [
            "80_a_test_p_q",
            "80_a_test_p",
            "80_b_longer_test_",
            "80_a_test_",
            "80_a_test_p_2",
            "80_a_test__2",
            "80_a_longer",
            "80_a",
            "80_"
        ]
    );
    assert_eq!(with(&["/81", "/81/x", "/svc"]), ["80_81_x", "80_svc", "80_81"]);
    assert_eq!(
        with(&["*.domain.com", "domain.*", "abc.domain.com", "abc.domain.com/p", "*.domain.com/p"]),
        ["80_abc_domain_com_p", "80_abc_domain_com_", "80_domain_com_p", "80_domain_com_", "80_domain_"]
    );
}

#[test]
fn priority_comes_before_class_and_the_default_last() {
    let routes = [("a.test", None), ("/x", Some(2)), ("", Some(1)), ("*.b.test", Some(7)), ("c.test/p", Some(0))];
    let routes = routes.map(|(rule, priority)| Route { priority, ..route(80, rule, vec![to(1, 80)]) }).to_vec();
    let rendered = accepted(&plan(vec![listener(80, Protocol::Http)], routes));
    assert_eq!(order(&rendered, 80), ["80_x", "80_b_test_", "80_c_test_p", "80_a_test_", "80_"]);
}

#[test]
fn equal_rules_share_a_backend_and_equal_addresses_a_server() {
    let routes = vec![
        route(80, "A.test/P", vec![to(1, 80)]),
        route(80, "a.TEST/p", vec![to(2, 81), to(1, 80)]),
        Route { backend: Some("both".into()), ..route(80, "x", vec![to(3, 1)]) },
        Route { backend: Some("both".into()), ..route(81, "", vec![to(2, 2)]) },
    ];
    let rendered = accepted(&plan(vec![listener(80, Protocol::Http), listener(81, Protocol::Http)], routes));
    let names = |backend: &str| rendered.backends[backend].iter().map(|server| server.name.clone()).collect::<Vec<_>>();
    assert_eq!(names("80_a_test_p"), ["1i11-80", "1i12-80", "1i14-80", "1i21-81"]);
    assert_eq!(names("both"), ["1i31-1", "1i21-2"]);
    assert_eq!((rendered.backends.len(), order(&rendered, 81)), (2, vec!["both".to_owned()]));
}

#[test]
fn local_targets_only_or_first() {
    let servers = |locality, service| {
        let mut plan = plan(vec![listener(80, Protocol::Http)], vec![route(80, "", vec![to(service, 80)])]);
        plan.locality = locality;
        accepted(&plan).backends["80_"].iter().map(|server| server.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(servers(Locality::Any, 1), ["1i11-80", "1i12-80", "1i14-80"]);
    assert_eq!(servers(Locality::OnlyLocal, 1), ["1i11-80"]);
    assert_eq!(servers(Locality::PreferLocal, 1), ["1i11-80"]);
    assert_eq!(servers(Locality::OnlyLocal, 2), Vec::<String>::new());
    assert_eq!(servers(Locality::PreferLocal, 2), ["1i21-80"]);
}

#[test]
fn only_servers_differ_when_only_targets_change() {
    let mut plan = plan(
        vec![listener(80, Protocol::Http)],
        vec![route(80, "", vec![checked(1, 80, "GET /")]), route(80, "a.test", vec![to(1, 81)])],
    );
    plan.stickiness = Some(Stickiness::default());
    let without = |rendered: &Rendered| {
        let lines = rendered.config.lines().filter(|line| !line.starts_with("    server "));
        lines.map(|line| format!("{line}\n")).collect::<String>()
    };
    let all = accepted(&plan);
    let mut fewer = directory();
    fewer.containers.retain(|_, of| of.id == 21);
    let none = render(&plan, &fewer).expect("renders");
    assert_eq!(without(&all), without(&none));
    assert_eq!(all.backends.values().map(Vec::len).sum::<usize>(), 6);
    assert_eq!(none.backends.values().map(Vec::len).sum::<usize>(), 0);
    assert_eq!(all.backends["80_"][0].options[..2], ["cookie", "uuid-11"]);
}

#[test]
fn what_no_line_can_hold_is_an_error() {
    let long = route(80, &"x".repeat(LONGEST_RULE + 1), vec![]);
    let error = render(&plan(vec![listener(80, Protocol::Http)], vec![long]), &directory());
    assert_eq!(error, Err(Error::LongRule { port: 80, length: LONGEST_RULE + 1 }));
    let twice = plan(vec![listener(80, Protocol::Http), listener(80, Protocol::Tcp)], vec![]);
    assert_eq!(render(&twice, &directory()), Err(Error::SamePort { port: 80 }));
    // The longest that is taken fits, with every byte escaped.
    accepted(&plan(vec![listener(80, Protocol::Http)], vec![route(80, &"\"".repeat(LONGEST_RULE), vec![to(1, 80)])]));
}

/// Text that tries to be more than a word.
fn hostile() -> impl Strategy<Value = String> {
    let nasty = prop::sample::select(vec![
        " ",
        "\n",
        "\r",
        "\t",
        "\0",
        "\"",
        "'",
        "\\",
        "#",
        "$",
        "${HOME}",
        "{",
        "}",
        "%[src]",
        "-f",
        "--",
        "\\x0a",
        "\nglobal\n",
        "backend x",
        "if TRUE",
        "*",
        ".",
        "ä",
        "/",
        ":",
        "=",
        ",",
        "a.test",
        "unix@",
    ]);
    prop::collection::vec(nasty, 0..6).prop_map(|parts| parts.concat())
}

fn any_target() -> impl Strategy<Value = Target> {
    let servers = prop_oneof![
        (0..4_i64).prop_map(Servers::Service),
        hostile().prop_map(Servers::Address),
        hostile().prop_map(Servers::Name),
        Just(Servers::Name("out.example.com".into())),
    ];
    let check = prop::option::of((any::<u16>(), 0..100_000_u32, 0..9_u32, hostile()));
    (servers, 1..=u16::MAX, prop::option::of(any::<u16>()), check).prop_map(|(servers, port, weight, check)| Target {
        servers,
        port,
        weight,
        check: check.map(|(port, ms, times, request_line)| Check {
            port,
            interval_ms: ms,
            response_timeout_ms: ms,
            healthy_threshold: times,
            unhealthy_threshold: times,
            request_line,
        }),
    })
}

fn any_plan() -> impl Strategy<Value = BalancerPlan> {
    let protocol =
        prop::sample::select(vec![Protocol::Http, Protocol::Https, Protocol::Tcp, Protocol::Tls, Protocol::Sni]);
    let listeners = prop::collection::btree_map(1..9_u16, (protocol, any::<bool>()), 1..5);
    let host = prop_oneof![hostile(), Just("*.a.test".to_owned()), Just(String::new())];
    let path = hostile().prop_map(|text| format!("/{text}"));
    let chosen = prop::option::of(prop_oneof![hostile(), Just("mine".to_owned())]);
    let targets = prop::collection::vec(any_target(), 0..3);
    let routes = prop::collection::vec((1..9_u16, host, path, prop::option::of(0..4_u32), chosen, targets), 0..12);
    let cookie = prop::option::of((prop::option::of(hostile()), any::<bool>(), prop::option::of(hostile())));
    (listeners, routes, cookie, 0..3_usize, any::<bool>()).prop_map(|(listeners, routes, cookie, n, with_default)| {
        let listeners = listeners.into_iter();
        let listeners = listeners.map(|(port, (protocol, accept_proxy))| Listener { port, protocol, accept_proxy });
        let routes = routes.into_iter().map(|(port, host, path, priority, backend, targets)| Route {
            port,
            host,
            path: if path.len() > 1 { path } else { String::new() },
            priority,
            backend,
            targets,
        });
        let mut plan = plan(listeners.collect(), routes.collect());
        plan.certificates = (0..n).map(|n| certificate(&format!("1c{n}"))).collect();
        plan.default_certificate = with_default.then(|| "1c0".to_owned());
        plan.stickiness = cookie.map(|(cookie, flag, domain)| Stickiness {
            cookie,
            indirect: flag,
            nocache: !flag,
            domain,
            ..Stickiness::default()
        });
        plan
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// Whatever rules say, HAProxy takes the configuration, and there are no other sections than were asked for.
    #[test]
    fn no_rule_breaks_the_configuration(plan in any_plan()) {
        let rendered = render(&plan, &directory()).expect("short rules render");
        let refused = refusal(&rendered);
        prop_assert!(refused.is_none(), "{}\n{}", refused.unwrap_or_default(), rendered.config);
        let sections = |kind: &str| rendered.config.lines().filter(|line| line.starts_with(kind)).count();
        prop_assert_eq!(sections("frontend "), plan.listeners.len());
        prop_assert_eq!(sections("backend "), rendered.backends.len());
        prop_assert_eq!((sections("global"), sections("listen ")), (1, 1));
    }
}

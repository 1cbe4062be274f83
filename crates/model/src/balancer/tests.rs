//! The tables of the specification, and what comes of them.

use proptest::prelude::*;
use remuda_schema::Id;

use super::*;
use crate::load_balancer_service::{HaproxyConfig, LoadBalancerConfig};
use crate::workload::Workload;

fn said(text: &str) -> String {
    match LinkRule::parse(text) {
        Ok(rule) => {
            let port = |port: Option<u16>| port.map_or("-".to_owned(), |port| port.to_string());
            let text = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
            format!("{} {} {} {}", text(&rule.host), port(rule.source), text(&rule.path), port(rule.target))
        }
        Err(error) => {
            assert_eq!((error.code, &error.field), (Code::InvalidPort, &None), "{text}");
            "error".to_owned()
        }
    }
}

/// The table of `load-balancer.md` §4.
#[test]
fn rules_of_links_read_as_specified() {
    for (text, expected) in [
        ("example.com:80/path=81", "example.com 80 /path 81"),
        ("example.com:80/path/a", "example.com 80 /path/a -"),
        ("example.com:80=81", "example.com 80 - 81"),
        ("example.com:80", "example.com 80 - -"),
        ("example.com/a/b=81", "example.com - /a/b 81"),
        ("example.com/a", "example.com - /a -"),
        ("example.com=81", "example.com - - 81"),
        ("example.com", "example.com - - -"),
        ("80/path=81", "- 80 /path 81"),
        ("80/path", "- 80 /path -"),
        ("80=81", "- 80 - 81"),
        (":80/path", "- 80 /path -"),
        ("/path=81", "- - /path 81"),
        ("/path", "- - /path -"),
        ("81", "- - - 81"),
        ("90:a.com/hello", "a.com - /hello 90"),
        ("90:/hello", "- - /hello 90"),
        ("*.a.com", "*.a.com - - -"),
        ("a.*", "a.* - - -"),
        ("", "- - - -"),
        ("90=100=100", "error"),
        ("a.com:b.com:80", "error"),
        ("a.com/x=y", "error"),
        ("0", "error"),
        ("65536", "error"),
        ("a.com:x", "error"),
        ("a b", "error"),
        ("a*b.com", "error"),
        ("*.a.*", "error"),
        ("münchen.de", "error"),
        ("/a\nb", "error"),
        ("a.com:+80", "error"),
    ] {
        assert_eq!(said(text), expected, "{text:?}");
    }
}

fn config(ports: &[&str], expose: &[&str], labels: &[(&str, &str)]) -> LaunchConfig {
    let list = |texts: &[&str]| Some(texts.iter().map(|text| (*text).to_owned()).collect());
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let workload = Workload { ports: list(ports), expose: list(expose), labels: Some(labels), ..Workload::default() };
    LaunchConfig { workload, ..LaunchConfig::default() }
}

#[test]
fn listeners_are_those_of_ports_and_expose() {
    let config = config(
        &["80:8080", "443:8080", "9999:99/tcp", "993:143/tcp", "127.0.0.2:81:8080"],
        &["82", "83:90", "80"],
        &[(LABEL_SSL_PORTS, "443, 993"), (LABEL_PROXY_PORTS, "81")],
    );
    let found: Vec<(u16, &str, bool, u16)> =
        listeners(&config).into_iter().map(|of| (of.port, of.protocol, of.accept_proxy, of.target)).collect();
    assert_eq!(
        found,
        [
            (80, "http", false, 8080),
            (443, "https", false, 8080),
            (9999, "tcp", false, 99),
            (993, "tls", false, 143),
            (81, "http", true, 8080),
            (82, "http", false, 82),
            (83, "http", false, 90),
        ]
    );
    assert_eq!(
        container_ports(&["80:8080/tcp".into(), "127.0.0.2:81:8080".into(), "53".into()]),
        ["80:80/tcp", "127.0.0.2:81:81/tcp", "53/tcp"]
    );
}

fn shape(rules: &Rules) -> Vec<String> {
    let to = |target: &Target| match target {
        Target::Service(service, port) => format!("{service}:{port}"),
        Target::Selector(_, port) => format!("selector:{}", port.unwrap_or_default()),
    };
    rules.rules.iter().map(|rule| format!("{}{}{} > {}", rule.host, rule.port, rule.path, to(&rule.target))).collect()
}

/// Acceptance example 5, and the order in which steps of §5 are taken.
#[test]
fn rules_are_multiplied_over_listeners() {
    let service = Service {
        common: crate::ServiceCommon {
            launch_config: Some(config(&["1000:8080", "1001:8081/tcp"], &[], &[])),
            ..Default::default()
        },
        ..Service::default()
    };
    let list = |rules: &[&str]| rules.iter().map(|rule| (*rule).to_owned()).collect::<Vec<String>>();
    let links = [
        (1, list(&["h:1000/a", "h:1001/b"])),
        (2, list(&["k"])),
        (3, list(&["/a=80"])),
        (4, list(&[])),
        (5, list(&["2000=5"])),
    ];
    let rules = Rules::of(&service, links.iter().map(|(id, ports)| (*id, ports.as_slice())));
    assert_eq!(
        shape(&rules),
        [
            "h1000/a > 1:8080",
            "h1001/b > 1:8081",
            "k1000 > 2:8080",
            "k1001 > 2:8081",
            "1000/a > 3:80",
            "1001/a > 3:80",
            "1000 > 4:8080",
            "1001 > 4:8081",
            // A rule for a port that is no listener has no effect, so the target is the default of both.
            "1000 > 5:8080",
            "1001 > 5:8081",
        ]
    );
}

fn port_rule(source: i64, service: Option<i64>, target: Option<i64>) -> PortRule {
    PortRule { source_port: Some(source), service_id: service.map(Id::new), target_port: target, ..PortRule::default() }
}

#[test]
fn the_later_form_has_no_defaults_of_its_own() {
    let mut https = port_rule(443, Some(1), Some(8080));
    (https.protocol, https.hostname, https.path) = (Some("https".into()), Some("a.test".into()), Some("x".into()));
    (https.priority, https.weight, https.backend_name) = (Some(3), Some(0), Some("mine".into()));
    let second = PortRule { protocol: Some("tcp".into()), ..port_rule(443, Some(2), Some(81)) };
    let selects = PortRule { selector: Some("tier=web".into()), ..port_rule(80, None, None) };
    let udp = PortRule { protocol: Some("udp".into()), ..port_rule(53, Some(1), Some(53)) };
    let config = LbConfig { port_rules: Some(vec![https, second, selects, udp]), ..LbConfig::default() };
    let rules = of_config(&config);
    assert_eq!(shape(&rules), ["a.test443/x > 1:8080", "443 > 2:81", "80 > selector:0"]);
    let ports: Vec<(u16, &str)> = rules.listeners.iter().map(|of| (of.port, of.protocol)).collect();
    assert_eq!(ports, [(80, "http"), (443, "https")], "the first rule of a port says what it speaks");
    let first = &rules.rules[0];
    assert_eq!((first.priority, first.weight, first.backend.as_deref()), (Some(3), Some(0), Some("mine")));

    let own = PortRule { hostname: Some("own.test".into()), target_port: Some(9), ..PortRule::default() };
    let combined = |target, offered: &[&PortRule]| {
        let rules = selected(&rules.rules[2], target, 7, offered);
        shape(&Rules { listeners: vec![], rules })
    };
    assert_eq!(combined(None, &[]), Vec::<String>::new());
    assert_eq!(combined(Some(80), &[]), ["80 > 7:80"]);
    assert_eq!(combined(Some(80), &[&own, &PortRule::default()]), ["own.test80 > 7:9", "80 > 7:80"]);
}

/// Code and field of the refusal.
fn refusal(rules: Vec<PortRule>) -> String {
    let config = LbConfig { port_rules: Some(rules), ..LbConfig::default() };
    match check_config(&config, true) {
        Ok(()) => "ok".to_owned(),
        Err(error) => format!("{} {}", error.code.table().0, error.field.unwrap_or_default()),
    }
}

#[test]
fn rules_of_the_later_form_are_checked() {
    let fine = || port_rule(80, Some(1), Some(80));
    let host = |host: &str| PortRule { hostname: Some(host.into()), ..fine() };
    for (rule, expected) in [
        (fine(), "ok"),
        (PortRule { source_port: None, ..fine() }, "MissingRequired sourcePort"),
        (
            PortRule { source_port: Some(42), ..fine() },
            "InvalidOption Port 42 is reserved for loadBalancerService health check",
        ),
        (PortRule { service_id: None, ..fine() }, "MissingRequired serviceId"),
        (
            PortRule { selector: Some("a=b".into()), ..fine() },
            "InvalidOption Can't specify both selector and serviceId",
        ),
        (PortRule { selector: Some("a=b".into()), service_id: None, target_port: None, ..fine() }, "ok"),
        (
            PortRule { selector: Some("a b".into()), service_id: None, ..fine() },
            "InvalidFormat Invalid format selector : a b",
        ),
        (PortRule { target_port: None, ..fine() }, "MissingRequired targetPort"),
        (host("*.a.test"), "ok"),
        (host("a b"), "InvalidCharacters hostname"),
        (host("a\nglobal"), "InvalidCharacters hostname"),
        (PortRule { path: Some("/a b".into()), ..fine() }, "InvalidCharacters path"),
        (PortRule { backend_name: Some("a b".into()), ..fine() }, "InvalidCharacters backendName"),
    ] {
        assert_eq!(refusal(vec![rule.clone()]), expected, "{rule:?}");
    }
}

#[test]
fn a_clash_names_both_rules() {
    let named = |name: &str| PortRule {
        backend_name: Some(name.into()),
        hostname: Some("A.test".into()),
        ..port_rule(80, Some(1), Some(80))
    };
    let config = |rules| LbConfig { port_rules: Some(rules), ..LbConfig::default() };
    let first = |priority| PortRule { priority: Some(priority), ..named("x") };
    assert_eq!(refusal(vec![named("x"), named("x"), port_rule(81, Some(1), Some(1))]), "ok");
    assert_eq!(refusal(vec![first(1), first(0)]), "ok");
    assert_eq!(refusal(vec![first(1), first(2)]), "InvalidOption priority");
    let other = PortRule { hostname: Some("a.TEST".into()), ..named("y") };
    let error =
        check_config(&config(vec![named("x"), port_rule(81, Some(1), Some(1)), other]), true).expect_err("a clash");
    let expected = "rules 1 and 3 are both for `a.test:80`, but have different values of `backendName`";
    assert_eq!(error.detail.as_deref(), Some(expected));
}

#[test]
fn the_earlier_forms_text_gets_headers() {
    let haproxy = HaproxyConfig { global: Some("maxconn 5".into()), defaults: Some(" ".into()) };
    let config = LoadBalancerConfig { haproxy_config: Some(haproxy), ..LoadBalancerConfig::default() };
    let service = Service { load_balancer_config: Some(config), ..Service::default() };
    assert_eq!(custom_text(&service), "global\nmaxconn 5\n");
}

#[test]
fn listeners_are_checked() {
    for (text, expected) in [
        ("80:8080", "ok"),
        ("80", "ok"),
        ("42:80", "InvalidOption"),
        ("42", "InvalidOption"),
        ("80:42", "ok"),
        ("80:80/udp", "InvalidOption"),
        ("80-90", "PortWrongFormat"),
        ("0:80", "PortInvalidPublicPort"),
        ("80:0", "PortInvalidPrivatePort"),
        ("80:80/x", "PortInvalidProtocol"),
    ] {
        let told = check_listener(text).map_or_else(|error| error.code.table().0, |()| "ok");
        assert_eq!(told, expected, "{text}");
    }
}

proptest! {
    #[test]
    fn any_rule_is_read_or_refused(text in "[a-z0-9.:/=* \\n*]{0,20}") {
        if let Ok(rule) = LinkRule::parse(&text) {
            prop_assert!(!rule.host.contains(char::is_whitespace) && !rule.path.contains(char::is_whitespace));
        }
    }
}

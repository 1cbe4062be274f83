//! Steps between two configurations: cases by hand, and whatever two configurations there are.

use proptest::prelude::*;

use super::*;

/// `web-1=10.42.0.1 weight 5` and `web-2=10.42.0.2 !` (drains).
fn server(text: &str) -> Server {
    let (name, rest) = text.split_once('=').expect("a name");
    let mut words: Vec<&str> = rest.split(' ').collect();
    let address = format!("{}:80", words.remove(0)).parse().expect("an address");
    let drain = words.last() == Some(&"!");
    words.retain(|word| *word != "!");
    Server { name: name.into(), address, options: words.into_iter().map(str::to_owned).collect(), drain }
}

fn rendered(head: &str, backends: &[(&str, &[&str])]) -> Rendered {
    let mut it = Rendered { config: format!("{head}\n"), ..Rendered::default() };
    for (name, servers) in backends {
        it.config.push_str(&format!("backend {name}\n    mode http\n"));
        let servers: Vec<Server> = servers.iter().map(|text| server(text)).collect();
        for server in &servers {
            let line = format!("    server {} {} {}", server.name, server.address, server.options.join(" "));
            it.config.push_str(line.trim_end());
            it.config.push('\n');
        }
        it.backends.insert((*name).to_owned(), servers);
    }
    it
}

fn said(steps: &[Step]) -> Vec<String> {
    let say = |step: &Step| match step {
        Step::Add { backend, server } => format!("add {backend}/{}", server.name),
        Step::TakeBack { backend, server } => format!("back {backend}/{}", server.name),
        Step::Drain { backend, name, drain } => format!("drain {drain} {backend}/{name}"),
        Step::Weight { backend, name, weight } => format!("weight {weight} {backend}/{name}"),
        Step::Withdraw { backend, name } => format!("withdraw {backend}/{name}"),
        Step::Certificate { path, .. } => format!("certificate {path}"),
        Step::Reload { why } => format!("reload: {why}"),
    };
    steps.iter().map(say).collect()
}

fn check(old: &Rendered, new: &Rendered, expected: &[&str]) {
    assert_eq!(said(&decide(old, &Lingering::new(), new)), expected);
}

#[test]
fn targets_come_and_go_without_a_reload() {
    let old = rendered("defaults", &[("80_", &["a=10.42.0.1", "b=10.42.0.2"]), ("81_", &[])]);
    check(&old, &old, &[]);
    let new = rendered("defaults", &[("80_", &["b=10.42.0.2", "c=10.42.0.3"]), ("81_", &["a=10.42.0.1"])]);
    check(&old, &new, &["add 80_/c", "add 81_/a", "withdraw 80_/a"]);
    let new = rendered("defaults", &[("80_", &["a=10.42.0.1 weight 5", "b=10.42.0.2 !"]), ("81_", &[])]);
    check(&old, &new, &["weight 5 80_/a", "drain true 80_/b"]);
    check(&new, &old, &["weight 1 80_/a", "drain false 80_/b"]);
}

#[test]
fn what_haproxy_must_read_is_a_reload_and_targets_go_first() {
    let old = rendered("defaults", &[("80_", &["a=10.42.0.1"])]);
    let new = rendered("defaults\n    timeout client 5", &[("80_", &["b=10.42.0.2"])]);
    check(&old, &new, &["add 80_/b", "withdraw 80_/a", "reload: the rules or settings changed"]);
    let new = rendered("defaults", &[("80_", &["a=10.42.0.1"]), ("81_", &[])]);
    check(&old, &new, &["reload: the rules or settings changed"]);
    let new = rendered("defaults", &[("80_", &["a=10.42.0.9"])]);
    check(&old, &new, &["reload: server a of 80_ changed"]);
    let new = rendered("defaults", &[("80_", &["a=10.42.0.1 check"])]);
    check(&old, &new, &["reload: server a of 80_ changed"]);
    // A custom option that would be more than a word on the socket.
    let new = rendered("defaults", &[("80_", &["a=10.42.0.1", "b=10.42.0.2 check;shutdown"])]);
    check(&old, &new, &["reload: server b of 80_ changed"]);
}

#[test]
fn certificates_in_use_are_replaced_and_other_files_need_a_reload() {
    let with = |files: &[(&str, &str)]| Rendered {
        files: files.iter().map(|(path, bytes)| ((*path).to_owned(), bytes.as_bytes().to_vec())).collect(),
        ..rendered("defaults", &[])
    };
    let old = with(&[("certs/a.pem", "1"), ("list", "1")]);
    check(&old, &with(&[("certs/a.pem", "2"), ("list", "1")]), &["certificate certs/a.pem"]);
    check(&old, &with(&[("certs/a.pem", "2"), ("list", "2")]), &["reload: the file list changed"]);
    check(
        &old,
        &with(&[("certs/a.pem", "1"), ("certs/b.pem", "1"), ("list", "1")]),
        &["reload: the file certs/b.pem changed"],
    );
}

#[test]
fn a_server_that_lingers_is_taken_back() {
    let (none, one) = (rendered("x", &[("80_", &[])]), rendered("x", &[("80_", &["a=10.42.0.1 check"])]));
    let left = |text: &str| Lingering::from([(("80_".to_owned(), "a".to_owned()), server(text))]);
    assert_eq!(said(&decide(&none, &left("a=10.42.0.1 check weight 3"), &one)), ["back 80_/a"]);
    assert_eq!(said(&decide(&none, &left("a=10.42.0.7 check"), &one)), ["reload: server a of 80_ changed"]);
}

#[test]
fn users_own_servers_belong_to_the_skeleton() {
    let mut old = rendered("defaults", &[("80_", &["a=10.42.0.1"])]);
    old.config.push_str("    server mine 10.0.0.1:80\nlisten other\n    server a 10.0.0.2:80\n");
    let text = skeleton(&old);
    assert!(text.contains("server mine") && text.contains("10.0.0.2") && !text.contains("10.42.0.1"), "{text}");
}

/// A configuration with some of three backends, each with some of five servers.
fn any() -> impl Strategy<Value = Rendered> {
    let names = proptest::collection::btree_set(0..5_usize, 0..5);
    proptest::collection::btree_map(0..3_usize, names, 0..3).prop_map(|backends| {
        let texts: Vec<(String, Vec<String>)> = backends
            .into_iter()
            .map(|(number, names)| {
                (format!("b{number}"), names.into_iter().map(|name| format!("s{name}=10.42.0.{name}")).collect())
            })
            .collect();
        let texts: Vec<(&str, Vec<&str>)> =
            texts.iter().map(|(name, servers)| (name.as_str(), servers.iter().map(String::as_str).collect())).collect();
        let list: Vec<(&str, &[&str])> = texts.iter().map(|(name, servers)| (*name, servers.as_slice())).collect();
        rendered("defaults", &list)
    })
}

proptest! {
    /// What is reached without a reload keeps the old skeleton, has the new servers, and leaves no server step.
    #[test]
    fn servers_move_over_to_another_skeleton(old in any(), new in any()) {
        let reached = with_servers_of(&old, &new);
        prop_assert_eq!(skeleton(&reached), skeleton(&old));
        for (name, servers) in &reached.backends {
            prop_assert_eq!(servers, new.backends.get(name).unwrap_or(&old.backends[name]));
            let lines = reached.config.lines().filter(|line| line.trim_start().starts_with("server ")).count();
            prop_assert_eq!(lines, reached.backends.values().map(Vec::len).sum::<usize>());
        }
        let left = decide(&reached, &Lingering::new(), &new);
        let only_reload = left.iter().all(|step| matches!(step, Step::Reload { .. }));
        prop_assert!(only_reload, "{:?}", left);
    }
}

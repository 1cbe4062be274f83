//! Files that nobody would write on purpose: a clear word, in bounded time and memory.

use crate::world::{World, docker, file};

fn refused(world: &World, part: &str) {
    let said = world.said();
    assert!(world.compile().is_err(), "compiles");
    assert!(said.contains(part), "{}", said.chars().take(2_000).collect::<String>());
    assert!(said.len() < 100_000, "says too much: {} bytes", said.len());
}

#[test]
fn large_deep_and_binary_files() {
    refused(&docker(&"x".repeat(50 << 20)), "larger than 4 MiB");
    refused(&docker(&format!("a: {}1{}", "[".repeat(100_000), "]".repeat(100_000))), "docker-compose.yml");
    refused(&docker(&format!("a: {}x", "{b: ".repeat(60))), "docker-compose.yml");
    refused(&docker(&"- ".repeat(100_000)), "docker-compose.yml");
    refused(&docker("\u{0}\u{1}\u{7f}PNG\u{fffd}\u{0}"), "docker-compose.yml");
    refused(&docker(&"a: {image: x}\n".repeat(2)), "it stands in line 1 already");
}

#[test]
fn anchors_that_multiply() {
    let mut bomb = String::from("a: &a [x, x, x, x, x, x, x, x, x]\n");
    for (before, name) in ('a'..='k').zip('b'..='l') {
        bomb.push_str(&format!("{name}: &{name} [{}]\n", vec![format!("*{before}"); 9].join(", ")));
    }
    refused(&docker(&bomb), "docker-compose.yml");
}

#[test]
fn cycles_end() {
    refused(&docker("a: {extends: b}\nb: {extends: a}"), "extends itself: a -> b -> a");
    refused(&docker("a: {extends: {service: a, file: docker-compose.yml}}"), "extends itself: a -> a");
    let chain: String = (0..100).map(|idx| format!("s{idx}: {{extends: s{}}}\n", idx + 1)).collect();
    refused(&docker(&chain), "extends itself");
    refused(&docker("services: {a: {image: x}}\ninclude: [docker-compose.yml]"), "includes itself");
    refused(
        &docker("services: {a: {image: x, depends_on: [b]}, b: {image: x, depends_on: [a]}}"),
        "a.depends_on: waits for itself: a -> b -> a",
    );
    let links: String = (0..300).map(|idx| format!("s{idx}: {{image: x, links: [s{}]}}\n", (idx + 1) % 300)).collect();
    assert_eq!(docker(&links).project().services.len(), 300);
}

#[test]
fn many_of_everything() {
    let many: String = (0..2_000).map(|idx| format!("s{idx}: {{image: x}}\n")).collect();
    refused(&docker(&many), "more than 1000 services");
    refused(
        &docker(&format!("web: {{image: x, {}}}", (0..20_000).map(|idx| format!("key{idx}: 1, ")).collect::<String>())),
        "is no key of a service",
    );
    refused(&docker("web: {image: x, ports: ['1-65535:1-65535', '1-65535']}"), "more than 2000 ports");
    refused(&docker(&format!("web: {{image: x, ports: [{}]}}", "'1-65535', ".repeat(10_000))), "more than 2000 ports");
    refused(&docker(&format!("web: {{image: '{}'}}", "${A:-".repeat(5_000))), "closing brace");
    let filled = docker(&format!("web: {{image: x, command: [{}]}}", "'$A$A$A$A', ".repeat(1_000)))
        .set("A", &"y".repeat(200_000));
    refused(&filled, "variables fill more than 32 MiB");
    let includes: String = (0..150).map(|idx| format!("  - f{idx}.yml\n")).collect();
    let mut world = file("docker-compose.yml", &format!("services: {{a: {{image: x}}}}\ninclude:\n{includes}"));
    for idx in 0..150 {
        world = world.file(&format!("f{idx}.yml"), &format!("services: {{b{idx}: {{image: x}}}}"));
    }
    refused(&world, "more than 100 files");
    let long = "n".repeat(1_000);
    refused(&docker(&format!("{long}: {{image: x, {long}: 1, links: [{long}x]}}")), "63 characters");
}

#[test]
fn many_edges() {
    // Everything waits for the one before it, whose name is looked at last.
    let after =
        |idx: usize| (idx.saturating_sub(20)..idx).map(|idx| format!("s{idx:04}")).collect::<Vec<_>>().join(", ");
    let chain: String =
        (0..600).map(|idx| format!("s{idx:04}: {{image: x, links: [{0}], depends_on: [{0}]}}\n", after(idx))).collect();
    let project = docker(&chain).project();
    assert_eq!(project.services.last().map(|service| service.name.as_str()), Some("s0599"));
    let missing: String = (0..500)
        .map(|idx| {
            format!(
                "s{idx}: {{image: x, links: [{}]}}\n",
                (0..50).map(|to| format!("missing-{idx}-{to}")).collect::<Vec<_>>().join(", ")
            )
        })
        .collect();
    refused(&docker(&missing), "there is no service `missing-0-0`");
    let names: String = (0..20_000).map(|idx| format!("n{idx},")).collect();
    refused(&docker(&format!("web: {{image: x, labels: {{io.rancher.sidekicks: '{names}'}}}}")), "is not defined");
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(512))]
    #[test]
    fn any_file_compiles_or_is_refused(
        one in "(web|db|services|image|ports|links|labels|extends|build|deploy|include|volumes|<<|&a|\\*a|!reset|\\$\\{A:-|[a-z:\\[\\]{}$\"' \n-]|[0-9]){0,80}",
        two in "(web|services|scale|metadata|health_check|external_ips|lb_config|port_rules|source_port|\\.catalog|questions|[a-z:\\[\\]{}, \n-]|[0-9]){0,60}",
    ) {
        drop(crate::world::both(&one, &two).compile());
        drop(crate::world::both(&two, &one).compile());
    }

    #[test]
    fn any_value_of_any_key_is_read_or_refused(
        key in "image|build|command|environment|env_file|ports|expose|volumes|volumes_from|links|external_links|depends_on|net|networks|labels|healthcheck|deploy|logging|ulimits|tmpfs|extends|scale|scale_policy|health_check|metadata|load_balancer_config|lb_config|certs|external_ips|devices|extra_hosts|cpus|mem_limit|profiles|pull_policy|device_read_bps",
        value in "([a-z0-9:/.=,-]{0,8}|\\[([a-z0-9:/.=-]{0,8}(, )?){0,3}\\]|\\{([a-z_]{1,9}: [a-z0-9]{0,3}(, )?){0,3}\\})",
    ) {
        drop(docker(&format!("web:\n  image: x\n  {key}: {value}\n")).compile());
    }
}

//! Files and rows in, steps out.

use remuda_compose::{SourceFile, Sources, compile};

use super::*;

/// A project of one compose file.
fn project(text: &str) -> Project {
    let none = |_: &str| None;
    let file = SourceFile { name: "compose.yaml".to_owned(), text: text.to_owned() };
    compile(&Sources::of(file, &none)).expect("compiles")
}

/// The services of a project as a server has them, numbered from 1 in their order, active.
fn on_server(text: &str) -> Found {
    let project = project(text);
    let rows = project.services.iter().enumerate().map(|(idx, service)| {
        let mut row = service.api.clone();
        row.insert("id".to_owned(), format!("1s{}", idx + 1).into());
        row.insert("type".to_owned(), "service".into());
        row.insert("name".to_owned(), service.name.clone().into());
        row.insert("state".to_owned(), "active".into());
        Resource(Value::Object(row))
    });
    let services: Vec<Resource> = rows.collect();
    let id = |name: &str| services.iter().find(|row| row.name() == name).map(|row| row.id().to_owned()).expect("known");
    let links = project.services.iter().map(|service| {
        let links = service.links.iter();
        let links = links.map(|link| FoundLink {
            target_id: id(&link.target),
            alias: link.alias.clone(),
            ports: link.ports.clone(),
        });
        (id(&service.name), links.collect())
    });
    let stack = Some(Resource(json!({"id": "1e1", "type": "environment", "name": "shop", "state": "active"})));
    Found { stack, links: links.collect(), services: services.clone(), ..Found::default() }
}

fn in_state(mut found: Found, name: &str, state: &str) -> Found {
    let row = found.services.iter_mut().find(|row| row.name() == name).expect("known");
    row.0["state"] = state.into();
    found
}

/// `web: create, start; db: create` of a plan, or the first failure.
fn told(text: &str, found: &Found, wish: &Wish) -> String {
    match plan(&project(text), found, wish) {
        Ok(plan) => {
            let told = shown(&plan).into_iter().filter(|shown| !shown.steps.is_empty());
            told.map(|shown| format!("{}: {}", shown.service, shown.steps.join(", "))).collect::<Vec<_>>().join("; ")
        }
        Err(failures) => format!("{} {}", failures[0].exit, failures[0].message),
    }
}

const SHOP: &str = "services:\n  web: {image: 'sim:web', links: ['db:store']}\n  db: {image: 'sim:db', scale: 2}\n";

fn up() -> Wish {
    Wish::default()
}

#[test]
fn up_creates_links_and_starts_what_is_missing() {
    let found = Found::default();
    assert_eq!(told(SHOP, &found, &up()), "db: create, start; web: create, link to db as store, start");
    let create = Wish { goal: Goal::Created, ..up() };
    assert_eq!(told(SHOP, &found, &create), "db: create; web: create, link to db as store");
    let start = Wish { goal: Goal::Started, ..up() };
    assert_eq!(told(SHOP, &found, &start), "3 service db is not on the server");
    assert!(plan(&project(SHOP), &found, &up()).expect("plans").creates_stack);
}

#[test]
fn up_of_what_is_there_does_nothing() {
    let found = on_server(SHOP);
    let plan = plan(&project(SHOP), &found, &Wish { upgrade: Upgrade::Changed, confirm: true, ..up() }).expect("plans");
    assert!(plan.is_empty() && plan.warnings.is_empty(), "{plan:?}");
    assert_eq!(told(SHOP, &in_state(found, "db", "inactive"), &up()), "db: start");
}

#[test]
fn what_is_under_way_or_failed_is_waited_for() {
    let mut found = in_state(on_server(SHOP), "db", "activating");
    let idx = found.services.iter().position(|row| row.name() == "db").expect("known");
    for transitioning in ["yes", "error"] {
        found.services[idx].0["transitioning"] = transitioning.into();
        assert_eq!(told(SHOP, &found, &up()), "db: wait for what is under way", "{transitioning}");
    }
    assert_eq!(told(SHOP, &found, &Wish { goal: Goal::Created, ..up() }), "");
}

#[test]
fn a_named_service_brings_those_it_needs_and_that_do_not_run() {
    let wish = Wish { named: vec!["web".to_owned()], ..up() };
    assert_eq!(told(SHOP, &Found::default(), &wish), "db: create, start; web: create, link to db as store, start");
    assert_eq!(told(SHOP, &in_state(on_server(SHOP), "db", "inactive"), &wish), "db: start");
    let alone = Wish { no_deps: true, ..wish };
    assert_eq!(told(SHOP, &Found::default(), &alone), "web: create, link to db as store, start");
    let unknown = Wish { named: vec!["wep".to_owned()], ..up() };
    assert_eq!(told(SHOP, &Found::default(), &unknown), "2 No such service: wep; the files have db, web");
}

#[test]
fn what_differs_is_left_alone_upgraded_confirmed_or_rolled_back() {
    let changed = SHOP.replace("sim:db", "sim:db2");
    let found = on_server(SHOP);
    let plan = plan(&project(&changed), &found, &up()).expect("plans");
    assert!(plan.is_empty());
    assert_eq!(plan.warnings.len(), 1);
    assert!(plan.warnings[0].starts_with("db differs from its file"), "{:?}", plan.warnings);

    let upgrade = Wish { upgrade: Upgrade::Changed, ..up() };
    assert_eq!(told(&changed, &found, &upgrade), "db: upgrade, 2 at a time");
    let both = Wish { confirm: true, batch_size: Some(1), start_first: true, ..upgrade.clone() };
    assert_eq!(told(&changed, &found, &both), "db: upgrade, 1 at a time, new ones first, finish the upgrade");
    let limited = Wish { rollback_after_ms: Some(5000), ..upgrade.clone() };
    let steps = super::plan(&project(&changed), &found, &limited).expect("plans").works.remove(0).steps;
    let Some(Step::Upgrade(input)) = steps.first() else { panic!("{steps:?}") };
    assert_eq!(input["inServiceStrategy"]["rollbackAfterMillis"], 5000);
    // What was upgraded before is finished first.
    let before = in_state(found.clone(), "db", "upgraded");
    assert_eq!(told(&changed, &before, &upgrade), "db: finish the upgrade, upgrade, 2 at a time");
    assert_eq!(told(SHOP, &before, &Wish { confirm: true, ..up() }), "db: finish the upgrade");
    let midway = in_state(found.clone(), "db", "canceled-upgrade");
    assert_eq!(told(&changed, &midway, &upgrade), "6 service db (1s1) is canceled-upgrade; it cannot be upgraded now");

    let back = Wish { rollback: true, named: vec!["db".to_owned()], ..up() };
    assert_eq!(told(SHOP, &before, &back), "db: roll back the upgrade");
    assert_eq!(told(SHOP, &found, &back), "6 service db (1s1) is active: there is no upgrade to roll back");
}

#[test]
fn force_replaces_what_is_named() {
    let text = "services:\n  web: {image: 'sim:web', labels: {io.rancher.sidekicks: log}}\n  log: {image: 'sim:log'}\n  db: {image: 'sim:db'}\n";
    let found = on_server(text);
    let input = |named: &[&str]| -> Value {
        let named: Vec<String> = named.iter().map(|name| (*name).to_owned()).collect();
        let forced = Upgrade::Forced(named.iter().cloned().collect());
        let plan = plan(&project(text), &found, &Wish { upgrade: forced, named, ..up() }).expect("plans");
        let steps = plan.works.into_iter().flat_map(|work| work.steps);
        let inputs = steps.filter_map(|step| match step {
            Step::Upgrade(input) => Some(input["inServiceStrategy"].clone()),
            _ => None,
        });
        let parts = inputs.map(|input| {
            let sidekicks = input["secondaryLaunchConfigs"].as_array().cloned().unwrap_or_default();
            let sidekicks: Vec<Value> = sidekicks.iter().map(|config| config["name"].clone()).collect();
            json!([input["launchConfig"]["imageUuid"], sidekicks])
        });
        parts.collect()
    };
    assert_eq!(input(&["web"]), json!([["sim:web", []]]));
    assert_eq!(input(&["web", "log"]), json!([["sim:web", ["log"]]]));
    assert_eq!(input(&["log"]), json!([[null, ["log"]]]));
    assert_eq!(input(&[]), json!([["sim:web", ["log"]], ["sim:db", []]]));
}

#[test]
fn a_sidekick_that_is_gone_is_sent_as_no_image() {
    let with = "services:\n  web: {image: 'sim:web', labels: {io.rancher.sidekicks: log}}\n  log: {image: 'sim:log'}\n";
    let without = "services:\n  web: {image: 'sim:web'}\n";
    let wish = Wish { upgrade: Upgrade::Changed, ..up() };
    let plan = plan(&project(without), &on_server(with), &wish).expect("plans");
    let Some(Step::Upgrade(input)) = plan.works[0].steps.last() else { panic!("{:?}", plan.works[0].steps) };
    let gone = json!([{"name": "log", "imageUuid": "docker:rancher/none"}]);
    assert_eq!(input["inServiceStrategy"]["secondaryLaunchConfigs"], gone);
}

#[test]
fn scale_is_the_command_s_or_that_of_deploy() {
    let text = "services:\n  web: {image: 'sim:web', deploy: {replicas: 3}}\n";
    let mut found = on_server(text);
    found.services[0].0["scale"] = 1.into();
    assert_eq!(told(text, &found, &up()), "web: scale to 3");
    assert_eq!(told(text, &found, &Wish { no_scale: true, ..up() }), "");
    let scales = BTreeMap::from([("web".to_owned(), 5)]);
    assert_eq!(told(text, &found, &Wish { scales, ..up() }), "web: scale to 5");
    let unknown = Wish { scales: BTreeMap::from([("wep".to_owned(), 5)]), ..up() };
    assert!(told(text, &found, &unknown).starts_with("2 No such service: wep"));
    // Rancher's `scale` counts at creation only.
    let mut found = on_server(SHOP);
    found.services[0].0["scale"] = 7.into();
    assert_eq!(told(SHOP, &found, &up()), "");
}

#[test]
fn links_are_the_file_s_exactly() {
    let fewer = SHOP.replace(", links: ['db:store']", "");
    assert_eq!(told(&fewer, &on_server(SHOP), &up()), "web: remove its links");
    assert_eq!(told(SHOP, &on_server(&fewer), &up()), "web: link to 1s2 as store");
    let create = Wish { goal: Goal::Created, ..up() };
    assert_eq!(told(&fewer, &on_server(SHOP), &create), "");
    let outside = SHOP.replace("links: ['db:store']", "external_links: [other/db]");
    assert!(told(&outside, &on_server(&fewer), &up()).starts_with("2 web: there is no service `other/db`"));
    let mut found = on_server(&fewer);
    let row = Resource(json!({"id": "1s9", "type": "service", "name": "db"}));
    found.elsewhere.insert(("other".to_owned(), "db".to_owned()), row);
    assert_eq!(told(&outside, &found, &up()), "web: link to 1s9");
}

#[test]
fn strangers_stay_unless_pruned() {
    let more = format!("{SHOP}  old: {{image: 'sim:old'}}\n");
    let plan_of = |wish: &Wish| plan(&project(SHOP), &on_server(&more), wish).expect("plans");
    assert_eq!(plan_of(&up()).strangers.len(), 1);
    assert!(plan_of(&up()).is_empty());
    assert_eq!(told(SHOP, &on_server(&more), &Wish { prune: true, ..up() }), "old: remove");
}

#[test]
fn dependants_wait_for_what_the_file_says_and_are_restarted() {
    let text = "services:\n  web:\n    image: 'sim:web'\n    depends_on: {db: {condition: service_healthy, restart: true}}\n  db: {image: 'sim:db', healthcheck: {test: 'true'}}\n";
    let found = on_server(text);
    let wish = Wish { upgrade: Upgrade::Changed, ..up() };
    let changed = text.replace("sim:db", "sim:db2");
    let plan = plan(&project(&changed), &found, &wish).expect("plans");
    let web = plan.works.iter().find(|work| work.service.name == "web").expect("planned");
    assert_eq!(web.after, [("db".to_owned(), Condition::Healthy)]);
    assert_eq!(told(&changed, &found, &wish), "db: upgrade, 2 at a time; web: restart");
}

#[test]
fn a_difference_is_told_field_by_field() {
    let text = "services:\n  web: {image: 'sim:web', environment: {A: '1', B: x}}\n";
    let changed =
        "services:\n  web: {image: 'sim:web', environment: {A: '2'}, metadata: {k: v}}\n  new: {image: 'sim:new'}\n";
    let found = on_server(text);
    let plan = plan(&project(changed), &found, &Wish { upgrade: Upgrade::Changed, ..up() }).expect("plans");
    let told: Vec<_> = shown(&plan).into_iter().map(|shown| (shown.title(), shown.lines)).collect();
    assert_eq!(
        told,
        [
            (
                "web: service, launch config".to_owned(),
                vec![
                    "metadata.k: (none) -> v".to_owned(),
                    "launchConfig.environment.A: 1 -> 2".to_owned(),
                    "launchConfig.environment.B: x -> (none)".to_owned(),
                ]
            ),
            ("new: new".to_owned(), vec![]),
        ]
    );
    let update = plan.works[0].steps.iter().find_map(|step| match step {
        Step::Update(fields) => Some(fields.clone()),
        _ => None,
    });
    let update = update.expect("the service itself changed");
    assert_eq!(update["metadata"]["k"], "v");
    assert!(update.get("launchConfig").is_none() && update.get("scale").is_none(), "{update}");
}

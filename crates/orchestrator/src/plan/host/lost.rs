//! When a silent host counts as lost, and what holds that up (DESIGN §5; `docs/decisions/lost-hosts.md`).
//!
//! The agent's row says since when it has been silent; everything here follows from the rows and the time. A host that is
//! lost has its services' containers marked, some at a time; their services replace them. Back again it takes nothing new
//! until what was replaced is known to have stopped there.

use remuda_model::states::*;
use remuda_model::{Agent, Host, Leaving};
use remuda_schema::{Row, Time};

use super::super::service::moves;
use super::{Moment, Plan};
use crate::hostplan::host_name;
use crate::world::World;

/// Hosts that vanish within this time vanished together.
const TOGETHER_MS: i64 = 60_000;
/// More than so many of a hundred, and more than one, is too many.
const TOO_MANY_PERCENT: usize = 25;
/// The next containers are replaced after this pause.
const PACE_MS: i64 = 1_000;

/// What silence means for the host now.
pub fn watch(world: &World, row: &Row<Host>, next: &mut Row<Host>, moment: Moment<'_>, plan: &mut Plan) {
    let Some(agent) = world.agent_of(row) else { return };
    match agent.meta.state.as_str() {
        RECONNECTING | DISCONNECTED if row.lost_since.is_some() => replace(world, row, next, moment, plan),
        RECONNECTING | DISCONNECTED => judge(world, row, agent, next, moment, plan),
        ACTIVE => back(world, row, next, plan),
        _ => {}
    }
}

/// Since when the agent is silent, as far as that counts: what was before this server listened is not known.
fn silent_since(world: &World, agent: &Row<Agent>) -> Time {
    agent.silent_since.unwrap_or(world.since)
}

fn judge(
    world: &World,
    row: &Row<Host>,
    agent: &Row<Agent>,
    next: &mut Row<Host>,
    moment: Moment<'_>,
    plan: &mut Plan,
) {
    let silent = silent_since(world, agent);
    let is_given_up = row.given_up.is_some_and(|at| at >= silent);
    if is_given_up {
        return declare(next, "somebody gave it up", silent, moment, plan);
    }
    let announced = agent.away_until.unwrap_or(silent);
    let due = silent.plus_ms(moment.settings.lost_after_ms()).max(announced);
    let due = due.max(world.since.plus_ms(moment.settings.lost_observe_ms()));
    if due > moment.now {
        return plan.look_again(due);
    }
    if !others(world, row).any(|other| is_heard(world, other)) {
        say(next, "Its agent is silent. No other host is there that could run its containers: nothing is replaced");
        return;
    }
    let (vanished, all) = vanished_with(world, row, silent);
    let too_many = vanished > 1 && vanished * 100 > all * TOO_MANY_PERCENT;
    if row.braked_since.is_none() && !too_many {
        return declare(next, "its agent is silent", silent, moment, plan);
    }
    let since = *next.braked_since.get_or_insert(moment.now);
    let patience = moment.settings.lost_brake_ms();
    let mut told = format!(
        "Its agent is silent, but {vanished} of {all} hosts have vanished within a minute: the fault may be ours, and \
         nothing is replaced until somebody says so (`giveup`)"
    );
    if patience > 0 {
        if since.plus_ms(patience) <= moment.now {
            return declare(next, "too many hosts have been silent for too long", silent, moment, plan);
        }
        plan.look_again(since.plus_ms(patience));
        told.push_str(&format!(", or {} s have passed", patience / 1000));
    }
    say(next, &told);
}

fn declare(next: &mut Row<Host>, why: &str, silent: Time, moment: Moment<'_>, plan: &mut Plan) {
    next.lost_since = Some(moment.now);
    next.braked_since = None;
    let seconds = moment.now.ms_since(silent) / 1000;
    say(next, &format!("The host is lost: {why} (silent for {seconds} s)"));
    plan.look_again(moment.now);
}

/// Hosts of the project that vanished within a minute of this one, this one too, and how many there are.
fn vanished_with(world: &World, row: &Row<Host>, silent: Time) -> (usize, usize) {
    let vanished = |host: &Row<Host>| {
        let Some(agent) = world.agent_of(host) else { return false };
        let is_silent = matches!(agent.meta.state.as_str(), RECONNECTING | DISCONNECTED) && agent.away_until.is_none();
        is_silent && silent_since(world, agent).ms_since(silent).abs() <= TOGETHER_MS
    };
    let n_vanished = others(world, row).filter(|host| vanished(host)).count() + 1;
    (n_vanished, others(world, row).count() + 1)
}

/// The other hosts that containers may be on.
fn others<'a>(world: &'a World, row: &Row<Host>) -> impl Iterator<Item = &'a Row<Host>> + use<'a> {
    let id = row.meta.id;
    let live =
        |host: &&Row<Host>| matches!(host.meta.state.as_str(), ACTIVE | UPDATING_ACTIVE | INACTIVE | UPDATING_INACTIVE);
    world.hosts.values().map(AsRef::as_ref).filter(move |host| host.meta.id != id).filter(live)
}

fn is_heard(world: &World, host: &Row<Host>) -> bool {
    host.agent_id.is_none() || world.agent_of(host).is_some_and(|agent| agent.meta.state == ACTIVE)
}

/// Marks what shall be replaced, so many at a time.
fn replace(world: &World, row: &Row<Host>, next: &mut Row<Host>, moment: Moment<'_>, plan: &mut Plan) {
    let waiting: Vec<_> =
        world.containers_on(row.meta.id).filter(|it| moves::is_replaced_when_lost(world, it, moment)).collect();
    if waiting.is_empty() {
        return;
    }
    if let Some(due) = row.next_moves.filter(|due| *due > moment.now) {
        return plan.look_again(due);
    }
    let most = moment.settings.moves_at_once();
    for container in waiting.iter().take(most.saturating_sub(world.beginning.len())) {
        let mut marked = (***container).clone();
        marked.leaving = Some(Leaving::Lost);
        plan.write(marked);
    }
    next.next_moves = Some(moment.now.plus_ms(PACE_MS));
    plan.look_again(moment.now.plus_ms(PACE_MS));
}

/// It is heard again: what was not replaced stays, what was has to be gone before anything new.
fn back(world: &World, row: &Row<Host>, next: &mut Row<Host>, plan: &mut Plan) {
    for container in world.containers_on(row.meta.id).filter(|it| it.leaving == Some(Leaving::Lost)) {
        if container.meta.removed.is_none() && container.desired != crate::transitions::WANT_REMOVED {
            let mut stays = (**container).clone();
            stays.leaving = None;
            plan.write(stays);
        }
    }
    let was_silent = row.lost_since.is_some() || row.braked_since.is_some() || row.given_up.is_some();
    let stale = world.unconfirmed.count(&row.meta.id);
    if row.lost_since.is_some() && stale > 0 {
        return say(
            next,
            &format!("Back after it was lost: {stale} container(s) that were replaced are stopped first"),
        );
    }
    (next.lost_since, next.braked_since, next.given_up, next.next_moves) = (None, None, None, None);
    if was_silent || row.meta.progress.message.as_deref().is_some_and(|told| told.starts_with("Its agent is silent")) {
        next.meta.progress.message = None;
    }
}

fn say(next: &mut Row<Host>, told: &str) {
    next.meta.progress.message = Some(told.to_owned());
}

/// For messages of services.
pub fn named(world: &World, host: i64) -> String {
    world.hosts.get(&host).map_or_else(String::new, |row| host_name(row))
}

#[cfg(test)]
mod tests {
    use remuda_model::{Mount, Volume};
    use remuda_schema::Id;

    use super::*;
    use crate::testing::{Language, world};

    fn host<'a>(w: &'a Language, name: &str) -> &'a Row<Host> {
        &w.world.hosts[&w.host_id(name)]
    }

    fn message(w: &Language, name: &str) -> String {
        host(w, name).meta.progress.message.clone().unwrap_or_default()
    }

    /// Three hosts; the observation after a start is over.
    fn three() -> Language {
        world().host("a").host("b").host("c")
    }

    #[test]
    fn a_host_that_is_silent_too_long_is_lost_and_its_services_go_on_elsewhere() {
        let w = three().service("web", 3).publish("web", "web", "80:80").running("alone", "a").settle();
        let before = w.named("s_web_1").expect("is there").meta.id;
        assert_eq!([w.host_of("s_web_1"), w.host_of("s_web_2")], ["b", "c"]);
        let w = w.silent("b").settle().after_ms(11_999).settle();
        assert_eq!((host(&w, "b").lost_since, w.host_of("s_web_1").as_str()), (None, "b"));
        // The only port is taken on the others: it stays where it is, and says why.
        let w = w.after_ms(1).settle();
        assert_eq!(message(&w, "b"), "The host is lost: its agent is silent (silent for 12 s)");
        let told = w.service_row("web").meta.progress.message.clone().unwrap_or_default();
        assert!(
            told.starts_with("s_web_1 stays on host b, which is lost: Scheduling failed: host needs ports 80"),
            "{told}"
        );
        assert_eq!(
            (w.named("s_web_1").map(|row| row.meta.id), w.service_row("web").meta.state.as_str()),
            (Some(before), ACTIVE)
        );
        assert_eq!(w.service_row("web").health_state.as_deref(), Some("degraded"));

        // One more host takes it.
        let w = w.host("d").settle();
        let now = w.named("s_web_1").expect("another");
        assert_eq!((w.host_of("s_web_1").as_str(), now.meta.id == before, now.service_index), ("d", false, Some(1)));
        assert_eq!(w.told(), ["alone running", "s_web_1 running", "s_web_2 running", "s_web_3 running"]);
        assert_eq!(w.service_row("web").meta.progress.message, None);
        let old = &w.world.containers[&before];
        assert!(old.unconfirmed && old.meta.removed.is_some(), "nobody knows whether it still runs");

        // Back: first what was replaced has to stop, then the host takes containers again.
        let w = w.heard("b", true).settle();
        assert_eq!(message(&w, "b"), "Back after it was lost: 1 container(s) that were replaced are stopped first");
        assert!(!crate::scheduler::is_candidate(&w.world, host(&w, "b")));
        let part = crate::hostplan::part(&w.world, w.host_id("b"), &w.world.containers[&before]);
        let crate::hostplan::Part::Keep(part) = part else { panic!("{part:?}") };
        assert_eq!(part.desired, remuda_wire::plan::Desired::Stopped);
        let w = w.heard("b", false).settle();
        assert_eq!((host(&w, "b").lost_since, message(&w, "b").as_str()), (None, ""));
        assert!(crate::scheduler::is_candidate(&w.world, host(&w, "b")));
        assert!(!w.world.containers.contains_key(&before), "it is deleted at once, there is nothing to restore");
        assert_eq!(w.host_of("s_web_1"), "d", "nothing moves back by itself");
    }

    #[test]
    fn what_is_back_in_time_is_left_alone() {
        let w = three().service("web", 3).settle();
        let before = w.world.containers.keys().copied().collect::<Vec<_>>();
        let w = w.silent("b").settle().after_ms(11_000).heard("b", false).settle().after_ms(60_000).settle();
        assert_eq!(w.world.containers.keys().copied().collect::<Vec<_>>(), before);
        assert_eq!((host(&w, "b").lost_since, message(&w, "b").as_str()), (None, ""));
    }

    #[test]
    fn an_agent_that_is_stopped_on_purpose_may_stay_away_for_a_while() {
        let w = three().service("web", 3).settle().silent("b");
        let agent = host(&w, "b").agent_id.expect("one").number();
        let mut row = (*w.world.agents[&agent]).clone();
        row.away_until = Some(w.now.plus_ms(120_000));
        let mut w = w;
        w.world.put(&row.into());
        let w = w.settle().after_ms(119_000).settle();
        assert_eq!(host(&w, "b").lost_since, None);
        assert!(host(&w.after_ms(1_000).settle(), "b").lost_since.is_some());
    }

    #[test]
    fn after_a_start_of_the_server_hosts_are_observed_first() {
        let mut w = three().service("web", 3).settle().silent("b").after_ms(3_600_000);
        w.world.since = w.now;
        let w = w.settle().after_ms(59_000).settle();
        assert_eq!(host(&w, "b").lost_since, None);
        assert!(host(&w.after_ms(1_000).settle(), "b").lost_since.is_some());
    }

    #[test]
    fn when_many_vanish_at_once_nothing_moves_until_somebody_says_so() {
        let w = three().service("web", 3).settle();
        let before = w.told();
        let w = w.silent("a").after_ms(30_000).silent("b").after_ms(3_600_000).settle();
        for name in ["a", "b"] {
            assert!(message(&w, name).contains("2 of 3 hosts have vanished within a minute"), "{}", message(&w, name));
            assert_eq!(host(&w, name).lost_since, None);
        }
        assert_eq!((w.told(), w.host_of("s_web_1").as_str()), (before.clone(), "a"));
        // One of them coming back does not let go: nobody has said anything.
        let w = w.heard("a", false).settle();
        assert_eq!((message(&w, "a").as_str(), host(&w, "b").lost_since), ("", None));
        let now = w.now;
        let w = w.change_host("b", |row| row.given_up = Some(now)).settle();
        assert!(message(&w, "b").starts_with("The host is lost: somebody gave it up"), "{}", message(&w, "b"));
        assert_eq!(w.told(), before);
        assert_ne!(w.host_of("s_web_2"), "b");
    }

    #[test]
    fn the_brake_lets_go_after_its_time_if_that_is_wanted() {
        let mut w = three().service("web", 3).settle();
        w.settings = w.settings.clone().with("host.lost.brake.seconds", Some("900".into()));
        let w = w.silent("a").silent("b").after_ms(12_000).settle();
        assert!(message(&w, "a").ends_with("(`giveup`), or 900 s have passed"), "{}", message(&w, "a"));
        let w = w.after_ms(899_000).settle();
        assert_eq!(host(&w, "a").lost_since, None);
        let w = w.after_ms(1_000).settle();
        assert!(host(&w, "a").lost_since.is_some() && host(&w, "b").lost_since.is_some());
        assert_eq!([1, 2, 3].map(|n| w.host_of(&format!("s_web_{n}"))), ["c", "c", "c"]);
    }

    #[test]
    fn one_of_few_and_a_quarter_of_many_may_vanish() {
        let mut w = world();
        for n in 0..8 {
            w = w.host(&format!("h{n}"));
        }
        let w = w.silent("h0").silent("h1").after_ms(12_000).settle();
        assert!(host(&w, "h0").lost_since.is_some() && host(&w, "h1").lost_since.is_some(), "2 of 8");
        let mut w = world();
        for n in 0..8 {
            w = w.host(&format!("h{n}"));
        }
        let w = w.silent("h0").silent("h1").silent("h2").after_ms(12_000).settle();
        assert!(["h0", "h1", "h2"].iter().all(|name| host(&w, name).lost_since.is_none()), "3 of 8");
    }

    #[test]
    fn with_no_other_host_nothing_is_replaced() {
        let w = world().host("a").service("web", 2).settle().silent("a").after_ms(3_600_000).settle();
        assert_eq!(
            (host(&w, "a").lost_since, w.told()),
            (None, vec!["s_web_1 running".into(), "s_web_2 running".into()])
        );
        assert!(message(&w, "a").contains("No other host is there"), "{}", message(&w, "a"));
        let w = w.heard("a", false).settle();
        assert_eq!(message(&w, "a"), "");
    }

    #[test]
    fn many_are_replaced_some_at_a_time() {
        let mut w = world().host("a").host("b").service("web", 20).settle();
        w.settings = w.settings.clone().with("host.moves.at.once", Some("4".into()));
        let mut w = w.silent("a").after_ms(12_000).settle_but_hosts();
        let on_a = |w: &Language| (1..=20).filter(|n| w.host_of(&format!("s_web_{n}")) == "a").count();
        assert_eq!(on_a(&w), 6, "4 of 10 at first");
        w = w.after_ms(1_000).settle_but_hosts();
        assert_eq!(on_a(&w), 6, "those have not started yet");
        w = w.settle().after_ms(1_000).settle();
        assert_eq!(on_a(&w), 2);
        assert_eq!(on_a(&w.after_ms(1_000).settle()), 0);
    }

    /// Where `s_web_1` is after its host `a` was lost, and what the service says.
    fn after_loss(w: Language) -> (String, String) {
        let w = w.settle();
        assert_eq!(w.host_of("s_web_1"), "a");
        let w = w.silent("a").after_ms(12_000).settle();
        (w.host_of("s_web_1"), w.service_row("web").meta.progress.message.clone().unwrap_or_default())
    }

    fn with_volume(entry: &str) -> Language {
        let entry = entry.to_owned();
        world().host("a").host("b").service("web", 1).change_service("web", |row| {
            row.launch_config.as_mut().expect("has one").data_volumes = Some(vec![entry]);
        })
    }

    #[test]
    fn what_has_its_data_there_stays_and_says_so() {
        let stays = |why: &str| ("a".to_owned(), format!("s_web_1 stays on host a, which is lost: {why}"));
        let goes = ("b".to_owned(), String::new());
        assert_eq!(after_loss(with_volume("/srv/data:/data")), stays("it writes to `/srv/data` of that host"));
        assert_eq!(after_loss(with_volume("/srv/data:/data:ro")), goes);
        assert_eq!(after_loss(with_volume("/var/run/docker.sock:/var/run/docker.sock")), goes);
        assert_eq!(after_loss(with_volume("/scratch")), goes);
        let even_so = with_volume("/srv/data:/data").change_service("web", |row| row.replace_lost = Some(true));
        assert_eq!(after_loss(even_so), goes);
        let never =
            world().host("a").host("b").service("web", 1).change_service("web", |row| row.replace_lost = Some(false));
        assert_eq!(after_loss(never).0, "a");
        let mut off = world().host("a").host("b").service("web", 1);
        off.settings = off.settings.clone().with("host.lost.replace", Some("false".into()));
        assert_eq!(after_loss(off).0, "a");

        // A named volume that the container has mounted.
        for (name, driver, expected) in [
            ("data", Some("local"), stays("its volume `data` is there")),
            ("shared", Some("nfs"), goes.clone()),
            (&"0123456789abcdef".repeat(4), Some("local"), goes.clone()),
        ] {
            let mut w = world().host("a").host("b").service("web", 1).settle();
            let container = w.named("s_web_1").expect("one").id();
            let data =
                Volume { host_id: Some(Id::new(w.host_id("a"))), driver: driver.map(Into::into), ..Volume::default() };
            let mut volume = Row::new(Some(5), ACTIVE, data);
            (volume.meta.id, volume.meta.name) = (900, Some(name.to_owned()));
            let mount =
                Mount { instance_id: Some(container.cast()), volume_id: Some(Id::new(900)), ..Mount::default() };
            let mut mount = Row::new(Some(5), ACTIVE, mount);
            mount.meta.id = 901;
            w.world.put(&volume.into());
            w.world.put(&mount.into());
            assert_eq!(after_loss(w), expected, "{name}");
        }
    }

    #[test]
    fn global_services_are_as_many_as_before() {
        let w = three().global("log").settle();
        let before = w.told();
        let w = w.silent("b").after_ms(60_000).settle();
        assert!(host(&w, "b").lost_since.is_some());
        assert_eq!(w.told(), before);
    }
}

//! What a service that starts waits for: others that come first (`services.md` §3.2, `compose.md` §8, §13).

use remuda_model::states::*;
use remuda_model::{Awaited, Service, Until};
use remuda_schema::Row;

use super::units::{members, ran_once};
use crate::plan::health::STARTED_ONCE;
use crate::world::World;

/// Why the wait is not over; a service that is gone, or that nobody wants to run, is not waited for.
pub fn missing(world: &World, awaited: &Awaited) -> Option<String> {
    let other = world.services.get(&awaited.service.number()).filter(|other| other.meta.is_live())?;
    let name = other.meta.name.clone().unwrap_or_else(|| other.public_id());
    if is_starting(other) {
        return Some(format!("Waiting for consumed service {name}"));
    }
    if matches!(other.meta.state.as_str(), INACTIVE | DEACTIVATING | UPDATING_INACTIVE) {
        return None;
    }
    let health = other.health_state.as_deref().unwrap_or(HEALTHY);
    match awaited.until {
        Until::Healthy if health != HEALTHY && health != STARTED_ONCE => {
            Some(format!("Waiting for service {name} to be healthy; it is {health}"))
        }
        Until::Completed => {
            let own = members(world, other.meta.id).live;
            let ended = |code: Option<i64>| code.is_none_or(|code| code == 0);
            let open = own.iter().find(|row| !ran_once(row) || !ended(row.exit_code));
            match open {
                None if own.is_empty() => Some(format!("Waiting for service {name} to end")),
                None => None,
                Some(row) => {
                    let container = row.meta.name.as_deref().unwrap_or_default();
                    Some(match row.exit_code.filter(|code| *code != 0 && ran_once(row)) {
                        Some(code) => format!("Waiting for service {name}: {container} ended with code {code}"),
                        None => format!("Waiting for service {name}: {container} has not ended"),
                    })
                }
            }
        }
        Until::Active | Until::Healthy => None,
    }
}

/// Whether it is on its way to `active`, or will be as soon as it is made.
pub fn is_starting(row: &Row<Service>) -> bool {
    match row.meta.state.as_str() {
        ACTIVATING => true,
        REQUESTED | REGISTERING => row.start_on_create == Some(true),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use remuda_schema::Id;

    use super::*;
    use crate::testing::{Language, world};

    fn told(w: &Language, until: Until) -> Option<String> {
        missing(&w.world, &Awaited { service: Id::new(w.service_row("db").meta.id), until })
    }

    #[test]
    fn each_wait_ends_when_the_other_has_come_so_far() {
        let w = world().service("db", 1);
        for until in [Until::Active, Until::Healthy, Until::Completed] {
            assert_eq!(told(&w, until).as_deref(), Some("Waiting for consumed service db"));
        }
        let w = w.host("a").settle();
        assert_eq!((told(&w, Until::Active), told(&w, Until::Healthy)), (None, None));
        let w = w.change_service("db", |row| row.health_state = Some(INITIALIZING.into()));
        let expected = "Waiting for service db to be healthy; it is initializing";
        assert_eq!(told(&w, Until::Healthy).as_deref(), Some(expected));
        assert_eq!(told(&w, Until::Completed).as_deref(), Some("Waiting for service db: s_db_1 has not ended"));
        // Nobody wants it to run.
        let w = w.change_service("db", |row| row.meta.enter(INACTIVE));
        assert_eq!((told(&w, Until::Healthy), told(&w, Until::Completed)), (None, None));
    }

    #[test]
    fn what_runs_once_has_come_to_its_end_without_a_fault() {
        let w = world().host("a").service("db", 1).change_service("db", |row| {
            let config = row.launch_config.as_mut().expect("has one");
            config.labels = Some([("io.rancher.container.start_once".to_owned(), "true".to_owned())].into());
        });
        let w = w.settle();
        let ended = |code| {
            move |row: &mut Row<remuda_model::Container>| {
                row.meta.enter(STOPPED);
                row.exit_code = Some(code);
            }
        };
        let w = w.change_container("s_db_1", ended(3));
        assert_eq!(told(&w, Until::Completed).as_deref(), Some("Waiting for service db: s_db_1 ended with code 3"));
        let w = w.change_container("s_db_1", ended(0));
        assert_eq!(told(&w, Until::Completed), None);
    }
}

//! The containers of a service, collected by what is to become of them (`services.md` §§7, 8).

use std::sync::Arc;

use remuda_model::states::*;
use remuda_model::{Container, Service};
use remuda_schema::Row;

use crate::transitions::{WANT_REMOVED, is_start_once};
use crate::world::World;

/// Containers of the service, by what is to become of them.
pub struct Members<'a> {
    /// Not on their way out, by number.
    pub live: Vec<&'a Arc<Row<Container>>>,
    /// On their way out, not removed yet: they still have their number.
    pub leaving: Vec<&'a Arc<Row<Container>>>,
}

pub fn members<'a>(world: &'a World, service: i64) -> Members<'a> {
    let (mut live, mut leaving) = (Vec::new(), Vec::new());
    for row in world.containers_of(service) {
        match row.meta.state.as_str() {
            REMOVED | PURGING | PURGED | RESTORING => {}
            REMOVING => leaving.push(row),
            _ if row.desired == WANT_REMOVED => leaving.push(row),
            _ => live.push(row),
        }
    }
    Members { live, leaving }
}

/// How many containers the service shall have.
pub fn wanted(row: &Service) -> usize {
    if has_image(row) { usize::try_from(row.scale.unwrap_or(1)).unwrap_or(0) } else { 0 }
}

fn has_image(row: &Service) -> bool {
    let image = row.launch_config.as_ref().and_then(|config| config.image_uuid.as_deref());
    image.is_some_and(|image| !image.is_empty() && !image.starts_with("rancher/none"))
}

/// Ran once and is done, or is not meant to run again by itself.
pub fn ran_once(row: &Row<Container>) -> bool {
    is_start_once(row)
        && row.first_running.is_some()
        && matches!(row.meta.state.as_str(), STOPPED | STOPPING | UPDATING_STOPPED)
}

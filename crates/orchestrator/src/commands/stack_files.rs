//! Services that the files of a stack ask for (`services.md` §3.1, §11.6). The server has compiled the files; what
//! arrives here is checked and in order. All services are made first and then linked, so that links may go in circles;
//! those to start say themselves what they wait for.
//!
//! Made in the request's transaction and not by a plan: nobody sees half of a stack, and a file that the server
//! refuses has left nothing behind but the services before the refused one.

use std::collections::BTreeMap;

use remuda_model::states::{ACTIVATING, ERROR};
use remuda_model::{Awaited, Service, Stack, Until};
use remuda_schema::row::{AnyRow, Object};
use remuda_schema::{ApiError, Id, Meta, Row, TypeDef};
use remuda_store::{Query, Scope, Tx};

use super::link::To;
use super::{CommandError, Context, link, load_balancer, service};
use crate::balancer::is_balancer;

/// Most services made by one request: they are one transaction.
pub const MAX_SERVICES: usize = 200;

/// A service to make.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub def: &'static TypeDef,
    pub name: String,
    /// Checked input of its creation, in storage form.
    pub fields: Object,
    pub links: Vec<WantedLink>,
    /// Services of the same files that come first, and how far they must come.
    pub after: Vec<(String, Until)>,
    /// `file:line` of its definition, for people.
    pub place: String,
}

/// A link by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedLink {
    /// Another stack of the project; `None` is the same.
    pub stack: Option<String>,
    pub target: String,
    pub alias: Option<String>,
    /// Rules, of a load balancer's link.
    pub ports: Vec<String>,
}

/// Why files did not become services.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FilesError {
    /// What is wrong with the files, for the person who wrote them.
    #[error("{0}")]
    Files(String),
    #[error(transparent)]
    Command(#[from] CommandError),
}

impl From<remuda_store::Error> for FilesError {
    fn from(error: remuda_store::Error) -> FilesError {
        FilesError::Command(error.into())
    }
}

impl From<remuda_schema::row::RowError> for FilesError {
    fn from(error: remuda_schema::row::RowError) -> FilesError {
        FilesError::Command(error.into())
    }
}

impl Wanted {
    /// The API's refusal, said of the place in the file.
    pub fn refused(&self, error: &ApiError) -> FilesError {
        FilesError::Files(format!("{}: {}: {}", self.place, self.name, sentence(error)))
    }
}

/// An error of the API in words.
pub fn sentence(error: &ApiError) -> String {
    match (&error.message, &error.detail) {
        (Some(text), _) | (None, Some(text)) => match &error.field {
            Some(field) if !text.contains(field.as_str()) => format!("`{field}`: {text}"),
            _ => text.clone(),
        },
        (None, None) => error.to_string(),
    }
}

/// Holds the launch configs against the checks of the service's creation, for a service that is only changed.
pub fn check(ctx: &Context, wanted: &Wanted) -> Result<(), FilesError> {
    if !service::has_containers(wanted.def.name) {
        return Ok(());
    }
    let row = Row { meta: Meta::default(), data: wanted.fields.clone() };
    let mut row: Row<Service> = row.typed()?;
    if is_balancer(wanted.def.name) {
        load_balancer::prepare(&ctx.settings, &mut row).map_err(|error| wanted.refused(&error))?;
    }
    service::check_configs(&row).map_err(|error| wanted.refused(&error))
}

/// Makes the services and their links; `start`: each one starts after those it needs. Their numbers.
pub fn create(
    tx: &mut Tx<'_>,
    ctx: &Context,
    stack: &AnyRow,
    wanted: &[Wanted],
    start: bool,
) -> Result<Vec<Id<Service>>, FilesError> {
    if wanted.len() > MAX_SERVICES {
        let text = format!("{} services are more than the {MAX_SERVICES} that one request makes", wanted.len());
        return Err(FilesError::Files(text));
    }
    let mut made = Vec::with_capacity(wanted.len());
    for service in wanted {
        let rows = super::create(tx, ctx, service.def, service.fields.clone());
        let rows = rows.map_err(|error| match error {
            CommandError::Api(error) => service.refused(&error),
            error => error.into(),
        })?;
        made.extend(rows.into_iter().next().map(|row| (service, row)));
    }
    let linked: Vec<(&AnyRow, &Wanted)> = made.iter().map(|(service, row)| (row, *service)).collect();
    write_links(tx, ctx, stack, &linked)?;
    if start {
        start_in_order(tx, &made)?;
    }
    Ok(made.iter().map(|(_, row)| Id::new(row.meta.id)).collect())
}

/// Gives each service the links of the file, exactly. Targets that are nowhere are left out: in the same stack they may
/// come later, and the file has been checked for those it must have itself.
pub fn write_links(
    tx: &mut Tx<'_>,
    ctx: &Context,
    stack: &AnyRow,
    services: &[(&AnyRow, &Wanted)],
) -> Result<(), FilesError> {
    let mut known: BTreeMap<Option<&str>, BTreeMap<String, Id<Service>>> = BTreeMap::new();
    known.insert(None, names(tx, stack.meta.id)?);
    for (row, wanted) in services {
        let mut links: Vec<To> = Vec::new();
        let balances = is_balancer(wanted.def.name);
        for link in &wanted.links {
            let stack = link.stack.as_deref();
            if !known.contains_key(&stack)
                && let Some(name) = stack
            {
                let other = stack_named(tx, ctx, name)?.ok_or_else(|| {
                    let text = format!("{}: {}: external_links: there is no stack `{name}`", wanted.place, wanted.name);
                    FilesError::Files(text)
                })?;
                known.insert(stack, names(tx, other)?);
            }
            let Some(target) = known.get(&stack).and_then(|names| names.get(&link.target.to_lowercase())) else {
                continue;
            };
            let refused = |error| wanted.refused(&error);
            let to = match balances {
                // The alias is irrelevant to a balancer.
                true => {
                    let ports = link::checked_rules(Some(link.ports.clone())).map_err(refused)?;
                    To { service: *target, name: None, ports: Some(ports) }
                }
                false => {
                    let name = link::alias(link.alias.as_deref()).map_err(refused)?;
                    To { service: *target, name, ports: None }
                }
            };
            if !links.iter().any(|known| (known.service, &known.name) == (to.service, &to.name)) {
                links.push(to);
            }
        }
        link::replace(tx, ctx, row, links)?;
    }
    Ok(())
}

/// Services of a stack by name in lower case.
fn names(tx: &Tx<'_>, stack: i64) -> Result<BTreeMap<String, Id<Service>>, CommandError> {
    let rows: Vec<Row<Service>> = tx.list(&Scope::Everything, &Query::new().eq("environmentId", stack))?;
    let live = rows.iter().filter(|row| row.meta.is_live());
    Ok(live.filter_map(|row| Some((row.meta.name.as_ref()?.to_lowercase(), row.id()))).collect())
}

fn stack_named(tx: &Tx<'_>, ctx: &Context, name: &str) -> Result<Option<i64>, CommandError> {
    let rows: Vec<Row<Stack>> = tx.list(&Scope::Account(ctx.account_id), &Query::new())?;
    let same = |row: &&Row<Stack>| row.meta.name.as_deref().is_some_and(|of| of.eq_ignore_ascii_case(name));
    Ok(rows.iter().filter(|row| row.meta.is_live()).find(same).map(|row| row.meta.id))
}

/// Asks every service to start after those it needs; on a circle the one that stands first does not wait.
fn start_in_order(tx: &mut Tx<'_>, made: &[(&Wanted, AnyRow)]) -> Result<(), CommandError> {
    let mut before: BTreeMap<&str, Id<Service>> = BTreeMap::new();
    for (service, row) in made {
        let mut row: Row<Service> = row.typed()?;
        row.start_on_create = Some(true);
        let awaited = service.after.iter().filter_map(|(name, until)| {
            before.get(name.as_str()).map(|service| Awaited { service: *service, until: *until })
        });
        row.awaited = awaited.collect();
        tx.update(&mut row)?;
        before.insert(&service.name, row.id());
    }
    Ok(())
}

/// The stack says what is wrong with its files, and stays so.
pub fn fail(tx: &mut Tx<'_>, def: &TypeDef, stack: &mut AnyRow, why: &str) -> Result<(), CommandError> {
    stack.meta.fail(ERROR, why);
    Ok(tx.update_any(def, stack)?)
}

/// Whether the stack's own files are still to be carried out.
pub fn is_due(stack: &AnyRow) -> bool {
    stack.meta.state == ACTIVATING && stack.get("dockerCompose").as_str().is_some_and(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use remuda_schema::Code;

    use super::*;

    #[test]
    fn a_refusal_is_a_sentence() {
        let plain = ApiError::field(Code::InvalidOption, "networkMode");
        let told = ApiError::field(Code::NotUnique, "name").because("service 1s7 has that name");
        let detailed = ApiError::field(Code::InvalidState, "x is wrong").detailed("x is wrong");
        let expected = ["InvalidOption (422) `networkMode`", "service 1s7 has that name", "x is wrong"];
        assert_eq!([plain, told, detailed].map(|error| sentence(&error)), expected);
    }
}

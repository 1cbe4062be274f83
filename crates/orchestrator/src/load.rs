//! Rows out of the store as [`Record`]s: all of them at the start, then those the feed names.

use std::collections::{BTreeMap, BTreeSet};

use remuda_model::states::PURGED;
use remuda_model::{
    Account, Agent, Certificate, Container, ContainerEvent, Credential, HealthcheckInstanceHostMap, Host, Image,
    InstanceLink, IpAddress, Label, Mount, Network, PhysicalHost, Port, Project, ProjectMember, Register, Service,
    ServiceConsumeMap, ServiceEvent, ServiceExposeMap, Setting, Stack, StoragePool, Volume,
};
use remuda_schema::{Resource, Row};
use remuda_store::{Change, Error, Query, Read, Scope};

use crate::record::Record;
use crate::settings::Settings;

fn list_of<T: Resource>(read: &Read<'_>, into: &mut Vec<Record>) -> Result<(), Error>
where
    Record: From<Row<T>>,
{
    let query = Query::new().all().ne("state", PURGED);
    into.extend(read.list::<T>(&Scope::Everything, &query)?.into_iter().map(Record::from));
    Ok(())
}

/// Every row that has not ended.
pub fn all(read: &Read<'_>) -> Result<Vec<Record>, Error> {
    let mut all = Vec::new();
    list_of::<Project>(read, &mut all)?;
    list_of::<Account>(read, &mut all)?;
    all.retain(|record| !matches!(record, Record::Account(row) if row.meta.kind == Project::TYPE));
    list_of::<Agent>(read, &mut all)?;
    list_of::<Network>(read, &mut all)?;
    list_of::<PhysicalHost>(read, &mut all)?;
    list_of::<Host>(read, &mut all)?;
    list_of::<StoragePool>(read, &mut all)?;
    list_of::<Stack>(read, &mut all)?;
    list_of::<Service>(read, &mut all)?;
    list_of::<Container>(read, &mut all)?;
    list_of::<ServiceExposeMap>(read, &mut all)?;
    list_of::<ServiceConsumeMap>(read, &mut all)?;
    list_of::<Port>(read, &mut all)?;
    list_of::<Volume>(read, &mut all)?;
    list_of::<Mount>(read, &mut all)?;
    list_of::<Image>(read, &mut all)?;
    list_of::<InstanceLink>(read, &mut all)?;
    list_of::<IpAddress>(read, &mut all)?;
    list_of::<Label>(read, &mut all)?;
    list_of::<Credential>(read, &mut all)?;
    list_of::<ProjectMember>(read, &mut all)?;
    list_of::<Register>(read, &mut all)?;
    list_of::<ContainerEvent>(read, &mut all)?;
    list_of::<HealthcheckInstanceHostMap>(read, &mut all)?;
    list_of::<ServiceEvent>(read, &mut all)?;
    list_of::<Certificate>(read, &mut all)?;
    Ok(all)
}

fn load_of<T: Resource>(read: &Read<'_>, ids: &BTreeSet<i64>, into: &mut Vec<Record>) -> Result<(), Error>
where
    Record: From<Row<T>>,
{
    let query = Query::new().all().any_of("id", ids.iter().copied());
    into.extend(read.list::<T>(&Scope::Everything, &query)?.into_iter().map(Record::from));
    Ok(())
}

/// Rows that changed.
#[derive(Debug, Default)]
pub struct Loaded {
    /// As they are now.
    pub records: Vec<Record>,
    /// Table and number of those that are deleted.
    pub gone: Vec<(String, i64)>,
}

/// Each row that changed, once.
pub fn changed(read: &Read<'_>, changes: &[Change]) -> Result<Loaded, Error> {
    let mut ids: BTreeMap<(&str, bool), BTreeSet<i64>> = BTreeMap::new();
    for change in changes {
        let is_project = change.kind == Project::TYPE;
        ids.entry((&change.table, is_project)).or_default().insert(change.id);
    }
    let (mut records, mut gone) = (Vec::new(), Vec::new());
    for ((table, is_project), ids) in ids {
        let first = records.len();
        load_table(read, table, is_project, &ids, &mut records)?;
        let found: BTreeSet<i64> = records[first..].iter().map(|record| record.meta().id).collect();
        gone.extend(ids.difference(&found).map(|id| (table.to_owned(), *id)));
    }
    Ok(Loaded { records, gone })
}

fn load_table(
    read: &Read<'_>,
    table: &str,
    is_project: bool,
    ids: &BTreeSet<i64>,
    records: &mut Vec<Record>,
) -> Result<(), Error> {
    // Asked of the declarations: a table is not always named like its type.
    macro_rules! by_table {
        ($($ty:ty),* $(,)?) => {
            $(if table == <$ty>::TABLE {
                return load_of::<$ty>(read, ids, records);
            })*
        };
    }
    if is_project {
        return load_of::<Project>(read, ids, records);
    }
    by_table!(
        Account,
        Agent,
        Network,
        PhysicalHost,
        Host,
        StoragePool,
        Stack,
        Service,
        Container,
        ServiceExposeMap,
        ServiceConsumeMap,
        Port,
        Volume,
        Mount,
        Image,
        InstanceLink,
        IpAddress,
        Label,
        Credential,
        ProjectMember,
        Register,
        ContainerEvent,
        HealthcheckInstanceHostMap,
        ServiceEvent,
        Certificate,
    );
    Ok(())
}

/// One row as it is now.
pub fn one(read: &Read<'_>, table: &str, type_name: &str, id: i64) -> Result<Option<Record>, Error> {
    let mut records = Vec::new();
    load_table(read, table, type_name == Project::TYPE, &BTreeSet::from([id]), &mut records)?;
    Ok(records.pop())
}

/// The settings in effect.
pub fn settings(read: &Read<'_>) -> Result<Settings, Error> {
    let rows = read.list::<Setting>(&Scope::Everything, &Query::new().all())?;
    let stored = rows.into_iter().filter_map(|row| Some((row.meta.name.clone()?, row.data.value?)));
    Ok(Settings::new(stored.collect()))
}

#[cfg(test)]
mod tests {
    use remuda_runtime::Seams;
    use remuda_store::{Options, Store};

    use super::*;

    /// A type of which somebody forgets the table would never be followed.
    #[tokio::test(start_paused = true)]
    async fn every_type_with_a_machine_is_followed() {
        let registry = remuda_model::registry();
        let store = Store::open(Options::memory(), registry, Seams::seeded(1, 1)).await.expect("opens");
        // Nothing is an `instance` and no more: it is the union that clients read.
        for def in registry.types().filter(|def| def.machine.is_some() && def.name != "instance") {
            let table = def.table().expect("machines have rows");
            let name = def.name;
            let found = store
                .write(move |tx| -> Result<bool, Error> {
                    let meta =
                        remuda_schema::Meta { kind: name.to_owned(), state: "requested".into(), ..Default::default() };
                    let row = tx.insert_any(def, Row { meta, data: serde_json::Map::new() })?;
                    Ok(one(tx, table, name, row.meta.id)?.is_some())
                })
                .await;
            assert!(found.expect("stored").value, "{name}");
        }
    }
}

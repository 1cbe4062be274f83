//! Rows out of the store as [`Record`]s: all of them at the start, then those the feed names.

use std::collections::{BTreeMap, BTreeSet};

use remuda_model::states::PURGED;
use remuda_model::{
    Account, Agent, Container, ContainerEvent, Credential, Host, Image, InstanceLink, IpAddress, Label, Mount, Network,
    PhysicalHost, Port, Project, ProjectMember, Register, Service, ServiceConsumeMap, ServiceExposeMap, Setting, Stack,
    StoragePool, Volume,
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
    match table {
        "account" if is_project => load_of::<Project>(read, ids, records),
        "account" => load_of::<Account>(read, ids, records),
        "agent" => load_of::<Agent>(read, ids, records),
        "network" => load_of::<Network>(read, ids, records),
        "physicalHost" => load_of::<PhysicalHost>(read, ids, records),
        "host" => load_of::<Host>(read, ids, records),
        "storagePool" => load_of::<StoragePool>(read, ids, records),
        "environment" => load_of::<Stack>(read, ids, records),
        "service" => load_of::<Service>(read, ids, records),
        "instance" => load_of::<Container>(read, ids, records),
        "serviceExposeMap" => load_of::<ServiceExposeMap>(read, ids, records),
        "serviceConsumeMap" => load_of::<ServiceConsumeMap>(read, ids, records),
        "port" => load_of::<Port>(read, ids, records),
        "volume" => load_of::<Volume>(read, ids, records),
        "mount" => load_of::<Mount>(read, ids, records),
        "image" => load_of::<Image>(read, ids, records),
        "instanceLink" => load_of::<InstanceLink>(read, ids, records),
        "ipAddress" => load_of::<IpAddress>(read, ids, records),
        "label" => load_of::<Label>(read, ids, records),
        "credential" => load_of::<Credential>(read, ids, records),
        "projectMember" => load_of::<ProjectMember>(read, ids, records),
        "register" => load_of::<Register>(read, ids, records),
        "containerEvent" => load_of::<ContainerEvent>(read, ids, records),
        _ => Ok(()),
    }
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

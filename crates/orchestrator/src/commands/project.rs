//! Projects by request (`resources.md` §2.2): each has five networks. Members are the server's business.

use remuda_model::states::ACTIVE;
use remuda_model::{Network, Project, ServicesPortRange};
use remuda_schema::row::{AnyRow, Object};
use remuda_schema::{Row, TypeDef};
use remuda_store::Tx;

use super::service::PORT_RANGE;
use super::{CommandError, Context, draft};
use crate::rows::Range;

pub fn create(tx: &mut Tx<'_>, ctx: &Context, def: &TypeDef, fields: Object) -> Result<AnyRow, CommandError> {
    let mut row: Row<Project> = draft(ctx, def, fields).typed()?;
    row.meta.kind = "project".to_owned();
    row.members = None;
    let range = row.services_port_range.take().unwrap_or_default();
    row.services_port_range = Some(ServicesPortRange {
        start_port: range.start_port.or(Some(PORT_RANGE.0)),
        end_port: range.end_port.or(Some(PORT_RANGE.1)),
    });
    let mut row = tx.insert(row)?;
    let managed = project_networks(tx, ctx, row.meta.id)?;
    row.default_network_id = Some(managed.id());
    tx.update(&mut row)?;
    Ok(row.to_any()?)
}

/// The five networks of a project; the answer is the managed one, its default.
pub fn project_networks(tx: &mut Tx<'_>, ctx: &Context, project: i64) -> Result<Row<Network>, CommandError> {
    for (kind, name) in [
        ("dockerHost", "Docker Host Network Mode"),
        ("dockerNone", "Docker None Network Mode"),
        ("dockerContainer", "Docker Container Network Mode"),
        ("dockerBridge", "Docker Bridge Network Mode"),
    ] {
        network(tx, project, kind, name, Network::default())?;
    }
    let cidr = ctx.settings.network_cidr();
    // A setting that is no subnet must not make projects without a network.
    let cidr = if Range::of(cidr).is_some() { cidr } else { "10.42.0.0/16" };
    let gateway = Range::of(cidr).map(|range| range.gateway().to_string());
    let data = Network { subnet: Some(cidr.to_owned()), gateway };
    network(tx, project, "hostOnlyNetwork", "Rancher Managed Network", data)
}

fn network(tx: &mut Tx<'_>, project: i64, kind: &str, name: &str, data: Network) -> Result<Row<Network>, CommandError> {
    let mut row = Row::new(Some(project), ACTIVE, data);
    row.meta.kind = kind.to_owned();
    row.meta.name = Some(name.to_owned());
    Ok(tx.insert(row)?)
}

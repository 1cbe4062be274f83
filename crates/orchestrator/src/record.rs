//! A row of any type that has behaviour, with its type still known. What the feed brings and what plans write are
//! both records, so that neither needs a generic per type.

use std::sync::Arc;

use remuda_model::states::{PURGED, REMOVED};
use remuda_model::{
    Account, Agent, Certificate, Container, ContainerEvent, Credential, HealthcheckInstanceHostMap, Host, Image,
    InstanceLink, IpAddress, Label, Mount, Network, PhysicalHost, Port, Project, ProjectMember, Register, Service,
    ServiceConsumeMap, ServiceEvent, ServiceExposeMap, Stack, StoragePool, Volume,
};
use remuda_schema::{Meta, Resource, Row};
use remuda_store::Tx;

use crate::steps::Stored;

macro_rules! records {
    ($($name:ident),* $(,)?) => {
        /// One row, by type.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Record {
            $($name(Arc<Row<$name>>),)*
        }

        impl Record {
            /// What the row has whatever its type.
            pub fn meta(&self) -> &Meta {
                match self {
                    $(Record::$name(row) => &row.meta,)*
                }
            }

            /// The same, to change.
            pub fn meta_mut(&mut self) -> &mut Meta {
                match self {
                    $(Record::$name(row) => &mut Arc::make_mut(row).meta,)*
                }
            }

            /// Table the row lives in.
            pub fn table(&self) -> &'static str {
                match self {
                    $(Record::$name(_) => <$name as Resource>::TABLE,)*
                }
            }

            /// Does something with the row that needs no type.
            pub fn with<R>(&self, tx: &mut Tx<'_>, act: impl FnOnce(&mut Tx<'_>, &dyn Stored) -> R) -> R {
                match self {
                    $(Record::$name(row) => act(tx, row.as_ref()),)*
                }
            }

            /// Wire name of its type.
            pub fn type_name(&self) -> &'static str {
                match self {
                    $(Record::$name(_) => <$name as Resource>::TYPE,)*
                }
            }
        }

        $(
            impl From<Row<$name>> for Record {
                fn from(row: Row<$name>) -> Record {
                    Record::$name(Arc::new(row))
                }
            }
            impl From<Arc<Row<$name>>> for Record {
                fn from(row: Arc<Row<$name>>) -> Record {
                    Record::$name(row)
                }
            }
        )*
    };
}

records!(
    Account,
    Agent,
    Certificate,
    Container,
    ContainerEvent,
    Credential,
    HealthcheckInstanceHostMap,
    Host,
    Image,
    InstanceLink,
    IpAddress,
    Label,
    Mount,
    Network,
    PhysicalHost,
    Port,
    Project,
    ProjectMember,
    Register,
    Service,
    ServiceConsumeMap,
    ServiceEvent,
    ServiceExposeMap,
    Stack,
    StoragePool,
    Volume,
);

impl Record {
    /// Names the row: table and number.
    pub fn key(&self) -> (&'static str, i64) {
        (self.table(), self.meta().id)
    }
}

/// Tables of types without a purge: `removed` is their end.
pub const REMOVED_IS_FINAL: &[&str] = &[
    Stack::TABLE,
    Service::TABLE,
    ServiceExposeMap::TABLE,
    ServiceConsumeMap::TABLE,
    Label::TABLE,
    Mount::TABLE,
    PhysicalHost::TABLE,
    ContainerEvent::TABLE,
    HealthcheckInstanceHostMap::TABLE,
    ServiceEvent::TABLE,
    Certificate::TABLE,
];

impl Record {
    /// The state nothing follows on: `purged`, or `removed` for types without a purge.
    pub fn end_state(&self) -> &'static str {
        if REMOVED_IS_FINAL.contains(&self.table()) { REMOVED } else { PURGED }
    }

    /// Nothing will happen to the row any more.
    pub fn has_ended(&self) -> bool {
        let state = self.meta().state.as_str();
        state == PURGED || state == self.end_state()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_removed_has_no_purge_and_the_rest_has() {
        for def in remuda_model::registry().types() {
            let (Some(table), Some(machine)) = (def.table(), def.machine) else { continue };
            assert_eq!(machine.has("purge"), !REMOVED_IS_FINAL.contains(&table), "{}", def.name);
        }
    }
}

//! Types to store in tests, and the two stores to store them in.

use std::future::Future;
use std::sync::OnceLock;

use remuda_runtime::Seams;
use remuda_schema::{Id, Registry, Resource, Row, Time};
use remuda_store::{Database, Error, Options, Store};
use serde::{Deserialize, Serialize};

/// Root of a family.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Resource)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "thing", access(admin = "crud"))]
pub struct Thing {
    #[field(filter, nullable)]
    pub label: Option<String>,
    #[field(filter, nullable)]
    pub size: Option<i64>,
    #[field(filter, nullable)]
    pub ratio: Option<f64>,
    #[field(filter, nullable)]
    pub flag: Option<bool>,
    #[field(filter, nullable)]
    pub due: Option<Time>,
    #[field(filter, nullable)]
    pub owner_id: Option<Id<Thing>>,
    #[field(filter, nullable)]
    pub is_public: Option<bool>,
    #[field(filter, nullable)]
    pub external_id: Option<String>,
}

/// A kind of thing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Resource)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "gadget", parent = "thing", access(admin = "crud"))]
pub struct Gadget {
    #[field(filter, nullable)]
    pub label: Option<String>,
    #[field(nullable)]
    pub tags: Option<Vec<String>>,
}

/// Rows of another table, never public.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Resource)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "tally", access(admin = "crud"))]
pub struct Tally {
    #[field(filter)]
    pub count: i64,
}

/// Whom rows belong to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Resource)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "account", access(admin = "crud"))]
#[common(without(account_id))]
pub struct Account {}

pub fn registry() -> &'static Registry {
    static REGISTRY: OnceLock<Registry> = OnceLock::new();
    REGISTRY.get_or_init(|| {
        Registry::new(vec![Account::type_def(), Thing::type_def(), Gadget::type_def(), Tally::type_def()])
            .expect("the sample fits together")
    })
}

/// A test's database; the directory goes with it.
pub struct Bed {
    pub options: Options,
    pub seams: Seams,
    _dir: Option<tempfile::TempDir>,
}

impl Bed {
    pub fn sqlite() -> Bed {
        let dir = tempfile::tempdir().expect("a directory for tests");
        let options = Options::new(Database::Sqlite { path: dir.path().join("remuda.db") });
        Bed { options, seams: Seams::real(), _dir: Some(dir) }
    }

    pub fn memory() -> Bed {
        Bed { options: Options::memory(), seams: Seams::real(), _dir: None }
    }

    pub fn postgres(name: &str) -> Bed {
        Bed::at(remuda_testbed::postgres_url(name))
    }

    /// A database of PostgreSQL that there is already.
    pub fn at(url: String) -> Bed {
        Bed { options: Options::new(Database::Postgres { url }), seams: Seams::real(), _dir: None }
    }

    pub async fn open(&self) -> Store {
        Store::open(self.options.clone(), registry(), self.seams.clone()).await.expect("the store opens")
    }
}

/// Runs a test to its end on a runtime with threads.
pub fn run<F: Future<Output = ()>>(test: F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build();
    runtime.expect("a runtime for tests").block_on(test);
}

/// One test on SQLite in a file, in memory, and on PostgreSQL.
#[macro_export]
macro_rules! on_each_store {
    ($(async fn $name:ident($bed:ident: &Bed) $body:block)*) => { $(
        mod $name {
            use super::*;
            async fn test($bed: &Bed) $body
            #[test]
            fn sqlite() {
                run(async { test(&Bed::sqlite()).await });
            }
            #[test]
            fn memory() {
                run(async { test(&Bed::memory()).await });
            }
            #[test]
            fn postgres() {
                run(async { test(&Bed::postgres(stringify!($name))).await });
            }
        }
    )* };
}

pub fn thing(account: i64, label: &str) -> Row<Thing> {
    Row::new(Some(account), "active", Thing { label: Some(label.to_owned()), ..Thing::default() })
}

/// Inserts rows in one transaction.
pub async fn insert(store: &Store, rows: Vec<Row<Thing>>) -> Vec<Row<Thing>> {
    let inserted =
        store.write(move |tx| rows.iter().map(|row| tx.insert(row.clone())).collect::<Result<Vec<_>, Error>>());
    inserted.await.expect("rows are inserted").value
}

//! A small world of types for this crate's tests: a herd of horses, some of them ponies, in stables.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::document::Urls;
use crate::machine::{Machine, transition};
use crate::{Id, Nested, Registry, Resource, Row, Time};

pub static MACHINE: Machine = Machine {
    transitions: &[
        transition("create", &["requested"], "creating", "active"),
        transition("remove", &["active"], "removing", "removed"),
    ],
};

/// Who owns things.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Resource)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "account", access(project = "r", admin = "crud"))]
#[common(without(account_id))]
pub struct Account {}

/// Where horses live. Only administrators know.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Resource)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "stableBox", access(admin = "crud"))]
pub struct StableBox {}

/// A horse.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Resource)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "horse", machine = MACHINE, access(project = "crud", admin = "r", agent = "r"))]
#[common(name(create, update, required, nullable, filter, max_length = 8, min_length = 2, valid_chars = "a-z-"))]
#[action(create, output = "horse")]
#[action(shoe, input = "shoeInput", output = "horse")]
#[extra_filters(breederId = "enum")]
#[relation(foals, children(of = "horse", by = "damId"))]
#[relation(stables, list(field = "boxId", to = "stableBox"))]
#[relation(portrait, computed)]
pub struct Horse {
    #[field(create, filter, default = 4)]
    pub age: Option<i64>,
    #[field(create, nullable, filter)]
    pub born: Option<Time>,
    #[field(create, nullable)]
    pub box_id: Option<Id<StableBox>>,
    #[field(create, nullable, options = ["bay", "grey"], default = "bay", filter)]
    pub colour: Option<String>,
    #[field(create, nullable, input_only)]
    pub count: Option<i64>,
    #[field(create, nullable, filter)]
    pub dam_id: Option<Id<Horse>>,
    #[field(hidden)]
    pub chip: Option<String>,
    #[field(create, update, nullable)]
    pub gear: Option<Gear>,
    #[field(create, nullable, min = 1, max = 200)]
    pub hands: Option<f64>,
    #[field(create, update, nullable)]
    pub labels: Option<BTreeMap<String, String>>,
    #[field(create, required)]
    pub riders: Option<Vec<String>>,
    #[field(create, nullable)]
    pub notes: Option<Value>,
    #[field(filter)]
    pub sold: bool,
    #[field(read_on_create_only, nullable)]
    pub secret: Option<String>,
    #[field(admin, filter)]
    pub price: Option<i64>,
    #[field(create, update, nullable, roles(project = "r", admin = "cru"))]
    pub vet: Option<String>,
}

/// A small horse.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Resource)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "pony", plural = "ponies", parent = "horse", machine = MACHINE, access(project = "crud"))]
pub struct Pony {}

/// What a horse wears.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Nested)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "gear", no_list, access(project = "cr", admin = "cr"))]
pub struct Gear {
    #[field(create, required, invalid_chars = "!?")]
    pub saddle: Option<String>,
    #[field(create, default = true)]
    pub bridle: bool,
    #[field(create, nullable)]
    pub owner_id: Option<Id<Account>>,
    #[field(create, nullable)]
    pub more: Option<Vec<Gear>>,
}

/// Shoes for a horse.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Nested)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "shoeInput", no_list, access(project = "r", admin = "r"))]
pub struct ShoeInput {
    #[field(create)]
    pub shoes: Option<i64>,
}

pub fn registry() -> Registry {
    Registry::new(vec![
        Account::type_def(),
        StableBox::type_def(),
        Horse::type_def(),
        Pony::type_def(),
        Gear::type_def(),
        ShoeInput::type_def(),
    ])
    .expect("the types fit together")
}

/// A row to show.
pub fn horse() -> Row<Horse> {
    let mut row = Row::new(
        Some(5),
        "active",
        Horse {
            age: Some(7),
            born: Some(Time(1_459_591_872_123)),
            box_id: Some(Id::new(3)),
            chip: Some("hidden".into()),
            gear: Some(Gear { saddle: Some("old".into()), owner_id: Some(Id::new(5)), ..Gear::default() }),
            secret: Some("s3cret".into()),
            price: Some(10),
            ..Horse::default()
        },
    );
    row.meta.id = 42;
    row.meta.name = Some("bess".into());
    row.meta.uuid = "u-42".into();
    row.meta.created = Time(1_000);
    row
}

/// URLs of a server called `h`.
pub struct Plain;

impl Urls for Plain {
    fn collection(&self, plural: &str) -> String {
        format!("http://h/v1/{plural}")
    }

    fn resource(&self, plural: &str, id: &str) -> String {
        format!("http://h/v1/{plural}/{id}")
    }
}

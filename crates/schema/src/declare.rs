//! What one type says about itself. Written by `#[derive(Resource)]` / `#[derive(Nested)]`, read by everything.

use serde_json::Value;

use crate::access::Access;
use crate::machine::Machine;
use crate::types::Type;

/// A type with rows of its own. `type_def` is called once per program, by the registry.
pub trait Resource: serde::Serialize + serde::de::DeserializeOwned + Clone + Send + Sync + 'static {
    /// Wire name of the type, camelCase: `container`.
    const TYPE: &'static str;
    /// Name of the table its rows live in: the root of its parent chain (`instance` for `container`).
    const TABLE: &'static str;
    /// The declaration.
    fn type_def() -> TypeDef;
}

/// A value type: input of an action, or embedded in a resource.
pub trait Nested: serde::Serialize + serde::de::DeserializeOwned + Clone + Send + Sync + 'static {
    /// Wire name of the type, camelCase: `restartPolicy`.
    const TYPE: &'static str;
    /// The declaration.
    fn type_def() -> TypeDef;
}

/// Fields that several types have in common: declared once, flattened into each of them with `#[field(flatten)]`.
pub trait Fields {
    /// The fields, as a resource has them.
    fn fields() -> Vec<Field>;
    /// Links from those of the fields that refer to rows, and those that come with the part.
    fn links() -> Vec<Link>;
    /// Actions of every type that has the part.
    fn actions() -> Vec<Action>;
}

/// Where values of a type live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Storage {
    /// Rows of the named table. Several types share a table when one is the other's parent.
    Table(&'static str),
    /// No rows: inputs, embedded values, answers computed on request.
    None,
}

/// One type: everything `/v1/schemas` says of it, and what only we need to know.
#[derive(Clone, Debug)]
pub struct TypeDef {
    /// Wire name, camelCase.
    pub name: &'static str,
    /// Plural in URLs and link names; `None` for the rule of `api-conventions.md` §1.
    pub plural: Option<&'static str>,
    /// The type this one is a kind of.
    pub parent: Option<&'static str>,
    pub storage: Storage,
    /// Whether the collection can be listed by those who may read (`activeSetting` cannot).
    pub listed: bool,
    pub access: Access,
    /// Fields of the wire and hidden ones, common ones included.
    pub fields: Vec<Field>,
    /// Filters beyond the fields that say `filter`: columns of the original that are not fields. They match nothing.
    pub extra_filters: Vec<(&'static str, Type)>,
    pub links: Vec<Link>,
    pub actions: Vec<Action>,
    /// States and transitions; `None` for types without processes (settings, audit logs, values).
    pub machine: Option<&'static Machine>,
    /// Generated for the API browser; the doc comment of the struct.
    pub description: &'static str,
}

impl TypeDef {
    /// The field of that wire name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// Plural name by the declaration or by rule: `es` after `s`, `x`, `ch`, else `s` (never `y` to `ies`).
    pub fn plural_name(&self) -> String {
        match self.plural {
            Some(plural) => plural.to_owned(),
            None if self.name.ends_with('s') || self.name.ends_with('x') || self.name.ends_with("ch") => {
                format!("{}es", self.name)
            }
            None => format!("{}s", self.name),
        }
    }

    /// Table of its rows, if it has rows.
    pub fn table(&self) -> Option<&'static str> {
        match self.storage {
            Storage::Table(table) => Some(table),
            Storage::None => None,
        }
    }
}

/// One field. The flags mean what `api-conventions.md` §6 says of the schema document.
#[derive(Clone, Debug)]
pub struct Field {
    /// Wire name, camelCase.
    pub name: &'static str,
    pub ty: Type,
    pub create: bool,
    pub update: bool,
    pub required: bool,
    pub nullable: bool,
    pub unique: bool,
    pub read_on_create_only: bool,
    pub default: Option<Value>,
    pub min_length: Option<u64>,
    pub max_length: Option<u64>,
    pub min: Option<i64>,
    pub max: Option<i64>,
    pub options: Option<Vec<&'static str>>,
    pub valid_chars: Option<&'static str>,
    pub invalid_chars: Option<&'static str>,
    pub transform: Option<&'static str>,
    /// Offered as a collection filter (and so also as a sort when the field is visible).
    pub filter: bool,
    /// The filter offers `eq` only, whatever the type could (answered by code, not by a column).
    pub eq_filter: bool,
    /// An int that is the row number of the type named in that other field: sent as a public id (`auditLog.resourceId`).
    pub id_of: Option<&'static str>,
    /// Letters `c`, `r`, `u` of the roles for which the flags `create`, `update` and the visibility do not hold.
    pub roles: Access,
    pub visibility: Visibility,
    /// In the schema, never in an answer (`api-conventions.md` §4: `count`, `networkIds`…).
    pub input_only: bool,
    /// A change of this field through PUT starts the `update` process (`resources.md` §1.9).
    pub schedules_update: bool,
    /// Doc comment of the struct field, first sentence.
    pub description: &'static str,
}

impl Field {
    /// A visible read-only field without any flag.
    pub fn new(name: &'static str, ty: Type) -> Field {
        Field {
            name,
            ty,
            create: false,
            update: false,
            required: false,
            nullable: false,
            unique: false,
            read_on_create_only: false,
            default: None,
            min_length: None,
            max_length: None,
            min: None,
            max: None,
            options: None,
            valid_chars: None,
            invalid_chars: None,
            transform: None,
            filter: false,
            eq_filter: false,
            id_of: None,
            roles: Access::default(),
            visibility: Visibility::Public,
            input_only: false,
            schedules_update: false,
            description: "",
        }
    }
}

/// Who sees a field at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visibility {
    /// Every role that sees the type.
    Public,
    /// Roles with all accounts (admin, service).
    Admin,
    /// Nobody on the wire: kept in the row for our own use.
    Hidden,
}

/// A relation offered under `links`.
#[derive(Clone, Debug)]
pub struct Link {
    /// camelCase, as it appears in `links`.
    pub name: &'static str,
    pub kind: LinkKind,
    /// Listed in `includeableLinks`.
    pub includeable: bool,
}

/// How to find what a link leads to.
#[derive(Clone, Debug)]
pub enum LinkKind {
    /// `field` of this row holds the id of one row of type `to`. Present only while the field is set.
    Reference { field: &'static str, to: &'static str },
    /// The row that `field` names, as a list of one or none: the original kept these in map tables.
    List { field: &'static str, to: &'static str },
    /// Rows of type `of` whose field `by` is this row's id.
    Children { of: &'static str, by: &'static str },
    /// Rows of type `to` that rows of the map type `through` connect with this one: `through.from` is this id, `through.via` theirs.
    Through { to: &'static str, through: &'static str, from: &'static str, via: &'static str },
    /// Answered by code in the server under this name (`stats`, `registrationUrl`…).
    Computed,
}

/// An action offered by the type. In which states is the state machine's business (`model`).
#[derive(Clone, Debug)]
pub struct Action {
    /// Lower-case, as in URLs.
    pub name: &'static str,
    pub input: Option<&'static str>,
    pub output: Option<&'static str>,
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};
    use serde_json::json;

    use crate::testing::Account;
    use crate::{Fields, Id, Nested, Resource};

    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Fields)]
    #[serde(rename_all = "camelCase", default)]
    #[action(bray, output = "donkey")]
    #[relation(foals, children(of = "donkey", by = "breederId"))]
    struct Build {
        /// From hoof to withers.
        #[field(create, filter)]
        height: Option<i64>,
        #[field(filter)]
        breeder_id: Option<Id<Account>>,
    }

    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Resource)]
    #[serde(rename_all = "camelCase", default)]
    #[resource(id = "donkey", access(project = "cr"))]
    #[action(balk)]
    struct Donkey {
        #[field(flatten)]
        #[serde(flatten)]
        build: Build,
        #[field(create)]
        stubborn: bool,
    }

    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Nested)]
    #[serde(rename_all = "camelCase", default)]
    #[resource(id = "wish", access(project = "cr"))]
    struct Wish {
        #[field(flatten)]
        #[serde(flatten)]
        build: Build,
    }

    #[test]
    fn a_shared_part_is_declared_and_stored_as_if_written_out() {
        let donkey = Donkey::type_def();
        let field = |name: &str| donkey.fields.iter().find(|field| field.name == name).expect("declared");
        let height = field("height");
        assert!(height.create && height.filter && field("stubborn").create);
        assert_eq!((height.max_length, height.description), (Some(255), "From hoof to withers."));
        assert!(donkey.links.iter().any(|link| link.name == "breeder"));
        assert!(donkey.links.iter().any(|link| link.name == "foals"));
        assert_eq!(donkey.actions.iter().map(|action| action.name).collect::<Vec<_>>(), ["bray", "balk"]);

        let text = json!({"height": 130, "breederId": 7, "stubborn": true});
        let build = Build { height: Some(130), breeder_id: Some(Id::new(7)) };
        assert_eq!(serde_json::to_value(Donkey { build: build.clone(), stubborn: true }).expect("written"), text);
        assert_eq!(serde_json::from_value::<Wish>(text).expect("read"), Wish { build });
    }

    #[test]
    fn a_value_takes_the_fields_and_nothing_to_filter_by() {
        let wish = Wish::type_def();
        assert_eq!(
            wish.fields.iter().map(|field| (field.name, field.filter)).collect::<Vec<_>>(),
            [("height", false), ("breederId", false)]
        );
        assert!(wish.links.is_empty() && wish.actions.is_empty());
    }
}

//! What one role sees: the visible types with the flags, actions and links that hold for that role.
//!
//! Computed once per role when the registry is built, so that a request only looks things up.

use std::collections::{BTreeMap, BTreeSet};

use crate::access::Role;
use crate::declare::{Action, Field, Link, LinkKind, TypeDef, Visibility};
use crate::machine::Machine;
use crate::registry::{Registry, named};
use crate::types::Type;

/// The visible types of one role.
#[derive(Debug)]
pub struct Schemas {
    role: Role,
    types: BTreeMap<&'static str, Schema>,
    segments: BTreeMap<String, &'static str>,
    bases: BTreeMap<&'static str, &'static str>,
}

/// One type as a role sees it.
#[derive(Debug)]
pub struct Schema {
    pub name: &'static str,
    /// camelCase plural.
    pub plural: String,
    pub parent: Option<&'static str>,
    /// Root of the parent chain: gives the letters of public ids.
    pub base: &'static str,
    pub machine: Option<&'static Machine>,
    pub description: &'static str,
    /// Visible fields by wire name, with `create` and `update` as they hold for the role.
    pub fields: BTreeMap<&'static str, Field>,
    /// Filters by name.
    pub filters: BTreeMap<&'static str, Filter>,
    /// Links to visible types.
    pub links: Vec<Link>,
    /// Actions whose input is visible.
    pub actions: Vec<Action>,
    /// Visible kinds, kinds of kinds included, itself not.
    pub subtypes: BTreeSet<&'static str>,
    /// `GET`, `PUT`, `DELETE` as far as the role may.
    pub resource_methods: Vec<&'static str>,
    /// `GET`, `POST` as far as the role may.
    pub collection_methods: Vec<&'static str>,
    /// Collections that `createTypes` names, as type and lower-case plural.
    pub create_types: Vec<(&'static str, String)>,
}

/// One filter of a collection.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    pub ty: Type,
    pub modifiers: &'static [&'static str],
    /// Whether rows have the value. A column that only the original had matches nothing but `null`.
    pub column: bool,
}

impl Schemas {
    pub(crate) fn new(registry: &Registry, role: Role) -> Schemas {
        let visible: BTreeSet<&'static str> =
            registry.types().filter(|ty| ty.access.letters(role).is_some()).map(|ty| ty.name).collect();
        let mut schemas = Schemas { role, types: BTreeMap::new(), segments: BTreeMap::new(), bases: BTreeMap::new() };
        for ty in registry.types() {
            schemas.bases.insert(ty.name, registry.get(registry.base(ty.name)).map_or(ty.name, |base| base.name));
        }
        for ty in registry.types().filter(|ty| visible.contains(ty.name)) {
            let schema = Schema::new(registry, role, &visible, ty);
            schemas.segments.insert(ty.name.to_ascii_lowercase(), ty.name);
            schemas.segments.insert(schema.plural.to_ascii_lowercase(), ty.name);
            schemas.types.insert(ty.name, schema);
        }
        schemas
    }

    pub fn role(&self) -> Role {
        self.role
    }

    /// The type of exactly that name, if the role sees it.
    pub fn get(&self, name: &str) -> Option<&Schema> {
        self.types.get(name)
    }

    /// The type that a URL segment names: type name or plural, any case.
    pub fn find(&self, segment: &str) -> Option<&Schema> {
        self.segments.get(&segment.to_ascii_lowercase()).and_then(|name| self.types.get(name))
    }

    /// Every visible type, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Schema> {
        self.types.values()
    }

    /// Root of a type's parent chain, visible or not: references to invisible types keep their letters.
    pub fn base<'a>(&'a self, name: &'a str) -> &'a str {
        self.bases.get(name).copied().unwrap_or(name)
    }

    /// How a row of that kind is shown when `requested` was asked for: as its kind if that is a visible subtype,
    /// else as what was requested.
    pub fn shown_as<'a>(&'a self, requested: &'a Schema, kind: &str) -> &'a Schema {
        if requested.subtypes.contains(kind) { self.types.get(kind).unwrap_or(requested) } else { requested }
    }
}

impl Schema {
    fn new(registry: &Registry, role: Role, visible: &BTreeSet<&'static str>, ty: &TypeDef) -> Schema {
        let may = |letter| ty.access.may(role, letter);
        let is_visible = |name: &str| visible.contains(name);
        let fields = ty
            .fields
            .iter()
            .filter_map(|field| effective(field, role))
            // A value of an invisible type cannot be described; a reference to one stays an opaque id.
            .filter(|field| nested(&field.ty).is_none_or(is_visible))
            .map(|mut field| {
                if named(&field.ty).is_some_and(|target| !is_visible(target)) {
                    field.create = false;
                    field.update = false;
                    field.required = false;
                }
                (field.name, field)
            })
            .collect();
        let columns = ty.fields.iter().filter(|field| field.filter).map(|field| {
            let modifiers: &[&str] = match &field.ty {
                _ if field.eq_filter => &["eq"],
                // In the original these were text columns: options given by the API, and keys instead of numbers.
                Type::Enum if field.name != "state" => Type::String.modifiers(),
                Type::Reference(to) if registry.get(to).is_some_and(|to| to.table().is_none()) => {
                    Type::String.modifiers()
                }
                ty => ty.modifiers(),
            };
            (field.name, Filter { ty: field.ty.clone(), modifiers, column: !field.eq_filter })
        });
        let extra = ty
            .extra_filters
            .iter()
            .map(|(name, ty)| (*name, Filter { ty: ty.clone(), modifiers: ty.modifiers(), column: false }));
        let filters = if may('r') && ty.listed { columns.chain(extra).collect() } else { BTreeMap::new() };
        let links = ty.links.iter().filter(|link| link.target().is_none_or(is_visible)).cloned().collect();
        // Machine roles act through their own resources only.
        let acting = !matches!(role, Role::Agent | Role::Register | Role::Token);
        let actions =
            ty.actions.iter().filter(|action| acting && action.input.is_none_or(is_visible)).cloned().collect();
        let subtypes: BTreeSet<&'static str> =
            registry.subtypes(ty.name).iter().map(|sub| sub.name).filter(|name| is_visible(name)).collect();
        let creatable = std::iter::once(ty)
            .chain(registry.subtypes(ty.name))
            .filter(|ty| ty.access.may(role, 'c'))
            .map(|ty| (ty.name, ty.plural_name().to_ascii_lowercase()));
        let methods = |table: &[(char, &'static str)]| {
            table.iter().filter(|(letter, _)| may(*letter)).map(|(_, method)| *method).collect::<Vec<_>>()
        };
        Schema {
            name: ty.name,
            plural: ty.plural_name(),
            parent: ty.parent,
            base: registry.get(registry.base(ty.name)).map_or(ty.name, |base| base.name),
            machine: ty.machine,
            description: ty.description,
            fields,
            filters,
            links,
            actions,
            create_types: if subtypes.is_empty() { Vec::new() } else { creatable.collect() },
            subtypes,
            resource_methods: methods(&[('r', "GET"), ('u', "PUT"), ('d', "DELETE")]),
            collection_methods: if ty.listed {
                methods(&[('r', "GET"), ('c', "POST")])
            } else {
                methods(&[('c', "POST")])
            },
        }
    }

    /// The action of that name; names are lower-case.
    pub fn action(&self, name: &str) -> Option<&Action> {
        self.actions.iter().find(|action| action.name == name)
    }

    /// The link of that name, any case.
    pub fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name.eq_ignore_ascii_case(name))
    }

    /// Whether the collection answers to that method.
    pub fn collection_allows(&self, method: &str) -> bool {
        self.collection_methods.contains(&method)
    }

    /// Whether one resource answers to that method.
    pub fn resource_allows(&self, method: &str) -> bool {
        self.resource_methods.contains(&method)
    }
}

impl Link {
    /// The type a link leads to; `None` for links answered by code.
    pub fn target(&self) -> Option<&'static str> {
        match self.kind {
            LinkKind::Reference { to, .. } | LinkKind::List { to, .. } | LinkKind::Through { to, .. } => Some(to),
            LinkKind::Children { of, .. } => Some(of),
            LinkKind::Computed => None,
        }
    }
}

/// The field with the flags that hold for the role; `None` when the role does not see it.
fn effective(field: &Field, role: Role) -> Option<Field> {
    let letters = field.roles.letters(role);
    let seen = match (letters, field.visibility) {
        (Some(letters), _) => letters.contains('r'),
        (None, Visibility::Public) => true,
        (None, Visibility::Admin) => role.all_accounts(),
        (None, Visibility::Hidden) => false,
    };
    seen.then(|| match letters {
        Some(letters) => Field { create: letters.contains('c'), update: letters.contains('u'), ..field.clone() },
        None => field.clone(),
    })
}

fn nested(ty: &Type) -> Option<&str> {
    match ty {
        Type::Nested(name) => Some(name),
        Type::Array(inner) | Type::Map(inner) => nested(inner),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::registry;

    #[test]
    fn a_role_sees_its_part() {
        let registry = registry();
        let names = |role| registry.schemas(role).iter().map(|schema| schema.name).collect::<Vec<_>>();
        assert_eq!(names(Role::Project), ["account", "gear", "horse", "pony", "shoeInput"]);
        assert_eq!(names(Role::Admin), ["account", "gear", "horse", "shoeInput", "stableBox"]);
        assert_eq!(names(Role::Token), Vec::<&str>::new());
    }

    #[test]
    fn fields_links_and_actions_depend_on_the_role() {
        let registry = registry();
        let horse = |role| registry.schemas(role).get("horse").expect("visible");
        let (project, admin, agent) = (horse(Role::Project), horse(Role::Admin), horse(Role::Agent));
        let fields = |schema: &Schema, names: &[&str]| {
            names.iter().map(|name| schema.fields.contains_key(name)).collect::<Vec<_>>()
        };
        let names = ["age", "price", "removeTime", "chip", "gear"];
        assert_eq!(fields(project, &names), [true, false, false, false, true]);
        assert_eq!(fields(admin, &names), [true, true, true, false, true]);
        assert_eq!(fields(agent, &names), [true, false, false, false, false]);
        assert_eq!((project.fields["vet"].create, admin.fields["vet"].create), (false, true));
        // A project does not see boxes, so it can read the opaque id but neither write it nor follow the link.
        assert_eq!((project.fields["boxId"].create, admin.fields["boxId"].create), (false, true));
        let links = |schema: &Schema| schema.links.iter().map(|link| link.name).collect::<Vec<_>>();
        assert_eq!(links(project), ["dam", "account", "foals", "portrait"]);
        assert_eq!(links(admin), ["dam", "account", "foals", "stables", "portrait"]);
        assert_eq!(project.action("shoe").map(|action| action.input), Some(Some("shoeInput")));
        assert!(agent.actions.is_empty());
        assert_eq!(project.link("FOALS").map(|link| link.name), Some("foals"));
    }

    #[test]
    fn methods_follow_the_letters() {
        let registry = registry();
        let project = registry.schemas(Role::Project);
        let methods = |name: &str| {
            let schema = project.get(name).expect("visible");
            (schema.collection_methods.clone(), schema.resource_methods.clone())
        };
        assert_eq!(methods("horse"), (vec!["GET", "POST"], vec!["GET", "PUT", "DELETE"]));
        assert_eq!(methods("gear"), (vec!["POST"], vec!["GET"]));
        assert_eq!(methods("account"), (vec!["GET"], vec!["GET"]));
        let horse = project.get("horse").expect("visible");
        assert_eq!(horse.create_types, [("horse", "horses".to_owned()), ("pony", "ponies".to_owned())]);
        assert_eq!(project.get("account").map(|schema| schema.create_types.len()), Some(0));
    }

    #[test]
    fn rows_are_shown_as_their_most_specific_visible_type() {
        let registry = registry();
        let shown = |role, kind| {
            let schemas = registry.schemas(role);
            schemas.shown_as(schemas.get("horse").expect("visible"), kind).name
        };
        assert_eq!(shown(Role::Project, "pony"), "pony");
        assert_eq!(shown(Role::Admin, "pony"), "horse");
        assert_eq!(shown(Role::Project, "account"), "horse");
    }
}

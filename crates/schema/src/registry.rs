//! All types of a program together: parents, plurals, names in URLs.

use std::collections::{BTreeMap, BTreeSet};

use crate::access::Role;
use crate::declare::{LinkKind, TypeDef};
use crate::schemas::Schemas;
use crate::types::Type;

/// Why declarations do not fit together. Each says which type and where in it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DeclarationError {
    #[error("type `{0}` is declared twice")]
    DuplicateType(String),
    #[error("types `{0}` and `{1}` answer to the same name in URLs")]
    DuplicateSegment(String, String),
    #[error("field `{field}` of `{ty}` is declared twice")]
    DuplicateField { ty: String, field: String },
    #[error("link `{link}` of `{ty}` is declared twice")]
    DuplicateLink { ty: String, link: String },
    #[error("{place} of `{ty}` names type `{unknown}`, which is not declared")]
    UnknownType { ty: String, place: String, unknown: String },
    #[error("{place} of `{ty}` names field `{field}`, which `{of}` does not have")]
    UnknownField { ty: String, place: String, of: String, field: String },
    #[error("the parents of `{0}` form a circle")]
    ParentCircle(String),
}

/// Every type, by name, and what each role sees of them.
#[derive(Debug)]
pub struct Registry {
    types: BTreeMap<&'static str, TypeDef>,
    segments: BTreeMap<String, &'static str>,
    schemas: BTreeMap<Role, Schemas>,
}

impl Registry {
    /// Checks that the declarations fit together: names are unique, and what they name exists.
    pub fn new(types: Vec<TypeDef>) -> Result<Registry, DeclarationError> {
        let mut registry = Registry { types: BTreeMap::new(), segments: BTreeMap::new(), schemas: BTreeMap::new() };
        for ty in types {
            let name = ty.name;
            if registry.types.insert(name, ty).is_some() {
                return Err(DeclarationError::DuplicateType(name.to_owned()));
            }
        }
        for ty in registry.types.values() {
            registry.check(ty)?;
        }
        for ty in registry.types.values() {
            let names = BTreeSet::from([ty.name.to_ascii_lowercase(), ty.plural_name().to_ascii_lowercase()]);
            for segment in names {
                if let Some(other) = registry.segments.insert(segment, ty.name) {
                    return Err(DeclarationError::DuplicateSegment(other.to_owned(), ty.name.to_owned()));
                }
            }
        }
        registry.schemas = Role::ALL.iter().map(|role| (*role, Schemas::new(&registry, *role))).collect();
        Ok(registry)
    }

    /// The type of exactly that name.
    pub fn get(&self, name: &str) -> Option<&TypeDef> {
        self.types.get(name)
    }

    /// The type that a URL segment names: type name or plural, any case.
    pub fn find(&self, segment: &str) -> Option<&TypeDef> {
        self.segments.get(&segment.to_ascii_lowercase()).and_then(|name| self.types.get(name))
    }

    /// Every type, by name.
    pub fn types(&self) -> impl Iterator<Item = &TypeDef> {
        self.types.values()
    }

    /// Every kind of that type, kinds of kinds included, itself not.
    pub fn subtypes(&self, name: &str) -> Vec<&TypeDef> {
        self.types
            .values()
            .filter(|ty| {
                std::iter::successors(ty.parent, |parent| self.types.get(parent)?.parent).any(|parent| parent == name)
            })
            .collect()
    }

    /// Whether `name` is `ancestor` or a kind of it.
    pub fn is_a(&self, name: &str, ancestor: &str) -> bool {
        name == ancestor
            || self.types.get(name).is_some_and(|ty| {
                std::iter::successors(ty.parent, |parent| self.types.get(parent)?.parent)
                    .any(|parent| parent == ancestor)
            })
    }

    /// Root of the parent chain, whose name gives the letters of the public id. Of an unknown type, itself.
    pub fn base<'a>(&'a self, name: &'a str) -> &'a str {
        let mut base = name;
        while let Some(parent) = self.types.get(base).and_then(|ty| ty.parent) {
            base = parent;
        }
        base
    }

    /// What a role sees.
    pub fn schemas(&self, role: Role) -> &Schemas {
        self.schemas.get(&role).expect("`new` computes the schemas of every role")
    }

    fn check(&self, ty: &TypeDef) -> Result<(), DeclarationError> {
        let name = || ty.name.to_owned();
        let unknown = |place: String, unknown: &str| DeclarationError::UnknownType {
            ty: name(),
            place,
            unknown: unknown.to_owned(),
        };
        let mut chain = BTreeSet::from([ty.name]);
        let mut next = ty.parent;
        while let Some(parent) = next {
            if !chain.insert(parent) {
                return Err(DeclarationError::ParentCircle(name()));
            }
            next = self.types.get(parent).ok_or_else(|| unknown("parent".into(), parent))?.parent;
        }
        let mut seen = BTreeSet::new();
        for field in &ty.fields {
            if !seen.insert(field.name) {
                return Err(DeclarationError::DuplicateField { ty: name(), field: field.name.to_owned() });
            }
            if let Some(target) = named(&field.ty)
                && !self.types.contains_key(target)
            {
                return Err(unknown(format!("field `{}`", field.name), target));
            }
        }
        for action in &ty.actions {
            if let Some(input) = action.input
                && !self.types.contains_key(input)
            {
                return Err(unknown(format!("action `{}`", action.name), input));
            }
        }
        let mut seen = BTreeSet::new();
        for link in &ty.links {
            if !seen.insert(link.name.to_ascii_lowercase()) {
                return Err(DeclarationError::DuplicateLink { ty: name(), link: link.name.to_owned() });
            }
            let place = || format!("link `{}`", link.name);
            let field = |of: &str, field: &str| match self.types.get(of) {
                None => Err(unknown(place(), of)),
                Some(def) if def.field(field).is_none() => Err(DeclarationError::UnknownField {
                    ty: name(),
                    place: place(),
                    of: of.to_owned(),
                    field: field.to_owned(),
                }),
                Some(_) => Ok(()),
            };
            let known = |to: &str| if self.types.contains_key(to) { Ok(()) } else { Err(unknown(place(), to)) };
            match link.kind {
                LinkKind::Reference { field: by, to } | LinkKind::List { field: by, to } => {
                    field(ty.name, by)?;
                    known(to)?;
                }
                LinkKind::Children { of, by } => field(of, by)?,
                LinkKind::Through { to, through, from, via } => {
                    known(to)?;
                    field(through, from)?;
                    field(through, via)?;
                }
                LinkKind::Computed => {}
            }
        }
        Ok(())
    }
}

/// The type that a field type names, looking through arrays, maps and references.
pub(crate) fn named(ty: &Type) -> Option<&str> {
    match ty {
        Type::Reference(name) | Type::Nested(name) => Some(name),
        Type::Array(inner) | Type::Map(inner) => named(inner),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Account, Gear, Horse, Pony, ShoeInput, StableBox, registry};
    use crate::{Link, Nested, Resource};

    #[test]
    fn types_are_found_by_any_spelling_of_name_and_plural() {
        let registry = registry();
        for (segment, expected) in
            [("HORSES", Some("horse")), ("ponies", Some("pony")), ("stableboxes", Some("stableBox")), ("cow", None)]
        {
            assert_eq!(registry.find(segment).map(|ty| ty.name), expected, "{segment}");
        }
        assert_eq!(registry.base("pony"), "horse");
        assert_eq!(registry.subtypes("horse").iter().map(|ty| ty.name).collect::<Vec<_>>(), ["pony"]);
        assert!(registry.is_a("pony", "horse") && registry.is_a("horse", "horse") && !registry.is_a("horse", "pony"));
    }

    #[test]
    fn declarations_that_contradict_each_other_are_refused() {
        let all = || {
            [Account::type_def(), StableBox::type_def(), Horse::type_def(), Pony::type_def()]
                .into_iter()
                .chain([Gear::type_def(), ShoeInput::type_def()])
                .collect::<Vec<_>>()
        };
        let refused = |change: &dyn Fn(&mut Vec<TypeDef>)| {
            let mut types = all();
            change(&mut types);
            Registry::new(types).map(|_| ()).map_err(|error| error.to_string())
        };
        assert_eq!(refused(&|_| {}), Ok(()));
        for (change, message) in [
            (
                &(|types: &mut Vec<TypeDef>| types.push(Horse::type_def())) as &dyn Fn(&mut Vec<TypeDef>),
                "type `horse` is declared twice",
            ),
            (
                &|types| types.retain(|ty| ty.name != "gear"),
                "field `gear` of `horse` names type `gear`, which is not declared",
            ),
            (
                &|types| types.retain(|ty| ty.name != "shoeInput"),
                "action `shoe` of `horse` names type `shoeInput`, which is not declared",
            ),
            (&|types| types[3].parent = Some("mule"), "parent of `pony` names type `mule`, which is not declared"),
            (&|types| types[2].parent = Some("pony"), "the parents of `horse` form a circle"),
            (&|types| types[3].plural = Some("horses"), "types `horse` and `pony` answer to the same name in URLs"),
            (
                &|types| {
                    let field = types[2].fields[0].clone();
                    types[2].fields.push(field);
                },
                "field `accountId` of `horse` is declared twice",
            ),
            (
                &|types| {
                    let link = types[2].links[0].clone();
                    types[2].links.push(link);
                },
                "link `dam` of `horse` is declared twice",
            ),
            (
                &|types| {
                    let kind = LinkKind::Children { of: "pony", by: "stableId" };
                    types[2].links.push(Link { name: "ponies", kind, includeable: true });
                },
                "link `ponies` of `horse` names field `stableId`, which `pony` does not have",
            ),
        ] {
            assert_eq!(refused(change), Err(message.to_owned()));
        }
    }
}

//! What the derive calls: not for people. Kept out of the macro so that it is ordinary, testable code.

pub use serde_json::Value;

use crate::declare::{Field, Fields, Link, LinkKind, Visibility};
use crate::machine::Machine;
use crate::types::Type;

/// A type spelling that the macro has already checked.
pub fn wire_type(text: &str) -> Type {
    text.parse().unwrap_or(Type::Json)
}

/// Columns of the original were varchar(255) unless declared longer; enumerations have a limit only where said.
pub fn column_length(ty: &Type) -> Option<u64> {
    (!matches!(ty, Type::Enum)).then_some(255)
}

/// Every resource with an owner leads to it.
pub fn account_link() -> Link {
    Link { name: "account", kind: LinkKind::Reference { field: "accountId", to: "account" }, includeable: true }
}

/// The fields of a shared part as a value has them: nothing filters by them.
pub fn fields_of_value<T: Fields>() -> Vec<Field> {
    T::fields().into_iter().map(|field| Field { filter: false, eq_filter: false, ..field }).collect()
}

/// The fields every row has (`resources.md` §1.2), as the schema document shows them, with a type's deviations.
pub fn common_fields<const N: usize>(
    machine: Option<&'static Machine>,
    without: &[&str],
    hidden: &[&str],
    changed: [Field; N],
) -> Vec<Field> {
    let read = |name: &'static str, ty: Type, description: &'static str| Field {
        nullable: true,
        filter: true,
        max_length: Some(255),
        description,
        ..Field::new(name, ty)
    };
    let write = |name: &'static str, description: &'static str| Field {
        create: true,
        update: true,
        ..read(name, Type::String, description)
    };
    let mut fields = vec![
        read("accountId", Type::Reference("account".into()), "Account or project that owns the resource."),
        read("created", Type::Date, "When the resource was made."),
        Field { max_length: Some(1024), ..write("description", "Free text.") },
        Field { max_length: None, ..read("id", Type::Int, "Public id.") },
        read("kind", Type::String, "Most specific kind of the row."),
        write("name", "Name shown to people."),
        read("removed", Type::Date, "When the resource was removed."),
        Field {
            nullable: false,
            max_length: Some(128),
            options: machine.map(Machine::states),
            ..read("state", Type::Enum, "State of the resource's processes.")
        },
        Field { max_length: Some(128), ..read("uuid", Type::String, "Unique everywhere.") },
        Field {
            options: Some(vec!["yes", "no", "error"]),
            description: "`yes` while a process runs, `error` when the last one failed.",
            ..Field::new("transitioning", Type::Enum)
        },
        Field {
            nullable: true,
            description: "What the running process is doing, or why the last one failed.",
            ..Field::new("transitioningMessage", Type::String)
        },
        Field {
            nullable: true,
            description: "Percent done of the running process.",
            ..Field::new("transitioningProgress", Type::Int)
        },
        Field {
            max_length: None,
            visibility: Visibility::Admin,
            ..read("removeTime", Type::Date, "When the removed resource leaves the lists.")
        },
        Field { nullable: true, visibility: Visibility::Admin, ..Field::new("data", Type::Json) },
    ];
    fields.retain(|field| {
        let known_as = match field.name {
            "transitioningMessage" | "transitioningProgress" => "transitioning",
            "removeTime" => "removed",
            name => name,
        };
        !without.contains(&known_as)
    });
    for field in &mut fields {
        if hidden.contains(&field.name) {
            field.visibility = Visibility::Hidden;
        }
    }
    for field in changed {
        if let Some(slot) = fields.iter_mut().find(|slot| slot.name == field.name) {
            *slot = Field { description: slot.description, ..field };
        }
    }
    fields
}

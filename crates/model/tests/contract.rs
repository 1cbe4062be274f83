//! What our schema document says to a project, compared with what a server of May 2016 said
//! (`data/v1-schemas.json`): type by type, field by field, flags, options, filters, actions, methods and links.
//!
//! Every intended difference stands in `intended.rs` with its reason. A difference that is not listed fails, and so
//! does a listed one that no longer exists. `cargo test -p remuda-model --test contract -- --nocapture` prints the
//! coverage table.

use std::collections::{BTreeMap, BTreeSet};

use remuda_schema::Role;
use remuda_schema::document::{self, Urls};
use serde_json::{Map, Value};

#[path = "contract/intended.rs"]
mod intended;

type Object = Map<String, Value>;

/// The URLs of the server the document was taken from.
struct Original;

impl Urls for Original {
    fn collection(&self, plural: &str) -> String {
        format!("http://localhost:8080/v1/{}", plural.to_lowercase())
    }

    fn resource(&self, plural: &str, id: &str) -> String {
        format!("{}/{}", self.collection(plural), id.to_lowercase())
    }
}

/// Equal, differing, missing and additional members of one aspect.
#[derive(Clone, Copy, Default)]
struct Count {
    equal: usize,
    differing: usize,
    missing: usize,
    additional: usize,
}

#[derive(Default)]
struct Comparison {
    /// Path of a difference and what it is.
    differences: BTreeMap<String, String>,
    counts: BTreeMap<&'static str, Count>,
}

impl Comparison {
    fn differ(&mut self, path: &str, what: String) {
        self.differences.insert(path.to_owned(), what);
    }

    /// Members of an object by name; `detail` compares two members of the same name.
    fn members(
        &mut self,
        ty: &str,
        aspect: &'static str,
        theirs: &Object,
        ours: &Object,
        detail: impl Fn(&mut Comparison, &str, &Value, &Value),
    ) {
        let mut count = Count::default();
        for name in theirs.keys().chain(ours.keys()).collect::<BTreeSet<_>>() {
            let path = format!("{ty}.{aspect}.{name}");
            match (theirs.get(name), ours.get(name)) {
                (Some(theirs), Some(ours)) => {
                    let before = self.differences.len();
                    detail(self, &path, theirs, ours);
                    if self.differences.len() == before { count.equal += 1 } else { count.differing += 1 }
                }
                (Some(_), None) => {
                    count.missing += 1;
                    self.differ(&path, "missing".into());
                }
                _ => {
                    count.additional += 1;
                    self.differ(&path, "additional".into());
                }
            }
        }
        let all = self.counts.entry(aspect).or_default();
        all.equal += count.equal;
        all.differing += count.differing;
        all.missing += count.missing;
        all.additional += count.additional;
    }
}

fn object<'a>(of: &'a Value, name: &str) -> &'a Object {
    of[name].as_object().unwrap_or_else(|| panic!("`{name}` of `{}` is not an object", of["id"]))
}

/// A list of names as the keys of an object, so that order does not matter.
fn names(of: &Value) -> Object {
    let list = of.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(|name| Some((name.as_str()?.to_owned(), Value::Null))).collect()
}

fn compare_whole(comparison: &mut Comparison, path: &str, theirs: &Value, ours: &Value) {
    if theirs != ours {
        comparison.differ(path, format!("{theirs} there, {ours} here"));
    }
}

fn compare_field(comparison: &mut Comparison, path: &str, theirs: &Value, ours: &Value) {
    let keys = |of: &Value| of.as_object().map(|of| of.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
    for key in keys(theirs).into_iter().chain(keys(ours)).collect::<BTreeSet<_>>() {
        // Ours have descriptions, theirs none.
        if key == "description" {
            continue;
        }
        let path = format!("{path}.{key}");
        match (theirs.get(&key), ours.get(&key)) {
            (Some(theirs), Some(ours)) if key == "options" => {
                let (theirs, ours) = (names(theirs), names(ours));
                for option in theirs.keys().chain(ours.keys()).collect::<BTreeSet<_>>() {
                    if theirs.contains_key(option) != ours.contains_key(option) {
                        let what = if theirs.contains_key(option) { "missing" } else { "additional" };
                        comparison.differ(&format!("{path}.{option}"), what.into());
                    }
                }
            }
            (Some(theirs), Some(ours)) => compare_whole(comparison, &path, theirs, ours),
            (Some(theirs), None) => comparison.differ(&path, format!("{theirs} there, absent here")),
            (None, Some(ours)) => comparison.differ(&path, format!("absent there, {ours} here")),
            (None, None) => {}
        }
    }
}

fn compare_type(comparison: &mut Comparison, theirs: &Value, ours: &Value) {
    let ty = theirs["id"].as_str().expect("every schema has an id");
    comparison.members(ty, "fields", object(theirs, "resourceFields"), object(ours, "resourceFields"), compare_field);
    for (aspect, key) in [("actions", "resourceActions"), ("filters", "collectionFilters"), ("links", "links")] {
        comparison.members(ty, aspect, object(theirs, key), object(ours, key), compare_whole);
    }
    for aspect in ["resourceMethods", "collectionMethods", "includeableLinks"] {
        comparison.members(ty, aspect, &names(&theirs[aspect]), &names(&ours[aspect]), compare_whole);
    }
    for key in ["pluralName", "collectionActions", "collectionFields", "type", "actions"] {
        compare_whole(comparison, &format!("{ty}.{key}"), &theirs[key], &ours[key]);
    }
    let keys = |of: &Value| of.as_object().map(|of| of.keys().cloned().collect::<BTreeSet<_>>());
    assert_eq!(keys(theirs), keys(ours), "members of the schema of `{ty}`");
}

/// Whether a listed path covers a difference: the same, of any type when it begins with `*.`, or everything below it
/// when it ends in `*`.
fn covers(listed: &str, path: &str) -> bool {
    let (listed, path) = match (listed.strip_prefix("*."), path.split_once('.')) {
        (Some(listed), Some((_, path))) => (listed, path),
        _ => (listed, path),
    };
    match listed.strip_suffix('*') {
        Some(start) => path.starts_with(start),
        None => listed == path,
    }
}

#[test]
fn the_schema_document_is_that_of_the_original_but_for_listed_differences() {
    let theirs: Value =
        serde_json::from_str(include_str!("data/v1-schemas.json")).expect("the recorded document is JSON");
    let theirs: BTreeMap<&str, &Value> = theirs["data"]
        .as_array()
        .expect("the recorded document is a collection")
        .iter()
        .map(|schema| (schema["id"].as_str().expect("every schema has an id"), schema))
        .collect();
    let schemas = remuda_model::registry().schemas(Role::Project);
    let mut comparison = Comparison::default();
    let mut types = Count::default();
    println!("{:<28} {:>7} {:>9} {:>8} {:>10}", "type", "equal", "differing", "missing", "additional");
    for schema in schemas.iter() {
        let ours = document::schema(schema, &Original).to_value();
        let Some(theirs) = theirs.get(schema.name) else {
            types.additional += 1;
            comparison.differ(schema.name, "additional type".into());
            continue;
        };
        let (before, counted) = (comparison.differences.len(), comparison.counts.clone());
        compare_type(&mut comparison, theirs, &ours);
        if comparison.differences.len() == before {
            types.equal += 1
        } else {
            types.differing += 1
        }
        let row = comparison.counts.iter().fold(Count::default(), |sum, (aspect, now)| {
            let was = counted.get(aspect).copied().unwrap_or_default();
            Count {
                equal: sum.equal + now.equal - was.equal,
                differing: sum.differing + now.differing - was.differing,
                missing: sum.missing + now.missing - was.missing,
                additional: sum.additional + now.additional - was.additional,
            }
        });
        println!("{:<28} {:>7} {:>9} {:>8} {:>10}", schema.name, row.equal, row.differing, row.missing, row.additional);
    }
    let missing: Vec<&str> = theirs.keys().copied().filter(|name| schemas.get(name).is_none()).collect();
    types.missing = missing.len();
    comparison.counts.insert("types", types);
    println!("\n{:<28} {:>7} {:>9} {:>8} {:>10}", "all", "equal", "differing", "missing", "additional");
    for (aspect, count) in &comparison.counts {
        println!(
            "{aspect:<28} {:>7} {:>9} {:>8} {:>10}",
            count.equal, count.differing, count.missing, count.additional
        );
    }
    println!("\ntypes not declared yet: {}\n", missing.join(", "));
    println!("intended differences, with reasons:");
    for (path, reason) in intended::DIFFERENCES {
        println!("  {path}: {reason}");
    }

    let listed = |path: &str| intended::DIFFERENCES.iter().any(|(listed, _)| covers(listed, path));
    let unlisted: Vec<String> = comparison
        .differences
        .iter()
        .filter(|(path, _)| !listed(path))
        .map(|(path, what)| format!("{path}: {what}"))
        .collect();
    assert!(unlisted.is_empty(), "differences that `intended.rs` does not list:\n{}", unlisted.join("\n"));
    let stale: Vec<&str> = intended::DIFFERENCES
        .iter()
        .map(|(listed, _)| *listed)
        .filter(|listed| !comparison.differences.keys().any(|path| covers(listed, path)))
        .collect();
    assert!(stale.is_empty(), "`intended.rs` lists differences that no longer exist: {stale:?}");
}

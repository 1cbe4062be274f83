//! From query parameters to what a list asks for: conditions, order, page, embedded links (`api-conventions.md` §8).
//!
//! Nothing here is ever an error: what is unknown or malformed is ignored, or matches nothing where that was the rule.

use crate::id::{self, Decoded};
use crate::schemas::Schema;
use crate::time::Time;
use crate::types::Type;

/// Rows per page when the client does not say, and at most.
pub const DEFAULT_LIMIT: u32 = 100;
pub const MAX_LIMIT: u32 = 10_000;

/// What a list request asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// All must hold.
    pub conditions: Vec<Condition>,
    /// Filters that are answered by code instead of a column (`identity.all`), as given.
    pub custom: Vec<(&'static str, String)>,
    /// What was applied, as given, for the `filters` of the answer: name, modifier, value.
    pub applied: Vec<(&'static str, &'static str, String)>,
    /// `None` is by id, ascending.
    pub sort: Option<Sort>,
    /// `None` is all rows.
    pub limit: Option<u32>,
    /// Rows to skip.
    pub offset: u64,
    /// Names of links to embed, as declared.
    pub include: Vec<&'static str>,
}

/// One condition on one visible column.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// Wire name of the field.
    pub field: &'static str,
    pub test: Test,
}

/// What is asked of a column. A row whose column is not set passes `Null` only, and `Eq(Bool(false))`.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    Eq(Operand),
    Ne(Operand),
    Lt(Operand),
    Lte(Operand),
    Gt(Operand),
    Gte(Operand),
    /// Begins with the text.
    Prefix(String),
    /// SQL LIKE, with the client's `%` and `_`.
    Like(String),
    NotLike(String),
    Null,
    NotNull,
    /// No row passes: the value cannot be one of this column.
    Nothing,
}

/// A value in storage form: references and ids are row numbers, dates milliseconds.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    Text(String),
    Int(i64),
    Float(f64),
    Bool(bool),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sort {
    /// Wire name of the field.
    pub field: &'static str,
    pub descending: bool,
}

impl Query {
    /// Everything, by id.
    pub fn all() -> Query {
        Query {
            conditions: Vec::new(),
            custom: Vec::new(),
            applied: Vec::new(),
            sort: None,
            limit: None,
            offset: 0,
            include: Vec::new(),
        }
    }

    /// Whether no row can match.
    pub fn is_empty(&self) -> bool {
        self.conditions.iter().any(|condition| condition.test == Test::Nothing)
    }
}

/// Reads the parameters of a list request. `pairs` are percent-decoded names and values in their order.
pub fn parse(schema: &Schema, pairs: &[(String, String)]) -> Query {
    let mut query = Query { limit: Some(DEFAULT_LIMIT), ..Query::all() };
    for (name, value) in pairs {
        add_condition(schema, name, value, &mut query);
    }
    let first = |name: &str| pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    query.sort = first("sort").and_then(|field| sortable(schema, field)).map(|field| Sort {
        field,
        descending: first("order").is_some_and(|order| order.eq_ignore_ascii_case("desc")),
    });
    if let Some(limit) = first("limit").and_then(|limit| limit.trim().parse::<i64>().ok()) {
        query.limit = u32::try_from(limit.min(i64::from(MAX_LIMIT))).ok().filter(|limit| *limit > 0);
    }
    if let Some(offset) = first("marker").and_then(offset) {
        query.offset = offset;
    }
    query.include = includes(schema, pairs);
    query
}

/// The links that `include` parameters name, as declared. Also used on a single resource and in `subscribe`.
pub fn includes(schema: &Schema, pairs: &[(String, String)]) -> Vec<&'static str> {
    let mut found = Vec::new();
    for (_, value) in pairs.iter().filter(|(name, _)| name == "include") {
        if let Some(link) = schema.link(value).filter(|link| link.includeable)
            && !found.contains(&link.name)
        {
            found.push(link.name);
        }
    }
    found
}

/// The name if lists can be sorted by it: a visible field that is a column.
pub fn sortable(schema: &Schema, name: &str) -> Option<&'static str> {
    let (name, filter) = schema.filters.get_key_value(name)?;
    (filter.column && schema.fields.contains_key(name)).then_some(*name)
}

/// Offset of a marker `m<offset>`; other markers are ignored.
fn offset(marker: &str) -> Option<u64> {
    let digits = marker.strip_prefix('m')?;
    // Row numbers are signed in both databases.
    digits.parse::<u64>().ok().filter(|offset| i64::try_from(*offset).is_ok() && !digits.starts_with('+'))
}

fn add_condition(schema: &Schema, parameter: &str, value: &str, query: &mut Query) {
    let known = |name: &str, modifier: &str| {
        let (name, filter) = schema.filters.get_key_value(name)?;
        let modifier = filter.modifiers.iter().find(|known| **known == modifier)?;
        Some((*name, filter, *modifier))
    };
    let found = known(parameter, "eq").or_else(|| {
        let (name, modifier) = parameter.rsplit_once('_')?;
        known(name, modifier)
    });
    let Some((field, filter, modifier)) = found else { return };
    // A column that the role does not see must not be found out by asking for it.
    let Some(declared) = schema.fields.get(field) else { return };
    query.applied.push((field, modifier, value.to_owned()));
    if declared.eq_filter {
        query.custom.push((field, value.to_owned()));
        return;
    }
    if !filter.column {
        return;
    }
    let is_id = field == "id" || declared.id_of.is_some();
    for test in tests(&filter.ty, is_id, modifier, value) {
        query.conditions.push(Condition { field, test });
    }
}

/// The tests that a modifier and a value stand for; dates without milliseconds mean the whole second.
fn tests(ty: &Type, is_id: bool, modifier: &str, value: &str) -> Vec<Test> {
    match modifier {
        "null" => return vec![Test::Null],
        "notnull" => return vec![Test::NotNull],
        "prefix" => return vec![Test::Prefix(value.to_owned())],
        "like" => return vec![Test::Like(value.to_owned())],
        "notlike" => return vec![Test::NotLike(value.to_owned())],
        _ => {}
    }
    let Some(operand) = operand(ty, is_id, value) else { return vec![Test::Nothing] };
    if let (Type::Date, Operand::Int(ms)) = (ty, &operand)
        && ms % 1000 == 0
    {
        let next = || Operand::Int(ms.saturating_add(1000));
        match modifier {
            "eq" => return vec![Test::Gte(operand.clone()), Test::Lt(next())],
            "lte" => return vec![Test::Lt(next())],
            "gt" => return vec![Test::Gte(next())],
            _ => {}
        }
    }
    vec![match modifier {
        "eq" => Test::Eq(operand),
        "ne" => Test::Ne(operand),
        "lt" => Test::Lt(operand),
        "lte" => Test::Lte(operand),
        "gt" => Test::Gt(operand),
        "gte" => Test::Gte(operand),
        _ => Test::Nothing,
    }]
}

fn operand(ty: &Type, is_id: bool, value: &str) -> Option<Operand> {
    match ty {
        Type::String | Type::Password | Type::Enum => Some(Operand::Text(value.to_owned())),
        Type::Int if is_id => match id::decode(value) {
            Some(Decoded::Number(number)) => Some(Operand::Int(number)),
            Some(Decoded::Key(_)) => None,
            None => value.parse().ok().map(Operand::Int),
        },
        Type::Int => value.trim().parse().ok().map(Operand::Int),
        Type::Float => value.trim().parse::<f64>().ok().filter(|number| number.is_finite()).map(Operand::Float),
        Type::Boolean => Some(Operand::Bool(value.eq_ignore_ascii_case("true") || value == "1")),
        Type::Date => {
            Time::parse_iso(value.trim()).map(|time| time.0).or_else(|| value.trim().parse().ok()).map(Operand::Int)
        }
        Type::Reference(_) => match id::decode(value)? {
            Decoded::Number(number) => Some(Operand::Int(number)),
            Decoded::Key(key) => Some(Operand::Text(key)),
        },
        Type::Json | Type::Blob | Type::Array(_) | Type::Map(_) | Type::Nested(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::access::Role;
    use crate::testing::registry;

    fn query(role: Role, text: &str) -> Query {
        let registry = registry();
        let schema = registry.schemas(role).get("horse").expect("visible");
        let pairs: Vec<(String, String)> = text
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        parse(schema, &pairs)
    }

    #[test]
    fn conditions_are_read() {
        let text = |text: &str| Operand::Text(text.to_owned());
        let date = 1_459_591_872_000;
        for (given, expected) in [
            ("", vec![]),
            ("name=a", vec![("name", Test::Eq(text("a")))]),
            ("name_eq=a&name_like=b%", vec![("name", Test::Eq(text("a"))), ("name", Test::Like("b%".into()))]),
            ("name_prefix=a", vec![("name", Test::Prefix("a".into()))]),
            ("name=", vec![("name", Test::Eq(text("")))]),
            ("name_gt=a&name_x=a&nope=1&nope_eq=1&_eq=1&_=1", vec![]),
            ("removed_null=<nil>", vec![("removed", Test::Null)]),
            ("removed_notnull", vec![("removed", Test::NotNull)]),
            ("damId=1h7", vec![("damId", Test::Eq(Operand::Int(7)))]),
            ("damId=7", vec![("damId", Test::Nothing)]),
            ("damId=<nil>", vec![("damId", Test::Nothing)]),
            ("id=1h7", vec![("id", Test::Eq(Operand::Int(7)))]),
            ("id_gt=7", vec![("id", Test::Gt(Operand::Int(7)))]),
            ("age_lte=7", vec![("age", Test::Lte(Operand::Int(7)))]),
            ("age=old", vec![("age", Test::Nothing)]),
            ("sold=True", vec![("sold", Test::Eq(Operand::Bool(true)))]),
            ("sold=x", vec![("sold", Test::Eq(Operand::Bool(false)))]),
            ("born_gte=2016-04-02T10:11:12Z", vec![("born", Test::Gte(Operand::Int(date)))]),
            (
                "born=2016-04-02T10:11:12Z",
                vec![("born", Test::Gte(Operand::Int(date))), ("born", Test::Lt(Operand::Int(date + 1000)))],
            ),
            ("born_ne=never", vec![("born", Test::Nothing)]),
            ("colour_prefix=b", vec![("colour", Test::Prefix("b".into()))]),
            ("state_prefix=a", vec![]),
            // Columns we do not have, or that the role does not see.
            ("breederId=1b1&price=10&chip=1", vec![]),
        ] {
            let found: Vec<_> =
                query(Role::Project, given).conditions.into_iter().map(|one| (one.field, one.test)).collect();
            assert_eq!(found, expected, "{given}");
        }
        assert_eq!(query(Role::Admin, "price=10").conditions.len(), 1);
        assert!(query(Role::Project, "age=old").is_empty());
    }

    #[test]
    fn pages_and_order_are_read() {
        for (given, limit, offset) in [
            ("", Some(100), 0),
            ("limit=5&marker=m10", Some(5), 10),
            ("limit=20000", Some(10_000), 0),
            ("limit=-2", None, 0),
            ("limit=0", None, 0),
            ("limit=x&marker=10", Some(100), 0),
            ("marker=m-1", Some(100), 0),
            ("marker=m99999999999999999999", Some(100), 0),
        ] {
            let query = query(Role::Project, given);
            assert_eq!((query.limit, query.offset), (limit, offset), "{given}");
        }
        for (given, expected) in [
            ("sort=name", Some(("name", false))),
            ("sort=name&order=DESC", Some(("name", true))),
            ("sort=name&order=up", Some(("name", false))),
            ("sort=hands", None),
            ("sort=breederId", None),
            ("sort=nope&order=desc", None),
        ] {
            let sort = query(Role::Project, given).sort.map(|sort| (sort.field, sort.descending));
            assert_eq!(sort, expected, "{given}");
        }
    }

    #[test]
    fn links_are_included_once_and_only_if_they_can_be() {
        assert_eq!(query(Role::Project, "include=FOALS&include=foals&include=portrait&include=x").include, ["foals"]);
    }

    proptest! {
        /// Whatever is asked: no panic, and only visible columns are tested.
        #[test]
        fn any_query_is_read(pairs in prop::collection::vec(
            ("(name|age|born|damId|sold|id|limit|marker|sort|include|[a-zA-Z_]{0,6})(_(eq|ne|lt|like|null))?", ".{0,8}"), 0..6)
        ) {
            let registry = registry();
            let schema = registry.schemas(Role::Project).get("horse").expect("visible");
            let query = parse(schema, &pairs);
            prop_assert!(query.conditions.iter().all(|condition| schema.fields.contains_key(condition.field)));
            prop_assert!(query.limit.is_none_or(|limit| (1..=MAX_LIMIT).contains(&limit)));
            prop_assert!(i64::try_from(query.offset).is_ok());
        }
    }
}

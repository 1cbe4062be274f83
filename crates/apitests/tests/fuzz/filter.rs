//! Filters of lists: anything is a filter or ignored, and conditions name columns that are filterable only.

use remuda_schema::access::Role;
use remuda_schema::filter::{self, MAX_LIMIT};
use remuda_server::request::Query;

use crate::fuzz;

#[test]
fn filters_are_read_or_ignored_and_name_only_columns() {
    fuzz(
        &[
            b"name=web&name_prefix=w&state_ne=removed&removed_null=%3Cnil%3E",
            b"id=1i5&id_gt=1i3&accountId=1a5&created_lt=2016-05-04T12:00:00Z",
            b"limit=-2&marker=m100&sort=created&order=DESC&include=hosts&include=HOSTS",
            b"isPublic=true&allocationState_notnull=1&deploymentUnitUuid_like=%25a%5F",
            b"environmentId=1e!x&createIndex_gte=9999999999999999999&healthState_eq=",
        ],
        &[
            "_",
            "__",
            "_eq",
            "_null",
            "_notnull",
            "_like",
            "_prefix",
            "_gt",
            "name",
            "id",
            "1i",
            "m",
            "-1",
            "99999999999999999999",
            "%",
            "=",
            "&",
            "1a!",
            "\u{0}",
            "é",
        ],
        |bytes| {
            let pairs = Query::parse(&String::from_utf8_lossy(bytes)).0;
            for role in [Role::Project, Role::Admin] {
                for schema in remuda_model::registry().schemas(role).iter() {
                    let query = filter::parse(schema, &pairs);
                    for condition in &query.conditions {
                        let known = schema.filters.get(condition.field);
                        assert!(known.is_some_and(|filter| filter.column), "{}: {condition:?}", schema.name);
                    }
                    assert!(query.limit.is_none_or(|limit| (1..=MAX_LIMIT).contains(&limit)), "{:?}", query.limit);
                    // Databases count rows with signed numbers.
                    assert!(i64::try_from(query.offset).is_ok(), "{}", query.offset);
                    for link in &query.include {
                        assert!(schema.link(link).is_some_and(|link| link.includeable), "{link}");
                    }
                }
            }
        },
    );
}

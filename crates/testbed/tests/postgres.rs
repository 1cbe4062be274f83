//! One server for all, one database for each.

use remuda_testbed::{Postgres, postgres_url};

#[test]
fn databases_are_apart_and_go_when_dropped() {
    let server = Postgres::shared().unwrap();
    let one = server.database("One").unwrap();
    let two = server.database("One").unwrap();
    assert_ne!(one.url, two.url);
    let name = |url: &str| url.rsplit('/').next().unwrap().split('?').next().unwrap().to_string();
    server.psql(&name(&one.url), "CREATE TABLE t (n int); INSERT INTO t VALUES (7)").unwrap();
    assert_eq!(server.psql(&name(&one.url), "SELECT n FROM t").unwrap(), "7\n");
    assert!(server.psql(&name(&two.url), "SELECT n FROM t").is_err());
    let gone = name(&one.url);
    drop(one);
    assert!(server.psql(&gone, "SELECT 1").is_err());
}

#[test]
fn a_url_is_enough() {
    let url = postgres_url("simple");
    assert!(url.starts_with("postgres://postgres@127.0.0.1:"), "{url}");
}

//! Rows: written, read back, guarded against lost updates, kept apart by scope, found by every operator.

use remuda_schema::{Id, Object, Resource, Row, Time};
use remuda_store::{Direction, Error, Op, Query, Read, Scope, Tx, Visibility};
use serde_json::{Value, json};

use crate::on_each_store;
use crate::sample::{Bed, Gadget, Tally, Thing, insert, registry, run, thing};

const ALL: Scope = Scope::Everything;

on_each_store! {
    async fn a_row_comes_back_as_it_was_written(bed: &Bed) {
        let store = bed.open().await;
        let mut row = thing(5, "a \"quoted\" <label> é \\u0000");
        row.meta.name = Some("first".into());
        row.meta.description = Some("what it is for".into());
        row.meta.progress.message = Some("pulling".into());
        row.meta.removed = Some(Time(7));
        row.data.ratio = Some(0.25);
        row.data.flag = Some(false);
        row.data.due = Some(Time(1_500_000_000_000));
        let written = store.write(move |tx| tx.insert(row.clone())).await;
        let written: remuda_store::Committed<Row<Thing>> = written.expect("inserted");
        assert_eq!((written.revision, written.value.meta.id, written.value.meta.revision), (1, 1, 0));
        assert_eq!(written.value.meta.uuid.len(), 36);
        let mut expected = written.value.clone();
        expected.meta.revision = 1;
        let id = expected.id();
        let read = store.read(move |read: &mut Read| read.require(&ALL, id)).await;
        assert_eq!(read.expect("read"), expected);

        let def = registry().get("thing").expect("declared");
        let any = store.read(move |read: &mut Read| read.get_any(def, &ALL, 1)).await;
        let any = any.expect("read").expect("there");
        assert_eq!(any.meta, expected.meta);
        let fields = json!({"label": "a \"quoted\" <label> é \\u0000", "ratio": 0.25, "flag": false, "due": 1_500_000_000_000_i64});
        assert_eq!(Value::Object(any.data), fields);
    }

    async fn a_lost_update_is_refused(bed: &Bed) {
        let store = bed.open().await;
        let id = insert(&store, vec![thing(1, "a")]).await[0].id();
        let read = store.read(move |read: &mut Read| read.require(&ALL, id)).await;
        let stale: Row<Thing> = read.expect("read");
        let (mut mine, mut theirs) = (stale.clone(), stale.clone());
        theirs.data.size = Some(1);
        let first = store.write(move |tx| {
            let mut row = theirs.clone();
            tx.update(&mut row)?;
            // Once more in the same transaction is fine, and so is writing what was just written.
            row.data.size = Some(2);
            tx.update(&mut row)?;
            tx.update(&mut row)
        });
        assert_eq!(first.await.expect("written").revision, 2);
        mine.data.size = Some(9);
        let second = store.write(move |tx| tx.update(&mut mine.clone())).await;
        assert!(matches!(second, Err(Error::Changed { table: "thing", id: 1, expected: 1, found: 3 })), "{second:?}");

        let missing = Row { meta: remuda_schema::Meta { id: 99, ..stale.meta.clone() }, data: stale.data.clone() };
        let third = store.write(move |tx| tx.update(&mut missing.clone())).await;
        assert!(matches!(third, Err(Error::Missing { type_name: "thing", id: 99 })), "{third:?}");
    }

    async fn a_write_that_changes_nothing_takes_no_revision(bed: &Bed) {
        let store = bed.open().await;
        let id = insert(&store, vec![thing(1, "a")]).await[0].id();
        let same = store.write(move |tx| {
            let mut row: Row<Thing> = tx.require(&ALL, id)?;
            tx.update(&mut row)?;
            Ok::<_, Error>(row.meta.revision)
        });
        let same = same.await.expect("written");
        assert_eq!((same.value, same.revision), (1, 1));
        let refused = store.write(move |tx| {
            tx.insert(thing(1, "b"))?;
            Err::<(), Error>(Error::Closed)
        });
        assert!(matches!(refused.await, Err(Error::Closed)));
        let count = store.read(|read: &mut Read| read.count::<Thing>(&ALL, &Query::new())).await;
        assert_eq!(count.expect("counted"), 1);
    }

    async fn numbers_are_never_used_twice(bed: &Bed) {
        let store = bed.open().await;
        let def = registry().get("thing").expect("declared");
        let row = Row { meta: remuda_schema::Meta { id: 40, ..thing(1, "x").meta }, data: thing(1, "x").data };
        let numbers = store.write(move |tx| {
            let numbered = tx.insert(row.clone())?.meta.id;
            let next = tx.insert(thing(1, "y"))?.meta.id;
            assert!(tx.delete_any(def, next)?);
            assert!(!tx.delete_any(def, next)?);
            let after = tx.insert(thing(1, "z"))?.meta.id;
            let taken = tx.insert(row.clone());
            assert!(matches!(taken, Err(Error::NotUnique { field: "id", .. })), "{taken:?}");
            Ok::<_, Error>((numbered, next > 40, after > next))
        });
        assert_eq!(numbers.await.expect("written").value, (40, true, true));
    }

    async fn a_uuid_is_unique_and_the_transaction_survives_finding_out(bed: &Bed) {
        let store = bed.open().await;
        let mut row = thing(1, "a");
        row.meta.uuid = "u-1".into();
        let done = store.write(move |tx| {
            tx.insert(row.clone())?;
            let again = tx.insert(row.clone());
            assert!(matches!(again, Err(Error::NotUnique { field: "uuid", .. })), "{again:?}");
            tx.insert(thing(1, "b"))
        });
        let done = done.await.expect("written");
        assert_eq!(done.value.data.label.as_deref(), Some("b"));
    }

    async fn kinds_that_share_a_table_see_their_own(bed: &Bed) {
        let store = bed.open().await;
        let seen = store.write(|tx: &mut Tx| {
            tx.insert(thing(1, "thing"))?;
            let gadget = Gadget { label: Some("gadget".into()), tags: Some(vec!["a".into()]) };
            let gadget = tx.insert(Row::new(Some(1), "active", gadget))?;
            let labels = |rows: Vec<Row<Thing>>| rows.into_iter().filter_map(|row| row.data.label).collect::<Vec<_>>();
            Ok::<_, Error>((
                labels(tx.list(&ALL, &Query::new())?),
                tx.list::<Gadget>(&ALL, &Query::new())?.len(),
                tx.get::<Gadget>(&ALL, Id::new(1))?.is_none(),
                tx.get::<Thing>(&ALL, gadget.id().cast())?.map(|row| row.meta.kind),
            ))
        });
        let seen = seen.await.expect("written").value;
        assert_eq!(seen, (vec!["thing".into(), "gadget".into()], 1, true, Some("gadget".into())));
    }

    async fn a_general_struct_does_not_lose_what_it_does_not_know(bed: &Bed) {
        let store = bed.open().await;
        let done = store.write(|tx: &mut Tx| {
            let gadget = Gadget { label: Some("gadget".into()), tags: Some(vec!["a".into()]) };
            let id = tx.insert(Row::new(Some(1), "active", gadget))?.id();
            let mut general: Row<Thing> = tx.require(&ALL, id.cast())?;
            general.data.label = None;
            general.data.size = Some(3);
            general.meta.enter("inactive");
            tx.update(&mut general)?;
            Ok::<_, Error>((tx.require::<Gadget>(&ALL, id)?, tx.require::<Thing>(&ALL, id.cast())?))
        });
        let (gadget, general) = done.await.expect("written").value;
        assert_eq!(gadget.data, Gadget { label: None, tags: Some(vec!["a".into()]) });
        assert_eq!((gadget.meta.kind.as_str(), gadget.meta.state.as_str(), general.data.size), ("gadget", "inactive", Some(3)));
    }

    async fn scopes_keep_accounts_apart(bed: &Bed) {
        let store = bed.open().await;
        let mut public = thing(2, "public");
        public.data.is_public = Some(true);
        let mut private = thing(2, "private");
        private.data.is_public = Some(false);
        let mut nobody = thing(0, "nobody");
        nobody.meta.account_id = None;
        insert(&store, vec![thing(1, "mine"), public, private, nobody]).await;
        let cases = [
            (Scope::Account(1), vec!["mine", "public"]),
            (Scope::Account(2), vec!["public", "private"]),
            (Scope::Account(3), vec!["public"]),
            (Scope::Rows(vec![1, 4]), vec!["mine", "nobody"]),
            (Scope::Rows(vec![]), vec![]),
            (Scope::Everything, vec!["mine", "public", "private", "nobody"]),
        ];
        let seen = store.read(move |read: &mut Read| {
            for (scope, expected) in &cases {
                let rows = read.list::<Thing>(scope, &Query::new())?;
                let labels: Vec<&str> = rows.iter().filter_map(|row| row.label.as_deref()).collect();
                assert_eq!(labels, *expected, "{scope:?}");
                assert_eq!(read.count::<Thing>(scope, &Query::new())?, expected.len() as u64, "{scope:?}");
                for id in 1..=4 {
                    let got = read.get::<Thing>(scope, Id::new(id))?;
                    assert_eq!(got.is_some(), rows.iter().any(|row| row.meta.id == id), "{scope:?} {id}");
                }
            }
            Ok::<_, Error>(())
        });
        seen.await.expect("read");
    }

    async fn every_operator_finds_what_it_says(bed: &Bed) {
        let store = bed.open().await;
        let row = |label: Option<&str>, size: Option<i64>, flag: Option<bool>, ratio: Option<f64>| {
            let mut row = thing(1, "");
            row.data = Thing { label: label.map(str::to_owned), size, flag, ratio, ..Thing::default() };
            row
        };
        let mut named = row(None, None, None, None);
        named.meta.name = Some("Named".into());
        named.data.owner_id = Some(Id::new(1));
        insert(&store, vec![
            row(Some("alpha"), Some(1), Some(true), Some(0.5)),
            row(Some("Alpine"), Some(2), Some(false), Some(1.5)),
            row(Some("100%_\\x"), Some(30), None, None),
            named,
        ]).await;
        let cases: Vec<(&str, Op, Value, &[i64])> = vec![
            ("label", Op::Eq, json!("alpha"), &[1]),
            ("label", Op::Eq, Value::Null, &[]),
            ("label", Op::Ne, json!("alpha"), &[2, 3]),
            ("label", Op::Ne, Value::Null, &[]),
            ("label", Op::Null, Value::Null, &[4]),
            ("label", Op::NotNull, Value::Null, &[1, 2, 3]),
            ("label", Op::Prefix, json!("alp"), &[1, 2]),
            ("label", Op::Prefix, json!("100%_\\"), &[3]),
            ("label", Op::Prefix, json!("%"), &[]),
            ("label", Op::Like, json!("%p%"), &[1, 2]),
            ("label", Op::Like, json!("alp_a"), &[1]),
            ("label", Op::Like, json!("100\\%%"), &[3]),
            ("label", Op::Like, json!("x\\"), &[]),
            ("label", Op::NotLike, json!("%p%"), &[3]),
            ("label", Op::In, json!(["alpha", "100%_\\x", "none"]), &[1, 3]),
            ("label", Op::In, json!([]), &[]),
            ("size", Op::Lt, json!(2), &[1]),
            ("size", Op::Lte, json!(2), &[1, 2]),
            ("size", Op::Gt, json!(2), &[3]),
            ("size", Op::Gte, json!("2"), &[2, 3]),
            ("size", Op::Eq, json!("two"), &[]),
            ("size", Op::Ne, json!("two"), &[1, 2, 3]),
            ("size", Op::In, json!([1, 30]), &[1, 3]),
            ("ratio", Op::Gt, json!(1), &[2]),
            ("ratio", Op::Eq, json!(0.5), &[1]),
            ("ratio", Op::In, json!([0.5, 7]), &[1]),
            ("flag", Op::Eq, json!(true), &[1]),
            ("flag", Op::Ne, json!(true), &[2]),
            ("flag", Op::Eq, json!("false"), &[2]),
            ("flag", Op::In, json!([true, false]), &[1, 2]),
            ("flag", Op::Null, Value::Null, &[3, 4]),
            ("ownerId", Op::Eq, json!(1), &[4]),
            ("ownerId", Op::NotNull, Value::Null, &[4]),
            ("id", Op::Gt, json!(2), &[3, 4]),
            ("name", Op::Like, json!("named"), &[4]),
            ("name", Op::Eq, json!("named"), &[]),
            ("kind", Op::Eq, json!("thing"), &[1, 2, 3, 4]),
            ("state", Op::In, json!(["active", "removed"]), &[1, 2, 3, 4]),
            ("accountId", Op::Eq, json!(1), &[1, 2, 3, 4]),
            ("unknown", Op::Eq, json!("x"), &[]),
            ("unknown", Op::Eq, json!(1), &[]),
            ("unknown", Op::Null, Value::Null, &[1, 2, 3, 4]),
        ];
        let found = store.read(move |read: &mut Read| {
            for (field, op, value, expected) in cases {
                let query = Query::new().filter(field, op, value.clone());
                let ids: Vec<i64> = read.list::<Thing>(&ALL, &query)?.iter().map(|row| row.meta.id).collect();
                assert_eq!(ids, expected, "{field} {op:?} {value}");
            }
            for (field, op, value) in [("a'b", Op::Eq, json!(1)), ("size", Op::Like, json!("1")), ("label", Op::In, json!("x"))] {
                let refused = read.list::<Thing>(&ALL, &Query::new().filter(field, op, value));
                assert!(matches!(refused, Err(Error::Query { .. })), "{field} {op:?}");
            }
            Ok::<_, Error>(())
        });
        found.await.expect("read");
    }

    async fn lists_are_ordered_and_cut(bed: &Bed) {
        let store = bed.open().await;
        let sizes = [Some(3), None, Some(1), Some(3), Some(2)];
        insert(&store, sizes.iter().map(|size| {
            let mut row = thing(1, &format!("{}", size.unwrap_or(9)));
            row.data.size = *size;
            row
        }).collect()).await;
        let up = || Query::new().sort("size", Direction::Ascending);
        let cases: Vec<(Query, Vec<i64>)> = vec![
            (Query::new(), vec![1, 2, 3, 4, 5]),
            (up(), vec![2, 3, 5, 1, 4]),
            (Query::new().sort("size", Direction::Descending), vec![1, 4, 5, 3, 2]),
            (Query::new().sort("label", Direction::Ascending), vec![3, 5, 1, 4, 2]),
            (up().limit(2), vec![2, 3]),
            (up().limit(2).offset(3), vec![1, 4]),
            (up().offset(4), vec![4]),
            (up().limit(0), vec![]),
            (up().offset(9), vec![]),
        ];
        let listed = store.read(move |read: &mut Read| {
            for (query, expected) in cases {
                let ids: Vec<i64> = read.list::<Thing>(&ALL, &query)?.iter().map(|row| row.meta.id).collect();
                assert_eq!(ids, expected, "{query:?}");
            }
            let first = read.first::<Thing>(&ALL, &up())?;
            assert_eq!(first.map(|row| row.meta.id), Some(2));
            Ok::<_, Error>(())
        });
        listed.await.expect("read");
    }

    async fn removed_rows_show_as_long_as_they_should(bed: &Bed) {
        let store = bed.open().await;
        let now = Time(1_000_000);
        let row = |removed: Option<i64>, remove_time: Option<i64>| {
            let mut row = thing(1, "x");
            row.meta.removed = removed.map(Time);
            row.meta.remove_time = remove_time.map(Time);
            row
        };
        insert(&store, vec![
            row(None, None),
            row(Some(999_000), Some(1_060_000)),
            row(Some(999_000), Some(999_999)),
            row(Some(100_000), Some(1_060_000)),
            row(None, Some(999_999)),
        ]).await;
        let cases: [(Visibility, &[i64]); 3] = [
            (Visibility::Live, &[1, 5]),
            (Visibility::Listed { now, removed_for_ms: 300_000 }, &[1, 2]),
            (Visibility::All, &[1, 2, 3, 4, 5]),
        ];
        let listed = store.read(move |read: &mut Read| {
            for (visibility, expected) in cases {
                let rows = read.list::<Thing>(&ALL, &Query::new().visibility(visibility))?;
                let ids: Vec<i64> = rows.iter().map(|row| row.meta.id).collect();
                assert_eq!(ids, expected, "{visibility:?}");
            }
            Ok::<_, Error>(())
        });
        listed.await.expect("read");
    }

    async fn rows_of_any_type_are_written_by_their_declaration(bed: &Bed) {
        let store = bed.open().await;
        let def = registry().get("tally").expect("declared");
        let done = store.write(move |tx| {
            let mut data = Object::new();
            data.insert("count".into(), json!(4));
            data.insert("nothing".into(), Value::Null);
            let meta = Row::new(None, "active", Tally::default()).meta;
            let mut row = tx.insert_any(def, Row { meta, data })?;
            row.data.insert("count".into(), json!(5));
            tx.update_any(def, &mut row)?;
            let read = tx.list_any(def, &ALL, &Query::new().eq("count", 5))?;
            assert_eq!(tx.count_any(def, &ALL, &Query::new())?, 1);
            Ok::<_, Error>((read, tx.require::<Tally>(&ALL, Id::new(row.meta.id))?.data.count))
        });
        let (any, count) = done.await.expect("written").value;
        assert_eq!((any.len(), any[0].data.len(), count), (1, 1, 5));
        let unknown = remuda_schema::TypeDef { name: "unknown", ..Tally::type_def() };
        let refused = store.read(move |read: &mut Read| read.get_any(&unknown, &ALL, 1)).await;
        assert!(matches!(refused, Err(Error::UnknownType(name)) if name == "unknown"));
    }

    async fn a_panic_in_a_closure_costs_only_its_own_write(bed: &Bed) {
        let store = bed.open().await;
        let crashed = store.write(|tx| {
            tx.insert(thing(1, "lost"))?;
            if true { panic!("on purpose") }
            Ok::<(), Error>(())
        });
        assert!(matches!(crashed.await, Err(Error::Crashed)));
        let crashed = store.read(|_: &mut Read| -> Result<(), Error> { panic!("on purpose") });
        assert!(matches!(crashed.await, Err(Error::Crashed)));
        insert(&store, vec![thing(1, "kept")]).await;
        let rows = store.read(|read: &mut Read| read.list::<Thing>(&ALL, &Query::new())).await;
        let rows = rows.expect("read");
        assert_eq!(rows.iter().filter_map(|row| row.label.as_deref()).collect::<Vec<_>>(), ["kept"]);
    }
}

//! The two databases answer alike: random rows, random queries, equal answers.

use remuda_runtime::Random;
use remuda_schema::{Id, Row, Time};
use remuda_store::{Direction, Error, Op, Query, Read, Scope, Store, Visibility};
use serde_json::{Value, json};

use crate::sample::{Bed, Thing, insert, run, thing};

const OPS: [Op; 12] = [
    Op::Eq,
    Op::Ne,
    Op::Lt,
    Op::Lte,
    Op::Gt,
    Op::Gte,
    Op::Prefix,
    Op::Like,
    Op::NotLike,
    Op::Null,
    Op::NotNull,
    Op::In,
];
const FIELDS: [&str; 14] = [
    "id",
    "name",
    "state",
    "accountId",
    "removed",
    "removeTime",
    "label",
    "size",
    "ratio",
    "flag",
    "due",
    "ownerId",
    "externalId",
    "description",
];
/// Texts that upset careless quoting, patterns and sorting.
const TEXTS: [&str; 14] = ["", "a", "A", "ab", "aB", "a%", "a_", "%", "_b", "\\", "a\\%", "'", "\"x\"", "\u{e9}"];

struct Draw<'r>(&'r Random);

impl Draw<'_> {
    fn number(&self, bound: u64) -> i64 {
        i64::try_from(self.0.below(bound)).expect("small")
    }

    fn one<T: Copy>(&self, of: &[T]) -> T {
        of[self.0.below(of.len() as u64) as usize]
    }

    fn maybe<T>(&self, value: T) -> Option<T> {
        (self.0.below(3) > 0).then_some(value)
    }

    fn row(&self) -> Row<Thing> {
        let mut row = thing(self.number(3), self.one(&TEXTS));
        row.meta.account_id = self.maybe(self.number(3));
        row.meta.name = self.maybe(self.one(&TEXTS).to_owned());
        row.meta.description = self.maybe(self.one(&TEXTS).to_owned());
        row.meta.state = self.one(&["active", "removed"]).to_owned();
        row.meta.created = Time(1);
        row.meta.removed = self.maybe(Time(self.number(4)));
        row.meta.remove_time = self.maybe(Time(self.number(4)));
        row.data = Thing {
            label: self.maybe(self.one(&TEXTS).to_owned()),
            size: self.maybe(self.number(5) - 2),
            ratio: self.maybe(self.number(5) as f64 / 2.0),
            flag: self.maybe(self.number(2) == 1),
            due: self.maybe(Time(self.number(4))),
            owner_id: self.maybe(Id::new(self.number(4))),
            is_public: self.maybe(self.number(2) == 1),
            external_id: self.maybe(self.one(&TEXTS).to_owned()),
        };
        row
    }

    fn value(&self) -> Value {
        match self.number(6) {
            0 => json!(self.number(5) - 2),
            1 => json!(self.number(5) as f64 / 2.0),
            2 => json!(self.number(2) == 1),
            3 => Value::Null,
            _ => json!(self.one(&TEXTS)),
        }
    }

    fn query(&self) -> (Scope, Query) {
        let scope = match self.number(4) {
            0 => Scope::Account(self.number(3)),
            1 => Scope::Rows((0..self.number(20)).map(|_| self.number(40)).collect()),
            _ => Scope::Everything,
        };
        let mut query = Query::new();
        for _ in 0..self.number(3) {
            let op = self.one(&OPS);
            let value = match op {
                Op::In => Value::Array((0..self.number(4)).map(|_| self.value()).collect()),
                _ => self.value(),
            };
            query = query.filter(self.one(&FIELDS), op, value);
        }
        if self.number(2) == 0 {
            query = query.sort(self.one(&FIELDS), self.one(&[Direction::Ascending, Direction::Descending]));
        }
        if self.number(3) == 0 {
            query = query.limit(self.0.below(20));
        }
        if self.number(4) == 0 {
            query = query.offset(self.0.below(10));
        }
        let listed = Visibility::Listed { now: Time(2), removed_for_ms: 1 };
        (scope, query.visibility(self.one(&[Visibility::All, Visibility::All, Visibility::Live, listed])))
    }
}

/// The rows found; `None` for a query that is refused.
async fn ask(store: &Store, scope: &Scope, query: &Query) -> Option<(Vec<i64>, u64)> {
    let (scope, query) = (scope.clone(), query.clone());
    let found = store.read(move |read: &mut Read| {
        let rows = read.list::<Thing>(&scope, &query)?;
        Ok::<_, Error>((rows.iter().map(|row| row.meta.id).collect(), read.count::<Thing>(&scope, &query)?))
    });
    match found.await {
        Ok(found) => Some(found),
        Err(Error::Query { .. }) => None,
        Err(error) => panic!("{error:?}"),
    }
}

#[test]
fn databases_answer_alike() {
    run(async {
        let (one, other) = (Bed::memory().open().await, Bed::postgres("alike").open().await);
        let seed = Random::from_os().next_u64();
        // Printed only when the test fails; put it above to see the same again.
        println!("seed {seed}");
        let random = Random::seeded(seed);
        let draw = Draw(&random);
        let rows: Vec<Row<Thing>> = (0..40).map(|_| draw.row()).collect();
        insert(&one, rows.clone()).await;
        insert(&other, rows).await;
        let mut hits = 0;
        for _ in 0..1000 {
            let (scope, query) = draw.query();
            let (first, second) = (ask(&one, &scope, &query).await, ask(&other, &scope, &query).await);
            assert_eq!(first, second, "{scope:?} {query:?}");
            hits += usize::from(first.is_some_and(|(rows, _)| !rows.is_empty()));
        }
        assert!(hits > 200, "the queries find something: {hits}");
    });
}

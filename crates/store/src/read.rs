//! Reading inside one transaction: everything seen through one [`Read`] is of one moment (on SQLite and in read-only
//! transactions; within a PostgreSQL write each statement sees what was committed when it began).

use remuda_schema::{AnyRow, Id, Resource, Row, TypeDef};

use crate::claim::{Claim, Holder};
use crate::conn::{Cells, Conn};
use crate::error::Error;
use crate::feed::{Change, Feed};
use crate::layout::{Dialect, Layout, TypeLayout};
use crate::query::{Query, Scope};
use crate::record::Record;
use crate::select::{self, Want};

/// A transaction to read from.
pub struct Read<'a> {
    pub(crate) conn: Conn<'a>,
    pub(crate) layout: &'a Layout,
}

impl Read<'_> {
    /// The row of that number, if the scope admits it. Removed rows too, until they are purged.
    pub fn get<T: Resource>(&self, scope: &Scope, id: Id<T>) -> Result<Option<Row<T>>, Error> {
        let of = self.layout.of(T::TYPE)?;
        let statement = select::by_number(of, self.conn.dialect(), scope, id.number());
        self.conn.one(&statement.text, &statement.params, |cells| self.record(of, cells)?.row())
    }

    /// The row of that number; [`Error::Missing`] when there is none in this scope.
    pub fn require<T: Resource>(&self, scope: &Scope, id: Id<T>) -> Result<Row<T>, Error> {
        self.get(scope, id)?.ok_or(Error::Missing { type_name: T::TYPE, id: id.number() })
    }

    /// The rows that match.
    pub fn list<T: Resource>(&self, scope: &Scope, query: &Query) -> Result<Vec<Row<T>>, Error> {
        let mut rows = Vec::new();
        let of = self.layout.of(T::TYPE)?;
        self.each(of, scope, query, &mut |cells| {
            rows.push(self.record(of, cells)?.row()?);
            Ok(())
        })?;
        Ok(rows)
    }

    /// The first row that matches.
    pub fn first<T: Resource>(&self, scope: &Scope, query: &Query) -> Result<Option<Row<T>>, Error> {
        Ok(self.list(scope, &query.clone().limit(1))?.pop())
    }

    /// How many rows match; limit and offset are ignored.
    pub fn count<T: Resource>(&self, scope: &Scope, query: &Query) -> Result<u64, Error> {
        self.count_of(T::TYPE, scope, query)
    }

    /// [`Read::get`] for a type known at run time.
    pub fn get_any(&self, def: &TypeDef, scope: &Scope, id: i64) -> Result<Option<AnyRow>, Error> {
        let of = self.layout.of(def.name)?;
        let statement = select::by_number(of, self.conn.dialect(), scope, id);
        self.conn.one(&statement.text, &statement.params, |cells| self.record(of, cells)?.any_row(of))
    }

    /// [`Read::list`] for a type known at run time.
    pub fn list_any(&self, def: &TypeDef, scope: &Scope, query: &Query) -> Result<Vec<AnyRow>, Error> {
        let of = self.layout.of(def.name)?;
        let mut rows = Vec::new();
        self.each(of, scope, query, &mut |cells| {
            rows.push(self.record(of, cells)?.any_row(of)?);
            Ok(())
        })?;
        Ok(rows)
    }

    /// [`Read::count`] for a type known at run time.
    pub fn count_any(&self, def: &TypeDef, scope: &Scope, query: &Query) -> Result<u64, Error> {
        self.count_of(def.name, scope, query)
    }

    fn record<'c>(&self, of: &TypeLayout, cells: &Cells<'c>) -> Result<Record<'c>, Error> {
        let record = cells.record()?;
        self.conn.saw(of.table, &record);
        Ok(record)
    }

    fn each(
        &self,
        of: &TypeLayout,
        scope: &Scope,
        query: &Query,
        see: &mut dyn FnMut(&Cells<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let statement = select::select(of, self.conn.dialect(), scope, query, Want::Rows)?;
        self.conn.each(&statement.text, &statement.params, see)
    }

    fn count_of(&self, type_name: &str, scope: &Scope, query: &Query) -> Result<u64, Error> {
        let of = self.layout.of(type_name)?;
        let statement = select::select(of, self.conn.dialect(), scope, query, Want::Count)?;
        let count = self.conn.one(&statement.text, &statement.params, |cells| cells.int(0))?;
        Ok(count.and_then(|count| u64::try_from(count).ok()).unwrap_or(0))
    }

    /// The revision that the feed ends at: what is read here is of that moment or, on PostgreSQL, a little newer.
    pub fn revision(&self) -> Result<i64, Error> {
        Ok(self.feed_bounds()?.0)
    }

    /// Where the feed ends, and up to where its records are gone.
    fn feed_bounds(&self) -> Result<(i64, i64), Error> {
        let bounds = match self.conn.dialect() {
            Dialect::Sqlite => "SELECT revision, trimmed FROM head",
            Dialect::Postgres => "SELECT durable.revision, head.trimmed FROM durable, head",
        };
        Ok(self.conn.one(bounds, &[], |cells| Ok((cells.int(0)?, cells.int(1)?)))?.unwrap_or((0, 0)))
    }

    /// Whole commits after a revision: at least one if there is one, and not many more changes than `limit`.
    pub fn changes(&self, after: i64, limit: u64) -> Result<Feed, Error> {
        let (revision, trimmed) = self.feed_bounds()?;
        if after < trimmed || after > revision {
            return Ok(Feed::TooOld);
        }
        if after == revision {
            return Ok(Feed::Changes(Vec::new()));
        }
        let limit = i64::try_from(limit.max(1)).unwrap_or(i64::MAX);
        let mut changes = Vec::new();
        self.conn.each(
            "SELECT revision, table_name, kind, row_id, account_id FROM change WHERE revision > $1 AND revision <= \
             (SELECT max(revision) FROM (SELECT revision FROM change WHERE revision > $1 AND revision <= $2 \
             ORDER BY revision LIMIT $3) AS first) ORDER BY revision, seq",
            &[after.into(), revision.into(), limit.into()],
            &mut |cells| {
                changes.push(Change {
                    revision: cells.int(0)?,
                    table: cells.text(1)?.to_owned(),
                    kind: cells.text(2)?.to_owned(),
                    id: cells.int(3)?,
                    account_id: cells.int_opt(4)?,
                });
                Ok(())
            },
        )?;
        Ok(Feed::Changes(changes))
    }

    /// All claims of one kind in one scope, by key.
    pub fn claims(&self, kind: &str, scope: i64) -> Result<Vec<Claim>, Error> {
        let claims = self.claims_where("kind = $1 AND scope = $2", &[kind.into(), scope.into()])?;
        self.conn.saw_claims(kind, scope, claims.iter().map(|claim| claim.key.as_str()));
        Ok(claims)
    }

    /// All claims that a row holds.
    pub fn claims_of(&self, holder: &Holder) -> Result<Vec<Claim>, Error> {
        self.claims_where("holder_table = $1 AND holder_id = $2", &[(&holder.table).into(), holder.id.into()])
    }

    fn claims_where(&self, condition: &str, params: &[crate::param::Param<'_>]) -> Result<Vec<Claim>, Error> {
        let order = match self.conn.dialect() {
            Dialect::Sqlite => "key",
            Dialect::Postgres => "key COLLATE \"C\"",
        };
        let mut claims = Vec::new();
        self.conn.each(
            &format!(
                "SELECT kind, scope, key, holder_table, holder_id FROM claim WHERE {condition} \
                 ORDER BY kind, scope, {order}"
            ),
            params,
            &mut |cells| {
                claims.push(Claim {
                    kind: cells.text(0)?.to_owned(),
                    scope: cells.int(1)?,
                    key: cells.text(2)?.to_owned(),
                    holder: Holder { table: cells.text(3)?.to_owned(), id: cells.int(4)? },
                });
                Ok(())
            },
        )?;
        Ok(claims)
    }

    /// Who holds a claim, if anybody does.
    pub fn claim_holder(&self, kind: &str, scope: i64, key: &str) -> Result<Option<Holder>, Error> {
        let holder = self.conn.one(
            "SELECT holder_table, holder_id FROM claim WHERE kind = $1 AND scope = $2 AND key = $3",
            &[kind.into(), scope.into(), key.into()],
            |cells| Ok(Holder { table: cells.text(0)?.to_owned(), id: cells.int(1)? }),
        )?;
        if holder.is_none() {
            self.conn.saw_free(kind, scope, key);
        }
        Ok(holder)
    }

    /// A value of the store's own small dictionary.
    pub fn meta(&self, key: &str) -> Result<Option<String>, Error> {
        self.conn.one("SELECT value FROM meta WHERE key = $1", &[key.into()], |cells| Ok(cells.text(0)?.to_owned()))
    }
}

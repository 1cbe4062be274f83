//! The thin layer under which the two databases look alike: run a statement, look at the rows.

use crate::claim::{Claim, Holder};
use crate::error::Error;
use crate::layout::Dialect;
use crate::param::Param;
use crate::record::Record;
use crate::{postgres, sqlite};

/// A connection inside a transaction.
#[derive(Clone, Copy)]
pub(crate) enum Conn<'a> {
    Sqlite(&'a rusqlite::Connection),
    Postgres(&'a postgres::Session),
}

/// One row of an answer, by column number.
pub(crate) enum Cells<'a> {
    Sqlite(&'a rusqlite::Row<'a>),
    Postgres(&'a tokio_postgres::Row),
}

impl Conn<'_> {
    pub(crate) fn dialect(&self) -> Dialect {
        match self {
            Conn::Sqlite(_) => Dialect::Sqlite,
            Conn::Postgres(_) => Dialect::Postgres,
        }
    }

    /// Runs a statement and shows every row of the answer. Placeholders are `$1`, `$2`… and appear in that order.
    pub(crate) fn each(
        &self,
        text: &str,
        params: &[Param<'_>],
        see: &mut dyn FnMut(&Cells<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        match self {
            Conn::Sqlite(connection) => sqlite::each(connection, text, params, see),
            Conn::Postgres(session) => session.each(text, params, see),
        }
    }

    /// Runs a statement whose answer has at most one row that matters.
    pub(crate) fn one<R>(
        &self,
        text: &str,
        params: &[Param<'_>],
        mut see: impl FnMut(&Cells<'_>) -> Result<R, Error>,
    ) -> Result<Option<R>, Error> {
        let mut seen = None;
        self.each(text, params, &mut |cells| {
            if seen.is_none() {
                seen = Some(see(cells)?);
            }
            Ok(())
        })?;
        Ok(seen)
    }

    /// Runs a statement without an answer; gives the number of rows it touched.
    pub(crate) fn execute(&self, text: &str, params: &[Param<'_>]) -> Result<u64, Error> {
        match self {
            Conn::Sqlite(connection) => sqlite::execute(connection, text, params),
            Conn::Postgres(session) => session.execute(text, params),
        }
    }

    /// Remembers a row that a write has read. On SQLite nobody can change it before the write ends.
    pub(crate) fn saw(&self, table: &'static str, record: &Record<'_>) {
        if let Conn::Postgres(session) = self {
            session.saw(table, record.id, record.revision);
        }
    }

    /// Gives up a write that found a row changed. When the write had read the row itself it is run again: the caller
    /// could do no better.
    pub(crate) fn found_changed(&self, table: &'static str, id: i64, expected: i64, found: i64) -> Error {
        let error = Error::Changed { table, id, expected, found };
        if let Conn::Postgres(session) = self {
            session.found_changed(table, id, expected, &error);
        }
        error
    }

    /// Remembers that nobody had a claim when a write looked. On SQLite nobody can take it before the write ends.
    pub(crate) fn saw_free(&self, kind: &str, scope: i64, key: &str) {
        if let Conn::Postgres(session) = self {
            session.saw_free(kind, scope, key);
        }
    }

    /// Remembers all claims of a scope that there were when a write looked.
    pub(crate) fn saw_claims<'k>(&self, kind: &str, scope: i64, keys: impl Iterator<Item = &'k str>) {
        if let Conn::Postgres(session) = self {
            session.saw_claims(kind, scope, keys);
        }
    }

    /// Refuses a claim that another holder has. When the write saw it free it is run again: it would have chosen another.
    pub(crate) fn found_claimed(&self, claim: &Claim, holder: Holder) -> Error {
        let error = Error::Claimed { claim: claim.clone(), holder };
        if let Conn::Postgres(session) = self {
            session.found_claimed(claim, &error);
        }
        error
    }

    /// Runs several statements without values.
    pub(crate) fn batch(&self, text: &str) -> Result<(), Error> {
        match self {
            Conn::Sqlite(connection) => connection.execute_batch(text).map_err(|e| sqlite::failure("batch", e)),
            Conn::Postgres(session) => session.batch(text),
        }
    }
}

impl<'a> Cells<'a> {
    pub(crate) fn int(&self, idx: usize) -> Result<i64, Error> {
        match self {
            Cells::Sqlite(row) => row.get(idx).map_err(sqlite::unreadable),
            Cells::Postgres(row) => row.try_get(idx).map_err(postgres::unreadable),
        }
    }

    pub(crate) fn int_opt(&self, idx: usize) -> Result<Option<i64>, Error> {
        match self {
            Cells::Sqlite(row) => row.get(idx).map_err(sqlite::unreadable),
            Cells::Postgres(row) => row.try_get(idx).map_err(postgres::unreadable),
        }
    }

    pub(crate) fn text_opt(&self, idx: usize) -> Result<Option<&'a str>, Error> {
        match self {
            Cells::Sqlite(row) => {
                let value = row.get_ref(idx).map_err(sqlite::unreadable)?;
                value.as_str_or_null().map_err(|e| sqlite::unreadable(e.into()))
            }
            Cells::Postgres(row) => row.try_get(idx).map_err(postgres::unreadable),
        }
    }

    pub(crate) fn text(&self, idx: usize) -> Result<&'a str, Error> {
        Ok(self.text_opt(idx)?.unwrap_or_default())
    }

    fn json(&self, idx: usize) -> Result<&'a str, Error> {
        match self {
            Cells::Sqlite(_) => self.text(idx),
            Cells::Postgres(row) => {
                row.try_get::<_, postgres::JsonText<'_>>(idx).map(|json| json.0).map_err(postgres::unreadable)
            }
        }
    }

    /// The row of a table, read by `layout::COLUMNS`.
    pub(crate) fn record(&self) -> Result<Record<'a>, Error> {
        Ok(Record {
            id: self.int(0)?,
            kind: self.text(1)?,
            account_id: self.int_opt(2)?,
            uuid: self.text(3)?,
            name: self.text_opt(4)?,
            state: self.text(5)?,
            created: self.int(6)?,
            removed: self.int_opt(7)?,
            remove_time: self.int_opt(8)?,
            revision: self.int(9)?,
            body: self.json(10)?,
        })
    }
}

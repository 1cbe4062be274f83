//! Writing inside one transaction: rows, claims, counters, leases. The commit gives the revision.

use std::collections::BTreeMap;
use std::ops::Deref;

use remuda_runtime::{Clock, Random};
use remuda_schema::{AnyRow, Meta, Resource, Row, Time, TypeDef};
use serde::Serialize;

use crate::body::body;
use crate::claim::{Claim, Holder};
use crate::error::Error;
use crate::layout::{Dialect, Table};
use crate::lease::Lease;
use crate::param::Param;
use crate::query::Scope;
use crate::read::Read;
use crate::select;

/// A transaction to write to; reads see its own writes. Dereferences to [`Read`].
pub struct Tx<'a> {
    read: Read<'a>,
    clock: &'a Clock,
    random: &'a Random,
    written: Written,
}

/// The rows a transaction has written, each once, in the order of their first write.
#[derive(Default)]
pub(crate) struct Written {
    places: BTreeMap<(&'static str, i64), usize>,
    rows: Vec<WrittenRow>,
}

pub(crate) struct WrittenRow {
    pub(crate) table: &'static str,
    pub(crate) id: i64,
    pub(crate) kind: String,
    pub(crate) account_id: Option<i64>,
}

/// What a write gave, and when it took effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed<R> {
    pub value: R,
    /// Revision of the commit; that of the last commit before it when nothing changed.
    pub revision: i64,
}

impl<'a> Deref for Tx<'a> {
    type Target = Read<'a>;

    fn deref(&self) -> &Read<'a> {
        &self.read
    }
}

impl<'a> Tx<'a> {
    pub(crate) fn new(read: Read<'a>, clock: &'a Clock, random: &'a Random) -> Tx<'a> {
        Tx { read, clock, random, written: Written::default() }
    }

    pub(crate) fn written(&self) -> &[WrittenRow] {
        &self.written.rows
    }

    /// Milliseconds since the epoch by this process's clock.
    pub(crate) fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// Inserts a row and gives it back with its number, its uuid (made when empty) and its creation time (now when 0).
    /// A number that is not 0 is kept; it must be free. The revision is known after the commit.
    pub fn insert<T: Resource>(&mut self, mut row: Row<T>) -> Result<Row<T>, Error> {
        self.insert_parts(T::TYPE, &mut row.meta, &row.data)?;
        Ok(row)
    }

    /// [`Tx::insert`] for a type known at run time.
    pub fn insert_any(&mut self, def: &TypeDef, mut row: AnyRow) -> Result<AnyRow, Error> {
        self.insert_parts(def.name, &mut row.meta, &row.data)?;
        Ok(row)
    }

    /// Writes a row back. [`Error::Changed`] when somebody else wrote it since it was read, unless this transaction has
    /// written it already. A row that is as stored is not written: it keeps its revision and makes no change record.
    /// Number, uuid and creation time never change. A row whose kind has fields that `T` lacks keeps those.
    pub fn update<T: Resource>(&mut self, row: &mut Row<T>) -> Result<(), Error> {
        let of = self.read.layout.of(T::TYPE)?;
        if !of.richer.contains(row.meta.kind.as_str()) {
            return self.update_parts(T::TYPE, &mut row.meta, &row.data);
        }
        let statement = select::by_number(of, self.read.conn.dialect(), &Scope::Everything, row.meta.id);
        let stored = self.read.conn.one(&statement.text, &statement.params, |cells| cells.record()?.any_row(of))?;
        let mut data = stored.ok_or(Error::Missing { type_name: T::TYPE, id: row.meta.id })?.data;
        data.retain(|field, _| !of.declares(field));
        let own = row.to_any().map_err(|error| Error::Unstorable { table: of.table, reason: error.to_string() })?;
        data.extend(own.data);
        self.update_parts(T::TYPE, &mut row.meta, &data)
    }

    /// [`Tx::update`] for a type known at run time.
    pub fn update_any(&mut self, def: &TypeDef, row: &mut AnyRow) -> Result<(), Error> {
        self.update_parts(def.name, &mut row.meta, &row.data)
    }

    /// Deletes a row for good, and the claims it holds. `false`: it was not there. For purged rows and types without states.
    pub fn delete_any(&mut self, def: &TypeDef, id: i64) -> Result<bool, Error> {
        let table = self.table_of(def.name)?;
        self.delete_from(table, id)
    }

    /// [`Tx::delete_any`] by table name.
    pub(crate) fn delete_row(&mut self, table: &'static str, id: i64) -> Result<bool, Error> {
        let table = self.read.layout.table(table)?;
        self.delete_from(table, id)
    }

    fn delete_from(&mut self, table: &'a Table, id: i64) -> Result<bool, Error> {
        let gone = self
            .read
            .conn
            .one(&table.delete, &[id.into()], |cells| Ok((cells.text(0)?.to_owned(), cells.int_opt(1)?)))?;
        let Some((kind, account_id)) = gone else { return Ok(false) };
        self.release_all(&Holder::new(table.name, id))?;
        self.written.note(WrittenRow { table: table.name, id, kind, account_id });
        Ok(true)
    }

    fn table_of(&self, type_name: &str) -> Result<&'a Table, Error> {
        let layout = self.read.layout;
        layout.table(layout.of(type_name)?.table)
    }

    fn insert_parts<T: Serialize>(&mut self, type_name: &str, meta: &mut Meta, data: &T) -> Result<(), Error> {
        let table = self.table_of(type_name)?;
        if meta.uuid.is_empty() {
            meta.uuid = self.random.uuid();
        }
        if meta.created.0 == 0 {
            meta.created = Time(self.clock.now_ms());
        }
        let body = body(table.name, meta, data)?;
        let mut params: Vec<Param<'_>> = vec![
            (&meta.kind).into(),
            meta.account_id.into(),
            (&meta.uuid).into(),
            meta.name.as_ref().into(),
            (&meta.state).into(),
            meta.created.0.into(),
            meta.removed.map(|at| at.0).into(),
            meta.remove_time.map(|at| at.0).into(),
            Param::Json(body.into()),
        ];
        let numbered = meta.id != 0;
        if numbered {
            params.push(meta.id.into());
        }
        let statement = if numbered { &table.insert_numbered } else { &table.insert };
        let Some(id) = self.read.conn.one(statement, &params, |cells| cells.int(0))? else {
            let taken = numbered && self.read.conn.one(&table.locate, &[meta.id.into()], |_| Ok(()))?.is_some();
            return Err(if taken {
                Error::NotUnique { table: table.name, field: "id", value: meta.id.to_string() }
            } else {
                Error::NotUnique { table: table.name, field: "uuid", value: meta.uuid.clone() }
            });
        };
        if numbered && self.read.conn.dialect() == Dialect::Postgres {
            // SQLite remembers the highest number by itself.
            self.read.conn.one(
                &format!(
                    "SELECT setval(pg_get_serial_sequence('\"{0}\"', 'id'), GREATEST((SELECT max(id) FROM \"{0}\"), \
                     nextval(pg_get_serial_sequence('\"{0}\"', 'id'))))",
                    table.name
                ),
                &[],
                |_| Ok(()),
            )?;
        }
        meta.id = id;
        meta.revision = 0;
        self.note(table, meta);
        Ok(())
    }

    fn update_parts<T: Serialize>(&mut self, type_name: &str, meta: &mut Meta, data: &T) -> Result<(), Error> {
        let of = self.read.layout.of(type_name)?;
        let (table, type_name) = (self.table_of(type_name)?, of.name);
        let body = body(table.name, meta, data)?;
        let mine = self.written.has(table.name, meta.id);
        let mut params: Vec<Param<'_>> = vec![
            (&meta.kind).into(),
            meta.account_id.into(),
            meta.name.as_ref().into(),
            (&meta.state).into(),
            meta.removed.map(|at| at.0).into(),
            meta.remove_time.map(|at| at.0).into(),
            Param::Json(body.into()),
            meta.id.into(),
        ];
        if !mine {
            params.push(meta.revision.into());
        }
        let statement = if mine { &table.update_written } else { &table.update };
        if self.read.conn.execute(statement, &params)? == 0 {
            let found = self.read.conn.one(&table.locate, &[meta.id.into()], |cells| cells.int(0))?;
            return match found {
                None => Err(Error::Missing { type_name, id: meta.id }),
                Some(found) if !mine && found != meta.revision => {
                    Err(self.read.conn.found_changed(table.name, meta.id, meta.revision, found))
                }
                Some(_) => Ok(()),
            };
        }
        meta.revision = 0;
        self.note(table, meta);
        Ok(())
    }

    fn note(&mut self, table: &'a Table, meta: &Meta) {
        self.written.note(WrittenRow {
            table: table.name,
            id: meta.id,
            kind: meta.kind.clone(),
            account_id: meta.account_id,
        });
    }

    /// Takes a claim for its holder. Taking it again is fine; [`Error::Claimed`] when another holder has it.
    pub fn claim(&mut self, claim: &Claim) -> Result<(), Error> {
        let params: [Param<'_>; 5] = [
            (&claim.kind).into(),
            claim.scope.into(),
            (&claim.key).into(),
            (&claim.holder.table).into(),
            claim.holder.id.into(),
        ];
        // On PostgreSQL the holder found in the way may be gone when we look for it: try again, not forever.
        for _ in 0..10 {
            let taken = self.read.conn.execute(
                "INSERT INTO claim (kind, scope, key, holder_table, holder_id) VALUES ($1, $2, $3, $4, $5) \
                 ON CONFLICT (kind, scope, key) DO NOTHING",
                &params,
            )?;
            if taken == 1 {
                return Ok(());
            }
            match self.claim_holder(&claim.kind, claim.scope, &claim.key)? {
                Some(holder) if holder == claim.holder => return Ok(()),
                Some(holder) => return Err(self.read.conn.found_claimed(claim, holder)),
                None => {}
            }
        }
        Err(Error::Claimed { claim: claim.clone(), holder: Holder::new("unknown", 0) })
    }

    /// Gives a claim back. `false`: this holder did not have it.
    pub fn release(&mut self, claim: &Claim) -> Result<bool, Error> {
        let released = self.read.conn.execute(
            "DELETE FROM claim WHERE kind = $1 AND scope = $2 AND key = $3 AND holder_table = $4 AND holder_id = $5",
            &[
                (&claim.kind).into(),
                claim.scope.into(),
                (&claim.key).into(),
                (&claim.holder.table).into(),
                claim.holder.id.into(),
            ],
        )?;
        Ok(released > 0)
    }

    /// Gives back every claim of a row; how many there were.
    pub fn release_all(&mut self, holder: &Holder) -> Result<u64, Error> {
        self.read.conn.execute(
            "DELETE FROM claim WHERE holder_table = $1 AND holder_id = $2",
            &[(&holder.table).into(), holder.id.into()],
        )
    }

    /// The next value of a counter, from 1. Never the same twice, except when the transaction does not commit.
    pub fn counter(&mut self, name: &str) -> Result<i64, Error> {
        let value = self.read.conn.one(
            "INSERT INTO counter (name, value) VALUES ($1, 1) ON CONFLICT (name) DO UPDATE SET value = counter.value + 1 \
             RETURNING value",
            &[name.into()],
            |cells| cells.int(0),
        )?;
        Ok(value.unwrap_or(1))
    }

    /// Sets a value of the store's own small dictionary.
    pub fn meta_set(&mut self, key: &str, value: &str) -> Result<(), Error> {
        self.read.conn.execute(
            "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            &[key.into(), value.into()],
        )?;
        Ok(())
    }

    /// Takes or renews a lease for `ttl_ms`; `None` while another owner has it. The epoch grows whenever the lease passes
    /// to another owner or had run out, so that what was decided before can be told apart.
    pub fn lease_take(&mut self, name: &str, owner: &str, ttl_ms: i64) -> Result<Option<Lease>, Error> {
        let now = self.lease_clock();
        let statement = format!(
            "INSERT INTO lease (name, owner, epoch, until_ms) VALUES ($1, $2, 1, {now} + $3) ON CONFLICT (name) DO \
             UPDATE SET owner = excluded.owner, epoch = CASE WHEN lease.owner = excluded.owner AND lease.until_ms > {now} \
             THEN lease.epoch ELSE lease.epoch + 1 END, until_ms = excluded.until_ms \
             WHERE lease.owner = excluded.owner OR lease.until_ms <= {now} RETURNING epoch, until_ms"
        );
        self.read.conn.one(&statement, &[name.into(), owner.into(), ttl_ms.into()], |cells| {
            let until = Time(cells.int(1)?);
            Ok(Lease { name: name.to_owned(), owner: owner.to_owned(), epoch: cells.int(0)?, until })
        })
    }

    /// [`Error::LeaseLost`] unless the lease is still held in its epoch; nobody can take it before this transaction ends.
    pub fn lease_check(&mut self, lease: &Lease) -> Result<(), Error> {
        let now = self.lease_clock();
        let lock = if self.read.conn.dialect() == Dialect::Postgres { " FOR SHARE" } else { "" };
        let statement =
            format!("SELECT 1 FROM lease WHERE name = $1 AND owner = $2 AND epoch = $3 AND until_ms > {now}{lock}");
        let held = self.read.conn.one(
            &statement,
            &[(&lease.name).into(), (&lease.owner).into(), lease.epoch.into()],
            |_| Ok(()),
        )?;
        held.ok_or_else(|| Error::LeaseLost { name: lease.name.clone(), epoch: lease.epoch })
    }

    /// Gives a lease up at once. `false`: it was not held any more.
    pub fn lease_release(&mut self, lease: &Lease) -> Result<bool, Error> {
        let released = self.read.conn.execute(
            "UPDATE lease SET until_ms = 0 WHERE name = $1 AND owner = $2 AND epoch = $3",
            &[(&lease.name).into(), (&lease.owner).into(), lease.epoch.into()],
        )?;
        Ok(released > 0)
    }

    /// Names of the leases with that prefix that somebody holds now.
    pub fn leases_held(&mut self, prefix: &str) -> Result<Vec<String>, Error> {
        let statement = format!(
            "SELECT name FROM lease WHERE substr(name, 1, length($1)) = $1 AND until_ms > {} ORDER BY name",
            self.lease_clock()
        );
        let mut names = Vec::new();
        self.read.conn.each(&statement, &[prefix.into()], &mut |cells| {
            names.push(cells.text(0)?.to_owned());
            Ok(())
        })?;
        Ok(names)
    }

    /// Now, for leases: the one clock all servers share. With SQLite there is one server, and its clock is ours.
    fn lease_clock(&self) -> String {
        match self.read.conn.dialect() {
            Dialect::Postgres => "(extract(epoch FROM clock_timestamp()) * 1000)::bigint".to_owned(),
            Dialect::Sqlite => self.clock.now_ms().to_string(),
        }
    }

    /// What comes last in a transaction on a database with one writer: takes the revision and records the changes.
    /// `None` when no row was written.
    pub(crate) fn finish_single_writer(&mut self) -> Result<Option<i64>, Error> {
        if self.written.rows.is_empty() {
            return Ok(None);
        }
        let at = self.now_ms();
        let taken = self
            .read
            .conn
            .one("UPDATE head SET revision = revision + 1 RETURNING revision", &[], |cells| cells.int(0))?;
        let revision = taken.ok_or(Error::Missing { type_name: "head", id: 1 })?;
        for (row, seq) in self.written.rows.iter().zip(0_i64..) {
            self.read.conn.execute(
                "INSERT INTO change (revision, seq, table_name, kind, row_id, account_id, at) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7)",
                &[
                    revision.into(),
                    seq.into(),
                    row.table.into(),
                    (&row.kind).into(),
                    row.id.into(),
                    row.account_id.into(),
                    at.into(),
                ],
            )?;
        }
        Ok(Some(revision))
    }
}

impl Written {
    fn has(&self, table: &'static str, id: i64) -> bool {
        self.places.contains_key(&(table, id))
    }

    fn note(&mut self, row: WrittenRow) {
        match self.places.get(&(row.table, row.id)) {
            Some(place) => self.rows[*place] = row,
            None => {
                self.places.insert((row.table, row.id), self.rows.len());
                self.rows.push(row);
            }
        }
    }
}

//! Bringing a database up to date at open: numbered migrations for the store's own tables, then the row tables that the
//! registry asks for. Runs inside one transaction that nobody else runs at the time.
//!
//! Migrations are only ever appended: each is recorded with a checksum of its text, and a database whose record differs
//! is refused. Row tables need no migrations: their columns are fixed, and indexes are made when they are missing.

use std::collections::{BTreeMap, BTreeSet};

use remuda_runtime::Seams;
use ring::digest::{SHA256, digest};

use crate::conn::Conn;
use crate::error::OpenError;
use crate::feed::Identity;
use crate::layout::{Dialect, Layout};
use crate::{postgres, sqlite};

/// One migration, in both dialects.
pub(crate) struct Migration {
    pub(crate) number: i64,
    pub(crate) name: &'static str,
    pub(crate) sqlite: &'static str,
    pub(crate) postgres: &'static str,
}

/// Append only.
pub(crate) const MIGRATIONS: &[Migration] = &[
    Migration {
        number: 1,
        name: "base",
        sqlite: include_str!("migrations/sqlite/0001_base.sql"),
        postgres: include_str!("migrations/postgres/0001_base.sql"),
    },
    Migration {
        number: 2,
        name: "durable",
        sqlite: include_str!("migrations/sqlite/0002_durable.sql"),
        postgres: include_str!("migrations/postgres/0002_durable.sql"),
    },
];

impl Migration {
    pub(crate) fn text(&self, dialect: Dialect) -> &'static str {
        match dialect {
            Dialect::Sqlite => self.sqlite,
            Dialect::Postgres => self.postgres,
        }
    }

    pub(crate) fn checksum(&self, dialect: Dialect) -> String {
        digest(&SHA256, self.text(dialect).as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Brings the database up to date; gives its identity and its revision.
pub(crate) fn run(conn: Conn<'_>, layout: &Layout, seams: &Seams) -> Result<(Identity, i64), OpenError> {
    let dialect = conn.dialect();
    conn.batch(
        "CREATE TABLE IF NOT EXISTS migration (number BIGINT PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL, \
         applied BIGINT NOT NULL)",
    )?;
    let mut applied = BTreeMap::new();
    conn.each("SELECT number, name, checksum FROM migration", &[], &mut |cells| {
        applied.insert(cells.int(0)?, (cells.text(1)?.to_owned(), cells.text(2)?.to_owned()));
        Ok(())
    })?;
    let known = MIGRATIONS.last().map_or(0, |last| last.number);
    if let Some(found) = applied.keys().next_back().copied().filter(|found| *found > known) {
        return Err(OpenError::Newer { found, known });
    }
    for migration in MIGRATIONS {
        let checksum = migration.checksum(dialect);
        match applied.get(&migration.number) {
            Some((_, recorded)) if *recorded == checksum => {}
            Some((name, _)) => {
                return Err(OpenError::ForeignMigration { number: migration.number, name: name.clone() });
            }
            None => {
                conn.batch(migration.text(dialect))?;
                conn.execute(
                    "INSERT INTO migration (number, name, checksum, applied) VALUES ($1, $2, $3, $4)",
                    &[migration.number.into(), migration.name.into(), checksum.into(), seams.clock.now_ms().into()],
                )?;
            }
        }
    }

    let mut existing = BTreeSet::new();
    let question = match dialect {
        Dialect::Sqlite => sqlite::EXISTING,
        Dialect::Postgres => postgres::EXISTING,
    };
    conn.each(question, &[], &mut |cells| {
        existing.insert(cells.text(0)?.to_owned());
        Ok(())
    })?;
    let missing = layout.statements(dialect).into_iter().filter(|(name, _)| !existing.contains(name));
    let missing = missing.map(|(_, statement)| statement).collect::<Vec<_>>().join(";\n");
    if !missing.is_empty() {
        conn.batch(&missing)?;
    }

    conn.execute(
        "INSERT INTO head (one, revision, store_id, epoch, trimmed) VALUES (1, 0, $1, 1, 0) ON CONFLICT (one) DO NOTHING",
        &[seams.random.uuid().into()],
    )?;
    let head = conn.one("SELECT store_id, epoch, revision FROM head", &[], |cells| {
        Ok((Identity { store_id: cells.text(0)?.to_owned(), epoch: cells.int(1)? }, cells.int(2)?))
    })?;
    Ok(head.unwrap_or((Identity { store_id: String::new(), epoch: 0 }, 0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was released once is never edited: a changed text would not run on databases that have it. Append a line
    /// here with every migration; never change one.
    #[test]
    fn migrations_are_only_appended() {
        let released = [(1, "fbef0dcad6f07302", "b9ba47a7b260d7a8"), (2, "d4548f9abdf22dc9", "43933e5815e18d9b")];
        let found: Vec<(i64, String, String)> = MIGRATIONS
            .iter()
            .map(|one| {
                (
                    one.number,
                    one.checksum(Dialect::Sqlite)[..16].to_owned(),
                    one.checksum(Dialect::Postgres)[..16].to_owned(),
                )
            })
            .collect();
        let found: Vec<(i64, &str, &str)> =
            found.iter().map(|(number, a, b)| (*number, a.as_str(), b.as_str())).collect();
        assert_eq!(found, released);
        assert!(MIGRATIONS.iter().zip(1..).all(|(one, number)| one.number == number));
    }
}

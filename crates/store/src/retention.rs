//! Bounded growth: old change records, purged rows and aged logs leave the database in small steps.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::Error;
use crate::read::Read;
use crate::write::Tx;

/// How long things are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Change records older than this may go. A follower further behind lists again.
    pub changes_older_ms: i64,
    /// More change records than this are not kept, however young.
    pub max_changes: i64,
    /// Rows in state `purged` stay this long after their remove time.
    pub purged_after_ms: i64,
    /// Tables whose rows end in state `removed`, because their type has no purge: those go like purged ones.
    pub removed_is_final: BTreeSet<String>,
    /// Tables whose rows go by age alone (audit logs, events), with the age.
    pub aged: BTreeMap<String, i64>,
}

impl Default for Retention {
    fn default() -> Retention {
        const DAY_MS: i64 = 24 * 60 * 60 * 1000;
        Retention {
            changes_older_ms: DAY_MS,
            max_changes: 1_000_000,
            purged_after_ms: 7 * DAY_MS,
            removed_is_final: BTreeSet::new(),
            aged: BTreeMap::new(),
        }
    }
}

/// What a trim removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trimmed {
    pub changes: u64,
    pub rows: u64,
}

/// Rows or records removed per transaction: short enough that no other writer notices.
pub(crate) const STEP: i64 = 1000;

/// The newest revision whose change records may go; 0 for none.
pub(crate) fn horizon(read: &Read<'_>, retention: &Retention, now_ms: i64) -> Result<i64, Error> {
    let oldest_kept = now_ms.saturating_sub(retention.changes_older_ms);
    // Revisions grow with time: the first record that is young enough ends the old ones.
    let young = read.conn.one(
        "SELECT revision FROM change WHERE at >= $1 ORDER BY revision LIMIT 1",
        &[oldest_kept.into()],
        |cells| cells.int(0),
    )?;
    let by_age = match young {
        Some(first_kept) => first_kept - 1,
        None => read.revision()?,
    };
    let by_count = read.conn.one(
        "SELECT revision FROM change ORDER BY revision DESC LIMIT 1 OFFSET $1",
        &[retention.max_changes.max(0).into()],
        |cells| cells.int(0),
    )?;
    Ok(by_age.max(by_count.unwrap_or(0)))
}

/// Removes some change records up to a revision. Whole revisions go; followers behind them hear `TooOld`.
pub(crate) fn trim_changes(tx: &mut Tx<'_>, horizon: i64) -> Result<u64, Error> {
    let step = tx.conn.one(
        "SELECT max(revision) FROM (SELECT revision FROM change WHERE revision <= $1 ORDER BY revision LIMIT $2) AS first",
        &[horizon.into(), STEP.into()],
        |cells| cells.int_opt(0),
    )?;
    let Some(upto) = step.flatten() else { return Ok(0) };
    let removed = tx.conn.execute("DELETE FROM change WHERE revision <= $1", &[upto.into()])?;
    tx.conn.execute("UPDATE head SET trimmed = $1 WHERE trimmed < $1", &[upto.into()])?;
    Ok(removed)
}

/// Which rows of a table have been kept for long enough.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    table: &'static str,
    aged: bool,
    /// With `$1` for `before`.
    condition: &'static str,
    before: i64,
}

impl Ended {
    pub(crate) fn new(table: &'static str, retention: &Retention, now_ms: i64) -> Ended {
        let ended_before = now_ms.saturating_sub(retention.purged_after_ms);
        let age_ms = retention.aged.get(table).copied();
        let (condition, before) = match age_ms {
            Some(age) => ("created < $1", now_ms.saturating_sub(age)),
            None if retention.removed_is_final.contains(table) => {
                ("state IN ('purged', 'removed') AND COALESCE(remove_time, removed, created) < $1", ended_before)
            }
            None => ("state = 'purged' AND COALESCE(remove_time, removed, created) < $1", ended_before),
        };
        Ended { table, aged: age_ms.is_some(), condition, before }
    }

    /// Some of them. Found in a read, because looking through a large table must not keep writers waiting.
    pub(crate) fn find(&self, read: &Read<'_>) -> Result<Vec<i64>, Error> {
        let Ended { table, condition, .. } = self;
        let statement = if self.aged {
            // Rows that go by age alone were inserted in that order: look at the first ones only.
            format!(
                "SELECT id FROM (SELECT id, created FROM \"{table}\" ORDER BY id LIMIT $2) AS first \
                 WHERE {condition} ORDER BY id"
            )
        } else {
            format!("SELECT id FROM \"{table}\" WHERE {condition} ORDER BY id LIMIT $2")
        };
        let mut ids = Vec::new();
        read.conn.each(&statement, &[self.before.into(), STEP.into()], &mut |cells| {
            ids.push(cells.int(0)?);
            Ok(())
        })?;
        Ok(ids)
    }

    /// Deletes those of the rows for which it still holds.
    pub(crate) fn delete(&self, tx: &mut Tx<'_>, ids: &[i64]) -> Result<u64, Error> {
        let still = format!("SELECT id FROM \"{}\" WHERE {} AND id = $2", self.table, self.condition);
        let mut removed = 0;
        for id in ids {
            if tx.conn.one(&still, &[self.before.into(), (*id).into()], |_| Ok(()))?.is_some() {
                removed += u64::from(tx.delete_row(self.table, *id)?);
            }
        }
        Ok(removed)
    }
}

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

/// Deletes some rows of a table that have been purged for long enough, or that are old when `age_ms` says how old.
pub(crate) fn trim_rows(
    tx: &mut Tx<'_>,
    table: &'static str,
    retention: &Retention,
    age_ms: Option<i64>,
    now_ms: i64,
) -> Result<u64, Error> {
    let ended_before = now_ms.saturating_sub(retention.purged_after_ms);
    let (condition, before) = match age_ms {
        Some(age) => ("created < $1", now_ms.saturating_sub(age)),
        None if retention.removed_is_final.contains(table) => {
            ("state IN ('purged', 'removed') AND COALESCE(remove_time, removed, created) < $1", ended_before)
        }
        None => ("state = 'purged' AND COALESCE(remove_time, removed, created) < $1", ended_before),
    };
    let mut ids = Vec::new();
    tx.conn.each(
        &format!("SELECT id FROM \"{table}\" WHERE {condition} ORDER BY id LIMIT $2"),
        &[before.into(), STEP.into()],
        &mut |cells| {
            ids.push(cells.int(0)?);
            Ok(())
        },
    )?;
    let mut removed = 0;
    for id in ids {
        removed += u64::from(tx.delete_row(table, id)?);
    }
    Ok(removed)
}

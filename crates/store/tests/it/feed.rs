//! The change feed: every commit, whole, in order, never late, whatever the writers do.

use remuda_schema::{Id, Row};
use remuda_store::{Change, Error, Feed, Query, Read, Retention, Scope, Store};

use crate::on_each_store;
use crate::sample::{Bed, Gadget, Thing, insert, registry, run, thing};

const ALL: Scope = Scope::Everything;
const WRITERS: usize = 8;
const WRITES: usize = 25;

fn changes(feed: Feed) -> Vec<Change> {
    match feed {
        Feed::Changes(changes) => changes,
        Feed::TooOld => panic!("the feed should reach back that far"),
    }
}

/// Follows the feed to a revision and gives everything it showed.
async fn follow(store: &Store, upto: i64) -> Vec<Change> {
    let mut seen: Vec<Change> = Vec::new();
    loop {
        let after = seen.last().map_or(0, |change| change.revision);
        let more = changes(store.changes(after, 7).await.expect("the feed is read"));
        if more.is_empty() {
            if after >= upto {
                return seen;
            }
            store.newest().reached(after + 1).await;
        }
        seen.extend(more);
    }
}

on_each_store! {
    async fn a_commit_is_recorded_once_per_row(bed: &Bed) {
        let store = bed.open().await;
        let def = registry().get("thing").expect("declared");
        insert(&store, vec![thing(1, "a"), thing(2, "b")]).await;
        let second = store.write(move |tx| {
            let mut first: Row<Thing> = tx.require(&ALL, Id::new(1))?;
            first.data.size = Some(1);
            tx.update(&mut first)?;
            first.data.size = Some(2);
            tx.update(&mut first)?;
            tx.insert(Row::new(None, "active", Gadget::default()))?;
            tx.delete_any(def, 2)?;
            Ok::<_, Error>(())
        });
        assert_eq!(second.await.expect("written").revision, 2);
        let change = |revision, kind: &str, id, account_id| {
            Change { revision, table: "thing".into(), kind: kind.into(), id, account_id }
        };
        let expected = [
            change(1, "thing", 1, Some(1)),
            change(1, "thing", 2, Some(2)),
            change(2, "thing", 1, Some(1)),
            change(2, "gadget", 3, None),
            change(2, "thing", 2, Some(2)),
        ];
        // A limit never cuts a commit in two.
        assert_eq!(changes(store.changes(0, 100).await.expect("read")), expected);
        assert_eq!(changes(store.changes(0, 1).await.expect("read")), expected[..2]);
        assert_eq!(changes(store.changes(0, 3).await.expect("read")), expected);
        assert_eq!(changes(store.changes(1, 1).await.expect("read")), expected[2..]);
        assert_eq!(changes(store.changes(2, 1).await.expect("read")), []);
        assert_eq!(store.changes(3, 1).await.expect("read"), Feed::TooOld);
        assert_eq!(store.newest().at(), 2);
        let rows = store.read(|read: &mut Read| Ok::<_, Error>((read.revision()?, read.list::<Thing>(&ALL, &Query::new())?)));
        // A row counts its writes, a commit its changes.
        let (revision, rows) = rows.await.expect("read");
        assert_eq!((revision, rows.iter().map(|row| row.meta.revision).collect::<Vec<_>>()), (2, vec![3, 1]));
    }

    async fn followers_see_every_commit_of_concurrent_writers_in_order(bed: &Bed) {
        let store = bed.open().await;
        let total = (WRITERS * WRITES) as i64;
        let writers: Vec<_> = (0..WRITERS).map(|writer| {
            let store = store.clone();
            bed.seams.tasks.spawn("writer", async move {
                for number in 0..WRITES {
                    let size = i64::try_from(number % 3).expect("small");
                    let done = store.write(move |tx| {
                        let mut row = thing(writer as i64, &format!("{number}"));
                        row.data.size = Some(size);
                        let row = tx.insert(row)?;
                        for _ in 0..size {
                            tx.insert(thing(writer as i64, "more"))?;
                        }
                        Ok::<_, Error>(row.meta.id)
                    });
                    let done = done.await.expect("written");
                    // What was acknowledged is in the feed at once, whoever asks, under the revision that was told.
                    let shown = changes(store.changes(done.revision - 1, 1).await.expect("read"));
                    assert_eq!((shown[0].revision, shown[0].id), (done.revision, done.value));
                    assert_eq!(shown.len() as i64, size + 1);
                }
            })
        }).collect();
        let follower = {
            let store = store.clone();
            async move { follow(&store, total).await }
        };
        let seen = follower.await;
        for writer in writers {
            writer.await.expect("the writer ends well");
        }
        // A change that became visible after a later one would be missing here: the follower never looks back.
        let mut revisions: Vec<i64> = seen.iter().map(|change| change.revision).collect();
        revisions.dedup();
        assert_eq!(revisions, (1..=total).collect::<Vec<_>>());
        assert_eq!(seen, changes(store.changes(0, 100_000).await.expect("read")));
        let rows = store.read(|read: &mut Read| read.list::<Thing>(&ALL, &Query::new())).await.expect("read");
        assert_eq!(rows.len(), seen.len());
        for row in rows {
            let change = seen.iter().find(|change| change.id == row.meta.id).expect("recorded");
            assert_eq!((row.meta.revision, row.meta.account_id), (1, change.account_id));
        }
    }

    async fn writers_of_one_row_lose_no_update(bed: &Bed) {
        let store = bed.open().await;
        insert(&store, vec![thing(1, "shared")]).await;
        let writers: Vec<_> = (0..4).map(|_| {
            let store = store.clone();
            bed.seams.tasks.spawn("writer", async move {
                let mut done = 0;
                while done < 10 {
                    let added = store.write(|tx| {
                        let mut row: Row<Thing> = tx.require(&ALL, Id::new(1))?;
                        row.data.size = Some(row.data.size.unwrap_or(0) + 1);
                        tx.update(&mut row)
                    });
                    match added.await {
                        Ok(_) => done += 1,
                        Err(Error::Changed { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            })
        }).collect();
        for writer in writers {
            writer.await.expect("the writer ends well");
        }
        let row = store.read(|read: &mut Read| read.require::<Thing>(&ALL, Id::new(1))).await.expect("read");
        assert_eq!((row.data.size, row.meta.revision), (Some(40), 41));
    }

    async fn old_records_go_and_followers_behind_them_are_told(bed: &Bed) {
        let store = bed.open().await;
        for number in 0..6 {
            insert(&store, vec![thing(1, &format!("{number}")), thing(1, "second")]).await;
        }
        let keep = |max_changes, changes_older_ms| Retention { max_changes, changes_older_ms, ..Retention::default() };
        let hour = 3_600_000;
        assert_eq!(store.trim(&keep(100, hour)).await.expect("trimmed").changes, 0);
        // Five records are to stay; the fifth is of a commit that does not fit whole.
        assert_eq!(store.trim(&keep(5, hour)).await.expect("trimmed").changes, 8);
        assert_eq!(store.changes(3, 10).await.expect("read"), Feed::TooOld);
        assert_eq!(changes(store.changes(4, 10).await.expect("read")).len(), 4);
        // Everything is older than a moment that lies ahead.
        assert_eq!(store.trim(&keep(100, -hour)).await.expect("trimmed").changes, 4);
        assert_eq!(store.changes(5, 10).await.expect("read"), Feed::TooOld);
        assert_eq!(store.changes(6, 10).await.expect("read"), Feed::Changes(vec![]));
        insert(&store, vec![thing(1, "next")]).await;
        assert_eq!(changes(store.changes(6, 10).await.expect("read"))[0].revision, 7);
    }

    async fn purged_and_aged_rows_go(bed: &Bed) {
        let store = bed.open().await;
        let now = bed.seams.clock.now_ms();
        let purged = |since: i64| {
            let mut row = thing(1, "purged");
            row.meta.state = "purged".into();
            row.meta.remove_time = Some(remuda_schema::Time(now - since));
            row
        };
        let mut removed = purged(9_000);
        removed.meta.state = "removed".into();
        insert(&store, vec![purged(9_000), purged(1_000), removed, thing(1, "live")]).await;
        store.write(|tx| {
            for count in 0..3 {
                let mut row = Row::new(None, "", crate::sample::Tally { count });
                row.meta.created = remuda_schema::Time(1);
                tx.insert(row)?;
            }
            Ok::<_, Error>(())
        }).await.expect("written");
        let retention = Retention { purged_after_ms: 5_000, ..Retention::default() };
        assert_eq!(store.trim(&retention).await.expect("trimmed").rows, 1);
        let left = store.read(|read: &mut Read| read.list::<Thing>(&ALL, &Query::new().all())).await.expect("read");
        assert_eq!(left.iter().map(|row| row.meta.id).collect::<Vec<_>>(), [2, 3, 4]);
        // The world hears of it.
        assert_eq!(changes(store.changes(2, 10).await.expect("read"))[0].id, 1);
        let aged = Retention { aged: [("tally".to_owned(), 1_000)].into(), ..retention };
        assert_eq!(store.trim(&aged).await.expect("trimmed").rows, 3);
    }
}

/// Two servers on one PostgreSQL: each hears of the other's commits.
#[test]
fn servers_hear_of_each_others_commits() {
    run(async {
        let bed = Bed::postgres("hear");
        let (one, other) = (bed.open().await, bed.open().await);
        assert_eq!(one.identity(), other.identity());
        for revision in 1..=5 {
            insert(&one, vec![thing(1, "x")]).await;
            other.newest().reached(revision).await;
            assert_eq!(changes(other.changes(revision - 1, 10).await.expect("read")).len(), 1);
        }
        let seen = follow(&other, 5).await;
        assert_eq!(seen.len(), 5);
    });
}

/// Two servers that write at once make one history, and both see all of it in order.
#[test]
fn servers_that_write_at_once_make_one_history() {
    run(async {
        let bed = Bed::postgres("history");
        let servers = [bed.open().await, bed.open().await];
        let writers: Vec<_> = (0..6)
            .map(|writer| {
                let store = servers[writer % 2].clone();
                bed.seams.tasks.spawn("writer", async move {
                    for _ in 0..20 {
                        insert(&store, vec![thing(writer as i64, "x"), thing(writer as i64, "y")]).await;
                    }
                })
            })
            .collect();
        let (one, other) = tokio::join!(follow(&servers[0], 120), follow(&servers[1], 120));
        for writer in writers {
            writer.await.expect("the writer ends well");
        }
        assert_eq!(one, other);
        let mut revisions: Vec<i64> = one.iter().map(|change| change.revision).collect();
        revisions.dedup();
        assert_eq!((revisions, one.len()), ((1..=120).collect(), 240));
    });
}

/// Two writers that lock two rows in opposite order: one of them runs again, and both succeed.
#[test]
fn a_deadlock_is_run_again() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Barrier};
    run(async {
        let bed = Bed::postgres("deadlock");
        let store = bed.open().await;
        insert(&store, vec![thing(1, "a"), thing(1, "b")]).await;
        let meeting = Arc::new(Barrier::new(2));
        let runs = Arc::new(AtomicUsize::new(0));
        let writer = |order: [i64; 2]| {
            let (store, meeting, runs) = (store.clone(), meeting.clone(), runs.clone());
            let mut met = false;
            async move {
                let add = move |tx: &mut remuda_store::Tx<'_>, id: i64| {
                    let mut row: Row<Thing> = tx.require(&ALL, Id::new(id))?;
                    row.data.size = Some(row.data.size.unwrap_or(0) + 1);
                    tx.update(&mut row)
                };
                let written = store.write(move |tx| {
                    runs.fetch_add(1, Ordering::Relaxed);
                    add(tx, order[0])?;
                    if !std::mem::replace(&mut met, true) {
                        meeting.wait();
                    }
                    add(tx, order[1])
                });
                written.await
            }
        };
        let (one, other) = tokio::join!(writer([1, 2]), writer([2, 1]));
        one.expect("written");
        other.expect("written");
        // Once each, and once more at least for the one that was sacrificed.
        assert!(runs.load(Ordering::Relaxed) >= 3);
        let rows = store.read(|read: &mut Read| read.list::<Thing>(&ALL, &Query::new())).await.expect("read");
        assert_eq!(rows.iter().map(|row| row.data.size).collect::<Vec<_>>(), [Some(2), Some(2)]);
    });
}

/// Deterministic mode: no threads, no waiting, the same ids and times for the same seed.
#[test]
fn inline_stores_repeat_themselves() {
    let history = |seed| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        runtime.expect("a runtime for tests").block_on(async move {
            let seams = remuda_runtime::Seams::seeded(seed, 1_000);
            let dir = tempfile::tempdir().expect("a directory for tests");
            let database = remuda_store::Database::Sqlite { path: dir.path().join("remuda.db") };
            let options = remuda_store::Options { inline_writer: true, ..remuda_store::Options::new(database) };
            let store = Store::open(options, registry(), seams.clone()).await.expect("the store opens");
            let start = seams.clock.instant();
            for _ in 0..3 {
                insert(&store, vec![thing(1, "x")]).await;
            }
            let rows = store.read(|read: &mut Read| read.list::<Thing>(&ALL, &Query::new())).await.expect("read");
            assert_eq!(start.elapsed(), std::time::Duration::ZERO);
            (store.identity().clone(), rows)
        })
    };
    let (first, second) = (history(7), history(7));
    assert_eq!(first, second);
    assert_eq!(first.1[0].meta.created.0, 1_000);
    assert_ne!(first.0, history(8).0);
}

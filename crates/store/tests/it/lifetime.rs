//! Opening, closing, reopening, crashing: what was acknowledged stays, and the wrong thing is refused.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use remuda_runtime::{Random, Seams};
use remuda_schema::{Id, Row};
use remuda_store::{Database, Error, Feed, OpenError, Options, Query, Read, Scope, Seal, SealError, Store};

use crate::on_each_store;
use crate::sample::{Bed, Thing, insert, registry, run, thing};

const ALL: Scope = Scope::Everything;

on_each_store! {
    async fn a_closed_store_says_so(bed: &Bed) {
        let store = bed.open().await;
        store.ping().await.expect("it answers");
        store.close().await;
        assert!(matches!(store.ping().await, Err(Error::Closed)));
        let written = store.write(|tx| tx.counter("x")).await;
        assert!(matches!(written, Err(Error::Closed)), "{written:?}");
    }

    async fn another_key_is_refused(bed: &Bed) {
        let store = bed.open().await;
        let random = Random::from_os();
        let seal = Seal::transient(&random);
        seal.bind(&store).await.expect("the first key is recorded");
        seal.bind(&store).await.expect("it is known");
        let other = Seal::transient(&random).bind(&store).await;
        assert!(matches!(&other, Err(SealError::OtherKey { .. })));
        assert!(other.expect_err("refused").to_string().contains(seal.id()));
    }
}

async fn reopening(bed: Bed) {
    let store = bed.open().await;
    let identity = store.identity().clone();
    assert_eq!((identity.store_id.len(), identity.epoch), (36, 1));
    insert(&store, vec![thing(1, "kept")]).await;
    assert_eq!(store.raise_epoch().await.expect("raised"), 2);
    store.close().await;
    let again = bed.open().await;
    assert_eq!((again.identity().store_id.as_str(), again.identity().epoch), (identity.store_id.as_str(), 2));
    assert_eq!(again.newest().at(), 1);
    let row = again.read(|read: &mut Read| read.require::<Thing>(&ALL, Id::new(1))).await.expect("read");
    assert_eq!(row.label.as_deref(), Some("kept"));
    assert_eq!(insert(&again, vec![thing(1, "next")]).await[0].meta.id, 2);
}

#[test]
fn reopening_keeps_identity_and_rows_sqlite() {
    run(reopening(Bed::sqlite()));
}

#[test]
fn reopening_keeps_identity_and_rows_postgres() {
    run(reopening(Bed::postgres("reopening")));
}

#[test]
fn a_file_belongs_to_one_server() {
    run(async {
        let bed = Bed::sqlite();
        let store = bed.open().await;
        let second = Store::open(bed.options.clone(), registry(), bed.seams.clone()).await;
        assert!(matches!(second, Err(OpenError::InUse { .. })), "{second:?}");
        store.close().await;
        bed.open().await;
    });
}

/// Several servers that start at once on an empty database agree on what it is.
#[test]
fn servers_that_start_together_make_one_database() {
    run(async {
        let bed = Bed::postgres("together");
        let (one, two, three) = tokio::join!(bed.open(), bed.open(), bed.open());
        assert_eq!((one.identity(), one.identity()), (two.identity(), three.identity()));
        insert(&two, vec![thing(1, "x")]).await;
        assert_eq!(insert(&three, vec![thing(1, "y")]).await[0].meta.id, 2);
    });
}

#[test]
fn unusable_databases_are_refused_with_a_sentence() {
    run(async {
        let cases = [
            (Database::Sqlite { path: "/no/such/directory/remuda.db".into() }, "cannot be opened"),
            (Database::Postgres { url: "http://db".into() }, "URL is not usable"),
            (Database::Postgres { url: "postgres://u@127.0.0.1:1/x".into() }, "could not be prepared"),
        ];
        for (database, sentence) in cases {
            let refused = Store::open(Options::new(database), registry(), Seams::real()).await;
            let refused = refused.expect_err("refused").to_string();
            assert!(refused.contains(sentence), "{refused}");
        }
    });
}

#[test]
fn a_database_of_a_newer_version_is_refused() {
    run(async {
        let bed = Bed::sqlite();
        bed.open().await.close().await;
        let Database::Sqlite { path } = &bed.options.database else { return };
        let change = |statement: &str| {
            rusqlite::Connection::open(path).and_then(|file| file.execute_batch(statement)).expect("changed by hand");
        };
        change("UPDATE migration SET checksum = 'x'");
        let foreign = Store::open(bed.options.clone(), registry(), bed.seams.clone()).await;
        assert!(matches!(foreign, Err(OpenError::ForeignMigration { number: 1, .. })), "{foreign:?}");
        change("INSERT INTO migration (number, name, checksum, applied) VALUES (999, 'later', 'x', 0)");
        let newer = Store::open(bed.options.clone(), registry(), bed.seams.clone()).await;
        assert!(matches!(newer, Err(OpenError::Newer { found: 999, .. })), "{newer:?}");
    });
}

/// The files hold hashes of secrets: nobody else may read them.
#[test]
fn database_files_are_private() {
    use std::os::unix::fs::MetadataExt;
    run(async {
        let bed = Bed::sqlite();
        let store = bed.open().await;
        insert(&store, vec![thing(1, "x")]).await;
        let Database::Sqlite { path } = &bed.options.database else { return };
        let dir = path.parent().expect("it lies in a directory");
        let mut files = 0;
        for entry in std::fs::read_dir(dir).expect("there") {
            let entry = entry.expect("there");
            files += 1;
            assert_eq!(entry.metadata().expect("there").mode() & 0o077, 0, "{:?}", entry.file_name());
        }
        assert!(files >= 3, "database, log and lock");
    });
}

/// A stalled or restarted PostgreSQL costs errors, never a panic, and the store recovers by itself.
#[test]
fn a_lost_connection_is_an_error_and_then_over() {
    run(async {
        let bed = Bed::postgres("lost");
        let store = bed.open().await;
        let Database::Postgres { url } = &bed.options.database else { return };
        let name =
            url.rsplit('/').next().and_then(|rest| rest.split('?').next()).expect("the URL has a name").to_owned();
        insert(&store, vec![thing(1, "before")]).await;
        let server = remuda_testbed::Postgres::shared().expect("it runs");
        for round in 0..3 {
            let kill = format!(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}' AND pid <> pg_backend_pid()"
            );
            server.psql("postgres", &kill).expect("connections are cut");
            // One connection of the pool after the other turns out to be dead; each costs at most one error.
            let mut errors = 0;
            loop {
                match store.write(move |tx| tx.insert(thing(1, &format!("{round}")))).await {
                    Ok(_) => break,
                    Err(Error::Unavailable { .. } | Error::Uncertain { .. }) if errors < 20 => errors += 1,
                    Err(error) => panic!("{error}"),
                }
            }
        }
        let rows = store.read(|read: &mut Read| read.count::<Thing>(&ALL, &Query::new())).await.expect("read");
        assert_eq!(rows, 4);
    });
}

#[test]
fn a_database_that_is_gone_is_unavailable() {
    run(async {
        let bed = Bed::postgres("gone");
        let store = bed.open().await;
        let Database::Postgres { url } = &bed.options.database else { return };
        let name = url.rsplit('/').next().and_then(|rest| rest.split('?').next()).expect("the URL has a name");
        let server = remuda_testbed::Postgres::shared().expect("it runs");
        server.psql("postgres", &format!("DROP DATABASE {name} WITH (FORCE)")).expect("dropped");
        for _ in 0..3 {
            let written = store.write(|tx| tx.counter("x")).await;
            assert!(matches!(written, Err(Error::Unavailable { .. } | Error::Uncertain { .. })), "{written:?}");
            let read = store.ping().await;
            assert!(matches!(read, Err(Error::Unavailable { .. })), "{read:?}");
        }
    });
}

/// What was answered survives a crash of the database, in the feed too, and no answer comes for what does not.
#[test]
fn a_crash_of_postgresql_takes_nothing_that_was_acknowledged() {
    const WRITERS: i64 = 8;
    run(async {
        let server = remuda_testbed::Postgres::start(remuda_testbed::Tuning::AsInstalled).expect("it starts");
        let database = server.database("crash").expect("made");
        let bed = Bed::at(database.url.clone());
        let store = bed.open().await;
        let losses = store.losses();
        for round in 0..2 {
            let (told, mut acknowledged) = tokio::sync::mpsc::unbounded_channel();
            let over = Arc::new(AtomicBool::new(false));
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| {
                    let (store, told, over) = (store.clone(), told.clone(), over.clone());
                    bed.seams.tasks.spawn("writer", async move {
                        while !over.load(Ordering::SeqCst) {
                            match store.write(move |tx| tx.insert(thing(writer, "x"))).await {
                                Ok(done) => told.send((done.revision, done.value.meta.id)).expect("the test listens"),
                                Err(Error::Unavailable { .. } | Error::Uncertain { .. }) => {}
                                Err(error) => panic!("{error}"),
                            }
                        }
                    })
                })
                .collect();
            drop(told);
            let mut seen = Vec::new();
            while seen.len() < 100 {
                seen.push(acknowledged.recv().await.expect("writers go on"));
            }
            server.crash().expect("it comes back");
            over.store(true, Ordering::SeqCst);
            for writer in writers {
                writer.await.expect("the writer ends well");
            }
            while let Some(one) = acknowledged.recv().await {
                seen.push(one);
            }
            assert!(store.losses() > losses + round, "the store knows that it lost the database");
            let changes = loop {
                match store.changes(0, 1_000_000).await {
                    Ok(Feed::Changes(changes)) => break changes,
                    Ok(Feed::TooOld) => panic!("all kept"),
                    // Connections of the pool from before the crash.
                    Err(Error::Unavailable { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            };
            let in_feed: Vec<(i64, i64)> = changes.iter().map(|change| (change.revision, change.id)).collect();
            let head = i64::try_from(in_feed.len()).expect("few");
            assert_eq!(in_feed.iter().map(|one| one.0).collect::<Vec<_>>(), (1..=head).collect::<Vec<_>>());
            let rows = store.read(|read: &mut Read| read.list::<Thing>(&ALL, &Query::new())).await.expect("read");
            for one in &seen {
                assert!(in_feed.binary_search(one).is_ok(), "{one:?} was acknowledged");
                assert!(rows.iter().any(|row| row.meta.id == one.1), "{one:?} was acknowledged");
            }
        }
        store.close().await;
    });
}

const VICTIM: &str = "REMUDA_STORE_VICTIM";

/// Writes as fast as it can and prints what was acknowledged, until it is killed. Run by the test below.
#[test]
fn victim() {
    // A test by name only: without the variable there is nothing to do.
    let Some(path) = std::env::vars().find(|(name, _)| name == VICTIM).map(|(_, path)| path) else { return };
    run(async move {
        let options = Options::new(Database::Sqlite { path: path.into() });
        let store = Store::open(options, registry(), Seams::real()).await.expect("the store opens");
        let mut writers = Vec::new();
        for writer in 0..4 {
            let store = store.clone();
            writers.push(async move {
                loop {
                    let done = store.write(move |tx| tx.insert(thing(writer, "x"))).await.expect("written");
                    println!("acknowledged {} {}", done.revision, done.value.meta.id);
                }
            });
        }
        let [a, b, c, d] = <[_; 4]>::try_from(writers).unwrap_or_else(|_| panic!("four writers"));
        tokio::join!(a, b, c, d);
    });
}

#[test]
fn a_killed_writer_loses_nothing_it_acknowledged() {
    let bed = Bed::sqlite();
    let Database::Sqlite { path } = &bed.options.database else { return };
    for _ in 0..3 {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["lifetime::victim", "--exact", "--nocapture", "--test-threads=1"])
            .env(VICTIM, path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the victim starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut acknowledged = Vec::new();
        let read = |line: &str| {
            let mut words = line.split_once("acknowledged ")?.1.split(' ');
            Some((words.next()?.parse::<i64>().ok()?, words.next()?.parse::<i64>().ok()?))
        };
        while acknowledged.len() < 200 {
            let line = lines.next().expect("the victim goes on").expect("text");
            acknowledged.extend(read(&line));
        }
        child.kill().expect("killed");
        acknowledged.extend(lines.map_while(Result::ok).filter_map(|line| read(&line)));
        child.wait().expect("ended");
        run(async {
            let store = bed.open().await;
            let head = store.newest().at();
            let Feed::Changes(changes) = store.changes(0, 1_000_000).await.expect("read") else { panic!("all kept") };
            assert_eq!(
                changes.iter().map(|change| change.revision).collect::<Vec<_>>(),
                (1..=head).collect::<Vec<_>>()
            );
            let rows: Vec<Row<Thing>> =
                store.read(|read: &mut Read| read.list(&ALL, &Query::new())).await.expect("read");
            let stored: Vec<(i64, i64)> = changes.iter().map(|change| (change.revision, change.id)).collect();
            assert_eq!(
                rows.iter().map(|row| row.meta.id).collect::<Vec<_>>(),
                stored.iter().map(|change| change.1).collect::<Vec<_>>()
            );
            for one in &acknowledged {
                assert!(stored.binary_search(one).is_ok(), "{one:?} was acknowledged");
            }
            store.close().await;
        });
    }
}

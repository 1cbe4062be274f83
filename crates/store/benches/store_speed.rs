//! How fast the store is on this machine: `cargo bench -p remuda-store [-- postgres://…]`.

use std::time::Duration;

use remuda_model::{Container, Workload};
use remuda_runtime::Seams;
use remuda_schema::{Id, Row};
use remuda_store::{Database, Error, Options, Query, Read, Scope, Store};

const ROWS: i64 = 10_000;

fn container(number: i64) -> Row<Container> {
    let workload = Workload {
        command: Some(vec!["sleep".into(), "infinity".into()]),
        environment: Some((0..6).map(|n| (format!("VARIABLE_{n}"), "some value of it".to_owned())).collect()),
        ..Workload::default()
    };
    let data = Container {
        workload,
        deployment_unit_uuid: Some(format!("unit-{}", number / 2)),
        create_index: Some(number),
        ..Container::default()
    };
    let mut row = Row::new(Some(5), "running", data);
    row.meta.name = Some(format!("web-{number}"));
    row
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let database = match std::env::args().skip(1).find(|argument| !argument.starts_with("--")) {
        Some(url) => Database::Postgres { url },
        None => Database::Sqlite { path: dir.path().join("speed.db") },
    };
    let seams = Seams::real();
    let store = Store::open(Options::new(database), remuda_model::registry(), seams.clone()).await?;
    let clock = seams.clock.clone();
    let report = |what: &str, count: i64, took: Duration| {
        let each = took.as_secs_f64() * 1e6 / count as f64;
        println!("{what:<44} {each:>9.1} us each, {:>9.0}/s", 1e6 / each);
    };

    let start = clock.instant();
    for batch in 0..ROWS / 500 {
        let insert = store.write(move |tx| {
            for number in 0..500 {
                tx.insert(container(batch * 500 + number))?;
            }
            Ok::<_, Error>(())
        });
        insert.await?;
    }
    report("insert, 500 per transaction", ROWS, start.elapsed());

    let start = clock.instant();
    for number in 0..2000 {
        let id = Id::<Container>::new(1 + number * 7 % ROWS);
        store.read(move |read: &mut Read| read.require(&Scope::Account(5), id)).await?;
    }
    report("point read, awaited one by one", 2000, start.elapsed());

    let start = clock.instant();
    let inner = store.read(|read: &mut Read| {
        for number in 0..10_000 {
            read.require::<Container>(&Scope::Account(5), Id::new(1 + number * 7 % ROWS))?;
        }
        Ok::<_, Error>(())
    });
    inner.await?;
    report("point read, inside one transaction", 10_000, start.elapsed());

    let start = clock.instant();
    for _ in 0..100 {
        let list = store.read(|read: &mut Read| {
            read.list::<Container>(&Scope::Account(5), &Query::new().eq("state", "running").limit(100))
        });
        list.await?;
    }
    report("list 100 of 10,000", 100, start.elapsed());

    let start = clock.instant();
    let all = store.read(|read: &mut Read| read.list::<Container>(&Scope::Everything, &Query::new())).await?;
    report("list all, per row", all.len() as i64, start.elapsed());

    let start = clock.instant();
    for number in 0..200 {
        let id = Id::<Container>::new(number + 1);
        let update = store.write(move |tx| {
            let mut row = tx.require(&Scope::Everything, id)?;
            row.data.create_index = Some(-1);
            tx.update(&mut row)
        });
        update.await?;
    }
    report("update, awaited one by one", 200, start.elapsed());

    let start = clock.instant();
    let (done, mut finished) = tokio::sync::mpsc::channel(64);
    for writer in 0..64 {
        let (store, done) = (store.clone(), done.clone());
        seams.tasks.spawn("writer", async move {
            for number in 0..50 {
                let id = Id::<Container>::new(1000 + writer * 50 + number);
                let update = store.write(move |tx| {
                    let mut row = tx.require(&Scope::Everything, id)?;
                    row.data.create_index = Some(-2);
                    tx.update(&mut row)
                });
                if let Err(error) = update.await {
                    eprintln!("{error}");
                }
            }
            let _ = done.send(()).await;
        });
    }
    drop(done);
    while finished.recv().await.is_some() {}
    report("update, 64 writers at once", 64 * 50, start.elapsed());
    Ok(())
}

//! What only one may have: claims, counters, leases.

use remuda_store::{Claim, Error, Holder, Lease, Read};

use crate::on_each_store;
use crate::sample::{Bed, insert, registry, run, thing};

fn port(key: &str, holder: i64) -> Claim {
    Claim::new("port", 3, key, Holder::new("thing", holder))
}

on_each_store! {
    async fn a_claim_has_one_holder(bed: &Bed) {
        let store = bed.open().await;
        let done = store.write(|tx| {
            tx.claim(&port("80/tcp", 1))?;
            tx.claim(&port("80/tcp", 1))?;
            tx.claim(&port("443/tcp", 1))?;
            tx.claim(&Claim { scope: 4, ..port("80/tcp", 2) })?;
            let refused = tx.claim(&port("80/tcp", 2));
            assert!(matches!(&refused, Err(Error::Claimed { holder, .. }) if *holder == Holder::new("thing", 1)));
            assert_eq!(refused.expect_err("refused").to_string(), "port `80/tcp` in 3 is held by 1t1");
            // The transaction goes on.
            assert!(!tx.release(&port("80/tcp", 2))?);
            assert!(tx.release(&port("80/tcp", 1))?);
            tx.claim(&port("80/tcp", 2))
        });
        let revision = done.await.expect("written").revision;
        assert_eq!(revision, 0, "claims alone are no changes");
        let claims = store.read(|read: &mut Read| {
            assert_eq!(read.claim_holder("port", 3, "443/tcp")?, Some(Holder::new("thing", 1)));
            assert_eq!(read.claim_holder("port", 9, "443/tcp")?, None);
            Ok::<_, Error>((read.claims("port", 3)?, read.claims_of(&Holder::new("thing", 2))?.len()))
        });
        assert_eq!(claims.await.expect("read"), (vec![port("443/tcp", 1), port("80/tcp", 2)], 2));
        let released = store.write(|tx| tx.release_all(&Holder::new("thing", 2))).await;
        assert_eq!(released.expect("written").value, 2);
    }

    async fn a_claim_lives_and_dies_with_its_transaction_and_its_row(bed: &Bed) {
        let store = bed.open().await;
        let def = registry().get("thing").expect("declared");
        insert(&store, vec![thing(1, "holder")]).await;
        let refused = store.write(|tx| {
            tx.claim(&port("80/tcp", 1))?;
            Err::<(), Error>(Error::Closed)
        });
        assert!(refused.await.is_err());
        let deleted = store.write(move |tx| {
            assert_eq!(tx.claim_holder("port", 3, "80/tcp")?, None);
            tx.claim(&port("80/tcp", 1))?;
            tx.delete_any(def, 1)?;
            tx.claim_holder("port", 3, "80/tcp")
        });
        assert_eq!(deleted.await.expect("written").value, None);
    }

    async fn of_many_claimants_one_wins(bed: &Bed) {
        let store = bed.open().await;
        let mut claimants = Vec::new();
        for number in 0..10 {
            let store = store.clone();
            let (answer, won) = tokio::sync::oneshot::channel();
            bed.seams.tasks.spawn("claimant", async move {
                let _ = answer.send(store.write(move |tx| tx.claim(&port("80/tcp", number))).await);
            });
            claimants.push(won);
        }
        let mut winners = 0;
        for claimant in claimants {
            match claimant.await.expect("answered") {
                Ok(_) => winners += 1,
                Err(Error::Claimed { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(winners, 1);
    }

    async fn writers_that_choose_what_is_free_never_refuse_each_other(bed: &Bed) {
        let store = bed.open().await;
        let mut choosers = Vec::new();
        for number in 0..20 {
            let store = store.clone();
            let (answer, chosen) = tokio::sync::oneshot::channel();
            bed.seams.tasks.spawn("chooser", async move {
                let chose = store.write(move |tx| {
                    // Half of them look at a list, half ask one by one.
                    let listed = if number % 2 == 0 { tx.claims("port", 3)? } else { Vec::new() };
                    for key in (0..).map(|key: i64| key.to_string()) {
                        let free = match number % 2 {
                            0 => listed.iter().all(|claim| claim.key != key),
                            _ => tx.claim_holder("port", 3, &key)?.is_none(),
                        };
                        if free {
                            tx.claim(&port(&key, number))?;
                            return Ok::<_, Error>(key);
                        }
                    }
                    Err(Error::Closed)
                });
                let _ = answer.send(chose.await);
            });
            choosers.push(chosen);
        }
        let mut keys = std::collections::BTreeSet::new();
        for chosen in choosers {
            keys.insert(chosen.await.expect("answered").expect("nobody is refused").value);
        }
        assert_eq!(keys.len(), 20, "{keys:?}");
    }

    async fn counters_count_and_meta_remembers(bed: &Bed) {
        let store = bed.open().await;
        for expected in 1..=3 {
            let next = store.write(|tx| tx.counter("generation")).await;
            assert_eq!(next.expect("written").value, expected);
        }
        let other = store.write(|tx| {
            tx.meta_set("a", "1")?;
            tx.meta_set("a", "2")?;
            Ok::<_, Error>((tx.counter("other")?, tx.meta("a")?, tx.meta("b")?))
        });
        assert_eq!(other.await.expect("written").value, (1, Some("2".into()), None));
    }

    async fn a_lease_has_one_owner_and_its_epochs_grow(bed: &Bed) {
        let store = bed.open().await;
        let take = |owner: &'static str, ttl_ms: i64| {
            let store = store.clone();
            async move { store.write(move |tx| tx.lease_take("project 5", owner, ttl_ms)).await.expect("written").value }
        };
        let check = |lease: &Lease| {
            let (store, lease) = (store.clone(), lease.clone());
            async move { store.write(move |tx| tx.lease_check(&lease)).await.map(|_| ()) }
        };
        let first = take("one", 60_000).await.expect("free");
        assert_eq!(first.epoch, 1);
        assert_eq!(take("two", 60_000).await, None);
        let renewed = take("one", 60_000).await.expect("renewed");
        assert_eq!(renewed.epoch, 1);
        check(&renewed).await.expect("held");

        let gone = renewed.clone();
        assert!(store.write(move |tx| tx.lease_release(&gone)).await.expect("written").value);
        assert!(matches!(check(&renewed).await, Err(Error::LeaseLost { epoch: 1, .. })));
        // Taken for no time at all: it has run out when the next comes.
        let second = take("two", 0).await.expect("released");
        assert_eq!(second.epoch, 2);
        assert!(matches!(check(&second).await, Err(Error::LeaseLost { .. })));
        let third = take("one", 60_000).await.expect("run out");
        assert_eq!(third.epoch, 3);
        check(&third).await.expect("held");
        assert!(matches!(check(&first).await, Err(Error::LeaseLost { epoch: 1, .. })));
        store.write(|tx| tx.lease_take("project 6", "two", 0)).await.expect("written");
        let held = store.write(|tx| Ok::<_, Error>((tx.leases_held("project ")?, tx.leases_held("server ")?)));
        assert_eq!(held.await.expect("read").value, (vec!["project 5".to_owned()], vec![]));
    }
}

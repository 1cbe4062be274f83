//! Everything of a balancer changes while clients ask. Also of `make bench`, for longer.

use std::sync::atomic::Ordering;
use std::time::Duration;

use remuda_agent::balancer::instance::Counts;

use super::load::{Targets, clients};
use super::rig::{Balancer, bed, certificate, web};

/// What a long run came to.
pub struct Churned {
    pub n_requests: u64,
    pub n_changes: u64,
    pub seconds: f64,
    pub counts: Counts,
}

/// Clients ask without a pause and without a second try, while targets come and go between two and ten, rules and
/// certificates change and the agent is killed, ten changes a second and more. Ends at that many answers.
pub async fn churn(n_requests: u64) -> Churned {
    let bed = bed();
    let mut targets = Targets::new(bed.gateway());
    let mut servers = vec![targets.open("t0").await, targets.open("t1").await];
    let certificates = [certificate("a.test"), certificate("b.test")];
    let rules = ["", "    http-request set-header X-A 1\n", "    acl a path_beg /a\n    http-request deny if a\n"];
    let mut wanted = web(rules[0], &servers, Some(&certificates[0]));
    let mut balancer = Balancer::started(bed, &wanted).await;
    balancer.settle(&wanted).await;
    let run = balancer.run().await;
    let clock = balancer.seams.clock.clone();
    let tasks = balancer.seams.tasks.child();
    let met = clients(balancer.address, 16, &tasks);

    let begin = clock.instant();
    let (mut n_changes, mut n_targets, mut grows) = (0_u64, 2, true);
    let (mut rule, mut certificate) = (0, 0);
    let mut leaving: Vec<String> = Vec::new();
    let mut counts = balancer.instance.counts;
    while met.answered.load(Ordering::Relaxed) < n_requests && met.failed.load(Ordering::Relaxed) == 0 {
        n_changes += 1;
        match n_changes % 20 {
            7 => rule = (rule + 1) % rules.len(),
            13 => certificate = 1 - certificate,
            19 => {
                let before = balancer.instance.counts;
                counts.reloads += before.reloads;
                counts.runtime_changes += before.runtime_changes;
                balancer.forget();
            }
            _ if grows => {
                servers.push(targets.open(&format!("t{n_targets}")).await);
                n_targets += 1;
                grows = servers.len() < 10;
            }
            _ => {
                // The oldest goes, as in an upgrade.
                leaving.push(servers.remove(0).name);
                grows = servers.len() <= 2;
            }
        }
        wanted = web(rules[rule], &servers, Some(&certificates[certificate]));
        let passed = balancer.instance.pass(&run, &wanted).await.expect("passes");
        assert_eq!(passed.problem, None);
        // Withdrawn: now it may end.
        for name in leaving.drain(..) {
            targets.close(&name);
        }
        let next = begin + Duration::from_millis(n_changes * 80);
        clock.sleep(next.saturating_duration_since(clock.instant())).await;
    }
    let seconds = (clock.instant() - begin).as_secs_f64();
    tasks.shut_down(Duration::from_secs(30)).await;
    met.check();
    counts.reloads += balancer.instance.counts.reloads;
    counts.runtime_changes += balancer.instance.counts.runtime_changes;
    let answered = met.answered.load(Ordering::Relaxed);
    Churned { n_requests: answered, n_changes, seconds, counts }
}

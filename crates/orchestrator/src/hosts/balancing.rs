//! What load balancers do, as their hosts told it last: samples in memory, added up by service. A server knows them of
//! the hosts that are connected to it; nothing is stored, so after a restart they are there with the next look.

use std::collections::BTreeMap;

use remuda_schema::Time;
use remuda_wire::observe::BalancerSample;

use super::{HostSession, Live, lock};
use crate::worlds::Shared;

/// Rates of a balancer that was silent for longer are those of the past. One that does nothing says so once.
const FRESH_MS: i64 = 30_000;
/// What was not heard of for longer is forgotten, when something else is heard.
const KEPT_MS: i64 = 3_600_000;

/// One container's last words.
#[derive(Clone, Debug)]
pub(super) struct Told {
    service: i64,
    at: Time,
    sample: BalancerSample,
}

/// What all containers of one service do together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Balancing {
    pub requests: u64,
    pub errors: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub connections: u64,
    pub requests_per_second: f64,
    pub errors_per_second: f64,
    /// Mean over the requests of the last seconds; `None`: there were none.
    pub response_ms: Option<f64>,
}

/// A host tells of its load balancers.
pub fn host_balancers(shared: &Shared, live: &Live, session: &HostSession, samples: Vec<BalancerSample>) {
    let now = shared.now();
    live.heard(session.agent_id, session.generation, now);
    let Some(project) = shared.project(session.project_id) else { return };
    let state = project.state();
    let mut told = lock(&live.balancing);
    told.retain(|_, of| of.at.plus_ms(KEPT_MS) > now);
    for sample in samples {
        let row = state.world.container_by_uuid(&sample.uuid);
        // Nobody speaks of what runs elsewhere.
        let row = row.filter(|row| row.host_id.is_some_and(|host| host.number() == session.host_id));
        if let Some((row, service)) = row.and_then(|row| Some((row, row.service_id?))) {
            told.insert(row.meta.id, Told { service: service.number(), at: now, sample });
        }
    }
}

/// What one service's balancers do; `None`: nobody told.
pub fn of_service(live: &Live, service: i64, now: Time) -> Option<Balancing> {
    let told: Vec<Told> = lock(&live.balancing).values().filter(|told| told.service == service).cloned().collect();
    (!told.is_empty()).then(|| sum(&told, now))
}

/// What each service's balancers do, by its row number.
pub fn by_service(live: &Live, now: Time) -> BTreeMap<i64, Balancing> {
    let mut services: BTreeMap<i64, Vec<Told>> = BTreeMap::new();
    for told in lock(&live.balancing).values() {
        services.entry(told.service).or_default().push(told.clone());
    }
    services.into_iter().map(|(service, told)| (service, sum(&told, now))).collect()
}

fn sum(told: &[Told], now: Time) -> Balancing {
    let mut sum = Balancing::default();
    let mut weighted = 0.0;
    for Told { at, sample, .. } in told {
        sum.requests += sample.requests;
        sum.errors += sample.errors;
        sum.bytes_in += sample.bytes_in;
        sum.bytes_out += sample.bytes_out;
        if at.plus_ms(FRESH_MS) < now {
            continue;
        }
        sum.connections += sample.connections;
        sum.requests_per_second += sample.requests_per_second;
        sum.errors_per_second += sample.errors_per_second;
        weighted += sample.response_ms.unwrap_or(0.0) * sample.requests_per_second;
    }
    sum.response_ms = (sum.requests_per_second > 0.0).then(|| weighted / sum.requests_per_second);
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_stay_and_rates_of_the_past_do_not_count() {
        let told = |at: i64, requests: u64, rate: f64, response_ms: f64| Told {
            service: 1,
            at: Time(at),
            sample: BalancerSample {
                requests,
                requests_per_second: rate,
                response_ms: Some(response_ms),
                connections: 1,
                ..BalancerSample::default()
            },
        };
        let told = [told(90_000, 10, 30.0, 2.0), told(100_000, 5, 10.0, 6.0), told(1_000, 7, 99.0, 9.0)];
        let sum = sum(&told, Time(100_000));
        assert_eq!((sum.requests, sum.connections, sum.requests_per_second), (22, 2, 40.0));
        assert_eq!(sum.response_ms, Some(3.0));
        let later = super::sum(&told, Time(1_000_000));
        assert_eq!((later.requests, later.requests_per_second, later.response_ms), (22, 0.0, None));
    }
}

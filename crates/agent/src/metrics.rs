//! What an operator can measure on a host, in Prometheus' text form. Hosts of one process share the registry.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use remuda_wire::observe::BalancerSample;

use crate::overlay::PeerStatus;

/// The measures of one process. Clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    pub connected: Gauge,
    pub connects: Counter,
    pub engine_up: Gauge,
    pub containers_planned: Gauge,
    pub containers_observed: Gauge,
    pub actions: Counter,
    pub actions_failed: Counter,
    pub actions_running: Gauge,
    pub restarts: Counter,
    pub streams_open: Gauge,
    pub streams: Counter,
    pub balancer_reloads: Counter,
    pub balancer_runtime_changes: Counter,
    pub balancer_refusals: Counter,
    balancer_requests: Family<Balancer, Counter>,
    balancer_errors: Family<Balancer, Counter>,
    balancer_connections: Family<Balancer, Gauge>,
    balancer_response: Family<Balancer, Gauge<f64, AtomicU64>>,
    peer_up: Family<Vec<(String, String)>, Gauge>,
    peer_round_trip: Family<Vec<(String, String)>, Gauge<f64, AtomicU64>>,
}

/// Whose numbers they are.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Balancer {
    service: String,
    container: String,
}

impl Default for Metrics {
    fn default() -> Metrics {
        let mut registry = Registry::with_prefix("remuda_agent");
        let mut gauge = |name: &str, help: &str| {
            let gauge: Gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let connected = gauge("connected", "Whether the server is connected");
        let engine_up = gauge("engine_up", "Whether the container engine answers");
        let containers_planned = gauge("containers_planned", "Containers in the plan");
        let containers_observed = gauge("containers_observed", "Containers on the engine");
        let actions_running = gauge("actions_running", "Actions on the engine under way");
        let streams_open = gauge("streams_open", "Streams (logs, exec, stats, sockets) that are open");
        let mut counter = |name: &str, help: &str| {
            let counter: Counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let connects = counter("connects", "Connections made to the server");
        let actions = counter("actions", "Actions begun on the engine");
        let actions_failed = counter("actions_failed", "Actions that did not succeed");
        let restarts = counter("restarts", "Containers started again by supervision");
        let streams = counter("streams", "Streams opened");
        let balancer_reloads = counter("balancer_reloads", "Configurations that HAProxy was made to read anew");
        let balancer_runtime_changes =
            counter("balancer_runtime_changes", "Changes of servers and certificates while HAProxy ran");
        let balancer_refusals = counter("balancer_refusals", "Configurations that HAProxy refused");
        let balancer_requests: Family<Balancer, Counter> = Family::default();
        let help = "Requests to a load balancer, connections where it does not read HTTP";
        registry.register("balancer_requests", help, balancer_requests.clone());
        let balancer_errors: Family<Balancer, Counter> = Family::default();
        let help = "Answers 5xx of a load balancer, and connections to which it found no server";
        registry.register("balancer_errors", help, balancer_errors.clone());
        let balancer_connections: Family<Balancer, Gauge> = Family::default();
        registry.register("balancer_connections", "Open connections to a load balancer", balancer_connections.clone());
        let balancer_response: Family<Balancer, Gauge<f64, AtomicU64>> = Family::default();
        let help = "How long the targets of a load balancer took to answer lately";
        registry.register("balancer_response_seconds", help, balancer_response.clone());
        let (peer_up, peer_round_trip) = (Family::default(), Family::default());
        registry.register("peer_up", "Whether another host answers over the managed network", Family::clone(&peer_up));
        registry.register(
            "peer_round_trip_seconds",
            "Time its last answer took",
            Family::<Vec<(String, String)>, Gauge<f64, AtomicU64>>::clone(&peer_round_trip),
        );
        Metrics {
            registry: Arc::new(Mutex::new(registry)),
            connected,
            connects,
            engine_up,
            containers_planned,
            containers_observed,
            actions,
            actions_failed,
            actions_running,
            restarts,
            streams_open,
            streams,
            balancer_reloads,
            balancer_runtime_changes,
            balancer_refusals,
            balancer_requests,
            balancer_errors,
            balancer_connections,
            balancer_response,
            peer_up,
            peer_round_trip,
        }
    }
}

impl Metrics {
    pub fn balancer_sample(&self, service: &str, sample: &BalancerSample) {
        let labels = Balancer { service: service.to_owned(), container: sample.uuid.clone() };
        // Totals that never go back, whoever adds them up.
        let requests = self.balancer_requests.get_or_create(&labels).clone();
        requests.inc_by(sample.requests.saturating_sub(requests.get()));
        let errors = self.balancer_errors.get_or_create(&labels).clone();
        errors.inc_by(sample.errors.saturating_sub(errors.get()));
        self.balancer_connections.get_or_create(&labels).set(i64::try_from(sample.connections).unwrap_or(i64::MAX));
        if let Some(response_ms) = sample.response_ms {
            self.balancer_response.get_or_create(&labels).set(response_ms / 1_000.0);
        }
    }

    /// The balancer is gone, and its numbers with it.
    pub fn balancer_forget(&self, service: &str, uuid: &str) {
        let labels = Balancer { service: service.to_owned(), container: uuid.to_owned() };
        self.balancer_requests.remove(&labels);
        self.balancer_errors.remove(&labels);
        self.balancer_connections.remove(&labels);
        self.balancer_response.remove(&labels);
    }

    /// The other hosts as they stand now. Those that were there before and are not any more are shown no longer.
    pub fn set_peers(&self, peers: &[PeerStatus]) {
        self.peer_up.clear();
        self.peer_round_trip.clear();
        for peer in peers {
            let Some(up) = peer.is_reachable else { continue };
            let labels = vec![("peer".to_owned(), peer.name.clone())];
            self.peer_up.get_or_create(&labels).set(i64::from(up));
            if up {
                let seconds = Duration::from_micros(peer.round_trip_us).as_secs_f64();
                self.peer_round_trip.get_or_create(&labels).set(seconds);
            }
        }
    }

    /// The text a scraper reads.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = text::encode(&mut out, &registry) {
            tracing::warn!(%error, "metrics cannot be written");
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_hosts_are_shown_while_they_are_known() {
        let metrics = Metrics::default();
        let peer = |name: &str, is_reachable| PeerStatus {
            name: name.into(),
            is_reachable,
            round_trip_us: 1500,
            ..PeerStatus::default()
        };
        metrics.set_peers(&[peer("a", Some(true)), peer("b", Some(false)), peer("c", None)]);
        let text = metrics.text();
        for line in [
            "remuda_agent_peer_up{peer=\"a\"} 1",
            "remuda_agent_peer_up{peer=\"b\"} 0",
            "remuda_agent_peer_round_trip_seconds{peer=\"a\"} 0.0015",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
        }
        assert!(!text.contains("round_trip_seconds{peer=\"b\"}") && !text.contains("\"c\""), "{text}");
        metrics.set_peers(&[]);
        assert!(!metrics.text().contains("peer="));
    }

    #[test]
    fn measures_are_written_with_their_names() {
        let metrics = Metrics::default();
        metrics.actions.inc();
        metrics.engine_up.set(1);
        let text = metrics.text();
        assert!(text.contains("remuda_agent_actions_total 1"), "{text}");
        assert!(text.contains("remuda_agent_engine_up 1"), "{text}");
        let sample = BalancerSample { uuid: "u".into(), requests: 7, response_ms: Some(4.0), ..Default::default() };
        metrics.balancer_sample("edge", &sample);
        metrics.balancer_sample("edge", &sample);
        let text = metrics.text();
        let labels = "{service=\"edge\",container=\"u\"}";
        assert!(text.contains(&format!("remuda_agent_balancer_requests_total{labels} 7")), "{text}");
        assert!(text.contains(&format!("remuda_agent_balancer_response_seconds{labels} 0.004")), "{text}");
        metrics.balancer_forget("edge", "u");
        assert!(!metrics.text().contains("edge"));
    }
}

//! What an operator can measure on a host, in Prometheus' text form. Hosts of one process share the registry.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

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
        }
    }
}

impl Metrics {
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
    fn measures_are_written_with_their_names() {
        let metrics = Metrics::default();
        metrics.actions.inc();
        metrics.engine_up.set(1);
        let text = metrics.text();
        assert!(text.contains("remuda_agent_actions_total 1"), "{text}");
        assert!(text.contains("remuda_agent_engine_up 1"), "{text}");
    }
}

//! Numbers for Prometheus, at `/metrics`.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// What requests are counted by. The type is one that is declared, or `other`: callers cannot make labels up.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Request {
    pub method: &'static str,
    pub resource: &'static str,
    pub status: u16,
}

/// The server's own numbers.
pub struct Metrics {
    registry: Registry,
    pub requests: Family<Request, Counter>,
    pub request_seconds: Histogram,
    pub requests_under_way: Gauge,
    pub connections: Gauge,
    pub subscribers: Gauge,
    pub subscribers_dropped: Counter<u64, AtomicU64>,
}

impl Default for Metrics {
    fn default() -> Metrics {
        let bounds = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0];
        let mut metrics = Metrics {
            registry: Registry::with_prefix("remuda"),
            requests: Family::default(),
            request_seconds: Histogram::new(bounds),
            requests_under_way: Gauge::default(),
            connections: Gauge::default(),
            subscribers: Gauge::default(),
            subscribers_dropped: Counter::default(),
        };
        let registry = &mut metrics.registry;
        registry.register("api_requests", "API requests answered", metrics.requests.clone());
        registry.register("api_request_seconds", "Time to answer API requests", metrics.request_seconds.clone());
        registry.register("api_requests_under_way", "API requests being answered", metrics.requests_under_way.clone());
        registry.register("connections", "Open client connections", metrics.connections.clone());
        registry.register("subscribers", "Open event streams", metrics.subscribers.clone());
        registry.register(
            "subscribers_dropped",
            "Event streams closed because their reader was too slow",
            metrics.subscribers_dropped.clone(),
        );
        metrics
    }
}

impl Metrics {
    /// The text Prometheus reads.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing into memory does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

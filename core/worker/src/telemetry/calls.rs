//! Counts and times of client calls, per operation and namespace.
//!
//! Knows nothing of the client: whoever observes its calls tells [`CallMetrics`] of each one.

use super::meter::{Counter, Timing};
use super::metrics::{Family, Metrics};
use super::names::{self, label};
use std::time::Duration;

/// One try of one call.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The RPC's name without its service: `StartWorkflowExecution`.
    pub operation: &'a str,
    /// Empty if the call has none.
    pub namespace: &'a str,
    /// Empty if it is about none.
    pub task_queue: &'a str,
    pub long_poll: bool,
}

/// Handles of client calls, bound when an operation is first seen.
#[derive(Debug)]
pub struct CallMetrics {
    namespaces: Family<Family<Family<OperationMetrics>>>,
}

#[derive(Debug)]
struct OperationMetrics {
    short: Kind,
    long: Kind,
}

#[derive(Debug)]
struct Kind {
    requests: Counter,
    failures: Family<Counter>,
    latency: Timing,
}

impl CallMetrics {
    pub fn new(scope: &Metrics) -> Self {
        let narrowed = |scope: &Metrics, name, value: &str| match value {
            "" => scope.clone(),
            value => scope.with(name, value),
        };
        let scope = scope.clone();
        CallMetrics {
            namespaces: Family::new(move |namespace| {
                let scope = narrowed(&scope, label::NAMESPACE, namespace);
                Family::new(move |queue| {
                    let scope = narrowed(&scope, label::TASK_QUEUE, queue);
                    Family::new(move |operation| {
                        OperationMetrics::new(&scope.with(label::OPERATION, operation))
                    })
                })
            }),
        }
    }

    /// A try begins: it is counted now, since a poll may last for a minute.
    pub fn started(&self, call: &Call<'_>) {
        self.kind(call, |kind| kind.requests.add(1));
    }

    /// A try is over. `failure` is the gRPC code's name, if it failed: `UNAVAILABLE`.
    pub fn finished(&self, call: &Call<'_>, failure: Option<&str>, elapsed: Duration) {
        self.kind(call, |kind| {
            if let Some(code) = failure {
                kind.failures.of(code).add(1);
            }
            kind.latency.observe(elapsed);
        });
    }

    /// Three hash look-ups, no allocation once an operation has been seen.
    fn kind(&self, call: &Call<'_>, record: impl FnOnce(&Kind)) {
        let operation = self.namespaces.of(call.namespace).of(call.task_queue).of(call.operation);
        record(if call.long_poll { &operation.long } else { &operation.short });
    }
}

impl OperationMetrics {
    fn new(scope: &Metrics) -> Self {
        let kind = |requests, failures, latency| {
            let inner = scope.clone();
            Kind {
                requests: scope.counter(requests),
                failures: Family::new(move |code| inner.with(label::STATUS_CODE, code).counter(failures)),
                latency: scope.timing(latency),
            }
        };
        OperationMetrics {
            short: kind(names::REQUEST, names::REQUEST_FAILURE, names::REQUEST_LATENCY),
            long: kind(names::LONG_REQUEST, names::LONG_REQUEST_FAILURE, names::LONG_REQUEST_LATENCY),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{MetricsOptions, Prometheus, PrometheusOptions};
    use std::sync::Arc;

    #[test]
    fn a_failed_poll_counts_as_long_request_and_failure() {
        let prometheus = Arc::new(Prometheus::new(PrometheusOptions::default()));
        let options = MetricsOptions { service_name: None, ..Default::default() };
        let calls = CallMetrics::new(&Metrics::new(prometheus.clone(), options));
        let call =
            Call { operation: "PollNexusTaskQueue", namespace: "ns", task_queue: "q", long_poll: true };
        calls.started(&call);
        calls.finished(&call, None, Duration::from_millis(70));
        calls.started(&call);
        calls.finished(&call, Some("UNAVAILABLE"), Duration::from_millis(70));
        calls.started(&call); // a poll under way
        let text = prometheus.text();
        let labels = "namespace=\"ns\",operation=\"PollNexusTaskQueue\",task_queue=\"q\"";
        assert!(text.contains(&format!("temporal_long_request{{{labels}}} 3\n")), "{text}");
        assert!(
            text.contains(
                "temporal_long_request_failure{namespace=\"ns\",operation=\"PollNexusTaskQueue\",\
                 status_code=\"UNAVAILABLE\",task_queue=\"q\"} 1\n"
            ),
            "{text}"
        );
        assert!(
            text.contains(&format!("temporal_long_request_latency_bucket{{{labels},le=\"100\"}} 2\n")),
            "{text}"
        );
    }
}

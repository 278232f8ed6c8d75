//! Counts and times of client calls, per operation and namespace.
//!
//! Knows nothing of the client: whoever observes its calls hands each one to [`CallMetrics::record_call`].

use super::meter::{Counter, Timing};
use super::metrics::{Family, Metrics};
use super::names::{self, label};
use std::time::Duration;

/// One try of one call, when it has ended.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The RPC's name without its service: `StartWorkflowExecution`.
    pub operation: &'a str,
    /// Empty if the call has none.
    pub namespace: &'a str,
    /// Empty if it is about none.
    pub task_queue: &'a str,
    pub long_poll: bool,
    /// The gRPC code's name of a call that failed: `UNAVAILABLE`.
    pub failure: Option<&'a str>,
    pub elapsed: Duration,
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

    /// Counts one try. Three hash look-ups, no allocation once an operation has been seen.
    pub fn record_call(&self, call: &Call<'_>) {
        let operation = self.namespaces.of(call.namespace).of(call.task_queue).of(call.operation);
        let kind = if call.long_poll { &operation.long } else { &operation.short };
        kind.requests.add(1);
        if let Some(code) = call.failure {
            kind.failures.of(code).add(1);
        }
        kind.latency.observe(call.elapsed);
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
        let mut call = Call {
            operation: "PollNexusTaskQueue",
            namespace: "ns",
            task_queue: "q",
            long_poll: true,
            failure: None,
            elapsed: Duration::from_millis(70),
        };
        calls.record_call(&call);
        call.failure = Some("UNAVAILABLE");
        calls.record_call(&call);
        let text = prometheus.text();
        let labels = "namespace=\"ns\",operation=\"PollNexusTaskQueue\",task_queue=\"q\"";
        assert!(text.contains(&format!("temporal_long_request{{{labels}}} 2\n")), "{text}");
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

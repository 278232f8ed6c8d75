//! Every RPC of every service, by name. What a call means is not known here, only what it is called, and where its
//! request names the namespace and the task queue.

/// One RPC that takes one message and gives one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rpc {
    /// `start_workflow_execution`
    pub name: &'static str,
    /// `/temporal.api.workflowservice.v1.WorkflowService/StartWorkflowExecution`
    pub path: &'static str,
    /// `StartWorkflowExecutionRequest`
    pub request: &'static str,
    /// The field of the request that says for which namespace it is.
    pub namespace: Option<u32>,
    /// The fields of the request, each within the one before, that lead to the name of the task queue by which calls are
    /// counted; none if they are not.
    pub task_queue: &'static [u32],
}

/// Services by name, their RPCs in the order of theirs.
static SERVICES: &[(&str, &[Rpc])] = include!("gen/rpcs.rs");

/// Finds an RPC by the names of its service and itself.
///
/// ```
/// use outlast_proto::services::find;
///
/// let start = find("temporal.api.workflowservice.v1.WorkflowService", "start_workflow_execution").unwrap();
/// assert_eq!(start.path, "/temporal.api.workflowservice.v1.WorkflowService/StartWorkflowExecution");
/// assert_eq!(start.namespace, Some(1));
/// assert_eq!(find("grpc.health.v1.Health", "start_workflow_execution"), None);
/// ```
pub fn find(service: &str, name: &str) -> Option<&'static Rpc> {
    let (_, rpcs) = SERVICES.iter().find(|(known, _)| *known == service)?;
    let index = rpcs.binary_search_by(|rpc| rpc.name.cmp(name)).ok()?;
    rpcs.get(index)
}

/// Every RPC of a service, by name; nothing for a service that is not known.
pub fn all(service: &str) -> &'static [Rpc] {
    SERVICES.iter().find(|(known, _)| *known == service).map_or(&[], |(_, rpcs)| rpcs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rpc_is_found() {
        for (service, rpcs) in SERVICES {
            for rpc in *rpcs {
                assert_eq!(find(service, rpc.name), Some(rpc), "{service} is not sorted");
                assert!(rpc.path.starts_with(&format!("/{service}/")));
            }
        }
        assert_eq!(all("temporal.api.workflowservice.v1.WorkflowService").len(), 123);
        assert_eq!(all("grpc.health.v1.Health").len(), 1);
    }

    #[test]
    fn a_namespace_is_a_header_where_it_is_what_the_call_is_about() {
        let cloud = |name| find("temporal.api.cloud.cloudservice.v1.CloudService", name).unwrap().namespace;
        assert_eq!((cloud("get_namespace"), cloud("add_namespace_region")), (Some(1), None));
    }

    #[test]
    fn calls_are_counted_by_task_queue_wherever_the_request_names_it() {
        let path = |name| find("temporal.api.workflowservice.v1.WorkflowService", name).unwrap().task_queue;
        assert_eq!(path("start_workflow_execution"), [4, 1]);
        assert_eq!(path("update_task_queue_config"), [3]);
        assert_eq!(path("execute_multi_operation"), [2, 1, 4, 1]);
        assert!(path("start_activity_execution").is_empty());
        assert!(path("describe_namespace").is_empty());
    }
}

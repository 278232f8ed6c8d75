//! Every RPC of every service, by name. What a call means is not known here, only what it is called, and where its
//! request names the namespace.

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
}

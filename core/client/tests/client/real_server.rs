//! One look at a real Temporal server, if `OUTLAST_TEST_SERVER` names one (`host:port`).

use bytes::Bytes;
use outlast_client::{CallOptions, Client, ClientOptions, Code, Compression};
use outlast_proto::temporal::api::workflowservice::v1 as api;
use prost::Message;

#[tokio::test]
async fn a_real_server_answers() {
    let Ok(address) = std::env::var("OUTLAST_TEST_SERVER") else {
        eprintln!("SKIPPED: OUTLAST_TEST_SERVER is not set, no real server was tried");
        return;
    };
    for compression in [Compression::Auto, Compression::Gzip] {
        let mut options = ClientOptions::new(address.parse().unwrap());
        options.compression = compression;
        let client = Client::connect(options).await.unwrap();
        assert!(client.capabilities().unwrap().signal_and_query_header);

        let described = client.describe_namespace("default", CallOptions::default()).await.unwrap();
        assert_eq!(described.namespace_info.unwrap().name, "default");

        let error = client.describe_namespace("no-such-namespace", CallOptions::default()).await.unwrap_err();
        assert_eq!(error.code, Code::NotFound);
        assert!(error.status().unwrap().details[0].type_url.ends_with("NamespaceNotFoundFailure"));

        let request = Bytes::from(api::GetClusterInfoRequest::default().encode_to_vec());
        let service = "temporal.api.workflowservice.v1.WorkflowService";
        let answer =
            client.call_bytes(service, "GetClusterInfo", request, CallOptions::default()).await.unwrap();
        assert!(!api::GetClusterInfoResponse::decode(answer).unwrap().server_version.is_empty());
    }
}

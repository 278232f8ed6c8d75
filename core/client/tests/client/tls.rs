//! TLS with certificates made here: who is trusted, who we are, and by which name.

use std::sync::Arc;

use bytes::Bytes;
use outlast_client::{CallOptions, Client, ClientOptions, Error, Kind, TlsIdentity, TlsOptions};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{RootCertStore, ServerConfig, crypto::ring, server::WebPkiClientVerifier};

use crate::server::{Reply, Server, quick};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn issued(authority: &Authority, name: &str, usage: ExtendedKeyUsagePurpose) -> TlsIdentity {
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    params.extended_key_usages.push(usage);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    TlsIdentity { certificate: certificate.pem().into_bytes(), key: key.serialize_pem().into_bytes() }
}

/// A server named `name`, that wants a certificate of `clients` if that is given.
async fn serve(own: &Authority, name: &str, clients: Option<&Authority>) -> Server {
    let own = issued(own, name, ExtendedKeyUsagePurpose::ServerAuth);
    let provider = Arc::new(ring::default_provider());
    let config =
        ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let config = match clients {
        None => config.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.der().clone()).unwrap();
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            config.with_client_cert_verifier(verifier)
        }
    };
    let chain = vec![CertificateDer::from_pem_slice(&own.certificate).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(&own.key).unwrap();
    let mut config = config.with_single_cert(chain, key).unwrap();
    config.alpn_protocols.push(b"h2".to_vec());
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let reply = |_: &_| Reply::Message(b"secure".to_vec());
    Server::with(reply, move |stream| {
        let acceptor = acceptor.clone();
        async move { acceptor.accept(stream).await.ok() }
    })
    .await
}

fn trusting(server: &Server, authority: &Authority) -> ClientOptions {
    let mut options = server.options();
    options.tls = Some(TlsOptions { ca: Some(authority.pem().into_bytes()), ..TlsOptions::default() });
    options
}

async fn ask(options: ClientOptions) -> Result<Bytes, Error> {
    let client = Client::lazy(options)?;
    client.call_bytes("test.Service", "Method", Bytes::new(), CallOptions::default()).await
}

#[tokio::test]
async fn a_server_of_a_trusted_authority() {
    let authority = authority();
    let server = serve(&authority, "127.0.0.1", None).await;
    let mut options = trusting(&server, &authority);
    options.api_key = Some("key".into());
    assert_eq!(ask(options).await.unwrap(), "secure");
    assert_eq!(server.seen()[0].header("authorization"), Some("Bearer key"));
}

#[tokio::test]
async fn the_scheme_turns_tls_on() {
    let authority = authority();
    let server = serve(&authority, "127.0.0.1", None).await;
    let mut options = quick(&format!("https://{}", server.address));
    options.tls = trusting(&server, &authority).tls;
    assert_eq!(ask(options).await.unwrap(), "secure");
}

#[tokio::test]
async fn a_server_of_another_authority_is_not_spoken_to() {
    let server = serve(&authority(), "127.0.0.1", None).await;
    let error = ask(trusting(&server, &authority())).await.unwrap_err();
    assert_eq!(error.kind, Kind::Unreachable);
    assert!(error.message.contains("invalid peer certificate"), "{}", error.message);
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn a_server_of_another_name_needs_the_override() {
    let authority = authority();
    let server = serve(&authority, "temporal.test", None).await;
    let options = trusting(&server, &authority);
    let error = ask(options.clone()).await.unwrap_err();
    assert!(error.message.contains("not valid for name"), "{}", error.message);

    let tls = options.tls.clone().unwrap();
    let tls = Some(TlsOptions { server_name: Some("temporal.test".into()), ..tls });
    assert_eq!(ask(ClientOptions { tls, ..options }).await.unwrap(), "secure");
    assert_eq!(server.seen()[0].authority, "temporal.test");
}

#[tokio::test]
async fn a_certificate_may_be_for_yet_another_name() {
    let authority = authority();
    let server = serve(&authority, "inner.test", None).await;
    let options = trusting(&server, &authority);
    let named = |name: &str| {
        let tls = TlsOptions {
            server_name: Some("outer.test".into()),
            certificate_name: Some(name.into()),
            ..options.tls.clone().unwrap()
        };
        ClientOptions { tls: Some(tls), ..options.clone() }
    };
    assert_eq!(ask(named("inner.test")).await.unwrap(), "secure");
    assert_eq!(server.seen()[0].authority, "outer.test");
    let error = ask(named("outer.test")).await.unwrap_err();
    assert!(error.message.contains("not valid for name"), "{}", error.message);
    let mut nobody = named("inner.test");
    nobody.tls.as_mut().unwrap().ca = Some(b"nonsense".to_vec());
    assert!(ask(nobody).await.unwrap_err().message.contains("no root trust anchors"));
}

#[tokio::test]
async fn anyone_is_trusted_if_that_is_asked_for() {
    let server = serve(&authority(), "temporal.test", None).await;
    let mut options = server.options();
    options.tls = Some(TlsOptions { verification_disabled: true, ..TlsOptions::default() });
    assert_eq!(ask(options).await.unwrap(), "secure");
}

#[tokio::test]
async fn a_server_that_wants_to_know_us() {
    let (authority, clients) = (authority(), authority());
    let server = serve(&authority, "127.0.0.1", Some(&clients)).await;
    let options = trusting(&server, &authority);
    assert_eq!(ask(options.clone()).await.unwrap_err().kind, Kind::Unreachable);
    assert!(server.seen().is_empty());

    let identity = Some(issued(&clients, "worker", ExtendedKeyUsagePurpose::ClientAuth));
    let tls = Some(TlsOptions { identity, ..options.tls.clone().unwrap() });
    assert_eq!(ask(ClientOptions { tls, ..options }).await.unwrap(), "secure");
}

#[tokio::test]
async fn settings_that_cannot_work_are_found_before_connecting() {
    let mut options = quick("127.0.0.1:1");
    let identity = Some(TlsIdentity { certificate: b"no".to_vec(), key: b"pem".to_vec() });
    options.tls = Some(TlsOptions { ca: Some(Vec::new()), identity, ..TlsOptions::default() });
    let error = Client::lazy(options).unwrap_err();
    assert_eq!(error.kind, Kind::Config);
    assert!(error.message.contains("TLS settings cannot be used"), "{}", error.message);
}

//! Who we are and who the other side is.

use std::sync::Arc;

use gramme_ring::NodeId;
use quinn::crypto::rustls::{HandshakeData, QuicClientConfig, QuicServerConfig};
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::cipher_suite::{TLS13_AES_128_GCM_SHA256, TLS13_CHACHA20_POLY1305_SHA256};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use x509_parser::extensions::GeneralName;

use crate::pki::node_id_of;
use crate::settings::Protocol;

/// The name that every node's certificate carries for TLS. Which node it is, its URI says.
pub(crate) const SERVER_NAME: &str = "node.gramme";

/// What a certificate makes of its holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// A node, by its id.
    Node(NodeId),
    /// A client, by its name.
    Client(String),
}

impl Role {
    pub(crate) fn uri(&self, cluster: &str) -> String {
        match self {
            Self::Node(id) => format!("gramme://{cluster}/node/{id}"),
            Self::Client(name) => format!("gramme://{cluster}/client/{name}"),
        }
    }

    fn parse(uri: &str) -> Option<(&str, Self)> {
        let (cluster, role) = uri.strip_prefix("gramme://")?.split_once('/')?;
        let role = match role.split_once('/')? {
            ("node", id) => Self::Node(id.parse().ok()?),
            ("client", name) => Self::Client(name.to_owned()),
            _ => return None,
        };
        Some((cluster, role))
    }
}

/// Why credentials cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// A file is not PEM, or lacks what it should hold.
    #[error("the {what} is not usable PEM: {error}")]
    Pem {
        /// Which file.
        what: &'static str,
        /// What is wrong.
        error: rustls::pki_types::pem::Error,
    },
    /// A certificate is not one of this kind of cluster, or not one certificate.
    #[error("the certificate {0}")]
    Certificate(&'static str),
    /// TLS does not take them, as when key and certificate do not belong together.
    #[error("TLS does not take the credentials: {0}")]
    Tls(String),
}

/// Our own certificate and key, and the authority that we trust.
#[derive(Debug)]
pub struct Credentials {
    cluster: String,
    role: Role,
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Credentials {
    /// Reads credentials from PEM: the authority's certificate, ours, and our key.
    ///
    /// # Errors
    /// [`CredentialError`] says which of them is at fault.
    pub fn from_pem(authority: &[u8], certificate: &[u8], key: &[u8]) -> Result<Self, CredentialError> {
        let pem = |what| move |error| CredentialError::Pem { what, error };
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(authority).map_err(pem("authority's certificate"))?;
        roots.add(root).map_err(|error| CredentialError::Tls(error.to_string()))?;
        let own = CertificateDer::from_pem_slice(certificate).map_err(pem("certificate"))?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(pem("key"))?;
        let (cluster, role) = read_certificate(&own)?;
        Ok(Self { cluster, role, roots: Arc::new(roots), chain: vec![own], key })
    }

    /// The cluster that the certificate names.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// What we are.
    #[must_use]
    pub const fn role(&self) -> &Role {
        &self.role
    }

    /// A secret of this identity, the same at every start.
    pub(crate) fn secret(&self) -> &[u8] {
        self.key.secret_der()
    }

    pub(crate) fn server(&self) -> Result<QuicServerConfig, CredentialError> {
        let provider = provider();
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&self.roots), Arc::clone(&provider))
                .build()
                .map_err(|error| CredentialError::Tls(error.to_string()))?;
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(tls)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .map_err(tls)?;
        config.alpn_protocols = Protocol::ALL.map(|protocol| protocol.alpn().to_vec()).into();
        // No session is resumed: who was removed must not come back on an old ticket.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        QuicServerConfig::try_from(config).map_err(|error| CredentialError::Tls(error.to_string()))
    }

    pub(crate) fn client(&self, protocol: Protocol) -> Result<QuicClientConfig, CredentialError> {
        let mut config = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(tls)?
            .with_root_certificates(Arc::clone(&self.roots))
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())
            .map_err(tls)?;
        config.alpn_protocols = vec![protocol.alpn().to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        QuicClientConfig::try_from(config).map_err(|error| CredentialError::Tls(error.to_string()))
    }
}

fn tls(error: rustls::Error) -> CredentialError {
    CredentialError::Tls(error.to_string())
}

fn provider() -> Arc<CryptoProvider> {
    // The client's order decides, and AES-128 is the cheapest here.
    let cipher_suites = vec![TLS13_AES_128_GCM_SHA256, TLS13_CHACHA20_POLY1305_SHA256];
    Arc::new(CryptoProvider { cipher_suites, ..rustls::crypto::ring::default_provider() })
}

/// The cluster and role that a certificate names. It must name exactly one, and a node's id must be the hash
/// of its key.
fn read_certificate(certificate: &CertificateDer<'_>) -> Result<(String, Role), CredentialError> {
    let (rest, parsed) = x509_parser::parse_x509_certificate(certificate.as_ref())
        .map_err(|_| CredentialError::Certificate("is not X.509"))?;
    if !rest.is_empty() {
        return Err(CredentialError::Certificate("is followed by something else"));
    }
    let names = parsed
        .subject_alternative_name()
        .map_err(|_| CredentialError::Certificate("has names that cannot be read"))?
        .ok_or(CredentialError::Certificate("names no role"))?;
    let mut uris = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    let (Some(uri), None) = (uris.next(), uris.next()) else {
        return Err(CredentialError::Certificate("must name one role, and only one"));
    };
    let (cluster, role) = Role::parse(uri).ok_or(CredentialError::Certificate("names no role"))?;
    if let Role::Node(id) = role
        && id != node_id_of(parsed.public_key().raw)
    {
        return Err(CredentialError::Certificate("names a node that has another key"));
    }
    Ok((cluster.to_owned(), role))
}

/// The other side of a connection, as its certificate says.
pub(crate) struct Peer {
    pub(crate) protocol: Protocol,
    pub(crate) cluster: String,
    pub(crate) role: Role,
}

pub(crate) fn peer_of(connection: &quinn::Connection) -> Result<Peer, CredentialError> {
    let handshake = connection.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
    let alpn = handshake.and_then(|handshake| handshake.protocol.clone());
    let protocol = alpn.as_deref().and_then(Protocol::from_alpn);
    let protocol = protocol.ok_or(CredentialError::Certificate("came with an unknown protocol"))?;
    let certificates = connection
        .peer_identity()
        .and_then(|identity| identity.downcast::<Vec<CertificateDer<'static>>>().ok());
    let certificates = certificates.ok_or(CredentialError::Certificate("is missing"))?;
    let first = certificates.first().ok_or(CredentialError::Certificate("is missing"))?;
    let (cluster, role) = read_certificate(first)?;
    Ok(Peer { protocol, cluster, role })
}

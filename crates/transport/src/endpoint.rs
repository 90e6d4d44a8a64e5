//! A socket: accepts links, and dials them.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use gramme_ring::NodeId;
use quinn::{AsyncUdpSocket, Runtime, TokioRuntime};
use socket2::{Domain, Protocol as SocketProtocol, Socket, Type};
use tokio::sync::mpsc;

use crate::frame::MAX_FRAME;
use crate::identity::{CredentialError, Credentials, Role, SERVER_NAME, peer_of};
use crate::link::{Link, LinkEvent, PerAddress, Side, VIOLATION, establish};
use crate::settings::{self, HANDSHAKE, MAX_INCOMING, MAX_PER_ADDRESS, Protocol, RETRY_FROM, SOCKET_BUFFER};

/// Why an endpoint was not made.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address cannot be used.
    #[error("cannot listen on {address}: {error}")]
    Socket {
        /// Which address.
        address: SocketAddr,
        /// What the operating system said.
        error: io::Error,
    },
    /// The credentials cannot be used.
    #[error(transparent)]
    Credentials(#[from] CredentialError),
}

/// Why there is no link. Nothing was asked of the other side.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No answer in time.
    #[error("no answer in time")]
    TimedOut,
    /// The other side is not who was wanted.
    #[error("the other side is {found}, not {wanted}")]
    WrongPeer {
        /// Who was wanted.
        wanted: String,
        /// Who it is.
        found: String,
    },
    /// Anything else, as the connection says it.
    #[error("{0}")]
    Failed(String),
}

/// A bound socket that speaks for one identity.
#[derive(Clone, Debug)]
pub struct Endpoint {
    endpoint: quinn::Endpoint,
    credentials: Arc<RwLock<Arc<Credentials>>>,
    listens: bool,
    max_client_frame: usize,
    events: mpsc::Sender<LinkEvent>,
}

impl Endpoint {
    /// Binds `address`. With `listen`, the largest frame that a client may send, links are accepted too. What happens on any link is told to `events`;
    /// while that is full, nothing is read. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`BindError`] if the address is taken or the credentials do not fit together.
    pub fn bind(
        address: SocketAddr,
        credentials: Arc<Credentials>,
        listen: Option<usize>,
        events: mpsc::Sender<LinkEvent>,
    ) -> Result<Self, BindError> {
        let socket = bind_socket(address).and_then(|socket| TokioRuntime.wrap_udp_socket(socket));
        let socket = socket.map_err(|error| BindError::Socket { address, error })?;
        Self::over(address, socket, credentials, listen, events, None)
    }

    /// The same over a network in memory.
    ///
    /// # Errors
    /// [`BindError`] if the credentials do not fit together.
    #[cfg(feature = "memory")]
    pub fn in_memory(
        net: &crate::memory::Net,
        address: SocketAddr,
        credentials: Arc<Credentials>,
        listen: Option<usize>,
        events: mpsc::Sender<LinkEvent>,
        seed: [u8; 32],
    ) -> Result<Self, BindError> {
        Self::over(address, net.bind(address), credentials, listen, events, Some(seed))
    }

    fn over(
        address: SocketAddr,
        socket: Arc<dyn AsyncUdpSocket>,
        credentials: Arc<Credentials>,
        listen: Option<usize>,
        events: mpsc::Sender<LinkEvent>,
        seed: Option<[u8; 32]>,
    ) -> Result<Self, BindError> {
        let server = listen.map(|_| server_config(&credentials)).transpose()?;
        let mut config = settings::endpoint(credentials.secret());
        config.rng_seed(seed);
        let endpoint =
            quinn::Endpoint::new_with_abstract_socket(config, server, socket, Arc::new(TokioRuntime))
                .map_err(|error| BindError::Socket { address, error })?;
        let credentials = Arc::new(RwLock::new(credentials));
        let max_client_frame = listen.unwrap_or(0).min(MAX_FRAME);
        let bound = Self { endpoint, credentials, listens: listen.is_some(), max_client_frame, events };
        if bound.listens {
            tokio::spawn(accept_all(bound.clone()));
        }
        Ok(bound)
    }

    fn credentials(&self) -> Arc<Credentials> {
        Arc::clone(&self.credentials.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Speaks with other credentials of the same identity from now on: a renewed certificate, another
    /// authority. Links that stand go on as they are.
    ///
    /// # Errors
    /// [`CredentialError`] if they are of another cluster or role, or do not fit together; then nothing has
    /// changed.
    pub fn renew(&self, credentials: Arc<Credentials>) -> Result<(), CredentialError> {
        let now = self.credentials();
        if (credentials.cluster(), credentials.role()) != (now.cluster(), now.role()) {
            return Err(CredentialError::Certificate("is of another cluster or role than the present one"));
        }
        if self.listens {
            self.endpoint.set_server_config(Some(server_config(&credentials)?));
        }
        *self.credentials.write().unwrap_or_else(PoisonError::into_inner) = credentials;
        Ok(())
    }

    /// The address it is bound to.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// Dials a node; `node` is who must be there, `None` for any node of the cluster. The link is also told
    /// to the events, before anything that comes on it.
    ///
    /// # Errors
    /// [`ConnectError`] if nobody answers, or somebody else does.
    pub async fn connect(
        &self,
        address: SocketAddr,
        protocol: Protocol,
        node: Option<NodeId>,
    ) -> Result<Link, ConnectError> {
        let failed = |error: &dyn std::fmt::Display| ConnectError::Failed(error.to_string());
        let credentials = self.credentials();
        let tls = credentials.client(protocol).map_err(|error| failed(&error))?;
        let mut config = quinn::ClientConfig::new(Arc::new(tls));
        config.transport_config(settings::transport());
        let connecting =
            self.endpoint.connect_with(config, address, SERVER_NAME).map_err(|error| failed(&error))?;
        let connected = tokio::time::timeout(HANDSHAKE, connecting).await;
        let connection = connected.map_err(|_| ConnectError::TimedOut)?.map_err(|error| failed(&error))?;
        let peer = peer_of(&connection).map_err(|error| failed(&error))?;
        let right = peer.cluster == credentials.cluster()
            && match (&peer.role, node) {
                (Role::Node(found), Some(wanted)) => *found == wanted,
                (Role::Node(_), None) => true,
                (Role::Client(_), _) => false,
            };
        if !right {
            connection.close(VIOLATION, b"not who was wanted");
            let wanted =
                node.map_or_else(|| "a node".to_owned(), |node| Role::Node(node).uri(credentials.cluster()));
            return Err(ConnectError::WrongPeer { wanted, found: peer.role.uri(&peer.cluster) });
        }
        establish(connection, Side::Dialer, (protocol, peer.role), MAX_FRAME, self.events.clone()).await
    }

    /// Closes all links, without waiting until the other sides have been told.
    pub fn close_now(&self) {
        self.endpoint.close(quinn::VarInt::from_u32(0), b"going away");
    }

    /// Closes all links, and returns when the other sides have been told.
    pub async fn close(&self) {
        self.endpoint.close(quinn::VarInt::from_u32(0), b"going away");
        self.endpoint.wait_idle().await;
    }
}

fn bind_socket(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(SocketProtocol::UDP))?;
    // The kernel grants what it allows; less is no error.
    socket.set_recv_buffer_size(SOCKET_BUFFER)?;
    socket.set_send_buffer_size(SOCKET_BUFFER)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn server_config(credentials: &Credentials) -> Result<quinn::ServerConfig, CredentialError> {
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(credentials.server()?));
    config
        .transport_config(settings::transport())
        .migration(false)
        .max_incoming(MAX_INCOMING)
        .incoming_buffer_size(64 << 10)
        .incoming_buffer_size_total(16 << 20);
    Ok(config)
}

async fn accept_all(endpoint: Endpoint) {
    let under_way = Arc::new(AtomicUsize::new(0));
    let per_address = Arc::new(PerAddress::default());
    while let Some(incoming) = endpoint.endpoint.accept().await {
        let address = incoming.remote_address();
        if under_way.load(Ordering::Relaxed) >= RETRY_FROM && !incoming.remote_address_validated() {
            // Under pressure an address proves that it is no forgery before we spend anything on it.
            if let Err(error) = incoming.retry() {
                error.into_incoming().refuse();
            }
            continue;
        }
        let Some(place) = per_address.enter(address.ip(), MAX_PER_ADDRESS) else {
            tracing::warn!(%address, "a connection was refused: too many from this address");
            incoming.refuse();
            continue;
        };
        let (endpoint, under_way) = (endpoint.clone(), Arc::clone(&under_way));
        under_way.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move {
            match accept_one(&endpoint, incoming).await {
                Ok(link) => link.hold(place),
                Err(error) => tracing::warn!(%address, %error, "a connection was refused"),
            }
            under_way.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

async fn accept_one(endpoint: &Endpoint, incoming: quinn::Incoming) -> Result<Link, ConnectError> {
    let failed = |error: &dyn std::fmt::Display| ConnectError::Failed(error.to_string());
    let accepted = tokio::time::timeout(HANDSHAKE, incoming).await;
    let connection = accepted.map_err(|_| ConnectError::TimedOut)?.map_err(|error| failed(&error))?;
    let peer = peer_of(&connection).map_err(|error| {
        connection.close(VIOLATION, b"bad certificate");
        failed(&error)
    })?;
    let allowed = match (peer.protocol, &peer.role) {
        (Protocol::Node | Protocol::Background, role) => matches!(role, Role::Node(_)),
        (Protocol::Client, _) => true,
    };
    let credentials = endpoint.credentials();
    if peer.cluster != credentials.cluster() || !allowed {
        connection.close(VIOLATION, b"this certificate does not open this protocol");
        let wanted = format!("{:?} of {}", peer.protocol, credentials.cluster());
        return Err(ConnectError::WrongPeer { wanted, found: peer.role.uri(&peer.cluster) });
    }
    let max_frame = match peer.protocol {
        Protocol::Node | Protocol::Background => MAX_FRAME,
        Protocol::Client => endpoint.max_client_frame,
    };
    let peer = (peer.protocol, peer.role);
    establish(connection, Side::Acceptor, peer, max_frame, endpoint.events.clone()).await
}

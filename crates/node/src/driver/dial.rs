//! Keeping connections to every peer: of each two nodes the one with the smaller id dials.
//!
//! A node that comes back elsewhere is not found by those who dial it where it was, and they hear of its new
//! address by gossip, for which there must be a connection. So the other one dials too, after a while without any.

use std::net::SocketAddr;
use std::time::Duration;

use gramme_ring::NodeId;
use gramme_transport::{Endpoint, Protocol};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::watch;
use tokio::time::Instant;

/// Between two attempts, at least and at most, in milliseconds.
const PAUSE: std::ops::Range<u64> = 100..300;
/// A connection that ends sooner than this was not wanted: it is not tried again at once.
const UNWANTED: Duration = Duration::from_secs(2);
const AFTER_UNWANTED: Duration = Duration::from_secs(1);
/// How long the node with the greater id waits for the other to dial, in milliseconds.
const SECOND: std::ops::Range<u64> = 2_000..4_000;

/// Where a peer listens, and whether there is a connection to it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Target {
    pub(crate) addresses: Vec<String>,
    pub(crate) is_connected: bool,
}

/// Keeps connections to peers, more of them as they become known. Nobody dials for a driver that is gone.
pub(crate) struct Dialling {
    pub(crate) endpoint: Endpoint,
    pub(crate) me: NodeId,
    pub(crate) rng: StdRng,
    pub(crate) tasks: tokio::task::JoinSet<()>,
}

impl Dialling {
    pub(crate) fn keep_connected(&mut self, peer: NodeId, target: &watch::Sender<Target>) {
        let is_first = self.me < peer;
        // Of background connections only one end dials.
        let background = is_first.then_some(Protocol::Background);
        for protocol in std::iter::once(Protocol::Node).chain(background) {
            let dialler = Dialler { endpoint: self.endpoint.clone(), protocol, peer, is_first };
            let rng = StdRng::from_seed(self.rng.random());
            self.tasks.spawn(dialler.keep_connected(target.subscribe(), rng));
        }
    }
}

/// Keeps one kind of connection to one peer.
pub(crate) struct Dialler {
    pub(crate) endpoint: Endpoint,
    pub(crate) protocol: Protocol,
    pub(crate) peer: NodeId,
    /// Whether this is the one of the two that dials at once.
    pub(crate) is_first: bool,
}

impl Dialler {
    /// Dials the peer whenever there is no connection of this kind to it, for ever.
    pub(crate) async fn keep_connected(self, mut target: watch::Receiver<Target>, mut rng: StdRng) {
        let mut warned = false;
        loop {
            if !self.is_wanted(&mut target, &mut rng).await {
                // Nobody would hear of a connection any more.
                return;
            }
            let addresses = target.borrow_and_update().addresses.clone();
            for text in &addresses {
                // The other side may have dialled meanwhile.
                if self.protocol == Protocol::Background || !target.borrow().is_connected {
                    self.dial(text, &mut warned).await;
                }
            }
            tokio::time::sleep(Duration::from_millis(rng.random_range(PAUSE))).await;
        }
    }

    /// Waits until a connection is wanted; says no if it never will be.
    async fn is_wanted(&self, target: &mut watch::Receiver<Target>, rng: &mut StdRng) -> bool {
        if self.protocol == Protocol::Background {
            // Only this end dials those, and knows by itself when one is gone.
            return target.has_changed().is_ok();
        }
        loop {
            if target.wait_for(|target| !target.is_connected).await.is_err() {
                return false;
            }
            if self.is_first {
                return true;
            }
            let patience = Duration::from_millis(rng.random_range(SECOND));
            let connected = target.wait_for(|target| target.is_connected);
            match tokio::time::timeout(patience, connected).await {
                Err(_) => return true,
                Ok(Ok(_)) => {}
                Ok(Err(_)) => return false,
            }
        }
    }

    /// Tries each address that a text stands for; returns when a connection has ended, or there was none.
    async fn dial(&self, text: &str, warned: &mut bool) {
        let peer = self.peer;
        let resolved = match resolve(text).await {
            Ok(resolved) => resolved,
            Err(error) => {
                if !std::mem::replace(warned, true) {
                    tracing::warn!(%peer, address = %text, %error, "cannot find this address; trying on");
                }
                return;
            }
        };
        for address in resolved {
            match self.endpoint.connect(address, self.protocol, Some(peer)).await {
                Ok(link) => {
                    let connected = Instant::now();
                    link.closed().await;
                    *warned = false;
                    if connected.elapsed() < UNWANTED {
                        tokio::time::sleep(AFTER_UNWANTED).await;
                    }
                }
                Err(error) if !std::mem::replace(warned, true) => {
                    tracing::warn!(%peer, %address, %error, "cannot connect; trying on");
                }
                Err(error) => tracing::debug!(%peer, %address, %error, "cannot connect"),
            }
        }
    }
}

/// The addresses that a literal one or a host name stands for.
async fn resolve(text: &str) -> std::io::Result<Vec<SocketAddr>> {
    if let Ok(address) = text.parse() {
        return Ok(vec![address]);
    }
    Ok(tokio::net::lookup_host(text).await?.collect())
}

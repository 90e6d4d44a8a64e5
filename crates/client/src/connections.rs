//! Links to nodes, made when they are needed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use gramme_ring::NodeId;
use gramme_transport::{Caller, Endpoint, LinkEvent, LinkId, Protocol};
use tokio::sync::mpsc;
use tokio::time::Instant;

type Callers = Arc<Mutex<BTreeMap<LinkId, Caller>>>;

/// One node: where it is, and the link to it if there is one.
#[derive(Debug, Default)]
struct Node {
    addresses: Mutex<Vec<String>>,
    /// Held while it is dialled, so that it is dialled once.
    dialled: tokio::sync::Mutex<Dialled>,
}

#[derive(Debug, Default)]
struct Dialled {
    caller: Option<Caller>,
    /// When dialling failed last, and why.
    failed: Option<(Instant, String)>,
}

#[derive(Debug)]
pub(crate) struct Connections {
    endpoint: Endpoint,
    nodes: Mutex<BTreeMap<NodeId, Arc<Node>>>,
    callers: Callers,
}

impl Connections {
    pub(crate) fn new(endpoint: Endpoint, events: mpsc::Receiver<LinkEvent>) -> Self {
        let callers = Callers::default();
        tokio::spawn(pump(events, Arc::clone(&callers)));
        Self { endpoint, nodes: Mutex::default(), callers }
    }

    /// Replaces what is known of the nodes' addresses.
    pub(crate) fn set_addresses(&self, addresses: &[(NodeId, Vec<String>)]) {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        for (id, texts) in addresses {
            let node = nodes.entry(*id).or_default();
            *node.addresses.lock().unwrap_or_else(PoisonError::into_inner) = texts.clone();
        }
    }

    /// A caller to any node at `address`.
    pub(crate) async fn dial(&self, address: SocketAddr, node: Option<NodeId>) -> Result<Caller, String> {
        let connected = self.endpoint.connect(address, Protocol::Client, node).await;
        let link = connected.map_err(|error| format!("{address}: {error}"))?;
        let caller = Caller::new(link.clone());
        self.callers.lock().unwrap_or_else(PoisonError::into_inner).insert(link.id(), caller.clone());
        Ok(caller)
    }

    /// The caller to `id`, dialling if there is none.
    pub(crate) async fn caller(&self, id: NodeId) -> Result<Caller, String> {
        let node = {
            let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
            nodes.get(&id).cloned().ok_or_else(|| format!("{id} has no address"))?
        };
        let began = Instant::now();
        let mut dialled = node.dialled.lock().await;
        if let Some(caller) = dialled.caller.as_ref().filter(|caller| self.is_known(caller)) {
            return Ok(caller.clone());
        }
        // Whoever waited while somebody else dialled in vain does not dial once more.
        if let Some((_, why)) = dialled.failed.as_ref().filter(|(at, _)| *at >= began) {
            return Err(why.clone());
        }
        let addresses = node.addresses.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut why = format!("{id} has no address");
        for text in addresses {
            // A literal address, or a host name with a port.
            let resolved = match tokio::net::lookup_host(&text).await {
                Ok(resolved) => resolved.collect::<Vec<_>>(),
                Err(error) => {
                    why = format!("{text}: {error}");
                    continue;
                }
            };
            for address in resolved {
                match self.dial(address, Some(id)).await {
                    Ok(caller) => {
                        *dialled = Dialled { caller: Some(caller.clone()), failed: None };
                        return Ok(caller);
                    }
                    Err(error) => why = error,
                }
            }
        }
        *dialled = Dialled { caller: None, failed: Some((Instant::now(), why.clone())) };
        Err(why)
    }

    fn is_known(&self, caller: &Caller) -> bool {
        let callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        !caller.link().is_closed() && callers.contains_key(&caller.link().id())
    }

    pub(crate) async fn close(&self) {
        self.endpoint.close().await;
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        self.endpoint.close_now();
    }
}

async fn pump(mut events: mpsc::Receiver<LinkEvent>, callers: Callers) {
    while let Some(event) = events.recv().await {
        match event {
            LinkEvent::Frames { link, frames, .. } => {
                let caller = callers.lock().unwrap_or_else(PoisonError::into_inner).get(&link.id()).cloned();
                if let Some(caller) = caller {
                    caller.take(frames);
                }
            }
            LinkEvent::Down { link, reason, .. } => {
                tracing::debug!(%reason, "a link is gone");
                let gone = callers.lock().unwrap_or_else(PoisonError::into_inner).remove(&link.id());
                if let Some(caller) = gone {
                    caller.close();
                }
            }
            LinkEvent::Up(_) | LinkEvent::Suspect(_) | LinkEvent::Recovered(_) => {}
        }
    }
}

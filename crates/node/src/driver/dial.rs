//! Keeping connections to every peer: of each two nodes the one with the smaller id dials.

use std::net::SocketAddr;
use std::time::Duration;

use gramme_ring::NodeId;
use gramme_transport::{Endpoint, Protocol};
use rand::RngExt;
use rand::rngs::StdRng;
use tokio::time::Instant;

/// Between two attempts, at least and at most, in milliseconds.
const PAUSE: std::ops::Range<u64> = 100..300;
/// A connection that ends sooner than this was not wanted: it is not tried again at once.
const UNWANTED: Duration = Duration::from_secs(2);
const AFTER_UNWANTED: Duration = Duration::from_secs(1);

/// Dials `node` whenever there is no connection of this kind to it, for ever.
pub(crate) async fn keep_connected(
    endpoint: Endpoint,
    protocol: Protocol,
    node: NodeId,
    addresses: Vec<String>,
    mut rng: StdRng,
) {
    let mut warned = false;
    loop {
        for text in &addresses {
            let resolved = match resolve(text).await {
                Ok(resolved) => resolved,
                Err(error) => {
                    if !std::mem::replace(&mut warned, true) {
                        tracing::warn!(peer = %node, address = %text, %error, "cannot find this address; trying on");
                    }
                    continue;
                }
            };
            for address in resolved {
                match endpoint.connect(address, protocol, Some(node)).await {
                    Ok(link) => {
                        let connected = Instant::now();
                        link.closed().await;
                        warned = false;
                        if connected.elapsed() < UNWANTED {
                            tokio::time::sleep(AFTER_UNWANTED).await;
                        }
                    }
                    Err(error) if !std::mem::replace(&mut warned, true) => {
                        tracing::warn!(peer = %node, %address, %error, "cannot connect; trying on");
                    }
                    Err(error) => tracing::debug!(peer = %node, %address, %error, "cannot connect"),
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(rng.random_range(PAUSE))).await;
    }
}

/// The addresses that a literal one or a host name stands for.
async fn resolve(text: &str) -> std::io::Result<Vec<SocketAddr>> {
    if let Ok(address) = text.parse() {
        return Ok(vec![address]);
    }
    Ok(tokio::net::lookup_host(text).await?.collect())
}

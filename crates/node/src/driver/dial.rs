//! Keeping a connection to every peer: of each two nodes the one with the smaller id dials.

use std::net::SocketAddr;
use std::time::Duration;

use gramme_ring::NodeId;
use gramme_transport::{Endpoint, Protocol};
use rand::RngExt;
use rand::rngs::StdRng;

/// Between two attempts, at least and at most.
const PAUSE: std::ops::Range<u64> = 100..300;

/// Dials `node` whenever there is no connection to it, for ever.
pub(crate) async fn keep_connected(
    endpoint: Endpoint,
    node: NodeId,
    addresses: Vec<String>,
    mut rng: StdRng,
) {
    let mut warned = false;
    loop {
        for address in &addresses {
            let Ok(address) = address.parse::<SocketAddr>() else { continue };
            match endpoint.connect(address, Protocol::Node, Some(node)).await {
                Ok(link) => {
                    warned = false;
                    link.closed().await;
                }
                Err(error) if !warned => {
                    tracing::warn!(peer = %node, %address, %error, "cannot connect; trying on");
                    warned = true;
                }
                Err(error) => tracing::debug!(peer = %node, %address, %error, "cannot connect"),
            }
        }
        tokio::time::sleep(Duration::from_millis(rng.random_range(PAUSE))).await;
    }
}

//! Free ports, outside the range from which the kernel gives ports to clients: a port there could be taken
//! by somebody's connection while its node is down.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use anyhow::bail;

const FIRST: u16 = 10_000;
const TRIES: usize = 1_000;

/// `count` different ports, each free for TCP and UDP on this machine at this moment.
pub(crate) fn pick(count: usize) -> anyhow::Result<Vec<u16>> {
    let (low, high) = ephemeral_range();
    let mut picked = Vec::new();
    for _ in 0..TRIES {
        let port = rand::random_range(FIRST..u16::MAX);
        if !(low..=high).contains(&port) && !picked.contains(&port) && is_free(port) {
            picked.push(port);
        }
        if picked.len() == count {
            return Ok(picked);
        }
    }
    bail!("no {count} free ports were found between {FIRST} and {}, outside {low}–{high}", u16::MAX)
}

/// Whether nobody listens on the port.
pub(crate) fn is_free(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok()
}

fn ephemeral_range() -> (u16, u16) {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut numbers = text.split_whitespace().filter_map(|number| number.parse().ok());
    match (numbers.next(), numbers.next()) {
        (Some(low), Some(high)) => (low, high),
        // The range that is registered for the purpose.
        _ => (32_768, u16::MAX),
    }
}

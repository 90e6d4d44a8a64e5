//! A proxy for datagrams between the nodes of a cluster: drops, delays, and cuts one direction, with no need of
//! root.
//!
//! The ring names the proxy's ports, and the nodes listen on others. Whoever dials a node reaches the proxy,
//! which knows the dialler by its port and hands its datagrams on from a socket of that pair, so that the
//! answers find their way back.

use std::collections::BinaryHeap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use rand::RngExt;

/// How long a socket waits before it looks whether it is to stop.
const TICK: Duration = Duration::from_millis(100);

/// What one direction between two nodes does.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Way {
    pub(crate) is_cut: bool,
    /// So many datagrams of a hundred are lost.
    pub(crate) loss: u32,
    /// Each is late by up to this many milliseconds.
    pub(crate) delay: u64,
}

/// Conditions by direction, from a node to a node.
type Ways = Mutex<Vec<Vec<Way>>>;

pub(crate) struct Proxy {
    ways: Arc<Ways>,
    stop: Arc<AtomicBool>,
}

/// One datagram that waits to be sent.
struct Late {
    due: Instant,
    socket: Arc<UdpSocket>,
    to: SocketAddr,
    bytes: Vec<u8>,
}

impl Proxy {
    /// For each node the address that the ring names, and the one where it listens.
    pub(crate) fn start(nodes: &[(SocketAddr, SocketAddr)]) -> anyhow::Result<Self> {
        let ways = Arc::new(Mutex::new(vec![vec![Way::default(); nodes.len()]; nodes.len()]));
        let stop = Arc::new(AtomicBool::new(false));
        let (late, waiting) = mpsc::channel();
        std::thread::spawn(move || deliver(&waiting));
        let listen: Vec<SocketAddr> = nodes.iter().map(|(_, listens)| *listens).collect();
        for (to, (named, listens)) in nodes.iter().enumerate() {
            let front = Arc::new(UdpSocket::bind(named)?);
            front.set_read_timeout(Some(TICK))?;
            let mut pairs = Vec::new();
            for (from, dialler) in listen.iter().copied().enumerate() {
                let back = Arc::new(UdpSocket::bind(("127.0.0.1", 0))?);
                back.set_read_timeout(Some(TICK))?;
                // What comes back goes to the dialler, as from the address that it dialled.
                let lane = Lane { ways: Arc::clone(&ways), from: to, to: from, late: late.clone() };
                let (receiver, sender) = (Arc::clone(&back), Arc::clone(&front));
                let stopped = Arc::clone(&stop);
                std::thread::spawn(move || {
                    pump(&receiver, &stopped, |_, bytes| lane.pass(&sender, dialler, bytes));
                });
                let lane = Lane { ways: Arc::clone(&ways), from, to, late: late.clone() };
                pairs.push((lane, back));
            }
            let (diallers, target, stopped) = (listen.clone(), *listens, Arc::clone(&stop));
            std::thread::spawn(move || {
                pump(&front, &stopped, |source, bytes| {
                    let from = diallers.iter().position(|dialler| *dialler == source);
                    if let Some((lane, back)) = from.and_then(|from| pairs.get(from)) {
                        lane.pass(back, target, bytes);
                    }
                });
            });
        }
        Ok(Self { ways, stop })
    }

    /// Sets what a direction does.
    pub(crate) fn set(&self, from: usize, to: usize, way: Way) {
        self.ways.lock().unwrap_or_else(PoisonError::into_inner)[from][to] = way;
    }

    /// Everything passes again.
    pub(crate) fn heal(&self) {
        let mut ways = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        ways.iter_mut().flatten().for_each(|way| *way = Way::default());
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// One direction.
struct Lane {
    ways: Arc<Ways>,
    from: usize,
    to: usize,
    late: mpsc::Sender<Late>,
}

impl Lane {
    fn pass(&self, socket: &Arc<UdpSocket>, to: SocketAddr, bytes: &[u8]) {
        let way = self.ways.lock().unwrap_or_else(PoisonError::into_inner)[self.from][self.to];
        let mut rng = rand::rng();
        if way.is_cut || rng.random_range(0..100) < way.loss {
            return;
        }
        if way.delay == 0 {
            // A datagram that cannot be sent is one that is lost.
            let _ = socket.send_to(bytes, to);
            return;
        }
        let due = Instant::now() + Duration::from_millis(rng.random_range(0..=way.delay));
        let late = Late { due, socket: Arc::clone(socket), to, bytes: bytes.to_vec() };
        // The receiver ends with the last sender.
        let _ = self.late.send(late);
    }
}

fn pump(socket: &UdpSocket, stop: &AtomicBool, mut take: impl FnMut(SocketAddr, &[u8])) {
    let mut buffer = vec![0; 65_536];
    while !stop.load(Ordering::Relaxed) {
        if let Ok((length, source)) = socket.recv_from(&mut buffer) {
            take(source, &buffer[..length]);
        }
    }
}

/// Sends what is late when it is due, until nobody can bring more.
fn deliver(waiting: &mpsc::Receiver<Late>) {
    let mut queue: BinaryHeap<Late> = BinaryHeap::new();
    loop {
        let now = Instant::now();
        while queue.peek().is_some_and(|late| late.due <= now) {
            if let Some(Late { socket, to, bytes, .. }) = queue.pop() {
                let _ = socket.send_to(&bytes, to);
            }
        }
        let wait = queue.peek().map_or(TICK, |late| late.due.saturating_duration_since(now));
        match waiting.recv_timeout(wait) {
            Ok(late) => queue.push(late),
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => return,
        }
    }
}

impl Ord for Late {
    /// The earliest is the greatest: that is what the heap gives first.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.due.cmp(&self.due)
    }
}

impl PartialOrd for Late {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Late {
    fn eq(&self, other: &Self) -> bool {
        self.due == other.due
    }
}

impl Eq for Late {}

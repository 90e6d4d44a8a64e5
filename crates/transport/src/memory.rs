//! A network in memory, for tests: datagrams between sockets of one process, each direction with its own loss,
//! delay and cuts, drawn from one seed.
//!
//! On tokio's paused clock a run takes no time but that of its code, and is the same each time, as far as the
//! certificates are the same: keys decide about bytes, not about lengths and times.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use quinn::udp::{EcnCodepoint, RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::time::{Instant, Sleep, sleep_until};

/// What one direction does to datagrams. Delays are best whole milliseconds: tokio's timers are no finer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conditions {
    /// So many datagrams out of 10,000 are lost.
    pub loss: u64,
    /// So many out of 10,000 arrive twice.
    pub twice: u64,
    /// How long each takes at least.
    pub delay: Duration,
    /// How much longer it may take: datagrams overtake each other then.
    pub jitter: Duration,
    /// Larger datagrams are dropped, as on a path that does not fragment.
    pub mtu: usize,
}

impl Default for Conditions {
    fn default() -> Self {
        let delay = Duration::from_millis(1);
        Self { loss: 0, twice: 0, delay, jitter: Duration::ZERO, mtu: 1_472 }
    }
}

/// When, from, to, and how many bytes.
pub type Traced = (Duration, SocketAddr, SocketAddr, usize);

/// The network. Cheap to clone; all clones are the same one.
#[derive(Clone)]
pub struct Net {
    inner: Arc<Mutex<Inner>>,
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Net").finish_non_exhaustive()
    }
}

struct Inner {
    seed: u64,
    usual: Conditions,
    began: Instant,
    /// Weak: an endpoint that is gone takes its socket with it.
    ports: BTreeMap<SocketAddr, Weak<Port>>,
    ways: BTreeMap<(SocketAddr, SocketAddr), Way>,
    /// Numbers datagrams, so that those due at the same time keep their order.
    next: u64,
    trace: Vec<Traced>,
}

struct Way {
    rng: ChaCha8Rng,
    conditions: Conditions,
    cut: bool,
}

impl Inner {
    /// Each direction has its own generator: what others send meanwhile does not change what becomes of this
    /// direction's datagrams.
    fn way(&mut self, from: SocketAddr, to: SocketAddr) -> &mut Way {
        let (seed, conditions) = (self.seed, self.usual);
        self.ways.entry((from, to)).or_insert_with(|| {
            let key = blake3::hash(format!("{seed} {from} {to}").as_bytes());
            let rng = ChaCha8Rng::from_seed(*key.as_bytes());
            Way { rng, conditions, cut: false }
        })
    }
}

impl Way {
    /// How long one datagram takes, once per copy; none if it does not arrive.
    fn fate(&mut self, bytes: usize) -> Vec<Duration> {
        // Always as many draws, so that a change of conditions does not shift what comes later.
        let [loss, twice, first, second] = std::array::from_fn(|_| self.rng.next_u64());
        let Conditions { delay, jitter, mtu, .. } = self.conditions;
        if self.cut || bytes > mtu || loss % 10_000 < self.conditions.loss {
            return Vec::new();
        }
        let copies = if twice % 10_000 < self.conditions.twice { 2 } else { 1 };
        let take = |draw: u64| delay + Duration::from_micros(draw % (jitter.as_micros() as u64 + 1));
        [first, second].into_iter().take(copies).map(take).collect()
    }
}

impl Net {
    /// A network without sockets. Must be called inside the runtime whose clock it shall follow.
    #[must_use]
    pub fn new(seed: u64, usual: Conditions) -> Self {
        let (ports, ways) = (BTreeMap::new(), BTreeMap::new());
        let inner = Inner { seed, usual, began: Instant::now(), ports, ways, next: 0, trace: Vec::new() };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A socket at `address`. One that is there already is deaf and mute from now on.
    #[must_use]
    pub fn bind(&self, address: SocketAddr) -> Arc<dyn AsyncUdpSocket> {
        let port = Arc::new(Port { address, net: self.clone(), inbox: Mutex::default() });
        self.inner().ports.insert(address, Arc::downgrade(&port));
        port
    }

    /// Makes the socket at `address` deaf and mute, as if its machine had lost its power.
    pub fn unplug(&self, address: SocketAddr) {
        self.inner().ports.remove(&address);
    }

    /// Sets the conditions of one direction.
    pub fn set(&self, from: SocketAddr, to: SocketAddr, conditions: Conditions) {
        self.inner().way(from, to).conditions = conditions;
    }

    /// Cuts one direction, or joins it again. What is under way still arrives.
    pub fn cut(&self, from: SocketAddr, to: SocketAddr, cut: bool) {
        self.inner().way(from, to).cut = cut;
    }

    /// Cuts both directions, or joins them again.
    pub fn part(&self, a: SocketAddr, b: SocketAddr, cut: bool) {
        self.cut(a, b, cut);
        self.cut(b, a, cut);
    }

    /// All that was ever sent.
    #[must_use]
    pub fn trace(&self) -> Vec<Traced> {
        self.inner().trace.clone()
    }

    fn send(&self, from: &Port, to: SocketAddr, ecn: Option<EcnCodepoint>, bytes: &[u8]) {
        let mut inner = self.inner();
        let now = Instant::now();
        let is_plugged = inner.ports.get(&from.address).is_some_and(|port| port.as_ptr() == from);
        if !is_plugged {
            return;
        }
        let at = now - inner.began;
        inner.trace.push((at, from.address, to, bytes.len()));
        let delays = inner.way(from.address, to).fate(bytes.len());
        let Some(port) = inner.ports.get(&to).and_then(Weak::upgrade) else { return };
        let first = inner.next;
        inner.next += delays.len() as u64;
        drop(inner);
        for (number, delay) in (first..).zip(delays) {
            port.put((now + delay, number), Datagram { from: from.address, ecn, bytes: bytes.to_vec() });
        }
    }
}

struct Datagram {
    from: SocketAddr,
    ecn: Option<EcnCodepoint>,
    bytes: Vec<u8>,
}

#[derive(Default)]
struct Inbox {
    /// By when they arrive, and their number.
    datagrams: BTreeMap<(Instant, u64), Datagram>,
    reader: Option<Waker>,
    sleep: Option<Pin<Box<Sleep>>>,
}

/// One socket.
struct Port {
    address: SocketAddr,
    net: Net,
    inbox: Mutex<Inbox>,
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Port {
    fn put(&self, key: (Instant, u64), datagram: Datagram) {
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        inbox.datagrams.insert(key, datagram);
        // Only who is now first changes when the reader must wake up.
        let is_first = inbox.datagrams.first_key_value().is_some_and(|(first, _)| *first == key);
        let reader = if is_first { inbox.reader.take() } else { None };
        drop(inbox);
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

impl AsyncUdpSocket for Port {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let size = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        for segment in transmit.contents.chunks(size) {
            self.net.send(self, transmit.destination, transmit.ecn, segment);
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        let inbox = &mut *inbox;
        let mut received = 0;
        let now = Instant::now();
        for (buf, meta) in bufs.iter_mut().zip(meta) {
            let Some(first) = inbox.datagrams.first_entry().filter(|first| first.key().0 <= now) else {
                break;
            };
            let Datagram { from, ecn, bytes } = first.remove();
            // As a kernel does with a buffer that is too small.
            let len = bytes.len().min(buf.len());
            buf[..len].copy_from_slice(&bytes[..len]);
            // A stride of 0 would be an endless loop in quinn.
            *meta = RecvMeta { addr: from, len, stride: len.max(1), ecn, dst_ip: Some(self.address.ip()) };
            received += 1;
        }
        if received > 0 {
            return Poll::Ready(Ok(received));
        }
        inbox.reader = Some(cx.waker().clone());
        if let Some((&(due, _), _)) = inbox.datagrams.first_key_value() {
            let sleep = inbox.sleep.get_or_insert_with(|| Box::pin(sleep_until(due)));
            sleep.as_mut().reset(due);
            if sleep.as_mut().poll(cx).is_ready() {
                cx.waker().wake_by_ref();
            }
        }
        Poll::Pending
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }

    /// Else quinn looks for no larger datagrams than 1,200 bytes.
    fn may_fragment(&self) -> bool {
        false
    }
}

/// There is always room.
#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

//! One connection: its two lanes, its large frames, and whether the other side is there.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use quinn::{Connection, ConnectionError, ReadError, RecvStream, SendStream, VarInt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;

use crate::endpoint::ConnectError;
use crate::frame::{Decoder, Frame, Head, Kind, MAX_FRAME};
use crate::identity::Role;
use crate::lane::Lane;
use crate::settings::{
    HANDSHAKE, LANE_BYTES, LANE_FRAMES, LARGE, LARGE_AT_ONCE, LARGE_BYTES, LARGE_WITHIN, PING, Protocol,
    RECEIVED_BYTES, SUSPECT,
};

/// The first bytes of each stream, both ways: magic, and which lane it is.
const PREFACE: &[u8; 4] = b"GRM1";
const CONTROL: u8 = 1;
const DATA: u8 = 2;
const CLOSED: VarInt = VarInt::from_u32(0);
pub(crate) const VIOLATION: VarInt = VarInt::from_u32(1);

/// Tells links apart within one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(u64);

/// Why a frame was not sent. Not a byte of it has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Too much waits already.
    #[error("too much is waiting on this connection")]
    Busy,
    /// The connection is gone.
    #[error("the connection is closed")]
    Closed,
    /// The frame is over [`MAX_FRAME`].
    #[error("the message is too large for a frame")]
    TooLarge,
}

/// What happens on links.
#[derive(Debug)]
pub enum LinkEvent {
    /// A link stands, in both directions.
    Up(Link),
    /// Frames have come, in order.
    Frames {
        /// On which link.
        link: Link,
        /// What came; pings and pongs are not among them.
        frames: Vec<Frame>,
        /// When.
        received: Instant,
        /// What they take of the bytes that may wait on the link; given back when the event is dropped.
        held: Held,
    },
    /// The other side has been silent for a while.
    Suspect(Link),
    /// It speaks again.
    Recovered(Link),
    /// The link is gone. What was sent on it may or may not have arrived.
    Down {
        /// Which link.
        link: Link,
        /// Why.
        reason: String,
        /// Whether this side closed it.
        by_us: bool,
    },
}

/// A place among what was received and is not handled yet.
#[derive(Debug)]
pub struct Held {
    _permits: OwnedSemaphorePermit,
}

/// A connection to one other side. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Link {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    id: LinkId,
    connection: Connection,
    protocol: Protocol,
    role: Role,
    control: Lane,
    data: Lane,
    large: mpsc::UnboundedSender<Frame>,
    large_room: Semaphore,
    /// What may still be received before something of it is handled, in kibibytes.
    received: Arc<Semaphore>,
    /// The largest frame that the other side may send.
    max_frame: usize,
    began: Instant,
    /// When anything was last heard, in milliseconds since it began.
    heard: AtomicU64,
    /// When the last ping that was answered was sent, in milliseconds since it began.
    answered: AtomicU64,
    /// Why we closed it ourselves, if we did: QUIC only says that we did.
    ended: OnceLock<String>,
}

impl Link {
    /// Which link this is.
    #[must_use]
    pub fn id(&self) -> LinkId {
        self.inner.id
    }

    /// Who is on the other side, as its certificate says.
    #[must_use]
    pub fn role(&self) -> &Role {
        &self.inner.role
    }

    /// Whether this side dialled.
    #[must_use]
    pub fn is_dialled(&self) -> bool {
        self.inner.connection.side().is_client()
    }

    /// Which protocol it speaks.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        self.inner.protocol
    }

    /// Where the other side is. Two links of one process have the same.
    #[must_use]
    pub fn remote(&self) -> SocketAddr {
        self.inner.connection.remote_address()
    }

    /// Sends a frame; returns before it has left.
    ///
    /// # Errors
    /// [`SendError`], and then not a byte of it has left or will.
    pub fn send(&self, frame: Frame) -> Result<(), SendError> {
        if frame.body.len() <= LARGE {
            return self.inner.data.push(&frame);
        }
        self.send_alone(frame)
    }

    /// Sends a frame whose body is written in place, among what waits to be sent. The same otherwise.
    ///
    /// # Errors
    /// [`SendError`], and then not a byte of it has left or will.
    pub fn send_with(&self, head: Head, encode: impl FnOnce(&mut Vec<u8>)) -> Result<(), SendError> {
        match self.inner.data.push_with(head, encode)? {
            Some(large) => self.send_alone(large),
            None => Ok(()),
        }
    }

    /// Sends a frame on a stream of its own.
    fn send_alone(&self, frame: Frame) -> Result<(), SendError> {
        if frame.size() > MAX_FRAME {
            return Err(SendError::TooLarge);
        }
        // Permits count kibibytes; `send_large` gives them back.
        let permits = permits_for(frame.size());
        self.inner.large_room.try_acquire_many(permits).map_err(|_| SendError::Busy)?.forget();
        self.inner.large.send(frame).map_err(|_| SendError::Closed)
    }

    /// For how long nothing has been heard from the other side.
    #[must_use]
    pub fn silent_for(&self) -> Duration {
        let heard = Duration::from_millis(self.inner.heard.load(Ordering::Relaxed));
        self.inner.began.elapsed().saturating_sub(heard)
    }

    /// Whether the other side has answered what was asked of it after `since`. Unlike bytes that only now are
    /// read, this says that it was there then.
    #[must_use]
    pub fn has_answered_since(&self, since: Instant) -> bool {
        let asked = Duration::from_millis(self.inner.answered.load(Ordering::Relaxed));
        self.inner.began + asked > since
    }

    /// Waits until so many bytes more may have been received and not handled.
    async fn hold_bytes(&self, bytes: usize) -> Option<Held> {
        let permits = permits_for(bytes).min((RECEIVED_BYTES / 1024) as u32);
        let held = Arc::clone(&self.inner.received).acquire_many_owned(permits).await;
        held.ok().map(|permits| Held { _permits: permits })
    }

    /// Whether the connection is gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.inner.connection.close_reason().is_some()
    }

    /// Returns when the connection is gone.
    pub async fn closed(&self) {
        self.inner.connection.closed().await;
    }

    /// Closes the connection.
    pub fn close(&self, reason: &str) {
        let _ = self.inner.ended.set(reason.to_owned());
        self.inner.connection.close(CLOSED, reason.as_bytes());
    }

    /// Closes the connection for a reason of our own, unless it is gone for another.
    fn end(&self, code: VarInt, reason: &str) {
        if self.is_closed() {
            return;
        }
        if code == VIOLATION {
            let (role, address) = (&self.inner.role, self.inner.connection.remote_address());
            tracing::warn!(%address, ?role, reason, "a link is closed: what came on it breaks the protocol");
        }
        let _ = self.inner.ended.set(reason.to_owned());
        self.inner.connection.close(code, reason.as_bytes());
    }

    fn note_heard(&self) {
        self.inner.heard.store(self.millis(), Ordering::Relaxed);
    }

    /// The other side has answered the ping that was sent then.
    fn note_answered(&self, sent: u64) {
        self.inner.answered.fetch_max(sent.min(self.millis()), Ordering::Relaxed);
    }

    /// Milliseconds since it began.
    fn millis(&self) -> u64 {
        self.inner.began.elapsed().as_millis() as u64
    }
}

fn permits_for(bytes: usize) -> u32 {
    // Far below 4 TiB.
    bytes.div_ceil(1024) as u32
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Which side opened the connection, and so opens the streams.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Dialer,
    Acceptor,
}

/// Opens the streams of a fresh connection and starts its tasks. Returns once the other side has answered on
/// both, so that it is known to have accepted our certificate too.
pub(crate) async fn establish(
    connection: Connection,
    side: Side,
    peer: (Protocol, Role),
    max_frame: usize,
    events: mpsc::Sender<LinkEvent>,
) -> Result<Link, ConnectError> {
    let opened = tokio::time::timeout(HANDSHAKE, open_lanes(&connection, side)).await;
    let [control, data] = match opened {
        Ok(Ok(lanes)) => lanes,
        Ok(Err(reason)) => return Err(ConnectError::Failed(reason)),
        Err(_) => return Err(ConnectError::TimedOut),
    };
    let (large, large_frames) = mpsc::unbounded_channel();
    let inner = Inner {
        id: LinkId(NEXT_ID.fetch_add(1, Ordering::Relaxed)),
        connection,
        protocol: peer.0,
        role: peer.1,
        control: Lane::new(LANE_BYTES, LANE_FRAMES),
        data: Lane::new(LANE_BYTES, LANE_FRAMES),
        large,
        large_room: Semaphore::new(LARGE_BYTES / 1024),
        received: Arc::new(Semaphore::new(RECEIVED_BYTES / 1024)),
        max_frame,
        began: Instant::now(),
        heard: AtomicU64::new(0),
        answered: AtomicU64::new(0),
        ended: OnceLock::new(),
    };
    let link = Link { inner: Arc::new(inner) };
    // The owner hears of the link before anything that comes on it.
    if events.send(LinkEvent::Up(link.clone())).await.is_err() {
        link.close("going away");
    }
    start_tasks(&link, control, data, large_frames, &events);
    Ok(link)
}

type LaneStreams = (SendStream, RecvStream);

async fn open_lanes(connection: &Connection, side: Side) -> Result<[LaneStreams; 2], String> {
    let mut lanes = [None, None];
    for lane in [CONTROL, DATA] {
        let (mut send, mut receive) = match side {
            Side::Dialer => connection.open_bi().await,
            Side::Acceptor => connection.accept_bi().await,
        }
        .map_err(|error| error.to_string())?;
        let mut preface = PREFACE.to_vec();
        preface.push(lane);
        send.write_all(&preface).await.map_err(|error| error.to_string())?;
        let mut answer = [0; 5];
        receive.read_exact(&mut answer).await.map_err(|error| error.to_string())?;
        if answer != preface[..] {
            return Err("the other side speaks another protocol".to_owned());
        }
        lanes[usize::from(lane == DATA)] = Some((send, receive));
    }
    match lanes {
        [Some(control), Some(data)] => Ok([control, data]),
        _ => Err("a stream is missing".to_owned()),
    }
}

fn start_tasks(
    link: &Link,
    control: LaneStreams,
    data: LaneStreams,
    large: mpsc::UnboundedReceiver<Frame>,
    events: &mpsc::Sender<LinkEvent>,
) {
    link.inner.connection.set_max_concurrent_bi_streams(VarInt::from_u32(2));
    tokio::spawn(write_lane(link.clone(), control.0, |inner| &inner.control));
    tokio::spawn(write_lane(link.clone(), data.0, |inner| &inner.data));
    tokio::spawn(read_lane(link.clone(), control.1, events.clone()));
    tokio::spawn(read_lane(link.clone(), data.1, events.clone()));
    tokio::spawn(send_large(link.clone(), large));
    tokio::spawn(receive_large(link.clone(), events.clone()));
    tokio::spawn(watch(link.clone(), events.clone()));
}

async fn write_lane(link: Link, mut stream: SendStream, lane: fn(&Inner) -> &Lane) {
    let mut spare = Vec::new();
    while let Some(bytes) = lane(&link.inner).take(spare).await {
        if stream.write_all(&bytes).await.is_err() {
            // The other side stopped the stream, or is gone: a link with one lane is none.
            return link.end(CLOSED, "a stream ended");
        }
        spare = bytes;
    }
}

/// A task's worth of chunks to read at once.
const CHUNKS: usize = 32;

async fn read_lane(link: Link, mut stream: RecvStream, events: mpsc::Sender<LinkEvent>) {
    let mut decoder = Decoder::new(link.inner.max_frame.min(LARGE * 2));
    let mut chunks: [Bytes; CHUNKS] = std::array::from_fn(|_| Bytes::new());
    loop {
        let count = match stream.read_chunks(&mut chunks).await {
            Ok(Some(count)) => count,
            // The connection's end is told by `watch`.
            Err(ReadError::ConnectionLost(_)) => return,
            Ok(None) | Err(_) => return link.end(CLOSED, "a stream ended"),
        };
        link.note_heard();
        let mut frames = Vec::new();
        for chunk in &mut chunks[..count] {
            if let Err(error) = decoder.feed(&std::mem::take(chunk), &mut frames) {
                return link.end(VIOLATION, &error.to_string());
            }
        }
        frames.retain(|frame| answer_signal(&link, frame));
        if frames.is_empty() {
            continue;
        }
        // Waiting here stops reading, which stops the sender: nothing piles up.
        if deliver(&link, frames, &events).await.is_err() {
            return;
        }
    }
}

/// The owner is gone.
struct Gone;

async fn deliver(link: &Link, frames: Vec<Frame>, events: &mpsc::Sender<LinkEvent>) -> Result<(), Gone> {
    let bytes = frames.iter().map(Frame::size).sum();
    let held = link.hold_bytes(bytes).await.ok_or(Gone)?;
    let event = LinkEvent::Frames { link: link.clone(), frames, received: Instant::now(), held };
    events.send(event).await.map_err(|_| Gone)
}

/// Answers a ping; says whether the frame is for the owner.
fn answer_signal(link: &Link, frame: &Frame) -> bool {
    match frame.kind {
        Kind::Ping => {
            // If the lane is full the other side hears us anyway.
            let _ = link.inner.control.push(&Frame::signal(Kind::Pong, frame.id));
            false
        }
        Kind::Pong => {
            link.note_answered(frame.id);
            false
        }
        Kind::Request | Kind::Reply | Kind::Cancel => true,
    }
}

async fn send_large(link: Link, mut frames: mpsc::UnboundedReceiver<Frame>) {
    loop {
        // The channel's other end is in the link that this task holds, so it never closes by itself.
        let frame = tokio::select! {
            _ = link.inner.connection.closed() => return,
            frame = frames.recv() => frame,
        };
        let Some(frame) = frame else { return };
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        // One that the other side does not take in time costs its stream: the next may fare better. The stream
        // is reset, and whoever sent it has a deadline of its own.
        let sent = tokio::time::timeout(LARGE_WITHIN, send_one(&link, &bytes)).await;
        link.inner.large_room.add_permits(permits_for(frame.size()) as usize);
        if !matches!(sent, Ok(Ok(()))) {
            if link.is_closed() {
                return;
            }
            tracing::warn!(role = ?link.inner.role, bytes = bytes.len(), "a large message was not taken in time");
        }
    }
}

async fn send_one(link: &Link, bytes: &[u8]) -> Result<(), ()> {
    let mut stream = link.inner.connection.open_uni().await.map_err(drop)?;
    let sent = stream.write_all(bytes);
    sent.await.map_err(drop)?;
    stream.finish().map_err(drop)
}

/// Each large frame is read by a task of its own, since a slow one must not hold up the others. One that does
/// not come in time costs its stream and nothing else.
async fn receive_large(link: Link, events: mpsc::Sender<LinkEvent>) {
    // A stream that has ended makes room for the next while its frame still waits to be handled.
    let room = Arc::new(Semaphore::new(LARGE_AT_ONCE));
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        let Ok(stream) = link.inner.connection.accept_uni().await else { return };
        let (link, events) = (link.clone(), events.clone());
        tokio::spawn(async move {
            let _place = place;
            match tokio::time::timeout(LARGE_WITHIN, read_large(&link, stream)).await {
                Ok(Ok(frame)) => drop(deliver(&link, vec![frame], &events).await),
                Ok(Err(LargeError::Violation(reason))) => link.end(VIOLATION, &reason),
                Ok(Err(LargeError::Broken)) => {}
                // The stream is dropped, which tells the other side to stop.
                Err(_) => {
                    tracing::warn!(role = ?link.inner.role, "a large message did not come in time, and is dropped");
                }
            }
        });
    }
}

/// Why there is no large frame.
enum LargeError {
    /// What came breaks the protocol.
    Violation(String),
    /// The stream, or the connection, was given up.
    Broken,
}

async fn read_large(link: &Link, mut stream: RecvStream) -> Result<Frame, LargeError> {
    let violation = |reason: &str| LargeError::Violation(reason.to_owned());
    let mut decoder = Decoder::new(link.inner.max_frame);
    let mut frames = Vec::new();
    while let Some(chunk) = stream.read_chunk(LARGE, true).await.map_err(|_| LargeError::Broken)? {
        link.note_heard();
        decoder.feed(&chunk.bytes, &mut frames).map_err(|error| violation(&error.to_string()))?;
        if frames.len() > 1 || (frames.len() == 1 && !decoder.is_empty()) {
            return Err(violation("more than one frame on a stream of its own"));
        }
    }
    match frames.pop() {
        Some(frame) if frames.is_empty() && decoder.is_empty() => Ok(frame),
        _ => Err(violation("not one whole frame on a stream of its own")),
    }
}

/// Asks whether the other side is there, and tells when it is not.
async fn watch(link: Link, events: mpsc::Sender<LinkEvent>) {
    let mut suspected = false;
    let mut last_tick = Instant::now();
    let mut ticks = tokio::time::interval(PING);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let reason = tokio::select! {
            reason = link.inner.connection.closed() => reason,
            _ = ticks.tick() => {
                // Silence while we ourselves were late does not count.
                if last_tick.elapsed() > 2 * PING {
                    link.note_heard();
                }
                last_tick = Instant::now();
                let _ = link.inner.control.push(&Frame::signal(Kind::Ping, link.millis()));
                let silent = link.silent_for() > SUSPECT;
                if silent != suspected {
                    suspected = silent;
                    let event = if silent { LinkEvent::Suspect } else { LinkEvent::Recovered };
                    let _ = events.send(event(link.clone())).await;
                }
                continue;
            }
        };
        link.inner.control.close();
        link.inner.data.close();
        let by_us = matches!(reason, ConnectionError::LocallyClosed);
        let ours = link.inner.ended.get().filter(|_| by_us).cloned();
        let reason = ours.unwrap_or_else(|| reason.to_string());
        let _ = events.send(LinkEvent::Down { link: link.clone(), reason, by_us }).await;
        return;
    }
}

/// Counts connections per address.
#[derive(Debug, Default)]
pub(crate) struct PerAddress {
    counts: Mutex<std::collections::BTreeMap<std::net::IpAddr, usize>>,
}

impl PerAddress {
    /// Takes a place for a connection from `address`; gives it back when the guard is dropped.
    pub(crate) fn enter(self: &Arc<Self>, address: std::net::IpAddr, most: usize) -> Option<Place> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Place { all: Arc::clone(self), address })
    }
}

/// One connection's place in the count of its address.
pub(crate) struct Place {
    all: Arc<PerAddress>,
    address: std::net::IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.all.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

impl Link {
    /// Keeps `place` until the connection is gone.
    pub(crate) fn hold(&self, place: Place) {
        let connection = self.inner.connection.clone();
        tokio::spawn(async move {
            connection.closed().await;
            drop(place);
        });
    }
}

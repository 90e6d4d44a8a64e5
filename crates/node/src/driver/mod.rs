//! Runs one replica on one thread: hands it what happens, and does what it says.
//!
//! Everything that blocks is elsewhere: the commit log and checkpoints have threads of their own, HTTP has
//! one. What is here is a loop that takes all that has gathered, steps the replica through it, and lets the
//! links write what came out, so that one wake-up serves many requests.

mod dial;
mod disk;
mod handle;
mod native;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use gramme_replica::{ClientRequest, Effect, Input, Now, Replica, Response, Ticket};
use gramme_ring::NodeId;
use gramme_transport::{Endpoint, Frame, Kind, Link, LinkEvent, LinkId, Protocol, Role, SendError};
use gramme_wire::PeerMessage;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

pub(crate) use disk::Disk;
pub(crate) use handle::{Ask, Driver, Handle, Shared, start};

use crate::metrics::Operation;

/// How many things are taken at once.
const AT_ONCE: usize = 256;
/// How often the disk's free space is looked at, and figures are published.
const HOUSEKEEPING: Duration = Duration::from_millis(250);

/// Who waits for an answer.
enum Asker {
    Local(oneshot::Sender<Response>),
    Native { link: Link, id: u64 },
}

struct Pending {
    asker: Asker,
    operation: Operation,
    began: Instant,
}

/// Microseconds since 1970.
type Wall = Box<dyn Fn() -> u64 + Send>;

/// The loop's state.
struct Core {
    replica: Replica,
    disk: Disk,
    shared: Arc<Shared>,
    began: Instant,
    wall: Wall,
    inputs: VecDeque<Input>,
    effects: Vec<Effect>,
    timer: Option<u64>,
    peers: BTreeMap<NodeId, Link>,
    pending: BTreeMap<Ticket, Pending>,
    /// The tickets of native clients' requests, to find one that is cancelled.
    native: BTreeMap<(LinkId, u64), Ticket>,
    next_ticket: u64,
    fatal: Option<&'static str>,
    writable: bool,
    /// Whether it has been said that data is missing.
    is_amnesiac: bool,
}

impl Core {
    fn now(&self) -> Now {
        Now { monotonic: self.began.elapsed().as_micros() as u64, wall: (self.wall)() }
    }

    /// Steps the replica through everything that waits, and does what it says.
    fn turn(&mut self) {
        while let Some(input) = self.inputs.pop_front() {
            let now = self.now();
            let mut effects = std::mem::take(&mut self.effects);
            self.replica.step(now, input, &mut effects);
            for effect in effects.drain(..) {
                self.perform(effect);
            }
            self.effects = effects;
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Send { to, id, ttl, message } => self.send(to, id, ttl, &message),
            Effect::Reply { ticket, response } => self.answer(ticket, response),
            Effect::Load { load, hash, key } => {
                let result = self.disk.load(hash, &key);
                self.inputs.push_back(Input::Loaded { load, result });
            }
            Effect::Commit { sequence, changes, sync } => self.disk.commit(sequence, changes, sync),
            Effect::SetTimer(at) => self.timer = Some(at),
            Effect::Fatal(why) => self.fatal = Some(why),
        }
    }

    fn send(&mut self, to: NodeId, id: u64, ttl: u64, message: &PeerMessage) {
        let mut body = Vec::new();
        message.encode(&mut body);
        let kind = if message.is_reply() { Kind::Reply } else { Kind::Request };
        let ttl = u32::try_from(ttl).unwrap_or(u32::MAX);
        let frame = Frame { kind, method: message.method(), id, ttl, body: body.into() };
        let sent = self.peers.get(&to).map_or(Err(SendError::Closed), |link| link.send(frame));
        if let Err(error) = sent
            && kind == Kind::Request
        {
            self.inputs.push_back(Input::Undelivered { to, id, busy: error == SendError::Busy });
        }
    }

    fn answer(&mut self, ticket: Ticket, response: Response) {
        let Some(Pending { asker, operation, began }) = self.pending.remove(&ticket) else { return };
        self.shared.metrics.observe(operation, &response, began.elapsed());
        match asker {
            // The asker may have gone.
            Asker::Local(reply) => drop(reply.send(response)),
            Asker::Native { link, id } => {
                self.native.remove(&(link.id(), id));
                self.answer_native(&link, id, response);
            }
        }
    }

    fn ask(&mut self, request: ClientRequest, asker: Asker) {
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        if let Asker::Native { link, id } = &asker {
            self.native.insert((link.id(), *id), ticket);
        }
        let operation = Operation::of(&request);
        self.pending.insert(ticket, Pending { asker, operation, began: Instant::now() });
        self.inputs.push_back(Input::Client { ticket, request });
    }

    fn on_link(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Up(link) => {
                if let (Protocol::Node, Role::Node(node)) = (link.protocol(), link.role().clone()) {
                    tracing::info!(peer = %node, "connected");
                    // A restarted peer comes before its old connection is noticed to be gone.
                    if self.peers.insert(node, link).is_some() {
                        self.inputs.push_back(Input::PeerDown(node));
                    }
                    self.inputs.push_back(Input::PeerUp(node));
                }
            }
            LinkEvent::Frames { link, frames, received } => {
                let frames = frames.into_iter().filter(|frame| !is_expired(frame, received));
                match (link.protocol(), link.role().clone()) {
                    (Protocol::Node, Role::Node(node)) => self.on_peer_frames(node, &link, frames),
                    _ => frames.for_each(|frame| self.on_client_frame(&link, frame)),
                }
            }
            LinkEvent::Suspect(link) => {
                if let Some(node) = self.current_peer(&link) {
                    tracing::warn!(peer = %node, "silent; others are asked first");
                    self.inputs.push_back(Input::PeerSuspect(node));
                }
            }
            LinkEvent::Recovered(link) => {
                if let Some(node) = self.current_peer(&link) {
                    self.inputs.push_back(Input::PeerUp(node));
                }
            }
            LinkEvent::Down { link, reason } => {
                if let Some(node) = self.current_peer(&link) {
                    tracing::warn!(peer = %node, %reason, "disconnected");
                    self.peers.remove(&node);
                    self.inputs.push_back(Input::PeerDown(node));
                }
                self.forget_client(&link);
            }
        }
    }

    /// The node that `link` is the present connection to.
    fn current_peer(&self, link: &Link) -> Option<NodeId> {
        let Role::Node(node) = *link.role() else { return None };
        (self.peers.get(&node)?.id() == link.id()).then_some(node)
    }

    fn on_peer_frames(&mut self, node: NodeId, link: &Link, frames: impl Iterator<Item = Frame>) {
        for frame in frames {
            match PeerMessage::decode(frame.method, frame.body) {
                Ok(message) => {
                    self.inputs.push_back(Input::Message { from: node, id: frame.id, message });
                }
                Err(error) => {
                    tracing::error!(peer = %node, %error, "a message that is none; the connection is closed");
                    return link.close("a message that is none");
                }
            }
        }
    }

    fn housekeeping(&mut self) {
        let writable = !self.disk.is_full();
        if writable != self.writable {
            self.writable = writable;
            self.inputs.push_back(Input::Writable(writable));
        }
        let amnesiac = self.replica.stats().amnesiac_partitions;
        if amnesiac > 0 && !std::mem::replace(&mut self.is_amnesiac, true) {
            tracing::error!(
                partitions = amnesiac,
                "this data directory is older than what the node has acknowledged: a lost disk, an old backup or a \
                 copy. Its partitions take writes and count for nothing"
            );
        }
        self.shared.publish(*self.replica.stats(), self.disk.stats(), self.peers.len());
    }
}

/// A request that waited longer than it is worth.
fn is_expired(frame: &Frame, received: Instant) -> bool {
    let worth = Duration::from_micros(u64::from(frame.ttl));
    frame.kind == Kind::Request && frame.ttl > 0 && received.elapsed() > worth
}

/// Runs until it is told to stop, or cannot go on; then closes the store.
async fn run(
    mut core: Core,
    endpoint: Endpoint,
    mut links: mpsc::Receiver<LinkEvent>,
    mut asks: mpsc::Receiver<Ask>,
    mut stop: oneshot::Receiver<()>,
) -> Result<(), String> {
    let mut events = Vec::with_capacity(AT_ONCE);
    let mut questions = Vec::with_capacity(AT_ONCE);
    let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
    let began = core.began;
    core.turn();
    loop {
        let timer =
            core.timer.map_or(began + Duration::from_secs(86_400), |at| began + Duration::from_micros(at));
        tokio::select! {
            _ = links.recv_many(&mut events, AT_ONCE) => {
                events.drain(..).for_each(|event| core.on_link(event));
            }
            () = core.shared.committed.notified() => {
                let (written, synced, failed) = core.disk.progress();
                core.inputs.push_back(if failed { Input::CommitFailed } else { Input::Committed { written, synced } });
            }
            _ = asks.recv_many(&mut questions, AT_ONCE) => {
                for Ask { request, reply } in questions.drain(..) {
                    core.ask(request, Asker::Local(reply));
                }
            }
            () = tokio::time::sleep_until(timer) => {
                core.timer = None;
                core.inputs.push_back(Input::Timer);
            }
            _ = housekeeping.tick() => core.housekeeping(),
            _ = &mut stop => break,
        }
        core.turn();
        if core.fatal.is_some() {
            break;
        }
    }
    core.shared.stopping.store(true, Ordering::Release);
    endpoint.close().await;
    match core.fatal {
        // Nothing is flushed on the way out: the next start sees what is there. Not even by an engine that
        // flushes when it is dropped, and panics if the disk fails it there.
        Some(why) => {
            std::mem::forget(core.disk);
            Err(why.to_owned())
        }
        None => {
            core.disk.close();
            Ok(())
        }
    }
}

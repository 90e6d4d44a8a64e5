//! Runs one replica on one thread: hands it what happens, and does what it says.
//!
//! Everything that blocks is elsewhere: the commit log and checkpoints have threads of their own, HTTP has
//! one. What is here is a loop that takes all that has gathered, steps the replica through it, and lets the
//! links write what came out, so that one wake-up serves many requests.

mod dial;
mod disk;
mod handle;
mod links;
mod peers;
mod readers;
#[cfg(test)]
mod tests;
mod watchdog;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use gramme_replica::{ClientRequest, Effect, Input, Now, Replica, Response, Ticket};
use gramme_ring::NodeId;
use gramme_transport::{Endpoint, Link, LinkEvent, LinkId};
use gramme_wire::client::RingReply;
use gramme_wire::peer::Room;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

pub(crate) use disk::Disk;
pub(crate) use handle::{Ask, Driver, Handle, Shared, start};

use crate::metrics::Operation;
use dial::{Dialling, Target};
use peers::Peers;
use readers::{Job, Readers};
use watchdog::Doing;

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
    readers: Readers,
    shared: Arc<Shared>,
    began: Instant,
    wall: Wall,
    inputs: VecDeque<Input>,
    /// How far the disk is, as the replica was told.
    told: (u64, u64),
    effects: Vec<Effect>,
    timer: Option<u64>,
    peers: Peers,
    /// Whom to keep connected to, and where.
    targets: BTreeMap<NodeId, watch::Sender<Target>>,
    /// Dials them, once there is an endpoint.
    dialling: Option<Dialling>,
    /// What clients are told of the cluster.
    ring: RingReply,
    pending: BTreeMap<Ticket, Pending>,
    /// The tickets of native clients' requests, to find one that is cancelled.
    native: BTreeMap<(LinkId, u64), Ticket>,
    next_ticket: u64,
    fatal: Option<&'static str>,
    /// Whether this node was removed from the cluster.
    is_removed: bool,
    room: Room,
    /// Whether it has been said that data is missing, and that the clock is off.
    is_amnesiac: bool,
    is_clock_off: bool,
}

impl Core {
    fn now(&self) -> Now {
        Now { monotonic: self.began.elapsed().as_micros() as u64, wall: (self.wall)() }
    }

    /// Steps the replica through everything that waits, at one reading of the clock, and does what it says.
    fn turn(&mut self) {
        let now = self.now();
        self.note_progress();
        let (mut used, mut began) = (watchdog::used(), std::time::Instant::now());
        while let Some(input) = self.inputs.pop_front() {
            let doing = Doing::of(&input);
            let mut effects = std::mem::take(&mut self.effects);
            self.replica.step(now, input, &mut effects);
            for effect in effects.drain(..) {
                self.perform(effect);
            }
            self.effects = effects;
            let ended = std::time::Instant::now();
            if doing.done(ended - began, used, &self.replica, &self.shared) {
                used = watchdog::used();
            }
            began = ended;
        }
    }

    /// What the disk has done counts before what is asked now: after a pause it would look as if it had not.
    fn note_progress(&mut self) {
        let (written, synced, failed) = self.disk.progress();
        if failed {
            self.inputs.push_front(Input::CommitFailed);
        } else if std::mem::replace(&mut self.told, (written, synced)) != (written, synced) {
            self.inputs.push_front(Input::Committed { written, synced });
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Send { to, id, ttl, class, message } => self.send((to, class), id, ttl, &message),
            Effect::Reply { ticket, response } => self.answer(ticket, response),
            Effect::Load { load, place } => match self.disk.load_buffered(&place) {
                Some(row) => self.inputs.push_back(Input::Loaded { load, result: Ok(row) }),
                None => self.readers.read(Job::Load { load, place }),
            },
            Effect::Scan { scan, rows, after, limit } => {
                self.readers.read(Job::Scan { scan, rows, after, limit });
            }
            Effect::Commit { changes, sync, .. } => self.disk.commit(changes, sync),
            Effect::Addresses { node, addresses } => self.note_addresses(node, addresses),
            Effect::SetTimer(at) => self.timer = Some(at),
            Effect::Removed => self.is_removed = true,
            Effect::Fatal(why) => self.fatal = Some(why),
        }
    }

    /// A node listens elsewhere: it is dialled there from now on, and clients are told.
    fn note_addresses(&mut self, node: NodeId, addresses: Vec<String>) {
        match self.ring.addresses.iter_mut().find(|(id, _)| *id == node) {
            Some(known) if known.1 == addresses => {}
            Some(known) => {
                tracing::info!(peer = %node, ?addresses, "listens there from now on");
                known.1.clone_from(&addresses);
            }
            None => self.ring.addresses.push((node, addresses.clone())),
        }
        if node == self.replica.id() || self.replica.layout().is_removed(node) {
            return;
        }
        if !self.targets.contains_key(&node) {
            let target = watch::Sender::new(Target::default());
            self.dialling.iter_mut().for_each(|dialling| dialling.keep_connected(node, &target));
            self.targets.insert(node, target);
        }
        if let Some(target) = self.targets.get(&node) {
            target.send_modify(|target| target.addresses = addresses);
        }
    }

    /// Nobody dials nodes any more that were removed.
    fn forget_removed(&mut self) {
        let layout = self.replica.layout();
        self.targets.retain(|node, _| !layout.is_removed(*node));
        self.ring.addresses.retain(|(node, _)| !layout.is_removed(*node));
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

    fn housekeeping(&mut self) {
        self.decide_peers();
        self.forget_removed();
        let room = self.disk.room();
        if std::mem::replace(&mut self.room, room) != room {
            tracing::warn!(?room, "what the disk has room for has changed");
            self.inputs.push_back(Input::Room(room));
        }
        let stats = *self.replica.stats();
        if stats.amnesiac_partitions > 0 && !std::mem::replace(&mut self.is_amnesiac, true) {
            tracing::error!(
                partitions = stats.amnesiac_partitions,
                "this data directory is not what the node has acknowledged: a lost disk, an old backup or a copy. Its \
                 partitions take writes and count for nothing"
            );
        }
        let is_off = stats.clock_off > 0;
        if std::mem::replace(&mut self.is_clock_off, is_off) != is_off {
            let seconds = stats.clock_off / 1_000_000;
            match is_off {
                true => tracing::error!(seconds, "this node's clock is far from the other nodes' clocks"),
                false => tracing::info!("this node's clock is near the other nodes' clocks again"),
            }
        }
        self.disk.note_stored(&stats);
        self.shared.publish(stats, self.disk.stats(), self.replica.is_ready());
    }
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
            // The turn looks how far the disk is.
            () = core.shared.committed.notified() => {}
            () = core.readers.ready() => core.inputs.extend(core.readers.take()),
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
        if core.fatal.is_some() || core.is_removed {
            break;
        }
    }
    core.shared.stopping.store(true, Ordering::Release);
    endpoint.close().await;
    match core.fatal {
        // Nothing is flushed on the way out: the next start sees what is there. Not even by an engine that
        // flushes when it is dropped, and panics if the disk fails it there.
        Some(why) => {
            std::mem::forget((core.disk, core.readers));
            Err(why.to_owned())
        }
        None => {
            if core.is_removed {
                tracing::warn!("this node was removed from the cluster; its directory can be deleted");
            }
            core.readers.stop();
            core.disk.close();
            Ok(())
        }
    }
}

//! What every part is handed: configuration, time, randomness, counters, timers, and the effects of this step.

use std::collections::BTreeSet;

use gramme_admission::Pace;
use gramme_object::Stamp;
use gramme_ring::NodeId;
use gramme_wire::PeerMessage;
use gramme_wire::peer::Class;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::config::Config;
use crate::io::{Effect, Now, Ticket};
use crate::request::Response;
use crate::stats::Stats;
use crate::timers::Timers;

/// The surroundings of a step.
#[derive(Debug)]
pub(crate) struct Cx {
    pub(crate) config: Config,
    pub(crate) now: Now,
    /// Which start of this node this is; a time, later than that of any start before.
    pub(crate) boot: u64,
    /// What `boot` was at this start.
    pub(crate) process: u64,
    pub(crate) stats: Stats,
    /// How fast work goes that nobody waits for.
    pub(crate) pace: Pace,
    pub(crate) timers: Timers,
    /// The last stamp given out or seen.
    pub(crate) stamp: Stamp,
    /// Since when the disk has owed somebody a batch, if it does.
    pub(crate) owed_since: Option<u64>,
    /// Client requests that are not answered yet.
    pub(crate) open_tickets: usize,
    /// Nodes that are known to lack something, since the last step.
    pub(crate) dirty: BTreeSet<NodeId>,
    pub(crate) out: Vec<Effect>,
    pub(crate) rng: ChaCha8Rng,
    pub(crate) next_request: u64,
}

impl Cx {
    /// This node.
    pub(crate) const fn me(&self) -> NodeId {
        self.config.node
    }

    pub(crate) fn random(&mut self) -> u64 {
        self.rng.random()
    }

    /// A number that no other request of this node has, in this start or an earlier one.
    pub(crate) const fn next_request(&mut self) -> u64 {
        self.next_request = self.next_request.wrapping_add(1);
        self.next_request
    }

    /// The monotonic time at which a timeout in milliseconds ends.
    pub(crate) fn after(&self, millis: u32) -> u64 {
        self.now.monotonic.saturating_add(u64::from(millis) * 1_000)
    }

    pub(crate) fn send(&mut self, to: NodeId, id: u64, ttl: u64, message: PeerMessage) {
        self.send_as(Class::Foreground, to, id, ttl, message);
    }

    /// `ttl` is in microseconds; 0 means that the message never expires.
    pub(crate) fn send_as(&mut self, class: Class, to: NodeId, id: u64, ttl: u64, message: PeerMessage) {
        self.out.push(Effect::Send { to, id, ttl, class, message });
    }

    pub(crate) fn reply(&mut self, ticket: Ticket, response: Response) {
        // Each ticket is answered once.
        debug_assert!(self.open_tickets > 0, "{ticket:?} is answered, and nothing is open");
        self.open_tickets = self.open_tickets.saturating_sub(1);
        self.out.push(Effect::Reply { ticket, response });
    }

    /// Keeps our stamps ahead of all that we have seen and can believe. A runaway stamp is stored like any
    /// other (it came by repair), but must not carry our own away.
    pub(crate) fn observe(&mut self, stamp: Stamp, wall_millis: u64) {
        if !stamp.is_ahead(wall_millis) {
            self.stamp = self.stamp.max(stamp);
        }
    }

    /// A stamp after all that were seen, unless the clock says that those are not to be believed.
    pub(crate) fn next_stamp(&mut self, wall_millis: u64) -> Stamp {
        let next = self.stamp.next(wall_millis);
        self.stamp = if next.is_ahead(wall_millis) { Stamp::at_millis(wall_millis) } else { next };
        self.stamp
    }
}

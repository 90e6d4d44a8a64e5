//! The queue of what is to happen, in order of time; of two things at one time the first that was put in.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use gramme_replica::{ClientRequest, Input, Ticket};

use crate::fault::Fault;
use crate::network::Packet;

#[derive(Debug)]
pub(crate) enum Event {
    /// A message reaches its node.
    Arrive(Packet),
    /// Something of a node's own comes back to it: a row, a message that did not leave.
    Own {
        node: usize,
        life: u64,
        input: Box<Input>,
    },
    Timer {
        node: usize,
        life: u64,
    },
    /// The disk has written what was handed to it.
    Written {
        node: usize,
        life: u64,
    },
    /// A sync ends.
    Synced {
        node: usize,
        life: u64,
        sync: u64,
    },
    /// A client does something.
    Client(usize),
    /// A client's request reaches its node.
    Request {
        client: Option<usize>,
        node: usize,
        /// Only to this process, if it says so.
        life: Option<u64>,
        ticket: Ticket,
        request: Box<ClientRequest>,
    },
    /// An answer reaches its client.
    Answer {
        client: usize,
        ticket: Ticket,
        response: Box<gramme_replica::Response>,
    },
    /// A client has waited for a while, and asks another node as well.
    Hedge {
        client: usize,
        operation: Ticket,
    },
    /// A client has waited long enough.
    Patience {
        client: usize,
        operation: Ticket,
    },
    /// A fault strikes.
    Strike(Fault),
    /// A fault ends.
    Heal(Heal),
    Start(usize),
    /// Two nodes notice that they do not hear each other, unless they do.
    Silence {
        between: (usize, usize),
    },
    /// Two nodes find each other, if they can.
    Connect {
        between: (usize, usize),
    },
}

/// What ends.
#[derive(Clone, Debug)]
pub(crate) enum Heal {
    /// These directions are open again.
    Cut(Vec<(usize, usize)>),
    SlowNode(usize),
    SlowDisk(usize),
    Wake(usize),
    ReadErrors(usize),
    DiskFull(usize),
    Clock(usize),
    /// The directory becomes what it was.
    RollBack(usize),
    /// A copied directory meets the one that it was copied from.
    Copy,
}

/// Events by time.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// Time, number and place of each event.
    order: BinaryHeap<Reverse<(u64, u64, usize)>>,
    events: Vec<Option<Event>>,
    free: Vec<usize>,
    pushed: u64,
}

impl Queue {
    pub(crate) fn push(&mut self, at: u64, event: Event) {
        let place = self.free.pop().unwrap_or_else(|| {
            self.events.push(None);
            self.events.len() - 1
        });
        self.events[place] = Some(event);
        self.pushed += 1;
        self.order.push(Reverse((at, self.pushed, place)));
    }

    pub(crate) fn pop(&mut self) -> Option<(u64, Event)> {
        let Reverse((at, _, place)) = self.order.pop()?;
        self.free.push(place);
        self.events[place].take().map(|event| (at, event))
    }

    pub(crate) fn next_time(&self) -> Option<u64> {
        self.order.peek().map(|Reverse((at, ..))| *at)
    }

    /// Drops the events that `keep` refuses.
    pub(crate) fn retain(&mut self, keep: impl Fn(&Event) -> bool) {
        let order = std::mem::take(&mut self.order).into_sorted_vec();
        for Reverse((at, number, place)) in order.into_iter().rev() {
            if self.events[place].as_ref().is_some_and(&keep) {
                self.order.push(Reverse((at, number, place)));
            } else {
                self.events[place] = None;
                self.free.push(place);
            }
        }
    }
}

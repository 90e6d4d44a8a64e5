//! Requests that this node coordinates or hands on.

mod duplicates;
mod explain;
mod forward;
mod get;
mod list;
mod put;
mod seal;
mod stand_in;

use std::collections::BTreeMap;

use gramme_quorum::Failure;
use gramme_ring::{NodeId, PartitionId};
use gramme_wire::peer::{ReplyHeader, Status};

pub(crate) use get::AskedGet;
pub(crate) use list::{AskedKeys, PAGE_ROWS, wanted};
pub use seal::Secrets;

use crate::cx::Cx;
use crate::node::{Epoch, Node};
use crate::shard::{Shard, Uncounted};
use duplicates::Duplicates;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Coordinator {
    gets: BTreeMap<u64, get::Get>,
    /// What owners were asked beyond that, by the number under which.
    questions: BTreeMap<u64, get::Asked>,
    puts: BTreeMap<u64, put::Put>,
    forwards: BTreeMap<u64, forward::Forward>,
    lists: BTreeMap<u64, list::List>,
    explains: BTreeMap<u64, explain::Explain>,
    duplicates: Duplicates,
}

/// What a request may touch beside its own part.
pub(crate) struct Around<'a> {
    pub(crate) cx: &'a mut Cx,
    pub(crate) node: &'a mut Node,
    pub(crate) shard: &'a mut Shard,
}

impl Coordinator {
    /// How many requests are under way, those among them that are answered and listen for late replies too.
    pub(crate) fn under_way(&self) -> usize {
        self.gets.len() + self.puts.len() + self.forwards.len() + self.lists.len() + self.explains.len()
    }

    /// Whether no more may be begun.
    ///
    /// Only what is not answered counts fully: one slow replica keeps many answered requests, which must not
    /// make a healthy quorum refuse work.
    fn is_overloaded(&self, cx: &Cx) -> bool {
        let most = cx.config.max_requests;
        cx.open_tickets > most || self.under_way() >= 4 * most
    }

    /// A message that was to be sent did not leave.
    pub(crate) fn on_undelivered(&mut self, around: &mut Around<'_>, to: NodeId, id: u64, failure: Failure) {
        if self.on_question_failure(around, id, failure) {
            return;
        }
        if self.gets.contains_key(&id) {
            self.on_get_failure(around, id, to, failure);
        } else if self.puts.contains_key(&id) {
            self.on_put_failure(around, id, to, failure);
        } else if self.forwards.contains_key(&id) {
            self.on_forward_not_begun(around, id, to, failure);
        } else if self.lists.contains_key(&id) {
            self.on_list_failure(around, id, to, failure);
        } else {
            self.on_explain_failure(around, id, to, failure);
        }
    }

    /// A node is silent: others are asked as well.
    pub(crate) fn on_peer_suspect(&mut self, around: &mut Around<'_>, node: NodeId) {
        self.on_get_peer_suspect(around, node);
        self.on_put_peer_suspect(around, node);
    }

    pub(crate) fn on_peer_down(&mut self, around: &mut Around<'_>, node: NodeId) {
        self.on_get_peer_down(around, node);
        self.on_put_peer_down(around, node);
        self.on_forward_peer_down(around, node);
        self.on_list_peer_down(around, node);
    }

    /// Partitions have other owners, in order: what is under way of them begins again.
    pub(crate) fn on_layout(&mut self, around: &mut Around<'_>, changed: &[PartitionId]) {
        self.on_get_layout(around, changed);
        self.on_put_layout(around, changed);
        self.on_list_layout(around, changed);
    }

    /// This node's own copies turn out to count for nothing: nor does what they have counted for.
    pub(crate) fn discount_own(&mut self, around: &mut Around<'_>) {
        self.discount_own_reads(around);
        self.discount_own_acks(around);
    }
}

/// How long a request whose quorum is reached still waits for the last replicas, in microseconds.
const LINGER: u64 = 2_000_000;

impl From<Uncounted> for Failure {
    fn from(why: Uncounted) -> Self {
        match why {
            Uncounted::Amnesiac => Self::Amnesiac,
            Uncounted::Unproven => Self::Unproven,
        }
    }
}

/// Asks whoever answers for the layout, if it is of a later epoch. Says whether it is.
pub(crate) fn hear_epoch(
    around: &mut Around<'_>,
    from: NodeId,
    partition: PartitionId,
    header: &ReplyHeader,
) -> bool {
    let epoch = Epoch { generation: header.generation, number: header.epoch };
    let is_behind = epoch > around.node.map.epoch(partition);
    if is_behind {
        around.node.ask_layout(around.cx, from);
    }
    is_behind
}

impl Around<'_> {
    /// Whether this node may stand in for a partition's owners: it is a member, and none of them.
    pub(crate) fn is_fallback(&self, partition: PartitionId) -> bool {
        let (layout, me) = (self.node.map.layout(), self.cx.me());
        layout.is_member(me) && !layout.is_holder(partition, me)
    }
}

/// What a status means to the request that it answers, if it means failure.
pub(crate) const fn failure(status: Status) -> Option<Failure> {
    Some(match status {
        Status::DoneSynced | Status::DoneBuffered | Status::Covered => return None,
        Status::Closed | Status::Refused => Failure::Refused,
        Status::Busy => Failure::Busy,
        Status::Amnesiac => Failure::Amnesiac,
        Status::Unproven => Failure::Unproven,
        Status::WriteStopped => Failure::WriteStopped,
        Status::Stale => Failure::Stale,
        Status::NotOwner => Failure::NotOwner,
        Status::DiskError => Failure::Disk,
        Status::TooLarge => Failure::TooLarge,
        Status::HintsFull => Failure::HintsFull,
        Status::Failed => Failure::Other,
    })
}

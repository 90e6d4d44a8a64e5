//! What the shard is asked to do, for whom, and what it says that it has done.

use std::sync::Arc;

use bytes::Bytes;
use gramme_object::{Key, Object};
use gramme_quorum::Seat;
use gramme_ring::{NodeId, PartitionId};
use gramme_vclock::{Context, Dot};
use gramme_wire::peer::{Asked, Class, Progress, RootsReply, Status, Told};

use super::{Level, Ready};
use crate::io::{Change, LoadFailed, Page, Rows};
use crate::node::Scope;
use crate::place::Place;

/// Who reads.
#[derive(Clone, Debug)]
pub(crate) enum Reader {
    /// A get that this node coordinates.
    Get(u64, Option<Box<Asked>>),
    /// A get that this node coordinates asks what became of versions.
    Question(u64, Option<Box<Asked>>),
    /// An explanation that this node gives.
    Explain(u64),
    /// Another coordinator.
    Peer { to: NodeId, id: u64, withhold: u32, asked: Option<Box<Asked>> },
}

impl Reader {
    /// What it needs to know beyond what is there.
    pub(super) fn asked(&self) -> Option<&Asked> {
        match self {
            Self::Get(_, asked) | Self::Question(_, asked) | Self::Peer { asked, .. } => asked.as_deref(),
            Self::Explain(_) => None,
        }
    }
}

/// A key as it was at one moment: what has been seen since is not in its object.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) object: Arc<Object>,
    /// The stored form of `object`; empty if nothing is stored.
    pub(crate) stored: Bytes,
    /// What was asked beyond that.
    pub(crate) told: Option<Box<Told>>,
}

impl View {
    pub(super) fn of(ready: Ready) -> Self {
        let Ready { object, stored, .. } = ready;
        Self { object, stored, told: None }
    }

    /// Leaves out values of more bytes than this, and says so; returns how many.
    pub(crate) fn withhold(&mut self, limit: usize) -> u64 {
        if self.stored.len() <= limit {
            return 0;
        }
        let (hollow, withheld) = self.object.withhold(limit);
        let count = withheld.len() as u64;
        if count == 0 {
            return 0;
        }
        self.stored = hollow.encode().into();
        self.object = Arc::new(hollow);
        let nothing = || Box::new(Told { covered: Vec::new(), seen: Context::new(), withheld: Vec::new() });
        self.told.get_or_insert_with(nothing).withheld = withheld;
        count
    }
}

/// Who writes.
#[derive(Clone, Debug)]
pub(crate) enum Writer {
    /// A put that this node coordinates.
    Put(u64),
    /// Another coordinator; `dot` is its new version, if it brings one.
    Peer { to: NodeId, id: u64, partition: PartitionId, seat: Seat, dot: Option<Dot> },
    /// Another node, that had kept it for this one.
    Hint { to: NodeId, id: u64, partition: PartitionId },
    /// A leaf that is compared with this replica.
    Exchange(u64, NodeId),
    /// A replica that compares all it shares with this one: it is told what was true then.
    Roots { to: NodeId, id: u64, reply: Box<RootsReply> },
    /// A replica that has tenures closed.
    Close { to: NodeId, id: u64, partition: PartitionId },
    /// A record of bucket properties.
    Properties(Scope, (u64, u64)),
    /// A layout, by its generation and version.
    Layout((u32, u64)),
    /// What this node votes on the next layout.
    Vote,
    /// A node that is asked how far it is with what moves.
    Progress { to: NodeId, id: u64, progress: Box<Progress> },
    /// A node that hands over a partition that it owns no more.
    TakeOver { to: NodeId, id: u64, partition: PartitionId },
    /// A copy that this node had kept for another, and that it owns itself now.
    Own(u64),
    /// Read repair by this node: nobody waits.
    Nobody,
}

/// Who scans.
#[derive(Clone, Debug)]
pub(crate) enum Scanner {
    /// A listing that this node coordinates.
    List(u64),
    /// Another coordinator.
    Peer { to: NodeId, id: u64, partition: PartitionId, bucket_type: String, bucket: Option<Bytes> },
    /// What is kept for this node is to be handed on, in this run.
    Handoff(u64, NodeId),
    /// A leaf that this node compares with another's.
    Leaf(u64),
    /// Everything is gone through.
    Scrub,
    /// A leaf with damaged rows is read a second time.
    Suspect,
    /// A leaf in which something has expired is gone through.
    Expired,
    /// A partition that is dropped is gone through.
    Dropping(PartitionId),
    /// Another node compares.
    Range(Box<RangeScan>),
}

/// A comparison that another node asks for.
#[derive(Clone, Debug)]
pub(crate) struct RangeScan {
    pub(crate) to: NodeId,
    pub(crate) id: u64,
    pub(crate) partition: PartitionId,
    pub(crate) last: u64,
    /// Its keys, with the digests of their clocks.
    pub(crate) keys: Vec<(Key, u128)>,
}

/// A state to merge.
#[derive(Clone, Debug)]
pub(crate) struct Brought {
    pub(crate) object: Object,
    /// Its stored form.
    pub(crate) stored: Bytes,
}

/// Something to do with a key's object, once that is there.
#[derive(Debug)]
pub(crate) enum Operation {
    /// Tell the reader what is there.
    Read(Reader),
    /// Add what is there to what is read of several hinted copies.
    ReadHint(u64),
    /// Merge another state, and tell the writer when it is durable to the level.
    Merge { brought: Box<Brought>, writer: Writer, level: Level, class: Class },
    /// Say that the key is there, for a put that this node coordinates.
    Coordinate(u64),
    /// Let a hinted copy go that was handed on, if it is still as it was then.
    Forget(Bytes),
    /// Write a hinted copy anew that was found damaged, or let it go.
    Rewrite,
    /// End these versions, which another replica has seen replaced, and tell the writer.
    Bury(Vec<Dot>, Writer),
    /// Forget what was replaced, if every owner has seen all of it. The time, in milliseconds since 1970, if the bucket
    /// shows the last writer.
    Reclaim(Option<u64>),
    /// Drop values that have expired at this time, in milliseconds since 1970.
    Purge(u64),
    /// Let a row go of a partition that is dropped.
    Drop,
}

impl Operation {
    /// Whether somebody waits for it.
    pub(super) const fn is_waited_for(&self) -> bool {
        match self {
            Self::Read(_) | Self::ReadHint(_) | Self::Coordinate(_) => true,
            Self::Merge { class, .. } => matches!(class, Class::Foreground),
            Self::Forget(_)
            | Self::Rewrite
            | Self::Bury(..)
            | Self::Reclaim(_)
            | Self::Purge(_)
            | Self::Drop => false,
        }
    }

    /// What it keeps in memory while it waits.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::Merge { brought, .. } => brought.stored.len() as u64,
            Self::Forget(stored) => stored.len() as u64,
            Self::Read(_)
            | Self::ReadHint(_)
            | Self::Coordinate(_)
            | Self::Rewrite
            | Self::Bury(..)
            | Self::Reclaim(_)
            | Self::Purge(_)
            | Self::Drop => 0,
        }
    }
}

/// Who waits for a batch to be durable.
#[derive(Debug)]
pub(crate) enum Waiter {
    Read(Reader, Place, View),
    ReadHint(u64, Ready),
    Write(Writer, Status, Covered),
    /// The key has nothing under way, if nothing was staged since.
    Slot(Place, u64),
    /// Rows are to be read, those among them that were staged.
    Scan(u64, Rows, usize),
}

/// What of a write was refused.
#[derive(Clone, Debug, Default)]
pub(crate) struct Covered {
    /// Versions that had been seen here and replaced.
    pub(crate) dots: Vec<Dot>,
    /// What is here instead, stored: whoever ends those versions must have it.
    pub(crate) object: Bytes,
}

/// What the shard has done.
#[derive(Debug)]
pub(crate) enum Done {
    /// The key of a put is there, or cannot be read.
    Loaded { put: u64, result: Result<(), LoadFailed> },
    /// What a read shows; nothing of it can be lost any more.
    Read { reader: Reader, place: Place, result: Result<View, LoadFailed> },
    /// A write is as durable as was asked, or was not done; which of its versions were replaced already.
    Written { writer: Writer, status: Status, covered: Covered },
    /// A page has been read.
    Scanned { scanner: Scanner, result: Result<Page, LoadFailed> },
}

/// What a node is told that has lost data.
#[derive(Debug)]
pub(crate) struct Lost {
    /// The record of what it concedes.
    pub(crate) record: Change,
    /// The start that another node remembers: tenures must be younger than its.
    pub(crate) born_after: u64,
}

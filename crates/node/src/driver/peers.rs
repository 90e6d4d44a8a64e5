//! The links to the other nodes, one for what somebody waits for and one for the rest.
//!
//! # Two processes with one identity
//!
//! A data directory that was copied, and started, gives two processes that are the same node by their
//! certificate. If the newcomer took the other's place here, the real node would be cut off, and nothing would
//! say so. If it were simply refused, a node that was killed could not come back before its old link is known to
//! be dead. So a second link of a node is a *rival*: it waits for a moment, and what decides is whether anything
//! is still heard on the first. If not, the rival takes its place. If so, there are two processes, and the one
//! that started first stays; the other is told why, and tries again later, in case the first one ends. The first one is
//! told too: its log is where an operator looks.
//!
//! Two links may also be of one process: each end has dialled the other, and neither had heard of the other's link yet.
//! Which of the two came first is not the same at both ends, so what each says of its start goes over both links, and both
//! ends keep the one that the node with the smaller id has dialled. Nobody is turned away for a link on which
//! nothing was said: to be turned away is for good.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use gramme_ring::NodeId;
use gramme_transport::{Link, LinkId, Protocol};
use tokio::time::Instant;

/// For how long the present link must have been silent before a rival takes its place.
const SILENT: Duration = Duration::from_millis(450);
/// For how long a link may say nothing of the process behind it. Every second is usual.
const SPEECHLESS: Duration = Duration::from_secs(5);

/// Processes that were turned away are remembered, so many of them.
const DENIED: usize = 256;

/// Said to a process that is not the first of its identity.
pub(crate) const SECOND: &str = "another process with this node's identity is connected, and started first";

#[derive(Debug)]
struct Present {
    link: Link,
    /// Which process it is of, once that has said so.
    process: Option<u64>,
}

#[derive(Debug)]
struct Rival {
    present: Present,
    since: Instant,
}

#[derive(Debug)]
struct Peer {
    present: Present,
    rival: Option<Rival>,
}

/// What became of a peer's links.
#[derive(Debug)]
pub(super) enum Change {
    /// There is a link, where there was none.
    Up(NodeId),
    /// Another process, or another connection, is there in the place of the one before.
    Replaced(NodeId),
    /// There is none any more.
    Down(NodeId),
    /// There are two processes of this identity, and the younger one was turned away.
    Conflict(Conflict),
}

/// Two processes of one identity.
#[derive(Debug)]
pub(super) struct Conflict {
    pub(super) node: NodeId,
    /// Which process was turned away, if it said so.
    pub(super) turned_away: Option<u64>,
    /// Whether that was the one that was connected until now.
    pub(super) is_replaced: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Peers {
    me: NodeId,
    peers: BTreeMap<NodeId, Peer>,
    /// By process: of two with one identity only the present one's counts.
    background: BTreeMap<(NodeId, SocketAddr), Link>,
    /// Processes that were turned away; the last of them.
    denied: VecDeque<(NodeId, u64)>,
}

impl Peers {
    pub(super) const fn new(me: NodeId) -> Self {
        Self { me, peers: BTreeMap::new(), background: BTreeMap::new(), denied: VecDeque::new() }
    }

    /// A second link to a node, about which nothing is decided yet.
    pub(super) fn rival(&self, node: NodeId) -> Option<&Link> {
        self.peers.get(&node)?.rival.as_ref().map(|rival| &rival.present.link)
    }

    /// The link to a node.
    pub(super) fn link(&self, node: NodeId) -> Option<&Link> {
        self.peers.get(&node).map(|peer| &peer.present.link)
    }

    /// The link for what nobody waits for; the other one while there is none.
    pub(super) fn background(&self, node: NodeId) -> Option<&Link> {
        let present = self.link(node)?;
        Some(self.background.get(&(node, present.remote())).unwrap_or(present))
    }

    /// Whether this is the link that the node is spoken to on.
    pub(super) fn is_present(&self, node: NodeId, link: LinkId) -> bool {
        self.link(node).is_some_and(|present| present.id() == link)
    }

    /// Whether what comes on this link is the node's word, and not that of a second process of its identity.
    pub(super) fn is_heard(&self, node: NodeId, link: &Link) -> bool {
        self.link(node).is_some_and(|present| present.remote() == link.remote())
            && (link.protocol() == Protocol::Background || self.is_present(node, link.id()))
    }

    pub(super) fn background_up(&mut self, node: NodeId, link: Link) {
        self.background.insert((node, link.remote()), link);
    }

    /// A link has come up.
    pub(super) fn up(&mut self, node: NodeId, link: Link) -> Option<Change> {
        let present = Present { link, process: None };
        match self.peers.get_mut(&node) {
            None => {
                self.peers.insert(node, Peer { present, rival: None });
                Some(Change::Up(node))
            }
            Some(peer) => {
                let before = peer.rival.replace(Rival { present, since: Instant::now() });
                if let Some(rival) = before {
                    rival.present.link.close("a newer connection has come");
                }
                None
            }
        }
    }

    /// A node has said, on this link, which process it is. One that was turned away once is turned away for good:
    /// it may be heard while the elder one is silent, and what it says then would be taken for the node's word.
    pub(super) fn note_process(&mut self, node: NodeId, link: &Link, process: u64) -> Option<Change> {
        if self.denied.contains(&(node, process)) {
            let is_replaced = false;
            link.close(SECOND);
            return Some(Change::Conflict(Conflict { node, turned_away: Some(process), is_replaced }));
        }
        let peer = self.peers.get_mut(&node)?;
        let rival = peer.rival.as_mut().map(|rival| &mut rival.present);
        for present in std::iter::once(&mut peer.present).chain(rival) {
            if present.link.id() == link.id() {
                present.process = Some(process);
            }
        }
        None
    }

    /// A link is gone.
    pub(super) fn down(&mut self, node: NodeId, link: &Link) -> Option<Change> {
        let (process, link) = ((node, link.remote()), link.id());
        if self.background.get(&process).is_some_and(|background| background.id() == link) {
            self.background.remove(&process);
            return None;
        }
        let peer = self.peers.get_mut(&node)?;
        if peer.rival.as_ref().is_some_and(|rival| rival.present.link.id() == link) {
            peer.rival = None;
            return None;
        }
        if peer.present.link.id() != link {
            return None;
        }
        match peer.rival.take() {
            Some(rival) => {
                peer.present = rival.present;
                Some(Change::Replaced(node))
            }
            None => {
                self.peers.remove(&node);
                Some(Change::Down(node))
            }
        }
    }

    /// Decides about rivals; to be called a few times a second.
    pub(super) fn decide(&mut self) -> Vec<Change> {
        let me = self.me;
        let decided = self.peers.iter_mut().filter_map(|(node, peer)| peer.decide(*node, me < *node));
        let decided: Vec<_> = decided.collect();
        for change in &decided {
            if let Change::Conflict(Conflict { node, turned_away: Some(process), .. }) = change {
                self.denied.push_back((*node, *process));
            }
        }
        while self.denied.len() > DENIED {
            self.denied.pop_front();
        }
        decided
    }
}

impl Peer {
    /// `dials` says whether this node is the one of the two that is to dial.
    fn decide(&mut self, node: NodeId, dials: bool) -> Option<Change> {
        let rival = self.rival.as_ref()?;
        let waited = rival.since.elapsed();
        if self.present.link.is_closed() || waited >= SILENT && self.present.link.silent_for() >= SILENT {
            return self.replace(node, "a newer connection has come");
        }
        // It has answered what it was asked after the rival came: both are there.
        let both = waited >= SILENT && self.present.link.has_answered_since(rival.since);
        match (self.present.process, rival.present.process) {
            // The same process, by another connection.
            (Some(present), Some(other)) if present == other => {
                let is_wanted = |link: &Link| link.is_dialled() == dials;
                if !is_wanted(&self.present.link) || is_wanted(&rival.present.link) {
                    return self.replace(node, "a newer connection has come");
                }
                if both {
                    self.rival.take()?.present.link.close("one connection is enough");
                }
                None
            }
            (Some(present), Some(other)) if both && other < present => self.replace(node, SECOND),
            (Some(_), Some(_)) if both => self.refuse(node),
            // One that speaks waits for the other's word: it is not accused of silence.
            (_, None) if both && waited >= SPEECHLESS => {
                self.rival.take()?.present.link.close("it says nothing");
                None
            }
            _ => None,
        }
    }

    fn replace(&mut self, node: NodeId, reason: &str) -> Option<Change> {
        let rival = self.rival.take()?;
        let Present { link, process } = std::mem::replace(&mut self.present, rival.present);
        link.close(reason);
        if reason == SECOND {
            return Some(Change::Conflict(Conflict { node, turned_away: process, is_replaced: true }));
        }
        Some(Change::Replaced(node))
    }

    fn refuse(&mut self, node: NodeId) -> Option<Change> {
        let Present { link, process } = self.rival.take()?.present;
        link.close(SECOND);
        Some(Change::Conflict(Conflict { node, turned_away: process, is_replaced: false }))
    }
}

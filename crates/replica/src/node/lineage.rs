//! Noticing that the directory is older than what this node acknowledged, or another's.
//!
//! A lost disk or a restored snapshot looks, from inside, like a node that has simply not done much yet. It
//! would go on counting towards R and W without what it promised to hold. Only the others can tell.
//!
//! Counting batches and comparing the counts is not enough: a directory that fell back by ten batches and makes
//! ten new ones before anybody asks has the right count. So not counts are compared but *histories*. Each start
//! draws a random name. The directory's record lists its starts, each with the position in the log at which the
//! next one began: a name and a position are a point of the history, and either lie in ours or do not. The
//! others remember, durably, the last point that each node has told them (with every request and reply, and
//! every second), and say it back. A point that does not lie in our history, because its start is unknown or
//! had ended before it, means that data was lost: from then on all partitions here are *amnesiac*. They take
//! writes and merge repairs, and add what they hold to reads, but count for nothing, R or W.
//!
//! A start counts for nothing, either, before it has heard the others ([`Lineage::is_proven`]): it would take
//! part in quorums for as long as nobody happens to object. It waits for every other owner that can be reached,
//! for a bounded time, and where there are others for one of them at least. More is not asked, since a node
//! that starts while another is down has to serve. So a rollback that only the one knows of that is down is
//! noticed when that one is back.
//!
//! What is stored and said of others carries a keyed digest: a damaged memory must not make a whole cluster
//! amnesiac.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use gramme_codec::{Codec, DecodeError};
use gramme_ring::NodeId;
use gramme_wire::peer::{Hello, Point, Standing, Start};

use super::map::Map;
use crate::io::{Change, Recovered};

const META_LINEAGE: &[u8] = b"lineage";
const META_HEARD: &[u8] = b"heard";
/// Starts that a directory remembers. Whoever last heard of a start before the oldest of them takes this
/// directory for another one.
const STARTS: usize = 1_024;
/// The end of a start that another node remembers and this directory has lost.
const CONCEDED: u64 = u64::MAX - 1;
/// How long a start waits for others that can be reached, in microseconds.
pub(crate) const PROVE_WITHIN: u64 = 2_000_000;

/// What became of another node's memory of us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It lies in our history, or there is none.
    Consistent,
    /// It does not: we have lost data.
    Contradicted,
    /// It is damaged or invented.
    Forged,
}

/// The last point of another node's history that we were told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    start: u64,
    position: u64,
    boot: u64,
}

/// What this node can prove of itself, and what it remembers of the others.
#[derive(Debug)]
pub(crate) struct Lineage {
    /// The starts of this directory, the present one last.
    starts: Vec<Start>,
    /// The position at which this start began.
    base: u64,
    /// How far the log is synced: one for each batch that it has ever had.
    position: u64,
    heard: BTreeMap<NodeId, Known>,
    /// Whether `heard` is newer than what is stored of it.
    is_news: bool,
    /// Who has said, to this start, what it remembers.
    told: BTreeSet<NodeId>,
    /// Whether the others have had their time.
    is_time_over: bool,
}

impl Lineage {
    /// What was stored, with a new start of the name `fresh`.
    pub(crate) fn begin(map: &Map, recovered: &Recovered, fresh: u64) -> Result<Self, DecodeError> {
        let mut starts: Vec<Start> = match recovered.meta.get(META_LINEAGE) {
            Some(record) => Vec::parse_all(record.clone())?,
            None => Vec::new(),
        };
        let heard: Vec<(NodeId, Standing)> = match recovered.meta.get(META_HEARD) {
            Some(record) => Vec::parse_all(record.clone())?,
            None => Vec::new(),
        };
        if let Some(last) = starts.last_mut() {
            last.end = recovered.position;
        }
        starts.push(Start { id: fresh, end: u64::MAX });
        starts.drain(..starts.len().saturating_sub(STARTS));
        Ok(Self {
            starts,
            base: recovered.position,
            position: recovered.position,
            heard: heard.into_iter().filter_map(|(node, standing)| unsealed(map, node, &standing)).collect(),
            is_news: false,
            told: BTreeSet::new(),
            is_time_over: false,
        })
    }

    /// The record of the directory's starts.
    pub(crate) fn record(&self) -> Change {
        Change::Meta { name: Bytes::from_static(META_LINEAGE), value: self.starts.to_bytes() }
    }

    /// How far this directory has come. Nothing can be said of a start that is not stored: another one might
    /// take its place.
    pub(crate) fn point(&self) -> Point {
        let is_stored = self.position > self.base;
        let present = self.starts.last().filter(|_| is_stored);
        Point { start: present.map_or(0, |start| start.id), position: self.position }
    }

    /// Batches of this start are synced up to this one.
    pub(crate) fn synced(&mut self, through: u64) {
        self.position = self.position.max(self.base + through);
    }

    /// What to tell another node: our starts from the one on that it remembers, if we know that.
    pub(crate) fn claim(&self, remembered: Option<u64>) -> Vec<Start> {
        if self.point().start == 0 {
            return Vec::new();
        }
        let from = remembered.and_then(|id| self.starts.iter().position(|start| start.id == id));
        self.starts[from.unwrap_or(0)..].to_vec()
    }

    /// Remembers what another node says of itself. What does not continue the history that we know of it is not
    /// taken: we go on remembering the old, and say so. Says whether this is a start that was not known.
    pub(crate) fn hear(&mut self, from: NodeId, hello: &Hello) -> bool {
        let Some(present) = hello.lineage.last() else { return false };
        let known = self.heard.get(&from).copied();
        let continues = |known: &Known| {
            hello.lineage.iter().any(|start| start.id == known.start && start.end >= known.position)
        };
        if known.as_ref().is_some_and(|known| !continues(known)) {
            return false;
        }
        let same = known.filter(|known| known.start == present.id);
        let position = same.map_or(hello.point.position, |known| known.position.max(hello.point.position));
        let now = Known { start: present.id, position, boot: hello.boot };
        self.is_news |= known != Some(now);
        self.heard.insert(from, now);
        same.is_none()
    }

    /// Hears of a point within the start that is known; of others a hello must tell.
    pub(crate) fn hear_point(&mut self, from: NodeId, point: &Point) {
        if let Some(known) = self.heard.get_mut(&from)
            && known.start == point.start
            && known.position < point.position
        {
            known.position = point.position;
            self.is_news = true;
        }
    }

    /// What is remembered of a node.
    pub(crate) fn remembered(&self, map: &Map, node: NodeId) -> Option<Standing> {
        self.heard.get(&node).map(|known| sealed(map, node, known))
    }

    /// Another node has told this start what it remembers of us; says whether it is the first.
    pub(crate) fn note_told(&mut self, from: NodeId) -> bool {
        let is_first = self.told.is_empty();
        self.told.insert(from);
        is_first
    }

    pub(crate) const fn end_waiting(&mut self) {
        self.is_time_over = true;
    }

    /// Whether enough of the other owners have said what they remember.
    pub(crate) fn is_proven(&self, mut others: impl Iterator<Item = NodeId> + Clone) -> bool {
        let has_others = others.clone().next().is_some();
        let all = others.clone().all(|node| self.told.contains(&node));
        all || !has_others || self.is_time_over && others.any(|node| self.told.contains(&node))
    }

    /// Whether another node's memory of us lies in our history.
    pub(crate) fn judge(&self, map: &Map, me: NodeId, heard: &Standing) -> Verdict {
        if unsealed(map, me, heard).is_none() {
            return Verdict::Forged;
        }
        // The present start has come as far as it has: a machine may have been put back while it ran.
        let end = |start: &Start| start.end.min(self.position);
        let lies_in = |start: &Start| start.id == heard.point.start && heard.point.position <= end(start);
        let is_conceded = |start: &Start| start.id == heard.point.start && start.end == CONCEDED;
        if self.starts.iter().any(|start| lies_in(start) || is_conceded(start)) {
            Verdict::Consistent
        } else {
            Verdict::Contradicted
        }
    }

    /// Takes a contradiction for known, so that it is found once: the start that the other remembers is part of
    /// what was lost. From here on this is another start, named `fresh`: its own past may be what was lost.
    pub(crate) fn concede(&mut self, heard: &Standing, fresh: u64) {
        if let Some(present) = self.starts.last_mut() {
            present.end = self.position;
        }
        self.starts.retain(|start| start.id != heard.point.start);
        self.starts.push(Start { id: heard.point.start, end: CONCEDED });
        self.starts.push(Start { id: fresh, end: u64::MAX });
    }

    /// What is remembered of the others, to be stored, if it has changed.
    pub(crate) fn take_news(&mut self, map: &Map) -> Option<Change> {
        if !std::mem::take(&mut self.is_news) {
            return None;
        }
        let heard: Vec<_> =
            self.heard.iter().map(|(node, known)| (*node, sealed(map, *node, known))).collect();
        Some(Change::Meta { name: Bytes::from_static(META_HEARD), value: heard.to_bytes() })
    }
}

fn seal(map: &Map, of: NodeId, known: &Known) -> u64 {
    let mut bytes = b"standing".to_vec();
    for number in [of.0, known.start, known.position, known.boot] {
        number.encode_to(&mut bytes);
    }
    map.keyed_digest(&bytes)
}

fn sealed(map: &Map, of: NodeId, known: &Known) -> Standing {
    let Known { start, position, boot } = *known;
    Standing { point: Point { start, position }, boot, seal: seal(map, of, known) }
}

fn unsealed(map: &Map, of: NodeId, standing: &Standing) -> Option<(NodeId, Known)> {
    let known = Known { start: standing.point.start, position: standing.point.position, boot: standing.boot };
    (seal(map, of, &known) == standing.seal).then_some((of, known))
}

#[cfg(test)]
mod tests {
    use gramme_ring::{Keyspace, Member, PlanRequest, plan};
    use gramme_wire::peer::Room;

    use super::*;

    const ME: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);

    fn map() -> Map {
        let members = [Member::new(ME), Member::new(B)];
        let request = PlanRequest { members: &members, replicas: 2, depth: 1, previous: None };
        Map::new(plan(&request).expect("a plan").layout, Keyspace::new([5; 32]))
    }

    /// A start on what a record and a log of so many batches hold.
    fn start(before: Option<&Lineage>, position: u64, fresh: u64) -> Lineage {
        let mut recovered = Recovered { position, ..Recovered::default() };
        if let Some(Change::Meta { name, value }) = before.map(Lineage::record) {
            recovered.meta.insert(name, value);
        }
        Lineage::begin(&map(), &recovered, fresh).expect("its own record")
    }

    fn hello(of: &Lineage) -> Hello {
        Hello {
            versions: (1, 1),
            boot: 9,
            process: 1,
            wall: 0,
            layout: (1, 1),
            properties: 0,
            keys: 0,
            bytes: 0,
            room: Room::Enough,
            lineage: of.claim(None),
            point: of.point(),
            heard: None,
            answers: 0,
            losses: 0,
            answers_losses: 0,
            counts: true,
            uncounted: Vec::new(),
            keeps_for: Vec::new(),
        }
    }

    fn judged(peer: &Lineage, of: &Lineage) -> Verdict {
        of.judge(&map(), ME, &peer.remembered(&map(), ME).expect("it was heard"))
    }

    #[test]
    fn a_directory_that_goes_on_is_believed_over_many_starts() {
        let mut peer = start(None, 0, 77);
        let mut node = start(None, 0, 1);
        for fresh in 2..9 {
            node.synced(10);
            peer.hear(ME, &hello(&node));
            node = start(Some(&node), node.position + 3, fresh);
            assert_eq!(judged(&peer, &node), Verdict::Consistent);
        }
    }

    #[test]
    fn one_that_fell_back_is_not_however_much_it_does_since() {
        let mut peer = start(None, 0, 77);
        let mut node = start(None, 0, 1);
        node.synced(10);
        peer.hear(ME, &hello(&node));
        let mut back = start(Some(&node), 9, 2);
        back.synced(1_000);
        assert_eq!(judged(&peer, &back), Verdict::Contradicted);
        // Nor is its new history taken for the old one's continuation.
        assert!(!peer.hear(ME, &hello(&back)));
        assert_eq!(judged(&peer, &back), Verdict::Contradicted);
        // Once it has conceded, it is found out only once, and remembered by its new start.
        back.concede(&peer.remembered(&map(), ME).expect("it was heard"), 22);
        assert_eq!(judged(&peer, &back), Verdict::Consistent);
        assert!(peer.hear(ME, &hello(&back)));
        let again = start(Some(&back), back.position, 3);
        assert_eq!(judged(&peer, &again), Verdict::Consistent);
    }

    #[test]
    fn an_empty_directory_and_a_fork_of_it_are_found() {
        let mut peer = start(None, 0, 77);
        let mut node = start(None, 0, 1);
        node.synced(10);
        let copy = start(Some(&node), 10, 2);
        node.synced(11);
        peer.hear(ME, &hello(&node));
        assert_eq!(judged(&peer, &copy), Verdict::Contradicted);
        assert_eq!(judged(&peer, &start(None, 0, 3)), Verdict::Contradicted);
        assert_eq!(judged(&peer, &node), Verdict::Consistent);
    }

    #[test]
    fn a_damaged_memory_accuses_nobody() {
        let mut peer = start(None, 0, 77);
        let mut node = start(None, 0, 1);
        node.synced(1);
        peer.hear(ME, &hello(&node));
        let mut heard = peer.remembered(&map(), ME).expect("it was heard");
        heard.point.position = u64::MAX;
        assert_eq!(node.judge(&map(), ME, &heard), Verdict::Forged);
    }

    #[test]
    fn a_start_is_proven_by_all_or_after_a_while_by_one() {
        let mut node = start(None, 0, 1);
        let others = [B, NodeId(3)];
        let is_proven = |node: &Lineage| node.is_proven(others.into_iter());
        assert!(node.is_proven(std::iter::empty()) && !is_proven(&node));
        node.note_told(B);
        assert!(!is_proven(&node));
        node.end_waiting();
        assert!(is_proven(&node));
        let mut alone = start(None, 0, 1);
        alone.end_waiting();
        assert!(!is_proven(&alone), "at least one of the others");
    }
}

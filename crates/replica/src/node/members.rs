//! Who belongs to the cluster, where each member listens, and who answers: gossip, and what comes of it here.
//!
//! The ring file names those who founded the cluster, and where they listened then. From the first start on what is
//! gossiped holds: it is stored record by record, so that a start knows what the last one knew. What this node
//! thinks of the others only ever decides whom it asks first, and who stands in for whom.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use gramme_codec::{Codec, DecodeError};
use gramme_gossip::{Config as GossipConfig, Effect as Said, Gossip, Input as Heard, Opinion, Record};
use gramme_ring::NodeId;
use gramme_wire::PeerMessage;
use gramme_wire::peer::{self, Class};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::Node;
use crate::config::Config;
use crate::cx::Cx;
use crate::io::{Change, Effect};
use crate::shard::{Level, Shard, Writer};
use crate::timers::Timer;

/// What the names of the stored records begin with.
const META_PREFIX: &[u8] = b"member/";
const FORMAT: u8 = 1;
/// How long what is gossiped is worth sending, in microseconds: whoever pings has given up by then.
const TTL: u64 = 1_000_000;

/// See the module.
#[derive(Debug)]
pub(crate) struct Members {
    gossip: Gossip,
    /// What gossip wants done; kept for its room.
    said: Vec<Said>,
    /// When the present timer is due.
    timer: Option<u64>,
}

impl Members {
    /// Starts on what the last start knew, or at first on what the founding says.
    pub(crate) fn begin(
        config: &Config,
        meta: &BTreeMap<Bytes, Bytes>,
        incarnation: u64,
        seed: [u8; 32],
    ) -> Result<Self, DecodeError> {
        let founder = |node: NodeId| {
            let addresses = config.addresses.get(&node).cloned().unwrap_or_default();
            Record::joined(node, 0, addresses)
        };
        // Those that have an address have joined, whether they own anything yet or not; so has this node.
        let joined = config.addresses.keys().copied().chain([config.node]);
        let all: BTreeSet<NodeId> =
            config.layout.members().iter().map(|member| member.id).chain(joined).collect();
        let gone = |node: &NodeId| config.layout.is_removed(*node);
        let mut records: Vec<_> = all.into_iter().filter(|node| !gone(node)).map(founder).collect();
        for (_, value) in meta.iter().filter(|(name, _)| name.starts_with(META_PREFIX)) {
            records.push(decode(value.clone())?);
        }
        let usual = GossipConfig::usual(config.node, incarnation);
        let gossip = Gossip::new(usual, records, StdRng::from_seed(seed));
        Ok(Self { gossip, said: Vec::new(), timer: None })
    }

    pub(crate) fn opinion(&self, node: NodeId) -> Opinion {
        self.gossip.opinion(node)
    }

    /// How many messages it has sent, and their bytes.
    pub(crate) fn sent(&self) -> (u64, u64) {
        (self.gossip.stats().messages, self.gossip.stats().bytes)
    }

    /// The same for all who know the same of all members.
    pub(crate) fn root(&self) -> u64 {
        self.gossip.root()
    }

    /// Where a member listens, as it said last.
    pub(crate) fn addresses(&self, node: NodeId) -> &[String] {
        self.gossip.record(node).map_or(&[], |record| &record.profile.addresses)
    }
}

impl Node {
    /// Whether somebody has said where a node listens.
    pub(crate) fn has_joined(&self, node: NodeId) -> bool {
        !self.members.addresses(node).is_empty()
    }

    /// Says where this node listens, and tells its driver where the others do. Returns what is to be stored.
    pub(crate) fn begin_gossip(&mut self, cx: &mut Cx) -> Vec<Change> {
        let known: Vec<NodeId> = self
            .members
            .gossip
            .records()
            .filter(|record| record.is_member())
            .map(|record| record.node)
            .collect();
        let me = cx.me();
        for node in known.into_iter().filter(|node| *node != me) {
            let addresses = self.members.addresses(node).to_vec();
            cx.out.push(Effect::Addresses { node, addresses });
        }
        let addresses = cx.config.addresses.get(&cx.me()).cloned().unwrap_or_default();
        self.hear(cx, Heard::Publish { addresses, details: Bytes::new() })
    }

    /// Those that a layout names are members, whether they have said so here or not, and those that it has removed are none.
    pub(super) fn admit_members(&mut self, cx: &mut Cx) -> Vec<Change> {
        let layout = self.map.layout();
        let is_new = |node: &NodeId| self.members.gossip.record(*node).is_none();
        let new: Vec<NodeId> = layout.members().iter().map(|member| member.id).filter(is_new).collect();
        let is_there = |node: &NodeId| self.members.gossip.record(*node).is_none_or(Record::is_member);
        let removed: Vec<NodeId> = layout.roster().removed.iter().copied().filter(is_there).collect();
        let version = layout.version();
        let mut rows = Vec::new();
        for node in new {
            rows.extend(self.hear(cx, Heard::Admit(Record::joined(node, 0, Vec::new()))));
        }
        for node in removed {
            rows.extend(self.hear(cx, Heard::Remove { node, at: version }));
        }
        rows
    }

    /// Whoever has joined is known from now on, and where it listens.
    pub(crate) fn admit(&mut self, cx: &mut Cx, shard: &mut Shard, node: NodeId, addresses: Vec<String>) {
        self.gossip(cx, shard, Heard::Admit(Record::joined(node, 0, addresses)));
    }

    pub(crate) fn on_gossip_timer(&mut self, cx: &mut Cx, shard: &mut Shard) {
        self.members.timer = None;
        self.gossip(cx, shard, Heard::Timer);
    }

    pub(crate) fn on_gossip(&mut self, cx: &mut Cx, shard: &mut Shard, from: NodeId, said: peer::Gossip) {
        self.gossip(cx, shard, Heard::Message { from, message: said.said });
    }

    /// A node has answered a request: it is alive, whatever was thought of it.
    pub(crate) fn note_answer(&mut self, cx: &mut Cx, shard: &mut Shard, from: NodeId) {
        if self.members.opinion(from) != Opinion::Alive {
            self.gossip(cx, shard, Heard::Answered(from));
        }
    }

    /// A connection is silent, or gone.
    pub(crate) fn note_silence(&mut self, cx: &mut Cx, shard: &mut Shard, node: NodeId) {
        self.gossip(cx, shard, Heard::Failed(node));
    }

    fn gossip(&mut self, cx: &mut Cx, shard: &mut Shard, heard: Heard) {
        let rows = self.hear(cx, heard);
        if !rows.is_empty() {
            shard.commit_and_tell(cx, rows, Level::Written, Writer::Nobody);
        }
    }

    /// Does what gossip wants done, but for what it wants stored: that is returned.
    fn hear(&mut self, cx: &mut Cx, heard: Heard) -> Vec<Change> {
        let mut said = std::mem::take(&mut self.members.said);
        self.members.gossip.step(cx.now.monotonic, heard, &mut said);
        let rows = said.drain(..).filter_map(|effect| self.do_said(cx, effect)).collect();
        self.members.said = said;
        let due = self.members.gossip.next_timer();
        if self.members.timer.is_none_or(|timer| due < timer) {
            if let Some(timer) = self.members.timer.replace(due) {
                cx.timers.cancel(timer, Timer::Gossip);
            }
            cx.timers.set(due, Timer::Gossip);
        }
        rows
    }

    fn do_said(&mut self, cx: &mut Cx, effect: Said) -> Option<Change> {
        match effect {
            // Not among what nobody waits for: a ping behind a transfer would make a busy node look dead.
            Said::Send { to, message } => {
                let id = cx.next_request();
                let gossip = peer::Gossip { said: message };
                cx.send_as(Class::Foreground, to, id, TTL, PeerMessage::Gossip(gossip));
            }
            Said::Store(record) => {
                let (node, addresses) = (record.node, record.profile.addresses.clone());
                cx.out.push(Effect::Addresses { node, addresses });
                return Some(row(&record));
            }
            Said::Opinion { node, opinion } => self.peers.judge(node, opinion, cx.now.monotonic),
        }
        None
    }
}

/// ```text
/// u8 format = 1 | record (see gramme-gossip)
/// ```
fn row(record: &Record) -> Change {
    let mut name = META_PREFIX.to_vec();
    record.node.encode_to(&mut name);
    let mut value = vec![FORMAT];
    record.encode_to(&mut value);
    Change::Meta { name: name.into(), value: value.into() }
}

fn decode(mut value: Bytes) -> Result<Record, DecodeError> {
    match u8::parse(&mut value)? {
        FORMAT => Record::parse_all(value),
        format => Err(DecodeError::Version(format)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes on every disk.
    #[test]
    fn golden() {
        let mut record = Record::joined(NodeId(7), 9, vec!["127.0.0.1:1".to_owned()]);
        record.profile.incarnation = 3;
        let Change::Meta { name, value } = row(&record) else { panic!("a row") };
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let line = format!("{} {}\n", hex(&name), hex(&value));
        let golden = include_str!("../../tests/golden/member-1.txt");
        assert!(line == golden, "the format has changed; it is now\n{line}");
        assert_eq!(decode(value.clone()), Ok(record));
        for end in 0..value.len() {
            assert!(decode(value.slice(..end)).is_err(), "cut at {end}");
        }
    }
}

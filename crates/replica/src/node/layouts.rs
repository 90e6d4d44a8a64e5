//! Learning of a later layout, and telling others of it.
//!
//! A layout is decided by its members (`deciding.rs`) and then simply known, to more and more nodes. Whoever acts on an earlier
//! one is refused, and brought up to date by whoever refuses it; whoever is asked under a later one asks for it first. Each node
//! also says in its hello which one it has. Nothing is guessed from a number alone: what owners a later epoch has is not known
//! before the layout is.

use std::collections::BTreeMap;

use bytes::Bytes;
use gramme_codec::{Codec, DecodeError};
use gramme_ring::{Layout, NodeId};
use gramme_wire::PeerMessage;
use gramme_wire::peer::{AskLayout, NewLayout};

use super::Node;
use crate::cx::Cx;
use crate::io::Change;

/// The record of the layout.
const META_LAYOUT: &[u8] = b"layout";
const FORMAT: u8 = 1;
/// How long a node is not asked, or told, again, in microseconds.
const PAUSE: u64 = 200_000;
/// How long a layout is worth sending, in microseconds.
const TTL: u64 = 5_000_000;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Layouts {
    /// The generation and version of the layout that is on the disk.
    fenced: (u32, u64),
    /// When each node was asked last.
    asked: BTreeMap<NodeId, u64>,
    /// What each was told last, and when.
    told: BTreeMap<NodeId, ((u32, u64), u64)>,
}

impl Layouts {
    /// The layout that was stored.
    pub(crate) fn stored(fenced: (u32, u64)) -> Self {
        Self { fenced, ..Self::default() }
    }

    /// The layout that is on the disk: whatever happens to this node, it takes no requests of earlier ones.
    pub(crate) const fn fenced(&self) -> (u32, u64) {
        self.fenced
    }

    pub(crate) fn on_stored(&mut self, rank: (u32, u64)) {
        self.fenced = self.fenced.max(rank);
    }
}

impl Node {
    /// Another node says which layout it has.
    pub(super) fn on_layout_heard(&mut self, cx: &mut Cx, from: NodeId, theirs: (u32, u64)) {
        let ours = self.map.layout().rank();
        if theirs > ours {
            self.ask_layout(cx, from);
        } else if theirs < ours {
            self.send_layout(cx, from);
        }
    }

    /// Asks a node for a later layout than ours.
    pub(crate) fn ask_layout(&mut self, cx: &mut Cx, from: NodeId) {
        let now = cx.now.monotonic;
        if self.layouts.asked.get(&from).is_some_and(|at| now < at + PAUSE) {
            return;
        }
        self.layouts.asked.insert(from, now);
        let (id, known) = (cx.next_request(), self.map.layout().rank());
        cx.send(from, id, TTL, PeerMessage::AskLayout(AskLayout { known }));
    }

    pub(crate) fn on_ask_layout(&self, cx: &mut Cx, from: NodeId, asked: &AskLayout) {
        if asked.known < self.map.layout().rank() {
            self.send_whole(cx, from);
        }
    }

    /// Tells a node of our layout, unless it was told a moment ago.
    pub(crate) fn send_layout(&mut self, cx: &mut Cx, to: NodeId) {
        let (now, rank) = (cx.now.monotonic, self.map.layout().rank());
        let is_told = |(told, at): &((u32, u64), u64)| *told == rank && now < at + PAUSE;
        if !self.layouts.told.get(&to).is_some_and(is_told) {
            self.layouts.told.insert(to, (rank, now));
            self.send_whole(cx, to);
        }
    }

    /// Tells everybody who can be reached of a layout that is new.
    pub(crate) fn send_layout_to_all(&mut self, cx: &mut Cx) {
        for node in self.peers().connected() {
            self.send_layout(cx, node);
        }
    }

    fn send_whole(&self, cx: &mut Cx, to: NodeId) {
        let id = cx.next_request();
        let layout = NewLayout { layout: self.map.layout().clone() };
        cx.send(to, id, TTL, PeerMessage::NewLayout(Box::new(layout)));
    }
}

/// ```text
/// u8 format = 1 | layout (see gramme-ring)
/// ```
pub(crate) fn row(layout: &Layout) -> Change {
    let mut value = vec![FORMAT];
    layout.encode_to(&mut value);
    Change::Meta { name: Bytes::from_static(META_LAYOUT), value: value.into() }
}

/// The layout that was stored, if one was.
pub(crate) fn recovered(meta: &BTreeMap<Bytes, Bytes>) -> Result<Option<Layout>, DecodeError> {
    let Some(value) = meta.get(META_LAYOUT) else { return Ok(None) };
    let mut value = value.clone();
    match u8::parse(&mut value)? {
        FORMAT => Layout::parse_all(value).map(Some),
        format => Err(DecodeError::Version(format)),
    }
}

#[cfg(test)]
mod tests {
    use gramme_ring::Member;

    use super::*;

    /// The bytes on every disk; the layout's own are gramme-wire's golden file's.
    #[test]
    fn golden() {
        let layout = Layout::new(7, 0, 1, vec![Member::new(NodeId(3))], &[0]).expect("sound");
        let Change::Meta { name, value } = row(&layout) else { panic!("a row") };
        assert_eq!((&name[..], value[0]), (META_LAYOUT, FORMAT));
        let meta = [(name.clone(), value.clone())].into();
        assert_eq!(recovered(&meta), Ok(Some(layout)));
        for end in 0..value.len() {
            assert!(recovered(&[(name.clone(), value.slice(..end))].into()).is_err(), "cut at {end}");
        }
    }
}

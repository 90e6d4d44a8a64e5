//! What each node holds of a key, for a person who wants to know why it shows what it shows.
//!
//! Owners are asked, and all who may stand in for them. Whoever has not answered in time is named with what it is
//! thought to be; nothing is merged, and nothing mended.

use std::collections::BTreeMap;

use gramme_gossip::Opinion;
use gramme_object::Key;
use gramme_quorum::{Failure, GetError};
use gramme_ring::NodeId;
use gramme_wire::PeerMessage;
use gramme_wire::peer::{Class, Read, ReadReply};

use super::get::decoded;
use super::{Around, Coordinator, failure};
use crate::io::{LoadFailed, Ticket};
use crate::place::Place;
use crate::request::{Blocked, Explained, Held, Holder, Response};
use crate::serve::request_header;
use crate::shard::{Reader, View};
use crate::timers::Timer;

/// Explanations under way at once.
const UNDER_WAY: usize = 64;

/// An explanation under way.
#[derive(Debug)]
pub(super) struct Explain {
    ticket: Ticket,
    place: Place,
    /// Who is asked, in the order of the preference list, and what was answered.
    asked: Vec<NodeId>,
    held: BTreeMap<NodeId, Held>,
    blocked: Option<Vec<Blocked>>,
    deadline: u64,
}

impl Coordinator {
    pub(crate) fn start_explain(
        &mut self,
        around: &mut Around<'_>,
        ticket: Ticket,
        (key, timeout): (Key, u32),
    ) {
        let Around { cx, node, .. } = around;
        let refused = if node.properties(&key).is_none() {
            Some(GetError::UnknownType(key.bucket_type().to_owned()))
        } else {
            (self.explains.len() >= UNDER_WAY).then_some(GetError::Busy)
        };
        if let Some(error) = refused {
            return cx.reply(ticket, Response::Explained(Err(error)));
        }
        let place = node.map.place(key);
        let mut asked: Vec<NodeId> = node.map.holders(place.partition).collect();
        asked.extend(node.map.fallbacks(place.partition).iter());
        let (id, deadline) = (cx.next_request(), cx.after(timeout));
        cx.timers.set(deadline, Timer::Explain(id));
        let me = cx.me();
        for &to in asked.iter().filter(|&&to| to != me) {
            let header = request_header(cx, node, place.partition, id, Class::Foreground);
            let read = Read { header, key: place.key.clone(), withhold: 0, asked: None };
            cx.send(to, id, u64::from(timeout) * 1_000, PeerMessage::Read(read));
        }
        let is_own = asked.contains(&me);
        let held = BTreeMap::new();
        self.explains
            .insert(id, Explain { ticket, place: place.clone(), asked, held, blocked: None, deadline });
        if is_own {
            around.read(&place, Reader::Explain(id));
        }
    }

    pub(crate) fn on_explained_here(
        &mut self,
        around: &mut Around<'_>,
        id: u64,
        place: &Place,
        result: Result<View, LoadFailed>,
    ) {
        let uncounted = around.shard.counts(place.partition).err().map(Failure::from);
        let held = match result {
            Ok(view) => Held::Copy { object: (*view.object).clone(), uncounted },
            Err(LoadFailed) => Held::Unknown(Failure::Disk),
        };
        let me = around.cx.me();
        if let (Held::Copy { object, .. }, Some(explain)) = (&held, self.explains.get_mut(&id)) {
            explain.blocked = around.shard.blocked(me, place, object);
        }
        self.note_held(around, id, me, held);
    }

    /// Takes an answer, if it belongs to an explanation.
    pub(super) fn on_explain_reply(
        &mut self,
        around: &mut Around<'_>,
        from: NodeId,
        id: u64,
        reply: &ReadReply,
    ) {
        if !self.explains.contains_key(&id) {
            return;
        }
        let held = match (failure(reply.header.status), decoded(&reply.object)) {
            (None, Ok(object)) => Held::Copy { object, uncounted: None },
            (Some(why @ (Failure::Amnesiac | Failure::Unproven)), Ok(object)) => {
                Held::Copy { object, uncounted: Some(why) }
            }
            (why, _) => Held::Unknown(why.unwrap_or(Failure::Disk)),
        };
        self.note_held(around, id, from, held);
    }

    pub(super) fn on_explain_failure(
        &mut self,
        around: &mut Around<'_>,
        id: u64,
        node: NodeId,
        why: Failure,
    ) {
        self.note_held(around, id, node, Held::Unknown(why));
    }

    fn note_held(&mut self, around: &mut Around<'_>, id: u64, node: NodeId, held: Held) {
        let Some(explain) = self.explains.get_mut(&id) else { return };
        if explain.asked.contains(&node) {
            explain.held.entry(node).or_insert(held);
        }
        if explain.held.len() == explain.asked.len() {
            self.on_explain_deadline(around, id);
        }
    }

    pub(crate) fn on_explain_deadline(&mut self, around: &mut Around<'_>, id: u64) {
        let Some(mut explain) = self.explains.remove(&id) else { return };
        let Around { cx, node, .. } = around;
        cx.timers.cancel(explain.deadline, Timer::Explain(id));
        let partition = explain.place.partition;
        let holder = |&id: &NodeId| {
            let slot = node.map.layout().slot_of(partition, id);
            let state = if id == cx.me() { Opinion::Alive } else { node.peers().state(id) };
            let held = explain.held.remove(&id).unwrap_or(Held::Unknown(Failure::Silent));
            Holder { node: id, slot, state, held }
        };
        let holders = explain.asked.iter().map(holder).collect();
        let epoch = node.map.epoch(partition).number;
        let explained = Explained { partition, epoch, blocked: explain.blocked, holders };
        cx.reply(explain.ticket, Response::Explained(Ok(explained)));
    }
}

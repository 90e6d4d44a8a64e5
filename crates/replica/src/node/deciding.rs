//! Deciding on the next layout: a majority of the members of the present one, by single-decree Paxos (`gramme-paxos`).
//!
//! Two administrators, or going on and taking back, are rivals; two halves of a cut cluster are, too. Everything else here
//! merges, and this does not. Each version of the layout is one decision, and the layout before it names the voters. What a node
//! votes is on its disk before it says so. A node that has lost data may have lost a vote: it never votes again, until it is
//! removed and joins as another; one that does not know yet whether it has waits until the others have said so.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use gramme_codec::{Codec, DecodeError};
use gramme_paxos::{Config, Effect, Input, Message, Paxos, Vote};
use gramme_ring::{Layout, NodeId, Step};
use gramme_wire::PeerMessage;
use gramme_wire::peer::Ballot;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::Node;
use crate::cx::Cx;
use crate::io::Change;
use crate::shard::{Level, Shard, Writer};
use crate::timers::Timer;

/// The record of this node's vote.
const META_VOTE: &[u8] = b"vote";
const FORMAT: u8 = 1;
/// How long an attempt may take before it is made again, and what is said is worth sending, in microseconds.
const PATIENCE: u64 = 1_000_000;
/// What waits for a vote to be stored; more is lost, as messages are.
const WAITING: usize = 1_024;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Deciding {
    paxos: Option<Paxos<ChaCha8Rng>>,
    /// What was voted, and on which layout.
    vote: Option<((u32, u64), Vote)>,
    /// What is to be done once the last vote is stored.
    waiting: VecDeque<Effect>,
    is_storing: bool,
    timer: Option<u64>,
}

impl Deciding {
    /// On what the last start had voted.
    pub(crate) fn begin(meta: &BTreeMap<Bytes, Bytes>) -> Result<Self, DecodeError> {
        let Some(value) = meta.get(META_VOTE) else { return Ok(Self::default()) };
        let mut value = value.clone();
        let vote = match u8::parse(&mut value)? {
            FORMAT => <((u32, u64), Vote)>::parse_all(value)?,
            format => return Err(DecodeError::Version(format)),
        };
        Ok(Self { vote: Some(vote), ..Self::default() })
    }

    /// Another layout is in force: what was under way is decided.
    fn on_layout(&mut self) {
        (self.paxos, self.timer) = (None, None);
        // A vote that is being stored is of the decision that is over; its end is waited for all the same.
        self.waiting.clear();
    }
}

impl Node {
    /// The layout that is to be decided next.
    fn next_rank(&self) -> (u32, u64) {
        let (generation, version) = self.map.layout().rank();
        (generation, version + 1)
    }

    /// Whether this node may vote: it has lost nothing, as far as it and the others know.
    fn may_vote(&self, cx: &Cx, shard: &Shard) -> bool {
        !shard.has_ever_lost()
            && self.lineage.is_proven(self.map.others(cx.me()).collect::<Vec<_>>().into_iter())
    }

    /// Wants this step to be decided next. What is decided may be another.
    pub(crate) fn propose(&mut self, cx: &mut Cx, shard: &mut Shard, step: &Step) -> Option<Layout> {
        if self.map.layout().after(step).is_err() {
            return None;
        }
        self.decide(cx, shard, Input::Propose(step.to_bytes()))
    }

    /// Whether a proposal of this node is under way.
    pub(crate) fn is_deciding(&self) -> bool {
        self.deciding.timer.is_some()
    }

    pub(crate) fn on_ballot(
        &mut self,
        cx: &mut Cx,
        shard: &mut Shard,
        from: NodeId,
        ballot: Ballot,
    ) -> Option<Layout> {
        let next = self.next_rank();
        if ballot.of < next {
            self.send_layout(cx, from);
            return None;
        }
        if ballot.of > next {
            self.ask_layout(cx, from);
            return None;
        }
        let is_question = matches!(ballot.said, Message::Prepare(_) | Message::Accept { .. });
        if is_question && !self.may_vote(cx, shard) {
            return None;
        }
        self.decide(cx, shard, Input::Message { from, message: ballot.said })
    }

    pub(crate) fn on_deciding_timer(&mut self, cx: &mut Cx, shard: &mut Shard) -> Option<Layout> {
        self.deciding.timer = None;
        self.decide(cx, shard, Input::Timer)
    }

    /// The last vote is on the disk: what follows from it may be said.
    pub(crate) fn on_vote_stored(&mut self, cx: &mut Cx, shard: &mut Shard) -> Option<Layout> {
        self.deciding.is_storing = false;
        self.say(cx, shard)
    }

    fn decide(&mut self, cx: &mut Cx, shard: &mut Shard, input: Input) -> Option<Layout> {
        self.hear_ballot(cx, input);
        let decided = self.say(cx, shard);
        let due = self.deciding.paxos.as_ref().and_then(Paxos::next_timer);
        cx.timers.hurry(&mut self.deciding.timer, due, Timer::Deciding);
        decided
    }

    fn hear_ballot(&mut self, cx: &mut Cx, input: Input) {
        let (me, now, next) = (cx.me(), cx.now.monotonic, self.next_rank());
        let voters = || self.map.members().iter().map(|member| member.id).collect();
        let vote = self.deciding.vote.as_ref().filter(|(of, _)| *of == next).map(|(_, vote)| vote.clone());
        let paxos = self.deciding.paxos.get_or_insert_with(|| {
            let config = Config { me, voters: voters(), may_vote: true, patience: PATIENCE };
            let rng = ChaCha8Rng::from_seed(cx.rng.random());
            Paxos::new(config, vote.unwrap_or_default(), rng, now)
        });
        if self.deciding.waiting.len() >= WAITING && matches!(input, Input::Message { .. }) {
            // Before it is heard: a vote that was given must be stored.
            return;
        }
        let mut effects = Vec::new();
        paxos.step(now, input, &mut effects);
        self.deciding.waiting.extend(effects);
    }

    /// Does what is to be done, up to the next vote that must be stored first. Returns the next layout if it is decided.
    fn say(&mut self, cx: &mut Cx, shard: &mut Shard) -> Option<Layout> {
        while !self.deciding.is_storing
            && let Some(effect) = self.deciding.waiting.pop_front()
        {
            match effect {
                Effect::Store(vote) => self.store_vote(cx, shard, vote),
                Effect::Send { to, message } if to == cx.me() => {
                    if self.may_vote(cx, shard)
                        || !matches!(message, Message::Prepare(_) | Message::Accept { .. })
                    {
                        self.hear_ballot(cx, Input::Message { from: to, message });
                    }
                }
                Effect::Send { to, message } => {
                    let (id, of) = (cx.next_request(), self.next_rank());
                    cx.send(to, id, PATIENCE, PeerMessage::Ballot(Ballot { of, said: message }));
                }
                Effect::Decided(value) => return Some(self.decided(value)),
            }
        }
        None
    }

    fn store_vote(&mut self, cx: &mut Cx, shard: &mut Shard, vote: Vote) {
        self.deciding.is_storing = true;
        let vote = (self.next_rank(), vote);
        let row = row(&vote);
        self.deciding.vote = Some(vote);
        shard.commit_and_tell(cx, vec![row], Level::Synced, Writer::Vote);
    }

    /// The layout that was decided on. A step that does not follow changes nothing but the version, everywhere alike: nobody
    /// proposes one, and a decision must not stop all later ones.
    fn decided(&self, value: Bytes) -> Layout {
        let layout = self.map.layout();
        let next = Step::parse_all(value).ok().and_then(|step| layout.after(&step).ok());
        next.or_else(|| layout.after(&layout.step()).ok()).unwrap_or_else(|| layout.clone())
    }

    /// Takes a layout that is in force from now on.
    pub(crate) fn set_layout(&mut self, cx: &mut Cx, shard: &mut Shard, layout: Layout) {
        self.map.set_layout(layout);
        self.deciding.on_layout();
        let rows = self.admit_members(cx);
        if !rows.is_empty() {
            shard.commit_and_tell(cx, rows, Level::Written, Writer::Nobody);
        }
        let known = self.map.others(cx.me()).collect::<Vec<_>>();
        for node in known {
            let addresses = self.members.addresses(node).to_vec();
            cx.out.push(crate::io::Effect::Addresses { node, addresses });
        }
    }
}

/// ```text
/// u8 format = 1 | the layout to be decided: u32 generation, u64 version | vote (see gramme-paxos)
/// ```
fn row(vote: &((u32, u64), Vote)) -> Change {
    let mut value = vec![FORMAT];
    vote.encode_to(&mut value);
    Change::Meta { name: Bytes::from_static(META_VOTE), value: value.into() }
}

#[cfg(test)]
mod tests {
    use gramme_paxos::Ballot;

    use super::*;

    /// The bytes on every disk.
    #[test]
    fn golden() {
        let ballot = Ballot { round: 3, node: NodeId(7) };
        let vote = Vote { promised: ballot, taken: Some((ballot, Bytes::from_static(b"step"))), used: 2 };
        let vote = ((1, 5), vote);
        let Change::Meta { name, value } = row(&vote) else { panic!("a row") };
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let line = format!("{} {}\n", hex(&name), hex(&value));
        let golden = include_str!("../../tests/golden/vote-1.txt");
        assert!(line == golden, "the format has changed; it is now\n{line}");
        let recovered = |value: Bytes| Deciding::begin(&[(name.clone(), value)].into());
        assert_eq!(recovered(value.clone()).map(|deciding| deciding.vote), Ok(Some(vote)));
        for end in 0..value.len() {
            assert!(recovered(value.slice(..end)).is_err(), "cut at {end}");
        }
    }
}

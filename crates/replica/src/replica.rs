//! One node: takes an input, lets the part that owns it handle it, and hands what the shard has done to
//! whoever asked.

use gramme_plant::planted;
use gramme_quorum::Failure;
use gramme_ring::NodeId;
use gramme_wire::PeerMessage;
use gramme_wire::peer::{Class, WriteReply};

use crate::adoption::Early;
use crate::antientropy::Exchanges;
use crate::coordinator::{Around, AskedGet, AskedKeys, Coordinator};
use crate::cx::Cx;
use crate::expiry::Purge;
use crate::handoff::HandingOn;
use crate::io::{Effect, Input, LoadFailed, Now, Page, Ticket};
use crate::node::Node;
use crate::pace;
use crate::plan::Planning;
use crate::request::{ClientRequest, PropertiesError, Response};
use crate::scrub::Scrub;
use crate::shard::{Done, Reader, Scanner, Shard, Writer};
use crate::stats::Stats;
use crate::timers::Timer;
use crate::transfer::Transfers;

/// One node. See the crate's documentation.
#[derive(Debug)]
pub struct Replica {
    pub(crate) cx: Cx,
    pub(crate) node: Node,
    pub(crate) shard: Shard,
    pub(crate) coordinator: Coordinator,
    pub(crate) handing_on: HandingOn,
    pub(crate) exchanges: Exchanges,
    pub(crate) transfers: Transfers,
    pub(crate) planning: Planning,
    pub(crate) early: Early,
    pub(crate) scrub: Scrub,
    pub(crate) purge: Purge,
}

impl Replica {
    /// Handles one input at `now` and appends what is to be done to `out`.
    pub fn step(&mut self, now: Now, input: Input, out: &mut Vec<Effect>) {
        self.cx.now = now;
        self.cx.owed_since = self.shard.oldest();
        std::mem::swap(&mut self.cx.out, out);
        self.route(input);
        while let Some(done) = self.shard.next_done() {
            self.hand_over(done);
        }
        if !self.cx.dirty.is_empty() {
            let (exchanges, mut around) = self.split_exchanges();
            exchanges.on_dirty(&mut around);
        }
        self.shard.end_step(&self.cx);
        if let Some(at) = self.cx.timers.take_change() {
            self.cx.out.push(Effect::SetTimer(at));
        }
        std::mem::swap(&mut self.cx.out, out);
    }

    pub(crate) fn split(&mut self) -> (&mut Coordinator, Around<'_>) {
        let Self { cx, node, shard, coordinator, .. } = self;
        (coordinator, Around { cx, node, shard })
    }

    pub(crate) fn split_exchanges(&mut self) -> (&mut Exchanges, Around<'_>) {
        let Self { cx, node, shard, exchanges, .. } = self;
        (exchanges, Around { cx, node, shard })
    }

    fn split_handoff(&mut self) -> (&mut HandingOn, Around<'_>) {
        let Self { cx, node, shard, handing_on, .. } = self;
        (handing_on, Around { cx, node, shard })
    }

    fn route(&mut self, input: Input) {
        match input {
            Input::Client { ticket, request } => self.on_client(ticket, request),
            Input::Message { from, id, message } => self.on_message(from, id, message),
            Input::Undelivered { to, id, busy } => {
                self.on_failed(to, id, if busy { Failure::Busy } else { Failure::Down });
            }
            Input::PeerUp(peer) => self.on_peer_up(peer),
            Input::PeerSuspect(peer) => self.on_peer_suspect(peer),
            Input::PeerDown(peer) => self.on_peer_down(peer),
            Input::Loaded { load, result } => self.shard.on_loaded(&mut self.cx, load, result),
            Input::Scanned { scan, result } => self.shard.on_scanned(scan, result),
            Input::Committed { written, synced } => self.on_committed(written, synced),
            Input::CommitFailed => self.cx.out.push(Effect::Fatal("a commit failed")),
            Input::Room(room) => self.shard.set_room(room),
            Input::Timer => self.on_timer(),
        }
    }

    /// Hands what the shard has done to whoever asked for it.
    fn hand_over(&mut self, done: Done) {
        let done = match done {
            Done::Scanned { scanner, result } => return self.hand_over_page(scanner, result),
            Done::Written { writer: Writer::Exchange(task, _), status, .. } => {
                let (exchanges, mut around) = self.split_exchanges();
                return exchanges.on_merged(&mut around, task, status);
            }
            Done::Written { writer: Writer::Vote, .. } => {
                let decided = self.node.on_vote_stored(&mut self.cx, &mut self.shard);
                return self.take_decided(decided);
            }
            Done::Written { writer: Writer::Layout(rank), .. } => {
                self.node.layouts.on_stored(rank);
                let Self { cx, node, shard, transfers, .. } = self;
                return transfers.on_fenced(&mut Around { cx, node, shard });
            }
            Done::Written { writer: Writer::Progress { to, id, progress }, .. } => {
                return self.cx.send_as(Class::Background, to, id, 0, PeerMessage::Progress(*progress));
            }
            Done::Written { writer: Writer::Own(id), status, .. } => {
                let (handing_on, mut around) = self.split_handoff();
                return handing_on.on_own(&mut around, id, status);
            }
            done => done,
        };
        let (coordinator, mut around) = self.split();
        match done {
            Done::Loaded { put, result } => coordinator.on_loaded(&mut around, put, result),
            Done::Read { reader: Reader::Get(get, _), place, result } => {
                coordinator.on_own_read(&mut around, get, &place, result);
            }
            Done::Read { reader: Reader::Question(number, _), result, .. } => {
                coordinator.on_own_question(&mut around, number, result);
            }
            Done::Read { reader: Reader::Explain(explain), place, result } => {
                coordinator.on_explained_here(&mut around, explain, &place, result);
            }
            Done::Read { reader: Reader::Peer { to, id, withhold, .. }, place, result } => {
                around.answer_read((to, id, withhold), &place, result);
            }
            Done::Written { writer: Writer::Put(put), status, .. } => {
                coordinator.on_own_write(&mut around, put, status);
            }
            Done::Written { writer: Writer::Properties(scope, rank), .. } => {
                around.node.on_record_stored(around.cx, &scope, rank);
            }
            Done::Written { writer: Writer::TakeOver { to, id, partition }, status, .. } => {
                around.answer_take_over((to, id), partition, status);
            }
            Done::Written { writer, status, covered } => around.answer_write(writer, status, covered),
            Done::Scanned { .. } => {}
        }
    }

    fn hand_over_page(&mut self, scanner: Scanner, result: Result<Page, LoadFailed>) {
        let Self { cx, node, shard, coordinator, handing_on, exchanges, transfers, scrub, purge, .. } = self;
        let mut around = Around { cx, node, shard };
        // A listing must not leave out what cannot be read: another owner is asked.
        let whole = |result: Result<Page, LoadFailed>| {
            result.ok().filter(|page| page.unreadable.is_empty()).ok_or(LoadFailed)
        };
        match scanner {
            Scanner::List(list) => coordinator.on_own_page(&mut around, list, whole(result)),
            Scanner::Peer { to, id, partition, bucket_type, bucket } => {
                around.answer_keys((to, id, partition), (&bucket_type, bucket.as_ref()), whole(result));
            }
            Scanner::Handoff(run, target) => handing_on.on_page(&mut around, (run, target), result),
            Scanner::Scrub => scrub.on_page(&mut around, result),
            Scanner::Expired => purge.on_page(&mut around, result),
            Scanner::Suspect => {
                if scrub.on_suspect_page(&mut around, result) {
                    coordinator.discount_own(&mut around);
                    exchanges.on_lost(&mut around);
                }
            }
            Scanner::Leaf(task) => exchanges.on_leaf_page(&mut around, task, result),
            Scanner::Range(scan) => around.on_range_page(&scan, result),
            Scanner::Dropping(partition) => transfers.on_page(&mut around, partition, result),
        }
    }

    fn on_client(&mut self, ticket: Ticket, request: ClientRequest) {
        self.cx.open_tickets += 1;
        let (coordinator, mut around) = self.split();
        match request {
            ClientRequest::Get { key, r, pr, timeout, sloppy, against, session } => {
                let asked = AskedGet { key, r, pr, timeout, sloppy, against, session };
                coordinator.start_get(&mut around, ticket, asked);
            }
            ClientRequest::Put(put) => coordinator.start_client_put(&mut around, ticket, put),
            ClientRequest::Keys { bucket_type, bucket, after, timeout } => {
                let asked = AskedKeys { bucket_type, bucket, after, timeout };
                coordinator.start_list(&mut around, ticket, asked);
            }
            ClientRequest::Properties(scope) => {
                let found = around.node.buckets.of_scope(&scope);
                let result = found.ok_or(PropertiesError::UnknownType(scope.bucket_type));
                around.cx.reply(ticket, Response::Properties(result));
            }
            ClientRequest::SetProperties { scope, change, timeout } => {
                let Around { cx, node, shard } = around;
                node.start_property_change(cx, shard, ticket, scope, &change, timeout);
            }
            ClientRequest::Explain { key, timeout } => {
                coordinator.start_explain(&mut around, ticket, (key, timeout));
            }
            ClientRequest::Losses => {
                let (exchanges, around) = self.split_exchanges();
                let losses = exchanges.losses(&around);
                around.cx.reply(ticket, Response::Losses(losses));
            }
            ClientRequest::AcceptLoss => {
                let (exchanges, around) = self.split_exchanges();
                let losses = exchanges.losses(&around);
                let lost: Vec<_> = losses.iter().map(|loss| loss.partition).collect();
                if !lost.is_empty() {
                    around.shard.remember(around.cx, &lost);
                }
                around.cx.reply(ticket, Response::Losses(losses));
            }
            ClientRequest::Admit { node: joined, addresses } => {
                let Around { cx, node, shard } = around;
                node.admit(cx, shard, joined, addresses);
                cx.reply(ticket, Response::Admitted);
            }
            ClientRequest::Ring => {
                let layout = Box::new(around.node.map.layout().clone());
                around.cx.reply(ticket, Response::Ring(layout));
            }
            ClientRequest::Transfers => {
                let Self { cx, node, shard, exchanges, transfers, .. } = self;
                transfers.on_question(&mut Around { cx, node, shard }, exchanges, ticket);
            }
            ClientRequest::Plan(command) => {
                let Self { cx, node, shard, planning, .. } = self;
                let step = planning.on_command(&mut Around { cx, node, shard }, ticket, command);
                self.propose(step);
            }
            ClientRequest::Status => {
                let mut status = around.node.status(around.cx, around.shard);
                let now = around.cx.now.monotonic;
                status.scrubbing = self.scrub.progress(now);
                for node in &mut status.nodes {
                    let run = self.handing_on.run(node.id);
                    node.handing_on = run.map(|run| (run.rows, now.saturating_sub(run.began)));
                    node.exchange = self.exchanges.exchange(node.id, now);
                }
                self.cx.reply(ticket, Response::Status(status));
            }
        }
    }

    /// What the next layout is was decided, if it was.
    fn take_decided(&mut self, decided: Option<gramme_ring::Layout>) {
        if let Some(layout) = decided {
            self.take_layout(layout);
        }
    }

    pub(crate) fn on_message(&mut self, from: NodeId, id: u64, message: PeerMessage) {
        if self.node.map.layout().is_removed(from) && !planted!(HearRemoved) {
            // It may have missed that.
            return self.node.send_layout(&mut self.cx, from);
        }
        if self.is_early(&message) {
            return self.keep_early(from, id, message);
        }
        if message.is_reply() {
            self.node.note_answer(&mut self.cx, &mut self.shard, from);
        }
        let (coordinator, mut around) = self.split();
        match message {
            PeerMessage::Hello(hello) => {
                let Around { cx, node, shard } = &mut around;
                if node.on_hello(cx, shard, from, hello) {
                    coordinator.discount_own(&mut around);
                    let (exchanges, mut around) = self.split_exchanges();
                    exchanges.on_lost(&mut around);
                }
                let (exchanges, mut around) = self.split_exchanges();
                exchanges.on_hello(&mut around);
            }
            PeerMessage::Read(read) => around.on_read(from, id, read),
            PeerMessage::ReadReply(reply) => coordinator.on_read_reply(&mut around, from, id, &reply),
            PeerMessage::Write(write) => around.on_write(from, id, write),
            PeerMessage::WriteReply(reply) => self.on_write_reply(from, id, reply),
            PeerMessage::Repair(repair) => around.on_repair(from, id, repair),
            PeerMessage::Forward(forward) => coordinator.on_forward(&mut around, from, id, *forward),
            PeerMessage::ForwardReply(reply) => {
                coordinator.on_forward_reply(&mut around, from, id, *reply);
            }
            PeerMessage::Properties(properties) => {
                let Around { cx, node, shard } = around;
                node.on_properties(cx, shard, (from, id), properties);
            }
            PeerMessage::PropertiesReply(reply) => {
                around.node.on_properties_reply(around.cx, from, reply);
            }
            PeerMessage::Roots(_)
            | PeerMessage::RootsReply(_)
            | PeerMessage::Leaves(_)
            | PeerMessage::LeavesReply(_)
            | PeerMessage::Range(_)
            | PeerMessage::RangeReply(_)
            | PeerMessage::Close(_)
            | PeerMessage::CloseReply(_)
            | PeerMessage::TakeOver(_) => self.on_exchange(from, id, message),
            PeerMessage::AskLayout(_)
            | PeerMessage::NewLayout(_)
            | PeerMessage::Ballot(_)
            | PeerMessage::AskProgress(_)
            | PeerMessage::Progress(_)
            | PeerMessage::TakeOverReply(_) => self.on_change(from, id, message),
            PeerMessage::Hint(hint) => around.on_hint(from, id, hint),
            PeerMessage::HintReply(reply) => {
                let (handing_on, mut around) = self.split_handoff();
                handing_on.on_reply(&mut around, from, id, &reply);
            }
            PeerMessage::Gossip(gossip) => {
                let Around { cx, node, shard } = around;
                node.on_gossip(cx, shard, from, gossip);
            }
            // A matter of connections, and so of whoever holds them.
            PeerMessage::Claimed(_) => {}
            PeerMessage::Unsupported(_) => self.on_failed(from, id, Failure::Unsupported),
            PeerMessage::Keys(keys) => around.on_keys(from, id, keys),
            PeerMessage::KeysReply(reply) => coordinator.on_keys_reply(&mut around, from, id, reply),
        }
    }

    fn on_write_reply(&mut self, from: NodeId, id: u64, reply: WriteReply) {
        let (exchanges, mut around) = self.split_exchanges();
        if !exchanges.on_write_reply(&mut around, from, id, &reply) {
            let (coordinator, mut around) = self.split();
            coordinator.on_write_reply(&mut around, from, id, reply);
        }
    }

    /// What belongs to anti-entropy.
    fn on_exchange(&mut self, from: NodeId, id: u64, message: PeerMessage) {
        let (exchanges, mut around) = self.split_exchanges();
        match message {
            PeerMessage::Roots(roots) => exchanges.on_roots(&mut around, (from, id), &roots),
            PeerMessage::RootsReply(reply) => exchanges.on_roots_reply(&mut around, (from, id), &reply),
            PeerMessage::Leaves(leaves) => around.on_leaves((from, id), &leaves),
            PeerMessage::LeavesReply(reply) => exchanges.on_leaves_reply(&mut around, (from, id), &reply),
            PeerMessage::Range(range) => around.on_range(from, id, range),
            PeerMessage::RangeReply(reply) => exchanges.on_range_reply(&mut around, from, id, reply),
            PeerMessage::Close(close) => around.on_close(from, id, &close),
            PeerMessage::CloseReply(reply) => exchanges.on_close_reply(&mut around, from, id, &reply),
            PeerMessage::TakeOver(asked) => exchanges.on_take_over(&mut around, from, id, &asked),
            _ => {}
        }
    }

    /// What belongs to a change of owners.
    fn on_change(&mut self, from: NodeId, id: u64, message: PeerMessage) {
        let Self { cx, node, shard, exchanges, transfers, .. } = self;
        match message {
            PeerMessage::AskLayout(asked) => node.on_ask_layout(cx, from, &asked),
            PeerMessage::NewLayout(new) => self.take_layout(new.layout),
            PeerMessage::Ballot(ballot) => {
                let decided = node.on_ballot(cx, shard, from, ballot);
                self.take_decided(decided);
            }
            PeerMessage::AskProgress(ask) => {
                Around { cx, node, shard }.on_ask_progress(exchanges, from, id, &ask);
            }
            PeerMessage::Progress(progress) => {
                transfers.on_progress(&mut Around { cx, node, shard }, from, &progress);
            }
            PeerMessage::TakeOverReply(reply) => {
                transfers.on_take_over_reply(&mut Around { cx, node, shard }, from, id, &reply);
            }
            _ => {}
        }
    }

    fn on_transfer_timer(&mut self) {
        let Self { cx, node, shard, exchanges, transfers, .. } = self;
        let mut around = Around { cx, node, shard };
        exchanges.pull_what_moves(&mut around);
        let step = transfers.on_timer(&mut around, exchanges);
        self.propose(step);
    }

    fn propose(&mut self, step: Option<gramme_ring::Step>) {
        if let Some(step) = step {
            let decided = self.node.propose(&mut self.cx, &mut self.shard, &step);
            self.take_decided(decided);
        }
    }

    /// A request has certainly not been done by `node`.
    fn on_failed(&mut self, node: NodeId, id: u64, failure: Failure) {
        let (coordinator, mut around) = self.split();
        coordinator.on_undelivered(&mut around, node, id, failure);
        let (handing_on, mut around) = self.split_handoff();
        handing_on.on_failed(&mut around, id);
        let (exchanges, mut around) = self.split_exchanges();
        exchanges.on_failed(&mut around, id);
        self.transfers.on_failed(self.cx.now.monotonic, id);
    }

    fn on_peer_up(&mut self, peer: NodeId) {
        self.node.on_peer_up(&mut self.cx, &mut self.shard, peer);
        let (handing_on, mut around) = self.split_handoff();
        handing_on.on_back(&mut around, peer);
        let (exchanges, mut around) = self.split_exchanges();
        exchanges.on_reachable(&mut around, peer);
    }

    fn on_peer_suspect(&mut self, peer: NodeId) {
        let (coordinator, mut around) = self.split();
        around.node.note_silence(around.cx, around.shard, peer);
        coordinator.on_peer_suspect(&mut around, peer);
    }

    fn on_peer_down(&mut self, peer: NodeId) {
        let (coordinator, mut around) = self.split();
        around.node.on_peer_down(around.cx, around.shard, peer);
        coordinator.on_peer_down(&mut around, peer);
        let (exchanges, mut around) = self.split_exchanges();
        exchanges.on_gone(&mut around, peer);
        let (handing_on, mut around) = self.split_handoff();
        handing_on.on_gone(&mut around, peer);
    }

    fn on_committed(&mut self, written: u64, synced: u64) {
        self.shard.on_committed(&mut self.cx, written, synced);
        self.node.lineage.synced(self.shard.synced());
    }

    fn on_timer(&mut self) {
        for timer in self.cx.timers.due(self.cx.now.monotonic) {
            match timer {
                Timer::Transfer => self.on_transfer_timer(),
                Timer::Deciding => {
                    let decided = self.node.on_deciding_timer(&mut self.cx, &mut self.shard);
                    self.take_decided(decided);
                }
                Timer::Asked => {
                    let Self { cx, node, shard, transfers, .. } = self;
                    transfers.on_asked_timer(&mut Around { cx, node, shard });
                }
                Timer::Plan => {
                    let step = self.planning.on_timer(&mut self.cx);
                    self.propose(step);
                }
                timer => self.on_part_timer(timer),
            }
        }
    }

    /// A timer of one part.
    fn on_part_timer(&mut self, timer: Timer) {
        let Self { cx, node, shard, coordinator, handing_on, exchanges, scrub, purge, .. } = self;
        let mut around = Around { cx, node, shard };
        match timer {
            Timer::HandoffRound => handing_on.on_round(&mut around),
            Timer::Reclaim => {
                exchanges.on_reclaim_timer(&mut around);
                scrub.on_time(&mut around);
                purge.on_time(&mut around);
            }
            Timer::Pace => pace::adapt(&mut around, &mut [handing_on, exchanges, scrub, purge]),
            Timer::AntiEntropy => exchanges.on_timer(&mut around),
            Timer::Handoff => handing_on.on_timer(&mut around),
            Timer::Hello => around.node.say_hello_to_all(around.cx, around.shard),
            Timer::Gossip => around.node.on_gossip_timer(around.cx, around.shard),
            Timer::Prove => around.node.on_prove_timer(around.cx, around.shard),
            Timer::GetValue(id) => coordinator.on_get_value(&mut around, id),
            Timer::GetAgain(id) => coordinator.on_get_again(&mut around, id),
            Timer::Get(id) => coordinator.on_get_deadline(&mut around, id),
            Timer::Put(id) => coordinator.on_put_deadline(&mut around, id),
            Timer::Forward(id) => coordinator.on_forward_deadline(around.cx, id),
            Timer::Explain(id) => coordinator.on_explain_deadline(&mut around, id),
            Timer::List(id) => coordinator.on_list_deadline(around.cx, id),
            Timer::Properties(id) => around.node.on_property_change_deadline(around.cx, id),
            Timer::Transfer | Timer::Deciding | Timer::Plan | Timer::Asked => {}
        }
    }

    /// What the last [`Input::Timer`] was for.
    #[must_use]
    pub fn last_timers(&self) -> String {
        self.cx.timers.last()
    }

    /// What it has counted.
    #[must_use]
    pub const fn stats(&self) -> &Stats {
        &self.cx.stats
    }

    /// This node.
    #[must_use]
    pub const fn id(&self) -> NodeId {
        self.cx.me()
    }

    /// The layout in force.
    #[must_use]
    pub const fn layout(&self) -> &gramme_ring::Layout {
        self.node.map.layout()
    }

    /// Which start of this node this is.
    #[must_use]
    pub const fn boot(&self) -> u64 {
        self.cx.boot
    }

    /// How many requests of clients are under way, those among them that are answered and still listen for
    /// late replies too.
    #[must_use]
    pub fn requests_under_way(&self) -> usize {
        self.coordinator.under_way()
    }

    /// Whether a quorum of the owners of each partition can be reached and counts. O(partitions).
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.node.is_ready(&self.cx, &self.shard)
    }
}

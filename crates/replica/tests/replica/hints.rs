//! What a node keeps for others while they cannot be reached, and how that goes to them.

use bytes::Bytes;
use gramme_object::{Content, Key, Object, Sibling, Stamp};
use gramme_quorum::{Failure, PutError, Seat, Threshold};
use gramme_replica::{
    Bounds, ClientPut, ClientRequest, Input, Place, Recovered, Response, Space, Status as Nodes, Ticket,
};
use gramme_ring::{Move, NodeId};
use gramme_vclock::{Actor, Context, Dot};
use gramme_wire::PeerMessage;
use gramme_wire::peer::{Durability, Hint, HintReply, Read, RequestHeader, Status, Write};

use crate::bench::*;

/// A version of a key, by another coordinator.
fn version(counter: u64, value: &str) -> (Dot, Bytes) {
    let dot = Dot::new(Actor(9), counter);
    let content = Some(Content::from_body(value.as_bytes()));
    let sibling =
        Sibling { stamp: Stamp::at_millis(WALL / 1_000), write_id: counter, expires: None, content };
    (dot, Object::from_write(&Context::new(), dot, sibling).encode().into())
}

impl Bench {
    fn header_for(&self, key: &Key) -> RequestHeader {
        let partition = self.replica.layout().partition_of(KEYSPACE.hash(key.as_bytes()));
        RequestHeader { partition, ..self.header() }
    }

    /// A write arrives for which this node is to stand in for the owner of a slot.
    fn stand_in(&mut self, key: &Key, slot: u8, (dot, object): (Dot, Bytes)) {
        let (header, seat) = (self.header_for(key), Seat { set: 0, slot });
        let write = Write { header, key: key.clone(), seat, durability: Durability::Synced, dot, object };
        self.step(Input::Message { from: B, id: 7, message: PeerMessage::Write(write) });
    }

    fn statuses(&mut self) -> Vec<Status> {
        let sent = std::mem::take(&mut self.sent);
        let status = |message| match message {
            PeerMessage::WriteReply(reply) => Some(reply.header.status),
            PeerMessage::HintReply(reply) => Some(reply.header.status),
            _ => None,
        };
        sent.into_iter().filter_map(|(.., message)| status(message)).collect()
    }

    /// What it hands on, since the last time.
    fn handed_on(&mut self) -> Vec<(NodeId, u64, Bytes)> {
        let sent = std::mem::take(&mut self.sent);
        let hints = sent.into_iter().filter_map(|(to, id, message)| match message {
            PeerMessage::Hint(hint) => Some((to, id, hint.object)),
            _ => None,
        });
        hints.collect()
    }

    fn take(&mut self, from: NodeId, id: u64, status: Status) {
        let reply = HintReply { header: header(status) };
        self.step(Input::Message { from, id, message: PeerMessage::HintReply(reply) });
    }

    fn status(&mut self) -> Nodes {
        self.replies.clear();
        self.step(Input::Client { ticket: Ticket(90), request: ClientRequest::Status });
        let Response::Status(status) = self.answer() else { panic!("a status") };
        status
    }

    fn kept_for(&mut self, node: NodeId) -> (u64, u64) {
        let status = self.status();
        let of = status.nodes.iter().find(|status| status.id == node).expect("a member");
        (of.hints.copies.count, of.hints.bytes)
    }

    fn read_as_peer(&mut self, key: &Key) -> Object {
        self.sent.clear();
        let read = Read { header: self.header_for(key), key: key.clone(), withhold: 0, asked: None };
        self.step(Input::Message { from: B, id: 8, message: PeerMessage::Read(read) });
        let replies = self.sent.iter().filter_map(|(.., message)| match message {
            PeerMessage::ReadReply(reply) => Some(reply),
            _ => None,
        });
        let reply = replies.last().expect("a reply");
        assert_eq!(reply.header.status, Status::DoneSynced);
        if reply.object.is_empty() {
            Object::new()
        } else {
            Object::decode(&reply.object).expect("an object")
        }
    }
}

#[test]
fn a_fallback_keeps_a_copy_apart_and_shows_it() {
    let mut bench = bench(8);
    let key = bench.foreign_key();
    let owner = bench.owners_of(&key)[1];
    bench.stand_in(&key, 1, version(1, "x"));
    assert_eq!(bench.statuses(), [], "it is not durable yet");
    bench.commit_all();
    assert_eq!(bench.statuses(), [Status::DoneSynced]);
    assert_eq!(bench.hints.keys().map(|place| place.space).collect::<Vec<_>>(), [Space::Hints(owner)]);
    assert!(bench.objects.is_empty());
    let bytes = version(1, "x").1.len() as u64;
    assert_eq!(bench.kept_for(owner), (1, bytes));
    assert_eq!(bench.replica.stats().keys, 0, "it is no key of this node's");
    // Another slot's copy is another row, and a reader sees both.
    bench.stand_in(&key, 2, version(2, "y"));
    bench.commit_all();
    assert_eq!((bench.hints.len(), bench.read_as_peer(&key).siblings().len()), (2, 2));
    // A slot that nobody has is nobody's.
    bench.sent.clear();
    bench.stand_in(&key, 3, version(3, "z"));
    assert_eq!(bench.statuses(), [Status::NotOwner]);
}

#[test]
fn a_copy_that_cannot_be_read_is_not_taken_for_absent() {
    let mut bench = bench(8);
    let key = bench.foreign_key();
    for slot in [0, 1] {
        bench.stand_in(&key, slot, version(1, "x"));
    }
    bench.commit_all();
    let mut again = started(8, recovered(&bench), BOUNDS);
    again.hints = bench.hints.clone();
    again.prove();
    again.hints.values_mut().next().expect("a row").clone_from(&Bytes::from_static(b"damaged"));
    let read = Read { header: again.header_for(&key), key: key.clone(), withhold: 0, asked: None };
    again.step(Input::Message { from: B, id: 8, message: PeerMessage::Read(read) });
    let statuses = again.sent.iter().filter_map(|(.., message)| match message {
        PeerMessage::ReadReply(reply) => Some(reply.header.status),
        _ => None,
    });
    assert_eq!(statuses.collect::<Vec<_>>(), [Status::DiskError]);
}

#[test]
fn what_is_kept_goes_when_its_target_has_it_and_not_before() {
    let mut bench = bench(8);
    let key = bench.foreign_key();
    let owner = bench.owners_of(&key)[0];
    bench.stand_in(&key, 0, version(1, "x"));
    bench.commit_all();
    bench.sent.clear();
    bench.step(Input::PeerUp(owner));
    let [(to, id, object)] = &bench.handed_on()[..] else { panic!("one copy") };
    assert_eq!((*to, object), (owner, &version(1, "x").1));
    // It answers nothing of the kind, then that it is only written, then that it has it.
    let mut id = *id;
    for status in [Status::Busy, Status::Amnesiac, Status::DoneBuffered] {
        bench.take(owner, id, status);
        bench.commit_all();
        assert_eq!(bench.kept_for(owner).0, 1, "{status:?}");
        bench.step(Input::PeerUp(owner));
        id = bench.handed_on()[0].1;
    }
    bench.take(owner, id, Status::DoneSynced);
    bench.commit_all();
    assert_eq!((bench.kept_for(owner), bench.hints.len()), ((0, 0), 0));
    assert!(bench.read_as_peer(&key).siblings().is_empty());
    assert_eq!(bench.replica.stats().hints_handed_on, 1);
}

#[test]
fn what_changed_on_its_way_is_handed_on_again() {
    let mut bench = bench(8);
    let key = bench.foreign_key();
    let owner = bench.owners_of(&key)[0];
    bench.stand_in(&key, 0, version(1, "x"));
    bench.commit_all();
    bench.sent.clear();
    bench.step(Input::PeerUp(owner));
    let (_, id, _) = bench.handed_on().pop().expect("a copy");
    bench.stand_in(&key, 0, version(2, "y"));
    bench.take(owner, id, Status::DoneSynced);
    bench.commit_all();
    assert_eq!(bench.kept_for(owner).0, 1);
    bench.sent.clear();
    bench.step(Input::PeerUp(owner));
    let (_, _, object) = bench.handed_on().pop().expect("a copy");
    assert_eq!(Object::decode(&object).expect("an object").siblings().len(), 2);
}

/// A target that is amnesiac counts for nothing, and has what it was given all the same.
#[test]
fn an_owner_takes_what_was_kept_for_it_once_that_is_synced() {
    // Nobody has spoken to this start yet, so it is unproven.
    let mut bench = started(3, Recovered::default(), BOUNDS);
    let hint = Hint { header: bench.header(), key: key(), object: version(1, "x").1 };
    bench.step(Input::Message { from: B, id: 5, message: PeerMessage::Hint(hint) });
    bench.write_all();
    assert_eq!(bench.statuses(), []);
    bench.commit_all();
    assert_eq!(bench.statuses(), [Status::DoneSynced]);
    assert_eq!(bench.objects.len(), 1);
}

#[test]
fn a_node_takes_nothing_that_was_kept_for_another() {
    let mut bench = bench(8);
    let key = bench.foreign_key();
    let hint = Hint { header: bench.header_for(&key), key, object: version(1, "x").1 };
    bench.step(Input::Message { from: B, id: 5, message: PeerMessage::Hint(hint) });
    assert_eq!(bench.statuses(), [Status::NotOwner]);
}

#[test]
fn no_more_is_kept_for_a_node_than_may_be() {
    let bytes = version(1, "x").1.len() as u64;
    let mut bench = started(8, Recovered::default(), Bounds { hints: bytes, ..BOUNDS });
    bench.prove();
    let key = bench.foreign_key();
    bench.stand_in(&key, 0, version(1, "x"));
    bench.stand_in(&key, 0, version(2, "y"));
    // For another there is room of its own.
    bench.stand_in(&key, 1, version(2, "y"));
    bench.commit_all();
    assert_eq!(bench.statuses(), [Status::HintsFull, Status::DoneSynced, Status::DoneSynced]);
    assert_eq!(bench.replica.stats().hints_refused, 1);
}

fn recovered(bench: &Bench) -> Recovered {
    let mut recovered = bench.disk.clone();
    for (place, stored) in &bench.hints {
        let Space::Hints(target) = place.space else { continue };
        let object = Object::decode(stored).expect("an object");
        let digest = gramme_merkle::Digest::of(place.key.as_bytes(), &gramme_object::clock_bytes(&object));
        recovered.hints.entry(target).or_default().replace(None, Some(digest));
    }
    recovered
}

#[test]
fn a_start_counts_what_is_kept_and_says_what_is_gone() {
    let mut bench = bench(8);
    let key = bench.foreign_key();
    let owner = bench.owners_of(&key)[0];
    bench.stand_in(&key, 0, version(1, "x"));
    bench.commit_all();
    let mut again = started(8, recovered(&bench), BOUNDS);
    assert_eq!((again.kept_for(owner), again.replica.stats().hints_lost), (bench.kept_for(owner), 0));
    bench.hints.clear();
    // One copy of several is gone, as with a lost disk: that keeps nobody from serving.
    let mut again = started(8, recovered(&bench), BOUNDS);
    assert_eq!((again.kept_for(owner).0, again.replica.stats().hints_lost), (0, 1));
}

/// A start that is not proven might be an old copy of the directory: what it acknowledges counts for nothing.
#[test]
fn a_fallback_that_is_not_proven_says_so() {
    let mut bench = started(8, Recovered::default(), BOUNDS);
    let key = bench.foreign_key();
    bench.stand_in(&key, 0, version(1, "x"));
    bench.commit_all();
    assert_eq!(bench.statuses(), [Status::Unproven]);
    assert_eq!(bench.hints.len(), 1, "it keeps it all the same");
}

#[test]
fn where_no_owner_can_be_reached_a_fallback_coordinates() {
    let (mut bench, key, others) = without_owners();
    let owners = bench.owners_of(&key);
    bench.sent.clear();
    bench.put(1, ClientPut { key: key.clone(), ..client_put("x") });
    let writes = bench.writes();
    let asked = |to: NodeId| writes.iter().filter(|(node, ..)| *node == to).count();
    // The first slot is this node's to fill, the others those of two more.
    let stand_ins: Vec<_> = writes.iter().filter(|(to, ..)| others.contains(to)).collect();
    assert_eq!(stand_ins.iter().map(|(.., write)| write.seat.slot).collect::<Vec<_>>(), [1, 2]);
    assert!(owners.iter().all(|owner| asked(*owner) == 1), "owners are asked too");
    bench.commit_all();
    let (to, id) = (stand_ins[0].0, stand_ins[0].1);
    bench.acknowledge(to, id, Status::DoneSynced);
    let Response::Put(Ok(stored)) = bench.answer() else { panic!("no answer") };
    assert_eq!((stored.receipt.acks, stored.receipt.primaries, stored.receipt.fallbacks), (2, 0, 2));
    assert_eq!(bench.kept_for(owners[0]).0, 1);
    // Only owners: there is none.
    bench.put(2, ClientPut { key: key.clone(), sloppy: Some(false), ..client_put("y") });
    let forwards = bench.sent.iter().filter(|(.., message)| message.name() == "Forward").count();
    assert_eq!(forwards, 1, "it is handed to an owner, and to nobody else");
}

/// Versions that were handed on live where this node does not see them: its next write must not cover them.
#[test]
fn a_fallback_writes_as_another_actor_once_its_copy_is_gone() {
    let mut bench = bench(8);
    let key = bench.foreign_key();
    let owner = bench.owners_of(&key)[0];
    let mut dots = Vec::new();
    for ticket in 1..=3 {
        bench.put(ticket, ClientPut { key: key.clone(), w: Threshold::One, ..client_put("x") });
        bench.commit_all();
        bench.replies.clear();
        let (.., write) = bench.writes().pop().expect("a write");
        dots.push(write.dot);
        if ticket == 2 {
            let place = bench.hints.keys().next().expect("a copy").clone();
            assert_eq!(place.space, Space::Hints(owner));
            bench.step(Input::PeerUp(owner));
            let (_, id, _) = bench.handed_on().pop().expect("a copy");
            bench.take(owner, id, Status::DoneSynced);
            bench.step(Input::PeerDown(owner));
            bench.commit_all();
        }
    }
    assert_eq!(dots[0].actor, dots[1].actor);
    assert_ne!(dots[1].actor, dots[2].actor);
    let stored = bench.hints.values().next().expect("the third");
    let object = Object::decode(stored).expect("an object");
    assert!(dots[..2].iter().all(|dot| !object.context().covers(*dot)), "{object:?}");
}

#[test]
fn a_silent_owner_is_asked_beside_whoever_stands_in() {
    let mut bench = bench(8);
    bench.connect();
    let others: Vec<_> = bench.owners_of(&key()).into_iter().filter(|owner| *owner != ME).collect();
    bench.put(1, client_put("x"));
    let before = bench.writes();
    assert_eq!(before.len(), 2);
    bench.step(Input::PeerSuspect(others[0]));
    let [(to, id, write)] = &bench.writes()[..] else { panic!("one more") };
    assert!(!others.contains(to));
    assert_eq!(bench.owners_of(&key())[usize::from(write.seat.slot)], others[0]);
    bench.commit_all();
    bench.acknowledge(*to, *id, Status::DoneSynced);
    let Response::Put(Ok(stored)) = bench.answer() else { panic!("no answer") };
    assert_eq!((stored.receipt.primaries, stored.receipt.fallbacks), (1, 1));
    // The next put need not wait to find out.
    bench.put(2, client_put("y"));
    assert_eq!(bench.writes().len(), 3);
}

#[test]
fn a_strict_put_is_for_owners_alone() {
    let mut bench = bench(8);
    bench.connect();
    bench.put(1, ClientPut { sloppy: Some(false), ..client_put("x") });
    let writes = bench.writes();
    bench.commit_all();
    for (to, id, _) in &writes {
        bench.step(Input::Undelivered { to: *to, id: *id, busy: false });
    }
    assert!(bench.writes().is_empty());
    let Response::Put(Err(PutError::Unavailable(shortfall))) = bench.answer() else { panic!("no answer") };
    assert!(shortfall.failed.iter().all(|(_, failure)| *failure == Failure::Down));
}

#[test]
fn a_copy_that_cannot_be_read_stops_no_other() {
    let mut bench = bench(8);
    let key = bench.foreign_key();
    let owner = bench.owners_of(&key)[0];
    let keys = (0..).map(|number| Key::new("default", "b", format!("{number}")).expect("valid parts"));
    let is_near = |other: &Key| bench.owners_of(other) == bench.owners_of(&key);
    let keys: Vec<Key> = keys.filter(is_near).take(5).collect();
    keys.iter().for_each(|key| bench.stand_in(key, 0, version(1, "x")));
    bench.commit_all();
    *bench.hints.values_mut().next().expect("a row") = UNREADABLE;
    bench.sent.clear();
    bench.step(Input::PeerUp(owner));
    assert_eq!(bench.handed_on().len(), 4);
}

#[test]
fn a_copy_that_is_stale_goes_at_the_epoch_that_was_told() {
    let mut bench = bench(8);
    let key = bench.foreign_key();
    let owner = bench.owners_of(&key)[0];
    bench.stand_in(&key, 0, version(1, "x"));
    bench.commit_all();
    bench.sent.clear();
    bench.step(Input::PeerUp(owner));
    let (_, id, _) = bench.handed_on().pop().expect("a copy");
    let header = gramme_wire::peer::ReplyHeader { epoch: 2, ..header(Status::Stale) };
    bench.step(Input::Message { from: owner, id, message: PeerMessage::HintReply(HintReply { header }) });
    assert!(
        bench
            .sent
            .iter()
            .any(|(to, _, message)| *to == owner && matches!(message, PeerMessage::AskLayout(_)))
    );
    let later = bench.turned(bench.partition_of(&key));
    bench.tell_layout(owner, later);
    bench.step(Input::PeerUp(owner));
    let epochs = bench.sent.iter().filter_map(|(.., message)| match message {
        PeerMessage::Hint(hint) => Some(hint.header.epoch),
        _ => None,
    });
    assert_eq!(epochs.collect::<Vec<_>>(), [2]);
}

#[test]
fn a_target_that_was_gone_for_a_moment_is_served_at_once() {
    let mut bench = bench(8);
    let key = bench.foreign_key();
    let owner = bench.owners_of(&key)[0];
    bench.stand_in(&key, 0, version(1, "x"));
    bench.commit_all();
    bench.step(Input::PeerUp(owner));
    bench.step(Input::PeerDown(owner));
    bench.sent.clear();
    bench.step(Input::PeerUp(owner));
    assert_eq!(bench.handed_on().len(), 1);
}

/// Where disks are full everywhere, asking everybody would not help.
#[test]
fn a_write_goes_to_few_fallbacks_however_many_refuse() {
    let mut bench = bench(16);
    bench.connect();
    let owners = bench.owners_of(&key());
    bench.put(1, client_put("x"));
    bench.commit_all();
    let mut sent = 0;
    loop {
        let writes = bench.writes();
        if writes.is_empty() {
            break;
        }
        for (to, id, _) in writes {
            sent += usize::from(!owners.contains(&to));
            bench.acknowledge(to, id, Status::HintsFull);
        }
    }
    assert_eq!(sent, 6, "twice as many as there are owners");
}

/// A machine that was put back while it ran has its memory put back too: what it would name next is named already.
#[test]
fn a_fallback_that_was_put_back_names_nothing_as_whom_it_was() {
    let (mut bench, key, others) = without_owners();
    let put = ClientPut { key: key.clone(), w: Threshold::One, ..client_put("x") };
    bench.sent.clear();
    bench.put(1, put.clone());
    let before = bench.writes().pop().expect("a write").2.dot;
    bench.commit_all();
    let told = bench.says(others[0]);
    let beyond = bench.remembered(&told, 100);
    bench.greet(others[0], Some(beyond), WALL);
    bench.commit_all();
    // While it may lack what it has named it names nothing at all.
    bench.replies.clear();
    bench.put(2, put.clone());
    assert!(matches!(bench.answer(), Response::Put(Err(PutError::NoCoordinator(_)))));
    bench.step(Input::Client { ticket: Ticket(3), request: ClientRequest::AcceptLoss });
    bench.sent.clear();
    bench.put(4, put);
    let after = bench.writes().pop().expect("a write").2.dot;
    assert_ne!(before.actor, after.actor);
}

/// Those who stood in once would be in every reply for ever.
#[test]
fn known_tenures_are_those_of_owners() {
    let mut bench = bench(8);
    bench.connect();
    let owners = bench.owners_of(&key());
    let others: Vec<_> = owners.iter().copied().filter(|owner| *owner != ME).collect();
    bench.step(Input::PeerDown(others[0]));
    bench.sent.clear();
    bench.put(1, client_put("x"));
    bench.commit_all();
    for (to, id, _) in bench.writes() {
        let tenure = gramme_quorum::Tenure { actor: Some(Actor(to.0)), born: 5 };
        let header = gramme_wire::peer::ReplyHeader { tenure, ..header(Status::DoneSynced) };
        let reply = gramme_wire::peer::WriteReply {
            header,
            seat: Seat::default(),
            covered: Vec::new(),
            object: Bytes::new(),
        };
        bench.step(Input::Message { from: to, id, message: PeerMessage::WriteReply(reply) });
    }
    bench.sent.clear();
    bench.write_from(others[1], Dot::new(Actor(2), 1), Context::new());
    bench.commit_all();
    let known = bench.sent.iter().find_map(|(.., message)| match message {
        PeerMessage::WriteReply(reply) => Some(reply.header.known.clone()),
        _ => None,
    });
    let known: Vec<NodeId> = known.expect("a reply").into_iter().map(|(node, _)| node).collect();
    assert!(!known.is_empty() && known.iter().all(|node| owners.contains(node)), "{known:?} {owners:?}");
}

/// This node keeps a copy for an owner, and then gets its place.
fn with_a_hint_for_a_former_owner() -> (Bench, Key, Place, Vec<NodeId>) {
    let mut bench = bench(8);
    let key = bench.foreign_key();
    let owners = bench.owners_of(&key);
    bench.stand_in(&key, 0, version(1, "x"));
    bench.commit_all();
    let place = bench.hints.keys().next().expect("a copy is kept").clone();
    assert_eq!(place.space, Space::Hints(owners[0]));
    let others = vec![owners[1], owners[2]];
    let to = vec![ME, owners[1], owners[2]];
    for step in [Move::Begin(to), Move::Next, Move::Next] {
        let layout = bench.after(vec![(place.partition.prefix, step)]);
        bench.tell_layout(B, layout);
        bench.commit_all();
    }
    bench.sent.clear();
    (2..=8).for_each(|node| bench.step(Input::PeerUp(NodeId(node))));
    (bench, key, place, others)
}

#[test]
fn a_copy_for_a_former_owner_goes_to_all_who_own_it_now_and_this_node_is_one() {
    let (mut bench, key, place, others) = with_a_hint_for_a_former_owner();
    bench.commit_all();
    let handed = bench.handed_on();
    let to: Vec<NodeId> = handed.iter().map(|(to, ..)| *to).collect();
    assert_eq!(to, others);
    assert!(bench.objects.contains_key(&key), "this node is an owner, too");
    bench.take(handed[0].0, handed[0].1, Status::DoneSynced);
    bench.commit_all();
    assert!(bench.hints.contains_key(&place), "one of them has not answered");
    bench.take(handed[1].0, handed[1].1, Status::DoneSynced);
    bench.commit_all();
    assert!(!bench.hints.contains_key(&place));
}

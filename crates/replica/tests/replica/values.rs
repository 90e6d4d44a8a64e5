//! Large values travel once.

use crate::bench::*;
use bytes::Bytes;
use gramme_object::{Content, Object};
use gramme_quorum::Threshold;
use gramme_replica::{ClientPut, ClientRequest, Input, Response, Ticket};
use gramme_ring::NodeId;
use gramme_vclock::Dot;
use gramme_wire::PeerMessage;
use gramme_wire::peer::{Read, ReadReply, Status};

const LARGE: usize = 20_000;

fn large() -> ClientPut {
    ClientPut { content: Some(Content::from_body(&[7; LARGE])), ..client_put("") }
}

/// Whom the last get has asked, and whether for values of any size.
fn asked(bench: &Bench) -> Vec<(NodeId, bool)> {
    let read = |(to, _, message): &(NodeId, u64, PeerMessage)| match message {
        PeerMessage::Read(read) => Some((*to, read.withhold == 0)),
        _ => None,
    };
    bench.sent.iter().filter_map(read).collect()
}

#[test]
fn one_owner_is_asked_for_a_large_value() {
    let mut bench = bench(5);
    bench.connect();
    bench.get(1);
    let owners = bench.owners_of(&key());
    let full: Vec<_> = asked(&bench).into_iter().filter(|(_, full)| *full).collect();
    assert_eq!(full.len(), usize::from(!owners.contains(&ME)));
    bench.sent.clear();
    let foreign = bench.foreign_key();
    bench.step(Input::Client { ticket: Ticket(2), request: get_of(foreign) });
    let full: Vec<_> = asked(&bench).into_iter().map(|(_, full)| full).collect();
    assert_eq!(full, [true, false, false]);
}

/// A node that stands in for an owner holds nothing to speak of.
#[test]
fn who_stands_in_asks_an_owner_for_values() {
    let mut bench = bench(4);
    bench.connect();
    let foreign = bench.foreign_key();
    let owners = bench.owners_of(&foreign);
    bench.step(Input::PeerSuspect(owners[2]));
    bench.sent.clear();
    bench.step(Input::Client { ticket: Ticket(2), request: get_of(foreign) });
    let full: Vec<_> = asked(&bench).into_iter().filter(|(_, full)| *full).collect();
    assert_eq!(full.len(), 1, "{full:?}");
    assert!(full[0].0 != owners[2], "it does not answer");
}

#[test]
fn a_large_value_is_left_out_where_it_may_be_and_a_small_one_never() {
    let mut bench = bench(3);
    let read = |bench: &mut Bench, withhold| {
        bench.commit_all();
        bench.sent.clear();
        let read = Read { header: bench.header(), key: key(), withhold, asked: None };
        bench.step(Input::Message { from: B, id: 9, message: PeerMessage::Read(read) });
        match bench.sent.pop() {
            Some((B, 9, PeerMessage::ReadReply(reply))) => reply,
            other => panic!("{other:?}"),
        }
    };
    bench.put(1, large());
    let hollow = read(&mut bench, 8_192);
    let object = Object::decode(&hollow.object).expect("an object");
    assert_eq!(hollow.told.expect("which").withheld, object.versions().dots().collect::<Vec<_>>());
    assert!(hollow.object.len() < 200 && object.siblings().len() == 1);
    for withhold in [0, LARGE as u32 * 2] {
        let whole = read(&mut bench, withhold);
        assert!(whole.told.is_none() && whole.object.len() > LARGE);
    }
    assert_eq!(bench.replica.stats().values_withheld, 1);
}

/// The others have what this node lacks, and leave out its value: it is asked for, once, and shown, and stored here.
#[test]
fn a_value_that_nobody_has_sent_is_asked_for() {
    let shown = asked_for(2);
    assert!(shown.has_value());
    // It is not shown to a reader who needed none of them, and is repaired all the same.
    assert!(asked_for(1).is_empty());
}

/// What a reader at this R is shown.
fn asked_for(r: u8) -> Object {
    let mut bench = bench(3);
    bench.connect();
    bench.sent.clear();
    let ClientRequest::Get { key: of, pr, timeout, sloppy, against, session, .. } = get_of(key()) else {
        panic!("not a get")
    };
    let r = Threshold::Count(r);
    let request = ClientRequest::Get { key: of, r, pr, timeout, sloppy, against, session };
    bench.step(Input::Client { ticket: Ticket(1), request });
    let dot = Dot::new(gramme_vclock::Actor(2), 1);
    let sibling = gramme_object::Sibling {
        stamp: gramme_object::Stamp::at_millis(WALL / 1_000),
        write_id: 7,
        expires: None,
        content: Some(Content::from_body(&[7; LARGE])),
    };
    let whole = Object::from_write(&gramme_vclock::Context::new(), dot, sibling);
    let (hollow, withheld) = whole.withhold(8_192);
    let first = bench.last_id("Read");
    let told = gramme_wire::peer::Told { covered: Vec::new(), seen: Default::default(), withheld };
    let reply = |object: &Object, told: Option<gramme_wire::peer::Told>| {
        let object = Bytes::from(object.encode());
        PeerMessage::ReadReply(ReadReply {
            header: header(Status::DoneSynced),
            object,
            told: told.map(Box::new),
        })
    };
    for from in [B, C] {
        bench.step(Input::Message { from, id: first, message: reply(&hollow, Some(told.clone())) });
    }
    // What became of it here is asked of this node itself. Then its value, of one of the others.
    let (holder, question) = bench.sent.last().map(|(to, id, _)| (*to, *id)).expect("a question");
    assert_ne!(question, first);
    bench.step(Input::Message { from: holder, id: question, message: reply(&whole, None) });
    let Response::Get(Ok(found)) = bench.answer() else { panic!("no value") };
    bench.commit_all();
    assert_eq!(Object::decode(&bench.objects[&key()]).expect("an object").siblings(), whole.siblings());
    assert!(found.object.is_empty() || found.object.siblings() == whole.siblings());
    found.object
}

//! Records and messages: their bytes, and that any order of merging ends in the same.

use bytes::Bytes;
use gramme_codec::Codec;
use gramme_gossip::{ADDRESS, Config, DETAILS, Effect, Gossip, Input, Message, Profile, Record};
use gramme_ring::NodeId;
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

const ME: NodeId = NodeId(1);
const OTHER: NodeId = NodeId(2);

fn record() -> Record {
    let profile = Profile {
        incarnation: 5,
        revision: 6,
        addresses: vec!["a:1".to_owned()],
        details: Bytes::from_static(b"d"),
    };
    Record { node: NodeId(3), joined: 4, removed: Some(7), profile }
}

fn hex(value: &impl Codec) -> String {
    value.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes that disks and messages hold. What is added to a node's own words later goes into its details.
#[test]
fn golden() {
    let bytes = "030000000000000004000000000000000107000000000000000500000000000000060000000100000003000000613a310100000064";
    assert_eq!(hex(&record()), bytes);
    assert_eq!(Record::parse_all(record().to_bytes()), Ok(record()));
    let node = NodeId(9);
    let messages = [
        (Message::Root(1), "01 0100000000000000".to_owned()),
        (Message::Buckets(vec![9]), "02 01000000 0900000000000000".to_owned()),
        (
            Message::Digest { buckets: 1, first: ME, last: node, records: vec![(node, 2)] },
            "03 0100000000000000 0100000000000000 0900000000000000 01000000 0900000000000000 0200000000000000".to_owned(),
        ),
        (
            Message::Records { records: vec![record()], wants: vec![node] },
            format!("04 01000000 {bytes} 01000000 0900000000000000"),
        ),
        (
            Message::Ping { number: 1, rumours: vec![node] },
            "05 0100000000000000 01000000 0900000000000000".to_owned(),
        ),
        (
            Message::Ack { number: 1, rumours: vec![node] },
            "06 0100000000000000 01000000 0900000000000000".to_owned(),
        ),
        (Message::Probe { number: 1, target: node }, "07 0100000000000000 0900000000000000".to_owned()),
        (Message::Reached { number: 1 }, "08 0100000000000000".to_owned()),
    ];
    for (message, bytes) in messages {
        assert_eq!(hex(&message), bytes.replace(' ', ""), "{message:?}");
        assert_eq!(message.size(), message.to_bytes().len(), "{message:?}");
        assert_eq!(Message::parse_all(message.to_bytes()), Ok(message));
    }
    assert_eq!(Message::parse_all(vec![99].into()), Ok(Message::Unknown));
}

fn any_record() -> impl Strategy<Value = Record> {
    let parts = (1..4_u64, 0..3_u64, prop::option::of(0..3_u64), 0..3_u64, 0..3_u32, "[ab]?");
    parts.prop_map(|(node, joined, removed, incarnation, revision, address)| {
        let profile = Profile { incarnation, revision, addresses: vec![address], details: Bytes::new() };
        // Not of the member itself: it would answer back.
        Record { node: NodeId(node + 1), joined, removed, profile }
    })
}

fn gossip(records: Vec<Record>) -> Gossip {
    Gossip::new(Config::usual(ME, 1), records, StdRng::seed_from_u64(1))
}

fn tell(gossip: &mut Gossip, message: Message) -> Vec<Effect> {
    let mut effects = Vec::new();
    gossip.step(1_000_000, Input::Message { from: OTHER, message }, &mut effects);
    effects
}

proptest! {
    #[test]
    fn any_order_of_merging_ends_in_the_same(
        (records, shuffled) in prop::collection::vec(any_record(), 0..12)
            .prop_flat_map(|records| (Just(records.clone()), Just(records).prop_shuffle())),
    ) {
        let one = gossip(records.clone());
        let other = gossip(shuffled.into_iter().chain(records).collect());
        prop_assert_eq!(one.root(), other.root());
        prop_assert!(one.records().eq(other.records()));
    }
}

/// What is larger than records are changes nothing, and is counted.
#[test]
fn a_record_that_is_too_large_is_not_taken() {
    let members = || vec![Record::joined(ME, 0, vec![]), Record::joined(OTHER, 0, vec![])];
    let mut gossip = gossip(members());
    let large = |addresses: Vec<String>, details: usize| Record {
        profile: Profile {
            incarnation: 9,
            addresses,
            details: vec![0; details].into(),
            ..Profile::default()
        },
        ..Record::joined(OTHER, 0, vec![])
    };
    let wrong = [
        large(vec!["a".repeat(ADDRESS + 1)], 0),
        large(vec![String::new(); 9], 0),
        large(vec![], DETAILS + 1),
    ];
    let root = gossip.root();
    let effects = tell(&mut gossip, Message::Records { records: wrong.to_vec(), wants: vec![] });
    assert_eq!((effects, gossip.root(), gossip.stats().refused), (vec![], root, 3));
    let mut effects = Vec::new();
    gossip.step(
        2_000_000,
        Input::Publish { addresses: vec!["a".repeat(ADDRESS + 1)], details: Bytes::new() },
        &mut effects,
    );
    assert_eq!((effects, gossip.root(), gossip.stats().refused), (vec![], root, 4));
}

/// What was refused is not said later either, when a node has to outdo what others know of it.
#[test]
fn a_refused_address_does_not_come_back() {
    let mut gossip = gossip(vec![Record::joined(ME, 0, vec![]), Record::joined(OTHER, 0, vec![])]);
    let publish = |address: String| Input::Publish { addresses: vec![address], details: Bytes::new() };
    let mut effects = Vec::new();
    gossip.step(1, publish("true:1".to_owned()), &mut effects);
    gossip.step(2, publish("a".repeat(ADDRESS + 1)), &mut effects);
    let profile = Profile { incarnation: 9, addresses: vec!["old:1".to_owned()], ..Profile::default() };
    let heard = Record { profile, ..Record::joined(ME, 0, vec![]) };
    tell(&mut gossip, Message::Records { records: vec![heard], wants: vec![] });
    let mine = gossip.record(ME).map(|record| record.profile.clone()).expect("a record");
    assert_eq!((mine.incarnation, &mine.addresses[0][..]), (10, "true:1"));
}

/// However much another asks for, a member sends what its budget allows; a stranger gets nothing.
#[test]
fn nobody_gets_more_than_the_budget() {
    let address = || vec!["a".repeat(ADDRESS)];
    let members = (1..=2_000).map(|id| Record::joined(NodeId(id), 0, address())).collect();
    let mut gossip = gossip(members);
    let wants: Vec<_> = (1..=2_000).map(NodeId).collect();
    for _ in 0..50 {
        tell(&mut gossip, Message::Records { records: vec![], wants: wants.clone() });
        let (first, last) = (NodeId(0), NodeId(u64::MAX));
        tell(&mut gossip, Message::Digest { buckets: u64::MAX, first, last, records: vec![] });
        tell(&mut gossip, Message::Buckets(vec![0; 64]));
    }
    let sent = gossip.stats().bytes;
    assert!((20_000..=32 << 10).contains(&sent), "{sent} bytes");
    let mut effects = Vec::new();
    let message = Message::Ping { number: 1, rumours: vec![] };
    gossip.step(1_000_000, Input::Message { from: NodeId(77_777), message }, &mut effects);
    assert_eq!((effects, gossip.stats().strangers), (vec![], 1));
}

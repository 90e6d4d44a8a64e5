//! Every message, to the letter. A difference here is a new version of the format.

use bytes::Bytes;
use gramme_codec::{Codec, DecodeError};
use gramme_object::{Content, Expiry, Key};
use gramme_quorum::{
    ContextError, Failure, GetError, PutError, Receipt, Seat, Shortfall, Tenure, Threshold, ThresholdError,
};
use gramme_ring::{Layout, Member, Move, NodeId, PartitionId, PlanRequest, Step, plan};
use gramme_vclock::{Actor, Context, Dot, SeenSet};
use gramme_wire::client::{
    Found, Get, GetReply, Put as ClientPut, PutReply, Ring, RingReply, Stored,
    Unsupported as ClientUnsupported,
};
use gramme_wire::peer::{
    AskLayout, AskProgress, Asked, Ballot, Claimed, Class, Close, CloseReply, Durability, Forward,
    ForwardReply, Gossip, Hello, Hint, HintReply, Keys, KeysReply, Leaves, LeavesReply, NewLayout,
    PartitionLeaves, Point, Progress, Properties, PropertiesHeld, PropertiesReply, Put, PutDone, Range,
    RangeReply, Read, ReadReply, Repair, ReplyHeader, RequestHeader, Room, Roots, RootsReply, Seen, Standing,
    Start, Status, Sum, TakeOver, TakeOverReply, Told, Unsupported, Write, WriteReply,
};
use gramme_wire::{ClientMessage, PeerMessage, WireError};
use proptest::prelude::*;

fn key() -> Key {
    Key::new("default", "b", "k").expect("valid parts")
}

fn context() -> Context {
    let mut context: Context = [Dot::new(Actor(2), 9)].into_iter().collect();
    context.raise(Actor(1), 5);
    context
}

fn seen() -> SeenSet {
    let mut seen = SeenSet::new();
    seen.insert_range(Actor(4), 1, 5);
    seen.insert_range(Actor(4), 8, 9);
    seen.finish(Actor(5));
    seen
}

fn header() -> RequestHeader {
    let partition = PartitionId { prefix: 0x2a, depth: 10 };
    RequestHeader {
        generation: 1,
        epoch: 2,
        partition,
        properties: 3,
        point: Point { start: 16, position: 15 },
        class: Class::Foreground,
        origin: 4,
        boot: 5,
        request: 6,
    }
}

fn reply(status: Status) -> ReplyHeader {
    let tenure = Tenure { actor: Some(Actor(7)), born: 8 };
    ReplyHeader {
        status,
        generation: 1,
        epoch: 2,
        tenure,
        life: 9,
        seen: 10,
        known: vec![(NodeId(11), Tenure { actor: None, born: 12 })],
        floors: Bytes::new(),
        point: Point { start: 17, position: 14 },
    }
}

const fn sum() -> Sum {
    Sum { count: 2, sum: 1 << 90 }
}

fn said() -> gramme_gossip::Message {
    let record = gramme_gossip::Record::joined(NodeId(1), 2, vec!["127.0.0.1:3".into()]);
    gramme_gossip::Message::Records { records: vec![record], wants: vec![NodeId(4)] }
}

fn seat(slot: u8) -> Seat {
    Seat { set: 0, slot }
}

fn content() -> Content {
    Content::new(&[(b"content-type", b"text/plain")], b"c").expect("short headers")
}

fn shortfall() -> Shortfall {
    Shortfall { needed: 2, answered: vec![NodeId(1)], failed: vec![(NodeId(2), Failure::Down)] }
}

fn put() -> Put {
    Put {
        key: key(),
        read: context(),
        content: Some(content()),
        expiry: Expiry::After(60_000),
        touched: Some(Dot::new(Actor(4), 5)),
        w: Threshold::Count(2),
        pw: Threshold::Default,
        dw: Threshold::All,
        timeout: 5_000,
        return_body: true,
        sloppy: None,
    }
}

fn peer_messages() -> Vec<PeerMessage> {
    let receipt = Receipt { acks: 3, primaries: 3, fallbacks: 0, zones: 1, synced: 2 };
    let done = PutDone { context: context(), receipt, object: Some("o".into()), dot: Dot::new(Actor(1), 2) };
    let forward_reply = |outcome| {
        PeerMessage::ForwardReply(Box::new(ForwardReply { header: reply(Status::DoneBuffered), outcome }))
    };
    vec![
        PeerMessage::Hello(Hello {
            versions: (2, 2),
            boot: 1,
            process: 1,
            wall: 12,
            layout: (1, 2),
            properties: 3,
            keys: 5,
            bytes: 6,
            room: Room::Low,
            lineage: vec![Start { id: 7, end: 8 }, Start { id: 13, end: u64::MAX }],
            point: Point { start: 13, position: 9 },
            heard: Some(Standing { point: Point { start: 10, position: 11 }, boot: 12, seal: 13 }),
            answers: 14,
            losses: 16,
            answers_losses: 17,
            counts: true,
            uncounted: vec![header().partition],
            keeps_for: vec![NodeId(15)],
        }),
        PeerMessage::Read(Read {
            header: header(),
            key: key(),
            withhold: 8_192,
            asked: Some(Box::new(Asked { dots: vec![Dot::new(Actor(1), 2)], session: context() })),
        }),
        PeerMessage::ReadReply(ReadReply {
            header: reply(Status::DoneSynced),
            object: "o".into(),
            told: Some(Box::new(Told {
                covered: vec![Dot::new(Actor(1), 2)],
                seen: context(),
                withheld: vec![Dot::new(Actor(2), 3)],
            })),
        }),
        PeerMessage::Write(Write {
            header: header(),
            key: key(),
            seat: seat(2),
            durability: Durability::Synced,
            dot: Dot::new(Actor(1), 2),
            object: "o".into(),
        }),
        PeerMessage::WriteReply(WriteReply {
            header: reply(Status::Covered),
            seat: seat(2),
            covered: vec![Dot::new(Actor(4), 5)],
            object: "o".into(),
        }),
        PeerMessage::Repair(Repair { header: header(), key: key(), seat: seat(1), object: "o".into() }),
        PeerMessage::Forward(Box::new(Forward { header: header(), put: put() })),
        forward_reply(Ok(done)),
        forward_reply(Err(PutError::Unavailable(shortfall()))),
        PeerMessage::Properties(Properties { records: vec!["p".into(), "q".into()] }),
        PeerMessage::PropertiesReply(PropertiesReply {
            held: vec![PropertiesHeld { of: "b".into(), version: 3, lot: 4 }],
        }),
        PeerMessage::Unsupported(Unsupported { method: 99 }),
        PeerMessage::Claimed(Claimed { boot: Some(9) }),
        PeerMessage::Gossip(Gossip { said: said() }),
        PeerMessage::Hint(Hint { header: header(), key: key(), object: "o".into() }),
        PeerMessage::HintReply(HintReply { header: reply(Status::HintsFull) }),
        PeerMessage::Roots(Roots { digest: 1, seen_of: vec![header().partition] }),
        PeerMessage::RootsReply(RootsReply {
            is_same: false,
            roots: vec![(header().partition, sum())],
            uncounted: vec![header().partition],
            seen: vec![Seen { partition: header().partition, life: 3, dots: seen() }],
            fenced: (1, 4),
        }),
        PeerMessage::Close(Close { header: header(), actors: vec![Actor(6)], is_final: true }),
        PeerMessage::CloseReply(CloseReply {
            header: reply(Status::DoneSynced),
            alive: vec![Actor(6)],
            keeps: true,
        }),
        PeerMessage::Leaves(Leaves { partitions: vec![header().partition] }),
        PeerMessage::LeavesReply(LeavesReply {
            leaves: vec![PartitionLeaves {
                partition: header().partition,
                life: 4,
                leaves: vec![(63, sum())],
            }],
        }),
        PeerMessage::Range(Range { header: header(), first: 1, last: 2, keys: vec![(key(), 3)] }),
        PeerMessage::RangeReply(RangeReply {
            header: reply(Status::DoneSynced),
            objects: vec![(key(), "o".into())],
            wants: vec![key()],
            through: 2,
            is_damaged: true,
        }),
        PeerMessage::Keys(Keys {
            header: header(),
            bucket_type: "default".into(),
            bucket: Some("b".into()),
            after: Some(key()),
        }),
        PeerMessage::KeysReply(KeysReply {
            header: reply(Status::DoneSynced),
            keys: vec![key()],
            next: None,
        }),
        PeerMessage::AskLayout(AskLayout { known: (1, 2) }),
        PeerMessage::NewLayout(Box::new(NewLayout { layout: moving_layout() })),
        PeerMessage::Ballot(Ballot { of: (1, 3), said: gramme_paxos::Message::Prepare(ballot()) }),
        PeerMessage::Ballot(Ballot {
            of: (1, 3),
            said: gramme_paxos::Message::Accept { ballot: ballot(), value: step().to_bytes() },
        }),
        PeerMessage::AskProgress(AskProgress { layout: (1, 2) }),
        PeerMessage::Progress(Progress {
            layout: (1, 2),
            complete: vec![header().partition],
            uncounted: vec![header().partition],
            keeps: true,
        }),
        PeerMessage::TakeOver(TakeOver { header: header() }),
        PeerMessage::TakeOverReply(TakeOverReply { header: reply(Status::DoneSynced) }),
    ]
}

fn ballot() -> gramme_paxos::Ballot {
    gramme_paxos::Ballot { round: 5, node: NodeId(6) }
}

fn step() -> Step {
    let layout = layout();
    let mut roster = layout.roster().clone();
    roster.leaving.push(NodeId(3));
    let moves =
        vec![(0, Move::Begin(vec![NodeId(1), NodeId(2), NodeId(4)])), (1, Move::Next), (2, Move::Abort)];
    Step { roster: Some(roster), moves, ..layout.step() }
}

/// One partition joins, one leaves, and the others stay.
fn moving_layout() -> Layout {
    let layout = layout();
    let to = || Move::Begin([1, 2, 4].map(NodeId).to_vec());
    let moving = Step { moves: vec![(0, to()), (1, to())], ..layout.step() };
    let moving = layout.after(&moving).expect("it follows");
    moving.after(&Step { moves: vec![(1, Move::Next)], ..moving.step() }).expect("it follows")
}

fn layout() -> Layout {
    let members: Vec<_> = (1..=4).map(|id| Member::new(NodeId(id))).collect();
    let request = PlanRequest { members: &members, replicas: 3, depth: 2, previous: None };
    plan(&request).expect("a plan").layout
}

fn put_errors() -> Vec<PutError> {
    vec![
        PutError::Threshold(ThresholdError::TooMany { count: 4, replicas: 3 }),
        PutError::UnknownType("t".into()),
        PutError::Context(ContextError::Forged),
        PutError::TooManySiblings { siblings: 101, limit: 100 },
        PutError::Unavailable(shortfall()),
        PutError::Unknown(NodeId(1)),
        PutError::NoCoordinator(shortfall()),
        PutError::Busy,
        PutError::WriteStopped,
        PutError::Disk,
        PutError::SiblingsTooLarge { bytes: 1, limit: 2 },
        PutError::ValueTooLarge { limit: 3 },
        PutError::RequestReused,
        PutError::Content,
        PutError::Clock,
        PutError::Other,
    ]
}

fn client_messages() -> Vec<ClientMessage> {
    let members: Vec<_> = (1..=3).map(|id| Member::new(NodeId(id))).collect();
    let request = PlanRequest { members: &members, replicas: 3, depth: 1, previous: None };
    let layout = plan(&request).expect("a plan").layout;
    let addresses = vec![(NodeId(1), vec!["127.0.0.1:1".to_owned()])];
    let receipt = Receipt { acks: 2, primaries: 2, fallbacks: 0, zones: 1, synced: 2 };
    let put_reply = |outcome| ClientMessage::PutReply(PutReply { ring: 1, outcome });
    let mut messages = vec![
        ClientMessage::Ring(Ring { version: 1 }),
        ClientMessage::RingReply(RingReply {
            cluster: "c".into(),
            placement_key: [7; 32],
            addresses,
            layout,
        }),
        ClientMessage::Get(Get {
            key: key(),
            r: Threshold::One,
            pr: Threshold::Quorum,
            timeout: 1,
            sloppy: Some(true),
            session: vec!["s".into()],
        }),
        ClientMessage::GetReply(GetReply {
            ring: 1,
            outcome: Ok(Found { context: "c".into(), object: "o".into() }),
        }),
        ClientMessage::GetReply(GetReply { ring: 1, outcome: Err(GetError::Unavailable(shortfall())) }),
        ClientMessage::GetReply(GetReply {
            ring: 1,
            outcome: Err(GetError::Threshold(ThresholdError::Zero)),
        }),
        ClientMessage::GetReply(GetReply { ring: 1, outcome: Err(GetError::UnknownType("t".into())) }),
        ClientMessage::GetReply(GetReply { ring: 1, outcome: Err(GetError::Busy) }),
        ClientMessage::GetReply(GetReply { ring: 1, outcome: Err(GetError::Behind) }),
        ClientMessage::Put(ClientPut {
            origin: 1,
            request: 2,
            key: key(),
            context: "c".into(),
            content: Some(content()),
            expiry: Expiry::At(1_700_000_000_000),
            w: Threshold::Default,
            pw: Threshold::Count(1),
            dw: Threshold::Default,
            timeout: 3,
            return_body: false,
            sloppy: Some(false),
        }),
        put_reply(Ok(Stored { context: "c".into(), receipt, object: None })),
        ClientMessage::Unsupported(ClientUnsupported { method: 99 }),
    ];
    messages.extend(put_errors().into_iter().map(|error| put_reply(Err(error))));
    messages
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn golden() {
    let mut lines = String::new();
    for message in peer_messages() {
        let mut body = Vec::new();
        message.encode(&mut body);
        lines += &format!("peer {} {} {}\n", message.method(), message.name(), hex(&body));
        assert_eq!(PeerMessage::decode(message.method(), body.into()), Ok(message));
    }
    for message in client_messages() {
        let mut body = Vec::new();
        message.encode(&mut body);
        lines += &format!("client {} {} {}\n", message.method(), message.name(), hex(&body));
        assert_eq!(ClientMessage::decode(message.method(), body.into()), Ok(message));
    }
    let golden = include_str!("golden/messages-2.txt");
    assert!(lines == golden, "the format has changed; it is now\n{lines}");
}

#[test]
fn cut_or_extended_they_are_refused() {
    for message in peer_messages() {
        let mut body = Vec::new();
        message.encode(&mut body);
        let whole = Bytes::from(body.clone());
        for end in 0..whole.len() {
            assert!(
                PeerMessage::decode(message.method(), whole.slice(..end)).is_err(),
                "{} cut at {end}",
                message.name()
            );
        }
        body.push(0);
        assert_eq!(
            PeerMessage::decode(message.method(), body.into()),
            Err(WireError::Body(DecodeError::Malformed))
        );
    }
}

#[test]
fn an_older_version_than_we_know_is_named_and_so_is_an_unknown_message() {
    let old = WireError::Body(DecodeError::Version(1));
    assert_eq!(PeerMessage::decode(1, vec![1].into()), Err(old));
    assert_eq!(ClientMessage::decode(999, vec![2].into()), Err(WireError::Method(999)));
}

/// A made-up next version: it has a field more, a status and an error that we do not know, and a new message.
#[test]
fn the_next_version_is_understood_as_far_as_we_know_it() {
    for message in peer_messages() {
        let mut body = Vec::new();
        message.encode(&mut body);
        body[0] = 3;
        body.extend_from_slice(b"a field of version 3");
        assert_eq!(PeerMessage::decode(message.method(), body.into()), Ok(message));
    }
    let mut body = Vec::new();
    PeerMessage::WriteReply(WriteReply {
        header: reply(Status::Covered),
        seat: seat(2),
        covered: Vec::new(),
        object: "".into(),
    })
    .encode(&mut body);
    body[1] = 77;
    let decoded = PeerMessage::decode(5, body.into());
    assert!(matches!(decoded, Ok(PeerMessage::WriteReply(reply)) if reply.header.status == Status::Failed));
    let mut body = vec![3];
    body.extend([1, 0, 0, 0, 0, 0, 0, 0, 0, 99, 1, 2, 3]);
    let decoded = ClientMessage::decode(6, body.into());
    assert_eq!(decoded, Ok(ClientMessage::PutReply(PutReply { ring: 1, outcome: Err(PutError::Other) })));
}

proptest! {
    /// Whatever comes, it is decoded or refused; and what is decoded is decoded from its own bytes again.
    #[test]
    fn any_bytes(method in 0..33_u16, bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let body = Bytes::from([&[2], &bytes[..]].concat());
        if let Ok(message) = PeerMessage::decode(method, body.clone()) {
            let mut again = Vec::new();
            message.encode(&mut again);
            prop_assert_eq!(PeerMessage::decode(method, again.into()), Ok(message));
        }
        if let Ok(message) = ClientMessage::decode(method, body.clone()) {
            let mut again = Vec::new();
            message.encode(&mut again);
            prop_assert_eq!(ClientMessage::decode(method, again.into()), Ok(message));
        }
    }

    /// One changed byte of a real message: never a panic, never a large allocation.
    #[test]
    fn changed_bytes(pick in 0..14_usize, at in 0..400_usize, byte in any::<u8>()) {
        let message = &peer_messages()[pick];
        let mut body = Vec::new();
        message.encode(&mut body);
        let at = at % body.len();
        body[at] = byte;
        let _ = PeerMessage::decode(message.method(), body.into());
    }
}

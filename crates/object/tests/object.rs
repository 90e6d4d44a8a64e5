//! Objects: their bytes, and how they read.

use bytes::Bytes;
use gramme_object::{
    Content, ContentError, DecodeError, Key, KeyError, Object, Sibling, Stamp, clock_bytes, limits,
};
use gramme_vclock::{Actor, Context, Dot};
use proptest::prelude::*;

fn sibling(millis: u64, body: &str) -> Sibling {
    let content = Content::new(&[(b"content-type", b"text/plain")], body.as_bytes()).expect("small headers");
    Sibling { stamp: Stamp::at_millis(millis), write_id: 7, expires: None, content: Some(content) }
}

fn tombstone(millis: u64) -> Sibling {
    Sibling { stamp: Stamp::at_millis(millis), write_id: 8, expires: None, content: None }
}

fn two_siblings() -> Object {
    let mut object = Object::from_write(&Context::new(), Dot::new(Actor(1), 5), sibling(1, "old"));
    let read = object.context().clone();
    object.merge(&Object::from_write(&read, Dot::new(Actor(1), 6), sibling(20, "left")));
    object.merge(&Object::from_write(&read, Dot::new(Actor(2), 1), tombstone(10)));
    object
}

/// The bytes on every disk. A change here is a new format version.
#[test]
fn golden() {
    let hex: String = two_siblings().encode().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, include_str!("golden/object-1.hex").trim());
    let bytes: Vec<u8> =
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex")).collect();
    assert_eq!(Object::decode(&bytes.into()), Ok(two_siblings()));
}

/// A value that expires, and one that has.
fn expiring() -> Object {
    let expires = |sibling: Sibling, at| Sibling { expires: Some(at), ..sibling };
    let mut object =
        Object::from_write(&Context::new(), Dot::new(Actor(1), 1), expires(sibling(1, "soon"), 5_000));
    object.merge(&Object::from_write(&Context::new(), Dot::new(Actor(2), 1), expires(tombstone(2), 4_000)));
    object
}

/// A purged value keeps its instant: its hash must not change.
#[test]
fn golden_of_expiring_values() {
    let hex: String = expiring().encode().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, include_str!("golden/expiring-1.hex").trim());
    assert_eq!(Object::decode(&expiring().encode().into()), Ok(expiring()));
    let mut bytes = Vec::new();
    for number in [1_u64, 1, 5_000, 2, 1, 4_000] {
        bytes.extend(number.to_le_bytes());
    }
    assert_eq!(clock_bytes(&expiring()), bytes);
    assert_eq!(clock_bytes(&expiring().at_time(5_000)), bytes);
}

#[test]
fn a_purged_value_is_purged_whichever_way_it_is_merged() {
    let whole = expiring();
    assert_eq!(whole.next_expiry(), Some(5_000));
    assert_eq!(whole.clone().at_time(4_999), whole);
    let purged = whole.clone().at_time(5_000);
    assert!(!purged.has_value() && purged.next_expiry().is_none());
    for (mut one, other) in [(whole.clone(), &purged), (purged.clone(), &whole)] {
        one.merge(other);
        assert_eq!(one, purged);
    }
}

/// One dot names one value. Should somebody break that, replicas agree all the same.
#[test]
fn merging_is_commutative_whatever_stands_under_a_dot() {
    let of = |expires, body| {
        let sibling = Sibling { expires, ..sibling(1, body) };
        Object::from_write(&Context::new(), Dot::new(Actor(1), 1), sibling)
    };
    let all = [of(None, "a"), of(None, "b"), of(Some(5), "a"), of(Some(6), "a"), of(Some(6), "a").at_time(9)];
    for (one, other) in all.iter().flat_map(|one| all.iter().map(move |other| (one, other))) {
        let (mut left, mut right) = (one.clone(), other.clone());
        left.merge(other);
        right.merge(one);
        assert_eq!(left, right);
    }
}

#[test]
fn encoding_knows_its_size_beforehand() {
    for object in [Object::default(), two_siblings(), expiring()] {
        let encoded = object.encode();
        assert_eq!(encoded.capacity(), encoded.len());
    }
}

/// What hash trees hash: a change here makes all replicas of two versions look different to each other.
#[test]
fn a_clock_is_the_live_dots_and_nothing_else() {
    let mut bytes = Vec::new();
    for number in [1_u64, 6, 2, 1] {
        bytes.extend(number.to_le_bytes());
    }
    assert_eq!(clock_bytes(&two_siblings()), bytes);
    assert_eq!(clock_bytes(&Object::default()), []);
}

#[test]
fn headers_over_the_limit_are_refused_with_their_size() {
    let encoded = |length: usize| {
        let parts = [&[1, 0, 1, 0], &b"n"[..], &(length as u16).to_le_bytes(), &vec![b'v'; length]];
        Content::from_bytes(parts.concat().into())
    };
    let fitting = limits::HEADERS - 5;
    assert!(encoded(fitting).is_ok());
    assert_eq!(encoded(fitting + 1), Err(ContentError::HeadersTooLarge(limits::HEADERS + 1)));
}

#[test]
fn an_object_without_siblings_is_legal() {
    let mut object = two_siblings();
    object.versions_mut().retain(|_, _| false);
    assert!(!object.has_value() && !object.context().is_empty());
    assert_eq!(Object::decode(&object.encode().into()), Ok(object));
}

#[test]
fn last_writer_wins_only_in_reading() {
    let object = two_siblings();
    let read = object.last_writer(1 << 40);
    assert_eq!(read.siblings().len(), 1);
    assert_eq!(read.siblings()[0].1.content.as_ref().map(Content::body), Some(Bytes::from("left")));
    assert_eq!(read.context(), object.context());
}

/// A stamp from the far future wins only where nothing else is left; ours do not follow one from half as far.
#[test]
fn a_runaway_stamp_wins_nothing() {
    let (now, far) = (1_000_000, Stamp::MAX_AHEAD_MILLIS);
    let bounds = |millis| (Stamp::at_millis(millis).is_ahead(now), Stamp::at_millis(millis).is_runaway(now));
    assert_eq!(bounds(now + far / 2), (false, false));
    assert_eq!(bounds(now + far / 2 + 1), (true, false));
    assert_eq!(bounds(now + far), (true, false));
    assert_eq!(bounds(now + far + 1), (true, true));
    let written = |actor, millis, body| {
        Object::from_write(&Context::new(), Dot::new(Actor(actor), 1), sibling(millis, body))
    };
    let mut object = written(1, now + far + 1, "runaway");
    let shows = |object: &Object| object.last_writer(now).siblings()[0].1.content.as_ref().map(Content::body);
    assert_eq!(shows(&object), Some(Bytes::from("runaway")));
    object.merge(&written(2, now, "believed"));
    assert_eq!(shows(&object), Some(Bytes::from("believed")));
}

#[test]
fn any_damage_is_noticed() {
    let whole = two_siblings().encode();
    for at in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x10;
        assert!(Object::decode(&flipped.into()).is_err(), "byte {at}");
        assert!(Object::decode(&whole[..at].to_vec().into()).is_err(), "cut at {at}");
    }
}

#[test]
fn a_newer_version_is_named() {
    let mut bytes = two_siblings().encode();
    bytes[0] = 9;
    let end = bytes.len() - 4;
    let checksum = crc32fast::hash(&bytes[..end]).to_le_bytes();
    bytes[end..].copy_from_slice(&checksum);
    assert_eq!(Object::decode(&bytes.into()), Err(DecodeError::Version(9)));
}

#[test]
fn keys_keep_their_parts_apart() {
    let key = Key::new("default", b"a/b", b"c\0\xff").expect("valid parts");
    assert_eq!(
        (format!("{key}"), format!("{key:?}")),
        (r"a/b/c\x00\xff".into(), r"default/a/b/c\x00\xff".into())
    );
    assert_eq!((key.bucket_type(), key.bucket(), key.key()), ("default", &b"a/b"[..], &b"c\0\xff"[..]));
    assert_ne!(Key::new("t", "ab", "c"), Key::new("t", "a", "bc"));
    assert_eq!(Key::from_bytes(key.as_bytes().clone()), Ok(key));
    assert_eq!(Key::new("t", "", "k"), Err(KeyError::Bucket(0)));
    assert_eq!(Key::new("t", "b", vec![0; 1_025]), Err(KeyError::Key(1_025)));
}

#[test]
fn headers_come_back_in_order() {
    let content = Content::new(&[(b"Content-Type", b"a"), (b"x", b"")], b"body").expect("small headers");
    assert_eq!(content.headers().collect::<Vec<_>>(), [(&b"Content-Type"[..], &b"a"[..]), (b"x", b"")]);
    assert_eq!((content.header(b"content-type"), content.body()), (Some(&b"a"[..]), Bytes::from("body")));
    assert!(Content::new(&[(b"x", &[0; 20_000])], b"").is_err());
}

proptest! {
    #[test]
    fn decoders_take_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut sealed = bytes.clone();
        sealed.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        if let Ok(object) = Object::decode(&sealed.clone().into()) {
            prop_assert_eq!(object.encode(), sealed);
        }
        let _ = Key::from_bytes(bytes.clone().into());
        if let Ok(content) = Content::from_bytes(bytes.into()) {
            prop_assert!(content.headers().count() < 70_000);
        }
    }

    /// A random object survives; a random cut of its *inside*, with the checksum made right, never panics.
    #[test]
    fn resealed_damage_is_taken_calmly(at in 0..200_usize, byte in any::<u8>()) {
        let object = if at % 2 == 0 { two_siblings() } else { expiring() };
        let mut bytes = object.encode();
        let end = bytes.len() - 4;
        bytes[at % end] = byte;
        let checksum = crc32fast::hash(&bytes[..end]).to_le_bytes();
        bytes[end..].copy_from_slice(&checksum);
        if let Ok(object) = Object::decode(&bytes.clone().into()) {
            prop_assert_eq!(object.encode(), bytes);
        }
    }
}

/// As documented, and as every stored object was checked against.
#[test]
fn limits_are_what_is_documented() {
    assert_eq!((limits::NAME, limits::TYPE, limits::HEADERS), (1_024, 255, 16_384));
    assert_eq!((limits::VALUE, limits::MAX_VALUE), (1_048_576, 16_777_216));
    assert_eq!((limits::OBJECT, limits::STORED, limits::SIBLINGS), (33_554_432, 50_331_648, 100));
}

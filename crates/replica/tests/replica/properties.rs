//! Bucket properties, stored and told.

use crate::bench::*;
use gramme_replica::{
    ClientRequest, Input, PropertiesChange, PropertiesError, PropertiesPatch, Response, Scope, Ticket,
};
use gramme_wire::PeerMessage;
use gramme_wire::peer::Hello;

#[test]
fn a_node_that_has_other_properties_is_sent_ours() {
    let mut bench = bench(3);
    bench.change(1, "b", 7);
    bench.commit_all();
    bench.sent.clear();
    let hello = Hello { properties: 99, ..greeting() };
    bench.step(Input::Message { from: B, id: 1, message: PeerMessage::Hello(hello) });
    let sent = bench.sent.iter().find(|(_, _, message)| matches!(message, PeerMessage::Properties(_)));
    assert!(
        matches!(sent, Some((B, _, PeerMessage::Properties(properties))) if properties.records.len() == 1)
    );
}

/// The other node acknowledges a change the moment its disk has it. One that this node makes meanwhile, of the
/// same bucket or of another, must not take it back.
#[test]
fn a_change_of_properties_that_is_being_stored_is_not_lost_to_another() {
    for (theirs, ours) in [("b", "c"), ("b", "b")] {
        let mut other = bench(3);
        other.change(1, theirs, 7);
        let (id, message) = other.records_to(B).pop().expect("a record");
        let mut bench = bench(3);
        bench.step(Input::Message { from: C, id, message });
        bench.change(1, ours, 8);
        bench.sent.retain(|(_, _, message)| message.name() == "PropertiesReply");
        bench.commit_all();
        let told = bench.sent.iter().any(|(to, _, message)| *to == C && message.name() == "PropertiesReply");
        assert!(told, "it is acknowledged, or overtaken by what was built on it");
        assert_eq!(bench.max_siblings(ours), 8);
        if theirs != ours {
            assert_eq!(bench.max_siblings(theirs), 7, "another bucket's change");
        }
    }
}

/// Whoever changes ever other buckets, and does not wait, is stopped before the node's memory is.
#[test]
fn changes_of_properties_are_bounded() {
    let mut bench = bench(3);
    (0..1_000).for_each(|number| bench.change(number, &format!("b{number}"), 7));
    let busy = |(_, response): &(Ticket, Response)| {
        matches!(response, Response::SetProperties(Err(PropertiesError::Busy)))
    };
    let refused = bench.replies.iter().filter(|reply| busy(reply)).count();
    assert!((900..1_000).contains(&refused), "{refused} of a thousand at once were refused");
    assert!(bench.pending.len() < 100, "{} batches", bench.pending.len());
}

/// Every node keeps the properties of all buckets in memory.
#[test]
fn buckets_with_properties_of_their_own_are_bounded() {
    const MOST: usize = 65_536;
    let mut bench = bench(3);
    for from in (0..MOST).step_by(64) {
        (from..from + 64).for_each(|number| bench.change(number as u64, &format!("b{number}"), 7));
        bench.commit_all();
        bench.now += 1_000_000;
        bench.step(Input::Timer);
        bench.replies.clear();
        bench.sent.clear();
    }
    bench.change(1, "one more", 7);
    assert!(matches!(bench.answer(), Response::SetProperties(Err(PropertiesError::TooMany { limit: MOST }))));
    // The way out that the error names is open: a type's properties.
    let scope = Scope { bucket_type: "default".to_owned(), bucket: None };
    let patch = PropertiesPatch { max_siblings: Some(9), ..PropertiesPatch::default() };
    let change = PropertiesChange::Set(patch);
    let request = ClientRequest::SetProperties { scope, change, timeout: 1_000 };
    bench.step(Input::Client { ticket: Ticket(3), request });
    bench.commit_all();
    assert_eq!(bench.max_siblings("one more"), 9);
    // One that is there may be changed.
    bench.change(2, "b5", 8);
    bench.commit_all();
    assert_eq!(bench.max_siblings("b5"), 8);
}

//! What a request may and may not conclude from what it has heard.

use gramme_object::{Object, Sibling, Stamp};
use gramme_quorum::{
    Ack, Beside, ContextError, Failure, GetError, GetReply, GetRequest, GetVerdict, PutError, PutNeeds,
    PutRequest, PutVerdict, Question, ReplicaSet, Seat, Sets, Shortfall, Tenure, Threshold, ThresholdError,
};
use gramme_ring::NodeId;
use gramme_vclock::{Actor, Context, Dot};
use proptest::prelude::*;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const C: NodeId = NodeId(3);

fn of(need: u8) -> Sets {
    Sets::one(vec![A, B, C], need)
}

fn written(actor: u64, counter: u64) -> Object {
    let sibling = Sibling { stamp: Stamp(counter), write_id: actor, expires: None, content: None };
    Object::from_write(&Context::new(), Dot::new(Actor(actor), counter), sibling)
}

fn tenure(node: NodeId, born: u64) -> Tenure {
    Tenure { actor: Some(Actor(node.0 * 1_000 + born)), born }
}

fn ack(node: NodeId) -> Ack {
    Ack { node, zone: 0, synced: true, tenure: tenure(node, 1), known: Vec::new() }
}

fn done(verdict: PutVerdict) -> bool {
    matches!(verdict, PutVerdict::Done(_))
}

mod gets;
mod values;

fn nothing() -> GetReply {
    GetReply::Object(Object::new())
}

/// Whoever is asked what became of a version has never seen it.
fn unseen(get: &mut GetRequest, mut verdict: GetVerdict) -> GetVerdict {
    let mut asked = Vec::new();
    while let GetVerdict::Ask(questions) = verdict {
        asked.extend(questions.into_iter().map(|question| question.node));
        let Some(next) = asked.pop() else { panic!("nobody is asked") };
        verdict = get.on_covered(next, nothing(), &[]);
        while verdict == GetVerdict::Wait
            && let Some(next) = asked.pop()
        {
            verdict = get.on_covered(next, nothing(), &[]);
        }
    }
    verdict
}

#[test]
fn a_get_answers_at_r_with_all_it_has_heard_and_repairs_the_late() {
    let mut get = GetRequest::new(&of(2), 0);
    assert_eq!(get.on_reply(A, GetReply::Object(written(1, 1))), GetVerdict::Wait);
    let verdict = get.on_reply(B, GetReply::Object(written(2, 1)));
    let GetVerdict::Answer(answer) = unseen(&mut get, verdict) else { panic!("no answer") };
    assert_eq!(answer.siblings().len(), 2);
    assert_eq!(get.on_reply(C, GetReply::Object(Object::new())), GetVerdict::Finished);
    let repairs = get.repairs();
    assert_eq!(repairs.iter().map(|repair| repair.node).collect::<Vec<_>>(), [A, B, C]);
    assert!(repairs.iter().all(|repair| repair.object == answer));
}

#[test]
fn agreement_needs_no_repair() {
    let mut get = GetRequest::new(&of(3), 0);
    for node in [A, B, C] {
        get.on_reply(node, GetReply::Object(written(1, 1)));
    }
    assert!(get.repairs().is_empty());
}

#[test]
fn a_failed_disk_is_never_an_empty_answer() {
    let mut get = GetRequest::new(&of(2), 0);
    get.on_reply(A, GetReply::Failed(Failure::Disk));
    let GetVerdict::Fail(shortfall) = get.on_reply(B, GetReply::Failed(Failure::Down)) else {
        panic!("no failure")
    };
    assert_eq!(shortfall.failed, [(A, Failure::Disk), (B, Failure::Down), (C, Failure::Silent)]);
    assert_eq!(get.on_reply(C, GetReply::Object(Object::new())), GetVerdict::Finished);
    let asked_for_repair = get.repairs();
    assert!(asked_for_repair.is_empty(), "a replica that could not read is not repaired blindly");
}

#[test]
fn one_replica_counts_once() {
    let mut get = GetRequest::new(&of(2), 0);
    get.on_reply(A, GetReply::Object(Object::new()));
    assert_eq!(get.on_reply(A, GetReply::Object(Object::new())), GetVerdict::Wait);
    assert_eq!(get.on_reply(NodeId(9), GetReply::Object(Object::new())), GetVerdict::Wait);
    let mut put = PutRequest::new(&of(2), PutNeeds::default());
    put.on_ack(ack(A));
    assert_eq!(put.on_ack(ack(A)), PutVerdict::Wait);
    assert_eq!(put.on_ack(ack(NodeId(9))), PutVerdict::Wait, "a stranger");
    assert!(done(put.on_ack(ack(B))));
}

const F: NodeId = NodeId(9);

const fn seat(set: u8, slot: u8) -> Seat {
    Seat { set, slot }
}

#[test]
fn a_fallback_on_a_vacant_seat_counts_but_not_as_a_primary() {
    let mut put = PutRequest::new(&of(2), PutNeeds::default());
    put.allow_fallbacks(1);
    put.on_ack(ack(A));
    assert_eq!(put.on_failure(C, Failure::Down), PutVerdict::Wait);
    assert_eq!(put.vacant(), Some(seat(0, 2)));
    assert!(put.substitute(seat(0, 2), F) && put.awaits(F));
    assert_eq!(put.seat_of(F), Some(seat(0, 2)));
    let PutVerdict::Done(receipt) = put.on_ack(ack(F)) else { panic!("not done") };
    assert_eq!((receipt.acks, receipt.primaries, receipt.fallbacks), (2, 1, 1));
    let mut strict = PutRequest::new(&of(2), PutNeeds { primaries: 2, synced: 0 });
    strict.allow_fallbacks(1);
    strict.on_ack(ack(A));
    strict.on_failure(C, Failure::Down);
    assert!(strict.substitute(seat(0, 2), F));
    assert_eq!(strict.on_ack(ack(F)), PutVerdict::Wait, "two owners are needed");
    assert!(done(strict.on_ack(ack(B))));
}

#[test]
fn a_fallback_and_the_owner_it_stands_in_for_are_one_replica() {
    let mut put = PutRequest::new(&of(3), PutNeeds::default());
    put.allow_fallbacks(2);
    assert_eq!(put.on_failure(C, Failure::Down), PutVerdict::Wait);
    assert_eq!(put.vacant(), Some(seat(0, 2)));
    assert!(put.substitute(seat(0, 2), F));
    assert!(!put.substitute(seat(0, 1), F), "one seat of a set for each node");
    assert!(!put.substitute(seat(0, 1), A), "an owner stands in for nobody");
    assert!(!put.substitute(seat(1, 0), NodeId(8)) && !put.substitute(seat(0, 7), NodeId(8)), "no such seat");
    assert_eq!(put.on_ack(ack(F)), PutVerdict::Wait);
    assert_eq!(put.on_ack(ack(A)), PutVerdict::Wait, "two seats of three");
    assert!(done(put.on_ack(ack(B))));
}

/// Once the hinted copy is handed on, the two are one copy.
#[test]
fn a_receipt_counts_an_owner_and_who_stands_in_for_it_once() {
    let mut put = PutRequest::new(&of(1), PutNeeds { primaries: 0, synced: 2 });
    put.allow_fallbacks(1);
    assert!(put.substitute(seat(0, 0), F));
    assert_eq!(put.on_ack(ack(F)), PutVerdict::Wait);
    assert_eq!(put.on_ack(ack(A)), PutVerdict::Wait, "two synced copies of one slot");
    let PutVerdict::Done(receipt) = put.on_ack(ack(B)) else { panic!("two slots") };
    assert_eq!((receipt.acks, receipt.primaries, receipt.fallbacks, receipt.synced), (2, 2, 0, 2));
}

/// Who stood in may have handed its copy on, and forgotten it, before the owner lost its disk.
#[test]
fn a_slot_whose_owner_lost_its_disk_is_not_filled_by_who_stood_in() {
    let mut put = PutRequest::new(&of(2), PutNeeds::default());
    put.allow_fallbacks(1);
    assert!(put.substitute(seat(0, 0), F));
    assert_eq!(put.on_ack(ack(F)), PutVerdict::Wait);
    assert_eq!(put.on_ack(ack(A)), PutVerdict::Wait);
    let knows = Ack { known: vec![(A, tenure(A, 2))], ..ack(B) };
    assert_eq!(put.on_ack(knows), PutVerdict::Wait);
    assert!(done(put.on_ack(ack(C))));
}

#[test]
fn without_fallbacks_left_a_put_is_lost_with_its_owners() {
    let mut put = PutRequest::new(&of(2), PutNeeds::default());
    put.allow_fallbacks(1);
    assert_eq!(put.on_failure(A, Failure::Down), PutVerdict::Wait);
    assert_eq!(put.vacant(), Some(seat(0, 0)));
    assert!(put.substitute(seat(0, 0), F));
    assert_eq!(put.on_failure(B, Failure::Down), PutVerdict::Wait, "C and the fallback may still");
    let PutVerdict::Fail(shortfall) = put.on_failure(F, Failure::Down) else { panic!("still hoping") };
    assert_eq!(shortfall.failed.len(), 4);
}

/// More work for a cluster that has too much would not help it, nor would asking one that says the same.
#[test]
fn nobody_stands_in_for_a_busy_owner() {
    for failure in [Failure::Busy, Failure::Refused, Failure::TooLarge] {
        let mut put = PutRequest::new(&of(3), PutNeeds::default());
        put.allow_fallbacks(1);
        assert!(matches!(put.on_failure(A, failure), PutVerdict::Fail(_)), "{failure}");
        assert_eq!(put.vacant(), None, "{failure}");
    }
}

#[test]
fn when_no_fallback_is_left_the_request_ends() {
    let mut put = PutRequest::new(&of(2), PutNeeds::default());
    let mut get = GetRequest::new(&of(2), 0);
    put.allow_fallbacks(2);
    get.allow_fallbacks(2);
    for node in [A, B] {
        assert_eq!(put.on_failure(node, Failure::Down), PutVerdict::Wait);
        assert_eq!(get.on_reply(node, GetReply::Failed(Failure::Down)), GetVerdict::Wait);
    }
    assert!(matches!(put.on_no_fallback(), PutVerdict::Fail(_)));
    assert!(matches!(get.on_no_fallback(), GetVerdict::Fail(_)));
    assert_eq!((put.vacant(), get.vacant()), (None, None));
}

#[test]
fn a_fallback_answers_a_read_but_not_that_there_is_nothing() {
    let get = || {
        let mut get = GetRequest::new(&of(2), 0);
        get.allow_fallbacks(3);
        for (slot, node) in (0..).zip([A, B]) {
            get.on_reply(node, GetReply::Failed(Failure::Down));
            assert_eq!(get.vacant(), Some(seat(0, slot)));
            assert!(get.substitute(seat(0, slot), NodeId(9 + u64::from(slot))));
        }
        get
    };
    // An owner has said so: there is nothing.
    let mut with_owner = get();
    assert_eq!(with_owner.on_reply(F, GetReply::Object(Object::new())), GetVerdict::Wait);
    let verdict = with_owner.on_reply(C, GetReply::Object(Object::new()));
    assert_eq!(verdict, GetVerdict::Answer(Object::new()));
    // Fallbacks alone: what they have is worth something, that they have nothing is not.
    let mut alone = get();
    assert_eq!(alone.on_reply(F, GetReply::Object(Object::new())), GetVerdict::Wait);
    assert_eq!(alone.on_reply(NodeId(10), GetReply::Object(Object::new())), GetVerdict::Wait);
    assert_eq!(alone.on_reply(C, GetReply::Failed(Failure::Busy)), {
        let failed = vec![
            (A, Failure::Down),
            (B, Failure::Down),
            (C, Failure::Busy),
            (F, Failure::NotOwner),
            (NodeId(10), Failure::NotOwner),
        ];
        GetVerdict::Fail(Shortfall { needed: 2, answered: Vec::new(), failed })
    });
    let mut found = get();
    found.on_reply(F, GetReply::Object(written(1, 1)));
    let verdict = found.on_reply(NodeId(10), GetReply::Object(Object::new()));
    assert_eq!(verdict, GetVerdict::Answer(written(1, 1)));
    // Who is repaired is the owner, once it is back.
    assert!(found.repairs().is_empty());
}

#[test]
fn a_read_of_owners_waits_for_them() {
    let mut get = GetRequest::new(&of(2), 2);
    get.allow_fallbacks(1);
    get.on_reply(A, GetReply::Object(written(1, 1)));
    get.on_reply(B, GetReply::Failed(Failure::Down));
    assert!(get.substitute(seat(0, 1), F));
    assert_eq!(get.on_reply(F, GetReply::Object(written(1, 1))), GetVerdict::Wait);
    let verdict = get.on_reply(C, GetReply::Object(Object::new()));
    assert!(matches!(unseen(&mut get, verdict), GetVerdict::Answer(_)));
}

/// One that counts for nothing keeps its seat in the answer, and a fallback may take it for the count.
#[test]
fn a_fallback_stands_in_for_an_amnesiac() {
    let mut get = GetRequest::new(&of(3), 0);
    get.allow_fallbacks(1);
    get.on_reply(A, GetReply::Object(written(1, 1)));
    get.on_reply(B, GetReply::Object(written(1, 1)));
    assert_eq!(get.on_reply(C, GetReply::Uncounted(written(2, 1), Failure::Amnesiac)), GetVerdict::Wait);
    assert_eq!(get.vacant(), Some(seat(0, 2)));
    assert!(get.substitute(seat(0, 2), F));
    let verdict = get.on_reply(F, GetReply::Object(Object::new()));
    let GetVerdict::Answer(answer) = unseen(&mut get, verdict) else { panic!("three seats") };
    assert_eq!(answer.siblings().len(), 2);
}

#[test]
fn disjoint_sets_are_counted_apart() {
    let next: Vec<_> = (4..7).map(NodeId).collect();
    let sets = || Sets {
        now: ReplicaSet { owners: vec![A, B, C], need: 2 },
        next: Some(ReplicaSet { owners: (4..7).map(NodeId).collect(), need: 2 }),
    };
    let mut put = PutRequest::new(&sets(), PutNeeds::default());
    for node in [A, B, C] {
        assert_eq!(put.on_ack(ack(node)), PutVerdict::Wait);
    }
    assert_eq!(put.on_ack(ack(next[0])), PutVerdict::Wait);
    let PutVerdict::Done(receipt) = put.on_ack(ack(next[1])) else { panic!("two of each") };
    assert_eq!(receipt.acks, 2, "a reader of the new owners knows of no more");
    // A fallback of one set says nothing for the other.
    let mut put = PutRequest::new(&sets(), PutNeeds::default());
    put.allow_fallbacks(3);
    put.on_ack(ack(B));
    put.on_ack(ack(next[1]));
    assert_eq!(put.on_failure(A, Failure::Down), PutVerdict::Wait);
    assert_eq!(put.vacant(), Some(seat(0, 0)));
    assert!(put.substitute(seat(0, 0), F));
    assert_eq!(put.on_ack(ack(F)), PutVerdict::Wait, "the second set has one of two");
    assert!(done(put.on_ack(ack(next[2]))));
    // The same for a get.
    let mut get = GetRequest::new(&sets(), 0);
    for node in [A, B, C, next[0]] {
        assert_eq!(get.on_reply(node, GetReply::Object(Object::new())), GetVerdict::Wait);
    }
    let verdict = get.on_reply(next[2], GetReply::Object(Object::new()));
    assert!(matches!(verdict, GetVerdict::Answer(_)));
}

/// While a partition moves, an owner of both sets that cannot be reached is stood in for in both by one node, and owners are
/// wanted of each set.
#[test]
fn one_fallback_takes_both_seats_of_an_owner() {
    let (d, e, f) = (NodeId(4), NodeId(5), NodeId(6));
    let sets = Sets {
        now: ReplicaSet { owners: vec![A, B, C], need: 2 },
        next: Some(ReplicaSet { owners: vec![C, d, e], need: 2 }),
    };
    let mut put = PutRequest::new(&sets, PutNeeds::default());
    put.allow_fallbacks(3);
    assert_eq!(put.on_failure(C, Failure::Down), PutVerdict::Wait);
    assert!(put.substitute(seat(0, 2), f), "it sits for C, in both sets");
    assert_eq!(put.vacant(), None);
    assert_eq!(put.on_ack(ack(f)), PutVerdict::Wait);
    assert_eq!(put.on_ack(ack(A)), PutVerdict::Wait, "two of the one set, one of the other");
    assert!(done(put.on_ack(ack(d))));
    let mut strict = PutRequest::new(&sets, PutNeeds { primaries: 2, synced: 0 });
    assert_eq!(strict.on_ack(ack(A)), PutVerdict::Wait);
    assert_eq!(strict.on_ack(ack(B)), PutVerdict::Wait, "two owners, of one set");
    assert_eq!(strict.on_ack(ack(d)), PutVerdict::Wait);
    assert!(done(strict.on_ack(ack(e))));
}

#[test]
fn what_turns_out_to_count_for_nothing_is_discounted() {
    let mut get = GetRequest::new(&of(2), 0);
    get.on_reply(A, GetReply::Object(written(1, 1)));
    assert_eq!(get.discount(A, Failure::Amnesiac), GetVerdict::Wait);
    assert_eq!(get.on_reply(B, GetReply::Object(Object::new())), GetVerdict::Wait);
    let verdict = get.on_reply(C, GetReply::Object(Object::new()));
    let GetVerdict::Answer(answer) = unseen(&mut get, verdict) else { panic!("no answer") };
    assert_eq!(answer, written(1, 1), "what it said is still in the answer");
    let mut put = PutRequest::new(&of(2), PutNeeds::default());
    put.on_ack(ack(A));
    assert_eq!(put.discount(A, Failure::Amnesiac), PutVerdict::Wait);
    assert_eq!(put.on_ack(ack(B)), PutVerdict::Wait);
    let PutVerdict::Fail(shortfall) = put.on_failure(C, Failure::Down) else { panic!("it counted") };
    assert_eq!(shortfall.failed, [(A, Failure::Amnesiac), (C, Failure::Down)]);
}

#[test]
fn at_a_new_epoch_nothing_counts_that_was_acknowledged_before() {
    let mut put = PutRequest::new(&of(2), PutNeeds::default());
    put.on_ack(ack(A));
    put.restart(&Sets::one(vec![A, B, NodeId(4)], 2));
    assert!(put.awaits(A) && put.awaits(NodeId(4)) && !put.awaits(C));
    assert_eq!(put.on_ack(ack(A)), PutVerdict::Wait);
    assert!(done(put.on_ack(ack(NodeId(4)))));
}

#[test]
fn an_acknowledgement_of_a_lost_disk_does_not_count() {
    let mut put = PutRequest::new(&of(2), PutNeeds::default());
    assert_eq!(put.on_ack(ack(A)), PutVerdict::Wait);
    // C has met A in a later life: what A acknowledged before may be gone.
    let informed = Ack { known: vec![(A, tenure(A, 2))], ..ack(C) };
    assert_eq!(put.on_ack(informed), PutVerdict::Wait);
    assert!(done(put.on_ack(ack(B))));
}

#[test]
fn an_older_rumour_disqualifies_nobody() {
    let mut put = PutRequest::new(&of(2), PutNeeds::default());
    put.on_ack(Ack { tenure: tenure(A, 5), ..ack(A) });
    assert!(done(put.on_ack(Ack { known: vec![(A, tenure(A, 2))], ..ack(C) })));
}

#[test]
fn synced_acknowledgements_are_counted_apart() {
    let mut put = PutRequest::new(&of(2), PutNeeds { primaries: 0, synced: 1 });
    let buffered = |node| Ack { synced: false, ..ack(node) };
    put.on_ack(buffered(A));
    assert_eq!(put.on_ack(buffered(B)), PutVerdict::Wait);
    let PutVerdict::Done(receipt) = put.on_ack(ack(C)) else { panic!("not done") };
    assert_eq!((receipt.acks, receipt.synced, receipt.primaries, receipt.zones), (3, 1, 3, 1));
}

#[test]
fn a_put_gives_up_as_soon_as_it_is_hopeless() {
    let mut put = PutRequest::new(&of(2), PutNeeds::default());
    assert_eq!(put.on_failure(A, Failure::Down), PutVerdict::Wait);
    let PutVerdict::Fail(shortfall) = put.on_failure(B, Failure::Busy) else { panic!("still hoping") };
    assert_eq!((shortfall.needed, shortfall.answered.len()), (2, 0));
    assert_eq!(put.on_ack(ack(C)), PutVerdict::Finished);
}

#[test]
fn two_sets_must_both_be_satisfied() {
    let now = ReplicaSet { owners: vec![A, B, C], need: 2 };
    let next = Some(ReplicaSet { owners: vec![B, C, NodeId(4)], need: 2 });
    let mut put = PutRequest::new(&Sets { now, next }, PutNeeds::default());
    put.on_ack(ack(A));
    assert_eq!(put.on_ack(ack(B)), PutVerdict::Wait, "two of the old, one of the new");
    assert!(done(put.on_ack(ack(NodeId(4)))));
}

#[test]
fn thresholds() {
    assert_eq!(Threshold::All.resolve(5, Threshold::One), Ok(5));
    assert_eq!(Threshold::Default.resolve(5, Threshold::Default), Ok(3));
    assert!(Threshold::Default.resolve(2, Threshold::Count(3)).is_err());
    assert_eq!("quorum".parse(), Ok(Threshold::Quorum));
    assert_eq!("7".parse(), Ok(Threshold::Count(7)));
    assert!("many".parse::<Threshold>().is_err() && "-1".parse::<Threshold>().is_err());
    assert_eq!(Threshold::Count(0).resolve_positive(3, Threshold::One), Err(ThresholdError::Zero));
}

proptest! {
    /// Whatever comes in whatever order: one answer, only with enough to stand on, and an end.
    #[test]
    fn exactly_one_answer(events in prop::collection::vec((1..4_u64, 0..3_u8), 0..12), need in 1..4_u8) {
        let (mut get, mut put) = (GetRequest::new(&of(need), 0), PutRequest::new(&of(need), PutNeeds::default()));
        let (mut answers, mut good) = ([0, 0], std::collections::BTreeSet::new());
        let mut failed = std::collections::BTreeSet::new();
        for (node, kind) in events {
            let node = NodeId(node);
            let (reply, verdict) = if kind > 0 {
                if !failed.contains(&node) { good.insert(node); }
                (GetReply::Object(written(node.0, 1)), put.on_ack(ack(node)))
            } else {
                if !good.contains(&node) { failed.insert(node); }
                (GetReply::Failed(Failure::Down), put.on_failure(node, Failure::Down))
            };
            let answered = get.on_reply(node, reply);
            match unseen(&mut get, answered) {
                GetVerdict::Answer(_) => { answers[0] += 1; prop_assert_eq!(good.len(), usize::from(need)); }
                GetVerdict::Fail(_) => { answers[0] += 1; prop_assert!(3 - failed.len() < usize::from(need)); }
                _ => {}
            }
            match verdict {
                PutVerdict::Done(_) => { answers[1] += 1; prop_assert_eq!(good.len(), usize::from(need)); }
                PutVerdict::Fail(_) => { answers[1] += 1; prop_assert!(3 - failed.len() < usize::from(need)); }
                _ => {}
            }
        }
        answers[0] += usize::from(!matches!(get.on_deadline(), GetVerdict::Finished | GetVerdict::Wait));
        answers[1] += usize::from(!matches!(put.on_deadline(), PutVerdict::Finished | PutVerdict::Wait));
        prop_assert_eq!(answers, [1, 1]);
    }
}

/// Programs tell errors apart by these, whatever interface they came through.
#[test]
fn error_codes_are_stable() {
    let shortfall = || Shortfall { needed: 2, answered: Vec::new(), failed: Vec::new() };
    let context = [ContextError::Malformed, ContextError::Expired, ContextError::Forged];
    assert_eq!(context.map(|error| error.code()), ["context-malformed", "context-expired", "context-forged"]);
    let gets = [
        GetError::UnknownType("t".to_owned()),
        GetError::Unavailable(shortfall()),
        GetError::Busy,
        GetError::Context(ContextError::Forged),
        GetError::Other,
    ];
    let codes: Vec<_> = gets.iter().map(GetError::code).collect();
    assert_eq!(codes, ["unknown-bucket-type", "unavailable", "busy", "context-forged", "failed"]);
    let puts = [
        PutError::UnknownType("t".to_owned()),
        PutError::Context(ContextError::Forged),
        PutError::TooManySiblings { siblings: 2, limit: 1 },
        PutError::Unavailable(shortfall()),
        PutError::Unknown(A),
        PutError::NoCoordinator(shortfall()),
        PutError::Busy,
        PutError::WriteStopped,
        PutError::Disk,
        PutError::SiblingsTooLarge { bytes: 2, limit: 1 },
        PutError::ValueTooLarge { limit: 1 },
        PutError::RequestReused,
        PutError::Content,
        PutError::Clock,
        PutError::Other,
    ];
    let codes: Vec<_> = puts.iter().map(PutError::code).collect();
    assert_eq!(
        codes,
        [
            "unknown-bucket-type",
            "context-forged",
            "too-many-siblings",
            "unavailable",
            "outcome-unknown",
            "no-coordinator",
            "busy",
            "disk-full",
            "disk-error",
            "too-many-siblings",
            "value-too-large",
            "request-reused",
            "bad-content",
            "clock-off",
            "failed",
        ]
    );
}

/// While a partition moves, what is said of owners is what is known of both sets.
#[test]
fn a_receipt_names_owners_of_the_set_that_has_fewest() {
    let (d, f, g) = (NodeId(4), NodeId(5), NodeId(6));
    let sets = Sets {
        now: ReplicaSet { owners: vec![A, B], need: 2 },
        next: Some(ReplicaSet { owners: vec![d, B], need: 2 }),
    };
    let mut put = PutRequest::new(&sets, PutNeeds::default());
    put.allow_fallbacks(4);
    put.on_failure(B, Failure::Down);
    put.on_failure(d, Failure::Down);
    assert!(put.substitute(seat(0, 1), f), "for B, in both sets");
    assert!(put.substitute(seat(1, 0), g), "for the new owner");
    put.on_ack(ack(A));
    put.on_ack(ack(f));
    let PutVerdict::Done(receipt) = put.on_ack(ack(g)) else { panic!("two of each") };
    assert_eq!(receipt.primaries, 0, "no new owner has it, and those are read next");
}

//! Gets in which owners differ, and gets in a session.

use super::*;

/// A get of which A shows a version that B has seen replaced and forgotten by what.
fn disputed() -> (GetRequest, Vec<Question>) {
    let mut get = GetRequest::new(&of(2), 0);
    get.on_reply(A, GetReply::Object(written(1, 1)));
    let GetVerdict::Ask(questions) = get.on_reply(B, GetReply::Object(Object::new())) else {
        panic!("nobody is asked")
    };
    (get, questions)
}

#[test]
fn a_version_that_an_owner_has_seen_replaced_is_not_shown() {
    let (mut get, questions) = disputed();
    let dots = vec![Dot::new(Actor(1), 1)];
    assert_eq!(questions, [Question { node: B, dots: dots.clone() }]);
    assert_eq!(get.on_covered(A, nothing(), &dots), GetVerdict::Wait, "it was not asked");
    let GetVerdict::Answer(answer) = get.on_covered(B, nothing(), &dots) else { panic!("no answer") };
    assert!(answer.versions().is_empty() && answer.context().covers(dots[0]));
    // One that holds it is told.
    assert_eq!(get.on_reply(C, GetReply::Object(Object::new())), GetVerdict::Finished);
    let repairs = get.repairs();
    assert_eq!(repairs.iter().map(|repair| repair.node).collect::<Vec<_>>(), [A]);
    assert!(repairs[0].object.versions().is_empty());
}

/// What replaced a version a moment ago is shown in its place.
#[test]
fn what_replaced_a_version_since_is_shown() {
    let (mut get, _) = disputed();
    let first = Dot::new(Actor(1), 1);
    let GetVerdict::Answer(answer) = get.on_covered(B, GetReply::Object(written(2, 1)), &[first]) else {
        panic!("no answer")
    };
    assert_eq!(answer.versions().dots().collect::<Vec<_>>(), [Dot::new(Actor(2), 1)]);
}

/// What an owner says of a version goes with what it holds: if it does not count in the end, neither does.
#[test]
fn who_does_not_count_in_the_end_has_ended_no_version() {
    let (mut get, _) = disputed();
    let (first, third) = (Dot::new(Actor(1), 1), Dot::new(Actor(3), 1));
    // C shows another version, so B is asked a second time, of that.
    let GetVerdict::Ask(_) = get.on_reply(C, GetReply::Object(written(3, 1))) else {
        panic!("nobody is asked")
    };
    // B holds what replaced the first, and then answers no more.
    assert_eq!(get.on_covered(B, GetReply::Object(written(2, 1)), &[first]), GetVerdict::Wait);
    assert_eq!(get.on_covered(A, nothing(), &[]), GetVerdict::Wait);
    assert_eq!(get.on_covered(C, nothing(), &[]), GetVerdict::Wait);
    let verdict = get.on_covered(B, GetReply::Failed(Failure::Silent), &[]);
    let GetVerdict::Answer(answer) = verdict else { panic!("{verdict:?}") };
    assert_eq!(answer.versions().dots().collect::<Vec<_>>(), [first, third]);
}

/// A fallback that is asked for a session takes a seat later: what it says then counts.
#[test]
fn a_witness_that_takes_a_seat_is_heard_again() {
    let mut get = GetRequest::new(&of(3), 0);
    get.allow_fallbacks(1);
    get.require([Dot::new(Actor(1), 1)].into_iter().collect());
    for node in [A, B] {
        get.on_reply(node, nothing());
    }
    assert_eq!(get.on_reply(C, GetReply::Uncounted(Object::new(), Failure::Amnesiac)), GetVerdict::Behind);
    assert!(get.add_witness(F));
    assert_eq!(get.on_reply(F, GetReply::Object(written(1, 1))), GetVerdict::Wait, "it has no seat");
    assert!(get.substitute(seat(0, 2), F) && get.awaits(F));
    let verdict = get.on_reply(F, GetReply::Object(written(1, 1)));
    assert!(matches!(unseen(&mut get, verdict), GetVerdict::Answer(_)));
}

/// What comes meanwhile is asked about too, and nobody is asked about a version twice.
#[test]
fn each_owner_is_asked_about_each_version_once() {
    let (mut get, _) = disputed();
    let GetVerdict::Ask(questions) = get.on_reply(C, GetReply::Object(written(2, 1))) else {
        panic!("nobody is asked")
    };
    let (first, second) = (Dot::new(Actor(1), 1), Dot::new(Actor(2), 1));
    let asked = |node, dots: &[Dot]| Question { node, dots: dots.to_vec() };
    assert_eq!(questions, [asked(A, &[second]), asked(B, &[second]), asked(C, &[first])]);
    assert_eq!(get.on_covered(A, nothing(), &[second]), GetVerdict::Wait);
    assert_eq!(get.on_covered(C, nothing(), &[]), GetVerdict::Wait);
    assert_eq!(get.on_covered(B, nothing(), &[]), GetVerdict::Wait, "it was asked twice");
    let GetVerdict::Answer(answer) = get.on_covered(B, nothing(), &[]) else { panic!("no answer") };
    assert_eq!(answer.versions().dots().collect::<Vec<_>>(), [first]);
}

/// A session is satisfied by what is in the answer, and not by what somebody said who does not count in the end.
#[test]
fn a_session_gets_what_it_knows_or_nothing() {
    let known: Context = [Dot::new(Actor(1), 1)].into_iter().collect();
    let mut get = GetRequest::new(&of(2), 0);
    get.require(known.clone());
    assert_eq!(get.on_reply(B, nothing()), GetVerdict::Wait);
    assert_eq!(get.on_reply(C, nothing()), GetVerdict::Wait, "two of three, and neither has it");
    let GetVerdict::Ask(_) = get.on_reply(A, GetReply::Object(written(1, 1))) else {
        panic!("nobody is asked")
    };
    // Whoever has seen it replaced does as well.
    let mut seen = GetRequest::new(&of(2), 0);
    seen.require(known.clone());
    seen.on_reply(B, nothing());
    let beside = Beside { seen: known.clone(), ..Beside::default() };
    assert!(matches!(seen.on_reply_with(C, nothing(), beside), GetVerdict::Answer(_)));
    // An entry is more than its last dot: whoever knows that one alone may lack others.
    let mut entry = GetRequest::new(&of(2), 0);
    let mut up_to = Context::new();
    up_to.raise(Actor(1), 2);
    entry.require(up_to);
    for node in [A, B] {
        entry.on_reply(node, GetReply::Object(written(1, 2)));
    }
    assert_eq!(entry.on_reply(C, GetReply::Object(written(1, 2))), GetVerdict::Behind);
    // Nobody has it: others may be asked, and then it is over.
    let mut behind = GetRequest::new(&of(2), 0);
    behind.require(known);
    for node in [A, B] {
        behind.on_reply(node, nothing());
    }
    assert_eq!(behind.on_reply(C, nothing()), GetVerdict::Behind);
    assert!(behind.add_witness(F) && !behind.add_witness(F));
    assert_eq!(behind.on_deadline(), GetVerdict::Behind);
    // One that had it, and does not answer what it is asked, takes it away again.
    let mut lost = GetRequest::new(&of(2), 0);
    lost.require([Dot::new(Actor(1), 1)].into_iter().collect());
    lost.on_reply(A, GetReply::Object(written(1, 1)));
    let GetVerdict::Ask(_) = lost.on_reply(B, GetReply::Object(written(2, 1))) else {
        panic!("nobody is asked")
    };
    lost.on_reply(C, GetReply::Object(written(2, 1)));
    assert!(!matches!(lost.on_deadline(), GetVerdict::Answer(_)));
}

/// When the time is over nobody is asked any more, and what was not asked about does not count.
#[test]
fn nobody_is_asked_when_the_time_is_over() {
    let mut get = GetRequest::new(&of(2), 0);
    get.allow_fallbacks(1);
    get.on_reply(A, GetReply::Object(written(1, 1)));
    get.on_reply(B, GetReply::Uncounted(Object::new(), Failure::Amnesiac));
    assert!(get.substitute(seat(0, 1), F));
    let GetVerdict::Ask(_) = get.on_reply(C, nothing()) else { panic!("nobody is asked") };
    get.on_reply(F, GetReply::Object(written(2, 1)));
    assert!(matches!(get.on_deadline(), GetVerdict::Answer(_) | GetVerdict::Fail(_)));
}

/// Where only fallbacks count, one that does not is all there is to ask. It may as well be silent.
#[test]
fn who_counts_for_nothing_is_a_witness() {
    let dot = Dot::new(Actor(1), 1);
    for is_silent in [false, true] {
        let mut get = GetRequest::new(&of(2), 0);
        get.allow_fallbacks(2);
        for node in [A, B] {
            get.on_reply(node, GetReply::Failed(Failure::Down));
        }
        get.on_reply(C, GetReply::Uncounted(Object::new(), Failure::Amnesiac));
        for (slot, node) in [(0, F), (1, NodeId(10))] {
            assert!(get.substitute(seat(0, slot), node));
        }
        get.on_reply(F, GetReply::Object(written(1, 1)));
        let GetVerdict::Ask(questions) = get.on_reply(NodeId(10), nothing()) else {
            panic!("nobody is asked")
        };
        assert_eq!(questions, [Question { node: C, dots: vec![dot] }]);
        let reply = match is_silent {
            true => GetReply::Failed(Failure::Silent),
            false => GetReply::Uncounted(Object::new(), Failure::Amnesiac),
        };
        let GetVerdict::Answer(answer) = get.on_covered(C, reply, &[dot]) else { panic!("no answer") };
        assert_eq!(answer.versions().is_live(dot), is_silent);
    }
}

/// Without its answer what it said before is half of what is needed.
#[test]
fn who_does_not_say_what_became_of_a_version_does_not_count() {
    let (mut get, _) = disputed();
    assert_eq!(
        get.on_covered(A, GetReply::Failed(Failure::Silent), &[]),
        GetVerdict::Wait,
        "it was not asked"
    );
    assert_eq!(get.on_covered(B, GetReply::Failed(Failure::Silent), &[]), GetVerdict::Wait);
    let verdict = get.on_reply(C, GetReply::Object(written(1, 1)));
    assert!(matches!(verdict, GetVerdict::Answer(_)), "two of three");
    let (mut get, _) = disputed();
    assert!(matches!(get.on_deadline(), GetVerdict::Fail(_)));
}

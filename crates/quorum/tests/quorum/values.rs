//! Gets in which replicas leave out large values.

use gramme_object::Content;

use super::*;

const V: Dot = Dot::new(Actor(1), 1);

/// A version that has a value, and one that A, B and C hold when they hold it all.
fn full(dot: Dot) -> Object {
    let content = Some(Content::from_body(&[dot.actor.0 as u8; 100]));
    let sibling = Sibling { stamp: Stamp(dot.counter), write_id: dot.actor.0, expires: None, content };
    Object::from_write(&Context::new(), dot, sibling)
}

fn withheld(object: &Object) -> (GetReply, Beside) {
    let (hollow, withheld) = object.withhold(8);
    (GetReply::Object(hollow), Beside { withheld, ..Beside::default() })
}

fn hear_withheld(get: &mut GetRequest, from: NodeId, object: &Object) -> GetVerdict {
    let (reply, beside) = withheld(object);
    get.on_reply_with(from, reply, beside)
}

/// Whether each version has its real value.
fn is_whole(object: &Object) -> bool {
    object
        .siblings()
        .iter()
        .all(|(dot, sibling)| Some(sibling) == full(*dot).siblings().first().map(|(_, s)| s))
}

fn ask(node: NodeId, dots: &[Dot]) -> GetVerdict {
    GetVerdict::AskValues(vec![Question { node, dots: dots.to_vec() }])
}

#[test]
fn a_value_that_comes_from_one_is_asked_of_nobody() {
    let mut get = GetRequest::new(&of(2), 0);
    assert_eq!(hear_withheld(&mut get, B, &full(V)), GetVerdict::Wait);
    assert_eq!(hear_withheld(&mut get, C, &full(V)), GetVerdict::WaitForValue);
    assert_eq!(get.on_reply(A, GetReply::Object(full(V))), GetVerdict::Answer(full(V)));
    assert!(get.is_complete() && get.repairs().is_empty());
}

#[test]
fn a_value_that_does_not_come_is_asked_for_after_a_while() {
    let mut get = GetRequest::new(&of(2), 0);
    hear_withheld(&mut get, B, &full(V));
    assert_eq!(hear_withheld(&mut get, C, &full(V)), GetVerdict::WaitForValue);
    assert_eq!(get.on_patience_over(), ask(B, &[V]));
    assert_eq!(get.on_values(B, GetReply::Object(full(V)), &[]), GetVerdict::Answer(full(V)));
}

#[test]
fn it_is_asked_for_at_once_when_nobody_else_can_bring_it() {
    let mut get = GetRequest::new(&of(2), 0);
    hear_withheld(&mut get, B, &full(V));
    hear_withheld(&mut get, C, &full(V));
    assert_eq!(get.on_reply(A, GetReply::Failed(Failure::Busy)), ask(B, &[V]));
    // Who does not answer that has answered nothing: the next is asked, and there are too few.
    let verdict = get.on_values(B, GetReply::Failed(Failure::Silent), &[]);
    assert!(matches!(verdict, GetVerdict::Fail(_)), "{verdict:?}");
}

#[test]
fn the_next_is_asked_if_one_does_not_answer() {
    let mut get = GetRequest::new(&of(1), 0);
    hear_withheld(&mut get, B, &full(V));
    hear_withheld(&mut get, C, &full(V));
    assert_eq!(get.on_patience_over(), ask(B, &[V]));
    assert_eq!(get.on_values(B, GetReply::Failed(Failure::Silent), &[]), ask(C, &[V]));
    assert_eq!(get.on_values(C, GetReply::Object(full(V)), &[]), GetVerdict::Answer(full(V)));
}

/// The owner that was to send it hangs, and so does the first of the others.
#[test]
fn the_next_is_asked_while_one_is_slow() {
    let mut get = GetRequest::new(&of(1), 0);
    hear_withheld(&mut get, B, &full(V));
    hear_withheld(&mut get, C, &full(V));
    assert_eq!(get.on_patience_over(), ask(B, &[V]));
    assert_eq!(get.on_patience_over(), ask(C, &[V]));
    assert_eq!(get.on_patience_over(), GetVerdict::Wait, "nobody is left to ask");
    assert_eq!(get.on_values(C, GetReply::Object(full(V)), &[]), GetVerdict::Answer(full(V)));
    assert!(!get.is_complete(), "A has not been heard");
    assert_eq!(get.on_deadline(), GetVerdict::Finished);
}

/// It was deleted between the two answers, and the delete forgotten.
#[test]
fn a_value_that_was_forgotten_meanwhile_is_no_failure() {
    let mut get = GetRequest::new(&of(2), 0);
    hear_withheld(&mut get, B, &full(V));
    hear_withheld(&mut get, C, &full(V));
    assert_eq!(get.on_reply(A, GetReply::Failed(Failure::Busy)), ask(B, &[V]));
    let verdict = get.on_values(B, nothing(), &[V]);
    let GetVerdict::Answer(answer) = verdict else { panic!("{verdict:?}") };
    assert!(answer.versions().is_empty() && answer.context().covers(V));
}

/// It was replaced between the two answers.
#[test]
fn what_replaced_a_value_meanwhile_is_shown() {
    let (mut get, next) = (GetRequest::new(&of(1), 0), Dot::new(Actor(2), 1));
    hear_withheld(&mut get, B, &full(V));
    get.on_patience_over();
    let mut newer = full(next);
    newer.merge(&Object::from_write(&[V].into_iter().collect(), next, full(next).siblings()[0].1.clone()));
    let GetVerdict::Answer(answer) = get.on_values(B, GetReply::Object(newer), &[V]) else {
        panic!("no answer")
    };
    assert_eq!(answer.versions().dots().collect::<Vec<_>>(), [next]);
    assert!(is_whole(&answer));
}

/// A replica lost the row between the two answers.
#[test]
fn a_value_that_is_gone_is_not_shown_as_an_empty_one() {
    let mut get = GetRequest::new(&of(1), 0);
    hear_withheld(&mut get, B, &full(V));
    get.on_patience_over();
    assert_eq!(get.on_values(B, nothing(), &[]), GetVerdict::Wait);
    assert_eq!(get.on_reply(A, nothing()), GetVerdict::Answer(Object::new()));
}

#[test]
fn a_repair_brings_a_value_that_was_asked_for() {
    let mut get = GetRequest::new(&of(1), 0);
    assert_eq!(get.on_reply(A, nothing()), GetVerdict::Answer(Object::new()));
    hear_withheld(&mut get, B, &full(V));
    assert_eq!(hear_withheld(&mut get, C, &full(V)), ask(B, &[V]));
    assert!(!get.is_complete());
    assert_eq!(get.on_values(B, GetReply::Object(full(V)), &[]), GetVerdict::Finished);
    assert_eq!(get.repairs(), [gramme_quorum::Repair { node: A, seat: seat(0, 0), object: full(V) }]);
}

#[test]
fn a_repair_without_its_value_is_not_made() {
    let mut get = GetRequest::new(&of(1), 0);
    get.on_reply(A, nothing());
    hear_withheld(&mut get, B, &full(V));
    assert_eq!(hear_withheld(&mut get, C, &full(V)), ask(B, &[V]));
    assert_eq!(get.on_deadline(), GetVerdict::Finished);
    assert!(get.repairs().iter().all(|repair| is_whole(&repair.object)));
}

/// What one holds, of four versions; whether it counts; whether it leaves out values; whether it answers when asked.
type Replica = (u8, bool, bool, bool);

fn versions(bits: u8) -> Object {
    let mut object = Object::new();
    (0..4).filter(|at| bits >> at & 1 == 1).for_each(|at| object.merge(&full(Dot::new(Actor(at + 1), 1))));
    object
}

fn reply(object: Object, counts: bool) -> GetReply {
    if counts { GetReply::Object(object) } else { GetReply::Uncounted(object, Failure::Amnesiac) }
}

proptest! {
    /// Whoever holds what, leaves out what, counts or not, answers or not, and when: nothing is shown or sent without its
    /// value, no request waits for ever, and what a counted replica held is in the answer.
    #[test]
    fn no_value_is_empty(
        replicas in prop::array::uniform3((0_u8..16, prop::bool::weighted(0.8), any::<bool>(), any::<bool>())),
        order in Just(vec![A, B, C]).prop_shuffle(),
        need in 1_u8..=3,
        patience_after in 0_usize..4,
    ) {
        let of_node = |node: NodeId| -> Replica { replicas[node.0 as usize - 1] };
        let told = |node| match of_node(node) {
            (bits, counts, _, true) => reply(versions(bits), counts),
            _ => GetReply::Failed(Failure::Silent),
        };
        let mut get = GetRequest::new(&of(need), 0);
        let mut shown = None;
        let mut queue: Vec<GetVerdict> = Vec::new();
        for (at, node) in order.into_iter().enumerate() {
            if at == patience_after {
                queue.push(get.on_patience_over());
            }
            let (bits, counts, leaves_out, _) = of_node(node);
            let (mut object, mut beside) = (versions(bits), Beside::default());
            if leaves_out {
                (object, beside.withheld) = object.withhold(8);
            }
            queue.push(get.on_reply_with(node, reply(object, counts), beside));
            while let Some(verdict) = queue.pop() {
                match verdict {
                    GetVerdict::Ask(questions) => for Question { node, .. } in questions {
                        queue.push(get.on_covered(node, told(node), &[]));
                    },
                    GetVerdict::AskValues(questions) => for Question { node, .. } in questions {
                        queue.push(get.on_values(node, told(node), &[]));
                    },
                    GetVerdict::Answer(object) => {
                        prop_assert!(shown.replace(object).is_none());
                    }
                    _ => {}
                }
            }
        }
        if let GetVerdict::Answer(object) = get.on_deadline() {
            shown = Some(object);
        }
        prop_assert!(get.is_answered() && get.is_complete());
        prop_assert!(shown.iter().all(is_whole), "shown: {shown:?}");
        for repair in get.repairs() {
            prop_assert!(is_whole(&repair.object));
        }
    }
}

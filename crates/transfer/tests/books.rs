//! What counts, and what does not.

use gramme_ring::{Layout, Member, Move, NodeId, PartitionId, Roster, Step};
use gramme_transfer::{Arrivals, Departures, Report, Stages};

const P: PartitionId = PartitionId { prefix: 0, depth: 0 };
const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const C: NodeId = NodeId(3);
const D: NodeId = NodeId(4);
const SECOND: u64 = 1_000_000;

fn settled() -> Layout {
    let members = (1..=4).map(|id| Member::new(NodeId(id))).collect();
    Layout::new(1, 0, 3, members, &[0, 1, 2]).expect("sound")
}

fn after(layout: &Layout, change: Move) -> Layout {
    layout.after(&Step { moves: vec![(0, change)], ..layout.step() }).expect("it follows")
}

/// From A, B, C to B, C, D.
fn joining() -> Layout {
    after(&settled(), Move::Begin(vec![B, C, D]))
}

fn arrivals(me: NodeId, layout: &Layout) -> Arrivals {
    let mut arrivals = Arrivals::default();
    arrivals.on_layout(me, layout);
    arrivals
}

#[test]
fn a_new_owner_needs_everything_of_enough_old_ones_and_of_all_that_are_there() {
    let layout = joining();
    let mut arrivals = arrivals(D, &layout);
    let wanted = |arrivals: &Arrivals, of: NodeId| arrivals.wanted(of, |node, _| node != C) == [P];
    assert!(wanted(&arrivals, A) && !wanted(&arrivals, B), "at first of A alone, which goes");
    assert!(arrivals.wanted(B, |node, _| node != A) == [P] || arrivals.wanted(C, |node, _| node != A) == [P]);
    arrivals.on_taken(P, A, layout.rank());
    assert!(!wanted(&arrivals, A) && wanted(&arrivals, B) && !wanted(&arrivals, D));
    let complete = |arrivals: &Arrivals, away: &[NodeId]| {
        !arrivals.complete(layout.rank(), |node, _| !away.contains(&node)).is_empty()
    };
    assert!(!complete(&arrivals, &[B, C]), "one of three may miss a write that the other two have");
    arrivals.on_taken(P, B, layout.rank());
    assert!(complete(&arrivals, &[C]));
    assert!(!complete(&arrivals, &[]), "C is there, and may have what nobody else has");
    arrivals.on_taken(P, C, layout.rank());
    assert!(complete(&arrivals, &[]));
    arrivals.on_lost();
    assert!(!complete(&arrivals, &[A, B, C]));
}

#[test]
fn an_old_owner_that_stays_counts_itself_once_it_is_fenced() {
    let layout = joining();
    let mut arrivals = arrivals(B, &layout);
    assert!(arrivals.wanted(B, |_, _| true).is_empty() && arrivals.wanted(C, |_, _| true) == [P]);
    arrivals.on_taken(P, A, layout.rank());
    assert_eq!(arrivals.complete(settled().rank(), |node, _| node != C), []);
    assert_eq!(arrivals.complete(layout.rank(), |node, _| node != C), [P]);
}

#[test]
fn a_copy_of_before_the_fence_or_of_another_change_does_not_count() {
    let layout = joining();
    let mut arrivals = arrivals(D, &layout);
    for source in [A, B, C] {
        arrivals.on_taken(P, source, settled().rank());
    }
    assert_eq!(arrivals.complete(layout.rank(), |_, _| true), []);
    for source in [A, B, C] {
        arrivals.on_taken(P, source, layout.rank());
    }
    let again = after(&after(&layout, Move::Abort), Move::Begin(vec![B, C, D]));
    arrivals.on_layout(D, &again);
    assert_eq!(arrivals.complete(again.rank(), |_, _| true), [], "it was written in between");
    assert_eq!(arrivals.wanted(A, |_, _| true), [P]);
}

#[test]
fn what_is_left_is_handed_to_more_than_half_and_only_once_it_is_settled() {
    let leaving = after(&joining(), Move::Next);
    let mut departures = Departures::default();
    departures.on_layout(&leaving, [P].into_iter());
    assert_eq!(departures.due(0, |_| true), []);
    let layout = after(&leaving, Move::Next);
    departures.on_layout(&layout, [P].into_iter());
    assert_eq!(departures.due(0, |node| node != C), [(P, B), (P, D)]);
    assert_eq!(departures.due(SECOND, |_| true), [(P, C)], "the others were asked a moment ago");
    departures.on_failed(P, C, 2 * SECOND);
    assert_eq!(departures.due(2 * SECOND, |_| true), [(P, C)]);
    let epoch = layout.rank();
    assert!(!departures.on_done(P, B, epoch) && !departures.on_done(P, B, epoch), "one, twice");
    assert!(!departures.on_done(P, A, epoch), "A owns nothing of it");
    assert!(!departures.on_done(P, D, leaving.rank()), "asked before it was settled");
    assert!(departures.on_done(P, D, epoch));
    assert_eq!(departures.due(1_000 * SECOND, |_| true), []);
}

fn report(layout: &Layout, is_complete: bool) -> Report {
    let complete = is_complete.then_some(P).into_iter().collect();
    Report { layout: layout.rank(), complete, ..Report::default() }
}

#[test]
fn a_partition_goes_on_when_all_that_are_there_have_done_their_part() {
    let layout = joining();
    let mut stages = Stages::default();
    let next = |stages: &Stages, away: &[NodeId], now| {
        let step = stages.next(now, &layout, |node| !away.contains(&node))?;
        Some(step.moves)
    };
    stages.on_report(0, A, report(&layout, false));
    stages.on_report(0, B, report(&layout, true));
    stages.on_report(0, C, report(&settled(), false));
    stages.on_report(0, D, report(&layout, true));
    assert_eq!(next(&stages, &[], 0), None, "C is there, and still takes requests of before");
    assert_eq!(next(&stages, &[C], 0), Some(vec![(0, Move::Next)]));
    assert_eq!(next(&stages, &[C], 5 * SECOND), None, "nobody has said anything for a while");
    assert_eq!(
        next(&stages, &[B, C, D], 0),
        Some(vec![(0, Move::Next)]),
        "they are enough, whether they are there or not"
    );
    stages.on_report(0, B, Report { uncounted: [P].into(), ..report(&layout, true) });
    assert_eq!(next(&stages, &[C], 0), None, "A alone is fenced, and D alone complete");
    stages.on_report(0, C, report(&layout, true));
    assert_eq!(next(&stages, &[], 0), Some(vec![(0, Move::Next)]), "B counts for nothing, and stops nobody");
}

#[test]
fn a_member_goes_when_it_has_nothing_left() {
    let roster = Roster { leaving: vec![D], ..settled().roster().clone() };
    let layout = settled().after(&Step { roster: Some(roster), ..settled().step() }).expect("it follows");
    let mut stages = Stages::default();
    stages.on_report(0, D, Report { keeps: true, ..report(&layout, false) });
    assert_eq!(stages.next(0, &layout, |_| true), None);
    stages.on_report(0, D, report(&settled(), false));
    assert_eq!(stages.next(0, &layout, |_| true), None, "it does not know yet that it is to go");
    stages.on_report(0, D, report(&layout, false));
    let roster = stages.next(0, &layout, |_| true).and_then(|step| step.roster).expect("it may go");
    assert_eq!((roster.members.len(), roster.leaving, roster.removed), (3, vec![], vec![D]));
}

/// A read may ask for one owner alone, and that may be the one which has nothing.
#[test]
fn a_new_owner_is_waited_for_wherever_it_is_and_an_old_one_is_not() {
    let layout = joining();
    let mut stages = Stages::default();
    for node in [A, B, C] {
        stages.on_report(0, node, report(&layout, true));
    }
    assert_eq!(stages.next(0, &layout, |node| node != D), None);
    stages.on_report(0, D, report(&layout, true));
    assert!(stages.next(0, &layout, |_| true).is_some());
    let mut stages = Stages::default();
    for node in [A, B, D] {
        stages.on_report(0, node, report(&layout, true));
    }
    assert!(stages.next(0, &layout, |node| node != C).is_some(), "it has what it had before");
}

//! What may be planned, and what not.

use gramme_replica::{ClientRequest, Input, PlanChange, PlanCommand, PlanError, PlanView, Response, Ticket};
use gramme_ring::{Member, Move, NodeId};

use crate::bench::*;

fn stage(bench: &mut Bench, change: PlanChange) -> Result<PlanView, PlanError> {
    bench.replies.clear();
    let request = ClientRequest::Plan(PlanCommand::Stage(vec![change]));
    bench.step(Input::Client { ticket: Ticket(1), request });
    match bench.answer() {
        Response::Plan(result) => result,
        other => panic!("{other:?}"),
    }
}

/// A slip of the pen must not become a member that has a vote and never answers.
#[test]
fn only_who_has_joined_is_added() {
    let mut bench = bench(3);
    let add = PlanChange::Add(Member::new(NodeId(9)));
    assert_eq!(stage(&mut bench, add.clone()), Err(PlanError::NotJoined(NodeId(9))));
    let replace = PlanChange::Replace { old: B, new: NodeId(9) };
    assert_eq!(stage(&mut bench, replace), Err(PlanError::NotJoined(NodeId(9))));
    let admit = ClientRequest::Admit { node: NodeId(9), addresses: vec!["127.0.0.1:9".to_owned()] };
    bench.step(Input::Client { ticket: Ticket(1), request: admit });
    bench.commit_all();
    assert_eq!(stage(&mut bench, add).map(|view| view.changes.len()), Ok(1));
}

#[test]
fn only_who_owns_nothing_is_forgotten() {
    let mut bench = bench(4);
    let gone = NodeId(4);
    assert_eq!(stage(&mut bench, PlanChange::Forget(gone)), Err(PlanError::Owns(gone)));
    assert_eq!(stage(&mut bench, PlanChange::Forget(NodeId(9))), Err(PlanError::NoMember(NodeId(9))));
    let layout = bench.replica.layout().clone();
    let owned = layout.partitions().filter(|partition| layout.is_holder(*partition, gone));
    let rest = vec![NodeId(1), NodeId(2), NodeId(3)];
    let moves: Vec<_> = owned.map(|partition| (partition.prefix, Move::Begin(rest.clone()))).collect();
    let next = |to: Move| moves.iter().map(|(prefix, _)| (*prefix, to.clone())).collect();
    for moves in [moves.clone(), next(Move::Next), next(Move::Next)] {
        let layout = bench.after(moves);
        bench.tell_layout(B, layout);
        bench.commit_all();
    }
    let view = stage(&mut bench, PlanChange::Forget(gone)).expect("it owns nothing");
    assert_eq!((view.nodes.len(), view.copies), (3, 0));
}

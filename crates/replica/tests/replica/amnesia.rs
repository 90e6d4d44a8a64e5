//! When a node that lost data counts again: not before nothing can be missing.

use gramme_object::{Content, Object, Sibling, Stamp};
use gramme_replica::{ClientRequest, Input, Response, Ticket};
use gramme_ring::{NodeId, PartitionId};
use gramme_vclock::{Actor, Context, Dot, SeenSet};
use gramme_wire::PeerMessage;
use gramme_wire::peer::{Hello, LeavesReply, PartitionLeaves, RangeReply, RootsReply, Seen, Status, Sum};

use crate::bench::*;
use crate::peers::*;

/// A node that has lost data, is connected to both others, and has heard from them that they keep nothing for it.
pub(crate) fn forgetful() -> Bench {
    let mut bench = bench(3);
    bench.connect();
    bench.lose();
    bench
}

impl Bench {
    fn says_that_it_keeps(&mut self, from: NodeId, keeps_for: &[NodeId]) {
        let (properties, answers, keeps_for) = (self.digest(), self.replica.boot(), keeps_for.to_vec());
        let (answers_losses, wall) = (self.replica.stats().losses, WALL + self.now);
        let hello = Hello { properties, answers, answers_losses, keeps_for, wall, ..greeting() };
        self.step(Input::Message { from, id: 1, message: PeerMessage::Hello(hello) });
    }

    /// Lets time pass, and says which nodes it has asked for their roots meanwhile, under which numbers.
    fn asked_for_roots(&mut self, micros: u64) -> Vec<(NodeId, u64)> {
        let until = self.now + micros;
        self.sent.clear();
        while self.timer <= until {
            self.now = self.timer.max(self.now + 1);
            self.step(Input::Timer);
        }
        let roots = self.sent.iter().filter(|(.., message)| matches!(message, PeerMessage::Roots(_)));
        roots.map(|(to, id, _)| (*to, *id)).collect()
    }

    fn answer_roots(&mut self, (from, id): (NodeId, u64), roots: Vec<(PartitionId, Sum)>) {
        self.answer_roots_without((from, id), roots, Vec::new());
    }

    fn answer_roots_without(
        &mut self,
        (from, id): (NodeId, u64),
        roots: Vec<(PartitionId, Sum)>,
        uncounted: Vec<PartitionId>,
    ) {
        let seen =
            |partition| Seen { partition, life: header(Status::DoneSynced).life, dots: SeenSet::new() };
        let seen = self.replica.layout().partitions().map(seen).collect();
        let reply = RootsReply { is_same: roots.is_empty(), roots, uncounted, seen, fenced: (1, 1) };
        self.step(Input::Message { from, id, message: PeerMessage::RootsReply(reply) });
    }

    fn amnesiac(&self) -> u64 {
        self.replica.stats().amnesiac_partitions
    }
}

#[test]
fn a_node_counts_again_when_both_others_have_been_compared_with() {
    let mut bench = forgetful();
    [B, C].into_iter().for_each(|node| bench.says_that_it_keeps(node, &[]));
    let asked = bench.asked_for_roots(3 * SECOND);
    assert_eq!(asked.iter().map(|(node, _)| *node).collect::<Vec<_>>(), [B, C]);
    bench.answer_roots(asked[0], Vec::new());
    assert_eq!(bench.amnesiac(), 8, "one of two");
    bench.answer_roots(asked[1], Vec::new());
    assert_eq!(bench.amnesiac(), 0);
    // And so it is after the next start.
    bench.commit_all();
    assert_eq!(started(3, bench.disk.clone(), BOUNDS).amnesiac(), 0);
}

#[test]
fn what_others_keep_for_it_comes_first() {
    let mut bench = forgetful();
    bench.says_that_it_keeps(B, &[]);
    // Not for this node even: what the other owner lacks this one may lack as well.
    bench.says_that_it_keeps(C, &[B]);
    for asked in bench.asked_for_roots(3 * SECOND) {
        bench.answer_roots(asked, Vec::new());
    }
    // What was compared before that was drained proves nothing.
    bench.now += 1;
    bench.says_that_it_keeps(C, &[]);
    assert_eq!(bench.amnesiac(), 8);
    let mut status = Vec::new();
    for keeps_for in [&[ME][..], &[]] {
        bench.says_that_it_keeps(C, keeps_for);
        bench.replies.clear();
        bench.step(Input::Client { ticket: Ticket(90), request: ClientRequest::Status });
        let Response::Status(of) = bench.answer() else { panic!("a status") };
        status.push((of.amnesiac, of.waits_for));
    }
    assert_eq!(status, [(8, vec![C]), (8, Vec::new())]);
    for asked in bench.asked_for_roots(20 * SECOND) {
        bench.answer_roots(asked, Vec::new());
    }
    assert_eq!(bench.amnesiac(), 0);
}

#[test]
fn whoever_counts_for_nothing_itself_proves_nothing() {
    let mut bench = forgetful();
    [B, C].into_iter().for_each(|node| bench.says_that_it_keeps(node, &[]));
    let asked = bench.asked_for_roots(3 * SECOND);
    let partition = bench.partition();
    bench.answer_roots_without(asked[0], Vec::new(), vec![partition]);
    bench.answer_roots(asked[1], Vec::new());
    assert_eq!(bench.amnesiac(), 1);
}

/// A partition that differs is whole when its leaves are, and these are when all that came was taken.
#[test]
fn what_is_missing_must_be_taken_first() {
    for is_taken in [true, false] {
        let mut bench = forgetful();
        [B, C].into_iter().for_each(|node| bench.says_that_it_keeps(node, &[]));
        let asked = bench.asked_for_roots(3 * SECOND);
        bench.answer_roots(asked[1], Vec::new());
        let (partition, sum) = (bench.partition(), Sum { count: 1, sum: 5 });
        bench.answer_roots(asked[0], vec![(partition, sum)]);
        assert_eq!(bench.amnesiac(), 1, "the others are the same");
        let number = gramme_merkle::leaf_of(KEYSPACE.hash(key().as_bytes()).0 << partition.depth, 6);
        let id = bench.last_id("Leaves");
        let leaves = vec![PartitionLeaves { partition, life: 0, leaves: vec![(number, sum)] }];
        bench.step(Input::Message { from: B, id, message: PeerMessage::LeavesReply(LeavesReply { leaves }) });
        let is_range = |message: &PeerMessage| matches!(message, PeerMessage::Range(_));
        assert!(
            !bench.sent.iter().any(|(.., message)| is_range(message)),
            "rows are read with all that was staged"
        );
        bench.commit_all();
        let id = bench.last_id("Range");
        let content = Some(Content::from_body(b"v"));
        let sibling = Sibling { stamp: Stamp::at_millis(WALL / 1_000), write_id: 1, expires: None, content };
        let object = Object::from_write(&Context::new(), Dot::new(Actor(9), 1), sibling);
        let stored = if is_taken { object.encode().into() } else { "damaged".into() };
        let reply = RangeReply {
            header: header(Status::DoneSynced),
            objects: vec![(key(), stored)],
            wants: Vec::new(),
            through: u64::MAX,
            is_damaged: false,
        };
        bench.step(Input::Message { from: B, id, message: PeerMessage::RangeReply(reply) });
        assert_eq!(bench.amnesiac(), 1, "nothing of it is durable yet");
        bench.commit_all();
        assert_eq!(bench.amnesiac(), u64::from(!is_taken));
        assert_eq!(bench.objects.contains_key(&key()), is_taken);
    }
}

#[test]
fn a_second_loss_begins_anew() {
    let mut bench = forgetful();
    [B, C].into_iter().for_each(|node| bench.says_that_it_keeps(node, &[]));
    let asked = bench.asked_for_roots(3 * SECOND);
    bench.answer_roots(asked[0], Vec::new());
    let told = bench.says(C);
    let beyond = bench.remembered(&told, 100);
    bench.greet(C, Some(beyond), WALL);
    // The answer to a question from before the loss, and others that have not spoken since.
    bench.answer_roots(asked[1], Vec::new());
    assert_eq!(bench.amnesiac(), 8);
}

#[test]
fn an_administrator_may_accept_the_loss() {
    let mut bench = forgetful();
    // B has said that it keeps nothing for anybody, and all was compared with it.
    bench.says_that_it_keeps(B, &[]);
    let losses = |bench: &mut Bench, request| {
        bench.replies.clear();
        bench.step(Input::Client { ticket: Ticket(90), request });
        match bench.answer() {
            Response::Losses(losses) => losses,
            other => panic!("{other:?}"),
        }
    };
    let shown = losses(&mut bench, ClientRequest::Losses);
    assert_eq!((shown.len(), bench.amnesiac()), (8, 8));
    assert!(shown.iter().all(|loss| loss.may_keep == [C] && loss.not_compared == [B, C]), "{shown:?}");
    assert_eq!(losses(&mut bench, ClientRequest::AcceptLoss), shown);
    assert_eq!(bench.amnesiac(), 0);
    assert_eq!(losses(&mut bench, ClientRequest::AcceptLoss), []);
    bench.commit_all();
    assert_eq!(started(3, bench.disk.clone(), BOUNDS).amnesiac(), 0);
}

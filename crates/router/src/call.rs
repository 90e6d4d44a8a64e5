//! One client's request as a value: whom to ask next, when to ask a second node as well, and what came of it.
//!
//! The rules for attempts, hedges and unknown outcomes are few and easily got wrong: a node that was hedged to
//! is asked again when the first one fails, every attempt hedges anew, a write goes out twice. So they stand
//! here once, without clock or network; the client sends and sleeps, and the simulator schedules.

use gramme_ring::NodeId;

use crate::{Operation, Outcome, Router};

/// Nodes that one request is asked of at the most.
pub const ATTEMPTS: usize = 3;

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send the request to this node.
    Ask(NodeId),
    /// Wait for an outcome; if none has come by this time (microseconds), ask what to do next.
    Wait {
        /// When, if at all.
        until: Option<u64>,
    },
    /// It has ended.
    Done(Verdict),
}

/// How a request has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// This node has answered it.
    Answered(NodeId),
    /// Nobody has done it, and this node, the last one that was heard, has said why.
    Refused(NodeId),
    /// Nobody has done it, and nobody was reached.
    Unreachable,
    /// It had left, and no answer came.
    Unknown,
}

/// A request under way.
///
/// ```
/// use gramme_ring::NodeId;
/// use gramme_router::{Call, Operation, Outcome, Router, Step, Verdict};
/// # use gramme_ring::{plan, Member, PlanRequest};
/// # let members: Vec<_> = (1..=3).map(|id| Member::new(NodeId(id))).collect();
/// # let planned = plan(&PlanRequest { members: &members, replicas: 3, depth: 4, previous: None })?;
/// let mut router = Router::new(planned.layout);
/// let mut call = Call::new(Operation::Write, vec![NodeId(1), NodeId(2), NodeId(3)]);
/// assert_eq!(call.next(&mut router, 0), Step::Ask(NodeId(1)));
/// // It could not, and nothing was changed: the next one may.
/// call.on_outcome(&mut router, NodeId(1), Outcome::Unable, 10);
/// assert_eq!(call.next(&mut router, 10), Step::Ask(NodeId(2)));
/// // No answer came: a write is never sent twice.
/// call.on_outcome(&mut router, NodeId(2), Outcome::Unknown, 20);
/// assert_eq!(call.next(&mut router, 20), Step::Done(Verdict::Unknown));
/// # Ok::<(), gramme_ring::PlanError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Call {
    operation: Operation,
    /// Nodes not yet asked, the next one last.
    others: Vec<NodeId>,
    /// Nodes that were asked and have not answered.
    open: Vec<NodeId>,
    /// When a second node may be asked as well.
    hedge_at: Option<u64>,
    is_hedged: bool,
    is_unknown: bool,
    refused_by: Option<NodeId>,
    verdict: Option<Verdict>,
}

impl Call {
    /// A request that the first [`ATTEMPTS`] of these nodes may be asked, in this order, each once.
    #[must_use]
    pub fn new(operation: Operation, mut candidates: Vec<NodeId>) -> Self {
        candidates.truncate(ATTEMPTS);
        candidates.reverse();
        Self {
            operation,
            others: candidates,
            open: Vec::new(),
            hedge_at: None,
            is_hedged: false,
            is_unknown: false,
            refused_by: None,
            verdict: None,
        }
    }

    /// What to do now.
    pub fn next(&mut self, router: &mut Router, now: u64) -> Step {
        if let Some(verdict) = self.verdict {
            return Step::Done(verdict);
        }
        if self.open.is_empty() {
            return self.ask_next(router, now);
        }
        match self.hedge_at {
            Some(at) if at <= now => {
                self.hedge_at = None;
                self.is_hedged = true;
                if router.try_hedge() { self.ask_next(router, now) } else { Step::Wait { until: None } }
            }
            until => Step::Wait { until },
        }
    }

    fn ask_next(&mut self, router: &Router, now: u64) -> Step {
        let Some(node) = self.others.pop() else { return Step::Done(self.conclude()) };
        self.open.push(node);
        let may_hedge = self.operation == Operation::Read && !self.is_hedged && !self.others.is_empty();
        self.hedge_at = router.hedge_after(node).filter(|_| may_hedge).map(|after| now.saturating_add(after));
        Step::Ask(node)
    }

    /// Tells it, and the router, how asking a node has ended.
    pub fn on_outcome(&mut self, router: &mut Router, node: NodeId, outcome: Outcome, now: u64) {
        let Some(at) = self.open.iter().position(|open| *open == node) else { return };
        self.open.remove(at);
        router.on_outcome(node, outcome, now);
        if self.verdict.is_some() {
            return;
        }
        match outcome {
            Outcome::Answered(_) => self.verdict = Some(Verdict::Answered(node)),
            Outcome::Busy | Outcome::Unable => self.refused_by = Some(node),
            Outcome::NotSent => {}
            Outcome::Unknown => self.is_unknown = true,
        }
        if self.verdict.is_none() && !outcome.may_retry(self.operation) {
            self.verdict = Some(self.conclude());
        }
    }

    /// Gives up: of whom was asked nothing will be heard.
    pub fn give_up(&mut self, router: &mut Router, now: u64) -> Verdict {
        while let Some(node) = self.open.first().copied() {
            self.on_outcome(router, node, Outcome::Unknown, now);
        }
        *self.verdict.get_or_insert(Verdict::Unknown)
    }

    /// Nodes that were asked and have not answered.
    #[must_use]
    pub fn open(&self) -> &[NodeId] {
        &self.open
    }

    fn conclude(&self) -> Verdict {
        match (self.is_unknown, self.refused_by) {
            (true, _) => Verdict::Unknown,
            (false, Some(node)) => Verdict::Refused(node),
            (false, None) => Verdict::Unreachable,
        }
    }
}

#[cfg(test)]
mod tests {
    use gramme_ring::{Member, PlanRequest, plan};

    use super::*;

    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);
    const C: NodeId = NodeId(3);

    fn router() -> Router {
        let members: Vec<_> = (1..=3).map(|id| Member::new(NodeId(id))).collect();
        let planned = plan(&PlanRequest { members: &members, replicas: 3, depth: 4, previous: None });
        let mut router = Router::new(planned.expect("a plan").layout);
        // Enough of a budget for hedges, and latencies to go by.
        (0..100).for_each(|_| router.on_outcome(A, Outcome::Answered(2_000), 0));
        router.on_outcome(B, Outcome::Answered(2_000), 0);
        router
    }

    fn hedged(router: &mut Router) -> (Call, u64) {
        let mut call = Call::new(Operation::Read, vec![A, B, C, NodeId(4)]);
        assert_eq!(call.next(router, 0), Step::Ask(A));
        let Step::Wait { until: Some(at) } = call.next(router, 0) else { panic!("a hedge") };
        assert_eq!(call.next(router, at - 1), Step::Wait { until: Some(at) });
        assert_eq!(call.next(router, at), Step::Ask(B));
        assert_eq!(call.next(router, at), Step::Wait { until: None }, "one hedge a request");
        (call, at)
    }

    #[test]
    fn a_slow_read_is_hedged_once_and_nobody_is_asked_twice() {
        let mut router = router();
        let (mut call, at) = hedged(&mut router);
        call.on_outcome(&mut router, B, Outcome::Busy, at);
        assert_eq!(call.next(&mut router, at), Step::Wait { until: None }, "the first may still answer");
        call.on_outcome(&mut router, A, Outcome::Unknown, at);
        assert_eq!(call.next(&mut router, at), Step::Ask(C), "not the one that was hedged to");
        assert_eq!(call.next(&mut router, at), Step::Wait { until: None });
        call.on_outcome(&mut router, C, Outcome::Unable, at);
        assert_eq!(call.next(&mut router, at), Step::Done(Verdict::Unknown));
    }

    #[test]
    fn the_first_answer_counts() {
        let mut router = router();
        let (mut call, at) = hedged(&mut router);
        call.on_outcome(&mut router, A, Outcome::Answered(5_000), at);
        assert_eq!(call.next(&mut router, at), Step::Done(Verdict::Answered(A)));
        call.on_outcome(&mut router, B, Outcome::Answered(9_000), at + 1);
        assert_eq!(call.next(&mut router, at + 1), Step::Done(Verdict::Answered(A)));
    }

    #[test]
    fn a_write_goes_on_only_where_nothing_was_begun() {
        let mut router = router();
        let mut call = Call::new(Operation::Write, vec![A, B, C]);
        for (node, outcome) in [(A, Outcome::NotSent), (B, Outcome::Busy), (C, Outcome::Unable)] {
            assert_eq!(call.next(&mut router, 0), Step::Ask(node));
            assert_eq!(call.next(&mut router, 0), Step::Wait { until: None }, "writes are not hedged");
            call.on_outcome(&mut router, node, outcome, 0);
        }
        assert_eq!(call.next(&mut router, 0), Step::Done(Verdict::Refused(C)));
        let mut nobody = Call::new(Operation::Write, vec![]);
        assert_eq!(nobody.next(&mut router, 0), Step::Done(Verdict::Unreachable));
    }

    #[test]
    fn what_is_given_up_is_unknown() {
        let mut router = router();
        let (mut call, at) = hedged(&mut router);
        assert_eq!(call.give_up(&mut router, at), Verdict::Unknown);
        assert!(call.open().is_empty());
    }
}

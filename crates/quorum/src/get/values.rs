//! Values that were left out of answers: whether all are here, whom to wait for, whom to ask.

use gramme_plant::planted;
use gramme_ring::NodeId;
use gramme_vclock::Dot;

use super::{Answer, GetReply, GetRequest, GetVerdict, Question};
use crate::Failure;
use crate::roll::{Heard, Member};

/// Whether a value is waited for that others have withheld.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// Not yet.
    New,
    /// It may come unasked.
    Waits,
    /// It is asked for.
    Over,
}

impl GetRequest {
    /// The same, of a replica that was asked for values: it says what it holds now, with all values.
    pub fn on_values(&mut self, from: NodeId, reply: GetReply, covered: &[Dot]) -> GetVerdict {
        self.on_told(from, reply, covered, true)
    }

    /// A value has not come for a while, unasked or asked for: another is asked.
    pub fn on_patience_over(&mut self) -> GetVerdict {
        self.patience = Patience::Over;
        if self.is_over || self.is_complete() {
            return GetVerdict::Wait;
        }
        if !self.is_fetching() {
            return self.verdict();
        }
        match self.value_questions() {
            questions if questions.is_empty() => GetVerdict::Wait,
            questions => GetVerdict::AskValues(questions),
        }
    }

    /// Whether to wait for a value that may come unasked.
    pub(super) fn wait_for_value(&mut self) -> Option<GetVerdict> {
        let may_come = !self.is_over && !self.roll.is_complete();
        let verdict = match self.patience {
            Patience::New => GetVerdict::WaitForValue,
            Patience::Waits => GetVerdict::Wait,
            Patience::Over => return None,
        };
        if may_come {
            self.patience = Patience::Waits;
        }
        may_come.then_some(verdict)
    }

    /// Whether each version that was heard of has its value.
    pub(super) fn has_values(&self) -> bool {
        planted!(ShowHollow)
            || self.answers().all(|(_, answer)| answer.withheld.is_empty())
            || self.hollow().is_empty()
    }

    /// Versions whose value everybody has withheld who holds them.
    fn hollow(&self) -> Vec<Dot> {
        let has =
            |answer: &Answer, dot| answer.object.versions().is_live(dot) && !answer.withheld.contains(&dot);
        let is_hollow = |dot: &Dot| !self.answers().any(|(_, answer)| has(answer, *dot));
        self.merged().versions().dots().filter(is_hollow).collect()
    }

    /// Each value that is missing is asked of one who has withheld it and was not asked yet.
    pub(super) fn value_questions(&mut self) -> Vec<Question> {
        let mut hollow = self.hollow();
        let mut questions = Vec::new();
        for member in &mut self.roll.members {
            let Some(Heard::Answer(answer)) = &mut member.heard else { continue };
            let (dots, rest) = hollow
                .into_iter()
                .partition(|dot| answer.withheld.contains(dot) && !answer.asked.contains(dot));
            hollow = rest;
            if !Vec::is_empty(&dots) {
                answer.asked.extend(&dots);
                answer.fetching = answer.fetching.saturating_add(1);
                questions.push(Question { node: member.node, dots });
            }
        }
        questions
    }

    /// A replica does not hold a value any more that it spoke of, nor what replaced it: what it said is worth nothing.
    pub(super) fn give_up_hollow(&mut self, node: NodeId) {
        let members = self.roll.members.iter_mut().filter(|member| member.node == node);
        for member in members.filter(|member| is_hollow(member)) {
            member.heard = Some(Heard::Failure(Failure::Disk));
        }
    }

    /// Whether somebody was asked for values, and has not answered.
    pub(super) fn is_fetching(&self) -> bool {
        self.answers().any(|(_, answer)| answer.fetching > 0)
    }
}

/// Whether it holds a version whose value it has not sent.
pub(super) fn is_hollow(member: &Member<Answer>) -> bool {
    matches!(&member.heard, Some(Heard::Answer(answer)) if !answer.withheld.is_empty())
}

//! A get: ask all, answer at R, go on listening, and say what to repair.

use gramme_object::Object;
use gramme_ring::NodeId;

use crate::{Failure, ReplicaSet, Shortfall};

/// What one replica said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GetReply {
    /// All versions that it holds; an empty object if none.
    Object(Object),
    /// What an amnesiac replica holds: it may add to the answer, and does not count towards R.
    Amnesiac(Object),
    /// Nothing useful. A failed disk is here, never an empty object.
    Failed(Failure),
}

/// What to do after a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GetVerdict {
    /// Wait for more.
    Wait,
    /// Answer the client with this: all that was heard so far, merged.
    Answer(Object),
    /// Answer the client that it cannot be done any more.
    Fail(Shortfall),
    /// All have been heard (or given up); take [`GetRequest::repairs`] and forget the request.
    Finished,
}

/// A replica that lacks versions which another holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repair {
    /// The replica.
    pub node: NodeId,
    /// What it must merge.
    pub object: Object,
}

/// One get in progress.
///
/// ```
/// use gramme_object::Object;
/// use gramme_quorum::{GetReply, GetRequest, GetVerdict, ReplicaSet};
/// use gramme_ring::NodeId;
/// let members = vec![NodeId(1), NodeId(2), NodeId(3)];
/// let mut get = GetRequest::new(vec![ReplicaSet { members, need: 2 }]);
/// assert_eq!(get.on_reply(NodeId(1), GetReply::Object(Object::new())), GetVerdict::Wait);
/// let verdict = get.on_reply(NodeId(3), GetReply::Object(Object::new()));
/// assert_eq!(verdict, GetVerdict::Answer(Object::new()));
/// ```
#[derive(Clone, Debug)]
pub struct GetRequest {
    sets: Vec<ReplicaSet>,
    replies: Vec<(NodeId, GetReply)>,
    answered: bool,
}

impl GetRequest {
    /// A get over these replica sets; each must reach its own threshold.
    #[must_use]
    pub const fn new(sets: Vec<ReplicaSet>) -> Self {
        Self { sets, replies: Vec::new(), answered: false }
    }

    /// The replicas to ask, each once.
    #[must_use]
    pub fn members(&self) -> Vec<NodeId> {
        distinct_members(&self.sets)
    }

    /// Whether the client has its answer.
    #[must_use]
    pub const fn is_answered(&self) -> bool {
        self.answered
    }

    /// Whether nothing more can come: all have been heard.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.members().iter().all(|&node| self.has_heard(node))
    }

    /// Whether this replica has not been heard yet.
    #[must_use]
    pub fn awaits(&self, node: NodeId) -> bool {
        self.members().contains(&node) && !self.has_heard(node)
    }

    /// Tells it of a reply. A second reply of one replica, or one of a stranger, changes nothing.
    pub fn on_reply(&mut self, from: NodeId, reply: GetReply) -> GetVerdict {
        if !self.awaits(from) {
            return GetVerdict::Wait;
        }
        self.replies.push((from, reply));
        self.verdict()
    }

    /// Tells it that the deadline has passed: whoever has not answered is silent.
    pub fn on_deadline(&mut self) -> GetVerdict {
        for node in self.members() {
            if !self.has_heard(node) {
                self.replies.push((node, GetReply::Failed(Failure::Silent)));
            }
        }
        self.verdict()
    }

    /// Which replicas lack something that the others hold, of those that were heard.
    #[must_use]
    pub fn repairs(&self) -> Vec<Repair> {
        let merged = self.merged();
        let lacks = |object: &Object| !object.versions().dots().eq(merged.versions().dots());
        let repair = |(node, object): (NodeId, &Object)| {
            lacks(object).then(|| Repair { node, object: merged.clone() })
        };
        self.objects().filter_map(repair).collect()
    }

    fn verdict(&mut self) -> GetVerdict {
        let heard_all = self.members().iter().all(|&node| self.has_heard(node));
        if self.answered {
            return if heard_all { GetVerdict::Finished } else { GetVerdict::Wait };
        }
        #[cfg(gramme_planted)]
        if gramme_vclock::planted::is(gramme_vclock::planted::Plant::FirstReply)
            && !self.answered_by().is_empty()
        {
            self.answered = true;
            return GetVerdict::Answer(self.merged());
        }
        if self.sets.iter().all(|set| self.count(set, true) >= usize::from(set.need)) {
            self.answered = true;
            return GetVerdict::Answer(self.merged());
        }
        let hopeless = |set: &ReplicaSet| {
            let lost = self.count(set, false);
            set.members.len() - lost < usize::from(set.need)
        };
        if self.sets.iter().any(hopeless) {
            self.answered = true;
            return GetVerdict::Fail(self.shortfall());
        }
        GetVerdict::Wait
    }

    /// How many of the set's members have answered, or have failed.
    fn count(&self, set: &ReplicaSet, answered: bool) -> usize {
        let counts = |(node, reply): &&(NodeId, GetReply)| {
            set.members.contains(node) && matches!(reply, GetReply::Object(_)) == answered
        };
        self.replies.iter().filter(counts).count()
    }

    fn objects(&self) -> impl Iterator<Item = (NodeId, &Object)> {
        self.replies.iter().filter_map(|(node, reply)| match reply {
            GetReply::Object(object) | GetReply::Amnesiac(object) => Some((*node, object)),
            GetReply::Failed(_) => None,
        })
    }

    fn answered_by(&self) -> Vec<NodeId> {
        let answered = self.replies.iter().filter(|(_, reply)| matches!(reply, GetReply::Object(_)));
        answered.map(|(node, _)| *node).collect()
    }

    fn merged(&self) -> Object {
        let mut objects = self.objects().map(|(_, object)| object);
        let mut merged = objects.next().cloned().unwrap_or_default();
        objects.for_each(|object| merged.merge(object));
        merged
    }

    fn shortfall(&self) -> Shortfall {
        let failure = |node: &NodeId| match self.replies.iter().find(|(from, _)| from == node) {
            Some((_, GetReply::Object(_))) => None,
            Some((_, GetReply::Amnesiac(_))) => Some((*node, Failure::Amnesiac)),
            Some((_, GetReply::Failed(failure))) => Some((*node, *failure)),
            None => Some((*node, Failure::Silent)),
        };
        Shortfall {
            needed: self.sets.iter().map(|set| set.need).max().unwrap_or(0),
            answered: self.answered_by(),
            failed: self.members().iter().filter_map(failure).collect(),
        }
    }

    fn has_heard(&self, node: NodeId) -> bool {
        self.replies.iter().any(|(from, _)| *from == node)
    }
}

pub(crate) fn distinct_members(sets: &[ReplicaSet]) -> Vec<NodeId> {
    let mut members = Vec::new();
    for node in sets.iter().flat_map(|set| &set.members) {
        if !members.contains(node) {
            members.push(*node);
        }
    }
    members
}

//! Others that answer as a test says, while time passes.

use gramme_object::{Content, Key, Object, Sibling, Stamp};
use gramme_quorum::Seat;
use gramme_replica::{Bounds, Input};
use gramme_ring::{NodeId, PartitionId};
use gramme_vclock::{Actor, Context, Dot, SeenSet};
use gramme_wire::PeerMessage;
use gramme_wire::peer::{Repair, Roots, RootsReply, Seen, Sum, WriteReply};

use crate::bench::*;

pub(crate) const SECOND: u64 = 1_000_000;

pub(crate) fn leaf_of(key: &Key, partition: PartitionId) -> u32 {
    gramme_merkle::leaf_of(KEYSPACE.hash(key.as_bytes()).0 << partition.depth, 6)
}

pub(crate) fn value(dot: Dot) -> Object {
    let content = Some(Content::from_body(b"v"));
    let sibling = Sibling { stamp: Stamp::at_millis(WALL / 1_000), write_id: 1, expires: None, content };
    Object::from_write(&Context::new(), dot, sibling)
}

pub(crate) fn upto(actor: Actor, last: u64) -> SeenSet {
    let mut seen = SeenSet::new();
    seen.insert_range(actor, 1, last);
    seen
}

/// A start on the rows of another bench, some of which are damaged on the disk; its memory keeps none.
pub(crate) fn restarted(before: &Bench, damaged: &[&Key]) -> Bench {
    let mut bench = started(3, before.disk.clone(), Bounds { cached: 0, ..BOUNDS });
    bench.objects = before.objects.clone();
    bench.objects.extend(damaged.iter().map(|key| ((*key).clone(), UNREADABLE)));
    bench.prove();
    bench
}

/// A key that speaks of five dots of an actor of whom only the last, which is returned, was ever seen.
pub(crate) fn with_gap() -> (Bench, Dot) {
    let mut bench = bench(3);
    bench.connect();
    let dead = Dot::new(Actor(77), 5);
    let mut read = Context::new();
    read.raise(dead.actor, dead.counter);
    bench.write_from(B, dead, read);
    bench.commit_all();
    (bench, dead)
}

impl Bench {
    /// Another key of the same partition, in another leaf.
    pub(crate) fn beside(&self) -> Key {
        let partition = self.partition();
        let mut keys = (0..).map(|n| Key::new("default", "b", format!("x{n}")).expect("valid"));
        keys.find(|other| {
            self.replica.layout().partition_of(KEYSPACE.hash(other.as_bytes())) == partition
                && leaf_of(other, partition) != leaf_of(&key(), partition)
        })
        .expect("a key")
    }

    /// Hears that it has written more than it knows of: it has lost data.
    pub(crate) fn lose(&mut self) {
        let told = self.says(B);
        let beyond = self.remembered(&told, 100);
        self.greet(B, Some(beyond), WALL);
        self.commit_all();
        assert_eq!(self.replica.stats().amnesiac_partitions, 8);
    }

    pub(crate) fn state_from(
        &mut self,
        from: NodeId,
        id: u64,
        key: &Key,
        object: &Object,
    ) -> Option<WriteReply> {
        self.sent.clear();
        let (header, seat) = (self.header(), Seat::default());
        let repair = Repair { header, key: key.clone(), seat, object: object.encode().into() };
        self.step(Input::Message { from, id, message: PeerMessage::Repair(repair) });
        self.commit_all();
        self.sent.iter().find_map(|(_, sent, message)| match message {
            PeerMessage::WriteReply(reply) if *sent == id => Some(reply.clone()),
            _ => None,
        })
    }

    /// Lets time pass while the others answer as `answer` says.
    pub(crate) fn drive(
        &mut self,
        micros: u64,
        mut answer: impl FnMut(&Bench, NodeId, &PeerMessage) -> Option<PeerMessage>,
    ) {
        let until = self.now + micros;
        while self.now < until {
            let mut rounds = 0;
            while !self.sent.is_empty() && rounds < 50 {
                rounds += 1;
                for (to, id, message) in std::mem::take(&mut self.sent) {
                    if let Some(message) = answer(self, to, &message) {
                        self.step(Input::Message { from: to, id, message });
                    }
                }
                self.commit_all();
            }
            self.commit_all();
            self.now = self.timer.clamp(self.now + 1, self.now + SECOND);
            self.step(Input::Timer);
            self.greet(B, None, (WALL + self.now) - self.lag);
            self.greet(C, None, WALL + self.now);
        }
        self.commit_all();
    }

    pub(crate) fn sums(&self, partition: PartitionId) -> Vec<(u32, Sum)> {
        let leaves = &self.disk.partitions[&partition].leaves;
        let leaves = leaves.iter().filter(|(_, leaf)| leaf.count > 0);
        leaves.map(|(number, leaf)| (*number, Sum { count: leaf.count, sum: leaf.sum })).collect()
    }
}

pub(crate) fn same(roots: &Roots, dots: &SeenSet) -> PeerMessage {
    let seen = |&partition: &_| Seen { partition, life: 0, dots: dots.clone() };
    let seen = roots.seen_of.iter().map(seen).collect();
    PeerMessage::RootsReply(RootsReply {
        is_same: true,
        roots: Vec::new(),
        uncounted: Vec::new(),
        seen,
        fenced: (1, 1),
    })
}

pub(crate) fn put_row(bench: &mut Bench, key: &Key, object: &Object, id: u64) {
    bench.state_from(B, id, key, object).expect("an answer");
}

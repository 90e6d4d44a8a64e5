//! The rules by which a partition changes owners, against a model of it: with them no reader misses an acknowledged write, and
//! without any one of them some reader does.

mod model;

use model::Model;

/// A rule that is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// The new owners count as soon as it is decided: Riak's way.
    CountAtOnce,
    /// Replicas take requests of earlier decisions: Cassandra's way.
    TakeOldRequests,
    /// Readers are answered whatever they know.
    ServeOldReaders,
    /// A fence counts before it is synced.
    FenceUnsynced,
    /// A copy begins before its source is fenced.
    ScanUnfenced,
    /// A copy from one old owner is enough.
    OneSource,
    /// What was copied counts before it is synced.
    PushUnsynced,
    /// A copy that began under an earlier change goes on under the next.
    KeepCursor,
    /// Acknowledgements of an earlier decision count for the next.
    CarryAcknowledgements,
    /// A write is acknowledged before it is synced.
    AcknowledgeUnsynced,
    /// A replica that lost its disk counts.
    CountAmnesiac,
    /// An acknowledgement of a tenure that is over counts.
    CountDeadTenures,
    /// An old owner drops what it has when readers have left it, and the change is taken back.
    DropAtLeaving,
}

const STEPS: usize = 1_500;

/// The first thing that a reader would miss, and how many changes went through.
fn run(seed: u64, wrong: Option<Wrong>) -> (Option<String>, usize) {
    let mut model = Model::new(seed, wrong);
    let missed = (0..STEPS).find_map(|_| model.step());
    (missed, model.settled)
}

#[test]
fn no_reader_misses_an_acknowledged_write() {
    let mut settled = 0;
    for seed in 0..400 {
        let (missed, changes) = run(seed, None);
        assert_eq!(missed, None, "seed {seed}");
        settled += changes;
    }
    assert!(settled > 400, "only {settled} changes went through");
}

#[test]
fn each_rule_is_needed() {
    let all = [
        Wrong::CountAtOnce,
        Wrong::TakeOldRequests,
        Wrong::ServeOldReaders,
        Wrong::FenceUnsynced,
        Wrong::ScanUnfenced,
        Wrong::OneSource,
        Wrong::PushUnsynced,
        Wrong::KeepCursor,
        Wrong::CarryAcknowledgements,
        Wrong::AcknowledgeUnsynced,
        Wrong::CountAmnesiac,
        Wrong::CountDeadTenures,
        Wrong::DropAtLeaving,
    ];
    let harmless: Vec<Wrong> =
        all.into_iter().filter(|wrong| (0..2_000).all(|seed| run(seed, Some(*wrong)).0.is_none())).collect();
    assert_eq!(harmless, []);
}

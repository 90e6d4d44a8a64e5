//! What is kept arrives, whatever happens on the way, and is deleted only when it has.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use gramme_handoff::{Config, Effect, Handoff, Input, Outcome, Stats};
use gramme_ring::NodeId;
use proptest::prelude::*;

const B: NodeId = NodeId(2);
const CONFIG: Config = Config { at_once: 3, page: 4, bytes_per_second: 1_000, patience: 100 };

/// Whoever keeps the rows, reads them at once and deletes them as it is told.
struct Keeper {
    handoff: Handoff<u32>,
    rows: BTreeMap<u32, Bytes>,
    now: u64,
    /// Deliveries that were not answered yet.
    sent: VecDeque<(u64, u32, Bytes)>,
}

impl Keeper {
    fn new(rows: u32, bytes: usize) -> Self {
        let rows = (0..rows).map(|row| (row, Bytes::from(vec![0; bytes]))).collect();
        Self { handoff: Handoff::new(CONFIG), rows, now: 0, sent: VecDeque::new() }
    }

    fn step(&mut self, input: Input<u32>) {
        let mut effects = Vec::new();
        self.handoff.step(self.now, input, &mut effects);
        for effect in effects {
            match effect {
                Effect::Scan { run, after, limit, .. } => {
                    let first = after.map_or(0, |after| after + 1);
                    let page: Vec<_> = self.rows.range(first..).take(limit).collect();
                    let rows: Vec<_> = page.into_iter().map(|(row, object)| (*row, object.clone())).collect();
                    let last = rows.last().map(|(row, _)| *row);
                    let next = last.filter(|last| self.rows.range(last + 1..).next().is_some());
                    self.step(Input::Page { run, rows, next });
                }
                Effect::Deliver { delivery, row, object, .. } => self.sent.push_back((delivery, row, object)),
                Effect::Forget { row, object } => {
                    if self.rows.get(&row) == Some(&object) {
                        self.rows.remove(&row);
                    }
                }
            }
        }
    }

    fn answer(&mut self, outcome: Outcome) -> Option<u32> {
        let (delivery, row, _) = self.sent.pop_front()?;
        self.step(Input::Answered { delivery, outcome });
        Some(row)
    }
}

#[test]
fn all_rows_go_in_order_few_at_a_time() {
    let mut keeper = Keeper::new(10, 10);
    keeper.step(Input::Round(vec![B]));
    assert_eq!(keeper.sent.len(), CONFIG.at_once);
    // A second round finds the run under way.
    keeper.step(Input::Round(vec![B]));
    let mut order = Vec::new();
    while let Some(row) = keeper.answer(Outcome::Kept) {
        order.push(row);
        assert!(keeper.sent.len() <= CONFIG.at_once);
    }
    assert_eq!(order, (0..10).collect::<Vec<_>>());
    assert!(keeper.rows.is_empty());
    assert_eq!(keeper.handoff.stats(), &Stats { rows: 10, bytes: 100, ..Stats::default() });
    assert_eq!((keeper.handoff.runs().count(), keeper.handoff.next_timer()), (0, None));
}

#[test]
fn a_row_that_changed_on_its_way_stays() {
    let mut keeper = Keeper::new(1, 10);
    keeper.step(Input::Round(vec![B]));
    keeper.rows.insert(0, Bytes::from_static(b"newer"));
    keeper.answer(Outcome::Kept);
    assert_eq!(keeper.rows.len(), 1);
    keeper.step(Input::Round(vec![B]));
    assert_eq!(keeper.sent[0].2, Bytes::from_static(b"newer"));
    keeper.answer(Outcome::Kept);
    assert!(keeper.rows.is_empty());
}

#[test]
fn a_row_that_is_refused_stops_no_other() {
    let mut keeper = Keeper::new(6, 10);
    keeper.step(Input::Round(vec![B]));
    keeper.answer(Outcome::Refused);
    while keeper.answer(Outcome::Kept).is_some() {}
    assert_eq!(keeper.rows.keys().copied().collect::<Vec<_>>(), [0]);
    assert_eq!(keeper.handoff.stats().refused, 1);
}

#[test]
fn a_target_in_trouble_is_left_alone_until_the_next_round() {
    let mut keeper = Keeper::new(10, 10);
    keeper.step(Input::Round(vec![B]));
    keeper.answer(Outcome::Failed);
    assert_eq!(keeper.handoff.runs().count(), 0);
    // What was under way is still heard of.
    keeper.answer(Outcome::Kept);
    assert_eq!((keeper.rows.len(), keeper.sent.len()), (9, 1));
    keeper.step(Input::Round(vec![B]));
    while keeper.answer(Outcome::Kept).is_some() {}
    assert!(keeper.rows.is_empty());
}

#[test]
fn silence_is_trouble_too() {
    let mut keeper = Keeper::new(10, 10);
    keeper.step(Input::Round(vec![B]));
    assert_eq!(keeper.handoff.next_timer(), Some(CONFIG.patience));
    keeper.now = CONFIG.patience;
    keeper.step(Input::Timer);
    assert_eq!((keeper.handoff.runs().count(), keeper.handoff.next_timer()), (0, None));
    // An answer that comes now may be one to what was sent long ago.
    keeper.answer(Outcome::Kept);
    assert_eq!(keeper.rows.len(), 10);
}

#[test]
fn a_page_that_cannot_be_read_ends_the_run() {
    let mut handoff = Handoff::<u32>::new(CONFIG);
    let mut effects = Vec::new();
    handoff.step(0, Input::Round(vec![B]), &mut effects);
    let Some(Effect::Scan { run, .. }) = effects.pop() else { panic!("a scan") };
    handoff.step(0, Input::Unread(run), &mut effects);
    assert_eq!(handoff.runs().count(), 0);
    // Whoever reads it at last reads for nobody, whatever has begun since.
    handoff.step(0, Input::Round(vec![B]), &mut effects);
    effects.clear();
    handoff.step(0, Input::Page { run, rows: vec![(1, Bytes::new())], next: None }, &mut effects);
    assert_eq!((effects, handoff.runs().count()), (Vec::new(), 1));
}

#[test]
fn a_target_that_comes_back_is_served_at_once() {
    let mut keeper = Keeper::new(10, 10);
    keeper.step(Input::Round(vec![B]));
    // What was under way is lost with the connection.
    keeper.sent.clear();
    keeper.step(Input::Gone(B));
    assert_eq!(keeper.handoff.next_timer(), None);
    keeper.step(Input::Round(vec![B]));
    assert_eq!(keeper.sent.len(), CONFIG.at_once);
}

/// A late answer to one run must not let the next one send more than it may, nor end it.
#[test]
fn answers_to_an_ended_run_change_nothing_in_the_next() {
    let mut keeper = Keeper::new(10, 10);
    keeper.step(Input::Round(vec![B]));
    keeper.answer(Outcome::Failed);
    keeper.step(Input::Round(vec![B]));
    let second = keeper.sent.len();
    keeper.answer(Outcome::Kept);
    keeper.answer(Outcome::Failed);
    assert_eq!(keeper.sent.len(), second - 2);
    assert_eq!(keeper.handoff.runs().count(), 1);
}

#[test]
fn each_target_has_its_turn() {
    let config = Config { bytes_per_second: 10, at_once: 1, patience: 1 << 40, ..CONFIG };
    let mut handoff = Handoff::<u32>::new(config);
    let (mut effects, mut now, mut served) = (Vec::new(), 0, Vec::new());
    handoff.step(now, Input::Round(vec![B, NodeId(3)]), &mut effects);
    for _ in 0..200 {
        for effect in std::mem::take(&mut effects) {
            let input = match effect {
                Effect::Scan { run, .. } => {
                    let rows = (0..50).map(|row| (row, Bytes::from_static(&[0; 100]))).collect();
                    Input::Page { run, rows, next: None }
                }
                Effect::Deliver { delivery, target, .. } => {
                    served.push(target);
                    Input::Answered { delivery, outcome: Outcome::Kept }
                }
                Effect::Forget { .. } => continue,
            };
            handoff.step(now, input, &mut effects);
        }
        now = handoff.next_timer().unwrap_or(now);
        handoff.step(now, Input::Timer, &mut effects);
    }
    let first = served.iter().filter(|target| **target == B).count();
    assert!(served.len() > 20 && first.abs_diff(served.len() / 2) <= 1, "{first} of {}", served.len());
}

#[test]
fn all_runs_together_stay_within_the_budget() {
    let mut keeper = Keeper::new(40, 250);
    keeper.step(Input::Round(vec![B, NodeId(3)]));
    let mut sent = 0;
    while !keeper.rows.is_empty() {
        while keeper.answer(Outcome::Kept).is_some() {
            sent += 250;
        }
        let allowed = CONFIG.bytes_per_second + keeper.now * CONFIG.bytes_per_second / 1_000_000;
        assert!(sent <= allowed + 250, "{sent} of {allowed} bytes after {} µs", keeper.now);
        if let Some(at) = keeper.handoff.next_timer() {
            keeper.now = at;
            keeper.step(Input::Timer);
        }
    }
    assert!(keeper.now > 8_000_000, "10,000 bytes, and 1,000 a second: {} µs", keeper.now);
}

proptest! {
    /// Whatever happens, nothing is deleted that was not kept as it is; and once all is well, all of it goes.
    #[test]
    fn nothing_is_lost(events in prop::collection::vec(0..7_u8, 0..120)) {
        let mut keeper = Keeper::new(20, 10);
        let mut kept: BTreeMap<u32, Bytes> = BTreeMap::new();
        let mut newest = keeper.rows.clone();
        for (at, event) in events.into_iter().enumerate() {
            keeper.now += 13;
            match event {
                0 => keeper.step(Input::Round(vec![B])),
                1 => {
                    let row = at as u32 % 20;
                    let object = Bytes::from(vec![at as u8; 9]);
                    newest.insert(row, object.clone());
                    keeper.rows.insert(row, object);
                }
                2 => { keeper.answer(Outcome::Refused); }
                3 => { keeper.answer(Outcome::Failed); }
                4 => keeper.step(Input::Timer),
                _ => {
                    if let Some((_, row, object)) = keeper.sent.front().cloned() {
                        kept.insert(row, object);
                        keeper.answer(Outcome::Kept);
                    }
                }
            }
            for (row, object) in &newest {
                let is_safe = keeper.rows.get(row) == Some(object) || kept.get(row) == Some(object);
                prop_assert!(is_safe, "row {row} is gone");
            }
        }
        for _ in 0..3 {
            while keeper.answer(Outcome::Kept).is_some() {}
            keeper.now += 1_000_000_000;
            keeper.step(Input::Timer);
            keeper.step(Input::Round(vec![B]));
        }
        prop_assert!(keeper.rows.is_empty(), "{:?}", keeper.rows);
    }
}

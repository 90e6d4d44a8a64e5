//! Giving back the space of values that have expired.
//!
//! To readers they are gone already. Here their bytes go, and what stays of them is a tombstone with the same dot, which
//! goes as all do: once every owner has seen it. That one replica does this before another makes them no different
//! (`gramme_object::clock_bytes`).
//!
//! A node whose clock runs ahead would destroy what others still show. So a value goes only when the clock of every owner,
//! as it says itself, is past the instant. One that has not been heard from since this node's start holds that up, for
//! its own partitions; nobody is shown anything because of that.

use gramme_admission::Budget;
use gramme_object::Object;
use gramme_plant::planted;
use gramme_ring::PartitionId;
use gramme_wire::peer::Class;

use crate::antientropy::leaf_range;
use crate::coordinator::Around;
use crate::cx::Cx;
use crate::io::{LoadFailed, Page};
use crate::pace::Background;
use crate::scrub::{ROWS, cost};
use crate::shard::{EXPIRY_STEP, Scanner};

/// Leaves that are looked at at once for whether something in them may be purged.
const LEAVES: usize = 256;

/// A leaf that is gone through.
#[derive(Debug)]
struct Reading {
    partition: PartitionId,
    leaf: u32,
    /// The time that every owner's clock has reached, in milliseconds since 1970.
    millis: u64,
    /// From which place it goes on when there is budget for that.
    next: Option<u64>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Purge {
    budget: Budget,
    reading: Option<Reading>,
}

impl Purge {
    pub(crate) fn new() -> Self {
        Self { budget: Budget::new(0), reading: None }
    }

    /// Time passes.
    pub(crate) fn on_time(&mut self, around: &mut Around<'_>) {
        self.budget.fill(around.cx.now.monotonic);
        if let Some(next) = self.reading.as_ref().and_then(|reading| reading.next) {
            self.go_on(around, next);
        }
        self.begin(around);
    }

    /// Goes through the next leaf in which something has expired, if there is room for that.
    fn begin(&mut self, around: &mut Around<'_>) {
        let millis = around.node.clock.millis(around.cx.now);
        for _ in 0..LEAVES {
            if self.reading.is_some() || !self.budget.has_some() || is_busy(around) {
                return;
            }
            let Some(((partition, leaf), due)) = around.shard.take_expired(millis) else { return };
            if !around.shard.owns(partition) {
                continue;
            }
            match around.slowest_clock(partition).filter(|slowest| *slowest >= due) {
                Some(millis) => {
                    self.reading = Some(Reading { partition, leaf, millis, next: None });
                    self.scan(around, leaf_range(partition, leaf).0);
                }
                None => around.shard.expire_later((partition, leaf), due, millis + EXPIRY_STEP),
            }
        }
    }

    /// Reads on in a leaf, now or when there is budget for that.
    fn go_on(&mut self, around: &mut Around<'_>, next: u64) {
        let may = self.budget.has_some() && !is_busy(around);
        if let Some(reading) = &mut self.reading {
            reading.next = (!may).then_some(next);
        }
        if may {
            self.scan(around, next);
        }
    }

    fn scan(&self, around: &mut Around<'_>, first: u64) {
        let Some(Reading { partition, leaf, .. }) = self.reading else { return };
        let (_, last) = leaf_range(partition, leaf);
        around.shard.scan_range(around.cx, (partition, first, last), ROWS, Scanner::Expired);
    }

    /// Rows of the leaf were read.
    pub(crate) fn on_page(&mut self, around: &mut Around<'_>, result: Result<Page, LoadFailed>) {
        let Some(Reading { partition, leaf, millis, .. }) = self.reading else { return };
        let Ok(page) = result else {
            self.reading = None;
            return around.shard.expire_later((partition, leaf), millis, millis + EXPIRY_STEP);
        };
        self.budget.take(cost(&page));
        for (place, stored) in &page.rows {
            // What is damaged is the scrub's finding.
            let Ok(object) = Object::decode(stored) else { continue };
            if object.next_expiry().is_some_and(|expires| expires <= millis) {
                around.shard.purge(around.cx, place, millis);
            }
            around.shard.note_found(around.cx, place, &object.at_time(millis));
        }
        match page.next {
            // All that has the last row's place is in this page, or will be found the next time.
            Some(next) => self.go_on(around, next.hash.0.saturating_add(1)),
            None => {
                self.reading = None;
                self.begin(around);
            }
        }
    }
}

impl Background for Purge {
    fn is_busy(&self) -> bool {
        self.reading.is_some()
    }

    fn set_rate(&mut self, cx: &mut Cx, bytes_per_second: u64) {
        self.budget.set_rate(cx.now.monotonic, bytes_per_second);
    }
}

fn is_busy(around: &Around<'_>) -> bool {
    around.shard.is_full(around.cx, Class::Background) || around.shard.is_crowded(around.cx)
}

impl Around<'_> {
    /// The time that every owner's clock has reached, in milliseconds since 1970, if all have been heard.
    fn slowest_clock(&self, partition: PartitionId) -> Option<u64> {
        let Self { cx, node, .. } = self;
        if planted!(PurgeByOneClock) {
            return Some(cx.now.wall / 1_000);
        }
        node.clock.slowest(node.map.layout().holders_but(partition, cx.me()), cx.now)
    }
}

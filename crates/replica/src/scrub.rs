//! Going through all that is stored, slowly and for ever.
//!
//! A row that a disk has damaged is found when it is read, and rows that nobody reads are the ones that rot. When the
//! last good copy is needed it is too late. So all rows are read now and then and compared with their checksums. On the
//! way it is seen which keys have something to forget that nobody has in mind since a start.
//!
//! A damaged row is more than a missing value. What was in it this node has seen, and acknowledged; it would refuse the
//! others' copies as old, and tell them that they were replaced. Nobody knows any more which versions that were. So the
//! partition has lost data, like one whose disk was lost: a new tenure, nothing seen, and amnesiac until what others hold
//! proves that nothing is missing. The row goes, and comes back from the others; never the other way.
//!
//! The row's part of its leaf goes with it, and is not known either. It is what the rows that can be read leave over:
//! their leaf is read a second time, and if it changes meanwhile, once more later.

use std::collections::BTreeSet;

use gramme_admission::Budget;
use gramme_merkle::Leaf;
use gramme_object::{DecodeError, Object};
use gramme_ring::PartitionId;

use crate::antientropy::leaf_range;
use crate::coordinator::Around;
use crate::cx::Cx;
use crate::io::{LoadFailed, Page};
use crate::pace::Background;
use crate::place::Place;
use crate::request::Scrubbing;
use crate::shard::{Scanner, digest_of};

/// Rows that are read at once.
pub(crate) const ROWS: usize = 128;
/// What a row costs beside its bytes.
const ROW: u64 = 256;
/// Damaged leaves that are remembered; the rest is found again.
const SUSPECTS: usize = 1_024;

/// A leaf that is read a second time.
#[derive(Debug)]
struct Suspect {
    partition: PartitionId,
    leaf: u32,
    /// What it was when its rows began to be read.
    before: Leaf,
    /// What the rows add up to that can be read.
    readable: Leaf,
    damaged: Vec<Place>,
    /// Whether all rows that can be read are understood: what a later version wrote adds up to nothing here.
    is_known: bool,
}

/// Where a pass stands.
#[derive(Debug)]
struct Pass {
    began: u64,
    /// How many partitions it goes through, and whether these are all.
    total: usize,
    is_full: bool,
    left: BTreeSet<PartitionId>,
    at: Option<Reading>,
}

/// A partition that a pass reads.
#[derive(Debug)]
struct Reading {
    partition: PartitionId,
    /// The last row that was read.
    after: Option<Place>,
    /// What its rows have so far, and how often it had changed when the first was read: nothing, if that is not known
    /// or a row cannot be read.
    bytes: u64,
    changes: Option<u64>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Scrub {
    budget: Budget,
    pass: Option<Pass>,
    next: u64,
    is_reading: bool,
    /// Leaves with damaged rows, by partition and number.
    found: BTreeSet<(PartitionId, u32)>,
    suspect: Option<Suspect>,
    /// Whether the pass goes on next: a leaf that changes all the time must not hold it up.
    is_pass_next: bool,
}

impl Scrub {
    pub(crate) fn new() -> Self {
        Self {
            budget: Budget::new(0),
            pass: None,
            next: 0,
            is_reading: false,
            found: BTreeSet::new(),
            suspect: None,
            is_pass_next: false,
        }
    }

    /// How far the present pass has come.
    pub(crate) fn progress(&self, now: u64) -> Option<Scrubbing> {
        let pass = self.pass.as_ref()?;
        let left = pass.left.len() + usize::from(pass.at.is_some());
        let (done, age) = (pass.total.saturating_sub(left), now.saturating_sub(pass.began));
        Some(Scrubbing { done: done as u64, total: pass.total as u64, age })
    }

    /// Time passes: begins a pass when one is due, or where keys may be waiting that nobody has in mind.
    pub(crate) fn on_time(&mut self, around: &mut Around<'_>) {
        let now = around.cx.now.monotonic;
        self.budget.fill(now);
        if self.pass.is_none() {
            let is_full = now >= self.next;
            let mut left = around.shard.take_forgetful();
            if is_full {
                left.extend(around.shard.all_shown());
                self.next = now + around.cx.config.scrub_every;
            }
            let total = left.len();
            self.pass = (total > 0).then_some(Pass { began: now, total, is_full, left, at: None });
        }
        self.read_on(around);
    }

    /// Reads the next rows, if there is something to read and room for it.
    fn read_on(&mut self, around: &mut Around<'_>) {
        if self.is_reading || !self.budget.has_some() || around.shard.is_crowded(around.cx) {
            return;
        }
        self.is_pass_next = !self.is_pass_next;
        if (self.pass.is_none() || !self.is_pass_next)
            && let Some((partition, leaf)) = self.found.pop_first()
        {
            return self.suspect(around, partition, leaf);
        }
        let Some(pass) = &mut self.pass else { return };
        if pass.at.is_none() {
            pass.at = pass.left.pop_first().map(|partition| {
                let changes = around.shard.changes(partition);
                Reading { partition, after: None, bytes: 0, changes }
            });
        }
        match &pass.at {
            Some(Reading { partition, after, .. }) => {
                self.is_reading = true;
                around.shard.scan(around.cx, *partition, after.clone(), ROWS, Scanner::Scrub);
            }
            None => {
                around.cx.stats.scrubs += u64::from(pass.is_full);
                self.pass = None;
            }
        }
    }

    /// Rows of the pass were read.
    pub(crate) fn on_page(&mut self, around: &mut Around<'_>, result: Result<Page, LoadFailed>) {
        self.is_reading = false;
        let Some(Pass { at: Some(reading), .. }) = &mut self.pass else { return };
        let Ok(page) = result else {
            // The rest of it is read in the next pass.
            return self.end_partition();
        };
        self.budget.take(cost(&page));
        around.cx.stats.rows_scrubbed += (page.rows.len() + page.unreadable.len()) as u64;
        let mut damaged: Vec<&Place> = page.unreadable.iter().collect();
        for (place, stored) in &page.rows {
            reading.bytes += stored.len() as u64;
            match Object::decode(stored) {
                Ok(object) => around.shard.note_found(around.cx, place, &object),
                // What a later version wrote is whole, and left alone.
                Err(DecodeError::Version(_)) => {}
                Err(DecodeError::Checksum | DecodeError::Malformed) => damaged.push(place),
            }
        }
        for place in damaged {
            if self.found.len() < SUSPECTS {
                self.found.insert((reading.partition, place.leaf()));
            }
        }
        if !page.unreadable.is_empty() {
            reading.changes = None;
        }
        reading.after = page.next;
        if reading.after.is_none() {
            reading.count(around);
            self.end_partition();
        }
        self.read_on(around);
    }

    fn end_partition(&mut self) {
        if let Some(pass) = &mut self.pass {
            pass.at = None;
        }
    }

    fn suspect(&mut self, around: &mut Around<'_>, partition: PartitionId, leaf: u32) {
        let Some(before) = around.shard.leaf(partition, leaf) else { return };
        self.is_reading = true;
        let readable = Leaf::default();
        self.suspect =
            Some(Suspect { partition, leaf, before, readable, damaged: Vec::new(), is_known: true });
        let (first, last) = leaf_range(partition, leaf);
        around.shard.scan_range(around.cx, (partition, first, last), ROWS, Scanner::Suspect);
    }

    /// Rows of a leaf were read a second time. Says whether data is lost.
    pub(crate) fn on_suspect_page(
        &mut self,
        around: &mut Around<'_>,
        result: Result<Page, LoadFailed>,
    ) -> bool {
        self.is_reading = false;
        let Some(suspect) = &mut self.suspect else { return false };
        let Ok(page) = result else {
            self.suspect = None;
            return false;
        };
        self.budget.take(cost(&page));
        suspect.add(&page);
        if let Some(next) = page.next {
            self.is_reading = true;
            let (_, last) = leaf_range(suspect.partition, suspect.leaf);
            let range = (suspect.partition, next.hash.0.saturating_add(1), last);
            around.shard.scan_range(around.cx, range, ROWS, Scanner::Suspect);
            return false;
        }
        let Some(Suspect { partition, leaf, before, readable, damaged, is_known }) = self.suspect.take()
        else {
            return false;
        };
        if damaged.is_empty() || !is_known {
            return false;
        }
        if around.shard.leaf(partition, leaf) != Some(before) || around.shard.is_loading(&damaged) {
            self.found.insert((partition, leaf));
            return false;
        }
        around.cx.stats.rows_damaged += damaged.len() as u64;
        let Around { cx, node, shard } = around;
        let has_lost = shard.lose_rows(cx, (partition, leaf, readable), &damaged);
        if has_lost {
            node.forget_drained();
        }
        has_lost
    }
}

impl Reading {
    /// All rows were read. If nothing has changed meanwhile, their bytes are what the partition has: those of a damaged
    /// row were not known when it went.
    fn count(&self, around: &mut Around<'_>) {
        if self.changes.is_some() && around.shard.changes(self.partition) == self.changes {
            around.shard.recount(around.cx, self.partition, self.bytes);
        }
    }
}

impl Suspect {
    fn add(&mut self, page: &Page) {
        self.damaged.extend(page.unreadable.iter().cloned());
        for (place, stored) in &page.rows {
            match Object::decode(stored) {
                Ok(object) => self.readable.replace(None, Some(digest_of(&place.key, &object))),
                Err(DecodeError::Version(_)) => self.is_known = false,
                Err(DecodeError::Checksum | DecodeError::Malformed) => self.damaged.push(place.clone()),
            }
        }
    }
}

impl Background for Scrub {
    fn is_busy(&self) -> bool {
        self.pass.is_some() || !self.found.is_empty()
    }

    fn set_rate(&mut self, cx: &mut Cx, bytes_per_second: u64) {
        self.budget.set_rate(cx.now.monotonic, bytes_per_second);
    }
}

/// What reading a page has cost.
pub(crate) fn cost(page: &Page) -> u64 {
    page.rows.iter().map(|(_, stored)| ROW + stored.len() as u64).sum::<u64>() + ROW
}

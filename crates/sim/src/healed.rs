//! What the cluster did about its faults. A run in which nothing had to be healed has tested no healing.

use std::fmt;

/// How often each way of healing was gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Healed {
    /// Writes acknowledged by fallbacks too.
    pub stood_in: u64,
    /// Writes acknowledged by fallbacks alone.
    pub alone: u64,
    /// Hinted copies that their nodes took.
    pub handed_on: u64,
    /// Exchanges that looked at keys.
    pub exchanges: u64,
    /// Objects that exchanges brought.
    pub brought: u64,
    /// Nodes that had lost data, and count again.
    pub remembered: u64,
    /// Keys whose past was forgotten.
    pub forgotten: u64,
    /// Dead tenures that were closed.
    pub closed: u64,
    /// Versions that were here, and that another replica had seen replaced.
    pub buried: u64,
    /// Pulls in which something of what was pulled came late.
    pub late: u64,
    /// Damaged rows that were dropped.
    pub rows_lost: u64,
    /// Values that had expired and were dropped.
    pub purged: u64,
    /// Layouts that were decided.
    pub layouts: u64,
    /// Partitions that were handed over and dropped.
    pub dropped: u64,
    /// Members that handed over everything and went.
    pub removed: u64,
    /// Gets and puts that began again because their partitions had other owners.
    pub restarted: u64,
    /// Requests that came to a node before the layout that they were of.
    pub early: u64,
}

impl Healed {
    /// Adds another run's.
    pub const fn add(&mut self, other: &Self) {
        self.stood_in += other.stood_in;
        self.alone += other.alone;
        self.handed_on += other.handed_on;
        self.exchanges += other.exchanges;
        self.brought += other.brought;
        self.remembered += other.remembered;
        self.forgotten += other.forgotten;
        self.closed += other.closed;
        self.buried += other.buried;
        self.late += other.late;
        self.rows_lost += other.rows_lost;
        self.purged += other.purged;
        self.layouts += other.layouts;
        self.dropped += other.dropped;
        self.restarted += other.restarted;
        self.removed += other.removed;
        self.early += other.early;
    }
}

impl fmt::Display for Healed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stood_in, alone, handed_on, exchanges, brought, remembered, .. } = self;
        let Self { forgotten, closed, buried, late, rows_lost, purged, .. } = self;
        let Self { layouts, dropped, removed, restarted, early, .. } = self;
        write!(
            f,
            "{stood_in} writes acknowledged by fallbacks too, {alone} by them alone; {handed_on} hinted copies \
             handed on; {exchanges} ranges compared, {brought} objects brought; {remembered} nodes count again; \
             {forgotten} keys have forgotten their past, {closed} tenures closed, {buried} versions ended that were \
             replaced elsewhere, {late} pulls with something late; {rows_lost} damaged rows dropped, {purged} values that had expired; {layouts} layouts decided, \
             {dropped} partitions handed over, {removed} members gone, {restarted} requests begun again and {early} held for that"
        )
    }
}

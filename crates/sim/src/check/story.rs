//! What all checkers need of a history: who replaced whom, and what was destroyed.

use std::collections::BTreeSet;

use crate::history::{Damage, Fate, History, Kind, ReadRecord, WriteId, WriteRecord};

pub(super) struct Story<'a> {
    pub(super) history: &'a History,
    /// For each write, those whose writers had read it, sorted.
    replacers: Vec<Vec<WriteId>>,
    /// For each write, the acknowledged ones that replaced it, itself or through others: for each number of
    /// copies the earliest.
    buried: Vec<Vec<Burial>>,
}

/// An acknowledged write that replaced another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Burial {
    pub(super) by: WriteId,
    pub(super) at: u64,
    /// By how many owners it was acknowledged.
    pub(super) copies: u8,
}

impl<'a> Story<'a> {
    pub(super) fn new(history: &'a History) -> Self {
        let mut replacers = vec![Vec::new(); history.writes.len()];
        for (at, write) in history.writes.iter().enumerate() {
            for read in &write.read {
                replacers[*read as usize - 1].push(at as WriteId + 1);
            }
        }
        let mut story = Self { history, replacers, buried: vec![Vec::new(); history.writes.len()] };
        story.bury();
        story
    }

    /// Walks down from each acknowledged write, the earliest first, so that each write is reached once for
    /// each number of copies.
    fn bury(&mut self) {
        let mut acked: Vec<Burial> = (1..)
            .zip(&self.history.writes)
            .filter_map(|(by, write)| match write.fate {
                fate @ Fate::Acked { at, .. } => Some(Burial { by, at, copies: fate.primaries() }),
                _ => None,
            })
            .collect();
        acked.sort_by_key(|burial| burial.at);
        for burial in acked {
            let mut below = self.write(burial.by).read.clone();
            while let Some(id) = below.pop() {
                let buried = &mut self.buried[id as usize - 1];
                if buried.iter().all(|earlier| earlier.copies < burial.copies) {
                    buried.push(burial);
                    below.extend(&self.history.writes[id as usize - 1].read);
                }
            }
        }
    }

    pub(super) fn write(&self, id: WriteId) -> &'a WriteRecord {
        &self.history.writes[id as usize - 1]
    }

    /// The write that a shown value names, if there is one.
    pub(super) fn known(&self, id: WriteId) -> Option<&'a WriteRecord> {
        self.history.write(id)
    }

    pub(super) fn kind(&self, key: usize) -> Kind {
        self.history.keys[key].kind
    }

    /// Who buried a write, if anybody.
    pub(super) fn burials(&self, id: WriteId) -> &[Burial] {
        &self.buried[id as usize - 1]
    }

    /// Whether `id` is among `shown`, or was rightly replaced by one that is, or was. A delete that may have
    /// happened by `until` counts, since it leaves no value to see, and so does a value that may have expired.
    pub(super) fn is_accounted(&self, shown: &[WriteId], id: WriteId, until: u64) -> bool {
        let mut visited = BTreeSet::new();
        let mut ahead = vec![id];
        while let Some(id) = ahead.pop() {
            if shown.contains(&id) || self.may_have_expired(id, until) {
                return true;
            }
            for &next in &self.replacers[id as usize - 1] {
                let write = self.write(next);
                if write.fate == Fate::Refused || write.sent > until {
                    continue;
                }
                if write.is_delete {
                    return true;
                }
                if visited.insert(next) {
                    ahead.push(next);
                }
            }
        }
        false
    }

    fn may_have_expired(&self, id: WriteId, until: u64) -> bool {
        self.write(id).expires.is_some_and(|expires| expires <= until.saturating_add(self.history.skew))
    }

    /// Whether `newer`'s writer had read `older`, itself or through others.
    pub(super) fn is_ancestor(&self, older: WriteId, newer: WriteId) -> bool {
        let mut visited = BTreeSet::new();
        let mut below = vec![newer];
        while let Some(id) = below.pop() {
            for &read in &self.write(id).read {
                if read == older {
                    return true;
                }
                // Who has read something has a greater number than what it has read.
                if read > older && visited.insert(read) {
                    below.push(read);
                }
            }
        }
        false
    }

    /// How many of `id`'s acknowledged copies may have been destroyed between its sending and `until`: those
    /// on destroyed disks, and those not synced on nodes that lost their power.
    pub(super) fn destroyed(&self, id: WriteId, until: u64) -> u8 {
        self.missing(id, until, |_| true)
    }

    /// How many of them were still missing when a read began. A node that counts again has what others still had.
    fn missing_at(&self, id: WriteId, read: &ReadRecord) -> u8 {
        let destroyed = self.destroyed(id, read.answered);
        if destroyed >= self.write(id).fate.primaries() {
            return destroyed;
        }
        self.missing(id, read.answered, |damage| !is_mended(damage, read))
    }

    fn missing(&self, id: WriteId, until: u64, is_missing: impl Fn(&Damage) -> bool) -> u8 {
        let write = self.write(id);
        let Fate::Acked { copies, fallbacks, synced, .. } = write.fate else { return 0 };
        let owners = &self.history.keys[write.key].owners;
        // Who stood in may be any node.
        let may_hold = |node| fallbacks > 0 || owners.contains(&node);
        let (mut disks, mut any) = (BTreeSet::new(), BTreeSet::new());
        for damage in self.history.damage.iter().filter(|damage| is_missing(damage)) {
            let concerns = damage.key.is_none_or(|key| key == write.key) && may_hold(damage.node);
            if concerns && may_concern(damage, write) && damage.since <= until {
                any.insert(damage.node);
                if damage.synced {
                    disks.insert(damage.node);
                }
            }
        }
        let synced_gone = disks.len().min(usize::from(synced));
        let others = usize::from(copies - synced.min(copies));
        let all_gone = any.len().min(synced_gone + others);
        all_gone.max(synced_gone) as u8
    }

    /// Whether two processes are, or were, the same owner of a read's key: one may have forgotten what a version replaced,
    /// since it has seen that, and the other still have it. Other owners tell it later, if there are any.
    pub(super) fn is_of_two_processes(&self, read: &ReadRecord) -> bool {
        let owners = &self.history.keys[read.key].owners;
        self.history.damage.iter().filter(|damage| is_copy(damage)).any(|damage| {
            let is_open = !is_mended(damage, read) || owners.len() == 1;
            owners.contains(&damage.node) && damage.since <= read.answered && is_open
        })
    }

    /// Whether a copy of `id` may have gone by `until`, with a disk or with the power.
    pub(super) fn may_be_gone(&self, id: WriteId, until: u64) -> bool {
        let write = self.write(id);
        let is_since = |damage: &&Damage| may_concern(damage, write) && damage.since <= until;
        let mut damage = self.history.damage.iter().filter(is_since);
        damage.any(|damage| damage.key.is_none_or(|key| key == write.key))
    }

    /// Whether a disk that may have held `id` was destroyed after it was sent: an owner's, or that of any node if it may be
    /// that fallbacks kept it.
    pub(super) fn lost_a_disk(&self, id: WriteId) -> bool {
        let write = self.write(id);
        let owners = &self.history.keys[write.key].owners;
        let by_owners = matches!(write.fate, Fate::Acked { fallbacks: 0, .. });
        self.history.damage.iter().any(|damage| {
            let may_hold = !by_owners || owners.contains(&damage.node);
            let concerns = damage.key.is_none_or(|key| key == write.key) && may_hold;
            concerns && damage.synced && may_concern(damage, write)
        })
    }

    /// Whether a read must meet a replica that still has `id`.
    pub(super) fn must_meet(&self, id: WriteId, copies: u8, read: &ReadRecord) -> bool {
        let met = (copies + read.r).saturating_sub(self.history.replicas);
        met > 0 && met > self.missing_at(id, read)
    }
}

/// How long after two processes of one node have met the one that stays may not know that it lacks something.
const UNAWARE: u64 = 60_000_000;

/// Whether a node's directory was copied, and both were started.
const fn is_copy(damage: &Damage) -> bool {
    damage.since < damage.at
}

/// Whether the damage may have destroyed a write. What was acknowledged before a directory was copied is in both.
fn may_concern(damage: &Damage, write: &WriteRecord) -> bool {
    let is_old = matches!(write.fate, Fate::Acked { at, .. } if at < damage.since);
    damage.at >= write.sent && !(is_copy(damage) && is_old)
}

/// Whether it was made good before a read. A node whose copy has taken nothing never learns that there was one.
fn is_mended(damage: &Damage, read: &ReadRecord) -> bool {
    let late = is_copy(damage).then_some(damage.at + UNAWARE);
    damage.mended.or(late).is_some_and(|mended| mended <= read.sent)
}

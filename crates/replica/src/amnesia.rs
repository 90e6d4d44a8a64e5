//! Noticing that the directory is older than what this node acknowledged.
//!
//! A lost disk or a restored snapshot looks, from inside, like a node that has simply not done much yet. It
//! would go on counting towards R and W without what it promised to hold. Only the others can tell.
//!
//! So a node has a *position*, the number of its batches that are synced, and tells it with every reply and
//! greeting. The others remember, durably, its directory's name at once and its highest position within a
//! second or so, and say both back when they greet. A node that is told of a position that it has not reached, or of a directory that it does not know, has
//! lost data: from then on its partitions are *amnesiac*. They take writes and merge repairs, and add what
//! they hold to reads, but count for nothing, R or W (rule 11 of the causality rules, which also says how amnesia ends; that is not built yet).
//!
//! What nobody was told, nobody remembers: a position that was acknowledged only by this node to itself is
//! noticed within a greeting's interval, and not at all if every member is rolled back at once.

use std::collections::{BTreeMap, VecDeque};

use gramme_object::Key;
use gramme_ring::NodeId;
use gramme_wire::WireError;
use gramme_wire::codec::Wire;
use gramme_wire::peer::Standing;

use crate::Replica;
use crate::commits::Level;
use crate::io::{Change, Recovered};

const META_LIVES: &str = "lives";
const META_HEARD: &str = "heard";

/// What this node can prove of itself, and what it remembers of the others.
#[derive(Debug)]
pub(crate) struct Lives {
    /// The random names of this directory, the present one last: a new one is drawn when data was lost.
    lives: Vec<u64>,
    /// Synced batches, over all starts and lives.
    position: u64,
    /// Batches that count and are not synced yet.
    unsynced: VecDeque<u64>,
    heard: BTreeMap<NodeId, Standing>,
    /// Whether `heard` is newer than what is stored of it.
    is_news: bool,
}

impl Lives {
    /// What was stored; `fresh` names the directory if it has no name yet.
    pub(crate) fn begin(recovered: &Recovered, position: u64, fresh: u64) -> Result<Self, WireError> {
        let lives = match recovered.meta.get(META_LIVES.as_bytes()) {
            Some(record) => Vec::parse(&mut record.clone())?,
            None => vec![fresh],
        };
        let heard: Vec<(NodeId, Standing)> = match recovered.meta.get(META_HEARD.as_bytes()) {
            Some(record) => Vec::parse(&mut record.clone())?,
            None => Vec::new(),
        };
        let heard = heard.into_iter().collect();
        Ok(Self { lives, position, unsynced: VecDeque::new(), heard, is_news: false })
    }

    /// The record of the directory's names.
    pub(crate) fn record(&self) -> Change {
        let mut value = Vec::new();
        self.lives.encode_to(&mut value);
        Change::Meta { name: META_LIVES, value: value.into() }
    }

    pub(crate) const fn position(&self) -> u64 {
        self.position
    }

    pub(crate) fn staged(&mut self, sequence: u64) {
        self.unsynced.push_back(sequence);
    }

    pub(crate) fn synced(&mut self, through: u64) {
        while self.unsynced.pop_front_if(|sequence| *sequence <= through).is_some() {
            self.position += 1;
        }
    }

    /// The directory's names and how far it has come. Nothing before the names are durable: another start
    /// might draw others.
    fn claim(&self, is_stored: bool) -> (Vec<u64>, u64) {
        if is_stored { (self.lives.clone(), self.position) } else { (Vec::new(), 0) }
    }

    /// Remembers how far another node says that it has come. What names itself otherwise than what we know,
    /// and does not know that name, is no continuation of it: we go on remembering the old, and say so.
    /// Returns whether this is the first that is heard of it, or of its present name.
    fn hear(&mut self, from: NodeId, lives: &[u64], position: u64) -> bool {
        let Some(&life) = lives.last() else { return false };
        let before = self.heard.get(&from).map(|known| known.life);
        let known = self.heard.entry(from).or_insert(Standing { life, position });
        let news = Standing { life, position: position.max(known.position) };
        if lives.contains(&known.life) && *known != news {
            *known = news;
            self.is_news = true;
        }
        let is_named_anew = before != Some(known.life);
        self.is_news |= is_named_anew;
        is_named_anew
    }

    /// Hears a position within the life that is known.
    pub(crate) fn hear_position(&mut self, from: NodeId, position: u64) {
        if let Some(known) = self.heard.get_mut(&from)
            && known.position < position
        {
            known.position = position;
            self.is_news = true;
        }
    }

    /// Whether another node remembers more of us than we have.
    fn is_contradicted(&self, heard: &Standing) -> bool {
        !self.lives.contains(&heard.life) || heard.position > self.position
    }

    /// A new name, for a directory that is no continuation of what others remember.
    fn begin_anew(&mut self, heard: &Standing, name: u64) {
        if !self.lives.contains(&heard.life) {
            self.lives.push(heard.life);
        }
        self.lives.push(name);
        self.position = self.position.max(heard.position);
    }
}

impl Replica {
    /// What this node says of itself to `node`, and what it remembers of it.
    pub(crate) fn standings(&self, node: NodeId) -> (Vec<u64>, u64, Option<Standing>) {
        let is_stored = self.commits.is_durable(1, Level::Synced);
        let (lives, position) = self.lives.claim(is_stored);
        (lives, position, self.lives.heard.get(&node).cloned())
    }

    /// Another node has greeted us.
    pub(crate) fn on_standings(
        &mut self,
        from: NodeId,
        lives: &[u64],
        position: u64,
        heard: Option<&Standing>,
    ) {
        if self.lives.hear(from, lives, position) {
            // Without its name its disk could go and nobody would know.
            self.store_heard(Level::Synced);
        }
        #[cfg(gramme_planted)]
        if gramme_vclock::planted::is(gramme_vclock::planted::Plant::BelieveOld) {
            return;
        }
        if let Some(heard) = heard.filter(|heard| self.lives.is_contradicted(heard)) {
            self.become_amnesiac(heard);
        }
    }

    /// Data was lost: no partition of this node counts for anything any more.
    fn become_amnesiac(&mut self, heard: &Standing) {
        let name = self.random();
        self.lives.begin_anew(heard, name);
        let mut changes = vec![self.lives.record()];
        for (prefix, partition) in &mut self.partitions {
            partition.lose(rand::RngExt::random(&mut self.rng));
            let (prefix, total, record) = (*prefix, partition.total, partition.record());
            changes.push(Change::Partition { prefix, total, record });
        }
        self.stats.amnesiac_partitions = self.partitions.len() as u64;
        self.commit(changes, Level::Synced);
    }

    /// Stores what the others have said of themselves, if it has changed. Nobody waits for it.
    pub(crate) fn store_heard(&mut self, level: Level) {
        if std::mem::take(&mut self.lives.is_news) {
            let heard: Vec<_> = self.lives.heard.clone().into_iter().collect();
            let mut value = Vec::new();
            heard.encode_to(&mut value);
            self.commit(vec![Change::Meta { name: META_HEARD, value: value.into() }], level);
        }
    }

    /// Whether this node's copy of the key counts for nothing.
    pub(crate) fn is_amnesiac(&self, key: &Key) -> bool {
        #[cfg(gramme_planted)]
        if gramme_vclock::planted::is(gramme_vclock::planted::Plant::CountAmnesiac) {
            return false;
        }
        let (_, partition) = self.place(key);
        self.partitions.get(&partition.prefix).is_some_and(|owned| owned.is_amnesiac)
    }
}

//! From what was stored to a running replica: a new tenure on every partition, always.

use std::collections::{BTreeMap, BTreeSet};

use gramme_admission::Pace;
use gramme_codec::{Codec, DecodeError};
use gramme_object::Stamp;
use gramme_quorum::Tenure;
use gramme_ring::{NodeId, PartitionId};
use gramme_vclock::Actor;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::antientropy::Exchanges;
use crate::config::Config;
use crate::coordinator::Coordinator;
use crate::cx::Cx;
use crate::expiry::Purge;
use crate::handoff::HandingOn;
use crate::io::{Effect, Now, Recovered, RecoveredPartition};
use crate::node::{Buckets, Lineage, META_BOOT, META_PREFIX, Map, Members, Node, boot_record};
use crate::replica::Replica;
use crate::scrub::Scrub;
use crate::shard::{Backlog, Fresh, Partition, RecordError, Shard, recovered_closed, recovered_hints};
use crate::stats::Stats;
use crate::timers::{Timer, Timers};

/// Why a replica does not start. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// A stored record is damaged, or of a later version.
    #[error("the stored record of {what} cannot be used: {error}")]
    Record {
        /// Whose record.
        what: String,
        /// What is wrong with it.
        error: RecordError,
    },
    /// The store holds a partition that the layout does not give to this node.
    #[error(
        "the store holds partition {0}, which the ring does not give to this node: the directory and the ring file \
         are not of one cluster, or one of them is old"
    )]
    Foreign(PartitionId),
}

impl Replica {
    /// Starts on what was stored. `seed` must be different at every start: tenures are drawn from it.
    ///
    /// # Errors
    /// [`StartError`] if a stored record cannot be used.
    pub fn start(
        config: Config,
        recovered: Recovered,
        seed: [u8; 32],
        now: Now,
        out: &mut Vec<Effect>,
    ) -> Result<Self, StartError> {
        let mut rng = ChaCha8Rng::from_seed(seed);
        let boot = now.wall.max(last_boot(&recovered)? + 1);
        let properties = recovered.meta.iter().filter(|(name, _)| name.starts_with(META_PREFIX));
        let buckets = Buckets::restore(properties.map(|(_, record)| record.clone()))
            .map_err(|error| damaged("the bucket properties", error))?;
        let partitions = begin_partitions(&config, &recovered, &mut rng, boot)?;
        let map = Map::new(config.layout.clone(), config.keyspace.clone());
        let lineage = Lineage::begin(&map, &recovered, rng.random())
            .map_err(|error| damaged("the directory's starts", error))?;
        let (hints, hints_lost) = find_hints(&recovered)?;
        let closed = recovered_closed(&recovered.meta).map_err(|error| damaged("closed tenures", error))?;
        let members = Members::begin(&config, &recovered.meta, boot, rng.random())
            .map_err(|error| damaged("the cluster's members", error))?;
        let mut node = Node::new(map, buckets, lineage, members);
        for (id, partition) in &partitions {
            node.map.adopt(*id, partition.epoch());
        }
        let pace = Pace::new(config.background);
        let mut cx = Cx {
            config,
            pace,
            now,
            boot,
            process: boot,
            stats: Stats { hints_lost, ..Stats::default() },
            timers: Timers::default(),
            stamp: Stamp::default(),
            owed_since: None,
            open_tickets: 0,
            dirty: BTreeSet::new(),
            out: Vec::new(),
            next_request: rng.random(),
            rng,
        };
        // What is drawn here is told to nobody.
        let mut secret = ChaCha8Rng::from_seed(seed);
        secret.set_stream(1);
        let tenure = Tenure { actor: Some(Actor(cx.rng.random())), born: boot };
        let layout = &cx.config.layout;
        let others = |id| layout.owners_but(id, cx.config.node).collect();
        let shard = Shard::new(partitions, others, (hints, closed), tenure, secret.random());
        let coordinator = Coordinator::default();
        let (handing_on, exchanges) = (HandingOn::new(), Exchanges::new());
        let (scrub, purge) = (Scrub::new(), Purge::new());
        let mut replica = Self { cx, node, shard, coordinator, handing_on, exchanges, scrub, purge };
        replica.begin();
        out.append(&mut replica.cx.out);
        Ok(replica)
    }

    fn begin(&mut self) {
        let mut rows = vec![boot_record(self.cx.boot), self.node.lineage.record()];
        rows.extend(self.node.begin_gossip(&mut self.cx));
        self.shard.store_start(&mut self.cx, rows);
        // Where there are no others there is nobody to wait for.
        self.node.prove(&mut self.cx, &mut self.shard);
        let now = self.cx.now.monotonic;
        self.cx.timers.set(now, Timer::Hello);
        self.cx.timers.set(now, Timer::HandoffRound);
        self.cx.timers.set(now, Timer::Reclaim);
        self.cx.timers.set(now, Timer::Pace);
        if let Some(at) = self.cx.timers.take_change() {
            self.cx.out.push(Effect::SetTimer(at));
        }
    }
}

fn damaged(what: &str, error: DecodeError) -> StartError {
    StartError::Record { what: what.to_owned(), error: error.into() }
}

fn last_boot(recovered: &Recovered) -> Result<u64, StartError> {
    match recovered.meta.get(META_BOOT) {
        Some(record) => u64::parse_all(record.clone()).map_err(|error| damaged("the last start", error)),
        None => Ok(0),
    }
}

/// What is kept for others, and how many copies of it are gone. These were one of several, as a lost disk's are, and
/// nothing brings them back here: what is left is what there is.
fn find_hints(recovered: &Recovered) -> Result<(BTreeMap<NodeId, Backlog>, u64), StartError> {
    let kept = recovered_hints(&recovered.meta).map_err(|error| damaged("what is kept for others", error))?;
    let found = |target: &NodeId| recovered.hints.get(target).copied().unwrap_or_default();
    let lost = kept.iter().map(|(target, kept)| kept.copies.count.saturating_sub(found(target).count)).sum();
    let bytes = |target: &NodeId| kept.get(target).map_or(0, |kept| kept.bytes);
    let all = recovered.hints.iter().filter(|(_, found)| found.count > 0);
    let all = all.map(|(target, &copies)| (*target, Backlog { copies, bytes: bytes(target) }));
    Ok((all.collect(), lost))
}

fn begin_partitions(
    config: &Config,
    recovered: &Recovered,
    rng: &mut ChaCha8Rng,
    born: u64,
) -> Result<BTreeMap<PartitionId, Partition>, StartError> {
    let is_owned = |id: &PartitionId| config.layout.slot_of(*id, config.node).is_some();
    if let Some(foreign) = recovered.partitions.keys().find(|id| !is_owned(id)) {
        return Err(StartError::Foreign(*foreign));
    }
    let nothing = RecoveredPartition::default();
    let begin = |id: PartitionId| {
        let stored = recovered.partitions.get(&id).unwrap_or(&nothing);
        let fresh = Fresh { actor: Actor(rng.random()), life: rng.random(), born };
        let begun = Partition::begin(id, stored, fresh);
        let record = |error| StartError::Record { what: format!("partition {id}"), error };
        Ok((id, begun.map_err(record)?))
    };
    config.layout.partitions().filter(is_owned).map(begin).collect()
}

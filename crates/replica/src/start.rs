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

use crate::adoption::Early;
use crate::antientropy::Exchanges;
use crate::config::Config;
use crate::coordinator::{Around, Coordinator};
use crate::cx::Cx;
use crate::expiry::Purge;
use crate::handoff::HandingOn;
use crate::io::{Effect, Now, Recovered, RecoveredPartition};
use crate::node::{
    Buckets, Deciding, Lineage, META_BOOT, META_PREFIX, Map, Members, Node, boot_record, recovered_layout,
};
use crate::plan::Planning;
use crate::replica::Replica;
use crate::scrub::Scrub;
use crate::shard::{Backlog, Fresh, Partition, Role, Shard, has_lost, recovered_closed, recovered_hints};
use crate::stats::Stats;
use crate::timers::{Timer, Timers};
use crate::transfer::Transfers;

/// Why a replica does not start. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// A stored record is damaged, or of a later version.
    #[error("the stored record of {what} cannot be used: {error}")]
    Record {
        /// Whose record.
        what: String,
        /// What is wrong with it.
        error: DecodeError,
    },
    /// The store holds a partition that the layout does not know.
    #[error(
        "the store holds partition {0}, which the ring does not know: the directory and the ring file are not of one cluster"
    )]
    Foreign(PartitionId),
}

impl Replica {
    /// Starts on what was stored. `seed` must be different at every start: tenures are drawn from it.
    ///
    /// # Errors
    /// [`StartError`] if a stored record cannot be used.
    pub fn start(
        mut config: Config,
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
        let stored = recovered_layout(&recovered.meta).map_err(|error| damaged("the layout", error))?;
        if let Some(stored) = stored.filter(|stored| stored.rank() > config.layout.rank()) {
            config.layout = stored;
        }
        let partitions = begin_partitions(&config, &recovered, &mut rng, boot)?;
        let map = Map::new(config.layout.clone(), config.keyspace.clone());
        let lineage = Lineage::begin(&map, &recovered, rng.random())
            .map_err(|error| damaged("the directory's starts", error))?;
        let (hints, hints_lost) = find_hints(&recovered)?;
        let closed = recovered_closed(&recovered.meta).map_err(|error| damaged("closed tenures", error))?;
        let members = Members::begin(&config, &recovered.meta, boot, rng.random())
            .map_err(|error| damaged("the cluster's members", error))?;
        let deciding = Deciding::begin(&recovered.meta).map_err(|error| damaged("its vote", error))?;
        let node = Node::new(map, buckets, lineage, members, deciding);
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
        let others = |id| layout.holders_but(id, cx.config.node).collect();
        let seed = (has_lost(&recovered.meta), secret.random());
        let shard = Shard::new(partitions, others, (hints, closed), tenure, seed);
        let coordinator = Coordinator::default();
        let (handing_on, exchanges) = (HandingOn::new(), Exchanges::new());
        let (scrub, purge) = (Scrub::new(), Purge::new());
        let mut replica = Self {
            cx,
            node,
            shard,
            coordinator,
            handing_on,
            exchanges,
            transfers: Transfers::default(),
            planning: Planning::default(),
            early: Early::default(),
            scrub,
            purge,
        };
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
        let (exchanges, mut around) = self.split_exchanges();
        exchanges.on_layout(&mut around, &[]);
        let Self { cx, node, shard, transfers, .. } = self;
        transfers.on_layout(cx);
        transfers.on_fenced(&mut Around { cx, node, shard });
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
    StartError::Record { what: what.to_owned(), error }
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
    let is_owned = |id: &PartitionId| config.layout.is_holder(*id, config.node);
    if let Some(foreign) = recovered.partitions.keys().find(|id| config.layout.entry(**id).is_none()) {
        return Err(StartError::Foreign(*foreign));
    }
    let nothing = RecoveredPartition::default();
    let begin = |id: PartitionId| {
        let stored = recovered.partitions.get(&id).unwrap_or(&nothing);
        let fresh = Fresh { actor: Actor(rng.random()), life: rng.random(), born };
        let begun = Partition::begin(id, stored, fresh);
        let record = |error| StartError::Record { what: format!("partition {id}"), error };
        let mut begun = begun.map_err(record)?;
        match (is_owned(&id), begun.role()) {
            (true, Role::Former) => begun.become_role(Role::Owner),
            (false, Role::Owner) => begun.become_role(Role::Former),
            _ => false,
        };
        Ok((id, begun))
    };
    // Of what was dropped to the last row a record is left, and nothing else.
    let is_there =
        |id: &PartitionId| recovered.partitions.get(id).is_some_and(|stored| stored.total.count > 0);
    let all = config.layout.partitions().filter(|id| is_owned(id) || is_there(id));
    all.map(begin).collect()
}

//! From what was stored to a running replica: a new tenure on every partition, always.

use std::collections::BTreeMap;

use gramme_merkle::Tree;
use gramme_object::Stamp;
use gramme_vclock::Actor;
use gramme_wire::WireError;
use gramme_wire::codec::Wire;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::amnesia::Lives;
use crate::change_properties::META_NAME;
use crate::commits::{Commits, Level};
use crate::config::leaf_bits;
use crate::duplicates::Duplicates;
use crate::io::{Change, Effect, Now, Recovered, RecoveredPartition};
use crate::keys::Keys;
use crate::partition::Partition;
use crate::peers::Peers;
use crate::places::Places;
use crate::properties::PropertyTable;
use crate::stats::Stats;
use crate::timers::{Timer, Timers};
use crate::{Config, Replica};

const META_BOOT: &str = "boot";

/// Why a replica does not start. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// A stored record is damaged, or of a newer version.
    #[error("the record of {what} cannot be read: {error}")]
    Record {
        /// Whose record.
        what: String,
        /// What is wrong with it.
        error: WireError,
    },
}

impl Replica {
    /// Starts on what was stored. `seed` must be different at every start: tenures are drawn from it.
    ///
    /// # Errors
    /// [`StartError`] if a stored record cannot be read.
    pub fn start(
        config: Config,
        recovered: Recovered,
        seed: [u8; 32],
        now: Now,
        out: &mut Vec<Effect>,
    ) -> Result<Self, StartError> {
        let mut rng = ChaCha8Rng::from_seed(seed);
        let (table, boot) = read_meta(&recovered, now)?;
        let partitions = begin_partitions(&config, &recovered, &mut rng, now)?;
        let mut tree = Tree::new(leaf_bits(config.layout.depth()));
        for (number, leaf) in &recovered.leaves {
            tree.set_leaf(*number, *leaf);
        }
        let position = partitions.values().map(Partition::commits).sum();
        let lives = Lives::begin(&recovered, position, rng.random());
        let lives =
            lives.map_err(|error| StartError::Record { what: "the directory's names".to_owned(), error })?;
        let amnesiac_partitions =
            partitions.values().filter(|partition| partition.is_amnesiac).count() as u64;
        let stats = Stats {
            keys: partitions.values().map(|partition| partition.total.count).sum(),
            bytes: partitions.values().map(|partition| partition.bytes).sum(),
            amnesiac_partitions,
            ..Stats::default()
        };
        let mut replica = Self {
            places: Places::new(config.keyspace.clone()),
            config,
            now,
            out: Vec::new(),
            next_request: rng.random(),
            rng,
            open_tickets: 0,
            boot,
            stamp: Stamp::default(),
            writable: true,
            partitions,
            tree,
            keys: Keys::default(),
            commits: Commits::default(),
            gets: BTreeMap::new(),
            puts: BTreeMap::new(),
            forwards: BTreeMap::new(),
            duplicates: Duplicates::default(),
            newest_table: table.version(),
            table,
            change: None,
            peers: Peers::default(),
            lives,
            timers: Timers::default(),
            stats,
        };
        replica.store_start();
        replica.timers.set(now.monotonic, Timer::Hello);
        replica.arm_timer();
        out.append(&mut replica.out);
        Ok(replica)
    }

    /// The first batch: this start, and every partition's new tenure.
    fn store_start(&mut self) {
        let mut boot = Vec::new();
        self.boot.encode_to(&mut boot);
        let mut changes = vec![
            Change::Meta { name: META_BOOT, value: boot.into() },
            Change::Meta { name: META_NAME, value: self.table.encode() },
            self.lives.record(),
        ];
        for (prefix, partition) in &mut self.partitions {
            let (prefix, total, record) = (*prefix, partition.total, partition.record());
            changes.push(Change::Partition { prefix, total, record });
        }
        self.commit(changes, Level::Synced);
    }
}

fn read_meta(recovered: &Recovered, now: Now) -> Result<(PropertyTable, u64), StartError> {
    let table = match recovered.meta.get(META_NAME.as_bytes()) {
        Some(record) => PropertyTable::decode(record.clone())
            .map_err(|error| StartError::Record { what: "the bucket properties".to_owned(), error })?,
        None => PropertyTable::founding(),
    };
    let last_boot = match recovered.meta.get(META_BOOT.as_bytes()) {
        Some(record) => u64::parse(&mut record.clone())
            .map_err(|error| StartError::Record { what: "the last start".to_owned(), error })?,
        None => 0,
    };
    Ok((table, now.wall.max(last_boot + 1)))
}

fn begin_partitions(
    config: &Config,
    recovered: &Recovered,
    rng: &mut ChaCha8Rng,
    now: Now,
) -> Result<BTreeMap<u32, Partition>, StartError> {
    let owned = config.layout.partitions().filter(|&id| config.layout.slot_of(id, config.node).is_some());
    let nothing = RecoveredPartition::default();
    owned
        .map(|id| {
            let stored = recovered.partitions.get(&id.prefix).unwrap_or(&nothing);
            let fresh = (Actor(rng.random()), rng.random());
            let begun = Partition::begin(stored.total, &stored.record, &stored.notes, fresh, now.wall);
            let partition =
                begun.map_err(|error| StartError::Record { what: format!("partition {id}"), error })?;
            Ok((id.prefix, partition))
        })
        .collect()
}

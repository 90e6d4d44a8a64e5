//! What a run is made of: a seed, and all that it expands to.

use std::fmt;

use rand::RngExt;

use crate::fault::{Fault, FaultSet};
use crate::random::{Rng, fork};

/// What a run is made of. The same settings give the same run, to the last bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Everything random comes from here.
    pub seed: u64,
    /// Operations of all clients together.
    pub operations: u64,
    /// Nodes.
    pub nodes: usize,
    /// N.
    pub replicas: u8,
    /// Q as a power of two.
    pub depth: u8,
    /// Clients, each with one operation under way.
    pub clients: usize,
    /// Keys that they contend for.
    pub keys: usize,
    /// Bytes of the longest values.
    pub largest: usize,
    /// Batches that a node stages at once.
    pub staged: usize,
    /// Bytes of objects that a node keeps in memory after use.
    pub cached: u64,
    /// Bytes that a node keeps for each other.
    pub hints: u64,
    /// Bytes from which on a value is asked of one owner alone.
    pub large: u32,
    /// By how much faults are rarer than at their worst.
    pub calm: u64,
    /// Which faults are on.
    pub faults: FaultSet,
}

impl Settings {
    /// The run that a seed stands for.
    #[must_use]
    pub fn of_seed(seed: u64, operations: u64) -> Self {
        let mut rng = fork(seed, "settings");
        let replicas: u8 = match rng.random_range(0..16) {
            0 => 5,
            1 => 4,
            2 => 2,
            3 => 1,
            _ => 3,
        };
        let nodes = usize::from(replicas) + rng.random_range(0..5);
        Self {
            seed,
            operations,
            nodes,
            replicas,
            depth: rng.random_range(0..5),
            clients: rng.random_range(2..13),
            keys: rng.random_range(1..25),
            // Some states are too large to be sent whole, and some values by themselves.
            largest: match rng.random_range(0..16) {
                0 => 50_000,
                1 => 150_000,
                _ => 2_000,
            },
            staged: [20, 60, 1_000][rng.random_range(0..3)],
            cached: [0, 20_000, 1 << 20][rng.random_range(0..3)],
            calm: rng.random_range(1..12),
            faults: some_faults(&mut rng, nodes),
            hints: [1_000, 20_000, 1 << 30, 1 << 30][rng.random_range(0..4)],
            large: [1, 1, 1_000, 8_192][rng.random_range(0..4)],
        }
    }

    /// The command that runs it again.
    #[must_use]
    pub fn command(&self) -> String {
        let usual = Self::of_seed(self.seed, self.operations);
        let mut command = format!("cargo xtask sim --seed {} --operations {}", self.seed, self.operations);
        let mut differs = |name: &str, value: String, is_usual: bool| {
            if !is_usual {
                command += &format!(" --{name} {value}");
            }
        };
        differs("clients", self.clients.to_string(), self.clients == usual.clients);
        differs("keys", self.keys.to_string(), self.keys == usual.keys);
        differs("faults", self.faults.to_string(), self.faults == usual.faults);
        command
    }
}

/// A random subset: few faults at once show what many would drown, and the reverse.
fn some_faults(rng: &mut Rng, nodes: usize) -> FaultSet {
    let share = rng.random_range(1..9);
    let mut faults: FaultSet = Fault::ALL.into_iter().filter(|_| rng.random_range(0..10) < share).collect();
    // At most one way to destroy what was synced, and that not always.
    let destructive: Vec<_> = faults.iter().filter(|fault| fault.is_destructive()).collect();
    let kept = rng.random_range(0..=destructive.len());
    for (at, fault) in destructive.iter().enumerate() {
        // A ring of two cannot do without the vote of one whose disk was lost.
        if at != kept || nodes < 3 && faults.has(Fault::RingChange) {
            faults = faults.without(*fault);
        }
    }
    faults
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            seed,
            operations,
            nodes,
            replicas,
            depth,
            clients,
            keys,
            largest,
            staged,
            cached,
            hints,
            large,
            calm,
            faults,
        } = self;
        write!(
            f,
            "seed {seed}: {operations} operations, {nodes} nodes, N={replicas}, Q={}, {clients} clients, \
             {keys} keys, values to {largest} bytes, {staged} batches staged, {cached} bytes cached, {hints} kept for each, \
             values from {large} bytes on of one owner, calm {calm}; \
             faults {faults}",
            1_u32 << depth
        )
    }
}

//! What can go wrong, by name, and how often it did.
//!
//! A fault that is enabled and never fires tests nothing, and nobody notices: two planted bugs of a prototype
//! were missed for that reason alone. So each has a name, each run says which are on, and all are counted.

use std::fmt;
use std::str::FromStr;

macro_rules! faults {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// One kind of fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Fault { $($(#[$doc])* $variant,)* }

        impl Fault {
            /// Every kind.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$variant),*];

            /// Its name on the command line.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

faults! {
    /// A message is lost.
    Drop = "drop",
    /// A message arrives twice.
    Duplicate = "duplicate",
    /// A message is late.
    Delay = "delay",
    /// Messages overtake each other.
    Reorder = "reorder",
    /// A connection is there, with too much waiting on it.
    Busy = "busy",
    /// A connection ends though both sides are well.
    Disconnect = "disconnect",
    /// One direction between two nodes is cut.
    OneWayCut = "one-way-cut",
    /// Some pairs of nodes are cut from each other.
    PartialCut = "partial-cut",
    /// Nodes are cut off one by one, and joined again in another order.
    Swizzle = "swizzle",
    /// What is sent to a node arrives late.
    SlowNode = "slow-node",
    /// A disk needs long for everything.
    SlowDisk = "slow-disk",
    /// A disk does nothing at all for seconds.
    DiskStall = "disk-stall",
    /// A process stands still, and wakes with everything that came meanwhile.
    Freeze = "freeze",
    /// A process ends without notice; the operating system goes on.
    Crash = "crash",
    /// A process ends, and nobody starts it again for long.
    Away = "away",
    /// One machine loses its power.
    PowerLoss = "power-loss",
    /// All machines lose their power at one instant.
    ClusterPowerLoss = "cluster-power-loss",
    /// A disk is lost, and an empty one takes its place.
    DiskLost = "disk-lost",
    /// A directory is replaced by an earlier snapshot of itself.
    RolledBack = "rolled-back",
    /// A running node's directory is copied, and the copy started.
    Cloned = "cloned",
    /// Bits of stored objects flip.
    BitFlip = "bit-flip",
    /// Reading a row fails.
    ReadError = "read-error",
    /// Writing a batch fails.
    WriteError = "write-error",
    /// A sync fails, and what it should have synced never reaches the platter.
    SyncError = "sync-error",
    /// A disk is full for a while.
    DiskFull = "disk-full",
    /// A wall clock jumps, either way.
    ClockJump = "clock-jump",
    /// A client's request never arrives.
    LostRequest = "lost-request",
    /// A client's answer never arrives.
    LostReply = "lost-reply",
    /// A client's request arrives twice.
    RepeatedRequest = "repeated-request",
    /// More requests than a node takes come to it at once.
    Crowd = "crowd",
    /// A bucket's properties are changed.
    PropertyChange = "property-change",
    /// Nodes are added, or given other weights, and partitions move.
    RingChange = "ring-change",
}

impl Fault {
    /// Whether it destroys what was synced. Only one node of a run suffers such faults: with two, an
    /// acknowledged write may rightly be gone.
    #[must_use]
    pub const fn is_destructive(self) -> bool {
        matches!(self, Self::DiskLost | Self::RolledBack | Self::Cloned | Self::BitFlip)
    }

    const fn bit(self) -> u64 {
        1 << self as u64
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = || Self::ALL.map(Self::name).join(", ");
        let fault = Self::ALL.into_iter().find(|fault| fault.name() == name);
        fault.ok_or_else(|| format!("there is no fault '{name}'; there are {}", known()))
    }
}

/// Which faults are on.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct FaultSet(u64);

impl FaultSet {
    /// All of them.
    #[must_use]
    pub fn all() -> Self {
        Fault::ALL.into_iter().collect()
    }

    /// Whether this one is on.
    #[must_use]
    pub const fn has(self, fault: Fault) -> bool {
        self.0 & fault.bit() != 0
    }

    /// The same without one of them.
    #[must_use]
    pub const fn without(self, fault: Fault) -> Self {
        Self(self.0 & !fault.bit())
    }

    /// Those that are on.
    pub fn iter(self) -> impl Iterator<Item = Fault> {
        Fault::ALL.into_iter().filter(move |fault| self.has(*fault))
    }
}

impl FromIterator<Fault> for FaultSet {
    fn from_iter<I: IntoIterator<Item = Fault>>(faults: I) -> Self {
        Self(faults.into_iter().fold(0, |bits, fault| bits | fault.bit()))
    }
}

impl fmt::Display for FaultSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("none");
        }
        f.write_str(&self.iter().map(Fault::name).collect::<Vec<_>>().join(","))
    }
}

impl fmt::Debug for FaultSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for FaultSet {
    type Err = String;

    fn from_str(names: &str) -> Result<Self, String> {
        match names {
            "none" => Ok(Self::default()),
            "all" => Ok(Self::all()),
            names => names.split(',').map(Fault::from_str).collect(),
        }
    }
}

/// How often each fault fired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts([u64; Fault::ALL.len()]);

impl Counts {
    /// How often this one did.
    #[must_use]
    pub const fn of(&self, fault: Fault) -> u64 {
        self.0[fault as usize]
    }

    pub(crate) const fn note(&mut self, fault: Fault) {
        self.0[fault as usize] += 1;
    }

    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(count, more)| *count += more);
    }

    /// The faults of `enabled` that never fired.
    #[must_use]
    pub fn idle(&self, enabled: FaultSet) -> Vec<Fault> {
        enabled.iter().filter(|fault| self.of(*fault) == 0).collect()
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fired = Fault::ALL.into_iter().filter(|fault| self.of(*fault) > 0);
        let words: Vec<_> = fired.map(|fault| format!("{fault} {}", self.of(fault))).collect();
        f.write_str(&words.join(", "))
    }
}

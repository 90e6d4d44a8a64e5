//! What clients did and were told, and what was destroyed meanwhile.
//!
//! Nothing in here comes from the system's own clocks. A value that is written is written once in a run, and
//! so names its write for ever. A history is written down as lines of JSON, so that clients of real processes
//! can keep one too.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, Write as _};

use serde::{Deserialize, Serialize};

/// Names a write for ever: it is the value that was written. The n-th write of a history has number n, from 1.
pub type WriteId = u64;

/// What a key's bucket promises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Siblings, each acknowledgement synced.
    #[default]
    Fsync,
    /// Siblings, one acknowledgement synced.
    OneOfN,
    /// Siblings, no acknowledgement synced.
    Buffered,
    /// The last write wins, each acknowledgement synced.
    Lww,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Fsync, Self::OneOfN, Self::Buffered, Self::Lww];
}

/// A key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// What its bucket promises.
    pub kind: Kind,
    /// Which nodes hold it, where that is known.
    #[serde(default)]
    pub owners: Vec<usize>,
}

/// What a writer was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// Nothing: it may be done or not.
    #[default]
    Unknown,
    /// For certain that it was not done.
    Refused,
    /// That it was done.
    Acked {
        /// When.
        at: u64,
        /// By at least how many replicas.
        copies: u8,
        /// How many of these stood in for an owner.
        #[serde(default)]
        fallbacks: u8,
        /// How many of these had synced it.
        synced: u8,
    },
}

impl Fate {
    /// By how many owners at least it was acknowledged.
    #[must_use]
    pub const fn primaries(self) -> u8 {
        match self {
            Self::Acked { copies, fallbacks, .. } => copies.saturating_sub(fallbacks),
            Self::Unknown | Self::Refused => 0,
        }
    }
}

/// One write.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteRecord {
    /// Which client wrote.
    pub client: usize,
    /// The key's number.
    pub key: usize,
    /// The writes whose values its writer had read, or written itself, when it sent the context along.
    pub read: Vec<WriteId>,
    /// Whether it deleted instead of storing a value.
    pub is_delete: bool,
    /// When its value expires, if it was written when it was sent and by a clock that is right.
    #[serde(default)]
    pub expires: Option<u64>,
    /// When it was sent.
    pub sent: u64,
    /// What its writer was told.
    pub fate: Fate,
}

impl WriteRecord {
    /// When it was acknowledged.
    #[must_use]
    pub const fn acked(&self) -> Option<u64> {
        match self.fate {
            Fate::Acked { at, .. } => Some(at),
            _ => None,
        }
    }
}

/// One read that was answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadRecord {
    /// Which client read.
    pub client: usize,
    /// The key's number.
    pub key: usize,
    /// How many owners answered at least.
    pub r: u8,
    /// Whether fallbacks alone have answered. They have not seen what owners have forgotten since.
    #[serde(default)]
    pub by_fallbacks: bool,
    /// What its session had read and written: it asked for all of that.
    #[serde(default)]
    pub session: Vec<WriteId>,
    /// The values that it showed, sorted.
    pub values: Vec<WriteId>,
    /// When it was sent.
    pub sent: u64,
    /// When it was answered.
    pub answered: u64,
}

/// A change of a bucket's properties.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeRecord {
    /// The bucket of which kind of keys.
    pub kind: Kind,
    /// What was set: a value that no other change sets.
    pub value: u32,
    /// When it was sent.
    pub sent: u64,
    /// When it was answered, and whether every node was said to have it.
    pub ended: Option<(u64, bool)>,
}

/// What was destroyed of one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damage {
    /// Whose disk.
    pub node: usize,
    /// Since when it may have been so.
    pub since: u64,
    /// When it was over: what was sent later is not concerned.
    pub at: u64,
    /// Only this key, if not all.
    #[serde(default)]
    pub key: Option<usize>,
    /// Whether synced data went too, not only what was not synced yet.
    pub synced: bool,
    /// When the node counted again, with all that others still had.
    #[serde(default)]
    pub mended: Option<u64>,
}

/// A promise that the simulator itself saw broken, with no client involved.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Broken {
    /// Replicas differ after everything was healed and read.
    Unequal(String),
    /// Something grows without a bound, or never ends.
    Unbounded(String),
    /// Nothing is done though nothing stands in the way.
    NoProgress(String),
    /// A node did what it never may: it did not start, it ended, it said what cannot be decoded.
    Misbehaved(String),
}

/// A line of a written history.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Line {
    Cluster { replicas: u8 },
    Key(KeyRecord),
    Write(WriteRecord),
    Read(ReadRecord),
    Last(ReadRecord),
    Damage(Damage),
    Lasting { since: u64 },
    Broken(Broken),
}

/// A whole run.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// N.
    pub replicas: u8,
    /// By how much two clocks by which values expire may differ.
    pub skew: u64,
    /// All keys, by number.
    pub keys: Vec<KeyRecord>,
    /// All writes, by number less one.
    pub writes: Vec<WriteRecord>,
    /// All reads, in the order of their answers.
    pub reads: Vec<ReadRecord>,
    /// What each key shows in the end, after everything was healed: each key is read several times.
    pub last: Vec<ReadRecord>,
    /// What was destroyed.
    pub damage: Vec<Damage>,
    /// From when on one node stays broken, frozen perhaps: what was under way there may end much later.
    pub lasting_since: Option<u64>,
    /// Changes of properties, in the order in which they were sent.
    pub changes: Vec<ChangeRecord>,
    /// What each bucket's property is in the end; nothing if nobody has set it.
    pub properties: Vec<(Kind, Option<u32>)>,
    /// Which write-ids each dot of a partition named; the one place where dots are looked at, as mere names.
    pub dots: BTreeMap<(u32, String), BTreeSet<u64>>,
    /// Which dots each value had.
    pub names: BTreeMap<WriteId, BTreeSet<String>>,
    /// What the simulator saw itself.
    pub broken: Vec<Broken>,
}

/// Why a history cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file cannot be read.
    #[error("cannot read the history: {0}")]
    Io(#[from] std::io::Error),
    /// A line is not one of a history.
    #[error("line {number} is not a line of a history: {error}")]
    Line {
        /// Which, from 1.
        number: usize,
        /// What is wrong.
        error: serde_json::Error,
    },
    /// Something names what is not there.
    #[error("the history speaks of {0}, which it does not have")]
    Dangling(String),
}

impl History {
    /// The write of this number, if there is one.
    #[must_use]
    pub fn write(&self, id: WriteId) -> Option<&WriteRecord> {
        self.writes.get(id.checked_sub(1)? as usize)
    }

    /// Writes it down, one line of JSON for each thing. Dots are left out.
    ///
    /// # Errors
    /// Those of the output.
    pub fn write_to(&self, out: impl std::io::Write) -> std::io::Result<()> {
        let mut out = std::io::BufWriter::new(out);
        let mut line = |line: &Line| -> std::io::Result<()> {
            serde_json::to_writer(&mut out, line)?;
            out.write_all(b"\n")
        };
        line(&Line::Cluster { replicas: self.replicas })?;
        self.keys.iter().try_for_each(|key| line(&Line::Key(key.clone())))?;
        self.writes.iter().try_for_each(|write| line(&Line::Write(write.clone())))?;
        self.reads.iter().try_for_each(|read| line(&Line::Read(read.clone())))?;
        self.last.iter().try_for_each(|read| line(&Line::Last(read.clone())))?;
        self.damage.iter().try_for_each(|damage| line(&Line::Damage(damage.clone())))?;
        self.lasting_since.into_iter().try_for_each(|since| line(&Line::Lasting { since }))?;
        self.broken.iter().try_for_each(|broken| line(&Line::Broken(broken.clone())))?;
        out.flush()
    }

    /// Reads what [`Self::write_to`], or a client of real processes, has written.
    ///
    /// # Errors
    /// [`ReadError`] if the lines are not a history.
    pub fn read_from(input: impl BufRead) -> Result<Self, ReadError> {
        let mut history = Self { replicas: 3, ..Self::default() };
        for (at, text) in input.lines().enumerate() {
            let text = text?;
            if text.trim().is_empty() {
                continue;
            }
            let line = serde_json::from_str(&text);
            match line.map_err(|error| ReadError::Line { number: at + 1, error })? {
                Line::Cluster { replicas } => history.replicas = replicas,
                Line::Key(key) => history.keys.push(key),
                Line::Write(write) => history.writes.push(write),
                Line::Read(read) => history.reads.push(read),
                Line::Last(read) => history.last.push(read),
                Line::Damage(damage) => history.damage.push(damage),
                Line::Lasting { since } => history.lasting_since = Some(since),
                Line::Broken(broken) => history.broken.push(broken),
            }
        }
        history.check_references()?;
        Ok(history)
    }

    fn check_references(&self) -> Result<(), ReadError> {
        let keys = self.writes.iter().map(|write| write.key);
        let keys = keys.chain(self.reads.iter().chain(&self.last).map(|read| read.key));
        if let Some(key) = keys.into_iter().find(|key| *key >= self.keys.len()) {
            return Err(ReadError::Dangling(format!("key {key}")));
        }
        let read = self.writes.iter().flat_map(|write| &write.read);
        match read.into_iter().find(|id| self.write(**id).is_none()) {
            Some(id) => Err(ReadError::Dangling(format!("write {id}"))),
            None => Ok(()),
        }
    }
}

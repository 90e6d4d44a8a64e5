//! What a replica counts. The driver renders it as metrics.

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Gets coordinated here.
    pub gets: u64,
    /// Of them, those that too few replicas answered.
    pub gets_failed: u64,
    /// Of them, those in which owners differed, and were asked again what became of a version.
    pub gets_asked_again: u64,
    /// Large values that were left out of answers to other coordinators.
    pub values_withheld: u64,
    /// Questions for versions whose value nobody had sent, or whose fate was not known.
    pub versions_asked: u64,
    /// Puts and deletes coordinated here.
    pub puts: u64,
    /// Of them, those that too few replicas acknowledged.
    pub puts_failed: u64,
    /// Puts handed to an owner.
    pub forwards: u64,
    /// Of them, those whose outcome is unknown.
    pub forwards_unknown: u64,
    /// Puts refused because of their number of siblings.
    pub puts_too_many_siblings: u64,
    /// Client requests refused because too many were under way.
    pub busy: u64,
    /// Reads answered for other coordinators.
    pub replica_reads: u64,
    /// Writes taken from other coordinators.
    pub replica_writes: u64,
    /// Versions refused because they had been seen and replaced.
    pub versions_refused: u64,
    /// Versions that were here, and that another replica had seen replaced.
    pub versions_buried: u64,
    /// Values that had expired and were dropped.
    pub values_purged: u64,
    /// Partitions of which all that another replica had was taken, and what it had seen.
    pub pulls: u64,
    /// Of these, those for which an earlier seen-set had to do, or none did: something of it was on its way.
    pub pulls_late: u64,
    /// Times that all rows were gone through.
    pub scrubs: u64,
    /// Rows that were gone through.
    pub rows_scrubbed: u64,
    /// Bytes a second that background work may take now.
    pub background_rate: u64,
    /// What 99 of 100 of the disk's reads and batches took in the last second, in microseconds; 0 if there were none.
    pub foreground_p99: u64,
    /// Seconds in which background work was slowed down.
    pub background_slowed: u64,
    /// Damaged rows that were found.
    pub rows_damaged: u64,
    /// Of them, those that were lost here: what was in them comes back from other replicas.
    pub rows_lost: u64,
    /// Times that data was found to be lost, since the start.
    pub losses: u64,
    /// Partitions of which dead tenures are being closed.
    pub partitions_closing: u64,
    /// Dead tenures that were closed.
    pub tenures_closed: u64,
    /// Keys of which a tombstone or a context was forgotten.
    pub reclaimed: u64,
    /// Keys that have something to forget, once every owner has seen it.
    pub reclaim_waiting: u64,
    /// Read repairs sent or made.
    pub read_repairs: u64,
    /// Duplicates of puts that were answered as the first.
    pub duplicates: u64,
    /// Requests of other nodes refused because too much waits for the disk.
    pub replica_busy: u64,
    /// Repairs not sent, or refused, because the key's versions together are too large.
    pub too_large: u64,
    /// Puts that went on with the same dot at a partition's new epoch.
    pub puts_restarted: u64,
    /// Gets that began again because their partition had other owners meanwhile.
    pub gets_restarted: u64,
    /// Requests that waited until this node had the layout that their senders acted on.
    pub requests_early: u64,
    /// Layouts that came into force here.
    pub layouts: u64,
    /// Partitions that were handed over to others and dropped.
    pub partitions_dropped: u64,
    /// What another node remembered of this one, and was damaged or forged.
    pub standings_refused: u64,
    /// Messages of gossip sent.
    pub gossip_messages: u64,
    /// Their bytes.
    pub gossip_bytes: u64,
    /// Other members that are suspect.
    pub members_suspect: u64,
    /// Other members that are down.
    pub members_down: u64,
    /// Copies kept for other nodes.
    pub hints: u64,
    /// Their bytes.
    pub hint_bytes: u64,
    /// Copies kept for others since the start.
    pub hints_stored: u64,
    /// Copies not kept because as many are as may be.
    pub hints_refused: u64,
    /// Copies kept for others that were damaged or gone.
    pub hints_lost: u64,
    /// Copies handed on, and durable where they belong.
    pub hints_handed_on: u64,
    /// Copies that their nodes would not take.
    pub hints_unwanted: u64,
    /// Deliveries of copies that failed; they are tried again.
    pub hints_failed: u64,
    /// Copies that others had kept for this node.
    pub hints_received: u64,
    /// Exchanges with other replicas that went through.
    pub exchanges: u64,
    /// Exchanges that were broken off.
    pub exchanges_failed: u64,
    /// Leaves whose keys were compared.
    pub leaves_compared: u64,
    /// Keys that exchanges have mended, here or there.
    pub keys_mended: u64,
    /// Bytes that exchanges compared and sent.
    pub exchange_bytes: u64,
    /// Rows that could not be read.
    pub load_failures: u64,
    /// How many reads saw no version, one, two, three, more (the paper's section 6.3).
    pub versions_read: [u64; 5],
    /// Keys stored.
    pub keys: u64,
    /// Bytes of objects stored.
    pub bytes: u64,
    /// Partitions that cannot prove that they hold what they acknowledged.
    pub amnesiac_partitions: u64,
    /// Partitions that have not yet been compared with what the others remember of this node.
    pub unproven_partitions: u64,
    /// Bytes of objects that are staged and not durable.
    pub staged_bytes: u64,
    /// Batches that are staged and not durable.
    pub staged_batches: u64,
    /// By how many microseconds this node's clock is off the median of its peers'; 0 while it is near.
    pub clock_off: u64,
}

impl Stats {
    pub(crate) fn count_versions(&mut self, versions: usize) {
        let last = self.versions_read.len() - 1;
        self.versions_read[versions.min(last)] += 1;
    }
}

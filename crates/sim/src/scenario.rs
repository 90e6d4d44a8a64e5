//! A cluster driven by hand: for interleavings that have a name.
//!
//! Nothing breaks by itself here, and no client works: a test starts operations, holds messages back by their
//! name, releases them later, ends processes and cuts the power, and looks at what is answered.
//!
//! ```
//! use gramme_sim::Scenario;
//!
//! let mut cluster = Scenario::new(3);
//! // Node 1 does not hear of the first write; whoever has read it replaces it there all the same.
//! cluster.hold("Write", 0, 1);
//! let first = cluster.put(0, "key", b"", 7);
//! let context = cluster.stored(first).expect("two of three are enough");
//! let second = cluster.put(1, "key", &context, 8);
//! cluster.stored(second).expect("all are up");
//! assert_eq!(cluster.release(), 1, "the message that was held back");
//! let read = cluster.get(1, "key", 3);
//! assert_eq!(cluster.found(read).map(|(values, _)| values), Some(vec![8]));
//! ```

use bytes::Bytes;
use gramme_object::{Content, Expiry, Key};
use gramme_quorum::Threshold;
use gramme_replica::{ClientPut, ClientRequest, Response, Stats, Ticket};

use crate::clients::{self, TIMEOUT};
use crate::cluster::{Cluster, Hold};
use crate::fault::FaultSet;
use crate::settings::Settings;

/// How long an operation is given, in microseconds of the cluster's own time.
const PATIENCE: u64 = 3_000_000;

/// A cluster that does what it is told.
pub struct Scenario {
    cluster: Cluster,
}

impl std::fmt::Debug for Scenario {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scenario").finish_non_exhaustive()
    }
}

impl Scenario {
    /// Nodes 0 to `nodes` - 1, started and connected, N = 3, one partition.
    ///
    /// # Panics
    /// With fewer than three nodes.
    #[must_use]
    pub fn new(nodes: usize) -> Self {
        assert!(nodes >= 3, "N is 3");
        let settings = Settings {
            seed: 0,
            operations: 0,
            nodes,
            replicas: 3,
            depth: 0,
            clients: 0,
            keys: 0,
            largest: 100,
            staged: 1_000,
            cached: 0,
            hints: 1 << 30,
            large: 1,
            calm: 1,
            faults: FaultSet::default(),
        };
        let mut cluster = Cluster::new(settings);
        cluster.found();
        Self { cluster }
    }

    fn key(name: &str) -> Key {
        // The parts are short; an empty name is the caller's mistake.
        Key::new("default", "scenario", name).unwrap_or_else(|_| unreachable!("a key's name"))
    }

    /// Writes `value` through `node` with a context; W is a quorum. The answer is in [`Self::stored`].
    pub fn put(&mut self, node: usize, key: &str, context: &[u8], value: u64) -> Ticket {
        let put = ClientPut {
            key: Self::key(key),
            context: Bytes::copy_from_slice(context),
            content: Some(Content::from_body(&value.to_le_bytes())),
            expiry: Expiry::AsBucket,
            touched: None,
            w: Threshold::Quorum,
            pw: Threshold::Default,
            dw: Threshold::Default,
            timeout: TIMEOUT,
            return_body: false,
            sloppy: None,
            identity: None,
        };
        self.cluster.ask_directly(node, ClientRequest::Put(put))
    }

    /// Reads through `node` at R = `r`. The answer is in [`Self::found`].
    pub fn get(&mut self, node: usize, key: &str, r: u8) -> Ticket {
        let (key, r) = (Self::key(key), Threshold::Count(r));
        self.cluster.ask_directly(
            node,
            ClientRequest::Get {
                key,
                r,
                pr: Threshold::Default,
                timeout: TIMEOUT,
                sloppy: None,
                against: Bytes::new(),
                session: Vec::new(),
            },
        )
    }

    /// Waits for a put's answer: its context, or nothing if it was not acknowledged.
    pub fn stored(&mut self, ticket: Ticket) -> Option<Bytes> {
        match self.answer(ticket)? {
            Response::Put(Ok(stored)) => Some(stored.context),
            _ => None,
        }
    }

    /// Waits for a get's answer: its values, sorted, and its context.
    pub fn found(&mut self, ticket: Ticket) -> Option<(Vec<u64>, Bytes)> {
        match self.answer(ticket)? {
            Response::Get(Ok(found)) => Some((clients::values(&found.object), found.context)),
            _ => None,
        }
    }

    fn answer(&mut self, ticket: Ticket) -> Option<Response> {
        let until = self.cluster.now() + PATIENCE;
        while !self.cluster.has_answer(ticket) && self.cluster.now() < until {
            self.cluster.turn();
        }
        self.cluster.take_answer(ticket)
    }

    /// Lets `micros` pass.
    pub fn wait(&mut self, micros: u64) {
        let until = self.cluster.now() + micros;
        self.cluster.turn_until(until);
    }

    /// Holds back messages of this name from one node to another from now on, as `Write` or `ReadReply`.
    pub fn hold(&mut self, name: &'static str, from: usize, to: usize) {
        self.cluster.hold(Hold { name, from, to });
    }

    /// Sends all that was held back on its way, and holds nothing back any more. Says how many messages.
    pub fn release(&mut self) -> usize {
        self.cluster.release()
    }

    /// Ends the process of a node; what it had written stays.
    pub fn crash(&mut self, node: usize) {
        self.cluster.crash_now(node);
    }

    /// Cuts a node's power: only what was synced stays for certain.
    pub fn cut_power(&mut self, node: usize) {
        self.cluster.cut_power_now(node);
    }

    /// Ends the process, and puts an empty disk in place of the node's own.
    pub fn lose_disk(&mut self, node: usize) {
        self.cluster.lose_disk_now(node);
    }

    /// Starts a node.
    pub fn start(&mut self, node: usize) {
        self.cluster.start(node);
        self.wait(100_000);
    }

    /// What a running node has counted.
    #[must_use]
    pub fn stats(&self, node: usize) -> Option<&Stats> {
        self.cluster.stats(node)
    }
}

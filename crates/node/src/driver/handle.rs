//! Starting a driver, and speaking to it from other threads.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use gramme_object::limits;
use gramme_replica::{Bounds, ClientRequest, LEAF_BITS, Now, Replica, Response};
use gramme_ring::{Keyspace, NodeId};
use gramme_storage::{Options, Store};
use gramme_transport::{Credentials, Endpoint, LinkEvent, Role};
use gramme_wire::client::RingReply;
use gramme_wire::peer::Room;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Instant;

use super::dial::{Dialling, Target};
use super::disk::{self, Disk};
use super::peers::Peers;
use super::readers::Readers;
use super::{Core, Wall, run};
use crate::config::Config;
use crate::metrics::Metrics;
use crate::predecessor;
use crate::ring_file::{RingFile, refuse_readable_by_others};

/// A request from another thread.
pub(crate) struct Ask {
    pub(crate) request: ClientRequest,
    pub(crate) reply: oneshot::Sender<Response>,
}

/// What the driver shares with other threads.
pub(crate) struct Shared {
    pub(crate) ring: RingReply,
    pub(crate) metrics: Metrics,
    pub(crate) max_value_bytes: usize,
    pub(crate) stopping: AtomicBool,
    pub(crate) http_connections: AtomicU64,
    pub(super) committed: Notify,
    pub(super) written: AtomicU64,
    pub(super) synced: AtomicU64,
    pub(super) commit_failed: AtomicBool,
    figures: Mutex<Figures>,
    /// When it was last said that it is ready.
    ready_at: Mutex<Option<std::time::Instant>>,
    conflict: Mutex<Option<(std::time::Instant, String)>>,
}

/// What a driver counts, as it last published it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) replica: gramme_replica::Stats,
    pub(crate) storage: gramme_storage::Stats,
}

impl Shared {
    fn new(ring: RingReply, max_value_bytes: usize) -> Self {
        Self {
            ring,
            metrics: Metrics::default(),
            max_value_bytes,
            stopping: AtomicBool::new(false),
            http_connections: AtomicU64::new(0),
            committed: Notify::new(),
            written: AtomicU64::new(0),
            synced: AtomicU64::new(0),
            commit_failed: AtomicBool::new(false),
            figures: Mutex::default(),
            ready_at: Mutex::default(),
            conflict: Mutex::default(),
        }
    }

    pub(super) fn publish(
        &self,
        replica: gramme_replica::Stats,
        storage: gramme_storage::Stats,
        is_ready: bool,
    ) {
        *self.figures.lock().unwrap_or_else(PoisonError::into_inner) = Figures { replica, storage };
        let at = is_ready.then(std::time::Instant::now);
        *self.ready_at.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }

    pub(crate) fn figures(&self) -> Figures {
        *self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a quorum of the owners of any key can be reached and counts. A driver that hangs says nothing, and
    /// is not ready.
    pub(crate) fn is_ready(&self) -> bool {
        let at = *self.ready_at.lock().unwrap_or_else(PoisonError::into_inner);
        at.is_some_and(|at| at.elapsed() < STALE) && !self.stopping.load(Ordering::Acquire)
    }

    /// Two processes were seen with one identity.
    pub(super) fn note_conflict(&self, what: String) {
        let now = std::time::Instant::now();
        *self.conflict.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, what));
    }

    /// Whether two processes were seen with one identity lately, and which.
    pub(crate) fn conflict(&self) -> Option<String> {
        let conflict = self.conflict.lock().unwrap_or_else(PoisonError::into_inner);
        conflict.as_ref().filter(|(at, _)| at.elapsed() < CONFLICT).map(|(_, what)| what.clone())
    }
}

/// For how long a driver's word holds; it gives it several times a second.
const STALE: Duration = Duration::from_secs(3);
/// For how long status tells of a second process after it was last seen: it tries again every few seconds.
const CONFLICT: Duration = Duration::from_secs(15);

/// Speaks to a driver. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Handle {
    pub(super) asks: mpsc::Sender<Ask>,
    pub(crate) shared: Arc<Shared>,
}

impl Handle {
    /// Asks the replica. Nothing comes back if the node is going down.
    pub(crate) async fn ask(&self, request: ClientRequest) -> Option<Response> {
        let (reply, answer) = oneshot::channel();
        self.asks.send(Ask { request, reply }).await.ok()?;
        answer.await.ok()
    }
}

/// A running driver.
pub(crate) struct Driver {
    pub(crate) handle: Handle,
    endpoint: Endpoint,
    stop: Option<oneshot::Sender<()>>,
    /// Resolves when the driver has ended by itself.
    pub(crate) ended: oneshot::Receiver<()>,
    thread: JoinHandle<Result<(), String>>,
}

impl Driver {
    /// Reads the node's certificates anew. If they are no good the present ones stay.
    pub(crate) fn renew(&self, config: &Config) {
        let renewed = read_credentials(config)
            .and_then(|credentials| Ok(self.endpoint.renew(Arc::new(credentials))?));
        match renewed {
            Ok(()) => tracing::info!("read the certificates anew; new connections use them"),
            Err(error) => tracing::error!("the certificates stay as they are: {error:#}"),
        }
    }

    /// Asks the driver to end, and waits until its store is closed.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        match self.thread.join() {
            Ok(Ok(())) => Ok(()),
            Ok(Err(why)) => {
                bail!("the node cannot go on: {why}; start it again and it will recover what is on its disk")
            }
            Err(_) => bail!("the node's thread panicked"),
        }
    }
}

/// Opens the store, starts the replica and its thread.
pub(crate) fn start(config: &Config) -> anyhow::Result<Driver> {
    // Each opening of the store is a start that the others are told of: not for nothing, and not in a loop.
    predecessor::wait_until_gone(config)?;
    let Prepared { core, parts, asks, stop, shared } = prepare(config, World::real()?)?;
    let (ending, ended) = oneshot::channel();
    let (bound, is_bound) = std::sync::mpsc::channel();
    let quic = config.quic;
    let thread = std::thread::Builder::new().name("shard-0".to_owned()).spawn(move || {
        let result = live(core, parts, quic, &bound);
        // Whoever waits for the end may have gone.
        let _ = ending.send(());
        result
    })?;
    match is_bound.recv_timeout(START) {
        Ok(Ok(endpoint)) => {
            Ok(Driver { handle: Handle { asks, shared }, endpoint, stop: Some(stop), ended, thread })
        }
        Ok(Err(error)) => bail!("{error}"),
        Err(_) => bail!("the node's thread did not start"),
    }
}

/// What a driver takes from outside beside its files: clock and randomness.
pub(super) struct World {
    pub(super) seed: [u8; 32],
    pub(super) wall: Wall,
    /// Whether commits are waited for on the spot.
    pub(super) waits: bool,
}

impl World {
    fn real() -> anyhow::Result<Self> {
        let wall = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        wall().context("the clock is before 1970")?;
        let wall = move || wall().unwrap_or_default().as_micros() as u64;
        Ok(Self { seed: rand::random(), wall: Box::new(wall), waits: false })
    }
}

/// A driver that has everything but a socket and a thread.
pub(super) struct Prepared {
    pub(super) core: Core,
    pub(super) parts: Parts,
    pub(super) asks: mpsc::Sender<Ask>,
    pub(super) stop: oneshot::Sender<()>,
    pub(super) shared: Arc<Shared>,
}

/// Opens the store and starts the replica.
pub(super) fn prepare(config: &Config, world: World) -> anyhow::Result<Prepared> {
    let RingFile { ring, secrets } = RingFile::read(&config.ring)?;
    let credentials = read_credentials(config)?;
    let node = node_of(config, &credentials, &ring)?;
    let shared = Arc::new(Shared::new(ring.clone(), config.max_value_bytes));
    let options = Options::new(config.engine, LEAF_BITS);
    let opened = open(&config.data_dir, options, &shared)?;
    let replica_config = gramme_replica::Config {
        node,
        addresses: addresses(config, node, &ring),
        layout: ring.layout.clone(),
        keyspace: Keyspace::new(ring.placement_key),
        secrets,
        max_requests: config.max_requests,
        bounds: Bounds::USUAL,
        background: config.background,
        scrub_every: config.scrub_hours as u64 * 3_600_000_000,
    };
    let rng = StdRng::from_seed(world.seed);
    let core = Core::start(replica_config, opened, Arc::clone(&shared), world)?;
    let (asks, ask_queue) = mpsc::channel(ASKS);
    let (stop, stopped) = oneshot::channel();
    // Not the limit of this node: a value above that is refused by an answer, not by closing the link.
    let max_client_frame = limits::MAX_VALUE + CLIENT_FRAME;
    let credentials = Arc::new(credentials);
    let parts = Parts { rng, node, credentials, max_client_frame, ask_queue, stopped };
    Ok(Prepared { core, parts, asks, stop, shared })
}

/// Questions and link events that may wait for the driver; whoever has more waits itself.
const ASKS: usize = 4_096;
/// What a client's message may be larger than its value: names, headers, a context.
const CLIENT_FRAME: usize = 1 << 20;
pub(super) const EVENTS: usize = 1_024;
/// How long the thread may take to bind its socket.
const START: Duration = Duration::from_secs(10);

/// The node that the certificate names. One that the ring does not know has joined since, and says where it listens.
fn node_of(config: &Config, credentials: &Credentials, ring: &RingReply) -> anyhow::Result<NodeId> {
    let Role::Node(node) = *credentials.role() else {
        bail!("{} is a client's certificate, not a node's", config.cert.display());
    };
    let is_known = ring.layout.is_member(node) || ring.addresses.iter().any(|(id, _)| *id == node);
    if !is_known {
        let (cert, ring) = (config.cert.display(), config.ring.display());
        bail!("{cert} names node {node}, which is not in the ring {ring}");
    }
    Ok(node)
}

/// Where everybody listened at the founding, and this node listens now.
fn addresses(config: &Config, node: NodeId, ring: &RingReply) -> BTreeMap<NodeId, Vec<String>> {
    let mut addresses: BTreeMap<_, _> = ring.addresses.iter().cloned().collect();
    match &config.advertise {
        Some(advertised) => drop(addresses.insert(node, advertised.clone())),
        // One that listens everywhere is reached where the founding says.
        None if config.quic.ip().is_unspecified() => {}
        None => drop(addresses.insert(node, vec![config.quic.to_string()])),
    }
    addresses
}

impl Core {
    /// Starts the replica on what the store holds.
    fn start(
        config: gramme_replica::Config,
        opened: gramme_storage::Opened,
        shared: Arc<Shared>,
        world: World,
    ) -> anyhow::Result<Self> {
        let (recovered, me) = (disk::recovered(&opened), config.node);
        let (position, store) = (opened.position, Arc::new(opened.store));
        let began = Instant::now();
        let World { seed, wall, waits } = world;
        let others = config.layout.members().iter().map(|member| member.id).filter(|id| *id != config.node);
        let targets = others.map(|node| (node, watch::Sender::new(Target::default()))).collect();
        let ring = shared.ring.clone();
        let mut effects = Vec::new();
        let now = Now { monotonic: 0, wall: wall() };
        let replica = Replica::start(config, recovered, seed, now, &mut effects)?;
        let mut core = Self {
            replica,
            disk: Disk::new(Arc::clone(&store), position, Arc::clone(&shared), waits),
            readers: Readers::start(store, waits)?,
            shared,
            began,
            wall,
            inputs: VecDeque::new(),
            told: (0, 0),
            effects: Vec::new(),
            timer: None,
            peers: Peers::new(me),
            targets,
            dialling: None,
            ring,
            pending: BTreeMap::new(),
            native: BTreeMap::new(),
            next_ticket: 0,
            fatal: None,
            is_removed: false,
            room: Room::Enough,
            is_amnesiac: false,
            is_clock_off: false,
        };
        effects.into_iter().for_each(|effect| core.perform(effect));
        Ok(core)
    }
}

/// What the driver's thread is made of beside its core.
pub(super) struct Parts {
    rng: StdRng,
    node: NodeId,
    pub(super) credentials: Arc<Credentials>,
    pub(super) max_client_frame: usize,
    ask_queue: mpsc::Receiver<Ask>,
    stopped: oneshot::Receiver<()>,
}

/// The driver's thread, from binding its socket to closing its store.
fn live(
    core: Core,
    parts: Parts,
    quic: SocketAddr,
    bound: &std::sync::mpsc::Sender<Result<Endpoint, String>>,
) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| error.to_string())?.block_on(async {
        let (links, link_queue) = mpsc::channel(EVENTS);
        let endpoint =
            Endpoint::bind(quic, Arc::clone(&parts.credentials), Some(parts.max_client_frame), links);
        let told = endpoint.as_ref().map(Endpoint::clone).map_err(ToString::to_string);
        // If nobody waits for this any more, the node is told to stop next.
        let _ = bound.send(told);
        let endpoint = endpoint.map_err(|error| error.to_string())?;
        drive(core, parts, endpoint, link_queue).await
    })
}

/// A driver on an endpoint, until it is told to stop or cannot go on.
pub(super) async fn drive(
    mut core: Core,
    parts: Parts,
    endpoint: Endpoint,
    link_queue: mpsc::Receiver<LinkEvent>,
) -> Result<(), String> {
    let Parts { node: me, ask_queue, stopped, rng, .. } = parts;
    let mut dialling = Dialling { endpoint: endpoint.clone(), me, rng, tasks: tokio::task::JoinSet::new() };
    core.targets.iter().for_each(|(peer, target)| dialling.keep_connected(*peer, target));
    core.dialling = Some(dialling);
    run(core, endpoint, link_queue, ask_queue, stopped).await
}

fn read_credentials(config: &Config) -> anyhow::Result<Credentials> {
    refuse_readable_by_others(&config.key)?;
    let read = |path: &Path| std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let (ca, cert, key) = (read(&config.ca)?, read(&config.cert)?, read(&config.key)?);
    Ok(Credentials::from_pem(&ca, &cert, &key)?)
}

/// Opens the store, and refuses one that cannot prove that it holds all it acknowledged.
fn open(directory: &Path, options: Options, shared: &Arc<Shared>) -> anyhow::Result<gramme_storage::Opened> {
    let began = Instant::now();
    let opened = Store::open(directory, options, disk::hooks(shared))?;
    if let Some((first, damage)) = opened.damaged.first_key_value() {
        for (partition, damage) in &opened.damaged {
            tracing::error!(%partition, ?damage, "cannot be proven whole");
        }
        bail!(
            "{}: {} of its partitions cannot be proven to hold all that was acknowledged (the first, {first}: \
             {damage:?}); the node refuses to serve. Put the directory back as it was, or remove this node from \
             the cluster and let a new one take its place",
            directory.display(),
            opened.damaged.len(),
        );
    }
    let keys: u64 = opened.partitions.values().map(|row| row.total.count).sum();
    tracing::info!(keys, millis = began.elapsed().as_millis() as u64, "the store is open and proven whole");
    Ok(opened)
}

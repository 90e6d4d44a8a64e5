//! chitchat, on tokio's paused time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chitchat::transport::{ChannelTransport, RecvOutcome, SendOutcome, Socket, Transport};
use chitchat::{
    ChitchatConfig, ChitchatEnvelope, ChitchatHandle, ChitchatId, FailureDetectorConfig, ProtocolVersion,
    spawn_chitchat,
};
use rand::RngExt;
use rand::rngs::StdRng;
use tokio::time::{Instant, sleep, sleep_until};

use crate::{LONG, SECOND, TIMES, delay, mean, per_hour, seeded, stops};

struct Inner {
    stopped: BTreeMap<SocketAddr, Instant>,
    loss: u32,
    rng: StdRng,
}

/// chitchat's own channels, which count bytes, with loss and delay.
#[derive(Clone)]
struct Network {
    channels: ChannelTransport,
    inner: Arc<Mutex<Inner>>,
}

struct Port {
    network: Network,
    here: SocketAddr,
    socket: Box<dyn Socket>,
}

impl Network {
    fn new(seed: u64) -> Self {
        let inner = Inner { stopped: BTreeMap::new(), loss: 0, rng: seeded(seed) };
        // As much as a datagram holds.
        Self { channels: ChannelTransport::with_mtu(65_507), inner: Arc::new(Mutex::new(inner)) }
    }

    fn with<T>(&self, call: impl FnOnce(&mut Inner) -> T) -> T {
        call(&mut self.inner.lock().expect("no panic"))
    }

    fn bytes(&self) -> u64 {
        self.channels.statistics().num_bytes_total
    }

    /// Waits while a member does not run.
    async fn while_stopped(&self, address: SocketAddr) {
        let until = self.with(|inner| inner.stopped.get(&address).copied());
        if let Some(until) = until.filter(|until| *until > Instant::now()) {
            sleep_until(until).await;
        }
    }
}

#[async_trait]
impl Transport for Network {
    async fn open(&self, here: SocketAddr) -> anyhow::Result<Box<dyn Socket>> {
        let socket = self.channels.open(here).await?;
        Ok(Box::new(Port { network: self.clone(), here, socket }))
    }
}

#[async_trait]
impl Socket for Port {
    fn local_addr(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.here)
    }

    async fn send(&mut self, to: SocketAddr, envelope: ChitchatEnvelope) -> anyhow::Result<SendOutcome> {
        self.network.while_stopped(self.here).await;
        if self.network.with(|inner| inner.rng.random_range(0..100) < inner.loss) {
            return Ok(SendOutcome { num_bytes_sent: 0 });
        }
        self.socket.send(to, envelope).await
    }

    async fn recv(&mut self) -> anyhow::Result<RecvOutcome> {
        let outcome = self.socket.recv().await?;
        let after = self.network.with(|inner| delay(&mut inner.rng));
        sleep(Duration::from_micros(after)).await;
        self.network.while_stopped(self.here).await;
        Ok(outcome)
    }
}

struct Cluster {
    network: Network,
    handles: Vec<ChitchatHandle>,
}

pub(crate) fn measure(nodes: u64) -> [Option<f64>; 6] {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(async {
        let (mut spreads, mut firsts, mut alls, mut bytes) = (Vec::new(), Vec::new(), Vec::new(), 0.0);
        for seed in 0..TIMES {
            let mut cluster = Cluster::settled(nodes, seed).await;
            spreads.push(cluster.spread().await);
            bytes = cluster.idle().await;
            let (first, all) = cluster.death().await;
            firsts.push(first);
            alls.push(all);
            cluster.end();
        }
        let (lossy, starved) = (lossy(nodes).await, starved(nodes).await);
        [mean(&spreads), bytes, mean(&firsts), mean(&alls), lossy, starved].map(Some)
    })
}

async fn lossy(nodes: u64) -> f64 {
    let cluster = Cluster::settled(nodes, 1).await;
    cluster.network.with(|inner| inner.loss = 20);
    let downs = cluster.downs(|| {}).await;
    cluster.end();
    per_hour(downs, nodes)
}

async fn starved(nodes: u64) -> f64 {
    let cluster = Cluster::settled(nodes, 1).await;
    let mut rng = seeded(1);
    let stop = || {
        for (node, time) in stops(nodes, &mut rng) {
            let until = Instant::now() + Duration::from_micros(time);
            cluster.network.with(|inner| inner.stopped.insert(address(node), until));
        }
    };
    let downs = cluster.downs(stop).await;
    cluster.end();
    per_hour(downs, nodes)
}

fn address(node: u64) -> SocketAddr {
    ([10, 0, (node / 250) as u8, 1 + (node % 250) as u8], 7_000).into()
}

fn id(node: u64) -> ChitchatId {
    ChitchatId::new(format!("{node:016x}"), 0, address(node))
}

impl Cluster {
    async fn settled(nodes: u64, seed: u64) -> Self {
        let network = Network::new(seed);
        let mut handles = Vec::new();
        for node in 0..nodes {
            let config = ChitchatConfig {
                chitchat_id: id(node),
                cluster_id: "one".to_owned(),
                gossip_interval: Duration::from_secs(1),
                listen_addr: address(node),
                seed_nodes: vec![address(0).to_string()],
                failure_detector_config: FailureDetectorConfig::default(),
                marked_for_deletion_grace_period: Duration::from_secs(3_600),
                catchup_callback: None,
                extra_liveness_predicate: None,
                protocol_version: ProtocolVersion::V1,
            };
            let values = vec![("address".to_owned(), address(node).to_string())];
            handles.push(spawn_chitchat(config, values, &network).await.expect("a member"));
            sleep(Duration::from_micros(SECOND / nodes)).await;
        }
        // Until heartbeats have a history.
        sleep(Duration::from_secs(40)).await;
        Self { network, handles }
    }

    async fn spread(&self) -> f64 {
        let began = Instant::now();
        let set = |chitchat: &mut chitchat::Chitchat| chitchat.self_node_state().set("address", "elsewhere");
        self.handles[0].with_chitchat(set).await;
        loop {
            let mut all = true;
            for handle in &self.handles {
                let knows = |chitchat: &mut chitchat::Chitchat| {
                    chitchat.node_state(&id(0)).is_some_and(|state| state.get("address") == Some("elsewhere"))
                };
                all &= handle.with_chitchat(knows).await;
            }
            if all || began.elapsed() > Duration::from_secs(600) {
                return began.elapsed().as_secs_f64();
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    async fn idle(&self) -> f64 {
        let before = self.network.bytes();
        sleep(Duration::from_secs(20)).await;
        (self.network.bytes() - before) as f64 / self.handles.len() as f64 / 20.0
    }

    /// Whom each member finds down.
    async fn found_down(&self) -> Vec<BTreeSet<ChitchatId>> {
        let mut found = Vec::new();
        for handle in &self.handles {
            found.push(handle.with_chitchat(|chitchat| chitchat.dead_nodes().cloned().collect()).await);
        }
        found
    }

    async fn death(&mut self) -> (f64, f64) {
        let began = Instant::now();
        self.handles.remove(1).abort();
        let mut first = None;
        loop {
            let found = self.found_down().await;
            let count = found.iter().filter(|found| found.contains(&id(1))).count();
            if count > 0 {
                first.get_or_insert(began.elapsed().as_secs_f64());
            }
            if count == self.handles.len() || began.elapsed() > Duration::from_secs(1_200) {
                return (first.unwrap_or(f64::NAN), began.elapsed().as_secs_f64());
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// How often a member that lives is found down.
    async fn downs(&self, mut each_second: impl FnMut()) -> usize {
        let mut before = self.found_down().await;
        let mut downs = 0;
        for _ in 0..LONG {
            each_second();
            sleep(Duration::from_secs(1)).await;
            let found = self.found_down().await;
            downs += before
                .iter()
                .zip(&found)
                .map(|(before, found)| found.difference(before).count())
                .sum::<usize>();
            before = found;
        }
        downs
    }

    fn end(self) {
        self.handles.iter().for_each(ChitchatHandle::abort);
    }
}

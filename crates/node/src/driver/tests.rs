//! The second ring: real drivers, stores and QUIC, over a network in memory, on paused time. A minute of
//! silence takes no time, and what a test decides about a datagram happens to it.
//!
//! Nothing may work on the side while time stands still: a thread that takes a millisecond lets the clock run
//! through minutes. So commits are waited for on the spot ([`World::waits`]).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gramme_object::{Content, Expiry, Key};
use gramme_quorum::{PutError, Threshold};
use gramme_replica::{ClientPut, ClientRequest, Response};
use gramme_ring::NodeId;
use gramme_storage::EngineKind;
use gramme_transport::memory::{Conditions, Net, Traced};
use gramme_transport::{Authority, Credentials, Endpoint, Frame, Kind, LinkEvent, Protocol};
use gramme_wire::ClientMessage;
use gramme_wire::client::Get;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::handle::{EVENTS, Handle, Prepared, World, drive, prepare};
use crate::config::Config;
use crate::founding::{Plot, found};

const WALL: u64 = 1_700_000_000_000_000;
const SECOND: Duration = Duration::from_secs(1);

struct Node {
    handle: Handle,
    endpoint: Endpoint,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), String>>,
}

struct Cluster {
    directory: PathBuf,
    net: Net,
    began: Instant,
    nodes: BTreeMap<u8, Node>,
}

fn address(node: u8) -> SocketAddr {
    ([10, 0, 0, node], 4_000).into()
}

/// Three nodes that were never started, below a directory of their own.
fn founded() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let plot =
        |node: u8| Plot { name: format!("n{node}"), http: ([127, 0, 0, 1], 1).into(), quic: address(node) };
    found(directory.path(), "test", &[plot(1), plot(2), plot(3)], EngineKind::Memory).expect("a cluster");
    directory
}

impl Cluster {
    async fn start(directory: &Path, seed: u64) -> Self {
        let net = Net::new(seed, Conditions::default());
        let directory = directory.to_owned();
        let mut cluster = Self { directory, net, began: Instant::now(), nodes: BTreeMap::new() };
        (1..=3).for_each(|node| cluster.raise(node));
        cluster.until_ready().await;
        cluster
    }

    fn raise(&mut self, node: u8) {
        let file = self.directory.join(format!("n{node}/gramme.toml"));
        let mut config = Config::load(&file, &[], |_| None).expect("settings");
        // A copy of a directory is started on another machine.
        config.quic = address(node);
        let began = self.began;
        let wall = Box::new(move || WALL + began.elapsed().as_micros() as u64);
        // Another start is another seed, as tenures must be.
        let start = self.began.elapsed().as_micros() as u64;
        let mut seed = [node; 32];
        seed[..8].copy_from_slice(&start.to_le_bytes());
        let world = World { seed, wall, waits: true };
        let Prepared { core, parts, asks, stop, shared } = prepare(&config, world).expect("a driver");
        let (links, link_queue) = mpsc::channel(EVENTS);
        let credentials = Arc::clone(&parts.credentials);
        let endpoint = Endpoint::in_memory(
            &self.net,
            config.quic,
            credentials,
            Some(parts.max_client_frame),
            links,
            seed,
        );
        let endpoint = endpoint.expect("an endpoint");
        let task = tokio::spawn(drive(core, parts, endpoint.clone(), link_queue));
        self.nodes.insert(node, Node { handle: Handle { asks, shared }, endpoint, stop, task });
    }

    /// Ends a node without a word to anybody.
    async fn kill(&mut self, node: u8) {
        self.net.unplug(address(node));
        let node = self.nodes.remove(&node).expect("a node");
        node.task.abort();
        let _ = node.task.await;
        node.endpoint.close_now();
        drop(node.stop);
    }

    async fn put(&self, node: u8, key: &str, value: &[u8], w: Threshold) -> Response {
        let put = ClientPut {
            key: key_of(key),
            context: Bytes::new(),
            content: Some(Content::from_body(value)),
            expiry: Expiry::AsBucket,
            touched: None,
            w,
            pw: Threshold::Default,
            dw: Threshold::Default,
            timeout: 2_000,
            return_body: false,
            sloppy: None,
            identity: None,
        };
        self.nodes[&node].handle.ask(ClientRequest::Put(put)).await.expect("an answer")
    }

    async fn get(&self, node: u8, key: &str, r: Threshold) -> Response {
        let get = ClientRequest::Get {
            key: key_of(key),
            r,
            pr: Threshold::Default,
            timeout: 2_000,
            sloppy: None,
            against: Bytes::new(),
            session: Vec::new(),
        };
        self.nodes[&node].handle.ask(get).await.expect("an answer")
    }

    async fn until_ready(&self) {
        while !self.nodes.values().all(|node| node.handle.shared.is_ready()) {
            sleep(Duration::from_millis(10)).await;
        }
    }

    async fn id(&self, node: u8) -> NodeId {
        let Some(Response::Status(status)) = self.nodes[&node].handle.ask(ClientRequest::Status).await else {
            panic!("a status")
        };
        status.node
    }

    /// Cuts node 3 off, or joins it again.
    fn part(&self, cut: bool) {
        for other in [1, 2] {
            self.net.part(address(3), address(other), cut);
        }
    }

    async fn stop(self) {
        for (_, Node { stop, task, .. }) in self.nodes {
            let _ = stop.send(());
            task.await.expect("no panic").expect("a clean end");
        }
    }
}

fn key_of(name: &str) -> Key {
    Key::new("default", "b", name).expect("a key")
}

fn is_ok(response: &Response) -> bool {
    matches!(response, Response::Put(Ok(_)) | Response::Get(Ok(_)))
}

fn values(response: &Response) -> Vec<Bytes> {
    let Response::Get(Ok(found)) = response else { panic!("{response:?}") };
    found.object.versions().values().filter_map(|sibling| Some(sibling.content.as_ref()?.body())).collect()
}

#[tokio::test(start_paused = true)]
async fn a_cut_is_noticed_survived_and_healed() {
    let directory = founded();
    let cluster = Cluster::start(directory.path(), 1).await;
    assert!(is_ok(&cluster.put(1, "key", b"before", Threshold::All).await));
    cluster.part(true);
    // Before anybody has noticed, two of three are enough.
    assert!(is_ok(&cluster.put(1, "key", b"unnoticed", Threshold::Quorum).await));
    sleep(3 * SECOND).await;
    let began = Instant::now();
    assert!(is_ok(&cluster.put(2, "key", b"noticed", Threshold::Quorum).await));
    let Response::Put(Err(PutError::Unavailable(_))) =
        cluster.put(3, "key", b"alone", Threshold::Quorum).await
    else {
        panic!("one node is no quorum")
    };
    assert!(began.elapsed() < SECOND, "who is known to be gone is not waited for: {:?}", began.elapsed());
    cluster.part(false);
    sleep(3 * SECOND).await;
    // What could not be acknowledged may be there all the same, as a sibling.
    let found = values(&cluster.get(3, "key", Threshold::All).await);
    assert_eq!(found.len(), 4, "{found:?}");
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn one_direction_is_as_good_as_none() {
    let directory = founded();
    let cluster = Cluster::start(directory.path(), 2).await;
    cluster.net.cut(address(3), address(1), true);
    sleep(3 * SECOND).await;
    // Node 3 hears node 1 and is not heard; through node 2 everything goes on.
    assert!(is_ok(&cluster.put(1, "key", b"x", Threshold::Quorum).await));
    assert!(is_ok(&cluster.put(3, "key", b"y", Threshold::Quorum).await));
    assert!(is_ok(&cluster.put(2, "key", b"z", Threshold::All).await));
    assert!(!is_ok(&cluster.get(1, "key", Threshold::All).await));
    cluster.net.cut(address(3), address(1), false);
    sleep(3 * SECOND).await;
    assert_eq!(values(&cluster.get(1, "key", Threshold::All).await).len(), 3);
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_dies_and_comes_back_is_found_again() {
    let directory = founded();
    let mut cluster = Cluster::start(directory.path(), 3).await;
    for number in 0..20 {
        assert!(is_ok(&cluster.put(1, &format!("k{number}"), b"x", Threshold::All).await));
        if number % 5 == 4 {
            cluster.kill(2).await;
            assert!(is_ok(&cluster.put(3, "meanwhile", b"x", Threshold::Quorum).await));
            cluster.raise(2);
            // Ready is a quorum; this test wants all.
            cluster.until_ready().await;
            sleep(2 * SECOND).await;
        }
    }
    for number in 0..20 {
        assert_eq!(values(&cluster.get(2, &format!("k{number}"), Threshold::All).await), ["x"]);
    }
    cluster.stop().await;
}

/// Each has its own link first and the other's second: what the two are must not look like two processes.
#[tokio::test(start_paused = true)]
async fn two_nodes_that_dial_each_other_at_once_stay_connected() {
    let directory = founded();
    let cluster = Cluster::start(directory.path(), 7).await;
    let (one, three) = (cluster.id(1).await, cluster.id(3).await);
    for _ in 0..5 {
        cluster.part(true);
        sleep(3 * SECOND).await;
        cluster.part(false);
        let dial = |from: u8, to: u8, peer| {
            cluster.nodes[&from].endpoint.connect(address(to), Protocol::Node, Some(peer))
        };
        let (there, back) = tokio::join!(dial(1, 3, three), dial(3, 1, one));
        assert!(there.is_ok() && back.is_ok());
        for _ in 0..20 {
            sleep(SECOND).await;
            for node in [1, 3] {
                assert_eq!(cluster.nodes[&node].handle.shared.conflict(), None);
            }
        }
        assert!(is_ok(&cluster.put(1, "key", b"x", Threshold::All).await));
    }
    cluster.stop().await;
}

fn copy_all(from: &Path, to: &Path) {
    let status = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(status.expect("cp").success());
}

/// While node 3 is cut off, a copy of its directory is started and taken for it. When both are there the copy is turned
/// away by everybody, though what the others remember of it is more than node 3 knows of itself.
#[tokio::test(start_paused = true)]
async fn a_copy_that_was_taken_for_a_node_is_turned_away_when_that_is_back() {
    for seed in 0..4 {
        let directory = founded();
        copy_all(&directory.path().join("n3"), &directory.path().join("n33"));
        let mut cluster = Cluster::start(directory.path(), 20 + seed).await;
        sleep(5 * SECOND).await;
        cluster.part(true);
        sleep(5 * SECOND).await;
        cluster.raise(33);
        sleep(10 * SECOND).await;
        assert!(is_ok(&cluster.put(33, "key", b"x", Threshold::Quorum).await));
        cluster.part(false);
        sleep(30 * SECOND).await;
        assert!(is_ok(&cluster.put(3, "key", b"x", Threshold::All).await), "the elder stays");
        assert!(!is_ok(&cluster.put(33, "key", b"x", Threshold::Quorum).await), "the copy has nobody left");
        cluster.stop().await;
    }
}

/// A link over which nothing is said of a process is dropped, and no more.
#[tokio::test(start_paused = true)]
async fn silence_accuses_nobody() {
    let directory = founded();
    let cluster = Cluster::start(directory.path(), 7).await;
    sleep(5 * SECOND).await;
    let one = cluster.id(1).await;
    let read = |name: &str| std::fs::read(directory.path().join("n3").join(name)).expect("a file");
    let (authority, certificate, key) = (read("ca.pem"), read("node.pem"), read("node.key"));
    let credentials = Arc::new(Credentials::from_pem(&authority, &certificate, &key).expect("credentials"));
    let (events, mut queue) = mpsc::channel::<LinkEvent>(1_000);
    tokio::spawn(async move { while queue.recv().await.is_some() {} });
    let endpoint =
        Endpoint::in_memory(&cluster.net, address(98), credentials, Some(1 << 20), events, [9; 32]);
    let link = endpoint.expect("an endpoint").connect(address(1), Protocol::Node, Some(one)).await;
    let link = link.expect("a link");
    sleep(8 * SECOND).await;
    assert!(link.is_closed());
    assert_eq!(cluster.nodes[&1].handle.shared.conflict(), None);
    assert!(is_ok(&cluster.put(3, "key", b"x", Threshold::All).await));
    cluster.stop().await;
}

/// Each node's certificate is renewed while requests go on; links that are made afterwards use the new ones.
#[tokio::test(start_paused = true)]
async fn certificates_are_renewed_in_passing() {
    let directory = founded();
    let mut cluster = Cluster::start(directory.path(), 6).await;
    let read = |name: &str| std::fs::read_to_string(directory.path().join(name)).expect("a file");
    let authority = Authority::load("test", read("ca.pem"), read("ca.key")).expect("the cluster's authority");
    for node in 1..=3 {
        let key = read(&format!("n{node}/node.key"));
        let renewed = authority.renew_node(&key).expect("a certificate");
        assert_ne!(renewed.certificate, read(&format!("n{node}/node.pem")));
        let (authority, certificate) = (authority.certificate().as_bytes(), renewed.certificate.as_bytes());
        let credentials = Credentials::from_pem(authority, certificate, key.as_bytes()).expect("credentials");
        cluster.nodes[&node].endpoint.renew(Arc::new(credentials)).expect("the same node");
        assert!(is_ok(&cluster.put(node, "key", b"x", Threshold::All).await));
    }
    cluster.part(true);
    sleep(3 * SECOND).await;
    cluster.part(false);
    sleep(3 * SECOND).await;
    assert_eq!(values(&cluster.get(3, "key", Threshold::All).await).len(), 3);
    // One that starts on its old certificate is still who it was.
    cluster.kill(2).await;
    cluster.raise(2);
    cluster.until_ready().await;
    sleep(2 * SECOND).await;
    assert_eq!(values(&cluster.get(2, "key", Threshold::All).await).len(), 3);
    cluster.stop().await;
}

/// A client that asks for much and reads nothing is its own problem: its node stays within its bounds, and
/// others are answered as before.
#[tokio::test(start_paused = true)]
async fn a_slow_reader_harms_nobody_else() {
    let directory = founded();
    let cluster = Cluster::start(directory.path(), 4).await;
    assert!(is_ok(&cluster.put(1, "large", &vec![7; 900_000], Threshold::All).await));
    // One event fits; nobody takes it, so the client's side reads no further.
    let (events, _unread) = mpsc::channel::<LinkEvent>(1);
    let client = Arc::new(client_credentials(directory.path()));
    let endpoint = Endpoint::in_memory(&cluster.net, address(99), client, None, events, [9; 32]);
    let link = endpoint.expect("an endpoint").connect(address(1), Protocol::Client, None).await;
    let link = link.expect("a link");
    let get = Get {
        key: key_of("large"),
        r: Threshold::One,
        pr: Threshold::Default,
        timeout: 60_000,
        sloppy: None,
        session: Vec::new(),
    };
    let mut body = Vec::new();
    let message = ClientMessage::Get(get);
    message.encode(&mut body);
    for id in 0..500 {
        let (method, body) = (message.method(), body.clone().into());
        let frame = Frame { kind: Kind::Request, method, id, ttl: 60_000_000, body };
        // A full lane refuses: that is the bound at work.
        let _ = link.send(frame);
    }
    sleep(5 * SECOND).await;
    for number in 0..50 {
        let answer = timeout(SECOND, cluster.put(1, &format!("k{number}"), b"x", Threshold::All)).await;
        assert!(is_ok(&answer.expect("within a second")));
    }
    cluster.stop().await;
}

fn client_credentials(directory: &Path) -> Credentials {
    let read = |name: &str| std::fs::read(directory.join(name)).expect("what the founding made");
    let (authority, certificate, key) = (read("ca.pem"), read("client.pem"), read("client.key"));
    Credentials::from_pem(&authority, &certificate, &key).expect("credentials")
}

/// Loss, doubling and overtaking, and many requests at once.
async fn rough(directory: &Path) -> (Vec<Traced>, usize) {
    let cluster = Arc::new(Cluster::start(directory, 5).await);
    for (from, to) in (1..=3).flat_map(|from| (1..=3).map(move |to| (from, to))) {
        let jitter = Duration::from_millis(3);
        let wild = Conditions { loss: 300, twice: 50, jitter, ..Conditions::default() };
        cluster.net.set(address(from), address(to), wild);
    }
    let mut all = tokio::task::JoinSet::new();
    for worker in 0..12_u8 {
        let cluster = Arc::clone(&cluster);
        all.spawn(async move {
            let mut good = 0;
            for number in 0..10 {
                let (node, key) = (1 + worker % 3, format!("w{worker}-{number}"));
                good += usize::from(is_ok(&cluster.put(node, &key, b"x", Threshold::Quorum).await));
                good += usize::from(is_ok(&cluster.get(node, &key, Threshold::Quorum).await));
            }
            good
        });
    }
    let good = all.join_all().await.into_iter().sum();
    let trace = cluster.net.trace();
    (trace, good)
}

/// One seed is one run, down to the time and size of each datagram, on the same certificates.
#[test]
fn a_rough_network_is_survived_the_same_way_each_time() {
    let directory = founded();
    let run = || {
        let place = tempfile::tempdir().expect("a directory");
        let copied = place.path().join("cluster");
        let status = std::process::Command::new("cp").arg("-a").arg(directory.path()).arg(&copied).status();
        assert!(status.expect("cp").success());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        runtime.expect("a runtime").block_on(rough(&copied))
    };
    let (trace, good) = run();
    assert_eq!(good, 240, "loss is the transport's to mend");
    let (again, _) = run();
    let same = trace.iter().zip(&again).take_while(|(one, other)| one == other).count();
    assert!(same == trace.len() && same == again.len(), "the same for {same} datagrams of {}", trace.len());
}

//! The client: routes a request to a node, and to another where that is safe.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use gramme_object::Key;
use gramme_quorum::Blame;
use gramme_ring::{Keyspace, NodeId};
use gramme_router::{Call, Operation, Outcome, Router, Step, Verdict};
use gramme_transport::{CallError, Caller, Credentials, Endpoint};
use gramme_wire::ClientMessage;
use gramme_wire::client::{Ring, RingReply};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::bucket::Bucket;
use crate::connections::Connections;
use crate::error::{ConnectError, Error};

/// How much longer we wait than we ask the node to, so that its answer finds us.
const GRACE: Duration = Duration::from_millis(250);

/// What a client is made of.
#[derive(Debug)]
pub struct Config {
    credentials: Arc<Credentials>,
    seeds: Vec<SocketAddr>,
    timeout: Duration,
}

impl Config {
    /// A client with these credentials that finds the cluster at any of `seeds`.
    #[must_use]
    pub fn new(credentials: Credentials, seeds: impl IntoIterator<Item = SocketAddr>) -> Self {
        let seeds = seeds.into_iter().collect();
        Self { credentials: Arc::new(credentials), seeds, timeout: Duration::from_secs(5) }
    }

    /// How long each request may take; 5 seconds unless set.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

/// A connection to a cluster. Cheap to clone; all clones share their links.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    connections: Connections,
    state: Mutex<State>,
    timeout: Duration,
    /// This client's random id, and how many puts it has begun: together they name a put.
    origin: u64,
    puts: AtomicU64,
    began: Instant,
}

#[derive(Debug)]
struct State {
    router: Router,
    keyspace: Keyspace,
    cluster: String,
    refreshing: bool,
    /// When it was asked for last.
    fetched: Instant,
}

impl Client {
    /// Finds the cluster and fetches its ring. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`ConnectError`] if no seed answers.
    pub async fn connect(config: Config) -> Result<Self, ConnectError> {
        let (sender, events) = mpsc::channel(256);
        let local = match config.seeds.first() {
            Some(SocketAddr::V6(_)) => SocketAddr::from(([0_u16; 8], 0)),
            _ => SocketAddr::from(([0, 0, 0, 0], 0)),
        };
        let endpoint = Endpoint::bind(local, Arc::clone(&config.credentials), None, sender)?;
        let connections = Connections::new(endpoint, events);
        let ring = first_ring(&connections, &config).await?;
        connections.set_addresses(&ring.addresses);
        let state = State {
            router: Router::new(ring.layout),
            keyspace: Keyspace::new(ring.placement_key),
            cluster: ring.cluster,
            refreshing: false,
            fetched: Instant::now(),
        };
        let inner = Inner {
            connections,
            state: Mutex::new(state),
            timeout: config.timeout,
            origin: rand::random(),
            puts: AtomicU64::new(0),
            began: Instant::now(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// A bucket of the type `default`, which keeps siblings.
    #[must_use]
    pub fn bucket(&self, name: impl AsRef<[u8]>) -> Bucket {
        self.bucket_of_type("default", name)
    }

    /// A bucket of another type, such as `lww`.
    #[must_use]
    pub fn bucket_of_type(&self, bucket_type: &str, name: impl AsRef<[u8]>) -> Bucket {
        Bucket::new(self.clone(), bucket_type.to_owned(), Bytes::copy_from_slice(name.as_ref()))
    }

    /// The cluster's name.
    #[must_use]
    pub fn cluster(&self) -> String {
        self.state().cluster.clone()
    }

    /// The nodes that a key's requests go to, in the order in which they are asked now.
    #[must_use]
    pub fn route(&self, key: &Key) -> Vec<NodeId> {
        let state = self.state();
        state.router.candidates(state.keyspace.hash(key.as_bytes()), self.now())
    }

    /// Closes all links, and returns when the nodes have been told.
    pub async fn close(&self) {
        self.inner.connections.close().await;
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.inner.timeout
    }

    /// A name for a put that no other put has.
    pub(crate) fn name_put(&self) -> (u64, u64) {
        (self.inner.origin, self.inner.puts.fetch_add(1, Ordering::Relaxed))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No call under the lock can panic halfway.
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        self.inner.began.elapsed().as_micros() as u64
    }

    /// Offers a request to the nodes of `key`, as [`Call`] says.
    pub(crate) async fn request(
        &self,
        operation: Operation,
        key: &Key,
        message: &ClientMessage,
        within: Duration,
    ) -> Result<ClientMessage, Error> {
        self.look_around();
        let mut body = Vec::new();
        message.encode(&mut body);
        let (method, body) = (message.method(), Bytes::from(body));
        let deadline = Instant::now() + within + GRACE;
        let mut call = Call::new(operation, self.route(key));
        let mut asked: Vec<Asking<'_>> = Vec::with_capacity(2);
        let (mut why, mut refusals) = ("the cluster has no nodes".to_owned(), Vec::new());
        let verdict = loop {
            // The lock must be free before anything is waited for.
            let step = call.next(&mut self.state().router, self.now());
            match step {
                Step::Ask(node) => asked.push(Box::pin(self.ask(node, method, body.clone(), deadline))),
                Step::Wait { until } => {
                    let until = until.map_or(deadline, |at| self.inner.began + Duration::from_micros(at));
                    tokio::select! {
                        answer = next_answer(&mut asked) => {
                            let Answer { node, outcome, reply } = answer;
                            match reply {
                                Ok(reply) => refusals.push((node, reply)),
                                Err(reason) => why = reason,
                            }
                            call.on_outcome(&mut self.state().router, node, outcome, self.now());
                        }
                        () = tokio::time::sleep_until(until.min(deadline)) => {
                            if Instant::now() >= deadline {
                                break call.give_up(&mut self.state().router, self.now());
                            }
                        }
                    }
                }
                Step::Done(verdict) => break verdict,
            }
        };
        let said = |node| refusals.iter().rposition(|(from, _)| *from == node);
        match (verdict, operation) {
            (Verdict::Answered(node) | Verdict::Refused(node), _) => match said(node) {
                Some(at) => self.take_reply(node, refusals.swap_remove(at).1),
                None => Err(Error::Unreachable(why)),
            },
            (Verdict::Unreachable, _) => Err(Error::Unreachable(why)),
            (Verdict::Unknown, Operation::Read) => Err(Error::TimedOut),
            // One that could not say what became of the write has said more than none.
            (Verdict::Unknown, Operation::Write) => match refusals.pop() {
                Some((node, (method, body))) if blamed(method, &body) == Some(Outcome::Unknown) => {
                    self.take_reply(node, (method, body))
                }
                _ => Err(Error::OutcomeUnknown),
            },
        }
    }

    async fn ask(&self, node: NodeId, method: u16, body: Bytes, deadline: Instant) -> Answer {
        let within = deadline.saturating_duration_since(Instant::now());
        let dialled = tokio::time::timeout(within, self.inner.connections.caller(node)).await;
        let caller = match dialled.unwrap_or_else(|_| Err("no connection in time".to_owned())) {
            Ok(caller) => caller,
            Err(why) => return Answer { node, outcome: Outcome::NotSent, reply: Err(why) },
        };
        let sent = Instant::now();
        let within = deadline.saturating_duration_since(sent);
        match caller.call(method, body, within).await {
            Ok((method, body)) => {
                let took = sent.elapsed().as_micros() as u64;
                let outcome = blamed(method, &body).unwrap_or(Outcome::Answered(took));
                Answer { node, outcome, reply: Ok((method, body)) }
            }
            Err(error) => {
                let outcome = match error {
                    CallError::NotSent(_) => Outcome::NotSent,
                    CallError::Unknown => Outcome::Unknown,
                };
                Answer { node, outcome, reply: Err(error.to_string()) }
            }
        }
    }

    fn take_reply(&self, node: NodeId, (method, body): (u16, Bytes)) -> Result<ClientMessage, Error> {
        let reply =
            ClientMessage::decode(method, body).map_err(|error| Error::Protocol(error.to_string()))?;
        let ring = match &reply {
            ClientMessage::GetReply(reply) => reply.ring,
            ClientMessage::PutReply(reply) => reply.ring,
            _ => 0,
        };
        self.refresh_ring(node, ring);
        Ok(reply)
    }

    /// Fetches the ring if the node has a newer one.
    fn refresh_ring(&self, node: NodeId, version: u64) {
        if version > self.state().router.layout().version() {
            self.fetch_from(node);
        }
    }

    /// Fetches the ring from any node now and then: those that this client asks may be the ones that have not heard.
    fn look_around(&self) {
        let node = {
            let state = self.state();
            let members = state.router.layout().members();
            if state.fetched.elapsed() < LOOK_AROUND || members.is_empty() {
                return;
            }
            members[rand::random_range(0..members.len())].id
        };
        self.fetch_from(node);
    }

    fn fetch_from(&self, node: NodeId) {
        {
            let mut state = self.state();
            if state.refreshing {
                return;
            }
            (state.refreshing, state.fetched) = (true, Instant::now());
        }
        let client = self.clone();
        tokio::spawn(async move {
            let fetched = match client.inner.connections.caller(node).await {
                Ok(caller) => fetch_ring(&caller, client.inner.timeout).await,
                Err(why) => Err(why),
            };
            match fetched {
                Ok(ring) => {
                    let mut state = client.state();
                    // One that has not heard yet does not know where the new nodes are.
                    if ring.layout.rank() >= state.router.layout().rank() {
                        client.inner.connections.set_addresses(&ring.addresses);
                        state.router.set_layout(ring.layout);
                    }
                }
                Err(error) => tracing::debug!(%error, "the ring could not be fetched"),
            }
            client.state().refreshing = false;
        });
    }
}

/// How often the ring is fetched, whatever the replies say (section 6.4 of the paper), while there are requests.
const LOOK_AROUND: Duration = Duration::from_secs(10);

/// How asking one node has ended, and what it said, or why it said nothing.
struct Answer {
    node: NodeId,
    outcome: Outcome,
    reply: Result<(u16, Bytes), String>,
}

type Asking<'a> = Pin<Box<dyn Future<Output = Answer> + Send + 'a>>;

/// The first answer of those that were asked; of none it never comes.
async fn next_answer(asked: &mut Vec<Asking<'_>>) -> Answer {
    let (at, answer) = std::future::poll_fn(|cx| {
        let polled = asked.iter_mut().enumerate().find_map(|(at, ask)| match ask.as_mut().poll(cx) {
            Poll::Ready(answer) => Some((at, answer)),
            Poll::Pending => None,
        });
        polled.map_or(Poll::Pending, Poll::Ready)
    })
    .await;
    drop(asked.swap_remove(at));
    answer
}

/// Few refusals are longer, with a shortfall of many nodes; other answers need not be decoded twice.
const REFUSAL_BYTES: usize = 256;

/// What an answer says of its node, if it is one that puts the blame on it.
fn blamed(method: u16, body: &Bytes) -> Option<Outcome> {
    if body.len() > REFUSAL_BYTES {
        return None;
    }
    let blame = match ClientMessage::decode(method, body.clone()).ok()? {
        ClientMessage::GetReply(reply) => reply.outcome.err()?.blame(),
        ClientMessage::PutReply(reply) => reply.outcome.err()?.blame(),
        // An older node: another one may be newer, and nothing was changed.
        ClientMessage::Unsupported(_) => return Some(Outcome::Unable),
        _ => return None,
    };
    match blame {
        Blame::Busy => Some(Outcome::Busy),
        Blame::Unable => Some(Outcome::Unable),
        Blame::Unsure => Some(Outcome::Unknown),
        Blame::Request => None,
    }
}

async fn first_ring(connections: &Connections, config: &Config) -> Result<RingReply, ConnectError> {
    let mut why = "there are no seeds".to_owned();
    for &seed in &config.seeds {
        let fetched = match connections.dial(seed, None).await {
            Ok(caller) => {
                let fetched = fetch_ring(&caller, config.timeout).await;
                caller.link().close("the ring was fetched");
                fetched
            }
            Err(error) => Err(error),
        };
        match fetched {
            Ok(ring) => return Ok(ring),
            Err(error) => why = error,
        }
    }
    Err(ConnectError::Unreachable(why))
}

async fn fetch_ring(caller: &Caller, within: Duration) -> Result<RingReply, String> {
    let message = ClientMessage::Ring(Ring { version: 0 });
    let mut body = Vec::new();
    message.encode(&mut body);
    let called = caller.call(message.method(), body.into(), within).await;
    let (method, body) = called.map_err(|error| error.to_string())?;
    match ClientMessage::decode(method, body) {
        Ok(ClientMessage::RingReply(ring)) => Ok(ring),
        Ok(other) => Err(format!("a {} instead of a ring", other.name())),
        Err(error) => Err(error.to_string()),
    }
}

//! Clients: each does one thing at a time, and writes down what it is told.
//!
//! Some operations go the way of the native client: the router says whom to ask, a slow read is asked of a
//! second node, and what certainly has not begun is asked of the next. The others go the way of HTTP behind a
//! load balancer: to any node, once, with no name that would let a node recognise a copy.

use std::collections::VecDeque;

use bytes::Bytes;
use gramme_object::{Content, Key, Object};
use gramme_quorum::{Blame, PutError, Threshold};
use gramme_replica::{ClientPut, ClientRequest, Response, Ticket};
use gramme_ring::{KeyHash, NodeId};
use gramme_router::{Operation, Outcome, Router};
use rand::RngExt;
use rand::seq::{IndexedRandom, SliceRandom};

use crate::history::{Fate, History, Kind, ReadRecord, WriteId, WriteRecord};
use crate::random::Rng;

/// How long a patient client waits, in milliseconds.
pub(crate) const TIMEOUT: u32 = 1_000;
/// Nodes that one operation is asked of, one after the other, as by the native client.
const ATTEMPTS: usize = 3;

/// What a client holds of one key: a context, and the writes that it covers.
#[derive(Clone, Debug, Default)]
struct Held {
    context: Bytes,
    read: Vec<WriteId>,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Reading { r: u8 },
    Writing { id: WriteId },
}

/// An operation under way.
#[derive(Debug)]
pub(crate) struct Doing {
    /// Its name: the ticket of its first request.
    pub(crate) name: Ticket,
    what: What,
    key: usize,
    sent: u64,
    pub(crate) request: ClientRequest,
    /// Whom it may still ask, the next one last.
    others: Vec<NodeId>,
    /// Whom it has asked, when, and who has not answered.
    asked: Vec<(Ticket, NodeId, u64)>,
}

impl Doing {
    const fn operation(&self) -> Operation {
        match self.what {
            What::Reading { .. } => Operation::Read,
            What::Writing { .. } => Operation::Write,
        }
    }

    /// Whom to ask next, if anybody.
    pub(crate) fn ask_next(&mut self, ticket: Ticket, now: u64) -> Option<NodeId> {
        let node = self.others.pop()?;
        self.asked.push((ticket, node, now));
        Some(node)
    }

    /// Microseconds until whoever asked gives up: longer than its node takes at most.
    pub(crate) const fn patience(&self) -> u64 {
        timeout_of(&self.request) as u64 * 1_500
    }
}

/// How long a node may take for a request, in milliseconds.
pub(crate) const fn timeout_of(request: &ClientRequest) -> u32 {
    match request {
        ClientRequest::Get { timeout, .. } | ClientRequest::SetProperties { timeout, .. } => *timeout,
        ClientRequest::Put(put) => put.timeout,
        ClientRequest::Properties { .. } | ClientRequest::Status => 0,
    }
}

/// What an answer means to its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It answers nothing that is asked now, or another answer is awaited.
    Nothing,
    /// Another node is to be asked.
    AskNext,
    /// The operation has ended, well or not.
    Ended { well: bool },
}

/// A key as clients know it.
#[derive(Clone, Debug)]
pub(crate) struct NamedKey {
    pub(crate) key: Key,
    pub(crate) hash: KeyHash,
}

/// What a request wants of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    Read,
    /// With what is held, or (blindly) with nothing.
    Write {
        blindly: bool,
    },
    Delete,
}

/// One client.
#[derive(Debug)]
pub(crate) struct Client {
    number: usize,
    held: Vec<Held>,
    router: Router,
    replicas: u8,
    /// What it does now.
    pub(crate) doing: Option<Doing>,
    /// What it must still achieve, key by key.
    pub(crate) goals: VecDeque<(usize, Wish)>,
    pub(crate) last_error: Option<String>,
}

/// The bucket of a kind: its type and its name.
pub(crate) const fn bucket_of(kind: Kind) -> (&'static str, &'static str) {
    match kind {
        Kind::Fsync => ("default", "fsync"),
        Kind::OneOfN => ("default", "one-of-n"),
        Kind::Buffered => ("default", "buffered"),
        Kind::Lww => ("lww", "lww"),
    }
}

/// The name of a key.
pub(crate) fn key(number: usize, kind: Kind) -> Key {
    let (bucket_type, bucket) = bucket_of(kind);
    // The parts are short and not empty.
    Key::new(bucket_type, bucket, format!("key-{number}")).unwrap_or_else(|_| unreachable!("a valid key"))
}

impl Client {
    pub(crate) fn new(number: usize, keys: usize, replicas: u8, router: Router) -> Self {
        Self {
            number,
            held: vec![Held::default(); keys],
            router,
            replicas,
            doing: None,
            goals: VecDeque::new(),
            last_error: None,
        }
    }

    /// What it feels like doing.
    pub(crate) fn wish(rng: &mut Rng) -> Wish {
        match rng.random_range(0..20) {
            0..9 => Wish::Read,
            9 => Wish::Write { blindly: true },
            10 => Wish::Delete,
            _ => Wish::Write { blindly: false },
        }
    }

    /// Begins an operation on a key.
    pub(crate) fn begin(
        &mut self,
        name: Ticket,
        (number, named, wish): (usize, NamedKey, Wish),
        now: u64,
        largest: usize,
        history: &mut History,
        rng: &mut Rng,
    ) -> &mut Doing {
        let mut others = self.router.candidates(named.hash, now);
        let is_native = rng.random_range(0..4) > 0;
        if is_native {
            if rng.random_range(0..8) == 0 {
                // As with an old ring: whoever is asked may be no owner, and hands a put on.
                others.shuffle(rng);
            }
            others.truncate(ATTEMPTS);
            others.reverse();
        } else {
            others = others.choose(rng).copied().into_iter().collect();
        }
        let (what, request) = match wish {
            Wish::Read => self.read(named.key, rng),
            wish => {
                let record = self.write_record(number, wish, now);
                let id = history.writes.len() as WriteId + 1;
                history.writes.push(record);
                self.write(number, named.key, (id, wish == Wish::Delete, is_native), largest, rng)
            }
        };
        self.doing.insert(Doing { name, what, key: number, sent: now, request, others, asked: Vec::new() })
    }

    fn read(&self, key: Key, rng: &mut Rng) -> (What, ClientRequest) {
        let (r, mut count) = threshold(self.replicas, rng);
        let mut pr = Threshold::Default;
        if rng.random_range(0..8) == 0 {
            let needed;
            (pr, needed) = threshold(self.replicas, rng);
            count = count.max(needed);
        }
        (What::Reading { r: count }, ClientRequest::Get { key, r, pr, timeout: timeout(rng) })
    }

    fn write_record(&mut self, key: usize, wish: Wish, sent: u64) -> WriteRecord {
        if wish == (Wish::Write { blindly: true }) {
            self.held[key] = Held::default();
        }
        let read = self.held[key].read.clone();
        let is_delete = wish == Wish::Delete;
        WriteRecord { client: self.number, key, read, is_delete, sent, fate: Fate::Unknown }
    }

    fn write(
        &self,
        number: usize,
        key: Key,
        (id, is_delete, is_native): (WriteId, bool, bool),
        largest: usize,
        rng: &mut Rng,
    ) -> (What, ClientRequest) {
        let now_and_then = |rng: &mut Rng| rng.random_range(0..8) == 0;
        let (w, _) = threshold(self.replicas, rng);
        let pw = if now_and_then(rng) { threshold(self.replicas, rng).0 } else { Threshold::Default };
        let dw = if now_and_then(rng) { Threshold::One } else { Threshold::Default };
        let put = ClientPut {
            key,
            context: self.held[number].context.clone(),
            content: (!is_delete).then(|| Content::from_body(&body(id, largest, rng))),
            w,
            pw,
            dw,
            timeout: timeout(rng),
            return_body: now_and_then(rng),
            identity: is_native.then_some((self.number as u64 + 1_000, id)),
        };
        (What::Writing { id }, ClientRequest::Put(put))
    }

    /// After how many microseconds the operation is asked of a second node as well, if it may be.
    pub(crate) fn hedge_after(&self) -> Option<u64> {
        let doing = self.doing.as_ref()?;
        let (_, node, _) = doing.asked.last()?;
        let may = doing.operation() == Operation::Read && !doing.others.is_empty();
        self.router.hedge_after(*node).filter(|_| may)
    }

    /// Whether to ask a second node now.
    pub(crate) fn hedges(&mut self, name: Ticket) -> bool {
        let waits = self.doing.as_ref().is_some_and(|doing| doing.name == name && doing.asked.len() == 1);
        waits && self.router.try_hedge()
    }

    /// Takes a node's answer to one of its requests.
    pub(crate) fn take(
        &mut self,
        now: u64,
        ticket: Ticket,
        response: &Response,
        partition_of: impl Fn(usize) -> u32,
        history: &mut History,
    ) -> Taken {
        let Some(doing) = &mut self.doing else { return Taken::Nothing };
        let Some(at) = doing.asked.iter().position(|(asked, ..)| *asked == ticket) else {
            return Taken::Nothing;
        };
        let (_, node, sent) = doing.asked.remove(at);
        let outcome = outcome(response, now - sent);
        self.router.on_outcome(node, outcome, now);
        if outcome.may_retry(doing.operation()) {
            if !doing.asked.is_empty() {
                return Taken::Nothing;
            }
            if !doing.others.is_empty() {
                return Taken::AskNext;
            }
        }
        let Some(doing) = self.doing.take() else { return Taken::Nothing };
        let well = match (doing.what, response) {
            (What::Reading { r }, Response::Get(Ok(found))) => {
                let key = doing.key;
                note_dots(partition_of(key), &found.object, history);
                let values = values(&found.object);
                // What a later write with this context replaces.
                self.held[key] = Held { context: found.context.clone(), read: values.clone() };
                let (client, sent) = (self.number, doing.sent);
                history.reads.push(ReadRecord { client, key, r, values, sent, answered: now });
                true
            }
            (What::Writing { id }, Response::Put(Ok(stored))) => {
                let held = &mut self.held[doing.key];
                held.context = stored.context.clone();
                let fate =
                    Fate::Acked { at: now, copies: stored.receipt.acks, synced: stored.receipt.synced };
                match &stored.object {
                    // The context is that of all that was returned.
                    Some(object) => held.read = values(object),
                    None => held.read.push(id),
                }
                history.writes[id as usize - 1].fate = fate;
                true
            }
            (What::Writing { id }, Response::Put(Err(error))) => {
                self.last_error = Some(error.to_string());
                if matches!(error, PutError::TooManySiblings { .. }) {
                    // Whoever is told so reads what there is, and writes with its context.
                    let first = self.goals.front().map(|(number, _)| (*number, Wish::Read));
                    first.into_iter().for_each(|goal| self.goals.push_front(goal));
                }
                if error.blame() != Blame::Unsure {
                    history.writes[id as usize - 1].fate = Fate::Refused;
                }
                false
            }
            (What::Reading { .. }, Response::Get(Err(error))) => {
                self.last_error = Some(error.to_string());
                false
            }
            _ => false,
        };
        Taken::Ended { well }
    }

    /// Gives an operation up, if it is still under way: what came of it is not known.
    pub(crate) fn give_up(&mut self, name: Ticket, now: u64) -> bool {
        let Some(doing) = self.doing.take_if(|doing| doing.name == name) else { return false };
        for (_, node, _) in doing.asked {
            self.router.on_outcome(node, Outcome::Unknown, now);
        }
        true
    }
}

/// What is wrong with an answer, whatever broke meanwhile: our clients ask what may be asked.
pub(crate) fn misconduct(request: &ClientRequest, response: &Response) -> Option<String> {
    let blame = match (request, response) {
        (ClientRequest::Get { .. }, Response::Get(answer)) => {
            answer.as_ref().err().map(gramme_quorum::GetError::blame)
        }
        (ClientRequest::Put(_), Response::Put(Err(PutError::TooManySiblings { .. }))) => None,
        (ClientRequest::Put(_), Response::Put(answer)) => answer.as_ref().err().map(PutError::blame),
        (ClientRequest::SetProperties { .. }, Response::SetProperties(_))
        | (ClientRequest::Properties { .. }, Response::Properties(_))
        | (ClientRequest::Status, Response::Status(_)) => None,
        _ => return Some(format!("{response:?} answers {request:?}")),
    };
    (blame == Some(Blame::Request)).then(|| format!("{response:?} refuses {request:?}"))
}

/// What an answer says of its node: whoever is cut off from the others answers at once, and is no use.
const fn outcome(response: &Response, after: u64) -> Outcome {
    let blame = match response {
        Response::Get(Err(error)) => error.blame(),
        Response::Put(Err(error)) => error.blame(),
        _ => return Outcome::Answered(after),
    };
    match blame {
        Blame::Busy => Outcome::Busy,
        Blame::Unable => Outcome::Unable,
        Blame::Unsure => Outcome::Unknown,
        Blame::Request => Outcome::Answered(after),
    }
}

/// Mostly enough, now and then too short for anything that goes wrong, in milliseconds.
fn timeout(rng: &mut Rng) -> u32 {
    if rng.random_range(0..16) == 0 { rng.random_range(1..200) } else { TIMEOUT }
}

/// A threshold, and what it comes to.
fn threshold(replicas: u8, rng: &mut Rng) -> (Threshold, u8) {
    match rng.random_range(0..16) {
        0 | 1 => (Threshold::One, 1),
        2 => (Threshold::All, replicas),
        _ => (Threshold::Quorum, replicas / 2 + 1),
    }
}

/// A value that names its write; now and then a long one.
fn body(id: WriteId, largest: usize, rng: &mut Rng) -> Vec<u8> {
    let length = if rng.random_range(0..32) == 0 { rng.random_range(8..largest) } else { 8 };
    let mut body = vec![0; length];
    body[..8].copy_from_slice(&id.to_le_bytes());
    body
}

/// The writes whose values an object shows, sorted.
pub(crate) fn values(object: &Object) -> Vec<WriteId> {
    let contents = object.versions().values().filter_map(|sibling| sibling.content.as_ref());
    let mut values: Vec<_> = contents.map(value).collect();
    values.sort_unstable();
    values
}

fn value(content: &Content) -> WriteId {
    content.body().first_chunk().map_or(0, |bytes| WriteId::from_le_bytes(*bytes))
}

/// Writes down which write each dot names, and which dot each write.
pub(crate) fn note_dots(partition: u32, object: &Object, history: &mut History) {
    for (dot, sibling) in object.siblings() {
        let dot = dot.to_string();
        if let Some(content) = &sibling.content {
            history.names.entry(value(content)).or_default().insert(dot.clone());
        }
        history.dots.entry((partition, dot)).or_default().insert(sibling.write_id);
    }
}

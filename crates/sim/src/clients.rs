//! Clients: each does one thing at a time, chooses its node by the router, and writes down what it is told.

use std::collections::VecDeque;

use bytes::Bytes;
use gramme_object::{Content, Key, Object};
use gramme_quorum::{GetError, PutError, Threshold};
use gramme_replica::{ClientPut, ClientRequest, Response, Ticket};
use gramme_ring::{KeyHash, NodeId};
use gramme_router::{Outcome, Router};
use rand::RngExt;

use crate::history::{Fate, History, Kind, ReadRecord, WriteId, WriteRecord};
use crate::random::Rng;

/// How long a client waits, in milliseconds.
pub(crate) const TIMEOUT: u32 = 1_000;

/// What a client holds of one key: a context, and the writes that it covers.
#[derive(Clone, Debug, Default)]
struct Held {
    context: Bytes,
    read: Vec<WriteId>,
}

#[derive(Clone, Debug)]
enum Doing {
    Reading { key: usize, r: u8, sent: u64 },
    Writing { key: usize, id: WriteId },
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
    doing: Option<Doing>,
    router: Router,
    asked: Option<(NodeId, u64)>,
    replicas: u8,
    /// The request that it waits for.
    pub(crate) waits_for: Option<Ticket>,
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
            doing: None,
            router,
            asked: None,
            replicas,
            waits_for: None,
            goals: VecDeque::new(),
            last_error: None,
        }
    }

    /// Chooses the node to ask for a key: the router's first, now and then any (it forwards if it is no owner).
    pub(crate) fn choose_node(&mut self, hash: KeyHash, now: u64, rng: &mut Rng) -> NodeId {
        let candidates = self.router.candidates(hash, now);
        let at = if rng.random_range(0..4) == 0 { rng.random_range(0..candidates.len()) } else { 0 };
        self.asked = Some((candidates[at], now));
        candidates[at]
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

    pub(crate) fn read(&mut self, number: usize, key: Key, now: u64, rng: &mut Rng) -> ClientRequest {
        let (r, count) = threshold(self.replicas, rng);
        self.doing = Some(Doing::Reading { key: number, r: count, sent: now });
        ClientRequest::Get { key, r, pr: Threshold::Default, timeout: TIMEOUT }
    }

    pub(crate) fn write(
        &mut self,
        number: usize,
        key: Key,
        wish: Wish,
        now: u64,
        history: &mut History,
        rng: &mut Rng,
    ) -> ClientRequest {
        let id = history.writes.len() as WriteId + 1;
        if wish == (Wish::Write { blindly: true }) {
            self.held[number] = Held::default();
        }
        let is_delete = wish == Wish::Delete;
        let Held { context, read } = self.held[number].clone();
        let record =
            WriteRecord { client: self.number, key: number, read, is_delete, sent: now, fate: Fate::Unknown };
        history.writes.push(record);
        self.doing = Some(Doing::Writing { key: number, id });
        let (w, _) = threshold(self.replicas, rng);
        let dw = if rng.random_range(0..8) == 0 { Threshold::One } else { Threshold::Default };
        ClientRequest::Put(ClientPut {
            key,
            context,
            content: (!is_delete).then(|| Content::from_body(&body(id, rng))),
            w,
            pw: Threshold::Default,
            dw,
            timeout: TIMEOUT,
            return_body: rng.random_range(0..8) == 0,
            identity: (rng.random_range(0..2) == 0).then_some((self.number as u64 + 1_000, id)),
        })
    }

    /// Takes an answer, or the lack of one. Says whether it was a success.
    pub(crate) fn take(
        &mut self,
        now: u64,
        response: Option<&Response>,
        partition_of: impl Fn(usize) -> u32,
        history: &mut History,
    ) -> bool {
        if let Some((node, sent)) = self.asked.take() {
            self.router.on_outcome(node, outcome(response, now - sent), now);
        }
        match (self.doing.take(), response) {
            (Some(Doing::Reading { key, r, sent }), Some(Response::Get(Ok(found)))) => {
                note_dots(partition_of(key), &found.object, history);
                let values = values(&found.object);
                // What a later write with this context replaces.
                self.held[key] = Held { context: found.context.clone(), read: values.clone() };
                history.reads.push(ReadRecord { client: self.number, key, r, values, sent, answered: now });
                true
            }
            (Some(Doing::Writing { key, id }), Some(Response::Put(Ok(stored)))) => {
                let held = &mut self.held[key];
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
            (Some(Doing::Writing { id, .. }), Some(Response::Put(Err(error)))) => {
                self.last_error = Some(error.to_string());
                if matches!(error, PutError::TooManySiblings { .. }) {
                    // Whoever is told so reads what there is, and writes with its context.
                    let first = self.goals.front().map(|(number, _)| (*number, Wish::Read));
                    first.into_iter().for_each(|goal| self.goals.push_front(goal));
                }
                if !matches!(error, PutError::Unavailable(_) | PutError::Unknown(_)) {
                    history.writes[id as usize - 1].fate = Fate::Refused;
                }
                false
            }
            (Some(Doing::Reading { .. }), Some(Response::Get(Err(error)))) => {
                self.last_error = Some(error.to_string());
                false
            }
            _ => false,
        }
    }
}

/// What an answer says of its node: whoever is cut off from the others answers at once, and is no use.
const fn outcome(response: Option<&Response>, after: u64) -> Outcome {
    match response {
        None => Outcome::Unknown,
        Some(
            Response::Get(Err(GetError::Unavailable(_)))
            | Response::Put(Err(PutError::NoCoordinator(_) | PutError::WriteStopped | PutError::Disk)),
        ) => Outcome::Unable,
        Some(Response::Put(Err(PutError::Unavailable(_) | PutError::Unknown(_)))) => Outcome::Unknown,
        Some(_) => Outcome::Answered(after),
    }
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
fn body(id: WriteId, rng: &mut Rng) -> Vec<u8> {
    let length = if rng.random_range(0..32) == 0 { rng.random_range(8..2_000) } else { 8 };
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

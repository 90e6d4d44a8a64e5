//! Clients: each does one thing at a time, chooses its node by the router, and writes down what it is told.

use std::collections::BTreeSet;

use bytes::Bytes;
use gramme_object::{Content, Key, Object};
use gramme_quorum::{PutError, Threshold};
use gramme_replica::{ClientPut, ClientRequest, Response};
use gramme_ring::{KeyHash, NodeId};
use gramme_router::{Outcome, Router};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::history::{History, ReadRecord, WriteId, WriteRecord};

/// How long a client waits, in milliseconds.
pub(crate) const TIMEOUT: u32 = 1_000;

/// What a client holds of one key: a context, and the writes that it covers.
#[derive(Clone, Debug, Default)]
struct Held {
    context: Bytes,
    read: BTreeSet<WriteId>,
}

#[derive(Clone, Debug)]
enum Doing {
    Reading { key: usize, sent: u64 },
    Writing { key: usize, id: WriteId },
}

/// One client.
#[derive(Debug)]
pub(crate) struct Client {
    held: Vec<Held>,
    doing: Option<Doing>,
    router: Router,
    asked: Option<(NodeId, u64)>,
}

/// The name of a key.
pub(crate) fn key(number: usize) -> Key {
    // The parts are short and not empty.
    Key::new("default", "sim", format!("key-{number}")).unwrap_or_else(|_| unreachable!("a valid key"))
}

impl Client {
    pub(crate) fn new(keys: usize, router: Router) -> Self {
        Self { held: vec![Held::default(); keys], doing: None, router, asked: None }
    }

    /// Decides what to do next, and which node to ask.
    pub(crate) fn next(
        &mut self,
        now: u64,
        place: impl Fn(&Key) -> KeyHash,
        history: &mut History,
        rng: &mut ChaCha8Rng,
    ) -> (NodeId, ClientRequest) {
        let number = rng.random_range(0..self.held.len());
        let key = key(number);
        let candidates = self.router.candidates(place(&key), now);
        // Now and then any node: it forwards if it is no owner.
        let at = if rng.random_range(0..4) == 0 { rng.random_range(0..candidates.len()) } else { 0 };
        self.asked = Some((candidates[at], now));
        let request = match rng.random_range(0..10) {
            0..4 => self.read(number, key, now),
            4 => {
                self.held[number] = Held::default();
                self.write(number, key, false, now, history)
            }
            5 => self.write(number, key, true, now, history),
            _ => self.write(number, key, false, now, history),
        };
        (candidates[at], request)
    }

    fn read(&mut self, number: usize, key: Key, sent: u64) -> ClientRequest {
        self.doing = Some(Doing::Reading { key: number, sent });
        ClientRequest::Get { key, r: Threshold::Quorum, pr: Threshold::Default, timeout: TIMEOUT }
    }

    fn write(
        &mut self,
        number: usize,
        key: Key,
        is_delete: bool,
        sent: u64,
        history: &mut History,
    ) -> ClientRequest {
        let id = history.writes.len() as WriteId + 1;
        let Held { context, read } = self.held[number].clone();
        history
            .writes
            .insert(id, WriteRecord { key: number, read, is_delete, sent, ..WriteRecord::default() });
        self.doing = Some(Doing::Writing { key: number, id });
        ClientRequest::Put(ClientPut {
            key,
            context,
            content: (!is_delete).then(|| Content::from_body(&id.to_le_bytes())),
            w: Threshold::Quorum,
            pw: Threshold::Default,
            dw: Threshold::Default,
            timeout: TIMEOUT,
            return_body: false,
            identity: None,
        })
    }

    /// Takes an answer, or the lack of one.
    pub(crate) fn take(&mut self, now: u64, response: Option<Response>, history: &mut History) {
        if let Some((node, sent)) = self.asked.take() {
            let outcome = if response.is_some() { Outcome::Answered(now - sent) } else { Outcome::Unknown };
            self.router.on_outcome(node, outcome, now);
        }
        match (self.doing.take(), response) {
            (Some(Doing::Reading { key, sent }), Some(Response::Get(Ok(found)))) => {
                let values = values(&found.object);
                note_dots(key, &found.object, history);
                // What a later write with this context replaces.
                self.held[key] = Held { context: found.context, read: values.clone() };
                history.reads.push(ReadRecord { key, values, sent, answered: now });
            }
            (Some(Doing::Writing { key, id }), Some(Response::Put(Ok(stored)))) => {
                let held = &mut self.held[key];
                held.context = stored.context;
                held.read.insert(id);
                if let Some(write) = history.writes.get_mut(&id) {
                    write.acked = Some(now);
                }
            }
            (Some(Doing::Writing { id, .. }), Some(Response::Put(Err(error)))) => {
                if let Some(write) = history.writes.get_mut(&id) {
                    write.refused = !matches!(error, PutError::Unavailable(_) | PutError::Unknown(_));
                }
            }
            _ => {}
        }
    }
}

/// The writes whose values an object shows.
pub(crate) fn values(object: &Object) -> BTreeSet<WriteId> {
    let contents = object.versions().values().filter_map(|sibling| sibling.content.as_ref());
    contents.map(value).collect()
}

fn value(content: &Content) -> WriteId {
    content.body().first_chunk().map_or(0, |bytes| WriteId::from_le_bytes(*bytes))
}

/// Writes down which value each dot names.
pub(crate) fn note_dots(key: usize, object: &Object, history: &mut History) {
    for (dot, sibling) in object.siblings() {
        if let Some(content) = &sibling.content {
            history.dots.entry((key, dot.to_string())).or_default().insert(value(content));
        }
    }
}

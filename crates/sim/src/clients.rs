//! Clients: each does one thing at a time, and writes down what it is told.
//!
//! Some operations go the way of the native client: the router says whom to ask, a slow read is asked of a
//! second node, and what certainly has not begun is asked of the next. The others go the way of HTTP behind a
//! load balancer: to any node, once, with no name that would let a node recognise a copy.

use std::collections::VecDeque;

use bytes::Bytes;
use gramme_object::{Content, Expiry, Key, Object};
use gramme_plant::planted;
use gramme_quorum::{Blame, PutError, Receipt, Threshold};
use gramme_replica::{ClientPut, ClientRequest, LWW_TYPE, Response, Ticket};
use gramme_ring::{KeyHash, NodeId};
use gramme_router::{Call, Operation, Outcome, Router, Step, Verdict};
use rand::RngExt;
use rand::seq::{IndexedRandom, SliceRandom};

use crate::cluster::EPOCH;
use crate::history::{Fate, History, Kind, ReadRecord, WriteId, WriteRecord};
use crate::random::Rng;

/// How long a patient client waits, in milliseconds.
pub(crate) const TIMEOUT: u32 = 1_000;
/// The longest time after which a value expires, in milliseconds.
const LONGEST_LIFE: u64 = 60_000;

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
    /// What a read's session had read and written.
    session: Vec<WriteId>,
    sent: u64,
    pub(crate) request: ClientRequest,
    /// Whom it asks, one after another: as the native client.
    call: Call,
    /// The requests that it has sent, to whom and when.
    asked: Vec<(Ticket, NodeId, u64)>,
    /// What each node that cannot do it has said.
    refusals: Vec<(NodeId, Box<Response>)>,
}

impl Doing {
    /// A request goes to `node`; says whether it is another than the first.
    pub(crate) fn note_asked(&mut self, ticket: Ticket, node: NodeId, now: u64) -> bool {
        let is_first = self.asked.is_empty() && self.refusals.is_empty();
        self.asked.push((ticket, node, now));
        !is_first
    }

    /// Microseconds until whoever asked gives up: longer than its node takes at most.
    pub(crate) const fn patience(&self) -> u64 {
        timeout_of(&self.request) as u64 * 1_500
    }
}

/// How long a node may take for a request, in milliseconds.
pub(crate) const fn timeout_of(request: &ClientRequest) -> u32 {
    match request {
        ClientRequest::Get { timeout, .. }
        | ClientRequest::Keys { timeout, .. }
        | ClientRequest::Explain { timeout, .. }
        | ClientRequest::SetProperties { timeout, .. } => *timeout,
        ClientRequest::Put(put) => put.timeout,
        // A decision has its own.
        ClientRequest::Plan(_) => 10_000,
        ClientRequest::Properties(_)
        | ClientRequest::Status
        | ClientRequest::Losses
        | ClientRequest::AcceptLoss
        | ClientRequest::Ring
        | ClientRequest::Admit { .. } => 0,
        ClientRequest::Transfers => 1_000,
    }
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
    /// It hears who owns what.
    pub(crate) fn learn(&mut self, layout: &gramme_ring::Layout) {
        self.router.set_layout(layout.clone());
    }

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

    /// Draws the next operation, and on which of so many keys.
    ///
    /// Every fourth client goes on from its own answers to the key with the largest values, and hardly ever
    /// reads: what it is answered with is then all that it knows, and beside siblings of others that is a lot.
    pub(crate) fn wish(&self, keys: usize, rng: &mut Rng) -> (usize, Wish) {
        if self.number % 4 == 3 {
            let is_curious = rng.random_range(0..40) == 0;
            return (0, if is_curious { Wish::Read } else { Wish::Write { blindly: false } });
        }
        let wish = match rng.random_range(0..20) {
            0..9 => Wish::Read,
            9 => Wish::Write { blindly: true },
            10 => Wish::Delete,
            _ => Wish::Write { blindly: false },
        };
        (rng.random_range(0..keys), wish)
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
        } else {
            others = others.choose(rng).copied().into_iter().collect();
        }
        let mut session = Vec::new();
        let (what, request) = match wish {
            Wish::Read => {
                let held = &self.held[number];
                let is_in_session = !held.context.is_empty() && rng.random_range(0..4) == 0;
                let (context, seen) = (held.context.clone(), held.read.clone());
                let (what, mut request) = self.read(named.key, rng);
                if let ClientRequest::Get { session: contexts, .. } = &mut request
                    && is_in_session
                {
                    contexts.push(context);
                    session = seen;
                }
                (what, request)
            }
            wish => {
                let (expiry, expires) = expiry(wish, now, rng);
                let record = WriteRecord { expires, ..self.write_record(number, wish, now) };
                let id = history.writes.len() as WriteId + 1;
                history.writes.push(record);
                let is_delete = wish == Wish::Delete;
                self.write(number, named.key, (id, is_delete, is_native, expiry), largest, rng)
            }
        };
        let operation = match what {
            What::Reading { .. } => Operation::Read,
            What::Writing { .. } => Operation::Write,
        };
        let (call, asked, refusals) = (Call::new(operation, others), Vec::new(), Vec::new());
        let doing = Doing { name, what, key: number, session, sent: now, request, call, asked, refusals };
        self.doing.insert(doing)
    }

    /// What the operation of this name is to do next.
    pub(crate) fn next(&mut self, name: Ticket, now: u64) -> Option<Step> {
        let doing = self.doing.as_mut().filter(|doing| doing.name == name)?;
        Some(doing.call.next(&mut self.router, now))
    }

    fn read(&self, key: Key, rng: &mut Rng) -> (What, ClientRequest) {
        let (r, mut count) = threshold(self.replicas, rng);
        let mut pr = Threshold::Default;
        let sloppy = sloppy(&key, rng);
        if sloppy.is_none() {
            // Fallbacks may answer: nothing is promised of owners.
            count = 0;
        }
        if rng.random_range(0..8) == 0 {
            let needed;
            (pr, needed) = threshold(self.replicas, rng);
            count = count.max(needed);
        }
        // A bug answers from fewer than were asked for, and is judged by these.
        let (r, pr) = if planted!(FirstReply) { (Threshold::One, Threshold::Count(0)) } else { (r, pr) };
        let (timeout, against) = (timeout(rng), Bytes::new());
        (
            What::Reading { r: count },
            ClientRequest::Get { key, r, pr, timeout, sloppy, against, session: Vec::new() },
        )
    }

    fn write_record(&mut self, key: usize, wish: Wish, sent: u64) -> WriteRecord {
        if wish == (Wish::Write { blindly: true }) {
            self.held[key] = Held::default();
        }
        let read = self.held[key].read.clone();
        let is_delete = wish == Wish::Delete;
        WriteRecord { client: self.number, key, read, is_delete, expires: None, sent, fate: Fate::Unknown }
    }

    fn write(
        &self,
        number: usize,
        key: Key,
        (id, is_delete, is_native, expiry): (WriteId, bool, bool, Expiry),
        largest: usize,
        rng: &mut Rng,
    ) -> (What, ClientRequest) {
        let now_and_then = |rng: &mut Rng| rng.random_range(0..8) == 0;
        let (mut w, _) = threshold(self.replicas, rng);
        if self.number % 5 == 2 {
            // One copy is all there is, whoever has it.
            w = Threshold::One;
        }
        let pw = if now_and_then(rng) { threshold(self.replicas, rng).0 } else { Threshold::Default };
        let dw = if now_and_then(rng) { Threshold::One } else { Threshold::Default };
        let sloppy = sloppy(&key, rng);
        let put = ClientPut {
            key,
            context: self.held[number].context.clone(),
            content: (!is_delete).then(|| Content::from_body(&body(id, number, largest, rng))),
            expiry,
            touched: None,
            w,
            pw,
            dw,
            timeout: timeout(rng),
            return_body: now_and_then(rng),
            sloppy,
            identity: is_native.then_some((self.number as u64 + 1_000, id)),
        };
        (What::Writing { id }, ClientRequest::Put(put))
    }

    /// Takes a node's answer to one of its requests.
    pub(crate) fn take(&mut self, now: u64, ticket: Ticket, response: &Response) -> Option<Ticket> {
        let doing = self.doing.as_mut()?;
        let at = doing.asked.iter().position(|(asked, ..)| *asked == ticket)?;
        let (_, node, sent) = doing.asked.remove(at);
        let outcome = outcome(response, now - sent);
        doing.refusals.push((node, Box::new(response.clone())));
        doing.call.on_outcome(&mut self.router, node, outcome, now);
        Some(doing.name)
    }

    /// The operation has ended: writes down what came of it. Says whether well.
    pub(crate) fn end(
        &mut self,
        now: u64,
        verdict: Verdict,
        partition_of: impl Fn(usize) -> u32,
        history: &mut History,
    ) -> bool {
        let Some(doing) = self.doing.take() else { return false };
        let (Verdict::Answered(node) | Verdict::Refused(node)) = verdict else {
            self.last_error = Some(format!("{verdict:?}"));
            return false;
        };
        let said = doing.refusals.iter().rev().find(|(from, _)| *from == node);
        let Some(response) = said.map(|(_, response)| response.as_ref()) else { return false };
        self.write_down(now, &doing, response, partition_of, history)
    }

    fn write_down(
        &mut self,
        now: u64,
        doing: &Doing,
        response: &Response,
        partition_of: impl Fn(usize) -> u32,
        history: &mut History,
    ) -> bool {
        match (doing.what, response) {
            (What::Reading { r }, Response::Get(Ok(found))) => {
                let key = doing.key;
                note_dots(partition_of(key), &found.object, history);
                let values = values(&found.object);
                // What a later write with this context replaces.
                self.held[key] = Held { context: found.context.clone(), read: real(values.clone()) };
                let (client, sent, by_fallbacks) = (self.number, doing.sent, found.owners == 0);
                let session = doing.session.clone();
                let read = ReadRecord { client, key, r, by_fallbacks, session, values, sent, answered: now };
                history.reads.push(read);
                true
            }
            (What::Writing { id }, Response::Put(Ok(stored))) => {
                let held = &mut self.held[doing.key];
                held.context = stored.context.clone();
                let Receipt { acks: copies, fallbacks, synced, .. } = stored.receipt;
                let fate = Fate::Acked { at: now, copies, fallbacks, synced };
                match &stored.object {
                    // The context is that of all that was returned.
                    Some(object) => held.read = real(values(object)),
                    None => held.read.push(id),
                }
                history.writes[id as usize - 1].fate = fate;
                true
            }
            (What::Writing { id }, Response::Put(Err(error))) => {
                self.last_error = Some(error.to_string());
                if matches!(error, PutError::TooManySiblings { .. } | PutError::SiblingsTooLarge { .. }) {
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
        }
    }

    /// Gives an operation up, if it is still under way: what came of it is not known.
    pub(crate) fn give_up(&mut self, name: Ticket, now: u64) -> bool {
        let Some(mut doing) = self.doing.take_if(|doing| doing.name == name) else { return false };
        doing.call.give_up(&mut self.router, now);
        true
    }
}

/// What is wrong with an answer, whatever broke meanwhile: our clients ask what may be asked.
pub(crate) fn misconduct(request: &ClientRequest, response: &Response, replicas: u8) -> Option<String> {
    if let (ClientRequest::Put(put), Response::Put(Ok(stored))) = (request, response) {
        // Every bucket of a run asks for a quorum unless the request says otherwise.
        let needed = put.w.resolve(replicas, Threshold::Quorum).unwrap_or_default();
        if stored.receipt.acks < needed {
            return Some(format!("{} acknowledgements are enough for w={}", stored.receipt.acks, put.w));
        }
        let Receipt { acks, primaries, fallbacks, .. } = stored.receipt;
        let wanted = put.pw.resolve(replicas, Threshold::Count(0)).unwrap_or_default();
        let may_stand_in = put.sloppy != Some(false);
        if acks != primaries + fallbacks || primaries < wanted || fallbacks > 0 && !may_stand_in {
            return Some(format!("{:?} is no receipt for {put:?}", stored.receipt));
        }
    }
    let blame = match (request, response) {
        (ClientRequest::Get { .. }, Response::Get(answer)) => {
            answer.as_ref().err().map(gramme_quorum::GetError::blame)
        }
        (ClientRequest::Keys { .. }, Response::Keys(answer)) => {
            answer.as_ref().err().map(gramme_quorum::GetError::blame)
        }
        (
            ClientRequest::Put(_),
            Response::Put(Err(PutError::TooManySiblings { .. } | PutError::SiblingsTooLarge { .. })),
        ) => None,
        (ClientRequest::Put(put), Response::Put(Err(PutError::ExpiresAtOnce)))
            if matches!(put.expiry, Expiry::At(_)) =>
        {
            None
        }
        (ClientRequest::Put(_), Response::Put(answer)) => answer.as_ref().err().map(PutError::blame),
        (ClientRequest::SetProperties { .. }, Response::SetProperties(_))
        | (ClientRequest::Properties(_), Response::Properties(_))
        | (ClientRequest::Status, Response::Status(_))
        | (ClientRequest::Plan(_), Response::Plan(_))
        | (ClientRequest::Admit { .. }, Response::Admitted)
        | (ClientRequest::Losses | ClientRequest::AcceptLoss, Response::Losses(_)) => None,
        _ => return Some(format!("{response:?} answers {request:?}")),
    };
    (blame == Some(Blame::Request)).then(|| format!("{response:?} refuses {request:?}"))
}

/// What an answer says of its node: one that is cut off from the others answers at once and is useless.
fn outcome(response: &Response, after: u64) -> Outcome {
    let blame = match response {
        Response::Get(Err(error)) => error.blame(),
        Response::Put(Err(error)) => error.blame(),
        _ => return Outcome::Answered(after),
    };
    match blame {
        Blame::Busy => Outcome::Busy,
        Blame::Unable => Outcome::Unable,
        // A bug takes what may have been done for what never left.
        Blame::Unsure if planted!(RetryUnknown) => Outcome::NotSent,
        Blame::Unsure => Outcome::Unknown,
        Blame::Request => Outcome::Answered(after),
    }
}

/// Every eighth value expires; when, and when by a clock that is right. Some instants are near, and may have passed when
/// the write is done.
fn expiry(wish: Wish, now: u64, rng: &mut Rng) -> (Expiry, Option<u64>) {
    if wish == Wish::Delete || rng.random_range(0..8) > 0 {
        return (Expiry::AsBucket, None);
    }
    let millis = rng.random_range(100..LONGEST_LIFE);
    let expires = now + millis * 1_000;
    let expiry = match rng.random_range(0..2) {
        0 => Expiry::After(millis),
        _ => Expiry::At((EPOCH + expires) / 1_000),
    };
    (expiry, Some(expires))
}

/// Mostly enough, now and then too short for anything that goes wrong, in milliseconds.
fn timeout(rng: &mut Rng) -> u32 {
    if rng.random_range(0..16) == 0 { rng.random_range(1..200) } else { TIMEOUT }
}

/// As the bucket says, or only owners. The order of last writers can only be judged by what owners say.
fn sloppy(key: &Key, rng: &mut Rng) -> Option<bool> {
    let is_strict = rng.random_range(0..2) == 0 || key.bucket_type() == LWW_TYPE;
    is_strict.then_some(false)
}

/// A threshold, and what it comes to.
fn threshold(replicas: u8, rng: &mut Rng) -> (Threshold, u8) {
    match rng.random_range(0..16) {
        0 | 1 => (Threshold::One, 1),
        2 => (Threshold::All, replicas),
        _ => (Threshold::Quorum, replicas / 2 + 1),
    }
}

/// A value that names its write; now and then a long one, and always under the first key.
fn body(id: WriteId, key: usize, largest: usize, rng: &mut Rng) -> Vec<u8> {
    let is_long = rng.random_range(0..32) == 0;
    let length = if key == 0 {
        largest
    } else if is_long {
        rng.random_range(8..largest)
    } else {
        8
    };
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

/// Those that somebody wrote. What nobody wrote is the checkers' to find.
fn real(mut values: Vec<WriteId>) -> Vec<WriteId> {
    values.retain(|id| *id != 0);
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

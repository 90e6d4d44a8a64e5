//! When a put is answered, and with which context.
//!
//! A writer is answered with what it had read and its own write, no more; but where its own version is the only
//! live one, with the object's context, which is the same to it and does not grow. Where another version stays
//! beside its own and it goes on from its own answers, what it has replaced is left out once every owner has
//! merged that, and synced it: what a loss of power takes back must still be named.

use gramme_object::{Key, Object};
use gramme_plant::planted;
use gramme_quorum::{PutError, Receipt};
use gramme_vclock::Context;
use gramme_wire::PeerMessage;
use gramme_wire::peer::{ForwardReply, PutDone, Status};

use super::{Asker, Put};
use crate::cx::Cx;
use crate::request::{Response, Stored};
use crate::serve::bare_header;

/// How long an answer to a forwarded put is worth sending, in microseconds.
const ANSWER_TTL: u64 = 5_000_000;
/// A writer whose context has at most so many dots is not kept waiting for a shorter one.
const SHORT: usize = 16;

/// Whether a writer that had read this is to be answered with a shorter context than that and its own write.
pub(super) fn shortens(read: &Context, return_body: bool) -> bool {
    !return_body && read.outside().len() > SHORT
}

impl Put {
    /// Whether the put's own version is the only live one.
    fn is_sole(&self) -> bool {
        self.write.as_ref().is_some_and(|kept| kept.state.versions().len() == 1)
    }

    pub(super) fn shortens(&self) -> bool {
        shortens(&self.read, self.return_body)
    }

    /// Whether an answer is worth waiting for, though the quorum is there.
    pub(super) fn waits(&self) -> bool {
        let is_stored = self.write.as_ref().is_some_and(|kept| kept.is_stored);
        match self.return_body || self.shortens() && self.is_sole() {
            true => !is_stored,
            false => self.shortens() && !self.counted.is_complete() && !planted!(ShortenAtQuorum),
        }
    }
}

/// What a put is answered with; nothing before it was written.
pub(super) fn answer(put: &Put, receipt: Receipt) -> Option<PutDone> {
    let kept = put.write.as_ref()?;
    let shown = (put.return_body && kept.is_stored).then(|| {
        let state = match put.properties.allow_mult {
            true => (*kept.state).clone(),
            false => kept.state.last_writer(kept.millis),
        };
        state.at_time(kept.millis)
    });
    let is_sole = put.is_sole() && kept.is_stored || planted!(FullContext);
    let context = match &shown {
        Some(object) => object.context().clone(),
        None if is_sole => kept.state.context().clone(),
        None => {
            let mut context = put.read.clone();
            context.insert(kept.dot);
            // What this put has replaced at every owner need not be named again. As long as one has not merged it, a
            // replaced dot may be live there, and the writer's next put would stand beside it.
            if put.shortens() && (put.counted.is_unanimous() || planted!(ShortenAtQuorum)) {
                context.retain_outside(|dot| kept.state.versions().is_live(dot));
            }
            context
        }
    };
    let object = shown.map(|object| object.encode().into());
    Some(PutDone { context, receipt, object, dot: kept.dot })
}

/// Tells whoever asked what became of a put.
pub(super) fn tell(cx: &mut Cx, asker: Asker, outcome: Result<PutDone, PutError>) {
    match asker {
        Asker::Client(ticket, key) => {
            let response = put_response(cx, &key, outcome);
            cx.reply(ticket, response);
        }
        Asker::Peer(node, id) => {
            let status = if outcome.is_ok() { Status::DoneBuffered } else { Status::Refused };
            // What the owner knows of the partition goes with its replies to reads and writes.
            let header = bare_header(status);
            let message = PeerMessage::ForwardReply(Box::new(ForwardReply { header, outcome }));
            cx.send(node, id, ANSWER_TTL, message);
        }
    }
}

fn put_response(cx: &Cx, key: &Key, outcome: Result<PutDone, PutError>) -> Response {
    Response::Put(outcome.and_then(|done| {
        let context = cx.config.secrets.seal(key, &done.context);
        let object = done.object.map(|object| Object::decode(&object)).transpose();
        let object = object.map_err(|_| PutError::Disk)?;
        Ok(Stored { context, receipt: done.receipt, object })
    }))
}

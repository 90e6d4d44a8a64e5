//! Native clients' requests, and their answers.

use bytes::Bytes;
use gramme_object::Content;
use gramme_quorum::PutError;
use gramme_replica::{ClientPut, ClientRequest, Response};
use gramme_transport::{Frame, Kind, Link};
use gramme_wire::ClientMessage;
use gramme_wire::client::{Found, GetReply, PutReply, Stored};

use super::{Asker, Core};

/// The longest that a client may ask us to wait, in milliseconds.
const MAX_TIMEOUT: u32 = 600_000;

impl Core {
    pub(super) fn on_client_frame(&mut self, link: &Link, frame: Frame) {
        let Frame { kind, method, id, body, .. } = frame;
        match kind {
            Kind::Cancel => {
                if let Some(ticket) = self.native.remove(&(link.id(), id)) {
                    self.pending.remove(&ticket);
                }
            }
            Kind::Request => match ClientMessage::decode(method, body) {
                Ok(message) => self.on_client_message(link, id, message),
                Err(error) => {
                    tracing::warn!(client = ?link.role(), %error, "a message that is none; the connection is closed");
                    link.close("a message that is none");
                }
            },
            Kind::Reply | Kind::Ping | Kind::Pong => {}
        }
    }

    fn on_client_message(&mut self, link: &Link, id: u64, message: ClientMessage) {
        let request = match message {
            ClientMessage::Ring(_) => {
                let ring = ClientMessage::RingReply(self.shared.ring.clone());
                return send(link, id, &ring);
            }
            ClientMessage::Get(get) => ClientRequest::Get {
                key: get.key,
                r: get.r,
                pr: get.pr,
                timeout: get.timeout.min(MAX_TIMEOUT),
            },
            ClientMessage::Put(put) => match put.content.map(Content::from_bytes).transpose() {
                Ok(content) => ClientRequest::Put(ClientPut {
                    key: put.key,
                    context: put.context,
                    content,
                    w: put.w,
                    pw: put.pw,
                    dw: put.dw,
                    timeout: put.timeout.min(MAX_TIMEOUT),
                    return_body: put.return_body,
                    identity: Some((put.origin, put.request)),
                }),
                Err(_) => return link.close("a value that is none"),
            },
            ClientMessage::RingReply(_) | ClientMessage::GetReply(_) | ClientMessage::PutReply(_) => {
                return link.close("an answer to nothing");
            }
        };
        let limit = self.shared.max_value_bytes;
        let too_large = matches!(&request, ClientRequest::Put(put)
            if put.content.as_ref().is_some_and(|content| content.body().len() > limit));
        if too_large {
            let refused = Response::Put(Err(PutError::ValueTooLarge { limit: limit as u64 }));
            return self.answer_native(link, id, refused);
        }
        self.ask(request, Asker::Native { link: link.clone(), id });
    }

    pub(super) fn answer_native(&self, link: &Link, id: u64, response: Response) {
        let ring = self.replica.layout().version();
        let message = match response {
            Response::Get(outcome) => {
                let outcome = outcome
                    .map(|found| Found { context: found.context, object: found.object.encode().into() });
                ClientMessage::GetReply(GetReply { ring, outcome })
            }
            Response::Put(outcome) => {
                let outcome = outcome.map(|stored| Stored {
                    context: stored.context,
                    receipt: stored.receipt,
                    object: stored.object.map(|object| Bytes::from(object.encode())),
                });
                ClientMessage::PutReply(PutReply { ring, outcome })
            }
            // Native clients ask for nothing else.
            Response::Properties(_) | Response::SetProperties(_) | Response::Status(_) => return,
        };
        send(link, id, &message);
    }

    /// Nobody waits for the answers to this client's requests any more.
    pub(super) fn forget_client(&mut self, link: &Link) {
        let first = (link.id(), 0);
        let of_link = self.native.range(first..).take_while(|((id, _), _)| *id == link.id());
        for (name, ticket) in of_link.map(|(name, ticket)| (*name, *ticket)).collect::<Vec<_>>() {
            self.native.remove(&name);
            self.pending.remove(&ticket);
        }
    }
}

fn send(link: &Link, id: u64, message: &ClientMessage) {
    let mut body = Vec::new();
    message.encode(&mut body);
    let frame = Frame { kind: Kind::Reply, method: message.method(), id, ttl: 0, body: body.into() };
    // A client that does not read, or has gone, gets no answer.
    let _ = link.send(frame);
}

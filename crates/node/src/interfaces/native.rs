//! The native protocol: a client's message as a request, and an answer as a message.

use bytes::Bytes;
use gramme_object::Object;
use gramme_quorum::PutError;
use gramme_replica::{ClientPut, ClientRequest, Response};
use gramme_wire::ClientMessage;
use gramme_wire::client::{Found, GetReply, PutReply, Stored};

use crate::requests::clamp_timeout;

/// What a message asks for.
pub(crate) enum Asked {
    /// Something of the replica.
    Request(ClientRequest),
    /// The ring.
    Ring,
    /// Something that is refused before the replica hears of it.
    Refused(Response),
}

/// What a client's message asks for; nothing if it is a reply, which no client sends.
pub(crate) fn asked(message: ClientMessage, max_value: usize) -> Option<Asked> {
    Some(match message {
        ClientMessage::Ring(_) => Asked::Ring,
        ClientMessage::Get(get) => Asked::Request(ClientRequest::Get {
            key: get.key,
            r: get.r,
            pr: get.pr,
            timeout: clamp_timeout(get.timeout),
            sloppy: get.sloppy,
            against: Bytes::new(),
            session: get.session,
        }),
        ClientMessage::Put(put) => {
            if put.content.as_ref().is_some_and(|content| content.body().len() > max_value) {
                let error = PutError::ValueTooLarge { limit: max_value as u64 };
                return Some(Asked::Refused(Response::Put(Err(error))));
            }
            Asked::Request(ClientRequest::Put(ClientPut {
                key: put.key,
                context: put.context,
                content: put.content,
                expiry: put.expiry,
                touched: None,
                w: put.w,
                pw: put.pw,
                dw: put.dw,
                timeout: clamp_timeout(put.timeout),
                return_body: put.return_body,
                sloppy: put.sloppy,
                identity: Some((put.origin, put.request)),
            }))
        }
        ClientMessage::RingReply(_)
        | ClientMessage::GetReply(_)
        | ClientMessage::PutReply(_)
        | ClientMessage::Unsupported(_) => return None,
    })
}

/// An answer as a message; nothing for what native clients cannot ask.
pub(crate) fn answer(ring: u64, response: Response) -> Option<ClientMessage> {
    let encoded = |object: Object| Bytes::from(object.encode());
    Some(match response {
        Response::Get(outcome) => {
            let found = |found: gramme_replica::Found| Found {
                context: found.context,
                object: encoded(found.object),
            };
            ClientMessage::GetReply(GetReply { ring, outcome: outcome.map(found) })
        }
        Response::Put(outcome) => {
            let stored = |stored: gramme_replica::Stored| Stored {
                context: stored.context,
                receipt: stored.receipt,
                object: stored.object.map(encoded),
            };
            ClientMessage::PutReply(PutReply { ring, outcome: outcome.map(stored) })
        }
        Response::Keys(_)
        | Response::Properties(_)
        | Response::SetProperties(_)
        | Response::Status(_)
        | Response::Explained(_)
        | Response::Losses(_)
        | Response::Admitted
        | Response::Plan(_)
        | Response::Ring(_)
        | Response::Transfers(_) => {
            return None;
        }
    })
}

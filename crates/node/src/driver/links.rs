//! What happens on links: frames become inputs, and messages frames.

use std::time::Duration;

use gramme_replica::{Input, Response};
use gramme_ring::NodeId;
use gramme_transport::{Frame, Head, Kind, Link, LinkEvent, Protocol, Role, SendError};
use gramme_wire::peer::{Claimed, Class, Unsupported};
use gramme_wire::{ClientMessage, PeerMessage, WireError, client};
use tokio::time::Instant;

use super::peers::{Change, Conflict, SECOND};
use super::{Asker, Core};
use crate::interfaces::native::{self, Asked};

impl Core {
    /// Sends a message. A request that does not leave is told to the replica; so is nothing else.
    pub(super) fn send(&mut self, (to, class): (NodeId, Class), id: u64, ttl: u64, message: &PeerMessage) {
        let kind = if message.is_reply() { Kind::Reply } else { Kind::Request };
        let ttl = u32::try_from(ttl).unwrap_or(u32::MAX);
        let head = Head { kind, method: message.method(), id, ttl };
        let link = match class {
            Class::Foreground => self.peers.link(to),
            Class::Background => self.peers.background(to),
        };
        // Which process is behind a second link is to be seen at both ends.
        if let (PeerMessage::Hello(_), Some(rival)) = (message, self.peers.rival(to)) {
            let _ = rival.send_with(head, |out| message.encode(out));
        }
        let sent =
            link.map_or(Err(SendError::Closed), |link| link.send_with(head, |out| message.encode(out)));
        match sent {
            Ok(()) => {}
            Err(error) if kind == Kind::Request => {
                self.inputs.push_back(Input::Undelivered { to, id, busy: error == SendError::Busy });
            }
            // A replica keeps what it stores below the size of a frame, so this is a bug; it must be seen.
            Err(SendError::TooLarge) => {
                tracing::error!(peer = %to, message = message.name(), "a reply is too large to be sent");
            }
            // Whoever asked gives up by itself.
            Err(SendError::Busy | SendError::Closed) => {}
        }
    }

    pub(super) fn on_link(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Up(link) => self.on_up(link),
            LinkEvent::Frames { link, frames, received, held } => {
                let frames = frames.into_iter().filter(|frame| !is_expired(frame, received));
                match (link.protocol(), link.role().clone()) {
                    (Protocol::Node | Protocol::Background, Role::Node(node)) => {
                        self.on_peer_frames(node, &link, frames);
                    }
                    _ => frames.for_each(|frame| self.on_client_frame(&link, frame)),
                }
                // From here on the replica's own bounds count what was taken.
                drop(held);
            }
            LinkEvent::Suspect(link) => {
                if let Some(node) = self.current_peer(&link) {
                    tracing::warn!(peer = %node, "silent; others are asked first");
                    self.inputs.push_back(Input::PeerSuspect(node));
                }
            }
            LinkEvent::Recovered(link) => {
                if let Some(node) = self.current_peer(&link) {
                    self.inputs.push_back(Input::PeerUp(node));
                }
            }
            LinkEvent::Down { link, reason, by_us } => self.on_down(&link, &reason, by_us),
        }
    }

    fn on_up(&mut self, link: Link) {
        match (link.protocol(), link.role().clone()) {
            (Protocol::Node, Role::Node(node)) => {
                let change = self.peers.up(node, link);
                self.on_peer_change(change);
            }
            (Protocol::Background, Role::Node(node)) => self.peers.background_up(node, link),
            _ => {}
        }
    }

    fn on_down(&mut self, link: &Link, reason: &str, by_us: bool) {
        if let Role::Node(node) = *link.role() {
            if !by_us && reason.contains(SECOND) {
                self.shared.note_conflict(format!("{node} says: {SECOND}"));
                tracing::error!(peer = %node, "this process was turned away: {SECOND}");
            } else if self.peers.is_present(node, link.id()) {
                tracing::warn!(peer = %node, %reason, "disconnected");
            }
            let change = self.peers.down(node, link);
            self.on_peer_change(change);
        }
        self.forget_client(link);
    }

    fn on_peer_change(&mut self, change: Option<Change>) {
        match change {
            None => {}
            Some(Change::Up(node)) => {
                tracing::info!(peer = %node, "connected");
                self.note_connected(node, true);
                self.inputs.push_back(Input::PeerUp(node));
            }
            Some(Change::Replaced(node)) => {
                tracing::info!(peer = %node, "connected anew");
                self.inputs.extend([Input::PeerDown(node), Input::PeerUp(node)]);
            }
            Some(Change::Down(node)) => {
                self.note_connected(node, false);
                self.inputs.push_back(Input::PeerDown(node));
            }
            Some(Change::Conflict(conflict)) => self.on_conflict(&conflict),
        }
    }

    /// Whoever dials this node need not, or must.
    fn note_connected(&self, node: NodeId, is_connected: bool) {
        if let Some(target) = self.targets.get(&node) {
            target.send_modify(|target| target.is_connected = is_connected);
        }
    }

    fn on_conflict(&mut self, Conflict { node, turned_away, is_replaced }: &Conflict) {
        let what = "two processes run with the identity of this node; the younger one is turned away";
        tracing::error!(peer = %node, what);
        self.shared.note_conflict(format!("{node}: {what}"));
        if *is_replaced {
            self.inputs.extend([Input::PeerDown(*node), Input::PeerUp(*node)]);
        }
        let claimed = PeerMessage::Claimed(Claimed { boot: *turned_away });
        self.send((*node, Class::Foreground), 0, 0, &claimed);
    }

    /// Decides about processes that claim one identity.
    pub(super) fn decide_peers(&mut self) {
        for change in self.peers.decide() {
            self.on_peer_change(Some(change));
        }
    }

    /// The node that `link` is the present connection to.
    fn current_peer(&self, link: &Link) -> Option<NodeId> {
        let Role::Node(node) = *link.role() else { return None };
        self.peers.is_present(node, link.id()).then_some(node)
    }

    fn on_peer_frames(&mut self, node: NodeId, link: &Link, frames: impl Iterator<Item = Frame>) {
        for frame in frames {
            let (method, id, kind) = (frame.method, frame.id, frame.kind);
            match PeerMessage::decode(method, frame.body) {
                Ok(message) => self.on_peer_message(node, link, id, message),
                // A later version may say what we do not know; it is told so, and goes on.
                Err(WireError::Method(method)) if kind == Kind::Request => {
                    let unsupported = PeerMessage::Unsupported(Unsupported { method });
                    self.send((node, Class::Foreground), id, 0, &unsupported);
                }
                Err(WireError::Method(_)) => {}
                Err(error) => {
                    tracing::error!(peer = %node, %error, "undecodable message; closing the connection");
                    return link.close("undecodable message");
                }
            }
        }
    }

    fn on_peer_message(&mut self, node: NodeId, link: &Link, id: u64, message: PeerMessage) {
        if let PeerMessage::Hello(hello) = &message {
            let change = self.peers.note_process(node, link, hello.process);
            let is_denied = change.is_some();
            self.on_peer_change(change);
            if is_denied {
                return;
            }
        }
        if !self.peers.is_heard(node, link) {
            return;
        }
        if let PeerMessage::Claimed(_) = message {
            let what = "another process runs with this node's identity, and was turned away";
            tracing::error!(peer = %node, what);
            return self.shared.note_conflict(format!("{node} says: {what}"));
        }
        self.inputs.push_back(Input::Message { from: node, id, message });
    }

    fn on_client_frame(&mut self, link: &Link, frame: Frame) {
        let Frame { kind, method, id, body, .. } = frame;
        match kind {
            Kind::Cancel => {
                if let Some(ticket) = self.native.remove(&(link.id(), id)) {
                    self.pending.remove(&ticket);
                }
            }
            Kind::Request => match ClientMessage::decode(method, body) {
                Ok(message) => self.on_client_message(link, id, message),
                Err(WireError::Method(method)) => {
                    reply(link, id, &ClientMessage::Unsupported(client::Unsupported { method }));
                }
                Err(error) => {
                    tracing::warn!(client = ?link.role(), %error, "undecodable message; closing the connection");
                    link.close("undecodable message");
                }
            },
            Kind::Reply | Kind::Ping | Kind::Pong => {}
        }
    }

    fn on_client_message(&mut self, link: &Link, id: u64, message: ClientMessage) {
        match native::asked(message, self.shared.max_value_bytes) {
            Some(Asked::Request(request)) => self.ask(request, Asker::Native { link: link.clone(), id }),
            Some(Asked::Ring) => {
                let layout = self.replica.layout().clone();
                let ring = client::RingReply { layout, ..self.ring.clone() };
                reply(link, id, &ClientMessage::RingReply(ring));
            }
            Some(Asked::Refused(response)) => self.answer_native(link, id, response),
            None => link.close("a reply without a request"),
        }
    }

    pub(super) fn answer_native(&self, link: &Link, id: u64, response: Response) {
        if let Some(message) = native::answer(self.replica.layout().version(), response) {
            reply(link, id, &message);
        }
    }

    /// Nobody waits for the answers to this client's requests any more.
    fn forget_client(&mut self, link: &Link) {
        let first = (link.id(), 0);
        let of_link = self.native.range(first..).take_while(|((id, _), _)| *id == link.id());
        for (name, ticket) in of_link.map(|(name, ticket)| (*name, *ticket)).collect::<Vec<_>>() {
            self.native.remove(&name);
            self.pending.remove(&ticket);
        }
    }
}

/// A request that waited longer than it is worth.
fn is_expired(frame: &Frame, received: Instant) -> bool {
    let worth = Duration::from_micros(u64::from(frame.ttl));
    frame.kind == Kind::Request && frame.ttl > 0 && received.elapsed() > worth
}

fn reply(link: &Link, id: u64, message: &ClientMessage) {
    let head = Head { kind: Kind::Reply, method: message.method(), id, ttl: 0 };
    // A client that does not read, or has gone, gets no answer.
    let _ = link.send_with(head, |out| message.encode(out));
}

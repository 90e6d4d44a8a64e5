//! Clients' requests and their answers, and what can go wrong between a client and its node.

use gramme_object::limits;
use gramme_plant::planted;
use gramme_quorum::{PutError, Threshold};
use gramme_replica::{ClientRequest, Input, LWW_TYPE, Response, Ticket};
use gramme_ring::NodeId;
use gramme_router::Step;
use rand::RngExt;

use super::{Cluster, node_of};
use crate::clients::{self, Wish};
use crate::event::Event;
use crate::fault::Fault;
use crate::history::Broken;

/// By how much a node's answer may be later than it was asked to be, in microseconds: its timers are exact.
const SLACK: u64 = 1_000;

/// Who waits for an answer.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asker {
    Client(usize),
    /// Whoever drives the cluster: the answer is kept.
    Driver,
    /// A copy, or one of a crowd.
    Nobody,
}

/// A request that a node has and has not answered.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    asker: Asker,
    node: usize,
    at: u64,
    request: ClientRequest,
}

impl Asked {
    pub(super) const fn is_at(&self, node: usize) -> bool {
        self.node == node
    }
}

impl Cluster {
    /// A client does the next thing, if there is one.
    pub(super) fn client(&mut self, client: usize) {
        if let Some(&(number, wish)) = self.clients[client].goals.front() {
            self.begin(client, number, wish);
        } else if self.left > 0 {
            self.left -= 1;
            self.list_now_and_then();
            let (number, wish) = self.clients[client].wish(self.keys.len(), &mut self.random.clients);
            self.begin(client, number, wish);
        }
    }

    fn begin(&mut self, client: usize, number: usize, wish: Wish) {
        let name = self.ticket();
        let wanted = (number, self.keys[number].clone(), wish);
        let (history, rng) = (&mut self.history, &mut self.random.clients);
        let doing = self.clients[client].begin(name, wanted, self.now, self.settings.largest, history, rng);
        let patience = doing.patience();
        self.schedule(patience, Event::Patience { client, operation: name });
        self.go_on(client, name);
    }

    /// Does what the call of a client's operation says.
    pub(super) fn go_on(&mut self, client: usize, operation: Ticket) {
        loop {
            match self.clients[client].next(operation, self.now) {
                Some(Step::Ask(node)) => self.ask(client, node),
                Some(Step::Wait { until: Some(until) }) => {
                    return self.queue.push(until, Event::Hedge { client, operation });
                }
                Some(Step::Wait { until: None }) | None => return,
                Some(Step::Done(verdict)) => {
                    let partition_of = |key: usize| self.layout.partition_of(self.keys[key].hash).prefix;
                    let this = &mut self.clients[client];
                    if this.end(self.now, verdict, partition_of, &mut self.history) {
                        self.succeeded += 1;
                        self.clients[client].goals.pop_front();
                    }
                    return self.rest(client);
                }
            }
        }
    }

    /// Sends a client's request on its way to a node.
    fn ask(&mut self, client: usize, node: NodeId) {
        let ticket = self.ticket();
        let Some(doing) = &mut self.clients[client].doing else { return };
        self.asked_again += u64::from(doing.note_asked(ticket, node, self.now));
        let (request, node) = (doing.request.clone(), node_of(node));
        if self.happens(Fault::LostRequest, 30) {
            return;
        }
        let node = self.some_process(node);
        let after = self.random.clients.random_range(10..200);
        let is_named = matches!(&request, ClientRequest::Put(put) if put.identity.is_some());
        if is_named && self.happens(Fault::RepeatedRequest, 50) {
            let later = after + self.random.clients.random_range(0..20_000);
            let (ticket, mut copy) = (self.ticket(), request.clone());
            if let ClientRequest::Put(put) = &mut copy
                && planted!(ApplyTwice)
            {
                put.identity = put.identity.map(|(origin, request)| (origin, request ^ 1 << 40));
            }
            // A copy comes on the connection of the first, so never to a later process.
            let life = Some(self.nodes[node].life);
            let request = Box::new(copy);
            self.schedule(later, Event::Request { client: None, node, life, ticket, request });
        }
        let request = Box::new(request);
        self.schedule(after, Event::Request { client: Some(client), node, life: None, ticket, request });
    }

    fn happens(&mut self, fault: Fault, thousandths: u32) -> bool {
        let may = self.has(fault) && self.left > 0;
        let happens = may && self.random.clients.random_range(0..1_000) < thousandths;
        if happens {
            self.counts.note(fault);
        }
        happens
    }

    pub(super) fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket(self.next_ticket)
    }

    /// A change of properties that is written down.
    pub(super) fn ask_change(&mut self, node: usize, request: ClientRequest, change: usize) {
        let ticket = self.ticket();
        self.changes.insert(ticket, change);
        self.hand_over(Asker::Nobody, node, ticket, request);
    }

    /// A request whose answer nobody looks at.
    pub(super) fn ask_nobody(&mut self, node: usize, request: ClientRequest) {
        let ticket = self.ticket();
        self.hand_over(Asker::Nobody, node, ticket, request);
    }

    /// A request that no client waits for: its answer is kept.
    pub(crate) fn ask_directly(&mut self, node: usize, request: ClientRequest) -> Ticket {
        let ticket = self.ticket();
        self.hand_over(Asker::Driver, node, ticket, request);
        ticket
    }

    /// Asks all owners of a key, one of which has just lost data: it cannot be answered.
    pub(super) fn probe(&mut self, node: usize) {
        if self.has(Fault::RingChange) {
            // Who owns what is known to the nodes alone.
            return;
        }
        let owned = self.layout.partitions().filter(|id| self.layout.slot_of(*id, self.id(node)).is_some());
        let amnesiac = self.nodes[node].replica.as_ref().map(|replica| replica.stats().amnesiac_partitions);
        if amnesiac != Some(owned.count() as u64) {
            // A damaged row concerns its partition alone.
            return;
        }
        let Some(number) = self.history.keys.iter().position(|key| key.owners.contains(&node)) else {
            return;
        };
        let (key, ticket) = (self.keys[number].key.clone(), self.ticket());
        let (r, pr, against) = (Threshold::All, Threshold::All, bytes::Bytes::new());
        let request = ClientRequest::Get {
            key,
            r,
            pr,
            timeout: 500,
            sloppy: Some(false),
            against,
            session: Vec::new(),
        };
        self.probes.insert(ticket, (node, self.amnesiac(node)));
        self.hand_over(Asker::Nobody, (node + 1) % self.members(), ticket, request);
    }

    /// A request reaches its node.
    pub(super) fn request(
        &mut self,
        client: Option<usize>,
        node: usize,
        ticket: Ticket,
        request: ClientRequest,
    ) {
        self.hand_over(client.map_or(Asker::Nobody, Asker::Client), node, ticket, request);
    }

    fn hand_over(&mut self, asker: Asker, node: usize, ticket: Ticket, request: ClientRequest) {
        if self.nodes[node].replica.is_some() {
            let asked = Asked { asker, node, at: self.now, request: request.clone() };
            self.tickets.insert(ticket, asked);
            self.input(node, Input::Client { ticket, request });
        }
    }

    /// More requests than a node takes come to it at once. It must hold no more than it is told to.
    pub(super) fn crowd(&mut self, node: usize) {
        self.counts.note(Fault::Crowd);
        for _ in 0..3 * self.most_requests() {
            let key = self.keys[self.random.nemesis.random_range(0..self.keys.len())].key.clone();
            let (r, pr) = (Threshold::All, Threshold::Default);
            let (timeout, against) = (clients::TIMEOUT, bytes::Bytes::new());
            let request =
                ClientRequest::Get { key, r, pr, timeout, sloppy: None, against, session: Vec::new() };
            let ticket = self.ticket();
            self.hand_over(Asker::Nobody, node, ticket, request);
        }
        let is_limited = |asked: &Asked| !matches!(asked.request, ClientRequest::SetProperties { .. });
        let open = self.tickets.values().filter(|asked| asked.is_at(node) && is_limited(asked)).count();
        let Some(replica) = self.nodes[node].replica.as_ref().filter(|_| self.nodes[node].frozen.is_none())
        else {
            return;
        };
        let (under_way, most) = (replica.requests_under_way(), self.most_requests());
        if open > most || under_way > 4 * most {
            let what = format!("node {node} is to hold {most} requests: {open} open, {under_way} under way");
            self.broken(Broken::Unbounded(what));
        }
    }

    /// A node answers.
    pub(super) fn reply(&mut self, ticket: Ticket, mut response: Response) {
        if let Response::Put(Err(error @ PutError::Unavailable(_))) = &mut response
            && planted!(DenyChange)
        {
            *error = PutError::Disk;
        }
        let Some(asked) = self.tickets.remove(&ticket) else {
            return self.broken(Broken::Misbehaved(format!("{ticket:?} was answered twice")));
        };
        self.check_answer(&asked, &response);
        if let Some((node, partitions)) = self.probes.remove(&ticket)
            && matches!(response, Response::Get(Ok(_)))
            && self.amnesiac(node) == partitions
        {
            let what = format!("node {node} has lost data, and counts as if it had not");
            self.broken(Broken::Misbehaved(what));
        }
        if let Response::Put(Ok(stored)) = &response {
            let receipt = stored.receipt;
            self.healed.stood_in += u64::from(receipt.fallbacks > 0);
            self.healed.alone += u64::from(receipt.fallbacks > 0 && receipt.primaries == 0);
        }
        if let Some(change) = self.changes.remove(&ticket) {
            let is_done = matches!(response, Response::SetProperties(Ok(())));
            self.history.changes[change].ended = Some((self.now, is_done));
        }
        self.take_page(ticket, &response);
        match asked.asker {
            Asker::Nobody => {}
            Asker::Driver => drop(self.answers.insert(ticket, response)),
            Asker::Client(_) if self.happens(Fault::LostReply, 20) => {}
            Asker::Client(client) => {
                let after = self.random.clients.random_range(10..200);
                let response = Box::new(response);
                self.schedule(after, Event::Answer { client, ticket, response });
            }
        }
    }

    /// Whatever broke: an answer fits its request, and comes in time from a node that did not stand still.
    fn check_answer(&mut self, asked: &Asked, response: &Response) {
        if let Some(what) = clients::misconduct(&asked.request, response, self.history.replicas) {
            self.broken(Broken::Misbehaved(what));
        }
        self.check_context(&asked.request, response);
        let (took, may_take) = (self.now - asked.at, u64::from(clients::timeout_of(&asked.request)) * 1_000);
        if took > may_take + SLACK && self.nodes[asked.node].woke < asked.at {
            let what = format!("{:?} took {took} µs, and had {may_take}", asked.request);
            self.broken(Broken::Unbounded(what));
        }
    }

    /// An answer reaches its client.
    pub(super) fn answer(&mut self, client: usize, ticket: Ticket, response: &Response) {
        self.tell_of_ring(client);
        if let Some(operation) = self.clients[client].take(self.now, ticket, response) {
            self.go_on(client, operation);
        }
    }

    /// How long a context is depends on who wrote concurrently, and on how many starts have written.
    fn check_context(&mut self, request: &ClientRequest, response: &Response) {
        let (key, length, siblings) = match (request, response) {
            (ClientRequest::Get { key, .. }, Response::Get(Ok(found))) => {
                (key, found.context.len(), found.object.siblings().len())
            }
            // It covers what its writer had read: siblings perhaps, which the answer does not show.
            (ClientRequest::Put(put), Response::Put(Ok(stored))) => {
                (&put.key, stored.context.len(), limits::SIBLINGS as usize)
            }
            _ => return,
        };
        if key.bucket_type() == LWW_TYPE {
            // Its siblings are there and not shown.
            return;
        }
        // A vector entry for each start that ever wrote, an exact dot for each sibling; and beside large siblings
        // a coordinator leaves so many more, before it hears of what the others leave.
        const FEW: u64 = 64;
        let few = FEW * u64::from(self.history.replicas.max(3));
        let (entries, most) = (length as u64 / 16, self.starts + siblings as u64 + few);
        if entries > most {
            let what = format!("a context of {length} bytes, though only {} starts wrote", self.starts);
            self.broken(Broken::Unbounded(what));
        }
    }

    /// A client's patience ends.
    pub(super) fn patience(&mut self, client: usize, operation: Ticket) {
        self.tell_of_ring(client);
        if self.clients[client].give_up(operation, self.now) {
            self.rest(client);
        }
    }

    fn rest(&mut self, client: usize) {
        let after = self.random.clients.random_range(0..5_000);
        self.schedule(after, Event::Client(client));
    }

    /// Notes the requests that running nodes have and never answered.
    pub(super) fn demand_answers(&mut self) {
        if !self.tickets.is_empty() {
            let what = format!("requests of clients were never answered: {:?}", self.tickets);
            self.broken(Broken::Unbounded(what));
        }
    }
}

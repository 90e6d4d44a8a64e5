//! Clients' requests and their answers, and what can go wrong between a client and its node.

use gramme_replica::{ClientRequest, Input, Response, Ticket};
use rand::RngExt;

use super::{Cluster, node_of};
use crate::clients::{self, Client, Wish};
use crate::event::Event;
use crate::fault::Fault;
use crate::history::Broken;

/// How long a client waits, in microseconds: longer than its node does.
const PATIENCE: u64 = clients::TIMEOUT as u64 * 1_500;

/// A request that a node has and has not answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// Who waits, or did; nobody for a copy.
    client: Option<usize>,
    node: usize,
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
            self.ask(client, number, wish);
        } else if self.left > 0 {
            self.left -= 1;
            let number = self.random.clients.random_range(0..self.keys.len());
            let wish = Client::wish(&mut self.random.clients);
            self.ask(client, number, wish);
        }
    }

    /// Sends a client's request on its way.
    fn ask(&mut self, client: usize, number: usize, wish: Wish) {
        let (named, rng) = (self.keys[number].clone(), &mut self.random.clients);
        let this = &mut self.clients[client];
        let node = node_of(this.choose_node(named.hash, self.now, rng));
        let request = match wish {
            Wish::Read => this.read(number, named.key, self.now, rng),
            wish => this.write(number, named.key, wish, self.now, &mut self.history, rng),
        };
        let ticket = self.ticket();
        self.clients[client].waits_for = Some(ticket);
        self.schedule(PATIENCE, Event::Answer { client, ticket, response: None });
        if self.happens(Fault::LostRequest, 30) {
            return;
        }
        let after = self.random.clients.random_range(10..200);
        let is_named = matches!(&request, ClientRequest::Put(put) if put.identity.is_some());
        if is_named && self.happens(Fault::RepeatedRequest, 50) {
            let later = after + self.random.clients.random_range(0..20_000);
            let (ticket, request) = (self.ticket(), Box::new(request.clone()));
            // A copy comes on the connection of the first, so never to a later process.
            let life = Some(self.nodes[node].life);
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

    fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket(self.next_ticket)
    }

    /// A request that no client waits for: its answer is kept.
    pub(crate) fn ask_directly(&mut self, node: usize, request: ClientRequest) -> Ticket {
        let ticket = self.ticket();
        self.request(None, node, ticket, request);
        ticket
    }

    /// A request reaches its node, if that is running.
    pub(super) fn request(
        &mut self,
        client: Option<usize>,
        node: usize,
        ticket: Ticket,
        request: ClientRequest,
    ) {
        if self.nodes[node].replica.is_some() {
            self.tickets.insert(ticket, Asked { client, node });
            self.input(node, Input::Client { ticket, request });
        }
    }

    /// A node answers.
    pub(super) fn reply(&mut self, ticket: Ticket, response: Response) {
        let Some(asked) = self.tickets.remove(&ticket) else {
            return self.broken(Broken::Misbehaved(format!("{ticket:?} was answered twice")));
        };
        let Some(client) = asked.client else {
            self.answers.insert(ticket, response);
            return;
        };
        if !self.happens(Fault::LostReply, 20) {
            let after = self.random.clients.random_range(10..200);
            let response = Some(Box::new(response));
            self.schedule(after, Event::Answer { client, ticket, response });
        }
    }

    /// An answer reaches its client, or its patience ends.
    pub(super) fn answer(&mut self, client: usize, ticket: Ticket, response: Option<&Response>) {
        let this = &mut self.clients[client];
        if this.waits_for != Some(ticket) {
            return;
        }
        this.waits_for = None;
        let partition_of = |key: usize| self.layout.partition_of(self.keys[key].hash).prefix;
        let ok = this.take(self.now, response, partition_of, &mut self.history);
        if ok {
            self.succeeded += 1;
            self.clients[client].goals.pop_front();
        }
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

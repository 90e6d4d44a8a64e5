//! foca, in one thread.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::num::NonZero;

use bytes::Bytes;
use foca::{
    AccumulatingRuntime, Config, Foca, Identity, NoCustomBroadcast, OwnedNotification, PostcardCodec, Timer,
};
use rand::RngExt;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};

use crate::{LONG, SECOND, TIMES, delay, mean, per_hour, seconds, seeded, stops};

/// A member; a later incarnation takes the place of an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Id {
    node: u64,
    incarnation: u32,
}

impl Identity for Id {
    type Addr = u64;

    fn renew(&self) -> Option<Self> {
        Some(Self { incarnation: self.incarnation + 1, ..*self })
    }

    fn addr(&self) -> u64 {
        self.node
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self.incarnation > adversary.incarnation
    }
}

type Member = Foca<Id, PostcardCodec, StdRng, NoCustomBroadcast>;

enum Event {
    Timer(u64, Timer<Id>),
    Deliver(u64, Bytes),
}

struct Cluster {
    members: BTreeMap<u64, Member>,
    /// Who was found down: when, by whom, whom.
    downs: Vec<(u64, u64, u64)>,
    stopped: BTreeMap<u64, u64>,
    loss: u32,
    bytes: u64,
    now: u64,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    events: BTreeMap<u64, Event>,
    pushed: u64,
    rng: StdRng,
}

pub(crate) fn measure(nodes: u64) -> [Option<f64>; 6] {
    let spread: Vec<f64> = (0..TIMES).map(|seed| spread(nodes, seed)).collect();
    let (first, all): (Vec<f64>, Vec<f64>) = (0..TIMES).map(|seed| death(nodes, seed)).unzip();
    let [lossy, starved] = [lossy(nodes), starved(nodes)];
    [mean(&spread), idle(nodes), mean(&first), mean(&all), lossy, starved].map(Some)
}

/// A member takes another incarnation, as after a change of its address.
fn spread(nodes: u64, seed: u64) -> f64 {
    let mut cluster = Cluster::settled(nodes, seed);
    let (began, new) = (cluster.now, Id { node: 0, incarnation: 1 });
    cluster.with(0, |member, runtime| drop(member.change_identity(new, runtime)));
    let knows =
        |member: &Member| member.identity() == &new || member.iter_members().any(|known| *known.id() == new);
    cluster.run_until(began + 600 * SECOND, |cluster| cluster.members.values().all(knows));
    seconds(cluster.now - began)
}

fn idle(nodes: u64) -> f64 {
    let mut cluster = Cluster::settled(nodes, 1);
    let before = cluster.bytes;
    cluster.run_until(cluster.now + 60 * SECOND, |_| false);
    (cluster.bytes - before) as f64 / nodes as f64 / 60.0
}

fn death(nodes: u64, seed: u64) -> (f64, f64) {
    let mut cluster = Cluster::settled(nodes, seed);
    let began = cluster.now;
    cluster.members.remove(&1);
    cluster.run_until(began + 1_200 * SECOND, |cluster| {
        let found: BTreeSet<u64> =
            cluster.downs.iter().filter(|down| down.2 == 1).map(|down| down.1).collect();
        found.len() as u64 == nodes - 1
    });
    let first =
        cluster.downs.iter().find(|down| down.2 == 1).map_or(f64::NAN, |down| seconds(down.0 - began));
    (first, seconds(cluster.now - began))
}

fn lossy(nodes: u64) -> f64 {
    let mut cluster = Cluster::settled(nodes, 1);
    cluster.loss = 20;
    cluster.run_until(cluster.now + LONG * SECOND, |_| false);
    per_hour(cluster.downs.len(), nodes)
}

fn starved(nodes: u64) -> f64 {
    let mut cluster = Cluster::settled(nodes, 1);
    let mut rng = seeded(1);
    for _ in 0..LONG {
        for (node, time) in stops(nodes, &mut rng) {
            cluster.stopped.insert(node, cluster.now + time);
        }
        cluster.run_until(cluster.now + SECOND, |_| false);
    }
    per_hour(cluster.downs.len(), nodes)
}

impl Cluster {
    /// So many members that know each other.
    fn settled(nodes: u64, seed: u64) -> Self {
        let mut cluster = Self {
            members: BTreeMap::new(),
            downs: Vec::new(),
            stopped: BTreeMap::new(),
            loss: 0,
            bytes: 0,
            now: 0,
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            pushed: 0,
            rng: seeded(seed),
        };
        let size = NonZero::new(nodes as u32).expect("members");
        let ids: Vec<Id> = (0..nodes).map(|node| Id { node, incarnation: 0 }).collect();
        for id in &ids {
            let rng = seeded(seed << 32 | id.node);
            let member = Foca::new(*id, Config::new_lan(size), rng, PostcardCodec);
            cluster.members.insert(id.node, member);
            let known = ids.iter().filter(|other| *other != id).map(|other| foca::Member::alive(*other));
            let known: Vec<_> = known.collect();
            cluster
                .with(id.node, |member, runtime| drop(member.apply_many(known.into_iter(), true, runtime)));
            // Not all in the same moment.
            cluster.now += SECOND / nodes;
        }
        // What they tell each other of the founding has died down.
        cluster.run_until(cluster.now + 60 * SECOND, |_| false);
        cluster.downs.clear();
        cluster
    }

    fn with(&mut self, node: u64, call: impl FnOnce(&mut Member, &mut AccumulatingRuntime<Id>)) {
        let Some(member) = self.members.get_mut(&node) else { return };
        let mut runtime = AccumulatingRuntime::new();
        call(member, &mut runtime);
        while let Some((to, data)) = runtime.to_send() {
            self.bytes += data.len() as u64;
            if self.rng.random_range(0..100) >= self.loss {
                let at = self.now + delay(&mut self.rng);
                self.push(at, Event::Deliver(to.node, data));
            }
        }
        while let Some((after, timer)) = runtime.to_schedule() {
            self.push(self.now + after.as_micros() as u64, Event::Timer(node, timer));
        }
        while let Some(notification) = runtime.to_notify() {
            if let OwnedNotification::MemberDown(id) = notification {
                self.downs.push((self.now, node, id.node));
            }
        }
    }

    fn push(&mut self, at: u64, event: Event) {
        self.pushed += 1;
        self.events.insert(self.pushed, event);
        self.queue.push(Reverse((at, self.pushed)));
    }

    fn run_until(&mut self, until: u64, is_done: impl Fn(&Self) -> bool) {
        let mut next_look = self.now;
        while let Some(&Reverse((at, number))) = self.queue.peek().filter(|Reverse((at, _))| *at < until) {
            if at >= next_look {
                self.now = self.now.max(next_look);
                if is_done(self) {
                    return;
                }
                next_look += SECOND / 10;
                continue;
            }
            self.queue.pop();
            self.now = self.now.max(at);
            let Some(event) = self.events.remove(&number) else { continue };
            let (Event::Timer(node, _) | Event::Deliver(node, _)) = &event;
            if let Some(until) = self.stopped.get(node).copied().filter(|until| *until > self.now) {
                self.push(until, event);
                continue;
            }
            match event {
                Event::Timer(node, timer) => {
                    self.with(node, |member, runtime| drop(member.handle_timer(timer, runtime)))
                }
                Event::Deliver(node, data) => {
                    self.with(node, |member, runtime| drop(member.handle_data(&data, runtime)))
                }
            }
        }
        self.now = until;
    }
}

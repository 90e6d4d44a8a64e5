//! The beginning and the end of a run: founding, progress with one node broken for ever, the last reads, and
//! the comparison of replicas.

use gramme_gossip::Opinion;
use gramme_merkle::{Digest, Leaf};
use gramme_object::{Object, clock_bytes};
use gramme_quorum::Threshold;
use gramme_replica::{
    BucketDurability, ClientRequest, Input, LEAF_BITS, PropertiesPatch, Replica, Response, Ticket,
};
use gramme_wire::peer::Room;
use rand::RngExt;
use rand::seq::IndexedRandom;

use super::nemesis::{scope_of, set_properties};
use super::{Cluster, clients, id_of};
use crate::clients::Wish;
use crate::event::Event;
use crate::fault::Fault;
use crate::history::{Broken, Kind, ReadRecord};

/// In how much time every client must have got its work done, with a core that is well. Microseconds.
const PROGRESS_WITHIN: u64 = 60_000_000;
/// After how much time nothing that was begun may be left.
const DRAIN: u64 = 20_000_000;
/// In how much time all that was missed must be where it belongs, once all is healed: as long as the pauses between
/// exchanges become, twice, since one may be lost.
const HEALED_WITHIN: u64 = 150_000_000;
/// How often each key is read in the end, after a read that repairs.
const PASSES: usize = 2;

impl Cluster {
    /// Starts all nodes and gives the buckets their properties, before anything breaks.
    pub(crate) fn found(&mut self) {
        (0..self.members()).for_each(|node| self.start(node));
        self.turn_until(self.now + 500_000);
        self.admit_all();
        for (kind, durability) in
            [(Kind::OneOfN, BucketDurability::OneOfN), (Kind::Buffered, BucketDurability::Buffered)]
        {
            let patch = PropertiesPatch { durability: Some(durability), ..PropertiesPatch::default() };
            // The weather may already lose messages.
            for _ in 0..20 {
                let ticket = self.ask_directly(0, set_properties(kind, patch));
                self.turn_until(self.now + 1_500_000);
                if matches!(self.answers.remove(&ticket), Some(Response::SetProperties(Ok(())))) {
                    break;
                }
            }
        }
    }

    /// Heals a core of nodes, leaves the victim with a fault for ever, and demands that every client gets
    /// something read and written.
    pub(super) fn demand_progress(&mut self) {
        self.end_faults((self.settings.replicas > 2).then_some(self.victim));
        self.history.lasting_since = Some(self.now);
        if self.has(Fault::ClockJump) && self.nodes[self.victim].frozen.is_some() {
            // Who sleeps on stamps when it wakes, and nobody could say what was written before what.
            self.wake(self.victim);
        }
        // With one replica, or two, a quorum needs them all.
        if self.settings.replicas > 2 {
            self.break_for_ever();
        }
        if self.has(Fault::ClockJump) {
            // What was stamped by a clock that was ahead is not ahead any more.
            self.turn_until(self.now + 16_000_000);
            self.wish_for_last_writers();
        }
        for client in 0..self.clients.len() {
            for wish in [Wish::Read, Wish::Write { blindly: false }, Wish::Read] {
                let key = self.random.clients.random_range(0..self.keys.len());
                // A key with too many siblings must be read first, and a client that waits is woken by itself.
                self.clients[client].goals.push_back((key, wish));
            }
            if self.clients[client].doing.is_none() {
                self.schedule(1_000, Event::Client(client));
            }
        }
        let until = self.now + PROGRESS_WITHIN;
        while self.clients.iter().any(|client| !client.goals.is_empty()) {
            if self.queue.next_time().is_none_or(|at| at > until) {
                let idle = self.clients.iter().filter(|client| !client.goals.is_empty());
                let idle: Vec<_> = idle.map(|client| (&client.goals, &client.last_error)).collect();
                let what =
                    format!("all nodes but {} are well, and clients get nothing done: {idle:?}", self.victim);
                return self.broken(Broken::NoProgress(what));
            }
            if self.settings.replicas > 1 {
                self.turn();
            } else {
                self.turn_until(self.now + 1_000_000);
                self.accept_losses();
            }
        }
    }

    /// Where there is no other owner nobody can prove anything: an operator must give up what was lost.
    fn accept_losses(&mut self) {
        if self.settings.replicas > 1 {
            return;
        }
        for node in 0..self.members() {
            if self.is_amnesiac(node) {
                let ticket = self.ask_directly(node, ClientRequest::AcceptLoss);
                self.answers.remove(&ticket);
            }
        }
    }

    /// Nobody reads those keys first: a write that knows of another replaces it whatever the clocks said.
    fn wish_for_last_writers(&mut self) {
        for key in (0..self.keys.len()).filter(|&key| self.history.keys[key].kind == Kind::Lww) {
            let client = key % self.clients.len();
            self.clients[client].goals.push_back((key, Wish::Write { blindly: true }));
        }
    }

    /// No fault strikes any more, and what is broken is healed, but for what lasts on node `but`.
    fn end_faults(&mut self, but: Option<usize>) {
        self.left = 0;
        self.end_copy();
        self.queue.retain(|event| !matches!(event, Event::Strike(_) | Event::Heal(_)));
        self.network.heal_all(but);
        for node in (0..self.members()).filter(|node| Some(*node) != but) {
            let disk = &mut self.nodes[node].disk;
            (disk.fails_reads, disk.fails_next_write, disk.fails_next_sync, disk.slowness) =
                (false, false, false, 0);
            self.nodes[node].clock_offset = 0;
            self.make_room(node);
            if self.nodes[node].frozen.is_some() {
                self.wake(node);
            }
            self.start(node);
        }
        for a in 0..self.members() {
            for b in (0..a).filter(|b| but != Some(a) && but != Some(*b)) {
                if !self.network.is_connected(a, b) || !self.network.is_connected(b, a) {
                    self.schedule(10_000, Event::Connect { between: (a, b) });
                }
            }
        }
    }

    fn make_room(&mut self, node: usize) {
        if self.has(Fault::DiskFull) {
            self.input(node, Input::Room(Room::Enough));
        }
    }

    /// One of the run's faults takes the victim for good.
    fn break_for_ever(&mut self) {
        let lasting = [
            Fault::Crash,
            Fault::Freeze,
            Fault::OneWayCut,
            Fault::PartialCut,
            Fault::SlowNode,
            Fault::SlowDisk,
            Fault::ReadError,
            Fault::DiskFull,
        ];
        let may =
            |fault: &Fault| self.has(*fault) && !(*fault == Fault::Freeze && self.has(Fault::ClockJump));
        let enabled: Vec<_> = lasting.into_iter().filter(may).collect();
        let Some(fault) = enabled.choose(&mut self.random.nemesis).copied() else { return };
        let node = self.victim;
        let others = (0..self.members()).filter(|other| *other != node).collect::<Vec<_>>();
        self.counts.note(fault);
        match fault {
            Fault::Crash => {
                self.queue.retain(|event| !matches!(event, Event::Start(started) if *started == node));
                self.nodes[node].disk.crash();
                self.stop(node);
            }
            Fault::Freeze if self.nodes[node].replica.is_some() => {
                self.nodes[node].frozen.get_or_insert_default();
                for other in others {
                    let after = self.random.nemesis.random_range(200_000..3_000_000);
                    self.schedule(after, Event::Silence { between: (node, other) });
                }
            }
            Fault::OneWayCut | Fault::PartialCut => {
                for other in others {
                    self.network.cut(node, other);
                    if fault == Fault::PartialCut {
                        self.network.cut(other, node);
                    }
                    let after = self.random.nemesis.random_range(200_000..3_000_000);
                    self.schedule(after, Event::Silence { between: (node, other) });
                }
            }
            Fault::SlowNode => self.network.slow(node, 300_000),
            Fault::SlowDisk => self.nodes[node].disk.slowness = 200_000,
            Fault::ReadError => self.nodes[node].disk.fails_reads = true,
            Fault::DiskFull if self.nodes[node].replica.is_some() => {
                self.input(node, Input::Room(Room::Low));
            }
            _ => {}
        }
    }

    /// Everything is healed that can be, and what is under way ends.
    pub(super) fn heal_all(&mut self) {
        self.clients.iter_mut().for_each(|client| client.goals.clear());
        self.end_faults(None);
        self.turn_until(self.now + DRAIN);
        self.demand_healing();
    }

    /// What was kept for others reaches them, and replicas become equal, though nobody reads anything.
    fn demand_healing(&mut self) {
        let until = self.now + HEALED_WITHIN;
        self.refresh_layout();
        while self.unhealed().is_some() && self.now < until {
            self.turn_until(self.now + 1_000_000);
            self.refresh_layout();
            // Damage is found late, perhaps.
            self.accept_losses();
        }
        if let Some(broken) = self.unhealed() {
            self.broken(broken);
        }
    }

    fn unhealed(&self) -> Option<Broken> {
        let kept = |(node, target, kept)| {
            Broken::NoProgress(format!("node {node} still keeps {kept} copies for node {target}"))
        };
        let unequal = || Some(Broken::Unequal(format!("without any read: {}", self.unequal()?)));
        let forgetful = || {
            let node = (0..self.members()).find(|node| self.is_amnesiac(*node))?;
            Some(Broken::NoProgress(format!("node {node} has all that it lost, and counts for nothing")))
        };
        let expiring = || self.unpurged();
        self.unmoved()
            .or_else(|| self.kept().map(kept))
            .or_else(unequal)
            .or_else(forgetful)
            .or_else(expiring)
            .or_else(|| self.unforgotten())
    }

    /// An owner that still has a value that expires, though all of them have by the end of a run.
    fn unpurged(&self) -> Option<Broken> {
        (0..self.members()).find_map(|node| {
            let mut objects = self.nodes[node].disk.objects().iter();
            let is_expiring =
                |stored| Object::decode(stored).is_ok_and(|object| object.next_expiry().is_some());
            let (key, _) = objects.find(|(_, stored)| is_expiring(stored))?;
            let number = self.keys.iter().position(|known| known.key == *key);
            Some(Broken::Unbounded(format!("node {node} keeps what has expired of key {number:?}")))
        })
    }

    /// An owner that still has a tombstone, an empty record or a context longer than its versions and owners make it,
    /// though every owner has seen what it speaks of, or could.
    fn unforgotten(&self) -> Option<Broken> {
        let owners = usize::from(self.layout.replicas());
        (0..self.members()).find_map(|node| {
            self.nodes[node].disk.objects().iter().find_map(|(key, stored)| {
                let object = Object::decode(stored).ok()?;
                let versions = object.versions();
                let is_long = object.context().len() > versions.len() + owners;
                let has_tombstone = versions.values().any(gramme_object::Sibling::is_tombstone);
                let number = self.keys.iter().position(|known| known.key == *key);
                let what = format!("node {node} still keeps what was replaced of key {number:?}: {object:?}");
                (versions.is_empty() || has_tombstone || is_long).then_some(Broken::Unbounded(what))
            })
        })
    }

    /// A key of which two owners hold different versions.
    fn unequal(&self) -> Option<String> {
        let dots = |node: usize, key: &gramme_object::Key| {
            let stored = self.nodes[node].disk.objects().get(key).cloned().unwrap_or_default();
            if stored.is_empty() {
                return Vec::new();
            }
            let object = Object::decode(&stored);
            object.map(|object| object.versions().dots().collect()).unwrap_or_default()
        };
        (0..self.keys.len()).find_map(|number| {
            let owners = self.owners(number).into_iter();
            let shown: Vec<_> = owners.map(|node| (node, dots(node, &self.keys[number].key))).collect();
            let is_equal = shown.windows(2).all(|pair| pair[0].1 == pair[1].1);
            (!is_equal).then(|| format!("the replicas of key {number} differ: {shown:?}"))
        })
    }

    /// Some node that keeps copies for another, and how many.
    fn kept(&self) -> Option<(usize, usize, usize)> {
        let nodes = 0..self.members();
        let pairs = nodes.clone().flat_map(|target| nodes.clone().map(move |node| (node, target)));
        let kept = |(node, target): (usize, usize)| {
            (node, target, self.nodes[node].disk.hints_for(id_of(target)).len())
        };
        let is_there = |(node, _): &(usize, usize)| !self.nodes[*node].is_removed;
        pairs.filter(is_there).map(kept).find(|(.., kept)| *kept > 0)
    }

    /// Reads every key from all replicas that have it, several times, through different nodes.
    pub(super) fn read_all(&mut self) {
        // The first pass repairs; what is read from then on must be the same.
        for pass in 0..=PASSES {
            for number in 0..self.keys.len() {
                let there = self.there();
                let node = there[(number + pass) % there.len()];
                let all = self.healthy_owners(number).len() as u8;
                let key = self.keys[number].key.clone();
                let request = ClientRequest::Get {
                    key,
                    r: Threshold::Count(all),
                    pr: Threshold::Default,
                    timeout: 5_000,
                    sloppy: Some(false),
                    against: bytes::Bytes::new(),
                    session: Vec::new(),
                };
                let (sent, ticket) = (self.now, self.ask_directly(node, request));
                self.turn_until(self.now + 500_000);
                if pass > 0 {
                    self.take_last_read(number, all, sent, ticket);
                }
            }
        }
        // Long after the last deadline nothing may be under way.
        self.turn_until(self.now + DRAIN);
        self.demand_notice();
        self.compare_replicas();
        self.compare_trees();
        self.compare_tables();
        self.compare_listings();
        self.demand_answers();
        for node in 0..self.members() {
            self.demand_rest(node);
        }
    }

    /// The owners of a key that count: neither amnesiac, nor with a damaged copy of it.
    fn healthy_owners(&self, number: usize) -> Vec<usize> {
        let is_healthy = |node: &usize| {
            let this = &self.nodes[*node];
            let stored = this.disk.objects().get(&self.keys[number].key);
            let is_amnesiac =
                this.replica.as_ref().is_none_or(|replica| replica.stats().amnesiac_partitions > 0);
            !is_amnesiac && stored.is_none_or(|stored| Object::decode(stored).is_ok())
        };
        self.owners(number).into_iter().filter(is_healthy).collect()
    }

    fn take_last_read(&mut self, key: usize, r: u8, sent: u64, ticket: Ticket) {
        match self.answers.remove(&ticket) {
            Some(Response::Get(Ok(found))) => {
                let partition = self.layout.partition_of(self.keys[key].hash).prefix;
                clients::note_dots(partition, &found.object, &mut self.history);
                let values = clients::values(&found.object);
                let (client, by_fallbacks) = (usize::MAX, found.owners == 0);
                let read = ReadRecord {
                    client,
                    key,
                    r,
                    by_fallbacks,
                    session: Vec::new(),
                    values,
                    sent,
                    answered: self.now,
                };
                self.history.last.push(read);
            }
            other => {
                let what = format!("key {key} cannot be read at r={r} though all is healed: {other:?}");
                self.broken(Broken::NoProgress(what));
            }
        }
    }

    fn compare_replicas(&mut self) {
        for number in 0..self.keys.len() {
            let key = self.keys[number].key.clone();
            let partition = self.layout.partition_of(self.keys[number].hash).prefix;
            let mut shown = Vec::new();
            for node in self.healthy_owners(number) {
                let stored = self.nodes[node].disk.objects().get(&key).cloned().unwrap_or_default();
                let object = if stored.is_empty() { Ok(Object::new()) } else { Object::decode(&stored) };
                if let Ok(object) = &object {
                    clients::note_dots(partition, object, &mut self.history);
                }
                let versions = object
                    .map(|object| (object.versions().dots().collect::<Vec<_>>(), clients::values(&object)));
                shown.push((node, versions));
            }
            if shown.windows(2).any(|pair| pair[0].1 != pair[1].1) {
                self.broken(Broken::Unequal(format!("the replicas of key {number} differ: {shown:?}")));
            }
        }
    }

    /// Each node's hash trees must be those of its objects.
    fn compare_trees(&mut self) {
        for node in 0..self.members() {
            let mut built = std::collections::BTreeMap::<_, Leaf>::new();
            for (key, stored) in self.nodes[node].disk.objects() {
                let hash = super::keyspace().hash(key.as_bytes());
                let partition = self.layout.partition_of(hash);
                // A key without versions is in no tree.
                let object = Object::decode(stored).ok().filter(|object| !object.versions().is_empty());
                let Some(object) = object else { continue };
                let digest = Digest::of(key.as_bytes(), &clock_bytes(&object));
                let leaf = gramme_merkle::leaf_of(hash.0 << partition.depth, LEAF_BITS);
                built.entry((partition, leaf)).or_default().replace(None, Some(digest));
            }
            let rows = self.nodes[node].disk.recovered().partitions.iter();
            let leaves = rows.flat_map(|(id, row)| row.leaves.iter().map(|(leaf, sum)| ((*id, *leaf), *sum)));
            let leaves = leaves.filter(|(_, sum)| sum.count > 0);
            if !leaves.eq(built) {
                self.broken(Broken::Unequal(format!(
                    "node {node}: its hash tree is not that of its objects"
                )));
            }
        }
    }

    /// Every node must have the same bucket properties and know the same of the members, all of which answer; and
    /// no acknowledged change may be gone.
    fn compare_tables(&mut self) {
        let (mut properties, mut members) = (Vec::new(), Vec::new());
        let there = self.there();
        for &node in &there {
            let ticket = self.ask_directly(node, ClientRequest::Status);
            if let Some(Response::Status(status)) = self.answers.remove(&ticket) {
                properties.push(status.properties);
                members.push(status.members);
                let missed = status.nodes.iter().find(|node| node.state != Opinion::Alive);
                if let Some(missed) = missed {
                    self.broken(Broken::NoProgress(format!("node {node} does not see {missed:?}")));
                }
            }
        }
        for (what, digests) in [("bucket properties", properties), ("members", members)] {
            if digests.windows(2).any(|pair| pair[0] != pair[1]) {
                self.broken(Broken::Unequal(format!("the {what} differ: {digests:?}")));
            }
        }
        for kind in Kind::ALL {
            let ticket = self.ask_directly(there[0], ClientRequest::Properties(scope_of(kind)));
            if let Some(Response::Properties(Ok(properties))) = self.answers.remove(&ticket) {
                self.history.properties.push((kind, Some(properties.max_siblings)));
            }
        }
    }

    /// A node whose disk was lost has been told so by the others, and has counted for nothing for a while.
    fn demand_notice(&mut self) {
        let is_owned = |key: &crate::history::KeyRecord| key.owners.contains(&self.victim);
        let has_others = self.members() > 1;
        let has_lost =
            has_others && self.counts.of(Fault::DiskLost) > 0 && self.history.keys.iter().any(is_owned);
        if has_lost && !self.nodes[self.victim].was_amnesiac {
            let what = format!("node {} has lost its disk, and counts as if it had not", self.victim);
            self.broken(Broken::Misbehaved(what));
        }
    }

    fn demand_rest(&mut self, node: usize) {
        let left = self.nodes[node].replica.as_ref().map_or(0, Replica::requests_under_way);
        if left > 0 {
            self.broken(Broken::Unbounded(format!("node {node}: {left} requests never end")));
        }
    }
}

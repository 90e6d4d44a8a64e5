//! The placement planner: from members to a [`Layout`].
//!
//! Order of importance: the owners of a partition are distinct nodes; then they lie in distinct zones (as
//! evenly as the zones allow); then each node's share of the Q×N slots follows its weight; then as few slots
//! move as possible. Deterministic: the same request gives the same layout on every machine.
//!
//! Cassandra's and Riak's users were surprised by where random or greedy claims put their data. So the plan
//! is made whole before anything moves, and [`Planned`] says what it could not satisfy.
//!
//! How: divide the slots among zones and then nodes, near what each has ([`apportion`](crate::apportion)), keep of the previous
//! layout what fits those quotas, fill the vacancies from the nodes furthest below theirs, and swap where
//! that paints itself into a corner or crowds a zone. O(Q × N × S), plus a bounded search for swaps.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use crate::apportion::{Share, apportion};
use crate::layout::rank;
use crate::{Layout, LayoutError, MAX_DEPTH, Member, NodeId, PartitionId};

/// What to plan for.
#[derive(Clone, Copy, Debug)]
pub struct PlanRequest<'a> {
    /// The nodes, in any order.
    pub members: &'a [Member],
    /// N.
    pub replicas: u8,
    /// Q as a power of two: Q = 2^depth.
    pub depth: u8,
    /// The layout in force, in which nothing moves and whose slots should stay where they can. It must have the same depth.
    pub previous: Option<&'a Layout>,
}

/// A plan, with what it costs and what it could not satisfy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// The new layout, one version after the previous (the first is version 1).
    pub layout: Layout,
    /// How many of the Q×N slots have another owner than before; 0 without a previous layout.
    pub moved_slots: usize,
    /// Partitions with more owners in one zone than an even spread over all zones would have.
    pub crowded: Vec<PartitionId>,
}

/// Why there is no plan. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Fewer nodes with a weight than replicas.
    #[error("{replicas} replicas need as many nodes with a weight above zero; there are {nodes}")]
    TooFewNodes {
        /// Nodes with a weight above 0.
        nodes: usize,
        /// N.
        replicas: u8,
    },
    /// The same node twice.
    #[error("node {0} is there twice")]
    Duplicate(NodeId),
    /// The previous layout has another depth.
    #[error("the previous layout has another number of partitions")]
    Previous,
    /// N, the depth or the number of members is out of range.
    #[error("no such layout: {0}")]
    Layout(#[from] LayoutError),
}

/// Plans a layout for `request`.
///
/// # Errors
/// [`PlanError`] if no layout can exist or the request contradicts itself.
pub fn plan(request: &PlanRequest<'_>) -> Result<Planned, PlanError> {
    let mut members = request.members.to_vec();
    members.sort_by_key(|member| member.id);
    check(request, &members)?;
    let mut planner = Planner::new(request, &members);
    if let Some(previous) = request.previous {
        planner.keep(previous);
        planner.release_excess();
    }
    planner.fill();
    planner.uncrowd();
    let crowded = planner.crowded();
    let version = request.previous.map_or(0, Layout::version) + 1;
    let slots: Vec<u16> = planner.slots.into_iter().flatten().collect();
    let layout = Layout::new(version, request.depth, request.replicas, members, &slots)?;
    let moved_slots = request.previous.map_or(0, |previous| moved(previous, &layout));
    Ok(Planned { layout, moved_slots, crowded })
}

fn check(request: &PlanRequest<'_>, members: &[Member]) -> Result<(), PlanError> {
    if let Some(pair) = members.windows(2).find(|pair| pair[0].id == pair[1].id) {
        return Err(PlanError::Duplicate(pair[0].id));
    }
    if request.depth > MAX_DEPTH {
        return Err(LayoutError::Depth.into());
    }
    if request.replicas == 0 || members.len() > usize::from(u16::MAX) {
        return Err(LayoutError::Counts.into());
    }
    let nodes = members.iter().filter(|member| member.weight > 0).count();
    if nodes < usize::from(request.replicas) {
        return Err(PlanError::TooFewNodes { nodes, replicas: request.replicas });
    }
    if request.previous.is_some_and(|previous| previous.depth() != request.depth) {
        return Err(PlanError::Previous);
    }
    Ok(())
}

fn moved(previous: &Layout, next: &Layout) -> usize {
    let gained = |partition: PartitionId| {
        next.owners(partition).filter(|&owner| previous.slot_of(partition, owner).is_none()).count()
    };
    next.partitions().map(gained).sum()
}

/// How many slots each member has in the previous layout.
fn held(previous: Option<&Layout>, members: &[Member]) -> Vec<u64> {
    let mut held = vec![0; members.len()];
    for id in previous.into_iter().flat_map(|layout| layout.partitions().flat_map(|id| layout.owners(id))) {
        if let Ok(at) = members.binary_search_by_key(&id, |member| member.id) {
            held[at] += 1;
        }
    }
    held
}

struct Planner<'a> {
    members: &'a [Member],
    depth: u8,
    replicas: usize,
    /// The zone of each member, as an index.
    zones: Vec<usize>,
    /// How many owners of one partition each zone may have, once what is impossible has been allowed.
    zone_cap: Vec<usize>,
    /// The same in a world where every zone had enough nodes.
    ideal_cap: usize,
    quota: Vec<usize>,
    load: Vec<usize>,
    slots: Vec<Option<u16>>,
}

impl<'a> Planner<'a> {
    fn new(request: &PlanRequest<'_>, members: &'a [Member]) -> Self {
        let replicas = usize::from(request.replicas);
        let mut names: Vec<_> = members.iter().map(|member| &member.zone).collect();
        names.sort_unstable();
        names.dedup();
        let zone_of = |member: &Member| names.partition_point(|name| **name < member.zone);
        let zones: Vec<usize> = members.iter().map(zone_of).collect();
        let mut planner = Self {
            members,
            depth: request.depth,
            replicas,
            zone_cap: vec![0; names.len()],
            ideal_cap: 0,
            zones,
            quota: vec![0; members.len()],
            load: vec![0; members.len()],
            slots: vec![None; replicas << request.depth],
        };
        planner.set_zone_caps();
        planner.set_quotas(&held(request.previous, members));
        planner
    }

    fn partitions(&self) -> usize {
        1 << self.depth
    }

    fn usable_nodes(&self, zone: usize) -> usize {
        (0..self.members.len()).filter(|&at| self.zones[at] == zone && self.members[at].weight > 0).count()
    }

    /// As even as possible over the zones; where zones lack nodes, the others take more.
    fn set_zone_caps(&mut self) {
        let nodes: Vec<_> = (0..self.zone_cap.len()).map(|zone| self.usable_nodes(zone)).collect();
        let usable = nodes.iter().filter(|&&nodes| nodes > 0).count();
        self.ideal_cap = self.replicas.div_ceil(usable);
        let mut cap = self.ideal_cap;
        while nodes.iter().map(|&nodes| nodes.min(cap)).sum::<usize>() < self.replicas {
            cap += 1;
        }
        self.zone_cap = nodes.iter().map(|&nodes| nodes.min(cap)).collect();
    }

    fn set_quotas(&mut self, held: &[u64]) {
        let partitions = self.partitions() as u64;
        let usable = self.zone_cap.iter().filter(|&&cap| cap > 0).count();
        let floor = self.replicas / usable;
        let zone_share = |zone: usize| Share {
            weight: self.members_of(zone).map(|at| u64::from(self.members[at].weight)).sum(),
            least: floor.min(self.zone_cap[zone]) as u64 * partitions,
            most: self.zone_cap[zone] as u64 * partitions,
            has: self.members_of(zone).map(|at| held[at]).sum(),
        };
        let shares: Vec<_> = (0..self.zone_cap.len()).map(zone_share).collect();
        let per_zone = apportion(self.slots.len() as u64, &shares);
        for (zone, slots) in per_zone.into_iter().enumerate() {
            let members: Vec<_> = self.members_of(zone).collect();
            let share = |&at: &usize| {
                let weight = u64::from(self.members[at].weight);
                Share { weight, least: 0, most: if weight == 0 { 0 } else { partitions }, has: held[at] }
            };
            let shares: Vec<_> = members.iter().map(share).collect();
            for (at, quota) in members.into_iter().zip(apportion(slots, &shares)) {
                self.quota[at] = quota as usize;
            }
        }
    }

    fn members_of(&self, zone: usize) -> impl Iterator<Item = usize> + '_ {
        (0..self.members.len()).filter(move |&at| self.zones[at] == zone)
    }

    /// Takes over the previous owners that still have a quota, slot by slot.
    fn keep(&mut self, previous: &Layout) {
        let index: BTreeMap<NodeId, usize> =
            self.members.iter().enumerate().map(|(at, member)| (member.id, at)).collect();
        for (partition, id) in previous.partitions().enumerate() {
            // With fewer replicas than before the last owners go.
            for (slot, owner) in previous.owners(id).take(self.replicas).enumerate() {
                if let Some(&at) = index.get(&owner).filter(|&&at| self.quota[at] > 0) {
                    self.put(partition * self.replicas + slot, at);
                }
            }
        }
    }

    /// Takes slots from nodes over their quota: where a zone is crowded first, then where no other slot of
    /// the partition is vacant (so that one new node can take them all).
    fn release_excess(&mut self) {
        for at in 0..self.members.len() {
            let excess = self.load[at].saturating_sub(self.quota[at]);
            if excess == 0 {
                continue;
            }
            let mut held: Vec<_> = (0..self.slots.len())
                .filter(|&slot| self.slots[slot] == Some(at as u16))
                .map(|slot| {
                    let partition = slot / self.replicas;
                    let crowded = self.owners_in(partition, self.zones[at]) > self.zone_cap[self.zones[at]];
                    let vacant =
                        self.owner_slots(partition).filter(|&slot| self.slots[slot].is_none()).count();
                    (!crowded, vacant, self.rank(partition, at), slot)
                })
                .collect();
            held.sort_unstable();
            for &(_, _, _, slot) in &held[..excess] {
                self.take(slot);
            }
        }
    }

    fn fill(&mut self) {
        for slot in 0..self.slots.len() {
            if self.slots[slot].is_some() {
                continue;
            }
            let partition = slot / self.replicas;
            let candidate = (0..self.members.len())
                .filter(|&at| self.load[at] < self.quota[at] && !self.owns(at, partition))
                .min_by_key(|&at| {
                    let crowds = self.owners_in(partition, self.zones[at]) >= self.zone_cap[self.zones[at]];
                    // Furthest below its quota, in thousandths of it.
                    let missing = (self.quota[at] - self.load[at]) * 1_000 / self.quota[at];
                    (crowds, core::cmp::Reverse(missing), self.rank(partition, at))
                });
            match candidate {
                Some(at) => self.put(slot, at),
                None => self.fill_by_exchange(slot),
            }
        }
    }

    /// Every node below its quota already owns the partition: let one of them take a slot elsewhere, whose
    /// owner comes here instead. Where even that fails, any node will do: distinctness comes before weight.
    fn fill_by_exchange(&mut self, slot: usize) {
        let partition = slot / self.replicas;
        let short = (0..self.members.len()).filter(|&at| self.load[at] < self.quota[at]);
        for at in short.collect::<Vec<_>>() {
            let found = (0..self.slots.len()).find(|&other| {
                self.slots[other].is_some_and(|owner| {
                    !self.owns(at, other / self.replicas) && !self.owns(usize::from(owner), partition)
                })
            });
            if let Some(other) = found {
                if let Some(owner) = self.take(other) {
                    self.put(other, at);
                    self.put(slot, owner);
                }
                return;
            }
        }
        let spare = (0..self.members.len())
            .filter(|&at| self.members[at].weight > 0 && !self.owns(at, partition))
            .min_by_key(|&at| (self.load[at], self.rank(partition, at)));
        if let Some(at) = spare {
            self.put(slot, at);
        }
    }

    /// Swaps owners between partitions while that puts fewer into one zone. Loads stay as they are.
    fn uncrowd(&mut self) {
        let mut budget = self.slots.len() * 64;
        for slot in 0..self.slots.len() {
            let partition = slot / self.replicas;
            if self.crowd(partition) == 0 {
                continue;
            }
            let start = slot + 1;
            for step in 0..self.slots.len() {
                if budget == 0 {
                    return;
                }
                budget -= 1;
                if self.swap_if_better(slot, (start + step) % self.slots.len()) {
                    break;
                }
            }
        }
    }

    fn swap_if_better(&mut self, a: usize, b: usize) -> bool {
        let (here, there) = (a / self.replicas, b / self.replicas);
        let (Some(x), Some(y)) = (self.slots[a], self.slots[b]) else { return false };
        let distinct = !self.owns(usize::from(y), here) && !self.owns(usize::from(x), there);
        if here == there || !distinct {
            return false;
        }
        let before = self.crowd(here) + self.crowd(there);
        self.slots.swap(a, b);
        if self.crowd(here) + self.crowd(there) < before {
            return true;
        }
        self.slots.swap(a, b);
        false
    }

    fn crowded(&self) -> Vec<PartitionId> {
        let over = |&partition: &usize| {
            (0..self.zone_cap.len()).any(|zone| self.owners_in(partition, zone) > self.ideal_cap)
        };
        (0..self.partitions()).filter(over).map(|partition| self.id(partition)).collect()
    }

    fn crowd(&self, partition: usize) -> usize {
        let zones = 0..self.zone_cap.len();
        zones.map(|zone| self.owners_in(partition, zone).saturating_sub(self.zone_cap[zone])).sum()
    }

    fn owner_slots(&self, partition: usize) -> core::ops::Range<usize> {
        partition * self.replicas..(partition + 1) * self.replicas
    }

    fn owns(&self, at: usize, partition: usize) -> bool {
        self.slots[self.owner_slots(partition)].contains(&Some(at as u16))
    }

    fn owners_in(&self, partition: usize, zone: usize) -> usize {
        let owners = self.slots[self.owner_slots(partition)].iter().flatten();
        owners.filter(|&&at| self.zones[usize::from(at)] == zone).count()
    }

    fn put(&mut self, slot: usize, at: usize) {
        self.slots[slot] = Some(at as u16);
        self.load[at] += 1;
    }

    fn take(&mut self, slot: usize) -> Option<usize> {
        let at = usize::from(self.slots[slot].take()?);
        self.load[at] -= 1;
        Some(at)
    }

    fn rank(&self, partition: usize, at: usize) -> u64 {
        rank(self.id(partition), self.members[at].id)
    }

    fn id(&self, partition: usize) -> PartitionId {
        PartitionId { prefix: partition as u32, depth: self.depth }
    }
}

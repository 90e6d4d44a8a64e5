//! A thousand changes of a cluster, one after the other: placement stays near the best that whole partitions allow, and little
//! more moves than must.

use gramme_ring::{Layout, Member, NodeId, PlanRequest, plan};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

const DEPTH: u8 = 9;
const REPLICAS: usize = 3;

fn load(layout: &Layout, id: NodeId) -> usize {
    let owned = |partition: &_| layout.slot_of(*partition, id).is_some();
    layout.partitions().filter(owned).count()
}

/// How full the cluster is when its fullest node is: the smallest weight for a slot. To be as large as may be.
fn efficiency(loads: impl Iterator<Item = (usize, u32)>) -> f64 {
    loads
        .filter(|(load, _)| *load > 0)
        .map(|(load, weight)| f64::from(weight) / load as f64)
        .fold(f64::MAX, f64::min)
}

/// The most slots that each node may have in the best layout of whole partitions.
fn best(members: &[Member]) -> Vec<(usize, u32)> {
    let most = 1 << DEPTH;
    let mut loads: Vec<(usize, u32)> = members.iter().map(|member| (0, member.weight)).collect();
    for _ in 0..REPLICAS << DEPTH {
        // One slot more, where it hurts least.
        let ratio = |(load, weight): &(usize, u32)| f64::from(*weight) / (load + 1) as f64;
        let free = loads.iter_mut().filter(|(load, _)| *load < most);
        let next = free.max_by(|a, b| ratio(a).total_cmp(&ratio(b))).expect("room");
        next.0 += 1;
    }
    loads
}

fn change(members: &mut Vec<Member>, next: &mut u64, rng: &mut ChaCha8Rng) {
    let weights = [50, 100, 100, 100, 200, 400];
    match rng.random_range(0..3) {
        0 if members.len() < 24 => {
            *next += 1;
            let weight = weights[rng.random_range(0..weights.len())];
            members.push(Member { weight, ..Member::new(NodeId(*next)) });
        }
        1 if members.len() > 5 => {
            let at = rng.random_range(0..members.len());
            members.remove(at);
        }
        _ => {
            let at = rng.random_range(0..members.len());
            members[at].weight = weights[rng.random_range(0..weights.len())];
        }
    }
}

#[test]
fn a_thousand_changes() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut members: Vec<Member> = (1..=6).map(|id| Member::new(NodeId(id))).collect();
    let mut next = 6;
    let request = PlanRequest { members: &members, replicas: REPLICAS as u8, depth: DEPTH, previous: None };
    let mut layout = plan(&request).expect("a plan").layout;
    let (mut moved, mut least) = (0, 0);
    for step in 0..1_000 {
        change(&mut members, &mut next, &mut rng);
        let request = PlanRequest {
            members: &members,
            replicas: REPLICAS as u8,
            depth: DEPTH,
            previous: Some(&layout),
        };
        let planned = plan(&request).expect("a plan");
        let loads = members.iter().map(|member| (load(&planned.layout, member.id), member.weight));
        let (found, bound) = (efficiency(loads), efficiency(best(&members).into_iter()));
        assert!(found / bound > 0.98, "step {step}: {found} of {bound}");
        // Whoever has more than it may in the best layout gives that away, and whoever is gone everything.
        let most = |id: NodeId| {
            let weight = members.iter().find(|member| member.id == id).map_or(0, |member| member.weight);
            ((f64::from(weight) / bound) + 1e-6) as usize
        };
        let gives = |member: &Member| load(&layout, member.id).saturating_sub(most(member.id));
        let must: usize = layout.members().iter().map(gives).sum();
        moved += planned.moved_slots;
        least += must;
        layout = planned.layout;
    }
    assert!(moved as f64 <= 1.1 * least as f64, "{moved} slots moved, and {least} had to");
}

//! What a plan must satisfy, whatever the members.

use gramme_ring::strategies::efficiency;
use gramme_ring::{Layout, Member, NodeId, PlanError, PlanRequest, Planned, plan};
use proptest::prelude::*;

fn nodes(count: u64) -> Vec<Member> {
    (1..=count).map(|id| Member::new(NodeId(id * 0x9e37_79b9))).collect()
}

fn planned(members: &[Member], depth: u8, previous: Option<&Layout>) -> Planned {
    plan(&PlanRequest { members, replicas: 3, depth, previous }).expect("a possible plan")
}

fn loads(layout: &Layout) -> Vec<f64> {
    let owned = |id| layout.partitions().filter(|&p| layout.slot_of(p, id).is_some()).count() as f64;
    layout.members().iter().map(|member| owned(member.id)).collect()
}

#[test]
fn balance_is_near_perfect_where_nodes_divide_the_slots() {
    for (count, depth) in [(3, 4), (4, 6), (6, 8), (8, 10), (12, 10), (24, 10), (96, 10), (192, 12)] {
        let plan = planned(&nodes(count), depth, None);
        assert!((3_u64 << depth).is_multiple_of(count), "a case that divides");
        assert!(efficiency(&loads(&plan.layout)) >= 0.99, "{count} nodes, depth {depth}");
    }
}

#[test]
fn a_join_moves_no_more_than_its_share() {
    for (count, depth) in [(3, 10), (4, 10), (5, 10), (9, 8), (29, 10), (30, 10), (60, 12)] {
        let before = planned(&nodes(count), depth, None).layout;
        let after = planned(&nodes(count + 1), depth, Some(&before));
        let slots = (3_u64 << depth) as f64;
        let share = slots / (count + 1) as f64;
        assert!((after.moved_slots as f64) < share + slots * 0.01, "{count} nodes: {}", after.moved_slots);
        assert!(efficiency(&loads(&after.layout)) > 0.98, "{count} nodes, depth {depth}");
    }
}

#[test]
fn a_leave_moves_no_more_than_its_share() {
    let all = nodes(30);
    let before = planned(&all, 10, None).layout;
    let after = planned(&all[1..], 10, Some(&before));
    let slots = 3.0 * 1024.0;
    assert!((after.moved_slots as f64) < slots / 30.0 + slots * 0.01, "{}", after.moved_slots);
    assert!(after.layout.partitions().all(|p| after.layout.slot_of(p, all[0].id).is_none()));
}

#[test]
fn nothing_changes_without_a_reason() {
    let before = planned(&nodes(7), 8, None).layout;
    let after = planned(&nodes(7), 8, Some(&before));
    assert_eq!((after.moved_slots, after.layout.version()), (0, 2));
    assert_eq!(before.moves_to(&after.layout), []);
}

#[test]
fn replicas_lie_in_distinct_zones() {
    for sizes in [&[2_u64, 2, 2][..], &[1, 5, 3], &[4, 4, 4, 4], &[1, 1, 7], &[3, 2, 1, 1, 1]] {
        let mut members = nodes(sizes.iter().sum());
        let zones = sizes.iter().enumerate().flat_map(|(zone, &size)| vec![zone; size as usize]);
        for (member, zone) in members.iter_mut().zip(zones) {
            member.zone = zone.to_string();
        }
        let plan = planned(&members, 8, None);
        assert!(plan.crowded.is_empty(), "{sizes:?}: {} crowded", plan.crowded.len());
        let zone = |id| &members.iter().find(|member| member.id == id).expect("a member").zone;
        for partition in plan.layout.partitions() {
            let mut zones: Vec<_> = plan.layout.owners(partition).map(zone).collect();
            zones.sort();
            zones.dedup();
            assert_eq!(zones.len(), 3, "{sizes:?}, {partition}");
        }
    }
}

#[test]
fn what_cannot_be_satisfied_is_said() {
    let mut members = nodes(4);
    members[0].zone = "b".into();
    let plan = planned(&members, 6, None);
    assert!(plan.crowded.is_empty(), "two zones for three replicas: two in one zone is even");
    members.push(Member { zone: "c".into(), ..Member::new(NodeId(1)) });
    members.iter_mut().for_each(|member| member.weight = if member.zone == "c" { 0 } else { 1 });
    assert!(planned(&members, 6, None).crowded.is_empty(), "a zone of weight zero does not count");
    assert_eq!(
        plan_error(&members[..1], None),
        PlanError::TooFewNodes { nodes: 1, replicas: 3 },
        "distinct nodes are not negotiable"
    );
    let twice = [members[0].clone(), members[0].clone(), members[1].clone()];
    assert_eq!(plan_error(&twice, None), PlanError::Duplicate(members[0].id));
    let other = plan_depth(4);
    assert_eq!(plan_error(&nodes(3), Some(&other)), PlanError::Previous);
}

fn plan_error(members: &[Member], previous: Option<&Layout>) -> PlanError {
    plan(&PlanRequest { members, replicas: 3, depth: 6, previous }).expect_err("an impossible plan")
}

fn plan_depth(depth: u8) -> Layout {
    planned(&nodes(3), depth, None).layout
}

#[test]
fn first_slots_are_spread() {
    let layout = planned(&nodes(6), 10, None).layout;
    for member in layout.members() {
        let first = layout.partitions().filter(|&p| layout.slot_of(p, member.id) == Some(0)).count();
        assert!((100..=250).contains(&first), "{} comes first in {first} of 1,024", member.id);
    }
}

fn member() -> impl Strategy<Value = (u32, u8)> {
    (0..5_u32, 0..4_u8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Through any sequence of memberships: distinct owners, preference lists with everybody, loads that
    /// follow weights, the same plan from any order of members.
    #[test]
    fn any_membership(generations in prop::collection::vec(prop::collection::vec(member(), 3..12), 1..4)) {
        let mut previous: Option<Layout> = None;
        for weights in generations {
            let mut members = nodes(weights.len() as u64);
            for (member, (weight, zone)) in members.iter_mut().zip(&weights) {
                member.weight = *weight;
                member.zone = zone.to_string();
            }
            let usable = members.iter().filter(|member| member.weight > 0).count();
            let request = PlanRequest { members: &members, replicas: 3, depth: 6, previous: previous.as_ref() };
            let Ok(planned) = plan(&request) else {
                prop_assert!(usable < 3);
                continue;
            };
            for partition in planned.layout.partitions() {
                let mut list = planned.layout.preference_list(partition);
                prop_assert_eq!(&list[..3], &planned.layout.owners(partition).collect::<Vec<_>>()[..]);
                list.sort();
                list.dedup();
                prop_assert_eq!(list.len(), members.len());
            }
            for (member, load) in planned.layout.members().iter().zip(loads(&planned.layout)) {
                prop_assert!(member.weight > 0 || load == 0.0);
            }
            let mut reversed = members.clone();
            reversed.reverse();
            let again = plan(&PlanRequest { members: &reversed, ..request }).expect("the same plan");
            prop_assert_eq!(&again, &planned);
            previous = Some(planned.layout);
        }
    }

    /// Without zones no node is fuller, for its weight, than whole partitions make it.
    #[test]
    fn loads_follow_weights(weights in prop::collection::vec(1..4_u32, 4..10)) {
        let mut members = nodes(weights.len() as u64);
        for (member, weight) in members.iter_mut().zip(&weights) {
            member.weight = *weight;
        }
        let total: u32 = weights.iter().sum();
        let planned = planned(&members, 8, None);
        let fair = |weight: u32| f64::from(weight) * 768.0 / f64::from(total);
        // No node may have more slots than there are partitions; near that the others share what is left.
        prop_assume!(weights.iter().all(|&weight| fair(weight) <= 250.0));
        // As many slots for a weight as if each node had one more.
        let fullest = (768 + weights.len()) as f64 / f64::from(total);
        for (member, load) in planned.layout.members().iter().zip(loads(&planned.layout)) {
            prop_assert!(load <= fullest * f64::from(member.weight), "{} for {}", load, fair(member.weight));
        }
    }
}

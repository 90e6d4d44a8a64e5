//! Dividing whole slots by weight, within bounds.

use alloc::vec;
use alloc::vec::Vec;

/// One receiver of slots.
#[derive(Clone, Copy)]
pub(crate) struct Share {
    pub(crate) weight: u64,
    pub(crate) least: u64,
    pub(crate) most: u64,
}

/// Divides `total` among `shares` in proportion to their weights, each within its bounds: first water-filling
/// (a share that hits a bound is fixed there and the rest divided anew), then the largest remainders.
/// Where the bounds leave no way, the result adds up to less or more than `total`. O(n²).
pub(crate) fn apportion(total: u64, shares: &[Share]) -> Vec<u64> {
    let mut fixed: Vec<Option<u64>> = vec![None; shares.len()];
    loop {
        let spent: u64 = fixed.iter().flatten().sum();
        let rest = total.saturating_sub(spent);
        let free = || (0..shares.len()).filter(|&at| fixed[at].is_none());
        let weight: u64 = free().map(|at| shares[at].weight).sum();
        if free().next().is_none() {
            break;
        }
        if weight == 0 {
            for at in free().collect::<Vec<_>>() {
                fixed[at] = Some(shares[at].least);
            }
            break;
        }
        let ideal = |at: usize| u128::from(rest) * u128::from(shares[at].weight);
        let over: Vec<_> =
            free().filter(|&at| ideal(at) > u128::from(shares[at].most) * u128::from(weight)).collect();
        let under: Vec<_> =
            free().filter(|&at| ideal(at) < u128::from(shares[at].least) * u128::from(weight)).collect();
        if over.is_empty() && under.is_empty() {
            let free: Vec<_> = free().collect();
            largest_remainders(rest, weight, shares, &free, &mut fixed);
            break;
        }
        // Fix one side at a time: fixing both at once can overshoot.
        let (bounded, bound): (_, fn(&Share) -> u64) =
            if over.is_empty() { (under, |share| share.least) } else { (over, |share| share.most) };
        for at in bounded {
            fixed[at] = Some(bound(&shares[at]));
        }
    }
    fixed.into_iter().map(Option::unwrap_or_default).collect()
}

fn largest_remainders(rest: u64, weight: u64, shares: &[Share], free: &[usize], fixed: &mut [Option<u64>]) {
    let mut left = rest;
    let mut remainders = Vec::new();
    for &at in free {
        let ideal = u128::from(rest) * u128::from(shares[at].weight);
        // The quotient is at most `rest`.
        let whole = (ideal / u128::from(weight)) as u64;
        fixed[at] = Some(whole);
        left -= whole;
        if whole < shares[at].most {
            remainders.push((core::cmp::Reverse(ideal % u128::from(weight)), at));
        }
    }
    remainders.sort_unstable();
    // Fewer are left than there are shares with a remainder, so one each is enough.
    for (_, at) in remainders.into_iter().take(left as usize) {
        fixed[at] = fixed[at].map(|whole| whole + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(weight: u64, least: u64, most: u64) -> Share {
        Share { weight, least, most }
    }

    #[test]
    fn divides_by_weight_within_bounds() {
        let even = [share(1, 0, 100); 3];
        assert_eq!(apportion(10, &even), [4, 3, 3]);
        assert_eq!(apportion(100, &[share(3, 0, 100), share(1, 0, 100)]), [75, 25]);
        assert_eq!(apportion(100, &[share(98, 0, 60), share(1, 0, 60), share(1, 0, 60)]), [60, 20, 20]);
        assert_eq!(apportion(100, &[share(98, 0, 100), share(2, 30, 100)]), [70, 30]);
        assert_eq!(apportion(10, &[share(0, 0, 10), share(5, 0, 10)]), [0, 10]);
    }
}

//! Two builds, by turns: a shared machine is faster now and slower then, and a ratio of neighbours is not.
//!
//! This build's `gramme bench` drives both: another's may do other work under the same name.

use std::path::Path;

use anyhow::ensure;

use super::Rows;
use crate::cluster::dev::Dev;
use crate::run::markdown;

pub(super) fn run(ours: &Path, theirs: &Path, rounds: usize, wanted: &Rows) -> anyhow::Result<()> {
    ensure!(rounds > 0, "--rounds: at least one");
    let rows = wanted.rows()?;
    // Idle, a cluster takes next to nothing from the other.
    let clusters = [Dev::found(ours, 3)?, Dev::found(theirs, 3)?];
    let mut table = markdown(["row", "CPU µs/op", "the other's", "ratio", "least", "greatest"]);
    for row in rows {
        let mut costs = [Vec::new(), Vec::new()];
        for round in 0..rounds {
            for turn in [round % 2, 1 - round % 2] {
                costs[turn].push(row.measure(ours, &clusters[turn], wanted.seconds)?.cpu()?);
            }
        }
        let mut ratios: Vec<f64> =
            costs[0].iter().zip(&costs[1]).map(|(ours, theirs)| ours / theirs).collect();
        let [ours, theirs] = costs.map(|mut costs| median(&mut costs));
        let ratio = median(&mut ratios);
        // Sorted by now.
        let (least, greatest) = (ratios[0], ratios[rounds - 1]);
        let cells = [ratio, least, greatest].map(|ratio| format!("{ratio:.2}"));
        let costs = [ours, theirs].map(|cost| format!("{cost:.0}"));
        table.add_row([vec![row.name()], costs.to_vec(), cells.to_vec()].concat());
    }
    println!("{}", table.trim_fmt());
    Ok(())
}

/// The one in the middle, of those that are then in order.
fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

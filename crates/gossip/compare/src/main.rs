//! What foca (SWIM) and chitchat (Scuttlebutt, phi accrual) need for what `gramme-gossip` does: simulated on the same
//! network, with each library's usual settings for a local network. `measure`, in `gramme-gossip`, prints the same rows.

#![forbid(unsafe_code)]

mod phi;
mod swim;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const SECOND: u64 = 1_000_000;
/// How often each is measured.
const TIMES: u64 = 5;
/// How long false alarms are counted, in seconds.
const LONG: u64 = 300;

const ROWS: [&str; 6] = [
    "seconds until a change is known to all, mean",
    "bytes per member and second when nothing changes",
    "seconds until one finds a dead member down",
    "seconds until all do",
    "a fifth of all messages lost: wrongly down, per member and hour",
    "members that stop for up to 2 s, a tenth of the time: wrongly down, per member and hour",
];

fn main() {
    // Each of chitchat's messages lists all members: a thousand of them are a hundred times the work of a hundred.
    print("foca", [swim::measure(10), swim::measure(100), swim::measure(1_000)]);
    print("chitchat", [phi::measure(10), phi::measure(100), [None; 6]]);
}

fn print(library: &str, columns: [[Option<f64>; 6]; 3]) {
    println!("| {library}, members | 10 | 100 | 1,000 |\n|---|---|---|---|");
    for (row, what) in ROWS.iter().enumerate() {
        let cell = |figures: &[Option<f64>; 6]| {
            figures[row].map_or("–".to_owned(), |figure| format!("{figure:.1}"))
        };
        println!("| {what} | {} |", columns.each_ref().map(cell).join(" | "));
    }
    println!();
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn seconds(time: u64) -> f64 {
    time as f64 / SECOND as f64
}

fn per_hour(downs: usize, nodes: u64) -> f64 {
    downs as f64 / nodes as f64 * 3_600.0 / LONG as f64
}

/// Until when each member that stops in this second does so, in microseconds from now.
fn stops(nodes: u64, rng: &mut StdRng) -> Vec<(u64, u64)> {
    let stopping = (0..nodes).filter(|_| rng.random_ratio(1, 10)).collect::<Vec<_>>();
    stopping.into_iter().map(|node| (node, rng.random_range(0..2 * SECOND))).collect()
}

fn seeded(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

/// Microseconds that a message takes.
fn delay(rng: &mut StdRng) -> u64 {
    rng.random_range(200..20_000)
}

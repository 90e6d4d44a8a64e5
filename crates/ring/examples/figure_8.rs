//! Prints figure 8 of the paper: metadata units, then for each strategy our efficiency and the paper's.
#![allow(clippy::print_stdout, reason = "it is a command")]

#[path = "../tests/paper/mod.rs"]
#[allow(missing_docs, reason = "shared with a test")]
mod paper;

fn main() {
    for (at, metadata) in paper::METADATA.into_iter().enumerate() {
        let strategy = |number: usize| {
            format!("{:.3} {:.2}", paper::ours(number, metadata), paper::PAPER[number - 1][at])
        };
        println!("{metadata} {} {} {}", strategy(1), strategy(2), strategy(3));
    }
}

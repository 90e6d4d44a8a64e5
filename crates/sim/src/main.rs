#![forbid(unsafe_code)]
//! x
use gramme_sim::{Settings, check, run};
fn main() {
    let seeds: u64 = std::env::args().nth(1).unwrap().parse().unwrap();
    let ops: u64 = std::env::args().nth(2).unwrap().parse().unwrap();
    let only = std::env::args().nth(3).is_some();
    let began = std::time::Instant::now();
    let mut total = gramme_sim::Counts::default();
    let mut ok = 0;
    for seed in if only { seeds..=seeds } else {1..=seeds} {
        let s = Settings::of_seed(seed, ops);
        if only { println!("{s}"); }
        let o = run(s);
        let (v, st) = check::check(&o.history);
        total.add(&o.counts);
        ok += o.succeeded;
        if only { println!("{} {st}", o.counts); }
        if only { for (n, d) in &o.history.names { if d.len()>1 {println!("{n} {d:?}");}} if let Some(k) = v.iter().find_map(|v| v.key) { println!("{}", gramme_sim::report::story_of(&o.history, k)); } }
        for v in v.iter().take(5) { println!("seed {seed}: {v}"); }
    }
    println!("{total}\n{ok} of {} {:?}", seeds*ops, began.elapsed());
}

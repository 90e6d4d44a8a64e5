//! Work that nobody waits for gives way, and what cannot be done soon is refused at the door.

use gramme_admission::Limits;
use gramme_quorum::{GetError, PutError};
use gramme_replica::{ClientPut, Input, Response};

use crate::bench::*;
use crate::peers::SECOND;

/// So many puts of this node's own, each of which the disk has after this long.
fn puts(bench: &mut Bench, count: u64, micros: u64) {
    for number in 0..count {
        let key = gramme_object::Key::new("default", "b", format!("k{number}")).expect("valid");
        bench.put(number, ClientPut { key, ..client_put("v") });
        bench.now += micros;
        bench.commit_all();
    }
    bench.sent.clear();
    bench.replies.clear();
}

/// A second or more is over.
fn period(bench: &mut Bench) -> u64 {
    bench.now += 2 * SECOND;
    bench.step(Input::Timer);
    bench.commit_all();
    bench.replica.stats().background_rate
}

#[test]
fn background_work_follows_what_the_foreground_bears() {
    let mut bench = bench(3);
    let Limits { most, least, target } = Limits::USUAL;
    assert_eq!(period(&mut bench), most, "nobody waits for anything");
    puts(&mut bench, 50, target / 4);
    assert_eq!(period(&mut bench), most);
    let mut rate = most;
    while rate > least {
        puts(&mut bench, 50, target * 2);
        assert_eq!(period(&mut bench), (rate / 2).max(least));
        rate = (rate / 2).max(least);
    }
    assert!(bench.replica.stats().foreground_p99 > target && bench.replica.stats().background_slowed > 0);
    puts(&mut bench, 50, target * 2);
    assert_eq!(period(&mut bench), least, "never to nothing");
    puts(&mut bench, 50, target / 4);
    assert!(period(&mut bench) > least);
}

#[test]
fn a_disk_that_stands_still_slows_what_would_wait_for_it_and_closes_the_door() {
    let mut bench = bench(3);
    bench.connect();
    period(&mut bench);
    // The disk takes it, and says nothing.
    bench.put(1, client_put("v"));
    bench.sent.clear();
    bench.now += SECOND / 2;
    let key = bench.beside();
    bench.put(2, ClientPut { key, ..client_put("v") });
    assert!(bench.replies.is_empty(), "for half a second it may");
    bench.now += SECOND / 2;
    bench.sent.clear();
    bench.put(3, client_put("v"));
    bench.get(4);
    let answers: Vec<_> = bench.replies.drain(..).map(|(_, response)| response).collect();
    assert!(
        matches!(&answers[..], [Response::Put(Err(PutError::Busy)), Response::Get(Err(GetError::Busy))]),
        "{answers:?}"
    );
    assert!(bench.sent.is_empty(), "nobody else is asked for it");
    bench.commit_all();
    bench.now += SECOND;
    bench.step(Input::Timer);
    bench.get(5);
    bench.commit_all();
    assert!(bench.replies.iter().any(|(_, response)| matches!(response, Response::Get(Ok(_)))));
}

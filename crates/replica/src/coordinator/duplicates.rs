//! Puts that were seen before.
//!
//! A put must not be applied twice, whatever the network repeats: the second copy would come back as a
//! sibling that nobody wrote. So whoever takes a put remembers it, by who began it, until some seconds
//! after its deadline, and answers a duplicate as the first. A copy that is later still is the transport's to
//! prevent: it repeats nothing, and what was on a connection goes with it.

use std::collections::{BTreeMap, BTreeSet};

use gramme_object::Key;
use gramme_plant::planted;
use gramme_quorum::PutError;
use gramme_vclock::Context;
use gramme_wire::peer::{Put, PutDone};

use super::put::Asker;

/// The most puts remembered at once; beyond it the oldest are forgotten early.
const REMEMBERED: usize = 1 << 16;

/// The most entries forgotten at once.
const FORGOTTEN: usize = 4;
/// When an entry that is past its time and under way is looked at again, in microseconds.
const AGAIN: u64 = 1_000_000;

/// Which put: who began it, in which start, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Identity {
    pub(crate) origin: u64,
    pub(crate) boot: u64,
    pub(crate) request: u64,
}

type Outcome = Result<PutDone, PutError>;

#[derive(Debug)]
struct Entry {
    key: Key,
    /// What its writer had read, while it is under way.
    read: Context,
    /// Who waits, while it is under way.
    askers: Vec<Asker>,
    outcome: Option<Box<Outcome>>,
}

/// What is known of a put that comes in.
pub(crate) enum Seen {
    First,
    /// It is under way; whoever asked now is told with the others.
    UnderWay,
    /// It is under way, and too many wait already.
    Crowded(Asker),
    /// Another key had this number: whoever asks is confused, or worse.
    Reused(Asker),
    Done(Asker, Box<Outcome>),
}

/// A duplicate is told what was done, without the object: objects can be large, and this is kept. Then its
/// context must not cover the object's versions either, which whoever is told has not seen.
fn without_object(done: PutDone, read: Context) -> PutDone {
    if done.object.is_none() {
        return done;
    }
    let mut context = read;
    context.insert(done.dot);
    PutDone { context, object: None, ..done }
}

#[derive(Debug, Default)]
pub(crate) struct Duplicates {
    entries: BTreeMap<Identity, Entry>,
    by_age: BTreeSet<(u64, Identity)>,
}

impl Duplicates {
    /// Looks whether a put was seen before. `may_wait`: whether there is room for one more that waits.
    pub(crate) fn see(
        &mut self,
        identity: Identity,
        put: &Put,
        asker: Asker,
        (now, until): (u64, u64),
        may_wait: bool,
    ) -> Seen {
        if let Some(entry) = self.entries.get_mut(&identity) {
            if entry.key != put.key {
                return Seen::Reused(asker);
            }
            return match &entry.outcome {
                Some(outcome) => Seen::Done(asker, outcome.clone()),
                None if !may_wait => Seen::Crowded(asker),
                None => {
                    entry.askers.push(asker);
                    Seen::UnderWay
                }
            };
        }
        self.make_room();
        self.forget(now);
        let (key, read) = (put.key.clone(), put.read.clone());
        self.entries.insert(identity, Entry { key, read, askers: vec![asker], outcome: None });
        self.by_age.insert((until, identity));
        Seen::First
    }

    /// Remembers the outcome; returns who waits for it. A second outcome changes nothing.
    pub(crate) fn conclude(&mut self, identity: Identity, outcome: &Outcome) -> Vec<Asker> {
        let Some(entry) = self.entries.get_mut(&identity) else { return Vec::new() };
        let read = std::mem::take(&mut entry.read);
        entry.outcome.get_or_insert_with(|| Box::new(outcome.clone().map(|done| without_object(done, read))));
        let askers = std::mem::take(&mut entry.askers);
        if planted!(ForgetPut) {
            self.entries.remove(&identity);
        }
        askers
    }

    /// Forgets some of what is past its time and concluded: who waits must still be told. A few at a time and
    /// often, since all that a second brought would hold everybody up together.
    fn forget(&mut self, now: u64) {
        for _ in 0..FORGOTTEN {
            let Some(&(until, identity)) = self.by_age.first().filter(|(until, _)| *until <= now) else {
                return;
            };
            if self.entries.get(&identity).is_some_and(|entry| entry.outcome.is_none()) {
                // It ends soon: look again then.
                self.by_age.remove(&(until, identity));
                self.by_age.insert((now + AGAIN, identity));
                continue;
            }
            self.remove(until, identity);
        }
    }

    /// Those under way are bounded by the number of requests; only concluded ones give way.
    fn make_room(&mut self) {
        if self.entries.len() < REMEMBERED {
            return;
        }
        let is_done = |(_, identity): &&(u64, Identity)| {
            self.entries.get(identity).is_some_and(|entry| entry.outcome.is_some())
        };
        // Those under way stand at the end, but for the few that are past their time.
        if let Some(&(until, identity)) = self.by_age.iter().take(FORGOTTEN * 64).find(is_done) {
            self.remove(until, identity);
        }
    }

    fn remove(&mut self, until: u64, identity: Identity) {
        self.by_age.remove(&(until, identity));
        self.entries.remove(&identity);
    }
}

#[cfg(test)]
mod tests {
    use gramme_quorum::Threshold;

    use super::*;
    use crate::io::Ticket;

    /// However many are seen within their time, and however few of the oldest are over.
    #[test]
    fn no_more_are_remembered_than_there_is_room_for() {
        let key = Key::new("default", "b", "k").expect("valid parts");
        let put = Put {
            key: key.clone(),
            read: Context::new(),
            content: None,
            expiry: gramme_object::Expiry::AsBucket,
            touched: None,
            w: Threshold::Default,
            pw: Threshold::Default,
            dw: Threshold::Default,
            timeout: 1_000,
            return_body: false,
            sloppy: None,
        };
        let mut duplicates = Duplicates::default();
        for request in 0..REMEMBERED as u64 + 100 {
            let identity = Identity { origin: 1, boot: 1, request };
            let seen =
                duplicates.see(identity, &put, Asker::Client(Ticket(request), key.clone()), (0, 1_000), true);
            assert!(matches!(seen, Seen::First));
            // The first ten stay under way.
            if request >= 10 {
                duplicates.conclude(identity, &Err(PutError::Busy));
            }
        }
        assert_eq!(duplicates.entries.len(), REMEMBERED);
        assert_eq!(duplicates.by_age.len(), REMEMBERED);
        let under_way = |request| duplicates.entries.contains_key(&Identity { origin: 1, boot: 1, request });
        assert!((0..10).all(under_way) && !under_way(10));
    }
}

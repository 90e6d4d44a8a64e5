//! Makes a broken run shorter: fewer operations, faults, clients and keys, as long as it breaks the same
//! promise. Every change draws other numbers, so this is a search, not a proof of what is needed.

use crate::check::Promise;
use crate::settings::Settings;

/// Runs that a search may cost.
const ATTEMPTS: usize = 300;

/// The shortest settings found for which `breaks` still says that the promise is broken.
pub fn shrink(
    settings: Settings,
    promise: Promise,
    breaks: impl Fn(Settings) -> Option<Promise>,
) -> Settings {
    let mut search =
        Search { best: settings, left: ATTEMPTS, breaks: |settings| breaks(settings) == Some(promise) };
    loop {
        let before = search.best;
        search.fewer_operations();
        search.fewer_faults();
        search.fewer_of(|settings| &mut settings.clients);
        search.fewer_of(|settings| &mut settings.keys);
        if search.best == before || search.left == 0 {
            return search.best;
        }
    }
}

struct Search<F> {
    best: Settings,
    left: usize,
    breaks: F,
}

impl<F: Fn(Settings) -> bool> Search<F> {
    fn try_with(&mut self, settings: Settings) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        let breaks = (self.breaks)(settings);
        if breaks {
            self.best = settings;
        }
        breaks
    }

    fn fewer_operations(&mut self) {
        let mut step = self.best.operations / 2;
        while step > 0 {
            let fewer = Settings { operations: self.best.operations - step, ..self.best };
            if fewer.operations == 0 || !self.try_with(fewer) {
                step /= 2;
            }
        }
    }

    fn fewer_faults(&mut self) {
        for fault in self.best.faults.iter() {
            self.try_with(Settings { faults: self.best.faults.without(fault), ..self.best });
        }
    }

    fn fewer_of(&mut self, number: impl Fn(&mut Settings) -> &mut usize) {
        for wanted in [1, 2, 3, 4, 6, 8] {
            let mut fewer = self.best;
            let now = number(&mut fewer);
            if wanted >= *now {
                return;
            }
            *now = wanted;
            if self.try_with(fewer) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Fault;

    #[test]
    fn what_is_not_needed_goes() {
        let settings = Settings { faults: crate::FaultSet::all(), ..Settings::of_seed(1, 5_000) };
        let breaks = |settings: Settings| {
            let needed = settings.operations >= 37 && settings.faults.has(Fault::Crash);
            needed.then_some(Promise::Durability)
        };
        let short = shrink(settings, Promise::Durability, breaks);
        let faults = [Fault::Crash].into_iter().collect();
        assert_eq!((short.operations, short.faults, short.clients, short.keys), (37, faults, 1, 1));
    }
}

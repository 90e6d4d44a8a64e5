//! Bugs that are put in on purpose, to see whether the simulator notices. Only in builds with
//! `--cfg gramme_planted`; it stands in the lowest crate because every other one can reach it here.

use core::sync::atomic::{AtomicUsize, Ordering};

macro_rules! plants {
    ($($(#[doc = $doc:literal])* $variant:ident,)*) => {
        /// A bug.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Plant { $($(#[doc = $doc])* $variant,)* }

        impl Plant {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// What is wrong with it in.
            #[must_use]
            pub const fn what(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),*),)* }
            }
        }
    };
}

plants! {
    /// acknowledge before durable
    AckBeforeDurable,
    /// last write wins in the merge
    LastWriteWins,
    /// answer a get from its first reply
    FirstReply,
    /// reuse a dot after a crash
    ReuseDot,
    /// keep the tenure after a rolled-back directory
    KeepTenure,
    /// answer a put with the full context
    FullContext,
    /// take a read error for "not found"
    ReadErrorIsAbsent,
    /// show a staged write before it is durable
    ShowStaged,
    /// apply a duplicated message twice
    ApplyTwice,
    /// send a put again after a lost reply
    SendAgain,
    /// act on a reply of an older request
    OldReply,
    /// retry a failed fsync
    RetrySync,
    /// raise an entry without what replaced the older versions
    RaiseAlone,
    /// hand a copy of a put on to another owner
    HandOnCopy,
    /// count an acknowledgement of one node twice
    CountTwice,
    /// ask another node after a put's outcome is unknown
    RetryUnknown,
    /// count what an amnesiac replica acknowledges
    CountAmnesiac,
    /// believe a directory that is older than what was acknowledged
    BelieveOld,
    /// take what a vector entry covers for seen
    SeenFromVector,
    /// say that nothing was changed when too few acknowledged
    DenyChange,
    /// raise a context to a dot that is added to it
    RaiseToDot,
    /// forget a put as soon as it is answered
    ForgetPut,
}

static ACTIVE: AtomicUsize = AtomicUsize::new(usize::MAX);

/// Puts one bug in, and takes out the last.
pub fn plant(plant: Plant) {
    ACTIVE.store(plant as usize, Ordering::Relaxed);
}

/// Whether this bug is in.
#[must_use]
pub fn is(plant: Plant) -> bool {
    ACTIVE.load(Ordering::Relaxed) == plant as usize
}

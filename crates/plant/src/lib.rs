#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicUsize, Ordering};

macro_rules! bugs {
    ($($(#[doc = $doc:literal])* $variant:ident,)*) => {
        /// A bug.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Bug { $($(#[doc = $doc])* $variant,)* }

        impl Bug {
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

bugs! {
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
    /// raise no entry where the stored object is large
    DecideByStoredSize,
    /// believe every clock and every stamp
    TrustClock,
    /// leave out of a put's answer what one owner may still hold
    ShortenAtQuorum,
    /// delete a hinted copy as soon as it is sent
    HintGone,
    /// keep a fallback's actor after its copy was handed on
    KeepFallbackActor,
    /// count an owner and whoever stands in for it as two
    SeatTwice,
    /// say in every exchange that all is the same
    AllTheSame,
    /// forget a tombstone before every owner has seen it
    ReclaimEarly,
    /// take a version that was seen and replaced for a new one
    TakeOld,
    /// answer a read without asking what became of a version
    ReadUncovered,
    /// show a value that has expired
    ShowExpired,
    /// purge a value by one node's clock
    PurgeByOneClock,
    /// show or store a value that was left out of an answer
    ShowHollow,
    /// answer a read with less than its session has seen
    ForgetSession,
    /// count again after a loss before everything was pulled
    RememberEarly,
    /// hear a node that was removed
    HearRemoved,
    /// drop a partition before its owners have it
    DropUnconfirmed,
    /// show a partition to others while it is dropped
    ShowDropping,
    /// let readers ask new owners before they have everything
    ReadNewEarly,
    /// take a new owner for complete at once
    CompleteEarly,
    /// take a new owner for complete after one old owner's copy
    OneSource,
    /// count a copy that began before its source was fenced
    CountUnfenced,
    /// count a layout before it is on the disk
    FenceEarly,
    /// keep what was copied under a change that was taken back
    KeepTaken,
    /// carry acknowledgements over from an earlier epoch
    CarryAcks,
    /// take over what another has seen without comparing
    PullUncompared,
    /// decide on a layout without a majority
    DecideAlone,
}

static ACTIVE: AtomicUsize = AtomicUsize::new(usize::MAX);

/// Puts one bug in, and takes out the last.
pub fn plant(bug: Bug) {
    ACTIVE.store(bug as usize, Ordering::Relaxed);
}

/// Whether this bug is in.
#[must_use]
pub fn is(bug: Bug) -> bool {
    ACTIVE.load(Ordering::Relaxed) == bug as usize
}

/// Whether the bug of this name is in; the constant `false` without `--cfg gramme_planted`.
#[macro_export]
macro_rules! planted {
    ($bug:ident) => {
        cfg!(gramme_planted) && $crate::is($crate::Bug::$bug)
    };
}

//! A change that an operator stages: typed, and on its way to a node.
//!
//! The command line and the interface speak of the same thing; with a definition for each they would drift apart.

use clap::Subcommand;
use serde::{Deserialize, Serialize};

/// What a node weighs if nobody says.
pub(crate) const WEIGHT: u32 = 100;

const fn usual_weight() -> u32 {
    WEIGHT
}

/// Changes as `POST /admin/plan` takes them.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Changes {
    pub(crate) changes: Vec<Change>,
}

/// What is to change.
#[derive(Debug, Clone, Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Change {
    /// Let a node that has joined own partitions
    Add {
        /// Its id
        node: String,
        /// What fails with it: a rack, a room. Replicas are spread over zones
        #[arg(long, default_value = "")]
        #[serde(default)]
        zone: String,
        /// Its capacity relative to the others'
        #[arg(long, default_value_t = WEIGHT)]
        #[serde(default = "usual_weight")]
        weight: u32,
    },
    /// Let a node hand over all that it owns, and go
    Remove {
        /// Its id
        node: String,
    },
    /// Let a node go that never comes back, owns nothing, and need not hand over what it may still have
    Forget {
        /// Its id
        node: String,
    },
    /// Let a node take the place of another, which goes; nothing else moves for that
    Replace {
        /// Who goes
        old: String,
        /// Who comes
        new: String,
    },
    /// Give a node another weight
    Weight {
        /// Its id
        node: String,
        /// Its capacity relative to the others'
        weight: u32,
    },
    /// Put a node into another zone
    Zone {
        /// Its id
        node: String,
        /// The zone's name
        zone: String,
    },
    /// Keep every key so many times
    Replicas {
        /// N
        n: u8,
    },
}

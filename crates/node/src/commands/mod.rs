//! The commands, one file each.

pub(crate) mod accept_loss;
pub(crate) mod bench;
pub(crate) mod cluster_file;
pub(crate) mod dev;
pub(crate) mod dev_ring;
pub(crate) mod explain;
pub(crate) mod get;
pub(crate) mod node;
pub(crate) mod plan;
pub(crate) mod ports;
pub(crate) mod put;
pub(crate) mod remote;
pub(crate) mod status;

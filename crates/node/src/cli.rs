//! What can be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use gramme_quorum::Threshold;

use crate::ring_change::{Change, WEIGHT};

/// Gramme: a leaderless, always-writable, replicated key-value store.
#[derive(Debug, Parser)]
#[command(name = "gramme", version, about, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str =
    "Exit codes: 0 done, 1 not found, 2 usage, 3 nobody reachable, 4 refused or outcome unknown.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Found a throwaway cluster on this machine and run it
    Dev(DevArgs),
    /// Run one node
    Node(NodeArgs),
    /// Read a key
    Get(GetArgs),
    /// Write a key
    Put(PutArgs),
    /// Change when a key's value expires, without sending the value again
    Touch(TouchArgs),
    /// Delete a key
    Delete(DeleteArgs),
    /// Show the cluster as one node sees it
    Status(StatusArgs),
    /// Show what each node holds of a key
    Explain(ExplainArgs),
    /// Let a node that lost data count again, and give up what nobody else has
    AcceptLoss(AcceptLossArgs),
    /// Stage a change of who owns what, look at what it comes to, and have it decided
    Plan(PlanArgs),
    /// Show partitions on their way from old owners to new ones
    Transfers(TransfersArgs),
    /// Drive load against a cluster and measure it
    Bench(BenchArgs),
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct DevArgs {
    #[command(subcommand)]
    pub(crate) what: Option<DevWhat>,
    /// How many nodes to found (default 3)
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) nodes: Option<u16>,
    /// Where to keep the cluster; a temporary directory that is removed at the end unless given
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
    /// The first node's HTTP port; the others follow it
    #[arg(long)]
    pub(crate) http_port: Option<u16>,
    /// The storage engine of a new cluster: sled, redb or memory
    #[arg(long, default_value = "sled")]
    pub(crate) engine: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DevWhat {
    /// Add a node to a running throwaway cluster, and wait until it has its share
    Add {
        /// The cluster's directory; else the cluster that was started last
        #[arg(long)]
        dir: Option<PathBuf>,
        /// What fails with it: replicas are spread over zones
        #[arg(long, default_value = "")]
        zone: String,
        /// Its capacity relative to the others'
        #[arg(long, default_value_t = WEIGHT)]
        weight: u32,
    },
    /// Let a node of a running throwaway cluster hand over all that it owns, and go
    Remove {
        /// Its name, as n4, or its id
        node: String,
        /// The cluster's directory; else the cluster that was started last
        #[arg(long)]
        dir: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    #[command(subcommand)]
    pub(crate) what: PlanWhat,
    #[command(flatten)]
    pub(crate) endpoint: Endpoint,
    /// Show the node's answer as it is
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PlanWhat {
    #[command(flatten)]
    Change(Change),
    /// Show what is staged, and what it comes to
    Show,
    /// Have it decided
    Commit,
    /// Forget what is staged
    Abort,
}

#[derive(Debug, Args)]
pub(crate) struct TransfersArgs {
    #[command(flatten)]
    pub(crate) endpoint: Endpoint,
    /// Show it again every second, until nothing moves
    #[arg(long)]
    pub(crate) watch: bool,
    /// Let go back what has not arrived
    #[arg(long, conflicts_with = "watch")]
    pub(crate) cancel: bool,
    /// Show the node's answer as it is
    #[arg(long, conflicts_with_all = ["watch", "cancel"])]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct NodeArgs {
    /// The node's configuration file
    #[arg(long, default_value = "gramme.toml")]
    pub(crate) config: PathBuf,
    /// A setting in the place of the file's, as KEY=VALUE; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Let HTTP listen on an address other machines can reach, without encryption or passwords
    #[arg(long)]
    pub(crate) insecure_http: bool,
    /// Begin with an empty store in the place of one that was lost with its disk; the other nodes fill it
    #[arg(long)]
    pub(crate) lost_disk: bool,
}

/// Which node the command line talks to.
#[derive(Clone, Debug, Args)]
pub(crate) struct Endpoint {
    /// A node's HTTP address; else the cluster that `gramme dev` started last
    #[arg(long, value_name = "HOST:PORT", env = "GRAMME_ENDPOINT")]
    pub(crate) node: Option<String>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct KeyArgs {
    /// The bucket and the key; the first slash divides them
    #[arg(value_name = "BUCKET/KEY")]
    pub(crate) key: String,
    /// The bucket's type
    #[arg(long = "type", default_value = "default")]
    pub(crate) bucket_type: String,
    #[command(flatten)]
    pub(crate) endpoint: Endpoint,
    /// How long to wait, in milliseconds
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=600_000))]
    pub(crate) timeout: u32,
    /// Whether fallbacks may stand in for owners that cannot be reached, whatever the bucket says
    #[arg(long, value_name = "true|false")]
    pub(crate) sloppy: Option<bool>,
}

#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    #[command(flatten)]
    pub(crate) key: KeyArgs,
    /// How many replicas must answer: a number, one, quorum or all
    #[arg(long)]
    pub(crate) r: Option<Threshold>,
    /// Show at least what the reader or writer of this context has seen, as `--verbose` or X-Gramme-Context gave it
    #[arg(long, value_name = "CONTEXT")]
    pub(crate) session: Vec<String>,
    /// Show this one of several siblings, counted from 1
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) sibling: Option<u16>,
    /// How to show what is there
    #[arg(long, value_enum, default_value_t = Output::Raw)]
    pub(crate) output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// The value alone, to the byte
    Raw,
    /// All versions as a table
    Table,
    /// All versions as JSON, values in base64
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct PutArgs {
    #[command(flatten)]
    pub(crate) key: KeyArgs,
    /// The value, @FILE for a file's content, or - for standard input
    pub(crate) value: String,
    /// The value's content type
    #[arg(long, default_value = "application/octet-stream")]
    pub(crate) content_type: String,
    /// When it expires: seconds from now, an instant such as 2030-01-31T12:00:00Z, or never; else as the bucket says
    #[arg(long)]
    pub(crate) expires: Option<String>,
    #[command(flatten)]
    pub(crate) write: WriteArgs,
}

#[derive(Debug, Args)]
pub(crate) struct TouchArgs {
    #[command(flatten)]
    pub(crate) key: KeyArgs,
    /// When it expires: seconds from now, an instant such as 2030-01-31T12:00:00Z, or never
    #[arg(long)]
    pub(crate) expires: String,
    /// How many replicas must acknowledge: a number, one, quorum or all
    #[arg(long)]
    pub(crate) w: Option<Threshold>,
    /// How many replicas must answer the read that comes first
    #[arg(long)]
    pub(crate) r: Option<Threshold>,
}

#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    #[command(flatten)]
    pub(crate) key: KeyArgs,
    #[command(flatten)]
    pub(crate) write: WriteArgs,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct WriteArgs {
    /// How many replicas must acknowledge: a number, one, quorum or all
    #[arg(long)]
    pub(crate) w: Option<Threshold>,
    /// How many replicas must answer the read that comes first
    #[arg(long)]
    pub(crate) r: Option<Threshold>,
    /// Replace what this context covers, instead of reading first
    #[arg(long, conflicts_with = "blind")]
    pub(crate) context: Option<String>,
    /// Write without a context: concurrent with whatever is there
    #[arg(long)]
    pub(crate) blind: bool,
    /// Show the new context and the receipt
    #[arg(long)]
    pub(crate) verbose: bool,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) endpoint: Endpoint,
    /// Show it again every second, until interrupted
    #[arg(long, conflicts_with = "json")]
    pub(crate) watch: bool,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The bucket and the key, with a slash between them
    #[arg(value_name = "BUCKET/KEY")]
    pub(crate) key: String,
    /// The bucket's type
    #[arg(long = "type", default_value = "default")]
    pub(crate) bucket_type: String,
    #[command(flatten)]
    pub(crate) endpoint: Endpoint,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct AcceptLossArgs {
    /// The node that lost data: its HTTP address
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) node: String,
    /// Show what would be given up, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct BenchArgs {
    /// The cluster's description as `gramme dev` writes it; else that of the cluster it started last
    #[arg(long)]
    pub(crate) cluster: Option<PathBuf>,
    /// What to speak
    #[arg(long, value_enum, default_value_t = Interface::Native)]
    pub(crate) interface: Interface,
    /// What to do
    #[arg(long, value_enum, default_value_t = Workload::Put)]
    pub(crate) workload: Workload,
    /// Requests under way at once
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4_096))]
    pub(crate) in_flight: u16,
    /// Requests a second that are due, however many are answered; those that --in-flight has no room for within a
    /// second are not sent
    #[arg(long, conflicts_with = "once", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) rate: Option<u32>,
    /// Bytes per value
    #[arg(long, default_value_t = 100)]
    pub(crate) value_size: usize,
    /// Different keys
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) keys: u64,
    /// How long to measure, in seconds
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub(crate) seconds: u64,
    /// Each key once, in random order, however long that takes
    #[arg(long, conflicts_with = "seconds")]
    pub(crate) once: bool,
    /// What the keys' names begin with: get reads what one insert with the same one wrote; else a random one
    #[arg(long)]
    pub(crate) prefix: Option<String>,
    /// When a write counts as acknowledged: fsync, one-of-n or buffered
    #[arg(long, default_value = "fsync")]
    pub(crate) durability: String,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Interface {
    /// The native client, over QUIC
    Native,
    /// HTTP/1.1 with connections kept open
    Http,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    /// Writes over keys that were written before: each worker replaces its own last write
    Put,
    /// Writes of new keys
    Insert,
    /// Reads of keys that were written before
    Get,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}

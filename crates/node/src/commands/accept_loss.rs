//! `gramme accept-loss`: what a node has lost is given up.

use std::time::Duration;

use serde_json::Value;

use crate::cli::{AcceptLossArgs, Endpoint};
use crate::commands::get::write_out;
use crate::commands::remote::Remote;

pub(crate) fn run(args: &AcceptLossArgs) -> anyhow::Result<()> {
    let endpoint = Endpoint { node: Some(args.node.clone()) };
    let remote = Remote::new(&endpoint, Duration::from_secs(5))?;
    let accepted: Value = serde_json::from_slice(&remote.admin("POST", "/admin/accept-loss")?)?;
    let said = match accepted["partitions"].as_u64().unwrap_or_default() {
        0 => "this node has lost nothing that it knows of; nothing was changed\n".to_owned(),
        partitions => format!(
            "{partitions} partitions of this node count again. Given up is what they acknowledged and no other owner \
             has\n"
        ),
    };
    write_out(said.as_bytes())
}

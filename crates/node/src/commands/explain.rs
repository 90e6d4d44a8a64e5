//! `gramme explain`: what each node holds of a key.

use std::time::{Duration, UNIX_EPOCH};

use comfy_table::{Table, presets};
use gramme_object::limits::LATEST_EXPIRY;
use serde_json::Value;

use crate::cli::ExplainArgs;
use crate::commands::get::write_out;
use crate::commands::remote::{Remote, explain_path};

pub(crate) fn run(args: &ExplainArgs) -> anyhow::Result<()> {
    let remote = Remote::new(&args.endpoint, Duration::from_secs(1))?;
    let body = remote.admin("GET", &explain_path(&args.bucket_type, &args.key)?)?;
    if args.json {
        return write_out(&body);
    }
    let explained: Value = serde_json::from_slice(&body)?;
    write_out(render(&explained).as_bytes())
}

fn render(explained: &Value) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(["node", "role", "state", "holds"]);
    for holder in explained["preference_list"].as_array().into_iter().flatten() {
        let text = |name: &str| holder[name].as_str().unwrap_or_default().to_owned();
        let role = match holder["slot"].as_u64() {
            Some(slot) => format!("owner {slot}"),
            None => "fallback".to_owned(),
        };
        let mut holds = holds(holder);
        if let Some(why) = holder["uncounted"].as_str() {
            holds += &format!(" (counts for nothing: {why})");
        }
        table.add_row([text("node"), role, text("state"), holds]);
    }
    format!(
        "partition {}, epoch {}\n{}\n\n{}\n{}",
        explained["partition"].as_str().unwrap_or_default(),
        explained["epoch"],
        table.trim_fmt(),
        remark(explained),
        reclaim(explained)
    )
}

/// What keeps the key from forgetting what was replaced.
fn reclaim(explained: &Value) -> String {
    let Some(blocked) = explained["reclaim_blocked_by"].as_array() else { return String::new() };
    if blocked.is_empty() {
        return "What was replaced is forgotten in a moment: every owner has seen it.\n".to_owned();
    }
    let owner = |blocked: &Value| {
        let node = blocked["node"].as_str().unwrap_or_default();
        let why =
            if blocked["lacks"] == true { "has not seen all of it" } else { "has not said what it has seen" };
        format!("{node} {why}")
    };
    let owners = blocked.iter().map(owner).collect::<Vec<_>>().join("; ");
    format!("What was replaced is forgotten once every owner has seen it: {owners}.\n")
}

fn holds(holder: &Value) -> String {
    if let Some(why) = holder["unknown"].as_str() {
        return format!("unknown: {why}");
    }
    let versions = holder["versions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_owner = holder["slot"].is_u64();
    if versions.is_empty() {
        return "nothing".to_owned();
    }
    let version = |version: &Value| {
        let dot = version["dot"].as_str().unwrap_or_default();
        match (version["bytes"].as_u64(), version["expires_ms"].as_u64()) {
            (Some(bytes), None) => format!("{dot} ({bytes} bytes)"),
            (Some(bytes), Some(at)) => format!("{dot} ({bytes} bytes, expires {})", instant(at)),
            (None, None) => format!("{dot} (deleted)"),
            (None, Some(at)) => format!("{dot} (expired {})", instant(at)),
        }
    };
    let versions = versions.iter().map(version).collect::<Vec<_>>().join(", ");
    if is_owner { versions } else { format!("{versions}, kept for an owner") }
}

fn instant(millis: u64) -> humantime::Rfc3339Timestamp {
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(millis.min(LATEST_EXPIRY)))
}

/// What it comes to, and what happens next.
fn remark(explained: &Value) -> &'static str {
    let holders = explained["preference_list"].as_array().map(Vec::as_slice).unwrap_or_default();
    let keeps = |holder: &&Value| {
        holder["slot"].is_null() && holder["versions"].as_array().is_some_and(|versions| !versions.is_empty())
    };
    match explained["equal"].as_bool() {
        _ if holders.iter().any(|holder| keeps(&holder)) => {
            "Fallbacks keep copies for owners; they are handed on when those are back."
        }
        Some(true) => "All owners hold the same.",
        Some(false) => {
            "The owners differ: a read that hears from all of them mends it, and so does the next exchange."
        }
        None => "Not all owners have answered.",
    }
}

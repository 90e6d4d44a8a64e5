//! `gramme plan` and `gramme transfers`: changing who owns what, and watching it happen.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use comfy_table::{Table, presets};
use serde_json::Value;

use crate::cli::{PlanArgs, PlanWhat, TransfersArgs};
use crate::commands::get::write_out;
use crate::commands::remote::{Call, Remote};
use crate::ring_change::{Change, Changes};

/// A decision may take ten seconds.
const PATIENCE: Duration = Duration::from_secs(12);
const WATCH: Duration = Duration::from_secs(1);

pub(crate) fn run(args: &PlanArgs) -> anyhow::Result<()> {
    let remote = Remote::new(&args.endpoint, PATIENCE)?;
    let (view, said) = match &args.what {
        PlanWhat::Change(change) => (post(&remote, change.clone())?, STAGED),
        PlanWhat::Show => (remote.admin("GET", "/admin/plan")?, STAGED),
        PlanWhat::Commit => (remote.admin("POST", "/admin/plan/commit")?, COMMITTED),
        PlanWhat::Abort => (remote.admin("DELETE", "/admin/plan")?, "\nforgotten; nothing was changed\n"),
    };
    if args.json {
        return write_out(&view);
    }
    write_out((render(&serde_json::from_slice(&view)?) + said).as_bytes())
}

const STAGED: &str =
    "\nnothing has changed yet: `gramme plan commit` has it decided, `gramme plan abort` forgets it\n";
const COMMITTED: &str = "\ndecided; `gramme transfers --watch` shows what moves\n";

/// Stages a change; returns what the plan comes to.
pub(crate) fn post(remote: &Remote, change: Change) -> anyhow::Result<Vec<u8>> {
    let body = serde_json::to_vec(&Changes { changes: vec![change] })?;
    let answer =
        remote.call(&Call { method: "POST", path: "/admin/plan".to_owned(), body, ..Call::default() })?;
    if answer.status == 200 { Ok(answer.body) } else { Err(answer.error()) }
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

pub(crate) fn render(view: &Value) -> String {
    let mut said = String::new();
    for change in view["changes"].as_array().into_iter().flatten() {
        said += &format!("{}\n", change.as_str().unwrap_or_default());
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(["node", "zone", "weight", "partitions", "then"]);
    for node in view["nodes"].as_array().into_iter().flatten() {
        let text = |name: &str| node[name].as_str().unwrap_or_default().to_owned();
        let count = |name: &str| number(&node[name]).to_string();
        table.add_row([text("id"), text("zone"), count("weight"), count("before"), count("after")]);
    }
    said += &format!("{}\n", table.trim_fmt());
    let (before, after) = (number(&view["n"]["before"]), number(&view["n"]["after"]));
    if before != after {
        said += &format!("N goes from {before} to {after}\n");
    }
    let copies = number(&view["copies"]);
    said += &format!(
        "{} partitions change owners; {copies} copies move, about {}\n",
        number(&view["partitions"]),
        size(number(&view["bytes"]))
    );
    let crowded = number(&view["crowded"]);
    if crowded > 0 {
        said += &format!("{crowded} partitions have more replicas in one zone than an even spread would\n");
    }
    let moving = number(&view["moving"]);
    if moving > 0 {
        said += &format!("{moving} partitions still move; it can be committed once they have arrived\n");
    }
    said
}

fn size(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} bytes"),
        10_000..10_000_000 => format!("{} KB", bytes / 1_000),
        10_000_000..10_000_000_000 => format!("{} MB", bytes / 1_000_000),
        _ => format!("{} GB", bytes / 1_000_000_000),
    }
}

pub(crate) fn transfers(args: &TransfersArgs) -> anyhow::Result<()> {
    let remote = Remote::new(&args.endpoint, PATIENCE)?;
    if args.cancel {
        remote.admin("DELETE", "/admin/transfers")?;
        return write_out(b"what has not arrived goes back\n");
    }
    let began = Instant::now();
    let mut first: Option<u64> = None;
    loop {
        let body = remote.admin("GET", "/admin/transfers")?;
        if args.json {
            return write_out(&body);
        }
        let view: Value = serde_json::from_slice(&body)?;
        let left = left(&view);
        let begun = *first.get_or_insert(left);
        let mut said = render_transfers(&view);
        if args.watch && left > 0 && left < begun {
            let seconds = began.elapsed().as_secs_f64();
            let rate = (begun - left) as f64 / seconds;
            said += &format!("{rate:.1} copies a second; about {:.0} s left\n", left as f64 / rate);
        }
        if args.watch && std::io::stdout().is_terminal() {
            said = format!("\x1b[H\x1b[2J{said}");
        }
        write_out(said.as_bytes())?;
        if !args.watch || is_settled(&view) {
            return Ok(());
        }
        std::thread::sleep(WATCH);
    }
}

/// Copies of partitions that have not arrived.
fn left(view: &Value) -> u64 {
    let nodes = view["nodes"].as_array().into_iter().flatten();
    nodes.map(|node| number(&node["arriving"]) - number(&node["complete"])).sum()
}

/// Whether nothing moves, and nobody has anything to hand over.
pub(crate) fn is_settled(view: &Value) -> bool {
    let nodes = || view["nodes"].as_array().into_iter().flatten();
    number(&view["joining"]) + number(&view["leaving"]) == 0
        && !nodes().any(|node| node["hands_over"] == true || node["leaving"] == true)
}

/// One line on how far it is.
pub(crate) fn summary(view: &Value) -> String {
    let nodes = || view["nodes"].as_array().into_iter().flatten();
    let sum = |name: &str| nodes().map(|node| number(&node[name])).sum::<u64>();
    let hand_over = nodes().filter(|node| node["hands_over"] == true).count();
    format!(
        "{} of {} copies have arrived, {} partitions are copied, {} change hands, {hand_over} nodes hand over\n",
        sum("complete"),
        sum("arriving"),
        number(&view["joining"]),
        number(&view["leaving"])
    )
}

fn render_transfers(view: &Value) -> String {
    let (joining, leaving) = (number(&view["joining"]), number(&view["leaving"]));
    let version = number(&view["layout"]["version"]);
    if is_settled(view) {
        return format!("layout version {version}: nothing moves\n");
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(["node", "state", "arrived", "of", ""]);
    for node in view["nodes"].as_array().into_iter().flatten() {
        let text = |name: &str| node[name].as_str().unwrap_or_default().to_owned();
        let count = |name: &str| number(&node[name]).to_string();
        table.add_row([text("id"), text("state"), count("complete"), count("arriving"), remark(node)]);
    }
    format!(
        "layout version {version}: {joining} partitions are copied, {leaving} change hands\n{}\n",
        table.trim_fmt()
    )
}

/// What a node has to do still, or what is waited for.
fn remark(node: &Value) -> String {
    let remark = if node["answered"] != true {
        "waiting for its word"
    } else if node["has_layout"] != true {
        "waiting for it to have the layout on its disk"
    } else if node["hands_over"] == true {
        "hands over what is not its own any more"
    } else if node["leaving"] == true {
        "has handed over everything, and goes"
    } else {
        ""
    };
    remark.to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_plan_says_what_it_comes_to() {
        let node = |id: &str, before, after| json!({ "id": id, "zone": "", "weight": 100, "before": before, "after": after });
        let view = json!({
            "changes": ["add b, weight 100"], "nodes": [node("a", 8, 4), node("b", 0, 4)], "n": { "before": 1, "after": 1 },
            "partitions": 4, "copies": 4, "bytes": 20_000_000, "crowded": 0, "moving": 0,
        });
        let said = render(&view);
        for part in ["add b, weight 100\n", "4 partitions change owners; 4 copies move, about 20 MB\n"] {
            assert!(said.contains(part), "{said}");
        }
        assert!(!said.contains("still move") && !said.contains("N goes"), "{said}");
    }

    #[test]
    fn transfers_say_whom_they_wait_for() {
        let node = json!({
            "id": "a", "state": "alive", "answered": true, "has_layout": true, "arriving": 4, "complete": 1,
            "hands_over": false, "leaving": false,
        });
        let silent = json!({ "id": "b", "state": "down", "answered": false, "arriving": 2, "complete": 0 });
        let view = json!({ "layout": { "version": 3 }, "joining": 6, "leaving": 0, "nodes": [node, silent] });
        let said = render_transfers(&view);
        assert!(said.contains("6 partitions are copied") && said.contains("waiting for its word"), "{said}");
        assert_eq!((left(&view), is_settled(&view)), (5, false));
        let still = json!({ "layout": { "version": 4 }, "joining": 0, "leaving": 0, "nodes": [] });
        assert_eq!(render_transfers(&still), "layout version 4: nothing moves\n");
    }
}

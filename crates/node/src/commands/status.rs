//! `gramme status`: the cluster as one node sees it.

use std::io::IsTerminal;
use std::time::Duration;

use comfy_table::{Table, presets};
use serde_json::Value;

use crate::cli::StatusArgs;
use crate::commands::get::write_out;
use crate::commands::remote::Remote;

pub(crate) fn run(args: &StatusArgs) -> anyhow::Result<()> {
    let remote = Remote::new(&args.endpoint, Duration::from_secs(1))?;
    if args.watch {
        return watch(&remote);
    }
    let body = remote.admin("GET", "/admin/status")?;
    if args.json {
        return write_out(&body);
    }
    let status: Value = serde_json::from_slice(&body)?;
    write_out(render(&status).as_bytes())
}

/// Shows it again and again: in the same place of a terminal, one below the other elsewhere. A node that does not answer
/// is asked again.
fn watch(remote: &Remote) -> anyhow::Result<()> {
    const EVERY: Duration = Duration::from_secs(1);
    let clear = if std::io::stdout().is_terminal() { "\x1b[2J\x1b[H" } else { "" };
    loop {
        let status = remote.admin("GET", "/admin/status").and_then(|body| {
            let status: Value = serde_json::from_slice(&body)?;
            Ok(render(&status))
        });
        let shown = status.unwrap_or_else(|error| format!("{error:#}\n"));
        write_out(format!("{clear}{shown}\n").as_bytes())?;
        std::thread::sleep(EVERY);
    }
}

/// What the asked node has lost, and what must happen before it counts again.
fn amnesia(status: &Value) -> String {
    let Some(partitions) = status["amnesiac"].as_u64().filter(|partitions| *partitions > 0) else {
        return String::new();
    };
    let waits_for = status["waits_for"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let waits_for: Vec<&str> = waits_for.collect();
    let next = match waits_for.is_empty() {
        true => {
            "it is comparing with their other owners, and counts again when nothing is missing".to_owned()
        }
        false => format!(
            "it waits to hear from {} that nothing is kept there for their owners",
            waits_for.join(", ")
        ),
    };
    let node = status["node"].as_str().unwrap_or_default();
    format!(
        "\n{partitions} partitions of this node may lack what they acknowledged, and count for nothing: {next}. If \
         those nodes will not come back, `gramme accept-loss --node …` gives up what {node} alone had\n"
    )
}

/// Which nodes keep deletes from being forgotten.
fn reclaim(status: &Value) -> String {
    let waiting = status["reclaim_waiting"].as_u64().unwrap_or_default();
    let blocked = status["reclaim_blocked_by"].as_array().into_iter().flatten();
    let blocked: Vec<_> = blocked.filter_map(Value::as_str).collect();
    match (waiting, blocked.is_empty()) {
        (0, _) | (_, true) => String::new(),
        (waiting, false) => format!(
            "\n{waiting} keys or more keep a tombstone or what they replaced until {} can be reached\n",
            blocked.join(", ")
        ),
    }
}

/// How far going through all rows has come.
fn background(status: &Value) -> String {
    let mib = |name: &str| status["background"][name].as_u64().map(|bytes| bytes >> 20);
    match (mib("bytes_per_second"), mib("at_most")) {
        (Some(now), Some(most)) if now < most => format!(
            "\nbackground work is slowed down to {now} of {most} MiB/s: this node's reads and writes take long as it is\n"
        ),
        _ => String::new(),
    }
}

fn scrub(status: &Value) -> String {
    let number = |name: &str| status["scrub"][name].as_u64();
    let (Some(done), Some(total), Some(millis)) = (number("done"), number("total"), number("for_ms")) else {
        return String::new();
    };
    let left = (total.saturating_sub(done) * millis / 1_000).checked_div(done);
    let left = left.map_or_else(|| "?".to_owned(), |left| format!("{left}s"));
    format!("\nscrub: {done} of {total} partitions read in {}s, {left} left\n", millis / 1_000)
}

/// What the asked node keeps for another, and how far it has come with handing that on.
fn hints(node: &Value) -> String {
    let hints = &node["hints"];
    let number = |name: &str| hints[name].as_u64();
    let (copies, bytes) = (number("copies").unwrap_or_default(), number("bytes").unwrap_or_default());
    let id = node["id"].as_str().unwrap_or_default();
    let kept = format!("{copies} copies ({bytes} bytes) are kept here for {id}");
    match (copies, number("handed_on").zip(number("for_ms"))) {
        (0, _) => String::new(),
        (_, None) => format!("\n{kept}, to be handed on when it is back\n"),
        (_, Some((done, millis))) => {
            let rate = done * 1_000 / millis.max(1);
            let left = copies.checked_div(rate).map_or_else(|| "?".to_owned(), |left| format!("{left}s"));
            format!("\n{kept}; {done} handed on, {rate}/s, {left} left\n")
        }
    }
}

fn render(status: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(["node", "state", "for", "keys", "bytes", "partitions"]);
    for node in status["nodes"].as_array().into_iter().flatten() {
        let mut state = text(&node["state"]);
        if node["this"] == true {
            state += " (this node)";
        }
        if node["state"] == "alive" && node["counts"] == false {
            state += ", counts for nothing yet";
        }
        let since = Duration::from_millis(node["since_ms"].as_u64().unwrap_or_default());
        let figure =
            |name: &str| node[name].as_u64().map_or_else(|| "?".to_owned(), |figure| figure.to_string());
        let since = if node["this"] == true { String::new() } else { format!("{}s", since.as_secs()) };
        table.add_row([
            text(&node["id"]),
            state,
            since,
            figure("keys"),
            figure("bytes"),
            figure("partitions"),
        ]);
    }
    let mut remarks = String::new();
    if let Some(conflict) = status["conflict"].as_str() {
        remarks += &format!("\n{conflict}\n");
    }
    remarks += &amnesia(status);
    remarks += &reclaim(status);
    remarks += &background(status);
    remarks += &scrub(status);
    for node in status["nodes"].as_array().into_iter().flatten() {
        remarks += &hints(node);
        if let Some(leaves) = node["exchange"]["leaves"].as_u64().filter(|leaves| *leaves > 0) {
            let exchange = &node["exchange"];
            remarks += &format!(
                "\ncomparing with {}: {} partitions and {leaves} leaves to look at, {} keys mended\n",
                text(&node["id"]),
                exchange["partitions"],
                exchange["keys"],
            );
        }
        if let Some(off) = node["clock_off_ms"].as_u64() {
            let id = text(&node["id"]);
            remarks += &format!(
                "\nthe clock of {id} is off by {} s: it coordinates no last-write-wins puts\n",
                off / 1_000
            );
        }
    }
    format!(
        "cluster {}: N={} R={} W={}, layout version {}, {} partitions, as node {} sees it\n{}\n{remarks}",
        text(&status["cluster"]),
        status["n"],
        text(&status["r"]),
        text(&status["w"]),
        status["layout_version"],
        status["partitions"],
        text(&status["node"]),
        table.trim_fmt(),
    )
}

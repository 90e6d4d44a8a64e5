//! `gramme accept-loss`: what a node has lost is given up.

use std::time::Duration;

use serde_json::Value;

use crate::cli::{AcceptLossArgs, Endpoint};
use crate::commands::get::write_out;
use crate::commands::remote::Remote;

pub(crate) fn run(args: &AcceptLossArgs) -> anyhow::Result<()> {
    let endpoint = Endpoint { node: Some(args.node.clone()) };
    let remote = Remote::new(&endpoint, Duration::from_secs(5))?;
    let method = if args.dry_run { "GET" } else { "POST" };
    let losses: Value = serde_json::from_slice(&remote.admin(method, "/admin/accept-loss")?)?;
    write_out(render(&losses, args.dry_run).as_bytes())
}

fn render(losses: &Value, is_dry: bool) -> String {
    let partitions = match losses["partitions"].as_u64().unwrap_or_default() {
        0 => return "this node has lost nothing that it knows of; nothing was changed\n".to_owned(),
        1 => "1 partition".to_owned(),
        partitions => format!("{partitions} partitions"),
    };
    let mut said = match is_dry {
        true => {
            format!("{partitions} of this node would count again; nothing was changed. Given up would be")
        }
        false => format!("{partitions} of this node count again. Given up is"),
    };
    said += " what this node had acknowledged and nobody else has. What others have comes back:\n";
    losses["losses"].as_array().into_iter().flatten().for_each(|kind| said += &kind_of(kind));
    said
}

/// Partitions that lack the same.
fn kind_of(kind: &Value) -> String {
    const SHOWN: usize = 8;
    let names = |name: &str| {
        let names = kind[name].as_array().into_iter().flatten().filter_map(Value::as_str);
        names.map(str::to_owned).collect::<Vec<_>>()
    };
    let (partitions, not_compared, may_keep) =
        (names("partitions"), names("not_compared"), names("may_keep"));
    let more = match partitions.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let shown = partitions[..partitions.len().min(SHOWN)].join(", ");
    let mut line = format!("  {shown}{more}: {} keys are here", kind["keys"].as_u64().unwrap_or_default());
    if !not_compared.is_empty() {
        line += &format!("; not compared with {} since", not_compared.join(", "));
    }
    if !may_keep.is_empty() {
        line += &format!("; copies for its owners may be with {}", may_keep.join(", "));
    }
    line + "\n"
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_given_up_is_named() {
        let partitions: Vec<String> = (0..10).map(|at| format!("{at}/10")).collect();
        let kind =
            json!({ "partitions": partitions, "keys": 7, "not_compared": ["b", "c"], "may_keep": ["c"] });
        let losses = json!({ "partitions": 10, "losses": [kind] });
        let named = "0/10, 1/10, 2/10, 3/10, 4/10, 5/10, 6/10, 7/10 and 2 more: 7 keys are here; not compared with b, c \
                     since; copies for its owners may be with c\n";
        for is_dry in [false, true] {
            let said = render(&losses, is_dry);
            assert!(said.starts_with("10 partitions of this node ") && said.ends_with(named), "{said}");
            assert_eq!(said.contains("nothing was changed"), is_dry);
        }
        assert!(render(&json!({ "partitions": 0 }), false).contains("has lost nothing"));
    }
}

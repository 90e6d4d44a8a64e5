//! Who may depend on whom: a crate only on crates in a lower row.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, bail, ensure};
use toml::de::DeTable;

use crate::run::root;

/// Each crate's row. An edge to the same or a higher row is refused.
const ROWS: [(&str, u8); 21] = [
    ("codec", 0),
    ("plant", 0),
    ("vclock", 1),
    ("ring", 1),
    ("merkle", 1),
    ("admission", 1),
    ("object", 2),
    ("storage", 2),
    ("gossip", 3),
    ("handoff", 3),
    ("paxos", 3),
    ("transfer", 3),
    ("antientropy", 3),
    ("quorum", 3),
    ("router", 3),
    ("wire", 4),
    ("replica", 5),
    ("transport", 5),
    ("client", 6),
    ("sim", 6),
    ("node", 7),
];

/// What only one crate may name.
const ONLY: [(&str, &str); 5] = [
    ("quinn", "transport"),
    ("quinn-proto", "transport"),
    ("rustls", "transport"),
    ("sled", "storage"),
    ("redb", "storage"),
];

/// Crates that are state machines or pure: no runtime, no sockets, no files.
const SANS_IO: [&str; 16] = [
    "codec",
    "plant",
    "vclock",
    "ring",
    "merkle",
    "admission",
    "object",
    "gossip",
    "handoff",
    "paxos",
    "transfer",
    "antientropy",
    "quorum",
    "router",
    "wire",
    "replica",
];
const IO: [&str; 6] = ["tokio", "socket2", "rustix", "axum", "ureq", "tempfile"];

pub(crate) fn run() -> anyhow::Result<()> {
    let mut wrong = Vec::new();
    let rows: BTreeMap<_, _> = ROWS.into_iter().collect();
    for (name, row) in ROWS {
        for dependency in dependencies(name)? {
            if let Some(other) = dependency.strip_prefix("gramme-") {
                let other_row = rows.get(other).with_context(|| format!("crate {other} has no row"))?;
                if *other_row >= row {
                    wrong.push(format!("{name} (row {row}) depends on {other} (row {other_row})"));
                }
            }
            if ONLY.iter().any(|(only, owner)| *only == dependency && *owner != name) {
                wrong.push(format!("{name} names {dependency}, which is another crate's business"));
            }
            if SANS_IO.contains(&name) && IO.contains(&dependency.as_str()) {
                wrong.push(format!("{name} is free of IO, and depends on {dependency}"));
            }
        }
    }
    let found = fs::read_dir(root().join("crates"))?;
    for entry in found {
        let name = entry?.file_name().to_string_lossy().into_owned();
        ensure!(rows.contains_key(name.as_str()), "crate {name} has no row in xtask/src/layers.rs");
    }
    ensure!(
        dependencies_of("xtask/Cargo.toml")?.iter().all(|name| !name.starts_with("gramme-")),
        "xtask links a product crate"
    );
    if wrong.is_empty() {
        return Ok(());
    }
    bail!("the layers do not hold:\n  {}", wrong.join("\n  "))
}

fn dependencies(name: &str) -> anyhow::Result<Vec<String>> {
    dependencies_of(&format!("crates/{name}/Cargo.toml"))
}

fn dependencies_of(manifest: &str) -> anyhow::Result<Vec<String>> {
    let text = fs::read_to_string(root().join(manifest)).with_context(|| manifest.to_owned())?;
    let table = DeTable::parse(&text).with_context(|| manifest.to_owned())?;
    let dependencies = table.get_ref().get("dependencies").and_then(|value| value.get_ref().as_table());
    Ok(dependencies
        .map(|table| table.keys().map(|key| key.get_ref().to_string()).collect())
        .unwrap_or_default())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_layers_hold() {
        super::run().expect("layers");
    }
}

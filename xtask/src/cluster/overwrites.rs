//! One key that is written again and again: what its context weighs depends on who wrote concurrently, not on
//! how often or how much.

use anyhow::{Context, ensure};

use super::Programs;
use super::dev::Dev;

/// A context of one writer is a few hundred bytes: an entry for each node.
const CONTEXT: usize = 1_024;
/// Enough that sixteen bytes more with each would show many times over.
const WRITES: usize = 600;

pub(crate) fn run(programs: &Programs) -> anyhow::Result<()> {
    let dev = Dev::found(&programs.gramme, 3)?;
    for (key, size) in [("large", 66_000), ("small", 10)] {
        chained(&dev, key, size)?;
    }
    Ok(())
}

/// A client that goes on from its own put answers, and never reads.
fn chained(dev: &Dev, key: &str, size: usize) -> anyhow::Result<()> {
    let path = format!("/buckets/overwritten/keys/{key}");
    let mut context = String::new();
    for number in 0..WRITES {
        let headers = [("x-gramme-context", context.as_str())];
        let headers = if context.is_empty() { &headers[..0] } else { &headers[..] };
        let mut value = number.to_string().into_bytes();
        value.resize(size, b'.');
        let put = dev.http(number % dev.nodes()).put(&path, headers, &value)?;
        context = put.is(204).with_context(|| format!("write {number}"))?.context()?.to_owned();
        ensure!(context.len() <= CONTEXT, "{} bytes of context after {number} writes", context.len());
    }
    for at in 0..dev.nodes() {
        let read = dev.http(at).get(&path)?.is(200)?;
        ensure!(read.context()?.len() <= CONTEXT, "{} bytes of context", read.context()?.len());
        ensure!(read.body.len() == size, "{} bytes", read.body.len());
    }
    let http = dev.http(0);
    http.send("DELETE", &path, &[("x-gramme-context", &context)], b"")?.is(204)?;
    http.get(&path)?.fails(404, "not-found").map(drop)
}

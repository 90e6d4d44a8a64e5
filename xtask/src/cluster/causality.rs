//! Concurrent writers, and what a context may and may not replace.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};

use super::Programs;
use super::dev::Dev;
use super::http::Http;

pub(crate) fn run(programs: &Programs) -> anyhow::Result<()> {
    let dev = Dev::found(&programs.gramme, 3)?;
    concurrent_writers_make_siblings(&dev)?;
    an_earlier_context_erases_nothing_unread(&dev)?;
    chained_puts_replace_only_themselves(&dev)?;
    cart(programs, &dev)
}

/// The values under a key.
fn values(http: &Http, path: &str) -> anyhow::Result<BTreeSet<String>> {
    let answer = http.get(path)?;
    if answer.status == 200 {
        return Ok([String::from_utf8(answer.body)?].into());
    }
    let list = String::from_utf8(answer.is(300)?.body)?;
    let tags = list.lines().skip(1);
    tags.map(|tag| Ok(String::from_utf8(http.get(&format!("{path}?vtag={tag}"))?.is(200)?.body)?)).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn concurrent_writers_make_siblings(dev: &Dev) -> anyhow::Result<()> {
    let path = "/buckets/concurrent/keys/k";
    let writer = |number: usize| {
        let http = dev.http(number % dev.nodes());
        std::thread::spawn(move || {
            http.put(path, &[], format!("writer-{number}").as_bytes())?.is(204).map(drop)
        })
    };
    let writers: Vec<_> = (0..12).map(writer).collect();
    for writer in writers {
        writer.join().map_err(|_| anyhow::anyhow!("a writer panicked"))??;
    }
    let expected: BTreeSet<_> = (0..12).map(|number| format!("writer-{number}")).collect();
    for at in 0..dev.nodes() {
        ensure!(values(&dev.http(at), path)? == expected, "through node {at}");
    }
    let context = dev.http(0).get(path)?.context()?.to_owned();
    dev.http(1).put(path, &[("x-gramme-context", &context)], b"merged")?.is(204)?;
    for at in 0..dev.nodes() {
        ensure!(values(&dev.http(at), path)? == set(&["merged"]), "through node {at}");
    }
    Ok(())
}

fn an_earlier_context_erases_nothing_unread(dev: &Dev) -> anyhow::Result<()> {
    let path = "/buckets/earlier/keys/k";
    let (a, b) = (dev.http(0), dev.http(1));
    // A writer goes on from its own put, which covers that put and nothing else.
    let own = a.put(path, &[], b"first")?.is(204)?.context()?.to_owned();
    b.put(path, &[], b"stranger")?.is(204)?;
    a.put(path, &[("x-gramme-context", &own)], b"second")?.is(204)?;
    ensure!(values(&b, path)? == set(&["second", "stranger"]), "{:?}", values(&b, path)?);
    // The same context once more: it covers neither of those two.
    b.put(path, &[("x-gramme-context", &own)], b"third")?.is(204)?;
    ensure!(values(&a, path)? == set(&["second", "stranger", "third"]), "{:?}", values(&a, path)?);
    Ok(())
}

fn chained_puts_replace_only_themselves(dev: &Dev) -> anyhow::Result<()> {
    let path = "/buckets/chained/keys/k";
    dev.http(2).put(path, &[], b"stranger")?.is(204)?;
    let mut context = String::new();
    for number in 0..30 {
        let http = dev.http(number % dev.nodes());
        let value = format!("link-{number}");
        let headers = [("x-gramme-context", context.as_str())];
        let headers = if context.is_empty() { &headers[..0] } else { &headers[..] };
        context = http.put(path, headers, value.as_bytes())?.is(204)?.context()?.to_owned();
    }
    ensure!(
        values(&dev.http(0), path)? == set(&["link-29", "stranger"]),
        "{:?}",
        values(&dev.http(0), path)?
    );
    Ok(())
}

fn cart(programs: &Programs, dev: &Dev) -> anyhow::Result<()> {
    let output = std::process::Command::new(&programs.cart).arg(dev.cluster_json()).output();
    let output = output.context("cannot start the example")?;
    let printed = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success() && printed.contains("nothing is lost"),
        "{printed}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

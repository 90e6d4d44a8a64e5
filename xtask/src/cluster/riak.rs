//! What Riak's own clients call beside objects: discovery, types, listings, `If-Not-Modified`.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};
use serde_json::Value;

use super::Programs;
use super::dev::{Dev, wait_for};
use super::http::Http;

pub(crate) fn run(programs: &Programs) -> anyhow::Result<()> {
    let dev = Dev::found(&programs.gramme, 3)?;
    let (a, b) = (dev.http(0), dev.http(1));
    discovery(&a)?;
    properties(&a, &b)?;
    listings(&a, &b)?;
    not_modified(&a, &b)
}

fn discovery(a: &Http) -> anyhow::Result<()> {
    // The version is parsed as numbers with dots between them.
    wait_for("the figures are there", || a.get("/stats").is_ok_and(|answer| answer.status == 200))?;
    let stats = a.get("/stats")?.json()?;
    let version = stats["riak_kv_version"].as_str().context("riak_kv_version")?;
    ensure!(version.split('.').all(|part| part.parse::<u32>().is_ok()), "{version}");
    let resources = a.get("/")?.is(200)?.json()?;
    for (name, path) in [
        ("riak_kv_wm_buckets", "/buckets"),
        ("riak_kv_wm_bucket_type", "/types"),
        ("riak_kv_wm_object", "/buckets"),
        ("riak_kv_wm_ping", "/ping"),
        ("riak_kv_wm_stats", "/stats"),
    ] {
        ensure!(resources[name] == path, "{name}: {resources}");
    }
    Ok(())
}

fn limit_of(http: &Http, path: &str) -> anyhow::Result<Value> {
    Ok(http.get(path)?.is(200)?.json()?["props"]["max_siblings"].clone())
}

fn properties(a: &Http, b: &Http) -> anyhow::Result<()> {
    let (of_type, of_bucket) = ("/types/lww/props", "/types/lww/buckets/b/props");
    ensure!(a.get(of_type)?.is(200)?.json()?["props"]["allow_mult"] == false, "lww keeps no siblings");
    a.send("PUT", of_bucket, &[], br#"{"props":{"max_siblings":5}}"#)?.is(204)?;
    a.send("PUT", of_type, &[], br#"{"props":{"max_siblings":50}}"#)?.is(204)?;
    ensure!(limit_of(b, of_type)? == 50 && limit_of(b, of_bucket)? == 5, "a bucket's own come first");
    ensure!(limit_of(b, "/types/lww/buckets/other/props")? == 50, "the others follow their type");
    // Back to the defaults, which are the type's.
    b.send("DELETE", of_bucket, &[], b"")?.is(204)?;
    b.send("DELETE", of_bucket, &[], b"")?.is(204)?;
    ensure!(limit_of(a, of_bucket)? == 50, "{}", limit_of(a, of_bucket)?);
    a.send("DELETE", of_type, &[], b"")?.fails(405, "method-not-allowed")?;
    a.get("/types/none/props")?.fails(400, "unknown-bucket-type")?;
    Ok(())
}

fn listings(a: &Http, b: &Http) -> anyhow::Result<()> {
    let mut expected: BTreeSet<String> = (0..700).map(|number| format!("key-{number}")).collect();
    for name in &expected {
        a.put(&format!("/buckets/listed/keys/{name}"), &[], b"x")?.is(204)?;
    }
    a.put("/buckets/listed/keys/%FF", &[], b"x")?.is(204)?;
    a.put("/buckets/listed/keys/gone", &[], b"x")?.is(204)?;
    a.send("DELETE", "/buckets/listed/keys/gone?w=all", &[], b"")?.is(204)?;
    a.put("/buckets/other%2F/keys/k", &[], b"x")?.is(204)?;
    // What is no text is listed percent-encoded.
    expected.insert("%FF".to_owned());

    let all =
        b.get("/buckets/listed/keys?keys=true")?.is(200)?.header_is("content-type", "application/json")?;
    let listed = names(&all.json()?["keys"])?;
    ensure!(listed.len() == expected.len(), "each key is listed once: {}", listed.len());
    ensure!(listed.into_iter().collect::<BTreeSet<_>>() == expected, "other keys than were written");
    let stream = b.get("/buckets/listed/keys?keys=stream")?.is(200)?;
    let mut streamed = BTreeSet::new();
    for object in serde_json::Deserializer::from_slice(&stream.body).into_iter::<Value>() {
        streamed.extend(names(&object?["keys"])?);
    }
    ensure!(streamed == expected, "another listing as a stream");
    let none = b.get("/buckets/empty/keys?keys=true")?.is(200)?.json()?;
    ensure!(none == serde_json::json!({ "keys": [] }), "{none}");
    let buckets = names(&b.get("/buckets?buckets=true")?.is(200)?.json()?["buckets"])?;
    ensure!(buckets == ["listed", "other/"], "{buckets:?}");
    let typed = names(&b.get("/types/lww/buckets?buckets=true")?.is(200)?.json()?["buckets"])?;
    ensure!(typed.is_empty(), "{typed:?}");
    // A listing reads everything; nobody gets one by accident.
    b.get("/buckets/listed/keys")?.fails(400, "bad-parameter")?;
    b.get("/buckets")?.fails(400, "bad-parameter")?;
    Ok(())
}

fn names(list: &Value) -> anyhow::Result<Vec<String>> {
    let list = list.as_array().with_context(|| format!("a list, not {list}"))?;
    list.iter().map(|name| Ok(name.as_str().context("a name")?.to_owned())).collect()
}

fn not_modified(a: &Http, b: &Http) -> anyhow::Result<()> {
    let path = "/buckets/unmodified/keys/k";
    let context = a.put(path, &[], b"one")?.is(204)?.context()?.to_owned();
    for header in ["x-riak-if-not-modified", "x-gramme-if-not-modified"] {
        // A condition that holds makes the write replace what it was checked against.
        b.put(path, &[(header, b.get(path)?.context()?)], header.as_bytes())?.is(204)?;
        a.get(path)?.is(200)?.body_is(header.as_bytes())?;
        b.put(path, &[(header, &context)], b"late")?.fails(412, "precondition-failed")?;
        b.send("DELETE", path, &[(header, &context)], b"")?.fails(412, "precondition-failed")?;
        a.put(path, &[(header, "none")], b"x")?.fails(400, "context-malformed")?;
    }
    let newest = a.get(path)?.context()?.to_owned();
    b.send("DELETE", path, &[("x-riak-if-not-modified", &newest)], b"")?.is(204)?;
    a.get(path)?.fails(404, "not-found")?;
    Ok(())
}

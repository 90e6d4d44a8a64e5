//! Every row of the error table that is there, provoked and answered as written.

use std::time::{Duration, Instant};

use anyhow::ensure;

use super::Programs;
use super::dev::Dev;
use super::http::Http;

pub(crate) fn run(programs: &Programs) -> anyhow::Result<()> {
    let mut dev = Dev::found(&programs.gramme, 3)?;
    let a = dev.http(0);
    bad_requests(&a)?;
    contexts(&a)?;
    not_found(&a)?;
    too_many_siblings(&a)?;
    too_large(&a)?;
    as_text(&a)?;
    unavailable(&mut dev)
}

fn bad_requests(a: &Http) -> anyhow::Result<()> {
    let path = "/buckets/b/keys/k";
    let long = format!("/buckets/b/keys/{}", "k".repeat(1_025));
    let long_bucket = format!("/buckets/{}/keys/k", "b".repeat(1_025));
    for (path, code) in [
        (format!("{path}?r=4"), "bad-quorum"),
        (format!("{path}?r=0"), "bad-quorum"),
        (format!("{path}?pr=9"), "bad-quorum"),
        (format!("{path}?r=some"), "bad-parameter"),
        (format!("{path}?timeout=0"), "bad-parameter"),
        (format!("{path}?timeout=never"), "bad-parameter"),
        ("/buckets/b/keys/%zz".to_owned(), "bad-path"),
        ("/buckets/b/keys/a/b".to_owned(), "bad-path"),
        ("/buckets/b/keys/".to_owned(), "bad-key"),
        ("/buckets//keys/k".to_owned(), "bad-key"),
        (long, "bad-key"),
        (long_bucket, "bad-key"),
        ("/types/none/buckets/b/keys/k".to_owned(), "unknown-bucket-type"),
        ("/types/none/buckets/b/props".to_owned(), "unknown-bucket-type"),
    ] {
        a.get(&path)?.fails(400, code)?;
    }
    for query in ["w=4", "w=0", "pw=4", "dw=4"] {
        a.put(&format!("{path}?{query}"), &[], b"x")?.fails(400, "bad-quorum")?;
    }
    a.put(&format!("{path}?returnbody=maybe"), &[], b"x")?.fails(400, "bad-parameter")?;
    a.send("PUT", path, &[], b"x")?.fails(400, "missing-content-type")?;
    a.put(path, &[("if-match", "unquoted")], b"x")?.fails(400, "bad-header")?;
    a.put(path, &[("if-none-match", "*, \"tag\"")], b"x")?.fails(400, "bad-header")?;
    a.put(path, &[("x-riak-meta-large", &"x".repeat(17_000))], b"x")?.fails(400, "bad-header")?;
    for body in
        ["", "no json", r#"{"props":{"colour":1}}"#, r#"{"props":{"r":9}}"#, r#"{"props":{"n_val":2}}"#]
    {
        a.send("PUT", "/buckets/b/props", &[], body.as_bytes())?.fails(400, "bad-property")?;
    }
    a.send("PATCH", path, &[], b"")?.fails(405, "method-not-allowed")?;
    a.send("DELETE", "/ping", &[], b"")?.fails(405, "method-not-allowed")?;
    a.get(path)?.fails(404, "not-found")?;
    Ok(())
}

fn contexts(a: &Http) -> anyhow::Result<()> {
    let path = "/buckets/contexts/keys/k";
    let context = a.put(path, &[], b"x")?.is(204)?.context()?.to_owned();
    let with = |path: &str, context: &str| a.put(path, &[("x-gramme-context", context)], b"y");
    with(path, "not base64!")?.fails(400, "context-malformed")?;
    with(path, "")?.fails(400, "context-malformed")?;
    with(path, "AAAA")?.fails(400, "context-malformed")?;
    with("/buckets/contexts/keys/other", &context)?.fails(400, "context-forged")?;
    with("/types/lww/buckets/contexts/keys/k", &context)?.fails(400, "context-forged")?;
    // Another secret's id in the second byte: one that this cluster no longer knows.
    let mut bytes = base64_decode(&context)?;
    bytes[1] = 99;
    with(path, &base64_encode(&bytes))?.fails(400, "context-expired")?;
    let mut forged = base64_decode(&context)?;
    if let Some(last) = forged.last_mut() {
        *last ^= 1;
    }
    with(path, &base64_encode(&forged))?.fails(400, "context-forged")?;
    a.send("DELETE", path, &[("x-gramme-context", "AAAA")], b"")?.fails(400, "context-malformed")?;
    a.get(path)?.is(200)?.body_is(b"x")?;
    Ok(())
}

fn base64_decode(text: &str) -> anyhow::Result<Vec<u8>> {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.decode(text).map_err(|error| anyhow::anyhow!("{error}"))
}

fn base64_encode(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn not_found(a: &Http) -> anyhow::Result<()> {
    let missing = a.get("/buckets/b/keys/missing")?.fails(404, "not-found")?;
    ensure!(missing.header("x-riak-deleted").is_none(), "it was never there");
    a.get("/nothing")?.fails(404, "no-such-resource")?;
    Ok(())
}

fn too_many_siblings(a: &Http) -> anyhow::Result<()> {
    a.send("PUT", "/buckets/few/props", &[], br#"{"props":{"max_siblings":3}}"#)?.is(204)?;
    let path = "/buckets/few/keys/k";
    for value in [b"1", b"2", b"3"] {
        a.put(path, &[], value)?.is(204)?;
    }
    let refused = a.put(path, &[], b"4")?.fails(409, "too-many-siblings")?.json()?;
    ensure!(refused["message"].as_str().is_some_and(|message| message.contains("merge")), "{refused}");
    ensure!(refused["detail"]["limit"] == 3, "{refused}");
    let context = a.get(path)?.is(300)?.context()?.to_owned();
    a.put(path, &[("x-gramme-context", &context)], b"merged")?.is(204)?;
    a.get(path)?.is(200)?.body_is(b"merged")?;
    Ok(())
}

fn too_large(a: &Http) -> anyhow::Result<()> {
    let path = "/buckets/b/keys/large";
    a.put(path, &[], &vec![7; 1 << 20])?.is(204)?;
    a.get(path)?.is(200)?.body_is(&vec![7; 1 << 20])?;
    for size in [(1 << 20) + 1, 5 << 20] {
        a.put(path, &[], &vec![7; size])?.fails(413, "value-too-large")?;
    }
    a.get(path)?.is(200)?;
    Ok(())
}

fn as_text(a: &Http) -> anyhow::Result<()> {
    let answer = a.send("GET", "/buckets/b/keys/missing", &[("accept", "text/plain")], b"")?.is(404)?;
    ensure!(answer.body.starts_with(b"not-found: "), "{:?}", String::from_utf8_lossy(&answer.body));
    Ok(())
}

fn unavailable(dev: &mut Dev) -> anyhow::Result<()> {
    let path = "/buckets/down/keys/k";
    dev.http(0).put(path, &[], b"before")?.is(204)?;
    dev.kill(2)?;
    let a = dev.http(0);
    // Two of three are enough for a quorum, and not for all.
    a.put("/buckets/down/keys/other", &[], b"x")?.is(204)?;
    a.get(path)?.is(200)?.body_is(b"before")?;
    let refused = a.put("/buckets/down/keys/all?w=all", &[], b"x")?.fails(503, "unavailable")?.json()?;
    let detail = &refused["detail"];
    ensure!(detail["needed"] == 3 && detail["may_be_stored"] == true, "{refused}");
    ensure!(detail["answered"].as_array().is_some_and(|answered| answered.len() <= 2), "{refused}");
    ensure!(detail["failed"][0]["reason"].is_string(), "{refused}");
    let refused = a.get(&format!("{path}?r=3"))?.fails(503, "unavailable")?.json()?;
    ensure!(refused["detail"]["may_be_stored"] == false, "{refused}");
    let props = a.send("PUT", "/buckets/b/props?timeout=300", &[], br#"{"props":{"r":1}}"#)?;
    props.fails(503, "unacknowledged")?;
    status_in_time(&a)?;
    dev.kill(1)?;
    a.get(path)?.fails(503, "unavailable")?;
    a.get(&format!("{path}?r=1"))?.is(200)?;
    a.put(path, &[], b"x")?.fails(503, "unavailable")?;
    super::dev::wait_for("the node is not ready without a quorum", || {
        a.get("/readyz").and_then(|answer| answer.fails(503, "not-ready")).is_ok()
    })?;
    a.get("/livez")?.is(200)?;
    status_in_time(&a)
}

/// Whatever state the cluster is in, its status comes in under a second, and says who is down since when.
fn status_in_time(a: &Http) -> anyhow::Result<()> {
    super::dev::wait_for("the status shows a dead node", || {
        let began = Instant::now();
        let status = a.get("/admin/status").and_then(|answer| answer.is(200)?.json());
        let in_time = began.elapsed() < Duration::from_secs(1);
        in_time
            && status.is_ok_and(|status| {
                status["nodes"].as_array().is_some_and(|nodes| {
                    nodes.iter().any(|node| node["state"] != "alive" && node["unknown_since_ms"].is_u64())
                })
            })
    })
}

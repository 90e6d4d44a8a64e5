//! Every row of the HTTP interface that is there, to the letter.

use anyhow::{Context, ensure};

use super::Programs;
use super::dev::{Dev, wait_for};
use super::http::Http;

pub(crate) fn run(programs: &Programs) -> anyhow::Result<()> {
    let dev = Dev::found(&programs.gramme, 3)?;
    let (a, b) = (dev.http(0), dev.http(1));
    objects(&a, &b)?;
    keys_are_bytes(&a, &b)?;
    stored_headers(&a, &b)?;
    siblings(&a, &b)?;
    conditions(&a, &b)?;
    tombstones(&a, &b)?;
    last_write_wins(&a, &b)?;
    expiry(&a, &b)?;
    properties(&a, &b)?;
    quorums(&a)?;
    administration(&a)
}

fn objects(a: &Http, b: &Http) -> anyhow::Result<()> {
    let path = "/buckets/objects/keys/first";
    let written = a.put(path, &[], b"one")?.is(204)?;
    let receipt = written.header("x-gramme-receipt").context("a receipt")?.to_owned();
    ensure!(receipt.ends_with("fallbacks=0; zones=1; synced=2") || receipt.contains("acks=3"), "{receipt}");
    ensure!(written.header("x-riak-vclock") == written.header("x-gramme-context"), "two names, one context");
    let read = b.get(path)?.is(200)?.body_is(b"one")?.header_is("content-type", "text/plain")?;
    ensure!(
        read.header("etag").is_some_and(|tag| tag.starts_with('"') && tag.ends_with('"')),
        "an etag in quotes"
    );
    ensure!(read.header("last-modified").is_some_and(|date| date.ends_with("GMT")), "a date");
    let head = b.send("HEAD", path, &[], b"")?.is(200)?.body_is(b"")?.header_is("content-length", "3")?;
    ensure!(head.header("etag") == read.header("etag"), "HEAD is GET without a body");

    // Riak's name for the context will do.
    let context = read.context()?.to_owned();
    a.put(path, &[("x-riak-vclock", &context)], b"two")?.is(204)?;
    b.get(path)?.is(200)?.body_is(b"two")?;

    // POST to a key is a PUT; to the bucket, the server picks the key.
    let context = b.get(path)?.context()?.to_owned();
    let post = [("content-type", "text/plain"), ("x-gramme-context", context.as_str())];
    a.send("POST", path, &post, b"three")?.is(204)?;
    b.get(path)?.is(200)?.body_is(b"three")?;
    let picked = a.send("POST", "/buckets/objects/keys", &post[..1], b"four")?.is(201)?;
    let location = picked.header("location").context("a location")?;
    ensure!(location.starts_with("/buckets/objects/keys/"), "{location}");
    ensure!(picked.context().is_ok() && picked.header("x-gramme-receipt").is_some(), "a write's headers");
    b.get(location)?.is(200)?.body_is(b"four")?;

    // With the body returned.
    let returned =
        a.put("/buckets/objects/keys/returned?returnbody=true", &[], b"five")?.is(200)?.body_is(b"five")?;
    ensure!(
        returned.header("x-gramme-receipt").is_some() && returned.header("etag").is_some(),
        "both sets of headers"
    );
    let twice = b.put("/buckets/objects/keys/returned?returnbody=true", &[], b"six")?.is(300)?;
    ensure!(twice.header("x-gramme-receipt").is_some(), "a write's headers");
    Ok(())
}

fn keys_are_bytes(a: &Http, b: &Http) -> anyhow::Result<()> {
    let long = "k".repeat(1_024);
    for key in ["a%2Fb", "%00%01%FF", "sp%20ace", "%E2%82%AC", long.as_str(), "."] {
        let path = format!("/buckets/b%2Fc/keys/{key}");
        a.put(&path, &[], key.as_bytes())?.is(204)?;
        b.get(&path)?.is(200)?.body_is(key.as_bytes())?;
    }
    // One name, however it is spelled; and another name is another key.
    b.get("/buckets/%62%2fc/keys/%61%2fb")?.is(200)?.body_is(b"a%2Fb")?;
    b.get("/buckets/b/keys/a")?.fails(404, "not-found")?;
    Ok(())
}

fn stored_headers(a: &Http, b: &Http) -> anyhow::Result<()> {
    let path = "/buckets/headers/keys/k";
    let headers = [
        ("content-type", "application/x-thing; v=1"),
        ("content-encoding", "gzip"),
        ("x-riak-meta-colour", "red"),
        ("x-gramme-meta-shape", "round"),
    ];
    a.send("PUT", path, &headers, b"\x1f\x8b")?.is(204)?;
    let mut read = b.get(path)?.is(200)?.body_is(b"\x1f\x8b")?;
    for (name, value) in [
        ("content-type", "application/x-thing; v=1"),
        ("content-encoding", "gzip"),
        ("x-riak-meta-colour", "red"),
        ("x-gramme-meta-colour", "red"),
        ("x-riak-meta-shape", "round"),
        ("x-gramme-meta-shape", "round"),
    ] {
        read = read.header_is(name, value)?;
    }
    Ok(())
}

fn siblings(a: &Http, b: &Http) -> anyhow::Result<()> {
    let path = "/buckets/siblings/keys/k";
    a.put(path, &[("x-riak-meta-side", "left")], b"left")?.is(204)?;
    b.put(path, &[], b"right")?.is(204)?;
    let list = a.get(path)?.is(300)?;
    let text = String::from_utf8(list.body.clone())?;
    let mut lines = text.lines();
    ensure!(lines.next() == Some("Siblings:"), "{text}");
    let tags: Vec<&str> = lines.collect();
    ensure!(tags.len() == 2, "{text}");
    ensure!(list.header("etag").is_some() && list.header("vary") == Some("accept"), "an etag of the whole");

    // Each by its tag.
    let mut values = Vec::new();
    for tag in &tags {
        let one = b.get(&format!("{path}?vtag={tag}"))?.is(200)?.header_is("etag", &format!("\"{tag}\""))?;
        ensure!(one.context()? == list.context()?, "the context of all that was read");
        values.push(one.body);
    }
    values.sort();
    ensure!(values == [b"left".to_vec(), b"right".to_vec()], "{values:?}");
    b.get(&format!("{path}?vtag=none"))?.fails(404, "not-found")?;

    // All at once.
    let all = a.send("GET", path, &[("accept", "multipart/mixed")], b"")?.is(300)?;
    let boundary =
        all.header("content-type").and_then(|kind| kind.strip_prefix("multipart/mixed; boundary="));
    let boundary = boundary.context("a boundary")?.to_owned();
    let text = String::from_utf8(all.body)?;
    ensure!(text.matches(&format!("--{boundary}\r\n")).count() == 2, "{text}");
    ensure!(text.trim_end().ends_with(&format!("--{boundary}--")), "{text}");
    for part in ["x-riak-meta-side: left", "content-type: text/plain", "\r\n\r\nleft", "\r\n\r\nright"] {
        ensure!(text.contains(part), "no {part} in {text}");
    }
    Ok(())
}

fn conditions(a: &Http, b: &Http) -> anyhow::Result<()> {
    let path = "/buckets/conditions/keys/k";
    a.put(path, &[("if-none-match", "*")], b"one")?.is(204)?;
    a.put(path, &[("if-none-match", "*")], b"two")?.fails(412, "precondition-failed")?;
    let read = b.get(path)?.is(200)?.body_is(b"one")?;
    let (tag, context) = (read.header("etag").context("an etag")?.to_owned(), read.context()?.to_owned());
    b.send("GET", path, &[("if-none-match", &tag)], b"")?.is(304)?.body_is(b"")?.header_is("etag", &tag)?;
    b.send("GET", path, &[("if-none-match", "\"other\"")], b"")?.is(200)?;
    let matching = [("if-match", tag.as_str()), ("x-gramme-context", context.as_str())];
    a.put(path, &matching, b"three")?.is(204)?;
    a.put(path, &matching, b"four")?.fails(412, "precondition-failed")?;
    b.get(path)?.is(200)?.body_is(b"three")?;
    a.put("/buckets/conditions/keys/none", &[("if-match", "*")], b"x")?.fails(412, "precondition-failed")?;
    Ok(())
}

fn tombstones(a: &Http, b: &Http) -> anyhow::Result<()> {
    let path = "/buckets/tombstones/keys/k";
    a.put(path, &[], b"one")?.is(204)?;
    // Without a context: what a read finds. And once more: 204 again.
    for http in [b, a] {
        let deleted = http.send("DELETE", path, &[], b"")?.is(204)?;
        ensure!(
            deleted.context().is_ok() && deleted.header("x-gramme-receipt").is_some(),
            "a write's headers"
        );
    }
    let gone = b.get(path)?.fails(404, "not-found")?;
    let gone = gone.header_is("x-riak-deleted", "true")?.header_is("x-gramme-deleted", "true")?;
    let context = gone.context()?.to_owned();

    // A write that knows of the delete leaves one version; one that does not, two.
    a.put(path, &[("x-gramme-context", &context)], b"again")?.is(204)?;
    let again = b.get(path)?.is(200)?.body_is(b"again")?;
    let context = again.context()?.to_owned();
    a.put(path, &[("x-gramme-context", &context)], b"newer")?.is(204)?;
    // A delete with an older context deletes nothing that it had not read.
    b.send("DELETE", path, &[("x-gramme-context", &context)], b"")?.is(204)?;
    // What is left is one value to read, beside a delete; a write with that context replaces both.
    let beside = a.get(path)?.is(200)?.body_is(b"newer")?.header_is("x-gramme-tombstones", "1")?;
    let context = beside.context()?.to_owned();
    // Two values are siblings, and the delete is a part of its own.
    a.put(path, &[], b"newest")?.is(204)?;
    let all = a.send("GET", path, &[("accept", "multipart/mixed")], b"")?.is(300)?;
    let text = String::from_utf8(all.body)?;
    ensure!(text.contains("\r\n\r\nnewer") && text.contains("x-riak-deleted: true"), "{text}");
    b.put(path, &[("x-gramme-context", &context)], b"merged")?.is(204)?;
    let all = a.get(path)?.is(300)?;
    ensure!(all.body.iter().filter(|byte| **byte == b'\n').count() == 3, "newest and merged: {all:?}");
    // A put after a delete that does not know of it is read at once.
    let again = "/buckets/tombstones/keys/again";
    a.put(again, &[], b"one")?.is(204)?;
    b.send("DELETE", again, &[], b"")?.is(204)?;
    a.put(again, &[], b"two")?.is(204)?;
    b.get(again)?.is(200)?.body_is(b"two")?.header_is("x-gramme-tombstones", "1")?;
    // A delete of a key that nobody has written is a delete all the same.
    a.send("DELETE", "/buckets/tombstones/keys/never", &[], b"")?.is(204)?;
    Ok(())
}

fn last_write_wins(a: &Http, b: &Http) -> anyhow::Result<()> {
    let path = "/types/lww/buckets/last/keys/k";
    for (http, value) in [(a, "one"), (b, "two"), (a, "three")] {
        http.put(path, &[], value.as_bytes())?.is(204)?;
        b.get(path)?.is(200)?.body_is(value.as_bytes())?;
    }
    // The same names in another type are other keys.
    a.get("/buckets/last/keys/k")?.fails(404, "not-found")?;
    a.put("/types/default/buckets/last/keys/k", &[], b"default")?.is(204)?;
    b.get("/buckets/last/keys/k")?.is(200)?.body_is(b"default")?;
    Ok(())
}

fn expiry(a: &Http, b: &Http) -> anyhow::Result<()> {
    let path = "/buckets/expiry/keys/k";
    let expires = |when| [("x-gramme-expires", when)];
    a.put(path, &expires("3600"), b"here")?.is(204)?;
    let date = b.get(path)?.is(200)?.header("x-gramme-expires").context("a date")?.to_owned();
    ensure!(date.ends_with("GMT"), "{date}");
    for when in ["2100-01-01T00:00:00Z", "Fri, 01 Jan 2100 00:00:00 GMT"] {
        let context = b.get(path)?.context()?.to_owned();
        a.put(path, &[("x-gramme-context", &context), ("x-gramme-expires", when)], b"here")?.is(204)?;
        b.get(path)?.is(200)?.header_is("x-gramme-expires", "Fri, 01 Jan 2100 00:00:00 GMT")?;
    }
    for when in ["0", "-1", "soon", "2100-13-01T00:00:00Z", "1.5"] {
        a.put(path, &expires(when), b"x")?.fails(400, "bad-header")?;
    }
    a.put(path, &expires("2001-01-01T00:00:00Z"), b"x")?.fails(400, "expires-at-once")?;

    // A touch brings nothing but the instant, and keeps the value with its headers.
    let touch = "/buckets/expiry/keys/k?touch=true";
    a.send("PUT", touch, &expires("never"), b"")?.is(204)?;
    let touched = b.get(path)?.is(200)?.body_is(b"here")?.header_is("content-type", "text/plain")?;
    ensure!(touched.header("x-gramme-expires").is_none(), "it never expires");
    let tag = touched.header("etag").context("a tag")?.to_owned();
    a.send("PUT", touch, &[("x-gramme-expires", "60"), ("if-match", "\"other\"")], b"")?
        .fails(412, "precondition-failed")?;
    a.send("PUT", touch, &[("x-gramme-expires", "1"), ("if-match", &tag)], b"")?.is(204)?;
    a.send("PUT", touch, &expires("60"), b"value")?.fails(400, "bad-body")?;
    a.send("PUT", touch, &[], b"")?.fails(400, "bad-touch")?;
    wait_for("the value expires", || b.get(path).is_ok_and(|read| read.status == 404))?;
    let gone = a.get(path)?.fails(404, "not-found")?;
    ensure!(gone.header("x-riak-deleted").is_some() && gone.context().is_ok(), "as a delete");
    a.send("PUT", touch, &expires("60"), b"")?.fails(404, "not-found")?;
    a.put(path, &[("if-none-match", "*")], b"anew")?.is(204)?;
    b.put(path, &[], b"beside")?.is(204)?;
    a.send("PUT", touch, &expires("60"), b"")?.fails(409, "siblings")?;

    // As the bucket says, unless the write does.
    let json = [("content-type", "application/json")];
    a.send("PUT", "/buckets/short/props", &json, br#"{"props":{"ttl":1}}"#)?.is(204)?;
    ensure!(b.get("/buckets/short/props")?.json()?["props"]["ttl"] == 1, "the property");
    b.put("/buckets/short/keys/kept", &expires("never"), b"x")?.is(204)?;
    b.put("/buckets/short/keys/k", &[], b"x")?.is(204)?;
    wait_for("the value expires", || a.get("/buckets/short/keys/k").is_ok_and(|read| read.status == 404))?;
    a.get("/buckets/short/keys/kept")?.is(200)?;
    ensure!(a.get("/buckets/short/keys?keys=true")?.json()?["keys"] == serde_json::json!(["kept"]), "listed");
    Ok(())
}

fn properties(a: &Http, b: &Http) -> anyhow::Result<()> {
    let path = "/buckets/props-test/props";
    let props = a.get(path)?.is(200)?.json()?["props"].clone();
    for (name, value) in [
        ("n_val", serde_json::json!(3)),
        ("r", "quorum".into()),
        ("w", "quorum".into()),
        ("pr", 0.into()),
        ("pw", 0.into()),
        ("allow_mult", true.into()),
        ("durability", "fsync".into()),
        ("max_siblings", 100.into()),
    ] {
        ensure!(props[name] == value, "{name}: {props}");
    }
    let change = br#"{"props":{"r":1,"w":"all","durability":"one-of-n","max_siblings":7}}"#;
    a.send("PUT", path, &[("content-type", "application/json")], change)?.is(204)?;
    // Every node has it when the change is answered.
    let changed = b.get(path)?.is(200)?.json()?["props"].clone();
    ensure!(changed["r"] == 1 && changed["w"] == "all" && changed["max_siblings"] == 7, "{changed}");
    ensure!(b.get("/buckets/other/props")?.json()?["props"]["max_siblings"] == 100, "one bucket was changed");
    b.put("/buckets/props-test/keys/k", &[], b"x")?.is(204)?;
    ensure!(
        b.get("/types/lww/buckets/x/props")?.json()?["props"]["allow_mult"] == false,
        "lww keeps no siblings"
    );
    Ok(())
}

fn quorums(a: &Http) -> anyhow::Result<()> {
    let path = "/buckets/quorums/keys/k";
    for query in ["w=1", "w=one", "w=quorum", "w=all", "w=default", "w=3&pw=3&dw=3", "dw=all&timeout=9000"] {
        a.put(&format!("{path}?{query}"), &[], b"x")?.is(204).with_context(|| query.to_owned())?;
    }
    let props = br#"{"props":{"durability":"buffered"}}"#;
    a.send("PUT", "/buckets/buffered/props", &[], props)?.is(204)?;
    for dw in 0..=3 {
        let put = a.put(&format!("/buckets/buffered/keys/{dw}?w=all&dw={dw}"), &[], b"x")?.is(204)?;
        let synced = put.header("x-gramme-receipt").and_then(|receipt| receipt.rsplit_once("synced="));
        let synced: i32 = synced.context("a receipt")?.1.parse()?;
        ensure!(synced >= dw, "dw={dw}, and {synced} synced");
    }
    let all = a.put(&format!("{path}?w=all"), &[], b"x")?.is(204)?;
    ensure!(
        all.header("x-gramme-receipt") == Some("acks=3; primaries=3; fallbacks=0; zones=1; synced=3"),
        "{all:?}"
    );
    let reads = [
        "r=1",
        "r=one",
        "r=quorum",
        "r=all",
        "r=default",
        "pr=3",
        "r=2&notfound_ok=false&basic_quorum=true&timeout=900",
    ];
    for query in reads {
        a.get(&format!("{path}?{query}"))?.is(300).with_context(|| query.to_owned())?;
    }
    Ok(())
}

fn administration(a: &Http) -> anyhow::Result<()> {
    a.get("/ping")?.is(200)?.body_is(b"OK")?;
    // Figures are published a few times a second.
    wait_for("the counters count", || {
        let stats = a.get("/stats").and_then(|answer| answer.is(200)?.json());
        stats.is_ok_and(|stats| stats["puts_coordinated"].as_u64() > Some(0))
    })?;
    ensure!(
        a.get("/")?.is(200)?.json()?.as_object().is_some_and(|resources| !resources.is_empty()),
        "resources"
    );
    let status = a.get("/admin/status")?.is(200)?.json()?;
    ensure!(status["n"] == 3 && status["nodes"].as_array().is_some_and(|nodes| nodes.len() == 3), "{status}");
    let metrics = String::from_utf8(a.get("/metrics")?.is(200)?.body)?;
    for line in [
        "gramme_puts_coordinated_total ",
        "gramme_request_duration_seconds_bucket{",
        "process_cpu_seconds_total ",
        "# EOF",
    ] {
        ensure!(metrics.contains(line), "no {line} in {metrics}");
    }
    a.get("/livez")?.is(200)?;
    a.get("/readyz")?.is(200)?;
    Ok(())
}

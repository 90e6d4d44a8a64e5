//! HTTP/1.1 at its edges: bytes that no client library sends, or that it sends and then waits.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, ensure};

use super::Programs;
use super::dev::{Dev, wait_for};
use super::http::Http;

/// Longer than a node waits for the headers of a request.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn run(programs: &Programs) -> anyhow::Result<()> {
    let dev = Dev::found(&programs.gramme, 3)?;
    let address = dev.node(0)["http"].as_str().context("an address")?.to_owned();
    let idle = std::thread::spawn({
        let address = address.clone();
        move || half_a_request_is_cut_off(&address)
    });
    let deaf = std::thread::spawn({
        let (http, address) = (dev.http(1), dev.node(1)["http"].as_str().context("an address")?.to_owned());
        move || who_reads_nothing_is_cut_off(&http, &address)
    });
    bad_headers(&address)?;
    two_lengths_end_the_connection(&address)?;
    a_refused_body_is_not_asked_for(&address)?;
    a_refused_client_reads_why(&address)?;
    conditions(&dev)?;
    deaf.join().map_err(|_| anyhow::anyhow!("a test panicked"))??;
    idle.join().map_err(|_| anyhow::anyhow!("a test panicked"))?
}

struct Raw(TcpStream);

impl Raw {
    fn open(address: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(stream))
    }

    fn send(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        Ok(self.0.write_all(bytes)?)
    }

    /// All until the node closes.
    fn rest(&mut self) -> anyhow::Result<String> {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest)?;
        Ok(String::from_utf8_lossy(&rest).into_owned())
    }
}

const PUT: &str = "PUT /buckets/b/keys/k HTTP/1.1\r\nConnection: close\r\nContent-Type: text/plain\r\n";

fn bad_headers(address: &str) -> anyhow::Result<()> {
    for (rest, why) in [
        ("Content-Length: 1\r\n\r\nx", "no host"),
        ("Host: a\r\nHost: b\r\nContent-Length: 1\r\n\r\nx", "two hosts"),
        ("Host: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", "an unknown coding"),
        ("Host: a\r\nContent-Length: 1\r\nX-Riak-Meta-A: 1\r\nX-Gramme-Meta-A: 2\r\n\r\nx", "a name twice"),
        ("Host: a\r\nContent-Length: 1\r\nX-Riak-Meta-A: 1\r\nX-Riak-Meta-A: 2\r\n\r\nx", "a name twice"),
    ] {
        let mut raw = Raw::open(address)?;
        raw.send(format!("{PUT}{rest}").as_bytes())?;
        let answer = raw.rest()?;
        ensure!(answer.starts_with("HTTP/1.1 400 "), "{why}: {answer}");
    }
    Ok(())
}

/// Of two lengths the chunks' counts, and what follows is nobody's second request.
fn two_lengths_end_the_connection(address: &str) -> anyhow::Result<()> {
    let head = PUT.replace("Connection: close\r\n", "");
    let body = "1\r\nx\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut raw = Raw::open(address)?;
    raw.send(
        format!("{head}Host: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n{body}").as_bytes(),
    )?;
    let answer = raw.rest()?;
    ensure!(answer.starts_with("HTTP/1.1 204 ") && answer.matches("HTTP/1.1").count() == 1, "{answer}");
    Ok(())
}

fn a_refused_body_is_not_asked_for(address: &str) -> anyhow::Result<()> {
    let expecting =
        |length: usize| format!("{PUT}Host: a\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n");
    let mut raw = Raw::open(address)?;
    raw.send(expecting(64 << 20).as_bytes())?;
    let answer = raw.rest()?;
    ensure!(answer.starts_with("HTTP/1.1 413 ") && !answer.contains("100 Continue"), "{answer}");
    let mut raw = Raw::open(address)?;
    raw.send(expecting(1).as_bytes())?;
    let mut asked = [0; 25];
    raw.0.read_exact(&mut asked)?;
    ensure!(asked.starts_with(b"HTTP/1.1 100 "), "{:?}", String::from_utf8_lossy(&asked));
    raw.send(b"x")?;
    let answer = raw.rest()?;
    ensure!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
    Ok(())
}

/// It sends all of it before it reads.
fn a_refused_client_reads_why(address: &str) -> anyhow::Result<()> {
    const LARGE: usize = 64 << 20;
    let mut raw = Raw::open(address)?;
    raw.send(format!("{PUT}Host: a\r\nContent-Length: {LARGE}\r\n\r\n").as_bytes())?;
    let piece = vec![7; 1 << 20];
    for _ in 0..LARGE / piece.len() {
        raw.send(&piece).context("the node stopped reading")?;
    }
    let answer = raw.rest()?;
    ensure!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("value-too-large"), "{answer}");
    Ok(())
}

fn half_a_request_is_cut_off(address: &str) -> anyhow::Result<()> {
    let mut half = Raw::open(address)?;
    half.send(b"GET /ping HT")?;
    let mut idle = Raw::open(address)?;
    idle.send(b"GET /ping HTTP/1.1\r\nHost: a\r\n\r\n")?;
    let answer = idle.rest().context("an idle connection is kept for ever")?;
    ensure!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    half.rest().context("half a request is waited for, for ever")?;
    Ok(())
}

/// It asks for more than all buffers between hold, and reads none of it for a while.
fn who_reads_nothing_is_cut_off(http: &Http, address: &str) -> anyhow::Result<()> {
    http.put("/buckets/deaf/keys/k", &[], &vec![7; 1 << 20])?.is(204)?;
    let mut raw = Raw::open(address)?;
    let request = b"GET /buckets/deaf/keys/k HTTP/1.1\r\nHost: a\r\n\r\n";
    raw.send(&request.repeat(64))?;
    let count = |http: &Http| -> anyhow::Result<u64> {
        let figures = http.get("/stats")?.json()?;
        figures["http_connections"].as_u64().context("http_connections")
    };
    // The one that asks is there too.
    wait_for("the connection is there", || count(http).is_ok_and(|open| open == 2))?;
    wait_for("the connection is closed", || count(http).is_ok_and(|open| open == 1))
}

fn conditions(dev: &Dev) -> anyhow::Result<()> {
    let (a, b) = (dev.http(0), dev.http(1));
    let path = "/buckets/conditional/keys/k";
    a.put(path, &[], b"0")?.is(204)?;
    // A condition that holds makes the write replace what it was checked against, context or none.
    for round in 1..10 {
        let read = b.get(path)?.is(200)?;
        let tag = read.header("etag").context("an etag")?.to_owned();
        a.put(path, &[("if-match", &format!("\"other\", {tag}"))], round.to_string().as_bytes())?.is(204)?;
    }
    let read = b.get(path)?.is(200)?.body_is(b"9")?;
    let tag = read.header("etag").context("an etag")?.to_owned();
    // Several lines are one list.
    let lines = [("if-match", "\"other\""), ("if-match", tag.as_str())];
    a.put(path, &lines, b"ten")?.is(204)?;
    let read = b.get(path)?.is(200)?.body_is(b"ten")?;
    let tag = read.header("etag").context("an etag")?.to_owned();
    let date = read.header("last-modified").context("a date")?.to_owned();
    // A weak tag answers for a read, and never for a write.
    let weak = format!("W/{tag}");
    b.send("GET", path, &[("if-none-match", &weak)], b"")?.is(304)?;
    a.put(path, &[("if-match", &weak)], b"x")?.fails(412, "precondition-failed")?;
    const LONG_AGO: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    b.send("GET", path, &[("if-modified-since", &date)], b"")?.is(304)?;
    b.send("GET", path, &[("if-modified-since", LONG_AGO)], b"")?.is(200)?;
    b.send("GET", path, &[("if-unmodified-since", LONG_AGO)], b"")?.fails(412, "precondition-failed")?;
    a.put(path, &[("if-unmodified-since", LONG_AGO)], b"x")?.fails(412, "precondition-failed")?;
    a.put(path, &[("if-unmodified-since", &date)], b"eleven")?.is(204)?;
    b.get(path)?.is(200)?.body_is(b"eleven")?;
    // Preferences with weights.
    a.put(path, &[], b"beside")?.is(204)?;
    let kind = |accept: &str| -> anyhow::Result<bool> {
        let answer = b.send("GET", path, &[("accept", accept)], b"")?.is(300)?;
        Ok(answer.header("content-type").is_some_and(|kind| kind.starts_with("multipart/mixed")))
    };
    ensure!(kind("multipart/mixed")? && kind("text/plain;q=0.5, multipart/mixed")?, "as parts");
    ensure!(
        !kind("*/*")? && !kind("multipart/mixed;q=0")? && !kind("text/plain, multipart/mixed;q=0.5")?,
        "as text"
    );
    Ok(())
}

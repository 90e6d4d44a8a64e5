//! Clients of real processes write down what they did and were told, while nodes are killed and paused and the
//! network between them is cut; the simulator's checkers judge it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::Programs;
use super::http::{Answer, Http};
use super::processes::Processes;
use super::proxy::Way;

const CLIENTS: usize = 8;
const KEYS: usize = 6;
const NODES: usize = 3;

/// A short run, as one of the cluster tests.
pub(crate) fn short(programs: &Programs) -> anyhow::Result<()> {
    run(programs, 15, None)
}

/// Runs for so many seconds, and keeps the history if a file is named.
pub(crate) fn run(programs: &Programs, seconds: u64, keep: Option<&Path>) -> anyhow::Result<()> {
    let mut cluster = Processes::start(&programs.gramme, NODES)?;
    let notes = Arc::new(Notes::default());
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let nodes = (0..NODES).map(|at| cluster.http(at)).collect();
            let mut client = Client::new(number, nodes, Arc::clone(&notes));
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    client.act();
                }
            })
        })
        .collect();
    let seed = rand::random();
    println!("nemesis seed {seed}");
    let disturbed = disturb(&mut cluster, Duration::from_secs(seconds), StdRng::seed_from_u64(seed));
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().map_err(|_| anyhow::anyhow!("a client panicked"))?;
    }
    println!("{}", disturbed?);
    cluster.wait_until_whole()?;
    last_reads(&cluster, &notes)?;
    judge(programs, &notes, keep)
}

/// What all clients write down together.
struct Notes {
    began: Instant,
    writes: Mutex<Vec<Value>>,
    reads: Mutex<Vec<Value>>,
}

impl Default for Notes {
    fn default() -> Self {
        Self { began: Instant::now(), writes: Mutex::default(), reads: Mutex::default() }
    }
}

impl Notes {
    fn now(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }

    /// Notes a write before it is sent; returns its number, which is its value.
    fn begin_write(&self, client: usize, key: usize, read: &BTreeSet<u64>, is_delete: bool) -> u64 {
        let mut writes = self.writes.lock().unwrap_or_else(PoisonError::into_inner);
        let (sent, fate) = (self.now(), "unknown");
        writes.push(json!({
            "client": client, "key": key, "read": read, "is_delete": is_delete, "sent": sent, "fate": fate
        }));
        writes.len() as u64
    }

    fn end_write(&self, id: u64, fate: Value) {
        self.writes.lock().unwrap_or_else(PoisonError::into_inner)[id as usize - 1]["fate"] = fate;
    }

    fn read(&self, line: Value) {
        self.reads.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }
}

struct Client {
    number: usize,
    nodes: Vec<Http>,
    notes: Arc<Notes>,
    rng: StdRng,
    /// Of each key the context, and the writes that it covers.
    held: Vec<(Option<String>, BTreeSet<u64>)>,
}

impl Client {
    fn new(number: usize, nodes: Vec<Http>, notes: Arc<Notes>) -> Self {
        let rng = StdRng::seed_from_u64(number as u64);
        Self { number, nodes, notes, rng, held: vec![(None, BTreeSet::new()); KEYS] }
    }

    fn act(&mut self) {
        let key = self.rng.random_range(0..KEYS);
        let node = self.nodes[self.rng.random_range(0..NODES)].clone();
        match self.rng.random_range(0..10) {
            0..5 => self.read(&node, key),
            5 => {
                self.held[key] = (None, BTreeSet::new());
                self.write(&node, key, false);
            }
            6 => self.write(&node, key, true),
            _ => self.write(&node, key, false),
        }
        // Whoever is refused at once comes back a little later.
        std::thread::sleep(Duration::from_millis(self.rng.random_range(0..4)));
    }

    fn read(&mut self, node: &Http, key: usize) {
        let r = if self.rng.random_range(0..8) == 0 { 1 } else { 2 };
        let sent = self.notes.now();
        let answer = node.send(
            "GET",
            &path(key, &format!("r={r}&timeout=1500")),
            &[("accept", "multipart/mixed")],
            b"",
        );
        let answered = self.notes.now();
        let Some((values, context)) = answer.ok().and_then(|answer| shown(&answer)) else { return };
        self.notes.read(json!({
            "client": self.number, "key": key, "r": r, "values": values, "sent": sent, "answered": answered
        }));
        self.held[key] = (context, values);
    }

    fn write(&mut self, node: &Http, key: usize, is_delete: bool) {
        let (context, read) = self.held[key].clone();
        // A delete without a context would read first, and delete what we have not seen.
        if is_delete && context.is_none() {
            return;
        }
        let id = self.notes.begin_write(self.number, key, &read, is_delete);
        let mut headers = vec![("content-type", "text/plain")];
        headers.extend(context.as_deref().map(|context| ("x-gramme-context", context)));
        let (method, body) = if is_delete { ("DELETE", String::new()) } else { ("PUT", id.to_string()) };
        let answer = node.send(method, &path(key, "timeout=1500"), &headers, body.as_bytes());
        let Ok(answer) = answer else { return };
        match answer.status {
            204 => {
                let count = |name| receipt(&answer, name);
                let (at, copies, synced) = (self.notes.now(), count("acks"), count("synced"));
                self.notes
                    .end_write(id, json!({ "acked": { "at": at, "copies": copies, "synced": synced } }));
                if let Some(context) = answer.header("x-gramme-context") {
                    let held = &mut self.held[key];
                    held.0 = Some(context.to_owned());
                    held.1.insert(id);
                }
            }
            400..500 => self.notes.end_write(id, json!("refused")),
            _ => {}
        }
    }
}

fn path(key: usize, query: &str) -> String {
    format!("/buckets/jepsen/keys/key-{key}?{query}")
}

/// A number of the receipt, 0 if it is not there.
fn receipt(answer: &Answer, name: &str) -> u8 {
    let fields = answer.header("x-gramme-receipt").unwrap_or_default().split("; ");
    let field = fields.filter_map(|field| field.split_once('=')).find(|(found, _)| *found == name);
    field.and_then(|(_, number)| number.parse().ok()).unwrap_or(0)
}

/// The values that an answer shows, and its context; nothing if it failed.
fn shown(answer: &Answer) -> Option<(BTreeSet<u64>, Option<String>)> {
    let context = answer.header("x-gramme-context").map(str::to_owned);
    let number = |bytes: &[u8]| std::str::from_utf8(bytes).ok()?.parse::<u64>().ok();
    let values = match answer.status {
        200 => [number(&answer.body)?].into(),
        404 => BTreeSet::new(),
        300 => {
            let boundary = answer.header("content-type")?.split_once("boundary=")?.1;
            let boundary = format!("--{boundary}");
            let text = String::from_utf8(answer.body.clone()).ok()?;
            let parts = text.split(&boundary).filter_map(|part| part.split_once("\r\n\r\n"));
            // A tombstone is a part without a body.
            parts.filter_map(|(_, body)| number(body.trim_end_matches("\r\n").as_bytes())).collect()
        }
        _ => return None,
    };
    Some((values, context))
}

/// Breaks something every few seconds, and mends it before it breaks the next.
fn disturb(cluster: &mut Processes, lasts: Duration, mut rng: StdRng) -> anyhow::Result<String> {
    let began = Instant::now();
    let mut counts = [0_u32; 6];
    while began.elapsed() < lasts {
        let kind = rng.random_range(0..counts.len());
        counts[kind] += 1;
        let victim = rng.random_range(0..NODES);
        let others = (0..NODES).filter(|other| *other != victim);
        let pause = Duration::from_millis(rng.random_range(500..3_000));
        let way = |is_cut, loss, delay| Way { is_cut, loss, delay };
        match kind {
            0 => {
                cluster.kill(victim)?;
                std::thread::sleep(pause);
                cluster.restart(victim, &[])?;
            }
            1 => {
                // All at once, as the power goes; what the kernel has, stays.
                (0..NODES).try_for_each(|at| cluster.kill(at))?;
                (0..NODES).try_for_each(|at| cluster.restart(at, &[]))?;
            }
            2 => {
                cluster.signal(victim, Signal::STOP)?;
                std::thread::sleep(pause);
                cluster.signal(victim, Signal::CONT)?;
            }
            3 => {
                let other = (victim + 1) % NODES;
                cluster.proxy.set(victim, other, way(true, 0, 0));
                std::thread::sleep(pause);
            }
            4 => {
                for other in others {
                    cluster.proxy.set(victim, other, way(true, 0, 0));
                    cluster.proxy.set(other, victim, way(true, 0, 0));
                }
                std::thread::sleep(pause);
            }
            _ => {
                for other in others {
                    cluster.proxy.set(victim, other, way(false, 20, 40));
                    cluster.proxy.set(other, victim, way(false, 20, 40));
                }
                std::thread::sleep(pause);
            }
        }
        cluster.proxy.heal();
        std::thread::sleep(Duration::from_millis(rng.random_range(200..1_500)));
    }
    let [kills, all, pauses, one_way, cuts, rough] = counts;
    Ok(format!(
        "{kills} kills, {all} of all nodes at once, {pauses} pauses, {one_way} one-way cuts, {cuts} nodes cut off, \
         {rough} times of loss and delay"
    ))
}

/// Reads every key from all its replicas through each node, after a read that repairs.
fn last_reads(cluster: &Processes, notes: &Notes) -> anyhow::Result<()> {
    for (pass, at) in [0, 0, 1, 2].into_iter().enumerate() {
        for key in 0..KEYS {
            let sent = notes.now();
            let http = cluster.http(at);
            let answer =
                http.send("GET", &path(key, "r=3&timeout=10000"), &[("accept", "multipart/mixed")], b"")?;
            let (values, _) =
                shown(&answer).with_context(|| format!("the last read of key {key}: {answer:?}"))?;
            if pass > 0 {
                let answered = notes.now();
                let read = json!({ "client": at, "key": key, "r": 3, "values": values, "sent": sent, "answered": answered });
                notes.read(json!({ "last": read }));
            }
        }
    }
    Ok(())
}

fn judge(programs: &Programs, notes: &Notes, keep: Option<&Path>) -> anyhow::Result<()> {
    let temporary = tempfile::tempdir()?;
    let path = keep.map_or_else(|| temporary.path().join("history"), Path::to_owned);
    let mut file = File::create(&path)?;
    writeln!(file, "{}", json!({ "cluster": { "replicas": 3 } }))?;
    for _ in 0..KEYS {
        writeln!(file, "{}", json!({ "key": { "kind": "fsync", "owners": [] } }))?;
    }
    let writes = notes.writes.lock().unwrap_or_else(PoisonError::into_inner);
    let acked = writes.iter().filter(|write| write["fate"].is_object()).count();
    ensure!(acked > 50, "only {acked} of {} writes were acknowledged", writes.len());
    for write in writes.iter() {
        writeln!(file, "{}", json!({ "write": write }))?;
    }
    for read in notes.reads.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        let line = if read.get("last").is_some() { read.clone() } else { json!({ "read": read }) };
        writeln!(file, "{line}")?;
    }
    drop(file);
    println!("{acked} of {} writes acknowledged", writes.len());
    let status = Command::new(&programs.sim).arg("--check").arg(&path).status()?;
    if !status.success() {
        bail!("the history breaks a promise: {status}");
    }
    Ok(())
}

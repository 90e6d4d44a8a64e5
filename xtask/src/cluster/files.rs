//! Real files through HTTP and the native client, while nodes are killed: every file that was acknowledged
//! is there afterwards, byte for byte, through each node.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use tempfile::TempDir;

use super::dev::Dev;
use super::http::Http;
use super::{Programs, text};
use crate::run::{output, root};

/// Sizes from nothing to the limit, with the edges of chunks and frames.
const SIZES: [usize; 14] = [
    0,
    1,
    100,
    1_023,
    4_096,
    65_000,
    65_535,
    65_536,
    65_537,
    131_072,
    300_000,
    700_001,
    (1 << 20) - 1,
    1 << 20,
];
/// How often a write is offered while the cluster refuses.
const ATTEMPTS: usize = 50;

/// Files by their names.
struct Files {
    names: Vec<PathBuf>,
    _sizes: TempDir,
}

impl Files {
    /// Every file of this repository, and one of each size.
    fn collect() -> anyhow::Result<Self> {
        let listed = output("git", &["ls-files", "--cached", "--others", "--exclude-standard"])?;
        let mut names: Vec<PathBuf> =
            listed.lines().map(|name| root().join(name)).filter(|path| path.is_file()).collect();
        let sizes = tempfile::tempdir()?;
        for size in SIZES {
            let path = sizes.path().join(format!("size-{size}"));
            // Not compressible, and different for each size.
            let mut state = size as u64 | 1;
            let bytes: Vec<u8> = (0..size).map(|_| next(&mut state)).collect();
            std::fs::write(&path, bytes)?;
            names.push(path);
        }
        Ok(Self { names, _sizes: sizes })
    }
}

/// The next byte of a xorshift generator.
fn next(state: &mut u64) -> u8 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 32) as u8
}

fn object_path(file: &Path) -> String {
    format!(
        "/buckets/http-files/keys/{}",
        text(file).replace('%', "%25").replace('/', "%2F").replace(' ', "%20")
    )
}

pub(crate) fn run(programs: &Programs) -> anyhow::Result<()> {
    let files = Files::collect()?;
    let mut dev = Dev::found(&programs.gramme, 3)?;
    let third = files.names.len() / 3;
    let (first, rest) = files.names.split_at(third);
    let (second, last) = rest.split_at(third);

    let mut stored = BTreeMap::new();
    store(&dev, first, &mut stored)?;
    // A node dies in the middle of writing.
    let native = NativeStore::begin(programs, &dev, &files.names)?;
    native.wait_for(files.names.len() / 4);
    dev.kill(1)?;
    store(&dev, second, &mut stored)?;
    check(&[dev.http(0), dev.http(2)], &stored)?;
    native.finish()?;
    dev.restart(1)?;
    dev.wait_until_whole()?;
    store(&dev, last, &mut stored)?;

    // All at once.
    (0..3).try_for_each(|at| dev.kill(at))?;
    (0..3).try_for_each(|at| dev.restart(at))?;
    dev.wait_until_whole()?;
    ensure!(stored.len() == files.names.len(), "not every file was stored");
    check(&[dev.http(0), dev.http(1), dev.http(2)], &stored)?;
    check_native(programs, &dev, &files.names)?;
    println!("{} files are back, byte for byte, through each node and the native client", stored.len());
    Ok(())
}

/// Stores files over HTTP, through whichever node takes them.
fn store(dev: &Dev, files: &[PathBuf], stored: &mut BTreeMap<PathBuf, Vec<u8>>) -> anyhow::Result<()> {
    for (at, file) in files.iter().enumerate() {
        let bytes = std::fs::read(file)?;
        store_one(dev, at, file, &bytes)?;
        stored.insert(file.clone(), bytes);
    }
    Ok(())
}

fn store_one(dev: &Dev, first: usize, file: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let path = object_path(file);
    for attempt in 0..ATTEMPTS {
        let http = dev.http((first + attempt) % dev.nodes());
        // With the context of a read: an attempt whose outcome is unknown may have been stored.
        let Ok(read) = http.get(&path) else { continue };
        let context = read.header("x-gramme-context").unwrap_or_default().to_owned();
        let headers = [("x-gramme-context", context.as_str())];
        let headers = if context.is_empty() { &headers[..0] } else { &headers[..] };
        match http.put(&path, headers, bytes) {
            Ok(answer) if answer.status == 204 => return Ok(()),
            Ok(answer) => ensure!(answer.status == 503, "{}: HTTP {}", text(file), answer.status),
            Err(_) => {}
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    anyhow::bail!("{} was never taken", text(file))
}

fn check(nodes: &[Http], stored: &BTreeMap<PathBuf, Vec<u8>>) -> anyhow::Result<()> {
    for (file, bytes) in stored {
        for (at, http) in nodes.iter().enumerate() {
            let read = http
                .get(&object_path(file))?
                .is(200)
                .with_context(|| format!("{} through node {at}", text(file)))?;
            ensure!(read.body == *bytes, "{} through node {at} differs", text(file));
        }
    }
    Ok(())
}

/// The native client's example, storing every file in the background.
struct NativeStore {
    child: std::process::Child,
    acked: std::sync::mpsc::Receiver<String>,
    wanted: usize,
}

impl NativeStore {
    fn begin(programs: &Programs, dev: &Dev, files: &[PathBuf]) -> anyhow::Result<Self> {
        let mut child = Command::new(&programs.files)
            .args(["store".to_owned(), text(&dev.cluster_json()), "native-files".to_owned()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the example")?;
        let mut input = child.stdin.take().context("a pipe")?;
        let list: String = files.iter().map(|file| text(file) + "\n").collect();
        std::thread::spawn(move || input.write_all(list.as_bytes()));
        let lines = BufReader::new(child.stdout.take().context("a pipe")?).lines();
        let (sender, acked) = std::sync::mpsc::channel();
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Ok(Self { child, acked, wanted: files.len() })
    }

    /// Waits for so many acknowledgements (or until there will be no more).
    fn wait_for(&self, count: usize) {
        self.acked.iter().take(count).for_each(drop);
    }

    fn finish(mut self) -> anyhow::Result<()> {
        let status = self.child.wait()?;
        ensure!(status.success(), "the native client did not store all {} files", self.wanted);
        Ok(())
    }
}

fn check_native(programs: &Programs, dev: &Dev, files: &[PathBuf]) -> anyhow::Result<()> {
    let mut child = Command::new(&programs.files)
        .args(["check".to_owned(), text(&dev.cluster_json()), "native-files".to_owned()])
        .stdin(Stdio::piped())
        .spawn()
        .context("cannot start the example")?;
    let list: String = files.iter().map(|file| text(file) + "\n").collect();
    child.stdin.take().context("a pipe")?.write_all(list.as_bytes())?;
    ensure!(child.wait()?.success(), "what the native client stored is not there");
    Ok(())
}

//! Keeps files in a cluster, over the native client: stores every file of a list, or compares what is stored
//! with what is on the disk, byte for byte.
//!
//! ```text
//! git ls-files | cargo run --package gramme-client --example files -- store CLUSTER.JSON BUCKET
//! git ls-files | cargo run --package gramme-client --example files -- check CLUSTER.JSON BUCKET
//! ```
//!
//! Each stored file is named on standard output after it was acknowledged.
#![allow(clippy::print_stdout, reason = "it is an example")]

use std::io::BufRead;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use gramme_client::{Bucket, Client, Config};

/// How often a file is offered again while the cluster refuses.
const ATTEMPTS: usize = 20;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [command, description, bucket] = args.as_slice() else {
        bail!("usage: files store|check CLUSTER.JSON BUCKET < LIST");
    };
    let client = Client::connect(Config::from_cluster_json(Path::new(description))?).await?;
    let bucket = client.bucket(bucket);
    let mut count = 0;
    for name in std::io::stdin().lock().lines() {
        let name = name?;
        match command.as_str() {
            "store" => store(&bucket, &name).await?,
            "check" => check(&bucket, &name).await?,
            other => bail!("there is no command {other}"),
        }
        count += 1;
    }
    eprintln!("{command}: {count} files");
    client.close().await;
    Ok(())
}

async fn store(bucket: &Bucket, name: &str) -> anyhow::Result<()> {
    let bytes = std::fs::read(name).with_context(|| name.to_owned())?;
    let mut why = None;
    for _ in 0..ATTEMPTS {
        // With the context of a read, so that an earlier attempt that was stored after all is replaced.
        let attempt = async {
            let read = bucket.get(name).send().await?;
            bucket.put(name, &bytes).context(read.context()).send().await
        };
        match attempt.await {
            Ok(_) => {
                println!("{name}");
                return Ok(());
            }
            Err(error) => why = Some(error),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Err(why.map_or_else(|| anyhow::anyhow!("not tried"), Into::into)).with_context(|| name.to_owned())
}

async fn check(bucket: &Bucket, name: &str) -> anyhow::Result<()> {
    let bytes = std::fs::read(name).with_context(|| name.to_owned())?;
    let read = bucket.get(name).send().await.with_context(|| name.to_owned())?;
    let values: Vec<_> = read.values().collect();
    ensure!(values.len() == 1, "{name}: {} values are stored", values.len());
    ensure!(*values[0] == bytes, "{name}: what is stored differs from the file");
    Ok(())
}

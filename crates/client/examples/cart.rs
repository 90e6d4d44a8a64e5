//! The paper's shopping cart: two people put things into one cart at the same moment, through different
//! nodes, and nothing that was added is lost.
//!
//! ```text
//! cargo run --release -- dev --dir /tmp/gramme-demo      # in one terminal
//! cargo run --package gramme-client --example cart -- /tmp/gramme-demo/cluster.json
//! ```
#![allow(clippy::print_stdout, reason = "it is an example")]

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, ensure};
use gramme_client::{Bucket, Client, Config, Value};

/// A cart is a set of things. Merging two carts is their union: an added thing is never lost (a removed one
/// may come back, as the paper admits).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Cart(BTreeSet<String>);

impl Value for Cart {
    type Error = serde_json::Error;

    fn encode(&self) -> Vec<u8> {
        let things: Vec<&String> = self.0.iter().collect();
        serde_json::json!(things).to_string().into_bytes()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Self::Error> {
        let things: serde_json::Value = serde_json::from_slice(bytes)?;
        let texts = things.as_array().into_iter().flatten().filter_map(serde_json::Value::as_str);
        Ok(Self(texts.map(str::to_owned).collect()))
    }
}

fn merge(carts: Vec<Cart>) -> Cart {
    Cart(carts.into_iter().flat_map(|cart| cart.0).collect())
}

fn with(cart: &Cart, thing: &str) -> Cart {
    let mut cart = cart.clone();
    cart.0.insert(thing.to_owned());
    cart
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let description = std::env::args().nth(1).context("usage: cart CLUSTER.JSON")?;
    let client = Client::connect(Config::from_cluster_json(Path::new(&description))?).await?;
    let carts = client.bucket("carts");
    let key = format!("demo-{}", std::process::id());

    carts.update(&key, |carts| with(&merge(carts), "book")).await?;

    // Both read the same cart, and each writes a change of its own: neither has seen the other's.
    let read = carts.get(&key).send().await?;
    let cart = merge(read.decode()?);
    let hers = carts.put(&key, with(&cart, "pen").encode()).context(read.context()).send();
    let his = carts.put(&key, with(&cart, "ink").encode()).context(read.context()).send();
    let (hers, his) = tokio::join!(hers, his);
    println!("her write: {:?}\nhis write: {:?}", hers?.receipt(), his?.receipt());

    let siblings = show(&carts, &key).await?;
    ensure!(siblings == 2, "two concurrent writes are two siblings, not {siblings}");

    // Whoever reads next merges them.
    carts.update(&key, merge).await?;
    let siblings = show(&carts, &key).await?;
    let merged = merge(carts.get(&key).send().await?.decode()?);
    let all = Cart(["book", "ink", "pen"].map(str::to_owned).into());
    ensure!(siblings == 1 && merged == all, "something that was added is lost: {merged:?}");
    println!("merged, and nothing is lost: {:?}", merged.0);
    client.close().await;
    Ok(())
}

/// Prints what the key holds; returns how many siblings that is.
async fn show(carts: &Bucket, key: &str) -> anyhow::Result<usize> {
    let carts: Vec<Cart> = carts.get(key).send().await?.decode()?;
    for cart in &carts {
        println!("sibling: {:?}", cart.0);
    }
    Ok(carts.len())
}

//! Founding a cluster: an authority, identities, a ring, and a directory per node.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context;
use gramme_replica::{LEAF_BITS, Secrets};
use gramme_ring::{Member, NodeId, PlanRequest, plan};
use gramme_storage::{EngineKind, Options, Store};
use gramme_transport::{Authority, Issued};
use gramme_wire::client::RingReply;

use crate::ring_file::{RingFile, write_private};

/// Q = 2^10 = 1,024 partitions.
const DEPTH: u8 = 10;
/// N, where there are enough nodes.
const REPLICAS: u8 = 3;

/// A node to be.
pub(crate) struct Plot {
    pub(crate) name: String,
    pub(crate) http: SocketAddr,
    pub(crate) quic: SocketAddr,
}

/// Founds a cluster in `directory`: the authority and a client's certificate there, and below it a directory
/// per node with its certificate, ring, settings and an empty store.
pub(crate) fn found(
    directory: &Path,
    cluster: &str,
    plots: &[Plot],
    engine: EngineKind,
) -> anyhow::Result<()> {
    let authority = Authority::found(cluster)?;
    write_private(&directory.join("ca.pem"), authority.certificate().as_bytes())?;
    write_private(&directory.join("ca.key"), authority.key().as_bytes())?;
    let client = authority.issue_client("dev")?;
    write_private(&directory.join("client.pem"), client.certificate.as_bytes())?;
    write_private(&directory.join("client.key"), client.key.as_bytes())?;
    let issued: Vec<Issued> = plots.iter().map(|_| authority.issue_node()).collect::<Result<_, _>>()?;
    let ids: Vec<NodeId> = issued.iter().filter_map(|issued| issued.node).collect();
    let members: Vec<Member> = ids.iter().map(|&id| Member::new(id)).collect();
    // At most 64 nodes.
    let replicas = REPLICAS.min(plots.len() as u8);
    let layout = plan(&PlanRequest { members: &members, replicas, depth: DEPTH, previous: None })?.layout;
    let addresses = ids.iter().zip(plots).map(|(&id, plot)| (id, vec![plot.quic.to_string()])).collect();
    let ring = RingReply { cluster: cluster.to_owned(), placement_key: rand::random(), addresses, layout };
    let file = RingFile { ring, secrets: Secrets { current: (1, rand::random()), previous: None } };
    for (plot, issued) in plots.iter().zip(&issued) {
        found_node(&directory.join(&plot.name), plot, issued, &authority, &file, engine)?;
    }
    Ok(())
}

/// Founds one node more of a cluster: what joins it will find it, and be found.
pub(crate) fn found_another(
    directory: &Path,
    plot: &Plot,
    authority: &Authority,
    mut file: RingFile,
    engine: EngineKind,
) -> anyhow::Result<NodeId> {
    let issued = authority.issue_node()?;
    let node = issued.node.context("a node's certificate names it")?;
    file.ring.addresses.push((node, vec![plot.quic.to_string()]));
    found_node(&directory.join(&plot.name), plot, &issued, authority, &file, engine)?;
    Ok(node)
}

fn found_node(
    directory: &Path,
    plot: &Plot,
    issued: &Issued,
    authority: &Authority,
    file: &RingFile,
    engine: EngineKind,
) -> anyhow::Result<()> {
    make_private(directory)?;
    write_private(&directory.join("ca.pem"), authority.certificate().as_bytes())?;
    write_private(&directory.join("node.pem"), issued.certificate.as_bytes())?;
    write_private(&directory.join("node.key"), issued.key.as_bytes())?;
    file.write(&directory.join("cluster.ring"))?;
    let settings = format!(
        "# The settings of one Gramme node; docs/configuration.md explains each.\n\
         name = \"{}\"\nhttp = \"{}\"\nquic = \"{}\"\nengine = \"{}\"\n",
        plot.name,
        plot.http,
        plot.quic,
        engine.name()
    );
    let options = Options::new(engine, LEAF_BITS);
    Store::create(&directory.join("data"), rand::random(), &options)?;
    // The settings come last: a directory that has them is whole.
    write_private(&directory.join("gramme.toml"), settings.as_bytes())
}

/// Makes a directory that only its owner may enter.
pub(crate) fn make_private(directory: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.with_context(|| format!("cannot make {}", directory.display()))
}

//! Two ends on loopback, and a call that is echoed: `cargo run -p gramme-transport --example echo`.
#![allow(clippy::print_stdout, reason = "it is a command")]

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gramme_transport::{
    Authority, Caller, Credentials, Endpoint, Frame, Issued, Kind, LinkEvent, MAX_FRAME, Protocol,
};
use tokio::sync::mpsc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let authority = Authority::found("example")?;
    let (events, mut at_node) = mpsc::channel(64);
    let own = credentials(&authority, &authority.issue_node()?)?;
    let node = Endpoint::bind(([127, 0, 0, 1], 0).into(), own, Some(MAX_FRAME), events)?;
    let address = node.local_address()?;
    tokio::spawn(async move {
        while let Some(event) = at_node.recv().await {
            if let LinkEvent::Frames { link, frames, .. } = event {
                for frame in frames {
                    // A full link says so at once; whoever asked then waits in vain.
                    let _ = link.send(Frame { kind: Kind::Reply, ..frame });
                }
            }
        }
    });

    let (events, mut at_client) = mpsc::channel(64);
    let own = credentials(&authority, &authority.issue_client("example")?)?;
    let client = Endpoint::bind(([127, 0, 0, 1], 0).into(), own, None, events)?;
    let caller = Caller::new(client.connect(address, Protocol::Client, None).await?);
    let takes = caller.clone();
    tokio::spawn(async move {
        while let Some(event) = at_client.recv().await {
            if let LinkEvent::Frames { frames, .. } = event {
                takes.take(frames);
            }
        }
    });
    let (method, body) = caller.call(1, Bytes::from_static(b"hello"), Duration::from_secs(5)).await?;
    println!("method {method} says {body:?}");
    drop(node);
    Ok(())
}

fn credentials(authority: &Authority, issued: &Issued) -> Result<Arc<Credentials>, Box<dyn Error>> {
    let (certificate, key) = (issued.certificate.as_bytes(), issued.key.as_bytes());
    Ok(Arc::new(Credentials::from_pem(authority.certificate().as_bytes(), certificate, key)?))
}

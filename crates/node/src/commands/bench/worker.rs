//! One worker of the closed loop: sends a request, waits for its answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, ensure};
use bytes::Bytes;
use gramme_client::Client;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper::{Request, Response, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::commands::cluster_file::ClusterFile;

pub(super) struct Worker {
    way: Way,
    bucket: String,
    /// Which keys this run uses, and no other.
    prefix: Arc<str>,
    value_size: usize,
    /// What the answer to its last put of each key gave back.
    contexts: BTreeMap<u64, Held>,
}

/// How it reaches the cluster.
enum Way {
    Native(Client),
    Http { sender: http1::SendRequest<Full<Bytes>>, host: String },
}

enum Held {
    Native(gramme_client::Context),
    Http(String),
}

/// What all workers have in common.
pub(super) struct Common<'a> {
    pub(super) cluster: &'a ClusterFile,
    /// `None`: over HTTP.
    pub(super) client: Option<Client>,
    pub(super) bucket: String,
    pub(super) prefix: Arc<str>,
    pub(super) value_size: usize,
}

impl Worker {
    pub(super) async fn connect(common: &Common<'_>, number: u64) -> anyhow::Result<Self> {
        let Common { cluster, client, bucket, prefix, value_size } = common;
        let way = match client {
            Some(client) => Way::Native(client.clone()),
            None => connect_http(cluster, number).await?,
        };
        let (bucket, prefix) = (bucket.clone(), Arc::clone(prefix));
        Ok(Self { way, bucket, prefix, value_size: *value_size, contexts: BTreeMap::new() })
    }

    /// Writes a new key, and forgets it.
    pub(super) async fn insert(&mut self, key: u64) -> anyhow::Result<()> {
        self.write(key).await.map(drop)
    }

    /// Writes a key in the place of what this worker put there last.
    pub(super) async fn put(&mut self, key: u64) -> anyhow::Result<()> {
        let held = self.write(key).await?;
        self.contexts.insert(key, held);
        Ok(())
    }

    async fn write(&mut self, key: u64) -> anyhow::Result<Held> {
        let value: Vec<u8> = (0..self.value_size).map(|at| (key as usize + at) as u8).collect();
        let name = self.name(key);
        let held = self.contexts.get(&key);
        match &mut self.way {
            Way::Native(client) => {
                let mut put = client.bucket(&self.bucket).put(name, value);
                if let Some(Held::Native(context)) = held {
                    put = put.context(context);
                }
                Ok(Held::Native(put.send().await?.context().clone()))
            }
            Way::Http { sender, host } => {
                let mut request = Request::put(format!("/buckets/{}/keys/{name}", self.bucket))
                    .header(header::HOST, &*host)
                    .header(header::CONTENT_TYPE, "application/octet-stream");
                if let Some(Held::Http(context)) = held {
                    request = request.header("x-gramme-context", context);
                }
                let response = send(sender, request.body(Full::new(value.into()))?).await?;
                ensure!(response.status() == 204, "HTTP {}", response.status());
                let context = response.headers().get("x-gramme-context").context("no context")?;
                Ok(Held::Http(context.to_str()?.to_owned()))
            }
        }
    }

    /// Reads a key, which must be there.
    pub(super) async fn get(&mut self, key: u64) -> anyhow::Result<()> {
        let name = self.name(key);
        match &mut self.way {
            Way::Native(client) => {
                let read = client.bucket(&self.bucket).get(name.as_str()).send().await?;
                ensure!(read.values().next().is_some(), "{name} is not there");
            }
            Way::Http { sender, host } => {
                let path = format!("/buckets/{}/keys/{name}", self.bucket);
                let request = Request::get(path).header(header::HOST, &*host).body(Full::default())?;
                let response = send(sender, request).await?;
                ensure!(response.status() == 200, "HTTP {} for {name}", response.status());
            }
        }
        Ok(())
    }

    fn name(&self, key: u64) -> String {
        format!("{}-{key}", self.prefix)
    }
}

async fn connect_http(cluster: &ClusterFile, number: u64) -> anyhow::Result<Way> {
    let node = &cluster.nodes[number as usize % cluster.nodes.len()];
    let stream = TcpStream::connect(&node.http).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        // A broken connection shows as failed requests.
        let _ = connection.await;
    });
    Ok(Way::Http { sender, host: node.http.clone() })
}

async fn send(
    sender: &mut http1::SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> anyhow::Result<Response<Bytes>> {
    sender.ready().await?;
    let response = sender.send_request(request).await?;
    let (parts, body) = response.into_parts();
    Ok(Response::from_parts(parts, body.collect().await?.to_bytes()))
}

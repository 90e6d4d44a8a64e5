//! Status, health and figures. Each answers in under a second, whatever state the cluster is in.

use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use gramme_replica::{ClientRequest, NodeStatus, Response as Answer, Status};
use serde_json::{Value, json};

use crate::driver::Handle;
use crate::http::error::HttpError;
use crate::http::path::Page;
use crate::metrics;

/// How long the node's own thread may take to say what it knows.
const PATIENCE: Duration = Duration::from_millis(800);

pub(super) async fn get(handle: &Handle, page: Page) -> Result<Response, HttpError> {
    match page {
        Page::Index => Ok(json_page(&index())),
        Page::Ping => Ok(text("text/plain; charset=utf-8", "OK".to_owned())),
        Page::Stats => Ok(json_page(&metrics::figures(&handle.shared))),
        Page::Status => status(handle).await,
        Page::Metrics => {
            let rendered = metrics::render(&handle.shared);
            let rendered = rendered.map_err(|_| {
                HttpError::new(StatusCode::INTERNAL_SERVER_ERROR, "metrics", "metrics cannot be rendered")
            })?;
            Ok(text(metrics::CONTENT_TYPE, rendered))
        }
        // Answered by another thread than requests are: a busy node is not a dead one.
        Page::Livez => Ok(text("text/plain; charset=utf-8", "OK\n".to_owned())),
        Page::Readyz => ready(handle),
    }
}

fn ready(handle: &Handle) -> Result<Response, HttpError> {
    if handle.shared.is_ready() {
        return Ok(text("text/plain; charset=utf-8", "OK\n".to_owned()));
    }
    let message = if handle.shared.stopping.load(Ordering::Acquire) {
        "the node is going down"
    } else {
        "too few nodes are connected for a quorum"
    };
    Err(HttpError::new(StatusCode::SERVICE_UNAVAILABLE, "not-ready", message))
}

async fn status(handle: &Handle) -> Result<Response, HttpError> {
    let asked = tokio::time::timeout(PATIENCE, handle.ask(ClientRequest::Status)).await;
    match asked {
        Ok(Some(Answer::Status(status))) => Ok(json_page(&render(&status, &handle.shared.ring.cluster))),
        Ok(_) => Err(HttpError::going_down(false)),
        Err(_) => Err(HttpError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "slow",
            "the node's own thread does not answer in time",
        )),
    }
}

fn render(status: &Status, cluster: &str) -> Value {
    let nodes: Vec<_> = status.nodes.iter().map(|node| render_node(node, status)).collect();
    json!({
        "cluster": cluster,
        "node": status.node.to_string(),
        "n": status.replicas,
        "r": status.r.to_string(),
        "w": status.w.to_string(),
        "layout_version": status.layout,
        "properties_version": status.properties,
        "partitions": status.partitions,
        "nodes": nodes,
    })
}

fn render_node(node: &NodeStatus, status: &Status) -> Value {
    let millis = |micros: u64| micros / 1_000;
    // Figures of a node that is down are what it said last, and since when they are not known.
    let unknown_since = (!node.up).then(|| millis(node.heard.unwrap_or(node.since)));
    json!({
        "id": node.id.to_string(),
        "this": node.id == status.node,
        "up": node.up,
        "since_ms": millis(node.since),
        "unknown_since_ms": unknown_since,
        "keys": node.heard.map(|_| node.keys),
        "bytes": node.heard.map(|_| node.bytes),
        "writable": node.heard.map(|_| node.writable),
        "partitions": node.partitions,
    })
}

fn index() -> Value {
    json!({
        "object": "/buckets/{bucket}/keys/{key}",
        "new_object": "/buckets/{bucket}/keys",
        "properties": "/buckets/{bucket}/props",
        "typed": "/types/{type}/buckets/…",
        "ping": "/ping",
        "stats": "/stats",
        "status": "/admin/status",
        "metrics": "/metrics",
        "live": "/livez",
        "ready": "/readyz",
    })
}

fn json_page(value: &Value) -> Response {
    text("application/json", format!("{value}\n"))
}

fn text(content_type: &'static str, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

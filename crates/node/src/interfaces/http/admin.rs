//! Status, health and figures. Each answers in under a second, whatever state the cluster is in.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use gramme_gossip::Opinion;
use gramme_replica::{ClientRequest, Loss, NodeStatus, Response as Answer, Status};
use gramme_ring::NodeId;
use gramme_wire::peer::Room;
use serde_json::{Value, json};

use crate::driver::Handle;
use crate::interfaces::http::error::HttpError;
use crate::interfaces::http::path::Page;
use crate::metrics;

/// How long the node's own thread may take to say what it knows.
const PATIENCE: Duration = Duration::from_millis(800);

pub(super) async fn get(handle: &Handle, page: Page) -> Result<Response, HttpError> {
    match page {
        Page::Index => Ok(json_page(&index())),
        Page::Ping => Ok(text("text/plain; charset=utf-8", "OK".to_owned())),
        Page::Stats => {
            let mut figures = metrics::figures(&handle.shared);
            // Riak's clients read it first, and choose by it what they ask for.
            figures["riak_kv_version"] = json!("3.0.0");
            Ok(json_page(&figures))
        }
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
        "no quorum of some key's owners can be reached and counts: others are down, or have not yet been heard"
    };
    Err(HttpError::new(StatusCode::SERVICE_UNAVAILABLE, "not-ready", message))
}

/// What the node's partitions may lack; accepted, they count again.
pub(super) async fn losses(handle: &Handle, is_accepted: bool) -> Result<Response, HttpError> {
    let request = if is_accepted { ClientRequest::AcceptLoss } else { ClientRequest::Losses };
    match handle.ask(request).await {
        Some(Answer::Losses(losses)) => Ok(json_page(&render_losses(&losses))),
        _ => Err(HttpError::going_down(is_accepted)),
    }
}

/// Most partitions lack the same.
fn render_losses(losses: &[Loss]) -> Value {
    let mut kinds: BTreeMap<_, Vec<&Loss>> = BTreeMap::new();
    for loss in losses {
        kinds.entry((&loss.not_compared, &loss.may_keep)).or_default().push(loss);
    }
    let ids = |nodes: &[NodeId]| nodes.iter().map(NodeId::to_string).collect::<Vec<_>>();
    let kinds = kinds.into_iter().map(|((not_compared, may_keep), losses)| {
        let partitions: Vec<_> = losses.iter().map(|loss| loss.partition.to_string()).collect();
        let keys: u64 = losses.iter().map(|loss| loss.keys).sum();
        let (not_compared, may_keep) = (ids(not_compared), ids(may_keep));
        json!({ "partitions": partitions, "keys": keys, "not_compared": not_compared, "may_keep": may_keep })
    });
    json!({ "partitions": losses.len(), "losses": kinds.collect::<Vec<_>>() })
}

async fn status(handle: &Handle) -> Result<Response, HttpError> {
    let asked = tokio::time::timeout(PATIENCE, handle.ask(ClientRequest::Status)).await;
    match asked {
        Ok(Some(Answer::Status(status))) => Ok(json_page(&render(&status, handle))),
        Ok(_) => Err(HttpError::going_down(false)),
        Err(_) => Err(slow()),
    }
}

pub(super) fn slow() -> HttpError {
    HttpError::new(StatusCode::SERVICE_UNAVAILABLE, "slow", "the node's own thread does not answer in time")
}

fn render(status: &Status, handle: &Handle) -> Value {
    let nodes: Vec<_> = status.nodes.iter().map(|node| render_node(node, status)).collect();
    json!({
        "cluster": handle.shared.ring.cluster,
        "node": status.node.to_string(),
        "n": status.replicas,
        "r": status.r.to_string(),
        "w": status.w.to_string(),
        "layout_version": status.layout,
        "properties": format!("{:016x}", status.properties),
        "members": format!("{:016x}", status.members),
        "ready": handle.shared.is_ready(),
        "conflict": handle.shared.conflict(),
        "partitions": status.partitions,
        "amnesiac": status.amnesiac,
        "waits_for": status.waits_for.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "reclaim_waiting": status.reclaim_waiting,
        "reclaim_blocked_by": status.reclaim_blocked_by.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "background": {
            "bytes_per_second": status.background.0,
            "at_most": status.background.1,
        },
        "scrub": status.scrubbing.map(|scrub| json!({
            "done": scrub.done,
            "total": scrub.total,
            "for_ms": scrub.age / 1_000,
        })),
        "nodes": nodes,
    })
}

fn render_node(node: &NodeStatus, status: &Status) -> Value {
    let millis = |micros: u64| micros / 1_000;
    // Figures of a node that does not answer are what it said last, and since when they are not known.
    let unknown_since = (node.state != Opinion::Alive).then(|| millis(node.heard.unwrap_or(node.since)));
    json!({
        "id": node.id.to_string(),
        "this": node.id == status.node,
        "state": state(node.state),
        "since_ms": millis(node.since),
        "unknown_since_ms": unknown_since,
        "keys": node.heard.map(|_| node.keys),
        "bytes": node.heard.map(|_| node.bytes),
        "room": node.heard.map(|_| room(node.room)),
        "counts": node.heard.map(|_| node.counts),
        "clock_off_ms": node.clock_off.map(millis),
        "partitions": node.partitions,
        "hints": {
            "copies": node.hints.copies.count,
            "bytes": node.hints.bytes,
            "handed_on": node.handing_on.map(|(copies, _)| copies),
            "for_ms": node.handing_on.map(|(_, micros)| millis(micros)),
        },
        "exchange": node.exchange.map(|exchange| json!({
            "partitions": exchange.partitions,
            "leaves": exchange.leaves,
            "keys": exchange.keys,
            "for_ms": millis(exchange.age),
        })),
    })
}

pub(super) const fn state(opinion: Opinion) -> &'static str {
    match opinion {
        Opinion::Alive => "alive",
        Opinion::Suspect => "suspect",
        Opinion::Down => "down",
    }
}

const fn room(room: Room) -> &'static str {
    match room {
        Room::Enough => "enough",
        Room::Low => "low",
        Room::None => "none",
    }
}

fn index() -> Value {
    json!({
        "riak_kv_wm_buckets": "/buckets",
        "riak_kv_wm_bucket_type": "/types",
        "riak_kv_wm_object": "/buckets",
        "riak_kv_wm_ping": "/ping",
        "riak_kv_wm_stats": "/stats",
        "object": "/buckets/{bucket}/keys/{key}",
        "new_object": "/buckets/{bucket}/keys",
        "properties": "/buckets/{bucket}/props",
        "typed": "/types/{type}/buckets/…",
        "ping": "/ping",
        "stats": "/stats",
        "status": "/admin/status",
        "accept_loss": "/admin/accept-loss",
        "ring": "/admin/ring",
        "plan": "/admin/plan",
        "transfers": "/admin/transfers",
        "explain": "/admin/explain/{bucket}/{key}",
        "metrics": "/metrics",
        "live": "/livez",
        "ready": "/readyz",
    })
}

pub(super) fn json_page(value: &Value) -> Response {
    text("application/json", format!("{value}\n"))
}

fn text(content_type: &'static str, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

//! Who belongs to the cluster and who owns what, and changing it: plans, their decision, and what moves.

use axum::body::Body;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use gramme_replica::{
    ClientRequest, PlanChange, PlanCommand, PlanError, PlanNode, PlanView, Response as Answer, TransferNode,
    TransfersView,
};
use gramme_ring::{Layout, Member, NodeId};
use serde::Deserialize;
use serde_json::{Value, json};

use super::admin::{json_page, state};
use super::body::Unread;
use super::error::HttpError;
use crate::config::check_addresses;
use crate::driver::Handle;
use crate::ring_change::{Change, Changes};

/// The longest body that is read.
const BODY: usize = 1 << 20;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Joined {
    node: String,
    addresses: Vec<String>,
}

fn id(text: &str) -> Result<NodeId, HttpError> {
    text.parse().map_err(|error| HttpError::bad_request("bad-node", format!("'{text}': {error}")))
}

fn change(change: Change) -> Result<PlanChange, HttpError> {
    Ok(match change {
        Change::Add { node, zone, weight } => PlanChange::Add(Member { id: id(&node)?, zone, weight }),
        Change::Forget { node } => PlanChange::Forget(id(&node)?),
        Change::Remove { node } => PlanChange::Remove(id(&node)?),
        Change::Replace { old, new } => PlanChange::Replace { old: id(&old)?, new: id(&new)? },
        Change::Weight { node, weight } => PlanChange::Weight(id(&node)?, weight),
        Change::Zone { node, zone } => PlanChange::Zone(id(&node)?, zone),
        Change::Replicas { n } => PlanChange::Replicas(n),
    })
}

async fn parse<T: serde::de::DeserializeOwned>(parts: &Parts, body: Body) -> Result<T, HttpError> {
    let body = Unread::new(&parts.headers, body).read(BODY).await?;
    serde_json::from_slice(&body).map_err(|error| HttpError::bad_request("bad-body", error.to_string()))
}

/// Adds changes to the plan that is staged at this node.
pub(super) async fn stage(handle: &Handle, parts: &Parts, body: Body) -> Result<Response, HttpError> {
    let Changes { changes } = parse(parts, body).await?;
    let changes = changes.into_iter().map(change).collect::<Result<_, _>>()?;
    plan(handle, PlanCommand::Stage(changes)).await
}

pub(super) async fn plan(handle: &Handle, command: PlanCommand) -> Result<Response, HttpError> {
    let changes_state = !matches!(command, PlanCommand::Show);
    match handle.ask(ClientRequest::Plan(command)).await {
        Some(Answer::Plan(Ok(view))) => Ok(json_page(&render_plan(&view))),
        Some(Answer::Plan(Err(error))) => Err(refused(&error)),
        _ => Err(HttpError::going_down(changes_state)),
    }
}

fn refused(error: &PlanError) -> HttpError {
    let (status, code) = match error {
        PlanError::Empty => (StatusCode::NOT_FOUND, "no-plan"),
        PlanError::NoMember(_) => (StatusCode::BAD_REQUEST, "no-member"),
        PlanError::NotJoined(_) => (StatusCode::BAD_REQUEST, "not-joined"),
        PlanError::Owns(_) => (StatusCode::CONFLICT, "owns"),
        PlanError::Member(_) => (StatusCode::BAD_REQUEST, "member"),
        PlanError::Removed(_) => (StatusCode::BAD_REQUEST, "removed"),
        PlanError::Impossible(_) => (StatusCode::BAD_REQUEST, "impossible"),
        PlanError::TooMany => (StatusCode::BAD_REQUEST, "too-many-changes"),
        PlanError::UnderWay { .. } => (StatusCode::CONFLICT, "under-way"),
        PlanError::Still => (StatusCode::CONFLICT, "nothing-moves"),
        PlanError::Outdated => (StatusCode::CONFLICT, "outdated"),
        PlanError::Busy => (StatusCode::CONFLICT, "busy"),
        PlanError::Undecided => (StatusCode::SERVICE_UNAVAILABLE, "undecided"),
    };
    HttpError::new(status, code, error.to_string())
}

/// A node has joined, and listens there.
pub(super) async fn admit(handle: &Handle, parts: &Parts, body: Body) -> Result<Response, HttpError> {
    let Joined { node, addresses } = parse(parts, body).await?;
    if addresses.is_empty() {
        return Err(HttpError::bad_request("bad-address", "a node that has joined listens somewhere"));
    }
    check_addresses(&addresses).map_err(|error| HttpError::bad_request("bad-address", error))?;
    match handle.ask(ClientRequest::Admit { node: id(&node)?, addresses }).await {
        Some(Answer::Admitted) => Ok(json_page(&json!({ "node": node }))),
        _ => Err(HttpError::going_down(true)),
    }
}

pub(super) async fn get(handle: &Handle) -> Result<Response, HttpError> {
    match handle.ask(ClientRequest::Ring).await {
        Some(Answer::Ring(layout)) => Ok(json_page(&render_ring(&layout))),
        _ => Err(HttpError::going_down(false)),
    }
}

pub(super) async fn transfers(handle: &Handle) -> Result<Response, HttpError> {
    match handle.ask(ClientRequest::Transfers).await {
        Some(Answer::Transfers(view)) => Ok(json_page(&render_transfers(&view))),
        _ => Err(HttpError::going_down(false)),
    }
}

fn render_ring(layout: &Layout) -> Value {
    let owned = |id| layout.partitions().filter(|partition| layout.slot_of(*partition, id).is_some()).count();
    let member = |member: &Member| {
        json!({
            "id": member.id.to_string(),
            "zone": member.zone,
            "weight": member.weight,
            "leaving": layout.roster().leaving.contains(&member.id),
            "partitions": owned(member.id),
        })
    };
    json!({
        "generation": layout.generation(),
        "version": layout.version(),
        "n": layout.replicas(),
        "partitions": layout.partitions().len(),
        "moving": layout.moving().count(),
        "members": layout.members().iter().map(member).collect::<Vec<_>>(),
        "removed": layout.roster().removed.iter().map(NodeId::to_string).collect::<Vec<_>>(),
    })
}

fn render_plan(view: &PlanView) -> Value {
    let node = |node: &PlanNode| {
        json!({
            "id": node.id.to_string(),
            "zone": node.zone,
            "weight": node.weight,
            "before": node.before,
            "after": node.after,
        })
    };
    json!({
        "layout": { "generation": view.layout.0, "version": view.layout.1 },
        "changes": view.changes.iter().map(render_change).collect::<Vec<_>>(),
        "n": { "before": view.replicas.0, "after": view.replicas.1 },
        "nodes": view.nodes.iter().map(node).collect::<Vec<_>>(),
        "partitions": view.partitions,
        "copies": view.copies,
        "bytes": view.bytes,
        "crowded": view.crowded,
        "moving": view.moving,
    })
}

fn render_change(change: &PlanChange) -> String {
    match change {
        PlanChange::Add(Member { id, zone, weight }) if zone.is_empty() => {
            format!("add {id}, weight {weight}")
        }
        PlanChange::Add(Member { id, zone, weight }) => format!("add {id}, zone {zone}, weight {weight}"),
        PlanChange::Forget(id) => format!("forget {id}"),
        PlanChange::Remove(id) => format!("remove {id}"),
        PlanChange::Replace { old, new } => format!("replace {old} by {new}"),
        PlanChange::Weight(id, weight) => format!("{id}: weight {weight}"),
        PlanChange::Zone(id, zone) => format!("{id}: zone {zone}"),
        PlanChange::Replicas(count) => format!("N = {count}"),
    }
}

fn render_transfers(view: &TransfersView) -> Value {
    let node = |node: &TransferNode| {
        json!({
            "id": node.id.to_string(),
            "state": state(node.state),
            "leaving": node.is_leaving,
            "answered": node.has_answered,
            "has_layout": node.has_layout,
            "arriving": node.arriving,
            "complete": node.complete,
            "hands_over": node.keeps,
        })
    };
    json!({
        "layout": { "generation": view.layout.0, "version": view.layout.1 },
        "joining": view.joining,
        "leaving": view.leaving,
        "nodes": view.nodes.iter().map(node).collect::<Vec<_>>(),
    })
}

//! What each node holds of a key. Answers in under a second, whoever is down.

use std::time::Duration;

use axum::response::Response;
use gramme_object::{Key, Object};
use gramme_replica::{Blocked, ClientRequest, Explained, Held, Holder, Response as Answer};
use serde_json::{Value, json};

use crate::driver::Handle;
use crate::interfaces::http::admin::{json_page, slow, state};
use crate::interfaces::http::error::HttpError;
use crate::interfaces::http::path::ObjectName;

/// How long nodes may take to say what they hold, in milliseconds.
const TIMEOUT: u32 = 700;
/// And this node's own thread all in all.
const PATIENCE: Duration = Duration::from_millis(950);

pub(super) async fn get(handle: &Handle, name: &ObjectName) -> Result<Response, HttpError> {
    let key = Key::new(&name.bucket.bucket_type, &name.bucket.bucket, &name.key)?;
    let asked = handle.ask(ClientRequest::Explain { key, timeout: TIMEOUT });
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Some(Answer::Explained(result))) => Ok(json_page(&render(name, &result?))),
        Ok(_) => Err(HttpError::going_down(false)),
        Err(_) => Err(slow()),
    }
}

fn render(name: &ObjectName, explained: &Explained) -> Value {
    let Explained { partition, epoch, blocked, holders } = explained;
    let blocked = blocked.as_ref().map(|blocked| {
        let owner = |blocked: &Blocked| json!({ "node": blocked.node.to_string(), "lacks": blocked.lacks });
        blocked.iter().map(owner).collect::<Vec<_>>()
    });
    json!({
        "type": name.bucket.bucket_type,
        "bucket": String::from_utf8_lossy(&name.bucket.bucket),
        "key": String::from_utf8_lossy(&name.key),
        "partition": partition.to_string(),
        "epoch": epoch,
        "preference_list": holders.iter().map(holder).collect::<Vec<_>>(),
        "equal": are_equal(holders),
        "reclaim_blocked_by": blocked,
    })
}

fn holder(holder: &Holder) -> Value {
    let (versions, uncounted, unknown) = match &holder.held {
        Held::Copy { object, uncounted } => (Some(versions(object)), *uncounted, None),
        Held::Unknown(why) => (None, None, Some(*why)),
    };
    json!({
        "node": holder.node.to_string(),
        "slot": holder.slot,
        "state": state(holder.state),
        "versions": versions,
        "uncounted": uncounted.map(|why| why.to_string()),
        "unknown": unknown.map(|why| why.to_string()),
    })
}

fn versions(object: &Object) -> Vec<Value> {
    let siblings = object.siblings().iter().map(|(dot, sibling)| {
        json!({
            "dot": dot.to_string(),
            "written_ms": sibling.stamp.millis(),
            "write_id": format!("{:016x}", sibling.write_id),
            "deleted": sibling.is_tombstone(),
            "expires_ms": sibling.expires,
            "bytes": sibling.content.as_ref().map(|content| content.body().len()),
        })
    });
    siblings.collect()
}

/// Whether all owners have answered with the same versions; nothing if one has not answered.
fn are_equal(holders: &[Holder]) -> Option<bool> {
    let owners = holders.iter().filter(|holder| holder.slot.is_some());
    let held = |holder: &Holder| match &holder.held {
        Held::Copy { object, .. } => Some(object.versions().dots().collect::<Vec<_>>()),
        Held::Unknown(_) => None,
    };
    let all: Vec<_> = owners.map(held).collect::<Option<_>>()?;
    Some(all.windows(2).all(|pair| pair[0] == pair[1]))
}

//! Bucket properties as JSON.

use axum::body::{Body, to_bytes};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use gramme_object::Key;
use gramme_quorum::Threshold;
use gramme_replica::{
    ClientRequest, Properties, PropertiesChange, PropertiesPatch, Response as Answer, Scope,
};
use serde_json::{Map, Value, json};

use crate::driver::Handle;
use crate::interfaces::http::body::empty;
use crate::interfaces::http::error::HttpError;
use crate::interfaces::http::params::Params;
use crate::interfaces::http::path::BucketName;

/// A body of properties is small.
const LIMIT: usize = 64 << 10;

/// The scope of a bucket's properties.
pub(super) fn of_bucket(bucket: &BucketName) -> Result<Scope, HttpError> {
    // Any key will do to check the bucket's name.
    Key::new(&bucket.bucket_type, &bucket.bucket, b"-")?;
    Ok(Scope { bucket_type: bucket.bucket_type.clone(), bucket: Some(bucket.bucket.clone().into()) })
}

/// The scope of a type's properties.
pub(super) fn of_type(bucket_type: String) -> Scope {
    Scope { bucket_type, bucket: None }
}

pub(super) async fn get(handle: &Handle, scope: Scope) -> Result<Response, HttpError> {
    let Some(Answer::Properties(result)) = handle.ask(ClientRequest::Properties(scope.clone())).await else {
        return Err(HttpError::going_down(false));
    };
    let body = render(&result?, handle.shared.ring.layout.replicas(), &scope);
    let mut response = Response::new(Body::from(format!("{body}\n")));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

fn render(properties: &Properties, replicas: u8, scope: &Scope) -> Value {
    let threshold = |threshold: Threshold| match threshold {
        Threshold::Count(count) => json!(count),
        named => json!(named.to_string()),
    };
    let mut props = json!({
        "type": scope.bucket_type,
        "n_val": replicas,
        "r": threshold(properties.r),
        "w": threshold(properties.w),
        "pr": threshold(properties.pr),
        "pw": threshold(properties.pw),
        "allow_mult": properties.allow_mult,
        "durability": properties.durability.name(),
        "max_siblings": properties.max_siblings,
        "sloppy": properties.sloppy,
        "ttl": properties.ttl,
    });
    if let Some(bucket) = &scope.bucket {
        props["name"] = json!(String::from_utf8_lossy(bucket));
    }
    json!({ "props": props })
}

pub(super) async fn put(
    handle: &Handle,
    scope: Scope,
    parts: &Parts,
    body: Body,
) -> Result<Response, HttpError> {
    let body = to_bytes(body, LIMIT).await;
    let body = body.map_err(|_| bad("the body is over 64 KiB, or ended early"))?;
    change(handle, scope, parts, PropertiesChange::Set(parse(&body)?)).await
}

/// Back to the defaults.
pub(super) async fn delete(handle: &Handle, scope: Scope, parts: &Parts) -> Result<Response, HttpError> {
    change(handle, scope, parts, PropertiesChange::Reset).await
}

async fn change(
    handle: &Handle,
    scope: Scope,
    parts: &Parts,
    change: PropertiesChange,
) -> Result<Response, HttpError> {
    let timeout = Params::parse(&parts.uri)?.timeout;
    match handle.ask(ClientRequest::SetProperties { scope, change, timeout }).await {
        Some(Answer::SetProperties(result)) => result?,
        _ => return Err(HttpError::going_down(true)),
    }
    Ok(empty(StatusCode::NO_CONTENT))
}

fn bad(why: impl Into<String>) -> HttpError {
    HttpError::bad_request("bad-property", why)
}

fn parse(body: &[u8]) -> Result<PropertiesPatch, HttpError> {
    let value: Value = serde_json::from_slice(body).map_err(|error| bad(format!("not JSON: {error}")))?;
    let props = value.get("props").and_then(Value::as_object);
    let props = props.ok_or_else(|| bad("an object {\"props\": {…}} is wanted"))?;
    parse_props(props)
}

fn parse_props(props: &Map<String, Value>) -> Result<PropertiesPatch, HttpError> {
    let mut patch = PropertiesPatch::default();
    for (name, value) in props {
        let wanted = |what: &str| bad(format!("{name}: {what} is wanted, not {value}"));
        let threshold = || threshold(value).ok_or_else(|| wanted("a number of replicas, one, quorum or all"));
        match name.as_str() {
            "r" => patch.r = Some(threshold()?),
            "w" => patch.w = Some(threshold()?),
            "pr" => patch.pr = Some(threshold()?),
            "pw" => patch.pw = Some(threshold()?),
            "allow_mult" => patch.allow_mult = Some(value.as_bool().ok_or_else(|| wanted("true or false"))?),
            "sloppy" => patch.sloppy = Some(value.as_bool().ok_or_else(|| wanted("true or false"))?),
            "durability" => {
                let durability = value.as_str().and_then(|name| name.parse().ok());
                patch.durability = Some(durability.ok_or_else(|| wanted("fsync, one-of-n or buffered"))?);
            }
            "max_siblings" => {
                let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
                patch.max_siblings = Some(number.ok_or_else(|| wanted("a number"))?);
            }
            "ttl" => {
                let seconds = value.as_u64().and_then(|seconds| u32::try_from(seconds).ok());
                patch.ttl = Some(seconds.ok_or_else(|| wanted("a number of seconds, or 0 for never,"))?);
            }
            "n_val" => return Err(bad("n_val: it belongs to the cluster and cannot be set for a bucket")),
            _ => return Err(bad(format!("{name}: there is no such property"))),
        }
    }
    Ok(patch)
}

fn threshold(value: &Value) -> Option<Threshold> {
    match value {
        Value::String(text) => text.parse().ok().filter(|threshold| *threshold != Threshold::Default),
        Value::Number(number) => Some(Threshold::Count(u8::try_from(number.as_u64()?).ok()?)),
        _ => None,
    }
}

#[cfg(any(test, fuzzing))]
pub(super) fn fuzz(body: &[u8]) {
    let _ = parse(body);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_checked_one_by_one() {
        let patch = parse(br#"{"props":{"r":1,"w":"all","durability":"buffered","allow_mult":false}}"#)
            .expect("valid");
        assert_eq!((patch.r, patch.w), (Some(Threshold::Count(1)), Some(Threshold::All)));
        for body in [
            "",
            "[]",
            "{}",
            r#"{"props":[]}"#,
            r#"{"props":{"r":"default"}}"#,
            r#"{"props":{"r":-1}}"#,
            r#"{"props":{"w":999}}"#,
            r#"{"props":{"n_val":3}}"#,
            r#"{"props":{"colour":1}}"#,
            r#"{"props":{"durability":"paper"}}"#,
            r#"{"props":{"max_siblings":"x"}}"#,
            r#"{"props":{"ttl":-1}}"#,
            r#"{"props":{"ttl":"1h"}}"#,
        ] {
            assert!(parse(body.as_bytes()).is_err(), "{body}");
        }
    }
}

//! Get, put and delete of a key.

use std::time::Duration;

use axum::body::{Body, HttpBody, to_bytes};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use gramme_object::{Content, Key};
use gramme_replica::{ClientPut, ClientRequest, Found, Response as Answer, Stored};

use crate::driver::Handle;
use crate::http::empty;
use crate::http::error::HttpError;
use crate::http::etag::{Condition, is_known, object_tag, quoted};
use crate::http::params::{Params, context};
use crate::http::path::{BucketName, ObjectName};
use crate::http::render::{self, Wanted};

/// How far over the limit a body is still read, in bytes.
const DRAIN: usize = 8 << 20;
/// How long a body may take to arrive.
const BODY_WITHIN: Duration = Duration::from_secs(60);

fn key_of(name: &ObjectName) -> Result<Key, HttpError> {
    Ok(Key::new(&name.bucket.bucket_type, &name.bucket.bucket, &name.key)?)
}

pub(super) async fn get(handle: &Handle, name: &ObjectName, parts: &Parts) -> Result<Response, HttpError> {
    let params = Params::parse(&parts.uri)?;
    let found = read(handle, key_of(name)?, &params).await?;
    let headers = &parts.headers;
    let tag = object_tag(&found.object);
    let wanted = params.vtag.as_ref().unwrap_or(&tag);
    if found.object.has_value() && is_known(headers, wanted)? {
        let mut response = empty(StatusCode::NOT_MODIFIED);
        if let Ok(tag) = HeaderValue::from_str(&quoted(wanted)) {
            response.headers_mut().insert(header::ETAG, tag);
        }
        return Ok(response);
    }
    render::object(&found.object, &found.context, &Wanted::of(headers, params.vtag))
}

async fn read(handle: &Handle, key: Key, params: &Params) -> Result<Found, HttpError> {
    let request = ClientRequest::Get { key, r: params.r, pr: params.pr, timeout: params.timeout };
    match handle.ask(request).await {
        Some(Answer::Get(result)) => Ok(result?),
        _ => Err(HttpError::going_down(false)),
    }
}

pub(super) async fn put(
    handle: &Handle,
    name: &ObjectName,
    parts: &Parts,
    body: Body,
) -> Result<Response, HttpError> {
    let params = Params::parse(&parts.uri)?;
    let key = key_of(name)?;
    let (stored, wanted) = write(handle, key, &params, &parts.headers, body).await?;
    let mut response = match &stored.object {
        Some(object) => render::object(object, &stored.context, &wanted)?,
        None => empty(StatusCode::NO_CONTENT),
    };
    render::put_written(response.headers_mut(), &stored.context, &stored.receipt);
    Ok(response)
}

/// A write under a key that the server picks: 128 random bits.
pub(super) async fn post(
    handle: &Handle,
    bucket: &BucketName,
    parts: &Parts,
    body: Body,
) -> Result<Response, HttpError> {
    let params = Params::parse(&parts.uri)?;
    let picked = format!("{:032x}", rand::random::<u128>());
    let name = ObjectName { bucket: bucket.clone(), key: picked.into_bytes() };
    let (stored, wanted) = write(handle, key_of(&name)?, &params, &parts.headers, body).await?;
    let mut response = match &stored.object {
        Some(object) => render::object(object, &stored.context, &wanted)?,
        None => empty(StatusCode::CREATED),
    };
    *response.status_mut() = StatusCode::CREATED;
    if let Ok(location) = HeaderValue::from_str(&name.path()) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    render::put_written(response.headers_mut(), &stored.context, &stored.receipt);
    Ok(response)
}

async fn write(
    handle: &Handle,
    key: Key,
    params: &Params,
    headers: &HeaderMap,
    body: Body,
) -> Result<(Stored, Wanted), HttpError> {
    // The body first: an answer before it has been read would be lost with the connection.
    let body = read_body(body, handle.shared.max_value_bytes).await?;
    let context = context(headers)?;
    if !headers.contains_key(header::CONTENT_TYPE) {
        return Err(HttpError::bad_request("missing-content-type", "a write says its Content-Type"));
    }
    let condition = Condition::of_write(headers)?;
    if let Some(condition) = condition {
        condition.check(&read(handle, key.clone(), params).await?.object)?;
    }
    let stored_headers = render::stored_headers(headers);
    let pairs: Vec<(&[u8], &[u8])> =
        stored_headers.iter().map(|(name, value)| (&name[..], &value[..])).collect();
    let content = Content::new(&pairs, &body)
        .map_err(|error| HttpError::bad_request("bad-header", error.to_string()))?;
    let stored = send(handle, key, context, Some(content), params).await?;
    Ok((stored, Wanted::of(headers, None)))
}

async fn send(
    handle: &Handle,
    key: Key,
    context: Bytes,
    content: Option<Content>,
    params: &Params,
) -> Result<Stored, HttpError> {
    let put = ClientPut {
        key,
        context,
        content,
        w: params.w,
        pw: params.pw,
        dw: params.dw,
        timeout: params.timeout,
        return_body: params.return_body,
        identity: None,
    };
    match handle.ask(ClientRequest::Put(put)).await {
        Some(Answer::Put(result)) => Ok(result?),
        _ => Err(HttpError::going_down(true)),
    }
}

async fn read_body(body: Body, limit: usize) -> Result<Bytes, HttpError> {
    use std::error::Error;
    if body.size_hint().lower() > (limit + DRAIN) as u64 {
        return Err(HttpError::too_large(limit));
    }
    // What is over the limit by no more than this is read and dropped, so that the client reads our answer.
    let read = tokio::time::timeout(BODY_WITHIN, to_bytes(body, limit + DRAIN)).await;
    let late = |_| HttpError::bad_request("bad-body", "the request's body did not come in time");
    match read.map_err(late)? {
        Ok(bytes) if bytes.len() <= limit => Ok(bytes),
        Ok(_) => Err(HttpError::too_large(limit)),
        Err(error) if error.source().is_some_and(is_length_limit) => Err(HttpError::too_large(limit)),
        Err(_) => Err(HttpError::bad_request("bad-body", "the request's body ended early")),
    }
}

fn is_length_limit(error: &(dyn std::error::Error + 'static)) -> bool {
    error.is::<http_body_util::LengthLimitError>()
}

/// Deletes what the context covers, or without one what a read at R has found.
pub(super) async fn delete(handle: &Handle, name: &ObjectName, parts: &Parts) -> Result<Response, HttpError> {
    let mut params = Params::parse(&parts.uri)?;
    // There is no body to return.
    params.return_body = false;
    let key = key_of(name)?;
    let mut context = context(&parts.headers)?;
    let condition = Condition::of_write(&parts.headers)?;
    if context.is_empty() || condition.is_some() {
        let found = read(handle, key.clone(), &params).await?;
        if let Some(condition) = condition {
            condition.check(&found.object)?;
        }
        if context.is_empty() {
            context = found.context;
        }
    }
    let stored = send(handle, key, context, None, &params).await?;
    let mut response = empty(StatusCode::NO_CONTENT);
    render::put_written(response.headers_mut(), &stored.context, &stored.receipt);
    Ok(response)
}

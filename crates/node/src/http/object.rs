//! Get, put and delete of a key.

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

fn key_of(name: &ObjectName) -> Result<Key, HttpError> {
    Ok(Key::new(&name.bucket.bucket_type, &name.bucket.bucket, &name.key)?)
}

pub(super) async fn get(handle: &Handle, name: &ObjectName, parts: &Parts) -> Result<Response, HttpError> {
    let params = Params::parse(&parts.uri)?;
    let found = read(handle, key_of(name)?, &params).await?;
    let headers = &parts.headers;
    let tag = object_tag(&found.object);
    if params.vtag.is_none() && found.object.has_value() && is_known(headers, &tag)? {
        let mut response = empty(StatusCode::NOT_MODIFIED);
        if let Ok(tag) = HeaderValue::from_str(&quoted(&tag)) {
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
    let context = context(headers)?;
    if !headers.contains_key(header::CONTENT_TYPE) {
        return Err(HttpError::bad_request("missing-content-type", "a write says its Content-Type"));
    }
    let condition = Condition::of_write(headers)?;
    let body = read_body(body, handle.shared.max_value_bytes).await?;
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
    if body.size_hint().lower() > limit as u64 {
        return Err(HttpError::too_large(limit));
    }
    to_bytes(body, limit).await.map_err(|error| {
        let too_large = error
            .source()
            .is_some_and(<dyn std::error::Error + 'static>::is::<http_body_util::LengthLimitError>);
        if too_large {
            HttpError::too_large(limit)
        } else {
            HttpError::bad_request("bad-body", "the request's body ended early")
        }
    })
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

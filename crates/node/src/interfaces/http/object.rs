//! Get, put and delete of a key.

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use gramme_object::{Content, Expiry, Key};
use gramme_replica::{ClientPut, Stored};

use crate::driver::Handle;
use crate::interfaces::http::body::{self, empty};
use crate::interfaces::http::error::HttpError;
use crate::interfaces::http::etag::{condition, quoted};
use crate::interfaces::http::expires::expiry;
use crate::interfaces::http::params::{Params, context, session};
use crate::interfaces::http::path::{BucketName, ObjectName};
use crate::interfaces::http::render::{self, Pairs, Wanted};
use crate::requests::{self, Condition, object_tag, version_tag};

fn key_of(name: &ObjectName) -> Result<Key, HttpError> {
    Ok(Key::new(&name.bucket.bucket_type, &name.bucket.bucket, &name.key)?)
}

pub(super) async fn get(handle: &Handle, name: &ObjectName, parts: &Parts) -> Result<Response, HttpError> {
    let params = Params::parse(&parts.uri)?;
    let condition = condition(&parts.headers)?;
    let session = session(&parts.headers)?;
    let found = requests::read(handle, key_of(name)?, params.reading(), Bytes::new(), session).await?;
    let shown = match &params.vtag {
        Some(vtag) => found.object.versions_of(|dot| version_tag(dot) == *vtag),
        None => found.object.clone(),
    };
    let tag = object_tag(&shown);
    condition.check_read(&shown).map_err(requests::Failed::from)?;
    if condition.is_known(&shown, &tag) {
        let mut response = empty(StatusCode::NOT_MODIFIED);
        if let Ok(tag) = HeaderValue::from_str(&quoted(&tag)) {
            response.headers_mut().insert(header::ETAG, tag);
        }
        return Ok(response);
    }
    render::object(&found.object, &found.context, &Wanted::of(&parts.headers, params.vtag))
}

pub(super) async fn put(
    handle: &Handle,
    name: &ObjectName,
    parts: &Parts,
    body: Body,
) -> Result<Response, HttpError> {
    let (stored, wanted) = write(handle, name, parts, body).await?;
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
    if Params::parse(&parts.uri)?.touch {
        let error = bad_touch("a touch names its key");
        return Err(body::Unread::new(&parts.headers, body).refuse(error).await);
    }
    let picked = format!("{:032x}", rand::random::<u128>());
    let name = ObjectName { bucket: bucket.clone(), key: picked.into_bytes() };
    let (stored, wanted) = write(handle, &name, parts, body).await?;
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

/// What a write asks for before its body.
struct Asked {
    key: Key,
    params: Params,
    context: Bytes,
    condition: Condition,
    expiry: Expiry,
    stored: Pairs,
    wanted: Wanted,
}

impl Asked {
    fn of(name: &ObjectName, parts: &Parts) -> Result<Self, HttpError> {
        let headers = &parts.headers;
        let asked = Self {
            key: key_of(name)?,
            params: Params::parse(&parts.uri)?,
            context: context(headers)?,
            condition: condition(headers)?,
            expiry: expiry(headers)?,
            stored: render::stored_headers(headers)?,
            wanted: Wanted::of(headers, None),
        };
        match asked.params.touch {
            true => asked.check_touch()?,
            false if headers.contains_key(header::CONTENT_TYPE) => {}
            false => {
                return Err(HttpError::bad_request("missing-content-type", "a write says its Content-Type"));
            }
        }
        Ok(asked)
    }

    /// Whether a write that brings no value says what it is to change, and nothing else.
    fn check_touch(&self) -> Result<(), HttpError> {
        if self.expiry == Expiry::AsBucket {
            return Err(bad_touch("a touch says with X-Gramme-Expires when the value is to expire"));
        }
        if !self.context.is_empty() {
            return Err(bad_touch(
                "a touch replaces what it finds: it takes no context; If-Match is for conditions",
            ));
        }
        Ok(())
    }

    fn put(&self, content: Option<Content>) -> ClientPut {
        let Params { w, pw, dw, timeout, return_body, sloppy, .. } = self.params;
        let (key, context, expiry) = (self.key.clone(), self.context.clone(), self.expiry);
        let touched = None;
        ClientPut {
            key,
            context,
            content,
            expiry,
            touched,
            w,
            pw,
            dw,
            timeout,
            return_body,
            sloppy,
            identity: None,
        }
    }
}

fn bad_touch(why: &str) -> HttpError {
    HttpError::bad_request("bad-touch", why)
}

async fn write(
    handle: &Handle,
    name: &ObjectName,
    parts: &Parts,
    body: Body,
) -> Result<(Stored, Wanted), HttpError> {
    let body = body::Unread::new(&parts.headers, body);
    let asked = match Asked::of(name, parts) {
        Ok(asked) => asked,
        Err(error) => return Err(body.refuse(error).await),
    };
    let body = body.read(handle.shared.max_value_bytes).await?;
    let reading = asked.params.reading();
    if asked.params.touch {
        if !body.is_empty() {
            return Err(HttpError::bad_request("bad-body", "a touch brings no value"));
        }
        let stored = requests::touch(handle, asked.put(None), &asked.condition, reading).await?;
        return Ok((stored, asked.wanted));
    }
    let pairs: Vec<(&[u8], &[u8])> =
        asked.stored.iter().map(|(name, value)| (&name[..], &value[..])).collect();
    let content = Content::new(&pairs, &body)
        .map_err(|error| HttpError::bad_request("bad-header", error.to_string()))?;
    let put = asked.put(Some(content));
    let stored = requests::write(handle, put, &asked.condition, reading).await?;
    Ok((stored, asked.wanted))
}

/// Deletes what the context covers, or without one what a read at R has found.
pub(super) async fn delete(handle: &Handle, name: &ObjectName, parts: &Parts) -> Result<Response, HttpError> {
    let mut params = Params::parse(&parts.uri)?;
    if params.touch {
        return Err(bad_touch("a touch is a PUT or a POST"));
    }
    // There is no body to return.
    params.return_body = false;
    let asked = Asked {
        key: key_of(name)?,
        params,
        context: context(&parts.headers)?,
        condition: condition(&parts.headers)?,
        expiry: Expiry::AsBucket,
        stored: Vec::new(),
        wanted: Wanted::of(&parts.headers, None),
    };
    let put = asked.put(None);
    let stored = requests::delete(handle, put, &asked.condition, asked.params.reading()).await?;
    let mut response = empty(StatusCode::NO_CONTENT);
    render::put_written(response.headers_mut(), &stored.context, &stored.receipt);
    Ok(response)
}

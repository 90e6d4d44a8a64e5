//! A read as a response.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use gramme_object::{Object, Sibling};
use gramme_quorum::Receipt;

use crate::interfaces::http::accept;
use crate::interfaces::http::error::HttpError;
use crate::interfaces::http::etag::quoted;
use crate::interfaces::http::expires::{EXPIRES, http_date};
use crate::interfaces::http::params::{CONTEXT, VCLOCK};
use crate::requests::{object_tag, version_tag};

const DELETED: &str = "x-gramme-deleted";
const RIAK_DELETED: &str = "x-riak-deleted";
const META: &str = "x-gramme-meta-";
const RIAK_META: &str = "x-riak-meta-";
const RECEIPT: &str = "x-gramme-receipt";
const TOMBSTONES: HeaderName = HeaderName::from_static("x-gramme-tombstones");

/// How siblings are wanted.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// All in one body, each with its headers.
    pub(super) multipart: bool,
    /// One of them.
    pub(super) vtag: Option<String>,
}

impl Wanted {
    pub(super) fn of(headers: &HeaderMap, vtag: Option<String>) -> Self {
        // Who does not ask for it gets the list of tags, as Riak gives it.
        let is_named = headers.get_all(header::ACCEPT).iter().any(|accept| {
            accept.to_str().is_ok_and(|accept| accept.to_ascii_lowercase().contains("multipart/"))
        });
        let multipart = accept::weight(headers, "multipart", "mixed");
        let is_wanted = multipart > 0 && multipart >= accept::weight(headers, "text", "plain");
        Self { multipart: is_named && is_wanted, vtag }
    }
}

/// All that is stored: 200 for a value, 300 for siblings, 404 for nothing or a tombstone.
pub(super) fn object(object: &Object, context: &Bytes, wanted: &Wanted) -> Result<Response, HttpError> {
    if let Some(vtag) = &wanted.vtag {
        return one_version(object, context, vtag);
    }
    match object.siblings() {
        [] => Err(HttpError::not_found("there is no such key")),
        [(dot, sibling)] => version(dot, sibling, context),
        all => {
            let mut live = all.iter().filter(|(_, sibling)| !sibling.is_tombstone());
            match (live.next(), live.next()) {
                (None, _) => Err(deleted(context)),
                (Some((dot, sibling)), None) => beside_tombstones(object, dot, sibling, context),
                (Some(_), Some(_)) => Ok(siblings(object, context, wanted)),
            }
        }
    }
}

/// One value, and deletes that did not know of it. It is what there is to read; the context covers them too, and
/// so does the tag.
fn beside_tombstones(
    object: &Object,
    dot: &impl std::fmt::Display,
    sibling: &Sibling,
    context: &Bytes,
) -> Result<Response, HttpError> {
    let mut response = version(dot, sibling, context)?;
    let headers = response.headers_mut();
    put(headers, header::ETAG, &quoted(&object_tag(object)));
    put(headers, TOMBSTONES, &(object.siblings().len() - 1).to_string());
    Ok(response)
}

fn one_version(object: &Object, context: &Bytes, vtag: &str) -> Result<Response, HttpError> {
    let found = object.siblings().iter().find(|(dot, _)| version_tag(dot) == vtag);
    let (dot, sibling) = found.ok_or_else(|| HttpError::not_found("the key has no version with this tag"))?;
    version(dot, sibling, context)
}

fn version(dot: &impl std::fmt::Display, sibling: &Sibling, context: &Bytes) -> Result<Response, HttpError> {
    let Some(content) = &sibling.content else { return Err(deleted(context)) };
    let mut response = Response::new(Body::from(content.body()));
    let headers = response.headers_mut();
    for (name, value) in version_headers(dot, sibling) {
        headers.append(name, value);
    }
    put_context(headers, context);
    Ok(response)
}

fn deleted(context: &Bytes) -> HttpError {
    let yes = HeaderValue::from_static("true");
    let error = HttpError::not_found("the key was deleted")
        .with_header(HeaderName::from_static(DELETED), yes.clone())
        .with_header(HeaderName::from_static(RIAK_DELETED), yes);
    let value = context_value(context);
    error
        .with_header(HeaderName::from_static(CONTEXT), value.clone())
        .with_header(HeaderName::from_static(VCLOCK), value)
}

fn siblings(object: &Object, context: &Bytes, wanted: &Wanted) -> Response {
    let tag = object_tag(object);
    let (content_type, body) = if wanted.multipart {
        let boundary = format!("gramme-{:032x}", rand::random::<u128>());
        (format!("multipart/mixed; boundary={boundary}"), multipart(object, &boundary))
    } else {
        let tags: String = object.siblings().iter().map(|(dot, _)| version_tag(dot) + "\n").collect();
        ("text/plain; charset=utf-8".to_owned(), format!("Siblings:\n{tags}").into_bytes())
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::MULTIPLE_CHOICES;
    let headers = response.headers_mut();
    put(headers, header::CONTENT_TYPE, &content_type);
    put(headers, header::ETAG, &quoted(&tag));
    put(headers, header::VARY, "accept");
    put(headers, header::LAST_MODIFIED, &http_date(object.newest_stamp().millis()));
    put_context(headers, context);
    response
}

fn multipart(object: &Object, boundary: &str) -> Vec<u8> {
    let mut body = Vec::new();
    for (dot, sibling) in object.siblings() {
        body.extend_from_slice(format!("\r\n--{boundary}\r\n").as_bytes());
        for (name, value) in version_headers(dot, sibling) {
            body.extend_from_slice(name.as_str().as_bytes());
            body.extend_from_slice(b": ");
            body.extend_from_slice(value.as_bytes());
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"\r\n");
        if let Some(content) = &sibling.content {
            body.extend_from_slice(&content.body());
        }
    }
    body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    body
}

/// The headers of one version: those stored with it, its tag and its time.
fn version_headers(dot: &impl std::fmt::Display, sibling: &Sibling) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers = HeaderMap::new();
    match &sibling.content {
        None => {
            put(&mut headers, HeaderName::from_static(DELETED), "true");
            put(&mut headers, HeaderName::from_static(RIAK_DELETED), "true");
        }
        Some(content) => {
            for (name, value) in content.headers() {
                put_stored(&mut headers, name, value);
            }
            sibling.expires.into_iter().for_each(|at| put(&mut headers, EXPIRES, &http_date(at)));
        }
    }
    put(&mut headers, header::ETAG, &quoted(&version_tag(dot)));
    put(&mut headers, header::LAST_MODIFIED, &http_date(sibling.stamp.millis()));
    headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// A stored header; user metadata under both of its names.
fn put_stored(headers: &mut HeaderMap, name: &[u8], value: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(value) else { return };
    let names = match name.strip_prefix(RIAK_META.as_bytes()) {
        Some(rest) => vec![name.to_vec(), [META.as_bytes(), rest].concat()],
        None if matches!(name, b"content-type" | b"content-encoding") => vec![name.to_vec()],
        // A native client may store others; here they could pass for headers of the answer itself.
        None => return,
    };
    for name in names {
        if let Ok(name) = HeaderName::from_bytes(&name) {
            headers.insert(name, value.clone());
        }
    }
}

/// Names and values of headers that are stored.
pub(super) type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// The headers of a request that are stored with its value: type, encoding, and user metadata under Riak's
/// name, whichever it came with. A name that is given twice has no one value.
pub(super) fn stored_headers(headers: &HeaderMap) -> Result<Pairs, HttpError> {
    let mut stored: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for (name, value) in headers {
        let name = name.as_str();
        let kept = match name.strip_prefix(META) {
            Some(rest) => format!("{RIAK_META}{rest}"),
            None if name.starts_with(RIAK_META) || name == "content-type" || name == "content-encoding" => {
                name.to_owned()
            }
            None => continue,
        };
        if stored.iter().any(|(other, _)| other == kept.as_bytes()) {
            return Err(HttpError::bad_request("bad-header", format!("{name} is given twice")));
        }
        stored.push((kept.into_bytes(), value.as_bytes().to_vec()));
    }
    Ok(stored)
}

/// Adds what a successful write says of itself.
pub(super) fn put_written(headers: &mut HeaderMap, context: &Bytes, receipt: &Receipt) {
    let Receipt { acks, primaries, fallbacks, zones, synced } = receipt;
    let receipt =
        format!("acks={acks}; primaries={primaries}; fallbacks={fallbacks}; zones={zones}; synced={synced}");
    put(headers, HeaderName::from_static(RECEIPT), &receipt);
    put_context(headers, context);
}

fn put_context(headers: &mut HeaderMap, context: &Bytes) {
    let value = context_value(context);
    headers.insert(HeaderName::from_static(CONTEXT), value.clone());
    headers.insert(HeaderName::from_static(VCLOCK), value);
}

fn context_value(context: &Bytes) -> HeaderValue {
    // Base64 is always a valid header value.
    HeaderValue::from_str(&STANDARD.encode(context)).unwrap_or_else(|_| HeaderValue::from_static(""))
}

fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

//! Listings of keys and buckets. Weak and costly: every row of every partition is read, each of one owner.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, Version, header};
use axum::response::Response;
use bytes::Bytes;
use gramme_object::Key;
use gramme_replica::KeysPage;
use http_body_util::channel::{Channel, Sender};
use serde_json::json;

use crate::driver::Handle;
use crate::interfaces::http::error::HttpError;
use crate::interfaces::http::params::Params;
use crate::interfaces::http::path::{BucketName, encode};
use crate::requests;

/// Buckets that are listed at the most: their names are kept until the last one is known.
const BUCKETS: usize = 100_000;

type Cut = Sender<Bytes, std::io::Error>;

/// `?keys=true`: one object with all keys; `?keys=stream`: a sequence of objects. Either is written as the
/// pages come.
pub(super) async fn keys(handle: &Handle, bucket: &BucketName, parts: &Parts) -> Result<Response, HttpError> {
    let params = Params::parse(&parts.uri)?;
    let is_stream = match params.keys.as_deref() {
        Some("true") => false,
        // Before 1.1 a body ends where the connection does, and half a stream would look like a whole one.
        Some("stream") => parts.version >= Version::HTTP_11,
        _ => {
            let message = "a listing reads everything: ask for it with ?keys=true or ?keys=stream";
            return Err(HttpError::bad_request("bad-parameter", message));
        }
    };
    Key::new(&bucket.bucket_type, &bucket.bucket, b"-")?;
    let (bucket_type, name) = (bucket.bucket_type.clone(), Bytes::from(bucket.bucket.clone()));
    // The first page tells whether there is anything to answer with.
    let first =
        requests::keys_page(handle, bucket_type.clone(), Some(name.clone()), None, params.timeout).await?;
    let (mut sender, body) = Channel::<Bytes, std::io::Error>::new(2);
    let handle = handle.clone();
    tokio::spawn(async move {
        let (mut page, mut writer) = (first, Writer::new(is_stream));
        loop {
            let next = page.next.take();
            let piece = writer.piece(&page, next.is_none());
            // Nothing is sent where a page adds nothing: an empty piece would end a chunked body.
            let is_sent = piece.is_empty() || sender.send_data(piece).await.is_ok();
            if !is_sent || next.is_none() {
                return;
            }
            let more =
                requests::keys_page(&handle, bucket_type.clone(), Some(name.clone()), next, params.timeout);
            match more.await {
                Ok(more) => page = more,
                Err(_) => return cut_off(sender),
            }
        }
    });
    Ok(json_response(Body::new(body)))
}

/// Half a listing must not look like a whole one.
fn cut_off(sender: Cut) {
    sender.abort(std::io::Error::other("the listing could not be finished"));
}

/// Writes a listing, page by page, of which any may be empty.
struct Writer {
    is_stream: bool,
    is_begun: bool,
    has_names: bool,
}

impl Writer {
    const fn new(is_stream: bool) -> Self {
        Self { is_stream, is_begun: false, has_names: false }
    }

    /// What a page adds to the body.
    fn piece(&mut self, page: &KeysPage, is_last: bool) -> Bytes {
        let names = page.keys.iter().map(|key| json!(text(key.key())));
        if self.is_stream {
            return format!("{}", json!({ "keys": names.collect::<Vec<_>>() })).into();
        }
        let mut out = String::new();
        if !std::mem::replace(&mut self.is_begun, true) {
            out += "{\"keys\":[";
        }
        for name in names {
            if std::mem::replace(&mut self.has_names, true) {
                out.push(',');
            }
            out += &name.to_string();
        }
        if is_last {
            out += "]}";
        }
        out.into()
    }
}

/// A name as JSON can hold it: one that is no text is percent-encoded.
fn text(name: &[u8]) -> String {
    std::str::from_utf8(name).map_or_else(|_| encode(name), str::to_owned)
}

/// `?buckets=true`: the buckets that have a key with a value.
pub(super) async fn buckets(
    handle: &Handle,
    bucket_type: &str,
    parts: &Parts,
) -> Result<Response, HttpError> {
    let params = Params::parse(&parts.uri)?;
    if !matches!(params.buckets.as_deref(), Some("true" | "stream")) {
        let message = "a listing reads everything: ask for it with ?buckets=true";
        return Err(HttpError::bad_request("bad-parameter", message));
    }
    let mut names = BTreeSet::new();
    let mut next = None;
    loop {
        let page = requests::keys_page(handle, bucket_type.to_owned(), None, next, params.timeout).await?;
        names.extend(page.keys.iter().map(|key| key.bucket().to_vec()));
        if names.len() > BUCKETS {
            let message = format!("there are more than {BUCKETS} buckets");
            return Err(HttpError::new(StatusCode::SERVICE_UNAVAILABLE, "too-many-buckets", message));
        }
        next = page.next;
        if next.is_none() {
            break;
        }
    }
    let names: Vec<_> = names.iter().map(|name| text(name)).collect();
    Ok(json_response(Body::from(json!({ "buckets": names }).to_string())))
}

fn json_response(body: Body) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use gramme_object::Key;

    use super::*;

    #[test]
    fn pages_without_names_leave_the_json_whole() {
        let page = |names: &[&str]| {
            let keys = names.iter().map(|name| Key::new("default", "b", *name).expect("valid parts"));
            KeysPage { keys: keys.collect(), next: None }
        };
        for pages in [
            &[&[][..], &["a"], &[], &["b", "c"]][..],
            &[&["a", "b"], &["c"]],
            &[&["a", "b", "c"]],
            &[&[], &["a", "b", "c"], &[]],
        ] {
            let mut writer = Writer::new(false);
            let mut body = Vec::new();
            for (at, names) in pages.iter().enumerate() {
                body.extend(writer.piece(&page(names), at + 1 == pages.len()));
            }
            let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
            assert_eq!(body, json!({ "keys": ["a", "b", "c"] }));
        }
        let body = Writer::new(false).piece(&page(&[]), true);
        assert_eq!(body, "{\"keys\":[]}");
    }
}

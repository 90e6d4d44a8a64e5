//! The HTTP interface: Riak's shape, because it is the convention for a store with siblings.
//!
//! | part | what it does |
//! |---|---|
//! | `server` | connections: their number, their timeouts, their end |
//! | `path` | what a path names, from its bytes |
//! | `params` | query parameters and context headers |
//! | `body` | how much of a body is read, and when |
//! | `object` | get, put and delete of a key |
//! | `listing` | keys and buckets |
//! | `render` | a read as a response: one value, siblings, a version |
//! | `etag`, `accept` | conditions and preferences as headers |
//! | `expires` | when a value expires, as a header |
//! | `props` | properties of buckets and types |
//! | `admin` | status, health, figures |
//! | `ring` | who owns what, and changing it |
//! | `error` | every error's status, code and body |

mod accept;
mod admin;
mod body;
mod error;
mod etag;
mod expires;
mod explain;
mod listing;
mod object;
mod params;
mod path;
mod props;
mod render;
mod ring;
mod server;

use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{Method, Version, header};
use axum::response::Response;
use gramme_replica::PlanCommand;

use crate::driver::Handle;
use crate::interfaces::http::error::HttpError;
use crate::interfaces::http::path::Resource;

pub(crate) use crate::interfaces::http::path::encode as encode_segment;
pub(crate) use crate::interfaces::http::server::{bind, serve};

async fn answer(State(handle): State<Handle>, request: Request) -> Response {
    let wants_text = error::wants_text(request.headers());
    match route(&handle, request).await {
        Ok(response) => response,
        Err(error) => error.render(wants_text),
    }
}

/// What the standard asks of every request, whatever it is for.
fn check(parts: &Parts) -> Result<(), HttpError> {
    let bad = |message: &str| Err(HttpError::bad_request("bad-header", message));
    let headers = &parts.headers;
    if parts.version == Version::HTTP_11 && headers.get_all(header::HOST).iter().count() != 1 {
        return bad("a request names its Host, once");
    }
    let coding = headers.get_all(header::TRANSFER_ENCODING);
    if coding.iter().any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked")) {
        return bad("transfer-encoding: only chunked is decoded");
    }
    // Of two lengths hyper takes the chunks', hides the other, and closes the connection after the answer.
    Ok(())
}

async fn route(handle: &Handle, request: Request) -> Result<Response, HttpError> {
    let (parts, body) = request.into_parts();
    check(&parts)?;
    let resource = path::parse(parts.uri.path())?;
    match (resource, parts.method.clone()) {
        (Resource::Object(name), Method::GET | Method::HEAD) => object::get(handle, &name, &parts).await,
        (Resource::Object(name), Method::PUT | Method::POST) => {
            object::put(handle, &name, &parts, body).await
        }
        (Resource::Object(name), Method::DELETE) => object::delete(handle, &name, &parts).await,
        (Resource::Object(_), _) => Err(HttpError::method("GET, HEAD, PUT, POST, DELETE")),
        (Resource::Keys(bucket), Method::GET | Method::HEAD) => listing::keys(handle, &bucket, &parts).await,
        (Resource::Keys(bucket), Method::POST) => object::post(handle, &bucket, &parts, body).await,
        (Resource::Keys(_), _) => Err(HttpError::method("GET, HEAD, POST")),
        (Resource::Buckets(bucket_type), Method::GET | Method::HEAD) => {
            listing::buckets(handle, &bucket_type, &parts).await
        }
        (Resource::Buckets(_), _) => Err(HttpError::method("GET, HEAD")),
        (Resource::Properties(bucket), Method::GET | Method::HEAD) => {
            props::get(handle, props::of_bucket(&bucket)?).await
        }
        (Resource::Properties(bucket), Method::PUT) => {
            props::put(handle, props::of_bucket(&bucket)?, &parts, body).await
        }
        (Resource::Properties(bucket), Method::DELETE) => {
            props::delete(handle, props::of_bucket(&bucket)?, &parts).await
        }
        (Resource::Properties(_), _) => Err(HttpError::method("GET, HEAD, PUT, DELETE")),
        (Resource::TypeProperties(name), Method::GET | Method::HEAD) => {
            props::get(handle, props::of_type(name)).await
        }
        (Resource::TypeProperties(name), Method::PUT) => {
            props::put(handle, props::of_type(name), &parts, body).await
        }
        (Resource::TypeProperties(_), _) => Err(HttpError::method("GET, HEAD, PUT")),
        (Resource::Explain(name), Method::GET | Method::HEAD) => explain::get(handle, &name).await,
        (Resource::Explain(_), _) => Err(HttpError::method("GET, HEAD")),
        (Resource::AcceptLoss, Method::GET | Method::HEAD) => admin::losses(handle, false).await,
        (Resource::AcceptLoss, Method::POST) => admin::losses(handle, true).await,
        (Resource::AcceptLoss, _) => Err(HttpError::method("GET, HEAD, POST")),
        (Resource::Plan, Method::GET | Method::HEAD) => ring::plan(handle, PlanCommand::Show).await,
        (Resource::Plan, Method::POST) => ring::stage(handle, &parts, body).await,
        (Resource::Plan, Method::DELETE) => ring::plan(handle, PlanCommand::Discard).await,
        (Resource::Plan, _) => Err(HttpError::method("GET, HEAD, POST, DELETE")),
        (Resource::Commit, Method::POST) => ring::plan(handle, PlanCommand::Commit).await,
        (Resource::Commit, _) => Err(HttpError::method("POST")),
        (Resource::Transfers, Method::GET | Method::HEAD) => ring::transfers(handle).await,
        (Resource::Transfers, Method::DELETE) => ring::plan(handle, PlanCommand::Cancel).await,
        (Resource::Transfers, _) => Err(HttpError::method("GET, HEAD, DELETE")),
        (Resource::Ring, Method::GET | Method::HEAD) => ring::get(handle).await,
        (Resource::Ring, _) => Err(HttpError::method("GET, HEAD")),
        (Resource::Members, Method::POST) => ring::admit(handle, &parts, body).await,
        (Resource::Members, _) => Err(HttpError::method("POST")),
        (Resource::Admin(page), Method::GET | Method::HEAD) => admin::get(handle, page).await,
        (Resource::Admin(_), _) => Err(HttpError::method("GET, HEAD")),
    }
}

#[cfg(any(test, fuzzing))]
pub(crate) fn fuzz(input: &[u8]) {
    use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri};
    let mut lines = input.split(|byte| *byte == b'\n');
    if let Ok(uri) = Uri::try_from(lines.next().unwrap_or_default()) {
        let _ = path::parse(uri.path());
        let _ = params::Params::parse(&uri);
    }
    let mut headers = HeaderMap::new();
    let pairs = lines.by_ref().take(16).filter_map(|line| {
        let at = line.iter().position(|byte| *byte == b':')?;
        Some((HeaderName::from_bytes(&line[..at]).ok()?, HeaderValue::from_bytes(&line[at + 1..]).ok()?))
    });
    pairs.for_each(|(name, value)| {
        headers.append(name, value);
    });
    let _ = params::context(&headers);
    let _ = etag::condition(&headers);
    let _ = expires::expiry(&headers);
    let _ = accept::weight(&headers, "text", "plain");
    let _ = render::stored_headers(&headers);
    props::fuzz(input);
}

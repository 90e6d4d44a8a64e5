//! The HTTP interface: Riak's shape, because it is the convention for a store with siblings.
//!
//! | part | what it does |
//! |---|---|
//! | `path` | what a path names, from its bytes |
//! | `params` | query parameters and context headers |
//! | `object` | get, put and delete of a key |
//! | `render` | a read as a response: one value, siblings, a version |
//! | `etag` | version tags and conditions |
//! | `props` | bucket properties |
//! | `admin` | status, health, figures |
//! | `error` | every error's status, code and body |

mod admin;
mod error;
mod etag;
mod object;
mod params;
mod path;
mod props;
mod render;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::Method;
use axum::response::{IntoResponse, Response};
use axum::serve::ListenerExt;
use tokio::net::TcpListener;

use crate::driver::Handle;
use crate::http::error::HttpError;
use crate::http::path::Resource;

pub(crate) use crate::http::path::encode as encode_segment;

/// How long requests under way may take once the node is going down.
const DRAIN: Duration = Duration::from_secs(5);

/// Binds `address`.
pub(crate) async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

/// Serves until `stop` resolves, then lets what is under way end.
pub(crate) async fn serve(
    listener: TcpListener,
    handle: Handle,
    stop: impl Future<Output = ()> + Send + 'static,
) {
    let router = Router::new().fallback(answer).with_state(handle);
    let listener = listener.tap_io(|stream| {
        // Without it small answers would wait for more; if it cannot be set they are only slower.
        let _ = stream.set_nodelay(true);
    });
    let (stopping, stopped) = tokio::sync::oneshot::channel();
    let signal = async move {
        stop.await;
        let _ = stopping.send(());
    };
    let serving = axum::serve(listener, router).with_graceful_shutdown(signal);
    let drain = async {
        // If the signal's sender is gone the server has ended by itself.
        let _ = stopped.await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        _ = serving => {}
        () = drain => tracing::warn!("requests under way were cut off"),
    }
}

async fn answer(State(handle): State<Handle>, request: Request) -> Response {
    let wants_text = error::wants_text(request.headers());
    match route(&handle, request).await {
        Ok(response) => response,
        Err(error) => error.render(wants_text),
    }
}

async fn route(handle: &Handle, request: Request) -> Result<Response, HttpError> {
    let (parts, body) = request.into_parts();
    let resource = path::parse(parts.uri.path())?;
    match (resource, parts.method.clone()) {
        (Resource::Object(name), Method::GET | Method::HEAD) => object::get(handle, &name, &parts).await,
        (Resource::Object(name), Method::PUT | Method::POST) => {
            object::put(handle, &name, &parts, body).await
        }
        (Resource::Object(name), Method::DELETE) => object::delete(handle, &name, &parts).await,
        (Resource::Object(_), _) => Err(HttpError::method("GET, HEAD, PUT, POST, DELETE")),
        (Resource::Keys(bucket), Method::POST) => object::post(handle, &bucket, &parts, body).await,
        (Resource::Keys(_), _) => Err(HttpError::method("POST")),
        (Resource::Properties(bucket), Method::GET | Method::HEAD) => props::get(handle, &bucket).await,
        (Resource::Properties(bucket), Method::PUT) => props::put(handle, &bucket, &parts, body).await,
        (Resource::Properties(_), _) => Err(HttpError::method("GET, PUT")),
        (Resource::Admin(page), Method::GET | Method::HEAD) => admin::get(handle, page).await,
        (Resource::Admin(_), _) => Err(HttpError::method("GET")),
    }
}

/// A response without a body.
fn empty(status: axum::http::StatusCode) -> Response {
    status.into_response()
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
    let _ = etag::is_known(&headers, "tag");
    let _ = etag::Condition::of_write(&headers);
    let _ = render::stored_headers(&headers);
    props::fuzz(input);
}

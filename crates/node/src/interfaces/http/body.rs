//! Bodies: how much of one is read, and when.
//!
//! A client that waits for `100 Continue` is refused by its headers alone, without a byte of the body. One that
//! does not wait is sending while it is refused; if it were answered and cut off, it would never read the
//! answer. So what it sends is read and dropped first, up to a limit.

use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;

use crate::interfaces::http::error::HttpError;

/// How much of a refused body is read and dropped.
const DRAIN: u64 = 128 << 20;
/// How long a body may take to arrive.
const BODY_WITHIN: Duration = Duration::from_secs(60);

/// A response without a body.
pub(super) fn empty(status: StatusCode) -> Response {
    status.into_response()
}

/// A body of which nothing has been read.
pub(super) struct Unread {
    body: Body,
    /// Its sender waits to be asked for it, and to read of it is to ask.
    waits: bool,
}

impl Unread {
    pub(super) fn new(headers: &HeaderMap, body: Body) -> Self {
        let expect = headers.get(header::EXPECT).and_then(|expect| expect.to_str().ok());
        Self { body, waits: expect.is_some_and(|expect| expect.eq_ignore_ascii_case("100-continue")) }
    }

    /// The error, once it will be read.
    pub(super) async fn refuse(self, error: HttpError) -> HttpError {
        if !self.waits {
            drop_body(self.body).await;
        }
        error
    }

    /// Reads a body of at most `limit` bytes.
    pub(super) async fn read(self, limit: usize) -> Result<Bytes, HttpError> {
        if self.body.size_hint().lower() > limit as u64 {
            return Err(self.refuse(HttpError::too_large(limit)).await);
        }
        read(self.body, limit).await
    }
}

async fn read(mut body: Body, limit: usize) -> Result<Bytes, HttpError> {
    let mut bytes = BytesMut::new();
    let read = async {
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| bad("the request's body ended early"))?;
            if let Ok(data) = frame.into_data() {
                if bytes.len() + data.len() > limit {
                    return Err(HttpError::too_large(limit));
                }
                bytes.extend_from_slice(&data);
            }
        }
        Ok(())
    };
    let late = |_| bad("the request's body did not come in time");
    let read = tokio::time::timeout(BODY_WITHIN, read).await.map_err(late);
    match read.and_then(std::convert::identity) {
        Ok(()) => Ok(bytes.freeze()),
        Err(error) => {
            drop_body(body).await;
            Err(error)
        }
    }
}

fn bad(message: &str) -> HttpError {
    HttpError::bad_request("bad-body", message)
}

async fn drop_body(mut body: Body) {
    let drain = async {
        let mut left = DRAIN;
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, |data| data.len() as u64);
            match left.checked_sub(length) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    };
    // Whoever sends slower than this does not get to read why.
    let _ = tokio::time::timeout(BODY_WITHIN, drain).await;
}

//! Every error: a status, a stable code, a message, and details for a program.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use gramme_object::KeyError;
use gramme_quorum::{GetError, PutError, Shortfall};
use gramme_replica::PropertiesError;
use serde_json::{Value, json};

use crate::interfaces::http::accept;
use crate::requests::{Failed, Refused};

#[derive(Debug)]
pub(super) struct HttpError {
    status: StatusCode,
    code: String,
    message: String,
    detail: Value,
    headers: Vec<(header::HeaderName, HeaderValue)>,
}

impl HttpError {
    pub(super) fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        let (code, message) = (code.to_owned(), message.into());
        Self { status, code, message, detail: json!({}), headers: Vec::new() }
    }

    fn with(mut self, detail: Value) -> Self {
        self.detail = detail;
        self
    }

    pub(super) fn with_header(mut self, name: header::HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(super) fn bad_request(code: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    pub(super) fn bad_path(message: &str) -> Self {
        Self::bad_request("bad-path", message)
    }

    pub(super) fn no_such_resource(path: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "no-such-resource", format!("there is nothing at {path}; see GET /"))
    }

    pub(super) fn method(allowed: &'static str) -> Self {
        let error =
            Self::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", format!("allowed: {allowed}"));
        error.with_header(header::ALLOW, HeaderValue::from_static(allowed))
    }

    pub(super) fn not_found(message: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", message)
    }

    pub(super) fn too_large(limit: usize) -> Self {
        let message = format!("the value is over the limit of {limit} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "value-too-large", message).with(json!({ "limit": limit }))
    }

    pub(super) fn precondition(message: &str) -> Self {
        Self::new(StatusCode::PRECONDITION_FAILED, "precondition-failed", message)
    }

    /// A touch would have to choose among siblings.
    fn siblings(count: usize) -> Self {
        let message = format!(
            "the key has {count} siblings, and a touch must not choose among them: read it, merge the values, and \
             write the result with the context of that read; nothing was changed"
        );
        Self::new(StatusCode::CONFLICT, "siblings", message).with(json!({ "siblings": count }))
    }

    /// The node is going down, or its thread has ended.
    pub(super) fn going_down(is_write: bool) -> Self {
        let code = if is_write { "outcome-unknown" } else { "going-down" };
        let message = if is_write {
            "the node is going down; the write may be stored and seen later"
        } else {
            "the node is going down; ask another"
        };
        let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message);
        if is_write { error.with(json!({ "may_be_stored": true })) } else { error }
    }

    fn busy(message: String) -> Self {
        let error = Self::new(StatusCode::TOO_MANY_REQUESTS, "busy", message);
        error.with_header(header::RETRY_AFTER, HeaderValue::from_static("1"))
    }

    #[cfg(test)]
    pub(super) const fn status(&self) -> StatusCode {
        self.status
    }

    pub(super) fn render(self, as_text: bool) -> Response {
        let (content_type, body) = if as_text {
            ("text/plain; charset=utf-8", format!("{}: {}\n", self.code, self.message))
        } else {
            let body = json!({ "error": self.code, "message": self.message, "detail": self.detail });
            ("application/json", format!("{body}\n"))
        };
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        for (name, value) in self.headers {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

/// Whether the client prefers text to JSON.
pub(super) fn wants_text(headers: &HeaderMap) -> bool {
    headers.contains_key(header::ACCEPT)
        && accept::weight(headers, "text", "plain") > accept::weight(headers, "application", "json")
}

fn shortfall_detail(shortfall: &Shortfall, is_write: bool) -> Value {
    let answered: Vec<_> = shortfall.answered.iter().map(ToString::to_string).collect();
    let failed = |(node, failure): &(gramme_ring::NodeId, gramme_quorum::Failure)| json!({ "node": node.to_string(), "reason": failure.to_string() });
    let failed: Vec<_> = shortfall.failed.iter().map(failed).collect();
    json!({ "needed": shortfall.needed, "answered": answered, "failed": failed, "may_be_stored": is_write })
}

impl From<KeyError> for HttpError {
    fn from(error: KeyError) -> Self {
        Self::bad_request("bad-key", error.to_string())
    }
}

impl From<Failed> for HttpError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Get(error) => error.into(),
            Failed::Put(error) => error.into(),
            Failed::Condition(Refused(why)) => Self::precondition(why),
            Failed::Absent => Self::not_found("there is no value to touch; nothing was changed"),
            Failed::Siblings(count) => Self::siblings(count),
            Failed::GoingDown { is_write } => Self::going_down(is_write),
        }
    }
}

impl From<GetError> for HttpError {
    fn from(error: GetError) -> Self {
        let (code, message) = (error.code(), error.to_string());
        match error {
            GetError::Threshold(_) | GetError::UnknownType(_) | GetError::Context(_) => {
                Self::bad_request(code, message)
            }
            GetError::Unavailable(shortfall) => Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message)
                .with(shortfall_detail(&shortfall, false)),
            GetError::Busy => Self::busy(message),
            GetError::Behind | GetError::Clock | GetError::Other => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message)
            }
        }
    }
}

impl From<PutError> for HttpError {
    fn from(error: PutError) -> Self {
        let (code, message) = (error.code(), error.to_string());
        let unavailable = || Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message.clone());
        match error {
            PutError::Threshold(_)
            | PutError::UnknownType(_)
            | PutError::Context(_)
            | PutError::RequestReused
            | PutError::ExpiresAtOnce
            | PutError::Content => Self::bad_request(code, message),
            PutError::TooManySiblings { siblings, limit } => Self::new(StatusCode::CONFLICT, code, message)
                .with(json!({ "siblings": siblings, "limit": limit })),
            PutError::Changed => Self::new(StatusCode::CONFLICT, code, message),
            PutError::SiblingsTooLarge { bytes, limit } => {
                Self::new(StatusCode::CONFLICT, code, message).with(json!({ "bytes": bytes, "limit": limit }))
            }
            PutError::ValueTooLarge { limit } => Self::too_large(limit as usize),
            PutError::Unavailable(shortfall) => unavailable().with(shortfall_detail(&shortfall, true)),
            PutError::Unknown(node) => {
                unavailable().with(json!({ "coordinator": node.to_string(), "may_be_stored": true }))
            }
            PutError::NoCoordinator(shortfall) => unavailable().with(shortfall_detail(&shortfall, false)),
            PutError::Busy => Self::busy(message),
            PutError::WriteStopped | PutError::Disk | PutError::Clock => unavailable(),
            PutError::Other => unavailable().with(json!({ "may_be_stored": true })),
        }
    }
}

impl From<PropertiesError> for HttpError {
    fn from(error: PropertiesError) -> Self {
        let message = error.to_string();
        match error {
            PropertiesError::UnknownType(_) => Self::bad_request("unknown-bucket-type", message),
            PropertiesError::Invalid(_) => Self::bad_request("bad-property", message),
            PropertiesError::Unacknowledged { missing } => {
                let missing: Vec<_> = missing.iter().map(ToString::to_string).collect();
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "unacknowledged", message)
                    .with(json!({ "missing": missing }))
            }
            PropertiesError::Conflict => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "properties-conflict", message)
            }
            PropertiesError::TooMany { .. } => {
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "too-many-properties", message)
            }
            PropertiesError::Busy => Self::new(StatusCode::SERVICE_UNAVAILABLE, "properties-busy", message),
        }
    }
}

//! Version tags, and the conditions that name them.

use axum::http::{HeaderMap, HeaderName, header};
use gramme_object::Object;

use crate::http::error::HttpError;

/// The tag of one version.
pub(super) fn version_tag(dot: &impl std::fmt::Display) -> String {
    short_hash(dot.to_string().as_bytes())
}

/// The tag of all that a key holds: of its version, or with siblings of their context.
pub(super) fn object_tag(object: &Object) -> String {
    match object.siblings() {
        [(dot, _)] => version_tag(dot),
        _ => {
            let mut context = Vec::new();
            object.context().encode(&mut context);
            short_hash(&context)
        }
    }
}

fn short_hash(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex()[..22].to_owned()
}

/// As it stands in a header.
pub(super) fn quoted(tag: &str) -> String {
    format!("\"{tag}\"")
}

fn tags(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Vec<String>>, HttpError> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let text = value.to_str().map_err(|_| bad(name))?;
    let one = |tag: &str| {
        let tag = tag.trim();
        let tag = tag.strip_prefix("W/").unwrap_or(tag);
        if tag == "*" {
            return Ok(tag.to_owned());
        }
        let inside = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
        inside.map(str::to_owned).ok_or_else(|| bad(name))
    };
    text.split(',').map(one).collect::<Result<_, _>>().map(Some)
}

fn bad(name: &HeaderName) -> HttpError {
    HttpError::bad_request("bad-header", format!("{name}: tags in quotes, or *"))
}

/// Whether a read may be answered with 304: the reader has this already.
pub(super) fn is_known(headers: &HeaderMap, tag: &str) -> Result<bool, HttpError> {
    let known = tags(headers, &header::IF_NONE_MATCH)?.unwrap_or_default();
    Ok(known.iter().any(|known| known == tag || known == "*"))
}

/// What a write demands of what is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// One of these versions is there; `*`: any.
    Matches(Vec<String>),
    /// No value is there.
    Absent,
}

impl Condition {
    pub(super) fn of_write(headers: &HeaderMap) -> Result<Option<Self>, HttpError> {
        if let Some(tags) = tags(headers, &header::IF_MATCH)? {
            return Ok(Some(Self::Matches(tags)));
        }
        match tags(headers, &header::IF_NONE_MATCH)? {
            None => Ok(None),
            Some(tags) if tags == ["*"] => Ok(Some(Self::Absent)),
            Some(_) => Err(HttpError::bad_request("bad-header", "if-none-match: only * on a write")),
        }
    }

    /// Checks what a read has found.
    pub(super) fn check(&self, object: &Object) -> Result<(), HttpError> {
        let holds = match self {
            Self::Absent => !object.has_value(),
            Self::Matches(tags) => {
                let tag = object_tag(object);
                object.has_value() && tags.iter().any(|wanted| *wanted == tag || wanted == "*")
            }
        };
        if holds {
            Ok(())
        } else {
            Err(HttpError::precondition("what is stored is not what the condition names"))
        }
    }
}

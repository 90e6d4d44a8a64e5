//! Query parameters and context headers.

use axum::http::{HeaderMap, HeaderValue, Uri};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use gramme_quorum::Threshold;
use percent_encoding::percent_decode_str;

use crate::interfaces::http::error::HttpError;
use crate::requests::{MAX_TIMEOUT, Reading, TIMEOUT};

pub(super) const CONTEXT: &str = "x-gramme-context";
pub(super) const SESSION: &str = "x-gramme-session";
pub(super) const VCLOCK: &str = "x-riak-vclock";

/// What a request asks for beside its path. Parameters that are not here have no effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Params {
    pub(super) r: Threshold,
    pub(super) w: Threshold,
    pub(super) pr: Threshold,
    pub(super) pw: Threshold,
    pub(super) dw: Threshold,
    pub(super) timeout: u32,
    pub(super) return_body: bool,
    /// Whether a write only changes when the value expires.
    pub(super) touch: bool,
    pub(super) sloppy: Option<bool>,
    pub(super) vtag: Option<String>,
    /// What a listing of keys, and of buckets, is asked for as.
    pub(super) keys: Option<String>,
    pub(super) buckets: Option<String>,
}

impl Params {
    pub(super) fn parse(uri: &Uri) -> Result<Self, HttpError> {
        let mut params = Self {
            r: Threshold::Default,
            w: Threshold::Default,
            pr: Threshold::Default,
            pw: Threshold::Default,
            dw: Threshold::Default,
            timeout: TIMEOUT,
            return_body: false,
            touch: false,
            sloppy: None,
            vtag: None,
            keys: None,
            buckets: None,
        };
        let pairs = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        for pair in pairs {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decode_str(value).decode_utf8();
            let value = value.map_err(|_| bad(name, "its value is not text"))?;
            params.set(name, &value)?;
        }
        Ok(params)
    }

    /// How the request reads.
    pub(super) const fn reading(&self) -> Reading {
        Reading { r: self.r, pr: self.pr, timeout: self.timeout, sloppy: self.sloppy }
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), HttpError> {
        let threshold = || value.parse().map_err(|error| bad(name, &format!("{error}")));
        match name {
            "r" => self.r = threshold()?,
            "w" => self.w = threshold()?,
            "pr" => self.pr = threshold()?,
            "pw" => self.pw = threshold()?,
            "dw" => self.dw = threshold()?,
            "timeout" => self.timeout = parse_timeout(value)?,
            "returnbody" => self.return_body = parse_bool(name, value)?,
            "touch" => self.touch = parse_bool(name, value)?,
            "sloppy" => self.sloppy = Some(parse_bool(name, value)?),
            "vtag" => self.vtag = Some(value.to_owned()),
            "keys" => self.keys = Some(value.to_owned()),
            "buckets" => self.buckets = Some(value.to_owned()),
            // Among them Riak's notfound_ok and basic_quorum: what they choose is always so here.
            _ => {}
        }
        Ok(())
    }
}

fn bad(name: &str, why: &str) -> HttpError {
    HttpError::bad_request("bad-parameter", format!("{name}: {why}"))
}

fn parse_bool(name: &str, value: &str) -> Result<bool, HttpError> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(bad(name, &format!("true or false, not '{value}'"))),
    }
}

fn parse_timeout(value: &str) -> Result<u32, HttpError> {
    let parsed = value.parse().ok().filter(|millis| (1..=MAX_TIMEOUT).contains(millis));
    parsed.ok_or_else(|| bad("timeout", &format!("milliseconds from 1 to {MAX_TIMEOUT}, not '{value}'")))
}

/// The sealed context that a write sends along; empty for none. Riak's name for it is accepted too.
pub(super) fn context(headers: &HeaderMap) -> Result<Bytes, HttpError> {
    let Some(value) = headers.get(CONTEXT).or_else(|| headers.get(VCLOCK)) else { return Ok(Bytes::new()) };
    context_of(value)
}

/// The contexts that the answer to a read must have all of; the header may come more than once.
pub(super) fn session(headers: &HeaderMap) -> Result<Vec<Bytes>, HttpError> {
    headers.get_all(SESSION).iter().map(context_of).collect()
}

/// The sealed context that a header's value is.
pub(super) fn context_of(value: &HeaderValue) -> Result<Bytes, HttpError> {
    let malformed = || HttpError::bad_request("context-malformed", "the context is not base64");
    let decoded = STANDARD.decode(value.as_bytes()).map_err(|_| malformed())?;
    if decoded.is_empty() {
        return Err(malformed());
    }
    Ok(decoded.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &str) -> Result<Params, HttpError> {
        let uri = format!("/x?{query}").parse().expect("a URI");
        Params::parse(&uri)
    }

    #[test]
    fn known_parameters_are_read_and_checked() {
        let params = parse(
            "r=1&w=all&dw=one&pw=2&timeout=70&returnbody=true&touch=true&sloppy=false&vtag=a%20b&notfound_ok=true&x=y",
        );
        let params = params.expect("valid");
        assert_eq!((params.r, params.w, params.dw), (Threshold::Count(1), Threshold::All, Threshold::One));
        assert_eq!(
            (params.timeout, params.return_body, params.touch, params.sloppy),
            (70, true, true, Some(false))
        );
        assert_eq!(params.vtag.as_deref(), Some("a b"));
        for query in
            ["r=-1", "r=", "w=many", "timeout=0", "timeout=soon", "returnbody=yes", "sloppy=", "r=%ff"]
        {
            assert!(parse(query).is_err(), "{query}");
        }
    }
}

//! When a value expires, as a header.

use std::time::{Duration, SystemTime};

use axum::http::{HeaderMap, HeaderName};
use gramme_object::Expiry;
use gramme_object::limits::LATEST_EXPIRY;

use crate::interfaces::http::error::HttpError;

pub(super) const EXPIRES: HeaderName = HeaderName::from_static("x-gramme-expires");

/// What a write asks for: seconds from now, an instant as a date, or `never`.
pub(super) fn expiry(headers: &HeaderMap) -> Result<Expiry, HttpError> {
    let mut values = headers.get_all(EXPIRES).iter();
    let Some(value) = values.next() else { return Ok(Expiry::AsBucket) };
    let parsed = value.to_str().ok().filter(|_| values.next().is_none()).and_then(parse);
    parsed.ok_or_else(|| {
        let wanted = "seconds from now (at least 1), an instant such as 2030-01-31T12:00:00Z or \
                      Thu, 31 Jan 2030 12:00:00 GMT, or never; once";
        HttpError::bad_request("bad-header", format!("{EXPIRES}: {wanted}"))
    })
}

fn parse(text: &str) -> Option<Expiry> {
    if text == "never" {
        return Some(Expiry::Never);
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        let seconds: u64 = text.parse().ok().filter(|seconds| *seconds > 0)?;
        return Some(Expiry::After(seconds.saturating_mul(1_000)));
    }
    let date = httpdate::parse_http_date(text).ok().or_else(|| humantime::parse_rfc3339(text).ok())?;
    let since = date.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(Expiry::At(u64::try_from(since.as_millis()).ok()?))
}

/// A time in milliseconds since 1970, as headers have it.
pub(super) fn http_date(millis: u64) -> String {
    httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_millis(millis.min(LATEST_EXPIRY)))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn seconds_instants_and_never_are_told_apart() {
        let read = |text: &str| {
            let headers = [(EXPIRES, HeaderValue::from_str(text).expect("a header"))].into_iter().collect();
            expiry(&headers).ok()
        };
        assert_eq!(read("60"), Some(Expiry::After(60_000)));
        assert_eq!(read("99999999999999999999"), None);
        assert_eq!(read("18446744073709551615"), Some(Expiry::After(u64::MAX)));
        assert_eq!(read("never"), Some(Expiry::Never));
        let instant = Some(Expiry::At(1_895_745_600_000));
        assert_eq!(read("2030-01-27T12:00:00Z"), instant);
        assert_eq!(read("Sun, 27 Jan 2030 12:00:00 GMT"), instant);
        assert_eq!(http_date(1_895_745_600_000), "Sun, 27 Jan 2030 12:00:00 GMT");
        assert_eq!(http_date(u64::MAX), "Fri, 31 Dec 9999 23:59:59 GMT");
        for wrong in ["", "0", "-1", "1.5", "soon", "Never", "1969-12-31T23:59:59Z", "2030-13-01T00:00:00Z"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        let twice: HeaderMap = HeaderMap::from_iter([(EXPIRES, HeaderValue::from_static("1"))]);
        let mut twice = twice;
        twice.append(EXPIRES, HeaderValue::from_static("2"));
        assert!(expiry(&twice).is_err());
        assert_eq!(expiry(&HeaderMap::new()).ok(), Some(Expiry::AsBucket));
    }
}

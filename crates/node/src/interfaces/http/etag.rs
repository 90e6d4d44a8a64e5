//! Conditions as headers.

use axum::http::{HeaderMap, HeaderName, header};

use crate::interfaces::http::error::HttpError;
use crate::interfaces::http::params::context_of;
use crate::requests::{Condition, Tag};

const IF_NOT_MODIFIED: HeaderName = HeaderName::from_static("x-gramme-if-not-modified");
const RIAK_IF_NOT_MODIFIED: HeaderName = HeaderName::from_static("x-riak-if-not-modified");

/// As it stands in a header.
pub(super) fn quoted(tag: &str) -> String {
    format!("\"{tag}\"")
}

/// The conditions of a request, from all lines of each header.
pub(super) fn condition(headers: &HeaderMap) -> Result<Condition, HttpError> {
    let not_modified = headers.get(IF_NOT_MODIFIED).or_else(|| headers.get(RIAK_IF_NOT_MODIFIED));
    Ok(Condition {
        matches: tags(headers, &header::IF_MATCH)?,
        none_match: tags(headers, &header::IF_NONE_MATCH)?,
        unmodified_since: time(headers, &header::IF_UNMODIFIED_SINCE),
        modified_since: time(headers, &header::IF_MODIFIED_SINCE),
        covered_by: not_modified.map(context_of).transpose()?,
    })
}

fn tags(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Vec<Tag>>, HttpError> {
    let mut all = None;
    for value in headers.get_all(name) {
        let mut rest = value.to_str().map_err(|_| bad(name))?.trim();
        let all = all.get_or_insert_with(Vec::new);
        while !rest.is_empty() {
            let (tag, after) = next_tag(rest).ok_or_else(|| bad(name))?;
            all.push(tag);
            rest = after;
        }
    }
    // `*` stands alone.
    let is_mixed = all.as_ref().is_some_and(|all| all.len() > 1 && all.contains(&Tag::Any));
    if is_mixed { Err(bad(name)) } else { Ok(all) }
}

/// The first tag of a list, and what follows it. A comma inside the quotes belongs to the tag.
fn next_tag(list: &str) -> Option<(Tag, &str)> {
    let (tag, after) = if let Some(after) = list.strip_prefix('*') {
        (Tag::Any, after)
    } else {
        let weak = list.strip_prefix("W/");
        let (tag, after) = weak.unwrap_or(list).strip_prefix('"')?.split_once('"')?;
        let tag = tag.to_owned();
        (if weak.is_some() { Tag::Weak(tag) } else { Tag::Strong(tag) }, after)
    };
    match after.trim_start() {
        "" => Some((tag, "")),
        after => Some((tag, after.strip_prefix(',')?.trim_start())),
    }
}

/// A date that is not one is as if it were not there.
fn time(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    let date = httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok()?;
    date.duration_since(std::time::UNIX_EPOCH).ok().map(|since| since.as_secs())
}

fn bad(name: &HeaderName) -> HttpError {
    HttpError::bad_request("bad-header", format!("{name}: tags in quotes, or *"))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn all_lines_count_and_weak_tags_are_told_apart() {
        let mut headers = HeaderMap::new();
        headers.append(header::IF_MATCH, HeaderValue::from_static("\"a,b\", W/\"c\""));
        headers.append(header::IF_MATCH, HeaderValue::from_static("\"d\""));
        let tags = [Tag::Strong("a,b".into()), Tag::Weak("c".into()), Tag::Strong("d".into())];
        assert_eq!(condition(&headers).expect("valid").matches.as_deref(), Some(&tags[..]));
        for bad in ["a", "\"a", "\"a\" \"b\"", "* \"a\"", "*, \"a\""] {
            let mut headers = HeaderMap::new();
            headers.append(header::IF_NONE_MATCH, HeaderValue::from_static(bad));
            assert!(condition(&headers).is_err(), "{bad}");
        }
    }
}

//! Which of a few representations a client prefers, as `Accept` says it (RFC 9110, section 12.5.1).

use axum::http::{HeaderMap, header};

/// How much a client wants a media type, in thousandths: 0 not at all. Without `Accept` it takes anything.
pub(super) fn weight(headers: &HeaderMap, kind: &str, subtype: &str) -> u32 {
    let lines = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut best = None;
    let mut is_given = false;
    for range in lines.flat_map(|line| line.split(',')) {
        is_given = true;
        let mut parts = range.split(';').map(str::trim);
        let Some((of, sub)) = parts.next().and_then(|range| range.split_once('/')) else { continue };
        let specific = match (of.eq_ignore_ascii_case(kind), sub.eq_ignore_ascii_case(subtype)) {
            (true, true) => 3,
            (true, false) if sub == "*" => 2,
            (false, _) if of == "*" && sub == "*" => 1,
            _ => continue,
        };
        let weight = parts.find_map(quality).unwrap_or(1_000);
        // The most specific range decides.
        best = best.max(Some((specific, weight)));
    }
    match best {
        Some((_, weight)) => weight,
        None if is_given => 0,
        None => 1_000,
    }
}

fn quality(parameter: &str) -> Option<u32> {
    let (name, value) = parameter.split_once('=')?;
    if !name.trim().eq_ignore_ascii_case("q") {
        return None;
    }
    let value: f64 = value.trim().parse().ok()?;
    Some((value.clamp(0.0, 1.0) * 1_000.0) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_range_decides() {
        let weights = |accept: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().expect("a header"));
            (weight(&headers, "multipart", "mixed"), weight(&headers, "text", "plain"))
        };
        assert_eq!(weights("multipart/mixed"), (1_000, 0));
        assert_eq!(weights("*/*;q=0.5, multipart/mixed;q=0"), (0, 500));
        assert_eq!(weights("multipart/*; q=0.3, text/plain;q=0.8"), (300, 800));
        assert_eq!(weights("application/json"), (0, 0));
        assert_eq!(weight(&HeaderMap::new(), "multipart", "mixed"), 1_000);
    }
}

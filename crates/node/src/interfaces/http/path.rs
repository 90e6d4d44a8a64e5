//! What a path names. Bucket and key are bytes, percent-encoded; `/` in them is `%2F`.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};

use crate::interfaces::http::error::HttpError;

/// A bucket of a type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BucketName {
    pub(super) bucket_type: String,
    pub(super) bucket: Vec<u8>,
    /// Whether the path named the type.
    typed: bool,
}

/// A key of a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ObjectName {
    pub(super) bucket: BucketName,
    pub(super) key: Vec<u8>,
}

/// A page about the node or the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    Index,
    Ping,
    Stats,
    Status,
    Metrics,
    Livez,
    Readyz,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Resource {
    Object(ObjectName),
    Keys(BucketName),
    Properties(BucketName),
    /// A type's properties.
    TypeProperties(String),
    /// The buckets of a type.
    Buckets(String),
    Admin(Page),
    /// What the nodes hold of a key.
    Explain(ObjectName),
    /// What a node has lost is to be accepted as lost.
    AcceptLoss,
    /// What is planned for the ring.
    Plan,
    /// The plan is to be decided.
    Commit,
    /// What moves.
    Transfers,
    /// Who belongs to the cluster, and who owns what.
    Ring,
    /// A node that joins.
    Members,
}

const PAGES: [(&str, Page); 7] = [
    ("/", Page::Index),
    ("/ping", Page::Ping),
    ("/stats", Page::Stats),
    ("/admin/status", Page::Status),
    ("/metrics", Page::Metrics),
    ("/livez", Page::Livez),
    ("/readyz", Page::Readyz),
];

const ADMIN: [(&str, Resource); 6] = [
    ("/admin/accept-loss", Resource::AcceptLoss),
    ("/admin/plan", Resource::Plan),
    ("/admin/plan/commit", Resource::Commit),
    ("/admin/transfers", Resource::Transfers),
    ("/admin/ring", Resource::Ring),
    ("/admin/members", Resource::Members),
];

pub(super) fn parse(path: &str) -> Result<Resource, HttpError> {
    if let Some((_, page)) = PAGES.iter().find(|(known, _)| *known == path) {
        return Ok(Resource::Admin(*page));
    }
    if let Some(name) = path.strip_prefix("/admin/explain/") {
        return explain(name);
    }
    if let Some((_, resource)) = ADMIN.iter().find(|(known, _)| *known == path) {
        return Ok(resource.clone());
    }
    let unknown = || HttpError::no_such_resource(path);
    let segments: Vec<&str> = path.strip_prefix('/').ok_or_else(unknown)?.split('/').collect();
    let (bucket_type, rest) = match segments.as_slice() {
        ["types", bucket_type, rest @ ..] => (Some(*bucket_type), rest),
        rest => (None, rest),
    };
    let type_name = || -> Result<String, HttpError> {
        let name = bucket_type.map(decode).transpose()?.unwrap_or_else(|| b"default".to_vec());
        String::from_utf8(name).map_err(|_| HttpError::bad_path("a bucket type is text"))
    };
    let (bucket, rest) = match rest {
        ["buckets", bucket, rest @ ..] => (bucket, rest),
        ["buckets"] => return Ok(Resource::Buckets(type_name()?)),
        ["props"] if bucket_type.is_some() => return Ok(Resource::TypeProperties(type_name()?)),
        _ => return Err(unknown()),
    };
    let bucket_name = || -> Result<BucketName, HttpError> {
        Ok(BucketName { bucket_type: type_name()?, bucket: decode(bucket)?, typed: bucket_type.is_some() })
    };
    match rest {
        ["keys", key] => Ok(Resource::Object(ObjectName { bucket: bucket_name()?, key: decode(key)? })),
        ["keys"] => Ok(Resource::Keys(bucket_name()?)),
        ["props"] => Ok(Resource::Properties(bucket_name()?)),
        ["keys", _, _, ..] => Err(HttpError::bad_path("a key's slashes are written %2F")),
        _ => Err(unknown()),
    }
}

/// `BUCKET/KEY`, or `types/TYPE/BUCKET/KEY`.
fn explain(name: &str) -> Result<Resource, HttpError> {
    let segments: Vec<&str> = name.split('/').collect();
    let (bucket_type, bucket, key, typed) = match segments[..] {
        [bucket, key] => ("default", bucket, key, false),
        ["types", bucket_type, bucket, key] => (bucket_type, bucket, key, true),
        _ => {
            return Err(HttpError::bad_path(
                "/admin/explain/{bucket}/{key} is wanted; slashes are written %2F",
            ));
        }
    };
    let bucket_type = String::from_utf8(decode(bucket_type)?);
    let bucket_type = bucket_type.map_err(|_| HttpError::bad_path("a bucket type is text"))?;
    let bucket = BucketName { bucket_type, bucket: decode(bucket)?, typed };
    Ok(Resource::Explain(ObjectName { bucket, key: decode(key)? }))
}

fn decode(segment: &str) -> Result<Vec<u8>, HttpError> {
    let mut rest = segment.as_bytes();
    while let Some(at) = rest.iter().position(|&byte| byte == b'%') {
        let is_hex = |at: usize| rest.get(at).is_some_and(u8::is_ascii_hexdigit);
        if !(is_hex(at + 1) && is_hex(at + 2)) {
            return Err(HttpError::bad_path("a % is followed by two hexadecimal digits"));
        }
        rest = &rest[at + 3..];
    }
    Ok(percent_decode_str(segment).collect())
}

/// What need not be encoded in a path's segment.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A segment as it stands in a path.
pub(crate) fn encode(bytes: &[u8]) -> String {
    percent_encode(bytes, SEGMENT).to_string()
}

impl ObjectName {
    /// The path that names it.
    pub(super) fn path(&self) -> String {
        let BucketName { bucket_type, bucket, typed } = &self.bucket;
        let prefix =
            if *typed { format!("/types/{}", encode(bucket_type.as_bytes())) } else { String::new() };
        format!("{prefix}/buckets/{}/keys/{}", encode(bucket), encode(&self.key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(path: &str) -> (String, Vec<u8>, Vec<u8>) {
        match parse(path) {
            Ok(Resource::Object(name)) => (name.bucket.bucket_type, name.bucket.bucket, name.key),
            other => panic!("{path}: {other:?}"),
        }
    }

    #[test]
    fn names_are_bytes() {
        assert_eq!(object("/buckets/b/keys/k"), ("default".into(), b"b".to_vec(), b"k".to_vec()));
        assert_eq!(
            object("/types/lww/buckets/a%2Fb/keys/%00%ff"),
            ("lww".into(), b"a/b".to_vec(), vec![0, 255])
        );
        assert_eq!(object("/buckets/keys/keys/props").2, b"props");
    }

    #[test]
    fn a_key_is_explained_by_its_bucket_and_name() {
        let explained = |path: &str| match parse(path) {
            Ok(Resource::Explain(name)) => Some((name.bucket.bucket_type, name.bucket.bucket, name.key)),
            _ => None,
        };
        let of =
            |name: &str, bucket: &[u8], key: &[u8]| Some((name.to_owned(), bucket.to_vec(), key.to_vec()));
        assert_eq!(explained("/admin/explain/b/a%2Fk"), of("default", b"b", b"a/k"));
        assert_eq!(explained("/admin/explain/types/lww/b/k"), of("lww", b"b", b"k"));
        for wrong in ["/admin/explain/b", "/admin/explain/a/b/c", "/admin/explain/types/%ff/b/k"] {
            assert_eq!(explained(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_no_path_is_told() {
        for path in [
            "/buckets/b/keys/a/b",
            "/buckets/b/keys/%zz",
            "/buckets/b/keys/%f",
            "/types/%ff/buckets/b/keys/k",
        ] {
            assert_eq!(parse(path).expect_err("refused").status().as_u16(), 400, "{path}");
        }
        for path in ["/nothing", "/props", "/buckets/b", "/types/t/keys/k", "/admin"] {
            assert_eq!(parse(path).expect_err("refused").status().as_u16(), 404, "{path}");
        }
    }

    #[test]
    fn a_path_names_what_it_came_from() {
        for path in ["/buckets/a%2Fb/keys/%00k", "/types/lww/buckets/b/keys/k~1"] {
            let Ok(Resource::Object(name)) = parse(path) else { panic!("{path}") };
            assert_eq!(name.path(), path);
        }
    }
}

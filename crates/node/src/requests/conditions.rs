//! What a request demands of what is there, and the tags by which versions are named.
//!
//! Checked by the coordinator against a read at R: advisory, not atomic across coordinators. A write whose
//! condition holds replaces what it was checked against, so that two such writes at once leave siblings and
//! lose neither.

use bytes::Bytes;
use gramme_object::Object;
use gramme_replica::Found;

/// The tag of one version.
pub(crate) fn version_tag(dot: &impl std::fmt::Display) -> String {
    short_hash(dot.to_string().as_bytes())
}

/// The tag of all that a key holds: of its version, or with siblings of their context.
pub(crate) fn object_tag(object: &Object) -> String {
    match object.siblings() {
        [(dot, _)] => version_tag(dot),
        _ => {
            let mut context = Vec::new();
            object.context().encode(&mut context);
            // A value that expires changes what there is, and no context.
            context.extend(object.versions().values().map(|sibling| u8::from(sibling.is_tombstone())));
            short_hash(&context)
        }
    }
}

fn short_hash(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex()[..22].to_owned()
}

/// A tag as a condition names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tag {
    /// Whatever is there.
    Any,
    /// This one.
    Strong(String),
    /// This one, or one that is as good: it never answers for a write.
    Weak(String),
}

/// What a request demands; nothing that is not given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Condition {
    /// One of these is there.
    pub(crate) matches: Option<Vec<Tag>>,
    /// None of these is there.
    pub(crate) none_match: Option<Vec<Tag>>,
    /// It was not written after this, in seconds since 1970; counts only without `matches`.
    pub(crate) unmodified_since: Option<u64>,
    /// It was written after this, in seconds since 1970; counts only without `none_match`, and for reads.
    pub(crate) modified_since: Option<u64>,
    /// A sealed context that covers every live version.
    pub(crate) covered_by: Option<Bytes>,
}

/// Why a condition does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused(pub(crate) &'static str);

impl Condition {
    /// Whether a write must look at what is there first.
    pub(crate) const fn is_of_write(&self) -> bool {
        self.matches.is_some()
            || self.none_match.is_some()
            || self.unmodified_since.is_some()
            || self.covered_by.is_some()
    }

    /// Checks what a write would change.
    pub(crate) fn check_write(&self, found: &Found) -> Result<(), Refused> {
        let object = &found.object;
        self.check_there(object)?;
        if self.none_match.as_ref().is_some_and(|tags| names(tags, object, true)) {
            return Err(Refused("what is stored is one of those that the condition excludes"));
        }
        if self.covered_by.is_some() && !found.is_covered {
            return Err(Refused("something is stored that the context of the condition does not cover"));
        }
        Ok(())
    }

    /// Checks what a read shows; what was not modified is told by [`Self::is_known`].
    pub(crate) fn check_read(&self, object: &Object) -> Result<(), Refused> {
        self.check_there(object)
    }

    fn check_there(&self, object: &Object) -> Result<(), Refused> {
        match (&self.matches, self.unmodified_since) {
            (Some(tags), _) if !names(tags, object, false) => {
                Err(Refused("what is stored is not what the condition names"))
            }
            (None, Some(since)) if object.has_value() && modified(object) > since => {
                Err(Refused("what is stored was written after the time of the condition"))
            }
            _ => Ok(()),
        }
    }

    /// Whether a reader has this already.
    pub(crate) fn is_known(&self, object: &Object, tag: &str) -> bool {
        match (&self.none_match, self.modified_since) {
            _ if !object.has_value() => false,
            (Some(tags), _) => tags.iter().any(|wanted| is_tag(wanted, tag, true)),
            (None, Some(since)) => modified(object) <= since,
            (None, None) => false,
        }
    }
}

fn is_tag(wanted: &Tag, tag: &str, weakly: bool) -> bool {
    match wanted {
        Tag::Any => true,
        Tag::Strong(wanted) => wanted == tag,
        Tag::Weak(wanted) => weakly && wanted == tag,
    }
}

fn names(tags: &[Tag], object: &Object, weakly: bool) -> bool {
    let tag = object_tag(object);
    object.has_value() && tags.iter().any(|wanted| is_tag(wanted, &tag, weakly))
}

/// When it was written last, or something in it expired, in seconds since 1970: finer a date in a header is not.
fn modified(object: &Object) -> u64 {
    let expired = object.versions().values().filter(|sibling| sibling.is_purged());
    let expired = expired.filter_map(|sibling| sibling.expires).max().unwrap_or_default();
    object.newest_stamp().millis().max(expired) / 1_000
}

#[cfg(test)]
mod tests {
    use gramme_object::{Content, Sibling, Stamp};
    use gramme_vclock::{Actor, Context, Dot};

    use super::*;

    /// A version that stays, and one that expires.
    fn siblings() -> Object {
        let version = |number, expires| {
            let content = Some(Content::from_body(b"v"));
            let sibling = Sibling { stamp: Stamp::at_millis(1_000), write_id: number, expires, content };
            Object::from_write(&Context::new(), Dot::new(Actor(number), 1), sibling)
        };
        let mut object = version(1, None);
        object.merge(&version(2, Some(5_000)));
        object
    }

    #[test]
    fn what_has_expired_is_another_representation() {
        let (before, after) = (siblings().at_time(4_999), siblings().at_time(5_000));
        let none_match = Some(vec![Tag::Strong(object_tag(&before))]);
        let known = Condition { none_match, ..Condition::default() };
        assert!(known.is_known(&before, &object_tag(&before)));
        assert!(
            !known.is_known(&after, &object_tag(&after)),
            "whoever holds both is told that nothing changed"
        );
        let known = Condition { modified_since: Some(4), ..Condition::default() };
        assert!(known.is_known(&before, "") && !known.is_known(&after, ""));
    }
}

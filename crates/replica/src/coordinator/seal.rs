//! Contexts as clients hold them: opaque and authenticated.
//!
//! A context decides what a put replaces. One that was forged, mixed up or moved to another key could erase
//! data without a trace, since counters are shared by all keys of a partition. So a context leaves the
//! cluster under a seal, keyed blake3 over the key's full name and the context, with the id of the secret:
//! two secrets are valid at once, so that they can be changed without a pause. What the cluster gave out itself
//! it takes back, however long it is.
//!
//! ```text
//! u8 version = 1 | u8 secret's id | seal (16) | context (see gramme-vclock)
//! ```
//!
//! The seal covers version and id too.

use bytes::Bytes;
use gramme_object::Key;
use gramme_quorum::ContextError;
use gramme_vclock::Context;

const VERSION: u8 = 1;
const SEAL: usize = 16;

/// The secrets under which contexts are sealed.
#[derive(Clone)]
pub struct Secrets {
    /// New contexts are sealed under this one.
    pub current: (u8, [u8; 32]),
    /// Contexts sealed under this one are still accepted.
    pub previous: Option<(u8, [u8; 32])>,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets { .. }")
    }
}

impl Secrets {
    /// Seals `context` for `key`.
    #[must_use]
    pub fn seal(&self, key: &Key, context: &Context) -> Bytes {
        let mut encoded = Vec::new();
        context.encode(&mut encoded);
        let (id, secret) = &self.current;
        let mut token = Vec::with_capacity(2 + SEAL + encoded.len());
        token.extend([VERSION, *id]);
        token.extend_from_slice(&seal(secret, *id, key, &encoded).as_bytes()[..SEAL]);
        token.extend_from_slice(&encoded);
        token.into()
    }

    /// Opens a context that was sealed for `key`; no bytes at all are the empty context.
    ///
    /// # Errors
    /// [`ContextError`] if it was not given out for this key, or under a secret that is no longer known.
    pub fn open(&self, key: &Key, token: &[u8]) -> Result<Context, ContextError> {
        if token.is_empty() {
            return Ok(Context::new());
        }
        let (&[version, id], rest) = token.split_first_chunk().ok_or(ContextError::Malformed)?;
        let (claimed, encoded) = rest.split_first_chunk::<SEAL>().ok_or(ContextError::Malformed)?;
        if version != VERSION {
            return Err(ContextError::Malformed);
        }
        let known = [Some(&self.current), self.previous.as_ref()];
        let (_, secret) =
            known.into_iter().flatten().find(|(known, _)| *known == id).ok_or(ContextError::Expired)?;
        let right = seal(secret, id, key, encoded);
        // In constant time: the comparison must not tell a forger how far it got.
        let differ = right.as_bytes().iter().zip(claimed).fold(0, |differ, (a, b)| differ | (a ^ b));
        if differ != 0 {
            return Err(ContextError::Forged);
        }
        let mut input = encoded;
        let context = Context::decode(&mut input).map_err(|_| ContextError::Malformed)?;
        if input.is_empty() { Ok(context) } else { Err(ContextError::Malformed) }
    }
}

fn seal(secret: &[u8; 32], id: u8, key: &Key, context: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_keyed(secret);
    hasher.update(&[VERSION, id]);
    hasher.update(&(key.as_bytes().len() as u64).to_le_bytes());
    hasher.update(key.as_bytes());
    hasher.update(context);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use gramme_vclock::{Actor, Dot};

    use super::*;

    fn secrets(current: u8, previous: Option<u8>) -> Secrets {
        Secrets { current: (current, [current; 32]), previous: previous.map(|id| (id, [id; 32])) }
    }

    fn key(name: &str) -> Key {
        Key::new("default", "b", name).expect("valid parts")
    }

    #[test]
    fn a_context_is_bound_to_its_key_and_secret() {
        let context: Context = [Dot::new(Actor(1), 2)].into_iter().collect();
        let token = secrets(1, None).seal(&key("a"), &context);
        assert_eq!(secrets(1, None).open(&key("a"), &token), Ok(context.clone()));
        assert_eq!(secrets(1, None).open(&key("b"), &token), Err(ContextError::Forged));
        assert_eq!(secrets(2, Some(1)).open(&key("a"), &token), Ok(context));
        assert_eq!(secrets(3, Some(2)).open(&key("a"), &token), Err(ContextError::Expired));
        assert_eq!(secrets(1, None).open(&key("a"), b""), Ok(Context::new()));
    }

    /// A comparison that adds the differences up would let two that are alike cancel each other.
    #[test]
    fn two_changes_that_are_alike_are_noticed() {
        let mut token = secrets(1, None).seal(&key("a"), &Context::new()).to_vec();
        (token[2], token[3]) = (token[2] ^ 1, token[3] ^ 1);
        assert_eq!(secrets(1, None).open(&key("a"), &token), Err(ContextError::Forged));
    }

    #[test]
    fn any_change_is_noticed() {
        let context: Context = [Dot::new(Actor(1), 2)].into_iter().collect();
        let token = secrets(1, None).seal(&key("a"), &context);
        for at in 0..token.len() {
            let mut changed = token.to_vec();
            changed[at] ^= 1;
            assert!(secrets(1, None).open(&key("a"), &changed).is_err(), "byte {at}");
            assert!(secrets(1, None).open(&key("a"), &token[..at.max(1)]).is_err(), "cut at {at}");
        }
    }
}

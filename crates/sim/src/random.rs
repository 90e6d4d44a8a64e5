//! Randomness, forked by purpose from one seed: a draw more in one place does not shift every other.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// The generator of one purpose.
pub(crate) type Rng = ChaCha8Rng;

/// The generator of `seed` for `purpose`.
pub(crate) fn fork(seed: u64, purpose: &str) -> Rng {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes()).update(purpose.as_bytes());
    Rng::from_seed(*hasher.finalize().as_bytes())
}

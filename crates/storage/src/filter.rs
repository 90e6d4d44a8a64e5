//! Which keys are certainly not in the engine.
//!
//! The first write of a key must know that there is nothing to merge with. Asking the engine for a key that is
//! not there is its slowest look-up: no part of the way is in its cache. So a Bloom filter in memory remembers
//! the keys that are, or ever were, there: 12 bits a key, and about one false alarm in 200, which costs that
//! look-up and nothing else.
//!
//! It is never stored. At a start it is built from the rows that are read for the proof, and from the log; from
//! then on a key is added when its first batch is committed. So it cannot be older than the store. Keys that
//! were removed stay in it until the next start.
//!
//! Each key lies in one block of 64 bytes, so a look-up costs one miss of the processor's cache (Putze, Sanders
//! and Singler, 2007). When it is full a larger layer is put beside it.

const BLOCK: usize = 8;
const BITS_PER_KEY: u64 = 12;
const HASHES: u32 = 6;
/// Keys of the first layer; each further one holds four times as many.
const FIRST: u64 = 4_096;

#[derive(Debug)]
struct Layer {
    blocks: Vec<[u64; BLOCK]>,
    /// How many more keys it takes.
    left: u64,
}

/// A set of 64-bit hashes that may say yes where it should say no, and never the reverse.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    layers: Vec<Layer>,
}

impl Filter {
    /// A filter for about so many keys, and some more.
    pub(crate) fn for_keys(keys: u64) -> Self {
        Self { layers: vec![Layer::new((keys + keys / 2).max(FIRST))] }
    }

    /// Whether `hash` may have been inserted.
    pub(crate) fn may_contain(&self, hash: u64) -> bool {
        self.layers.iter().any(|layer| layer.may_contain(hash))
    }

    pub(crate) fn insert(&mut self, hash: u64) {
        if self.may_contain(hash) {
            return;
        }
        match self.layers.last_mut() {
            Some(layer) if layer.left > 0 => layer.insert(hash),
            last => {
                let keys = last.map_or(FIRST, |layer| 4 * layer.keys());
                let mut layer = Layer::new(keys);
                layer.insert(hash);
                self.layers.push(layer);
            }
        }
    }
}

impl Layer {
    fn new(keys: u64) -> Self {
        let blocks = (keys * BITS_PER_KEY).div_ceil(64 * BLOCK as u64);
        Self { blocks: vec![[0; BLOCK]; blocks as usize], left: keys }
    }

    const fn keys(&self) -> u64 {
        self.blocks.len() as u64 * 64 * BLOCK as u64 / BITS_PER_KEY
    }

    fn block_of(&self, mixed: u64) -> usize {
        (((mixed >> 32) * self.blocks.len() as u64) >> 32) as usize
    }

    fn may_contain(&self, hash: u64) -> bool {
        let mixed = mix(hash);
        let block = &self.blocks[self.block_of(mixed)];
        bits(mixed).all(|(word, bit)| block[word] & bit != 0)
    }

    fn insert(&mut self, hash: u64) {
        let mixed = mix(hash);
        let at = self.block_of(mixed);
        let block = &mut self.blocks[at];
        bits(mixed).for_each(|(word, bit)| block[word] |= bit);
        self.left -= 1;
    }
}

/// Which bits of a block stand for a hash: nine bits of a second mix for each.
fn bits(mixed: u64) -> impl Iterator<Item = (usize, u64)> {
    let again = mix(mixed ^ 0x9e37_79b9_7f4a_7c15);
    (0..HASHES).map(move |number| {
        let at = again >> (9 * number) & 511;
        ((at >> 6) as usize, 1 << (at & 63))
    })
}

/// The finaliser of splitmix64.
const fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_inserted_is_there_and_little_else() {
        for filter in [Filter::for_keys(50_000), Filter::default()] {
            let mut filter = filter;
            assert!(!filter.may_contain(7));
            (0..50_000).for_each(|key| filter.insert(mix(key)));
            assert!((0..50_000).all(|key| filter.may_contain(mix(key))));
            let alarms = (50_000..150_000).filter(|key| filter.may_contain(mix(*key))).count();
            assert!(alarms < 2_000, "{alarms} false alarms in 100,000");
        }
    }
}

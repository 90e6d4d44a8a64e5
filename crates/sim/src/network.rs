//! A network that loses, delays and repeats.

use bytes::Bytes;
use gramme_wire::PeerMessage;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// A message on its way, as bytes.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) id: u64,
    pub(crate) method: u16,
    pub(crate) body: Bytes,
}

impl Packet {
    pub(crate) fn new(from: usize, to: usize, id: u64, message: &PeerMessage) -> Self {
        let mut body = Vec::new();
        message.encode(&mut body);
        Self { from, to, id, method: message.method(), body: body.into() }
    }
}

/// How bad the network is, in thousandths.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weather {
    pub(crate) loss: u32,
    pub(crate) duplication: u32,
    pub(crate) delay: u32,
}

/// When the copies of a packet arrive, in microseconds from now: none, one or two of them.
pub(crate) fn arrivals(weather: Weather, rng: &mut ChaCha8Rng) -> Vec<u64> {
    let chance = |rng: &mut ChaCha8Rng, thousandths: u32| rng.random_range(0..1_000) < thousandths;
    if chance(rng, weather.loss) {
        return Vec::new();
    }
    let copies = 1 + usize::from(chance(rng, weather.duplication));
    let mut arrive = || {
        let slow = if chance(rng, weather.delay) { rng.random_range(0..400_000) } else { 0 };
        rng.random_range(50..500) + slow
    };
    (0..copies).map(|_| arrive()).collect()
}

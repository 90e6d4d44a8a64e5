//! The numbers, chosen by measuring round trips on two busy cores over loopback.

use std::sync::Arc;
use std::time::Duration;

use quinn::congestion::CubicConfig;
use quinn::{AckFrequencyConfig, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};
use quinn_proto::HashedConnectionIdGenerator;

/// Which protocol a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Between nodes, what somebody waits for.
    Node,
    /// Between nodes, what nobody waits for: on a connection of its own it is in nobody's way.
    Background,
    /// From a client to a node.
    Client,
}

impl Protocol {
    pub(crate) const ALL: [Self; 3] = [Self::Node, Self::Background, Self::Client];

    pub(crate) const fn alpn(self) -> &'static [u8] {
        match self {
            Self::Node => b"gramme-node/1",
            Self::Background => b"gramme-background/1",
            Self::Client => b"gramme-client/1",
        }
    }

    pub(crate) fn from_alpn(alpn: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|protocol| protocol.alpn() == alpn)
    }
}

/// How long a handshake may take.
pub(crate) const HANDSHAKE: Duration = Duration::from_secs(2);
/// How often a link asks whether the other side is there.
pub(crate) const PING: Duration = Duration::from_millis(200);
/// After how long a silence the other side is suspected.
pub(crate) const SUSPECT: Duration = Duration::from_millis(600);
/// The largest body that goes on a shared stream; a larger one gets a stream of its own.
pub(crate) const LARGE: usize = 64 << 10;
/// Large frames that are read at once, or wait on one link until they are handled.
pub(crate) const LARGE_AT_ONCE: usize = 4;
/// How long one large frame may take to arrive, or to be taken.
pub(crate) const LARGE_WITHIN: Duration = Duration::from_secs(30);
/// What may wait on one lane: bytes and frames.
pub(crate) const LANE_BYTES: usize = 8 << 20;
pub(crate) const LANE_FRAMES: usize = 8_192;
/// What may wait for streams of its own, in bytes.
pub(crate) const LARGE_BYTES: usize = 64 << 20;
/// What may have been received on one link and not yet been handled, in bytes: one frame of the largest kind,
/// and some small ones.
pub(crate) const RECEIVED_BYTES: usize = crate::frame::MAX_FRAME + (4 << 20);
/// Handshakes under way at once, and connections from one address.
pub(crate) const MAX_INCOMING: usize = 256;
pub(crate) const MAX_PER_ADDRESS: usize = 1_024;
/// From so many handshakes under way on, an address must prove itself first.
pub(crate) const RETRY_FROM: usize = 64;
pub(crate) const SOCKET_BUFFER: usize = 4 << 20;

/// QUIC's idle time: a peer that was killed or stopped is noticed within it.
const IDLE_MILLIS: u32 = 1_000;
const KEEP_ALIVE: Duration = Duration::from_millis(250);
/// Discovery goes this far; a path that carries less is found out by its probes.
const MTU_BOUND: u16 = 6_500;
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;

pub(crate) fn transport() -> Arc<TransportConfig> {
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(10)).max_ack_delay(Some(Duration::from_millis(5)));
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(MTU_BOUND);
    let mut transport = TransportConfig::default();
    transport
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_MILLIS))))
        .keep_alive_interval(Some(KEEP_ALIVE))
        // The default of 333 ms would make the idle time of a connection attempt three seconds.
        .initial_rtt(Duration::from_millis(50))
        .ack_frequency_config(Some(acks))
        .mtu_discovery_config(Some(mtu))
        .enable_segmentation_offload(true)
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
        .send_window(u64::from(CONNECTION_WINDOW))
        .max_concurrent_bidi_streams(VarInt::from_u32(16))
        .max_concurrent_uni_streams(VarInt::from_u32(LARGE_AT_ONCE as u32))
        .datagram_receive_buffer_size(None)
        .datagram_send_buffer_size(0)
        .congestion_controller_factory(Arc::new(CubicConfig::default()));
    Arc::new(transport)
}

/// A reset key and connection ids that are the same after a restart: only with both is a peer's restart
/// noticed at once.
pub(crate) fn endpoint(secret: &[u8]) -> EndpointConfig {
    let reset = blake3::derive_key("gramme 2026 quic stateless reset", secret);
    let ids = blake3::derive_key("gramme 2026 quic connection ids", secret);
    let ids = u64::from_le_bytes([ids[0], ids[1], ids[2], ids[3], ids[4], ids[5], ids[6], ids[7]]);
    let mut config = EndpointConfig::new(Arc::new(ResetKey(reset)));
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(ids)));
    // Lets the peer's discovery go as far as ours. The bound is a valid payload size, so this cannot fail.
    if config.max_udp_payload_size(MTU_BOUND).is_err() {
        tracing::warn!("the largest datagram could not be set");
    }
    config
}

struct ResetKey([u8; 32]);

impl quinn::crypto::HmacKey for ResetKey {
    fn sign(&self, data: &[u8], out: &mut [u8]) {
        out.copy_from_slice(blake3::keyed_hash(&self.0, data).as_bytes());
    }

    fn signature_len(&self) -> usize {
        32
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), quinn::crypto::CryptoError> {
        if blake3::keyed_hash(&self.0, data) == *signature { Ok(()) } else { Err(quinn::crypto::CryptoError) }
    }
}

//! Peers that mean harm, or are broken: each is turned away at its own cost, memory stays bounded, and those
//! who belong are served meanwhile.
//!
//! Raw QUIC against an endpoint on loopback. Another cluster's certificate, and a client's that asks for a
//! node's protocol, are in `links.rs`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gramme_transport::{Authority, Caller, Credentials, Endpoint, Frame, Issued, Kind, LinkEvent, Protocol};
use quinn::crypto::rustls::QuicClientConfig;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::mpsc;

/// How a stream begins, before the number of its lane.
const PREFACE: &[u8] = b"GRM1";
/// What a growth of memory must stay under, in bytes: far below what was sent.
const BOUND: u64 = 64 << 20;

/// A node that echoes, and what it said of links that ended.
struct Victim {
    authority: Authority,
    address: SocketAddr,
    ends: mpsc::UnboundedReceiver<String>,
}

fn credentials(authority: &Authority, issued: &Issued) -> Arc<Credentials> {
    let (certificate, key) = (issued.certificate.as_bytes(), issued.key.as_bytes());
    Arc::new(
        Credentials::from_pem(authority.certificate().as_bytes(), certificate, key).expect("credentials"),
    )
}

fn victim() -> Victim {
    let authority = Authority::found("test").expect("an authority");
    let own = credentials(&authority, &authority.issue_node().expect("a node"));
    let (sender, mut events) = mpsc::channel(64);
    let endpoint = Endpoint::bind(([127, 0, 0, 1], 0).into(), own, Some(gramme_transport::MAX_FRAME), sender)
        .expect("an endpoint");
    let address = endpoint.local_address().expect("an address");
    let (said, ends) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            match event {
                LinkEvent::Frames { link, frames, .. } => {
                    for frame in frames.into_iter().filter(|frame| frame.kind == Kind::Request) {
                        let _ = link.send(Frame { kind: Kind::Reply, ..frame });
                    }
                }
                LinkEvent::Down { reason, .. } => drop(said.send(reason)),
                _ => {}
            }
        }
        drop(endpoint);
    });
    Victim { authority, address, ends }
}

impl Victim {
    /// Somebody who belongs is served.
    async fn serves(&self) {
        let own = credentials(&self.authority, &self.authority.issue_client("honest").expect("a client"));
        let (sender, mut events) = mpsc::channel(64);
        let endpoint = Endpoint::bind(([127, 0, 0, 1], 0).into(), own, None, sender).expect("an endpoint");
        let link = endpoint.connect(self.address, Protocol::Client, None).await.expect("a link");
        let caller = Caller::new(link);
        let taking = caller.clone();
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                if let LinkEvent::Frames { frames, .. } = event {
                    taking.take(frames);
                }
            }
        });
        let body = Bytes::from_static(b"hello");
        assert_eq!(caller.call(1, body.clone(), Duration::from_secs(5)).await, Ok((1, body)));
        endpoint.close().await;
    }

    /// A connection of raw QUIC with a certificate that is good, and these protocols.
    async fn raw(&self, protocols: &[&[u8]]) -> Result<quinn::Connection, String> {
        let (_endpoint, connecting) = self.begin(self.address, protocols)?;
        connecting.await.map_err(|error| error.to_string())
    }

    /// Begins a handshake with whoever is at `address`.
    fn begin(
        &self,
        address: SocketAddr,
        protocols: &[&[u8]],
    ) -> Result<(quinn::Endpoint, quinn::Connecting), String> {
        let issued = self.authority.issue_client("hostile").expect("a client");
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(self.authority.certificate().as_bytes()).expect("PEM");
        roots.add(root).expect("a root");
        let chain = vec![CertificateDer::from_pem_slice(issued.certificate.as_bytes()).expect("PEM")];
        let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).expect("PEM");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .expect("a certificate");
        tls.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).expect("QUIC")));
        let endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).expect("an endpoint");
        let connecting =
            endpoint.connect_with(config, address, "node.gramme").map_err(|error| error.to_string())?;
        Ok((endpoint, connecting))
    }
}

async fn ended(connection: &quinn::Connection) -> String {
    let closed = tokio::time::timeout(Duration::from_secs(20), connection.closed()).await;
    closed.expect("it is turned away").to_string()
}

/// Opens both streams as a client should.
async fn introduced(connection: &quinn::Connection) -> Vec<(quinn::SendStream, quinn::RecvStream)> {
    let mut lanes = Vec::new();
    for lane in [1_u8, 2] {
        let (mut send, mut receive) = connection.open_bi().await.expect("a stream");
        send.write_all(&[PREFACE, &[lane]].concat()).await.expect("written");
        let mut answer = [0; 5];
        receive.read_exact(&mut answer).await.expect("an answer");
        lanes.push((send, receive));
    }
    lanes
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: u64 = status.split(' ').nth(1).expect("a number").parse().expect("a number");
    pages * 4_096
}

#[tokio::test]
async fn another_protocol_is_refused() {
    let victim = victim();
    for protocols in [&[][..], &[&b"h3"[..]], &[&b"gramme-node/2"[..]]] {
        assert!(victim.raw(protocols).await.is_err(), "{protocols:?}");
    }
    victim.serves().await;
}

/// A handshake and then nothing, or half of what is due, or something else.
#[tokio::test]
async fn who_does_not_introduce_itself_is_turned_away() {
    let victim = victim();
    let silent = victim.raw(&[b"gramme-client/1"]).await.expect("a connection");
    let half = victim.raw(&[b"gramme-client/1"]).await.expect("a connection");
    let (mut send, _receive) = half.open_bi().await.expect("a stream");
    send.write_all(&PREFACE[..2]).await.expect("written");
    let other = victim.raw(&[b"gramme-client/1"]).await.expect("a connection");
    let (mut http, _receive) = other.open_bi().await.expect("a stream");
    http.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("written");
    victim.serves().await;
    for connection in [&silent, &half, &other] {
        ended(connection).await;
    }
    victim.serves().await;
}

#[tokio::test]
async fn what_is_no_frame_ends_the_link_with_its_reason() {
    let mut victim = victim();
    let frames: [(&str, &[u8]); 4] = [
        ("4294967295 bytes", &[0xff; 64]),
        ("0 bytes", &[0; 64]),
        ("1073741824 bytes", &[0, 0, 0, 0x40, 1, 0, 0, 0]),
        ("unknown kind", &[16, 0, 0, 0, 99, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    ];
    for (reason, bytes) in frames {
        let connection = victim.raw(&[b"gramme-client/1"]).await.expect("a connection");
        let mut lanes = introduced(&connection).await;
        lanes[1].0.write_all(bytes).await.expect("written");
        ended(&connection).await;
        let said = victim.ends.recv().await.expect("a reason");
        assert!(said.contains(reason), "{reason} was expected: {said}");
        victim.serves().await;
        // The honest one's own end.
        victim.ends.recv().await.expect("a reason");
    }
}

/// Many that promise large frames and send the beginning: nothing is set aside for what has not come.
#[tokio::test]
async fn promises_cost_nothing() {
    let victim = victim();
    let before = resident();
    let mut held = Vec::new();
    for _ in 0..64 {
        let connection = victim.raw(&[b"gramme-client/1"]).await.expect("a connection");
        let lanes = introduced(&connection).await;
        if let Ok(mut large) = connection.open_uni().await {
            // A frame of 60 MiB, of which 20 bytes come.
            let _ = large.write_all(&[0, 0, 0xc0, 3, 1, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).await;
            held.push((connection, lanes, large));
        }
    }
    victim.serves().await;
    let grown = resident().saturating_sub(before);
    assert!(grown < BOUND, "{grown} bytes for 64 promises of 60 MiB");
}

/// Datagrams that are nothing, and first datagrams of handshakes that never go on.
#[tokio::test]
async fn a_flood_is_survived() {
    let victim = victim();
    victim.serves().await;
    let before = resident();
    let mut state = 7_u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    for round in 0..50 {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
        for number in 0..200 {
            let mut datagram: Vec<u8> = (0..1_200).map(|_| random()).collect();
            if number % 2 == 0 {
                // A long header with an initial packet of version 1, and ids of eight bytes.
                datagram[..6].copy_from_slice(&[0xc3, 0, 0, 0, 1, 8]);
                datagram[14] = 8;
                datagram[23] = 0;
            }
            let _ = socket.send_to(&datagram, victim.address);
        }
        if round % 10 == 9 {
            victim.serves().await;
        }
        tokio::task::yield_now().await;
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < BOUND, "{grown} bytes for 12 MB of nothing");
}

/// First datagrams of real handshakes, from whom nothing more is ever heard.
#[tokio::test]
async fn a_flood_of_handshakes_is_survived() {
    const COUNT: usize = 600;
    let victim = victim();
    victim.serves().await;
    // The datagrams go to us first, so that we can send them on and stay silent.
    let sink = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let own = sink.local_addr().expect("an address");
    let mut first = vec![0; 65_536];
    let mut datagrams = Vec::new();
    for _ in 0..COUNT {
        let begun = victim.begin(own, &[b"gramme-client/1"]).expect("a beginning");
        let length = sink.recv(&mut first).await.expect("a first datagram");
        datagrams.push(first[..length].to_vec());
        drop(begun);
        // What it says as it goes is not to be taken for the next one's beginning.
        tokio::task::yield_now().await;
        while sink.try_recv(&mut first).is_ok() {}
    }
    let before = resident();
    for chunk in datagrams.chunks(50) {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
        for datagram in chunk {
            socket.send_to(datagram, victim.address).expect("sent");
        }
        tokio::task::yield_now().await;
    }
    victim.serves().await;
    let grown = resident().saturating_sub(before);
    // Without asking for a proof of the address it is 23 MB; with it, 3.
    assert!(grown < 12 << 20, "{grown} bytes for {COUNT} handshakes");
}

/// Clients that ask for much and take nothing: what waits for them is bounded.
#[tokio::test]
async fn who_reads_nothing_costs_no_more_than_its_bound() {
    const BODY: usize = 32 << 10;
    let victim = victim();
    let header = [1, 0, 7, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let length = (header.len() + BODY) as u32;
    let request = [&length.to_le_bytes()[..], &header, &[5; BODY]].concat();
    let before = resident();
    let mut held = Vec::new();
    for _ in 0..4 {
        let connection = victim.raw(&[b"gramme-client/1"]).await.expect("a connection");
        let mut lanes = introduced(&connection).await;
        let sending = async {
            // 128 MiB, all of which would come back. A node that takes no more of it is within its bound too.
            for _ in 0..4_096 {
                if lanes[1].0.write_all(&request).await.is_err() {
                    break;
                }
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(3), sending).await;
        held.push((connection, lanes));
    }
    let grown = resident().saturating_sub(before);

    assert!(grown < 2 * BOUND, "{grown} bytes for what nobody reads");
    victim.serves().await;
}

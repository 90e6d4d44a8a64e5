//! Links over real sockets on loopback.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gramme_ring::NodeId;
use gramme_transport::{
    Authority, CallError, Caller, ConnectError, Credentials, Endpoint, Frame, Issued, Kind, Link, LinkEvent,
    MAX_FRAME, Protocol, Role, SendError,
};
use tokio::sync::mpsc;

struct Side {
    endpoint: Endpoint,
    events: mpsc::Receiver<LinkEvent>,
    node: Option<NodeId>,
}

impl Side {
    fn address(&self) -> SocketAddr {
        self.endpoint.local_address().expect("a bound socket")
    }

    async fn next(&mut self) -> LinkEvent {
        tokio::time::timeout(Duration::from_secs(10), self.events.recv())
            .await
            .expect("in time")
            .expect("an event")
    }

    async fn up(&mut self) -> Link {
        loop {
            if let LinkEvent::Up(link) = self.next().await {
                return link;
            }
        }
    }

    async fn frames(&mut self) -> (Link, Vec<Frame>) {
        loop {
            if let LinkEvent::Frames { link, frames, .. } = self.next().await {
                return (link, frames);
            }
        }
    }

    async fn down(&mut self) -> String {
        loop {
            if let LinkEvent::Down { reason, .. } = self.next().await {
                return reason;
            }
        }
    }
}

fn side(authority: &Authority, issued: &Issued, listen: bool) -> Side {
    let credentials = Credentials::from_pem(
        authority.certificate().as_bytes(),
        issued.certificate.as_bytes(),
        issued.key.as_bytes(),
    );
    let (sender, events) = mpsc::channel(64);
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let endpoint = Endpoint::bind(
        address,
        Arc::new(credentials.expect("credentials")),
        listen.then_some(gramme_transport::MAX_FRAME),
        sender,
    );
    Side { endpoint: endpoint.expect("an endpoint"), events, node: issued.node }
}

fn authority() -> Authority {
    Authority::found("test").expect("an authority")
}

fn node(authority: &Authority) -> Side {
    side(authority, &authority.issue_node().expect("a node"), true)
}

fn client(authority: &Authority) -> Side {
    side(authority, &authority.issue_client("tester").expect("a client"), false)
}

fn request(id: u64, size: usize) -> Frame {
    let body = (0..size).map(|at| at as u8 ^ id as u8).collect::<Vec<_>>().into();
    Frame { kind: Kind::Request, method: 7, id, ttl: 1_000, body }
}

#[tokio::test]
async fn frames_of_any_size_arrive_both_ways() {
    let authority = authority();
    let (mut a, mut b) = (node(&authority), node(&authority));
    let link = a.endpoint.connect(b.address(), Protocol::Node, b.node).await.expect("a link");
    let back = b.up().await;
    assert_eq!((link.role(), back.role()), (&Role::Node(b.node.unwrap()), &Role::Node(a.node.unwrap())));
    for (from, to) in [(&link, &mut b), (&back, &mut a)] {
        let sizes = [0, 1, 150, 65_536, 65_537, 1 << 20, 5 << 20];
        for (id, size) in sizes.into_iter().enumerate() {
            from.send(request(id as u64, size)).expect("room");
        }
        let mut came = Vec::new();
        while came.len() < sizes.len() {
            came.extend(to.frames().await.1);
        }
        came.sort_by_key(|frame| frame.id);
        for (frame, (id, size)) in came.iter().zip(sizes.into_iter().enumerate()) {
            assert!(*frame == request(id as u64, size), "frame {id} of {size} bytes");
        }
    }
}

#[tokio::test]
async fn only_who_belongs_gets_a_link() {
    let (ours, theirs) = (authority(), authority());
    let mut server = node(&ours);
    let address = server.address();
    // Another cluster's node, though it calls itself the same.
    let stranger = node(&theirs);
    assert!(stranger.endpoint.connect(address, Protocol::Node, server.node).await.is_err());
    // A client that asks for what nodes do.
    let outsider = client(&ours);
    assert!(outsider.endpoint.connect(address, Protocol::Node, server.node).await.is_err());
    // A node that is not the one that was wanted.
    let friend = node(&ours);
    let wrong = friend.endpoint.connect(address, Protocol::Node, Some(NodeId(1))).await;
    assert!(matches!(wrong, Err(ConnectError::WrongPeer { .. })), "{wrong:?}");
    // And who belongs, does.
    outsider.endpoint.connect(address, Protocol::Client, server.node).await.expect("a link");
    assert_eq!(server.up().await.role(), &Role::Client("tester".into()));
}

#[tokio::test]
async fn a_client_cannot_pass_for_a_node() {
    let authority = authority();
    let mut pretender = side(&authority, &authority.issue_client("pretender").expect("a client"), true);
    let honest = client(&authority);
    assert!(honest.endpoint.connect(pretender.address(), Protocol::Client, None).await.is_err());
    let (mut a, b) = (node(&authority), node(&authority));
    for protocol in [Protocol::Node, Protocol::Background] {
        // The connection may stand until the other side has looked at who it is.
        if pretender.endpoint.connect(a.address(), protocol, a.node).await.is_ok() {
            pretender.down().await;
        }
        b.endpoint.connect(a.address(), protocol, a.node).await.expect("a link");
        let link = a.up().await;
        assert_eq!((link.role(), link.protocol()), (&Role::Node(b.node.expect("an id")), protocol));
    }
}

#[tokio::test]
async fn a_peer_that_goes_is_noticed() {
    let authority = authority();
    let (a, b) = (node(&authority), node(&authority));
    let mut a = a;
    a.endpoint.connect(b.address(), Protocol::Node, b.node).await.expect("a link");
    b.endpoint.close().await;
    assert!(a.down().await.contains("going away"));
    assert!(matches!(
        a.endpoint.connect(b.address(), Protocol::Node, b.node).await,
        Err(ConnectError::TimedOut | ConnectError::Failed(_))
    ));
}

/// Answers each request with its own body, except number 2, which it keeps to itself.
async fn echo(mut server: Side) {
    loop {
        let (link, frames) = server.frames().await;
        for frame in frames {
            if frame.kind == Kind::Request && frame.method != 2 {
                let _ = link.send(Frame { kind: Kind::Reply, ..frame });
            }
        }
    }
}

async fn pump(mut client: Side, caller: Caller) {
    loop {
        match client.next().await {
            LinkEvent::Frames { frames, .. } => caller.take(frames),
            LinkEvent::Down { .. } => caller.close(),
            _ => {}
        }
    }
}

#[tokio::test]
async fn calls_have_one_answer_or_none() {
    let authority = authority();
    let (server, client) = (node(&authority), client(&authority));
    let link =
        client.endpoint.connect(server.address(), Protocol::Client, server.node).await.expect("a link");
    let server_endpoint = server.endpoint.clone();
    let caller = Caller::new(link);
    tokio::spawn(echo(server));
    tokio::spawn(pump(client, caller.clone()));
    let within = Duration::from_secs(5);
    for size in [0, 100, 200_000] {
        let body = Bytes::from(vec![size as u8; size]);
        assert_eq!(caller.call(1, body.clone(), within).await, Ok((1, body)));
    }
    let silence = caller.call(2, Bytes::new(), Duration::from_millis(50)).await;
    assert_eq!(silence, Err(CallError::Unknown));
    let waiting = caller.call(2, Bytes::new(), within);
    let closing = async { server_endpoint.close().await };
    assert_eq!(tokio::join!(waiting, closing).0, Err(CallError::Unknown));
    assert_eq!(caller.call(1, Bytes::new(), within).await, Err(CallError::NotSent(SendError::Closed)));
}

#[tokio::test]
async fn a_full_link_says_so_at_once() {
    let authority = authority();
    let (a, b) = (node(&authority), node(&authority));
    let link = a.endpoint.connect(b.address(), Protocol::Node, b.node).await.expect("a link");
    // Nobody reads at `b`: its events are full after a few.
    let mut sent = 0_usize;
    let full = loop {
        match link.send(request(1, 60_000)) {
            Ok(()) => sent += 60_000,
            Err(error) => break error,
        }
        assert!(sent < 64 << 20, "{sent} bytes wait and it still takes more");
    };
    assert_eq!(full, SendError::Busy);
    assert_eq!(link.send(request(1, MAX_FRAME)), Err(SendError::TooLarge));
}

#[tokio::test]
async fn renewed_credentials_count_from_the_next_link_on() {
    let authority = authority();
    let issued = authority.issue_node().expect("a node");
    let mut server = side(&authority, &issued, true);
    let first = client(&authority);
    let standing =
        first.endpoint.connect(server.address(), Protocol::Client, server.node).await.expect("a link");
    server.up().await;
    let credentials = |authority: &Authority, issued: &Issued| {
        let (certificate, key) = (issued.certificate.as_bytes(), issued.key.as_bytes());
        Arc::new(
            Credentials::from_pem(authority.certificate().as_bytes(), certificate, key).expect("credentials"),
        )
    };
    // Another node's, and another cluster's, are refused, and change nothing.
    let stranger = authority.issue_node().expect("a node");
    assert!(server.endpoint.renew(credentials(&authority, &stranger)).is_err());
    // The same key under a new authority: who trusts only the old one is not let in, and does not believe us.
    let next = self::authority();
    let renewed = next.renew_node(&issued.key).expect("a certificate");
    assert_eq!(renewed.node, issued.node);
    server.endpoint.renew(credentials(&next, &renewed)).expect("the same identity");
    let behind = client(&authority);
    assert!(behind.endpoint.connect(server.address(), Protocol::Client, server.node).await.is_err());
    let ahead = client(&next);
    ahead.endpoint.connect(server.address(), Protocol::Client, server.node).await.expect("a link");
    server.up().await;
    // What stood, stands.
    standing.send(request(1, 10)).expect("a standing link");
    assert_eq!(server.frames().await.1, [request(1, 10)]);
}

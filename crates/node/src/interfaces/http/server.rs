//! Connections: how many there may be, how long one may say nothing, and how they end.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;

use crate::driver::Handle;
use crate::interfaces::http::answer;
use crate::predecessor::cannot_listen;

/// Connections at once; one more waits until another ends.
const CONNECTIONS: usize = 4_096;
/// How long a connection may take for the headers of a request, and so how long it may be idle before one.
const HEADERS_WITHIN: Duration = Duration::from_secs(30);
/// How long a client may read nothing of an answer.
const READS_WITHIN: Duration = Duration::from_secs(30);
/// Files that the store, the links and the log need beside connections.
const OTHER_FILES: u64 = 512;
/// How long requests under way may take once the node is going down.
const DRAIN: Duration = Duration::from_secs(5);
/// How long to wait where the system has no more file descriptors.
const AFTER_ERROR: Duration = Duration::from_millis(100);

/// Binds `address`.
pub(crate) async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| cannot_listen(address))
}

/// Serves until `stop` resolves, then lets what is under way end.
pub(crate) async fn serve(
    listener: TcpListener,
    handle: Handle,
    stop: impl Future<Output = ()> + Send + 'static,
) {
    let shared = Arc::clone(&handle.shared);
    let router = Router::new().fallback(answer).with_state(handle);
    let room = Arc::new(Semaphore::new(places()));
    let graceful = GracefulShutdown::new();
    tokio::pin!(stop);
    loop {
        let accepted = async {
            // The semaphore is never closed.
            let place = Arc::clone(&room).acquire_owned().await.ok();
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            accepted = accepted => accepted,
            () = &mut stop => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = graceful.watch(connection(stream, router.clone()));
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    shared.http_connections.fetch_add(1, Ordering::Relaxed);
                    // A client that breaks off is no concern of ours.
                    let _ = connection.await;
                    shared.http_connections.fetch_sub(1, Ordering::Relaxed);
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(AFTER_ERROR).await;
            }
        }
    }
    drop(listener);
    tokio::select! {
        () = graceful.shutdown() => {}
        () = tokio::time::sleep(DRAIN) => tracing::warn!("requests under way were cut off"),
    }
}

/// How many connections there may be: as many as there are file descriptors for, since a store that cannot open
/// its next file ends the process. The system's usual limit is for the shell; ours is what we may have.
fn places() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let is_raised = setrlimit(Resource::Nofile, raised).is_ok();
    let files = if is_raised { limit.maximum } else { limit.current };
    files.map_or(CONNECTIONS, |files| CONNECTIONS.min(files.saturating_sub(OTHER_FILES).max(16) as usize))
}

type Service = TowerToHyperService<Router>;
type Stream = Pin<Box<TimeoutStream<TcpStream>>>;

fn connection(stream: TcpStream, router: Router) -> http1::Connection<TokioIo<Stream>, Service> {
    // Without it small answers would wait for more; if it cannot be set they are only slower.
    let _ = stream.set_nodelay(true);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(READS_WITHIN));
    let stream = Box::pin(stream);
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADERS_WITHIN).half_close(true);
    builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
}

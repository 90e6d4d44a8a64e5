//! Starting again at once after a crash.
//!
//! A killed process is not gone when its death is reported: its threads end one by one, and only the last frees
//! its files and ports, after its memory. A supervisor that starts the node again in that moment finds the store
//! locked or a port taken, the new process ends, and a node that could have served is down until somebody looks.
//! So a start waits a while for what another process holds, and says so; only a process that stays is an error.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::Context;
use gramme_storage::Store;

use crate::config::Config;

/// How long a start waits for another process to let go. Freeing the memory of a large one takes seconds.
const PATIENCE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(20);

/// Waits until nobody else holds the node's store and ports.
///
/// # Errors
/// Who holds what, after some seconds; or that there is no store.
pub(crate) fn wait_until_gone(config: &Config) -> anyhow::Result<()> {
    // A second process of the same node meets the taken ports too, but they are not what is wrong with it.
    let until = Instant::now() + PATIENCE;
    patiently(until, || Ok(Store::check_unused(&config.data_dir)?))?;
    let quic = || UdpSocket::bind(config.quic).map(drop).with_context(|| cannot_listen(config.quic));
    patiently(until, quic)?;
    let http = || TcpListener::bind(config.http).map(drop).with_context(|| cannot_listen(config.http));
    patiently(until, http)
}

/// What is said of an address that cannot be bound.
pub(crate) fn cannot_listen(address: SocketAddr) -> String {
    format!("cannot listen on {address}")
}

/// Tries until it works, or fails for another reason than that something is in use.
fn patiently(until: Instant, mut attempt: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut has_said = false;
    loop {
        let Err(error) = attempt() else { return Ok(()) };
        if !is_in_use(&error) || Instant::now() >= until {
            return Err(error);
        }
        if !std::mem::replace(&mut has_said, true) {
            tracing::warn!("{error:#}; waiting in case it is ending");
        }
        std::thread::sleep(POLL);
    }
}

fn is_in_use(error: &anyhow::Error) -> bool {
    let is_locked = matches!(error.downcast_ref(), Some(gramme_storage::OpenError::Locked(_)));
    let io = error.downcast_ref::<std::io::Error>();
    is_locked || io.is_some_and(|io| io.kind() == std::io::ErrorKind::AddrInUse)
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::path::Path;

    use gramme_storage::{EngineKind, Hooks, Options};

    use super::*;

    fn long() -> Instant {
        Instant::now() + Duration::from_secs(3_600)
    }

    fn open(path: &Path) -> Store {
        let options = || Options::new(EngineKind::Memory, 4);
        Store::create(path, [1; 16], &options()).unwrap();
        Store::open(path, options(), Hooks::on_commit(|_| {})).unwrap().store
    }

    #[test]
    fn a_start_waits_for_a_store_that_is_being_closed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data");
        let held = RefCell::new(Some(open(&path)));
        let attempts = Cell::new(0);
        let attempt = || {
            attempts.set(attempts.get() + 1);
            if attempts.get() == 3 {
                held.take().unwrap().close();
            }
            Ok(Store::check_unused(&path)?)
        };
        patiently(long(), attempt).unwrap();
        assert_eq!(attempts.get(), 3);
    }

    #[test]
    fn a_start_waits_for_a_port() {
        let held = RefCell::new(Some(TcpListener::bind("127.0.0.1:0").unwrap()));
        let address = held.borrow().as_ref().unwrap().local_addr().unwrap();
        let attempts = Cell::new(0);
        let attempt = || {
            attempts.set(attempts.get() + 1);
            if attempts.get() == 3 {
                held.take();
            }
            TcpListener::bind(address).map(drop).with_context(|| cannot_listen(address))
        };
        patiently(long(), attempt).unwrap();
        assert_eq!(attempts.get(), 3);
    }

    #[test]
    fn a_process_that_stays_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data");
        let store = open(&path);
        let error = patiently(Instant::now(), || Ok(Store::check_unused(&path)?)).unwrap_err();
        assert!(error.to_string().contains("in use by another process"), "{error}");
        store.close();
    }

    #[test]
    fn what_does_not_pass_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let error =
            patiently(long(), || Ok(Store::check_unused(&directory.path().join("none"))?)).unwrap_err();
        assert!(error.to_string().contains("holds no store"), "{error}");
    }
}

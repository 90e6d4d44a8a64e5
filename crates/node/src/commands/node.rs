//! `gramme node`: one node.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use gramme_replica::LEAF_BITS;
use gramme_storage::{OpenError, Options, Store};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::NodeArgs;
use crate::config::Config;
use crate::exit::{REFUSED, USAGE, failure};
use crate::interfaces::http;
use crate::{driver, logging};

/// Set by `gramme dev` for the nodes it starts: they end when it does.
pub(crate) const PARENT: &str = "GRAMME_DEV_PARENT";
const PARENT_CHECK: Duration = Duration::from_millis(200);

pub(crate) fn run(args: &NodeArgs) -> anyhow::Result<()> {
    let mut overrides = Vec::new();
    for set in &args.set {
        let Some((name, value)) = set.split_once('=') else {
            return Err(failure(USAGE, format!("--set {set}: KEY=VALUE is wanted")));
        };
        overrides.push((name.to_owned(), value.to_owned()));
    }
    if args.insecure_http {
        overrides.push(("insecure_http".to_owned(), "true".to_owned()));
    }
    let config = Config::load(&args.config, &overrides, |name| std::env::var(name).ok());
    let config = config.map_err(|errors| failure(USAGE, errors.to_string()))?;
    logging::start(config.log_format, &config.log)?;
    if args.lost_disk {
        begin_empty(&config)?;
    }
    let driver = driver::start(&config).map_err(say_what_to_do)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let served = runtime.block_on(serve(&config, driver));
    drop(runtime);
    served
}

/// Makes an empty store where there is none. The others remember what this node had, so it counts for nothing until it
/// has everything again.
fn begin_empty(config: &Config) -> anyhow::Result<()> {
    let path = config.data_dir.display();
    // A store whose identity is damaged looks like none, and what is left of it may be all there is.
    if holds_something(&config.data_dir)? {
        let what = format!(
            "{path} is not empty: if nothing in it is of use, move it away, then use --lost-disk again"
        );
        return Err(failure(USAGE, what));
    }
    let made = Store::create(&config.data_dir, rand::random(), &Options::new(config.engine, LEAF_BITS));
    match made {
        Err(OpenError::Exists(_)) => {
            Err(failure(USAGE, format!("{path} holds a store; start the node without --lost-disk")))
        }
        made => Ok(made?),
    }
}

/// Whether there is no store, and all the same something but what a lock or a new file system leaves.
fn holds_something(directory: &Path) -> anyhow::Result<bool> {
    if directory.join("IDENTITY").exists() {
        return Ok(false);
    }
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        entries => entries.with_context(|| format!("cannot read {}", directory.display()))?,
    };
    let is_nothing = |name: &std::ffi::OsStr| name == "LOCK" || name == "lost+found";
    Ok(entries.flatten().any(|entry| !is_nothing(&entry.file_name())))
}

fn say_what_to_do(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref::<OpenError>() {
        Some(OpenError::Missing(_)) => {
            let hint = "if it was lost, --lost-disk begins with an empty store, which the other nodes fill";
            failure(REFUSED, format!("{error}; {hint}"))
        }
        _ => error,
    }
}

async fn serve(config: &Config, mut driver: driver::Driver) -> anyhow::Result<()> {
    let listener = match http::bind(config.http).await {
        Ok(listener) => listener,
        Err(error) => {
            driver.stop()?;
            return Err(error);
        }
    };
    tracing::info!(name = %config.name, http = %config.http, quic = %config.quic, "serving");
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let (stop_http, http_stopped) = tokio::sync::oneshot::channel::<()>();
    let handle = driver.handle.clone();
    let serving = tokio::spawn(http::serve(listener, handle, async move {
        // A dropped sender stops it too.
        let _ = http_stopped.await;
    }));
    let orphaned = parent_gone();
    tokio::pin!(orphaned);
    loop {
        tokio::select! {
            _ = interrupt.recv() => tracing::info!("interrupted; going down"),
            _ = terminate.recv() => tracing::info!("told to end; going down"),
            _ = hangup.recv() => {
                driver.renew(config);
                continue;
            }
            () = &mut orphaned => tracing::warn!("gramme dev is gone; going down"),
            _ = &mut driver.ended => tracing::error!("the node's thread has ended"),
        }
        break;
    }
    let _ = stop_http.send(());
    // Requests under way end first; they need the driver.
    let _ = serving.await;
    driver.stop()?;
    tracing::info!("everything is on the disk; bye");
    Ok(())
}

/// Resolves when the `gramme dev` that started this process is gone; never for other nodes.
async fn parent_gone() {
    let parent = std::env::var(PARENT).ok().and_then(|parent| parent.parse::<u32>().ok());
    let Some(parent) = parent else { return std::future::pending().await };
    while std::os::unix::process::parent_id() == parent {
        tokio::time::sleep(PARENT_CHECK).await;
    }
}

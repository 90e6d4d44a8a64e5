//! `gramme put`, `gramme touch` and `gramme delete`: read first, and write with that context.

use std::io::Read;
use std::time::Duration;

use crate::cli::{DeleteArgs, KeyArgs, PutArgs, TouchArgs, WriteArgs};
use crate::commands::get::read;
use crate::commands::remote::{Call, Remote, key_request};
use crate::exit::{NOT_FOUND, REFUSED, USAGE, failure};

pub(crate) fn run(args: &PutArgs) -> anyhow::Result<()> {
    let value = value_of(&args.value)?;
    let mut headers = vec![("content-type", args.content_type.clone())];
    headers.extend(args.expires.iter().map(|expires| ("x-gramme-expires", expires.clone())));
    write(&args.key, &args.write, "PUT", headers, value)
}

pub(crate) fn run_delete(args: &DeleteArgs) -> anyhow::Result<()> {
    write(&args.key, &args.write, "DELETE", Vec::new(), Vec::new())
}

pub(crate) fn run_touch(args: &TouchArgs) -> anyhow::Result<()> {
    let remote = Remote::new(&args.key.endpoint, Duration::from_millis(args.key.timeout.into()))?;
    let mut path = format!("{}&touch=true", key_request(&args.key)?);
    for (name, threshold) in [("w", args.w), ("r", args.r)] {
        path += &threshold.map(|threshold| format!("&{name}={threshold}")).unwrap_or_default();
    }
    let headers = vec![("x-gramme-expires", args.expires.clone())];
    let answer = remote.call(&Call { method: "PUT", path, headers, body: Vec::new() })?;
    match answer.status {
        204 => Ok(()),
        404 => Err(failure(NOT_FOUND, format!("{}: there is no value to touch", args.key.key))),
        _ => Err(answer.error()),
    }
}

fn value_of(text: &str) -> anyhow::Result<Vec<u8>> {
    if text == "-" {
        let mut value = Vec::new();
        let read = std::io::stdin().lock().read_to_end(&mut value);
        read.map_err(|error| failure(USAGE, format!("cannot read standard input: {error}")))?;
        return Ok(value);
    }
    match text.strip_prefix('@') {
        Some(file) => {
            std::fs::read(file).map_err(|error| failure(USAGE, format!("cannot read {file}: {error}")))
        }
        None => Ok(text.as_bytes().to_vec()),
    }
}

fn write(
    key: &KeyArgs,
    write: &WriteArgs,
    method: &str,
    mut headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
) -> anyhow::Result<()> {
    let remote = Remote::new(&key.endpoint, Duration::from_millis(key.timeout.into()))?;
    let context = match (&write.context, write.blind) {
        (Some(context), _) => Some(context.clone()),
        (None, true) => None,
        (None, false) => context_of(&remote, key, write)?,
    };
    headers.extend(context.map(|context| ("x-gramme-context", context)));
    let mut path = key_request(key)?;
    if let Some(w) = write.w {
        path += &format!("&w={w}");
    }
    let answer = remote.call(&Call { method, path, headers, body })?;
    if answer.status != 204 {
        return Err(answer.error());
    }
    if write.verbose {
        let header = |name| answer.header(name).unwrap_or_default();
        eprintln!("context: {}", header("x-gramme-context"));
        eprintln!("receipt: {}", header("x-gramme-receipt"));
    }
    Ok(())
}

/// The context of what is there; siblings must be merged by whoever knows how.
fn context_of(remote: &Remote, key: &KeyArgs, write: &WriteArgs) -> anyhow::Result<Option<String>> {
    let found = read(remote, key, write.r.map(|r| r.to_string()), &[])?;
    if found.versions.len() <= 1 {
        return Ok(found.context);
    }
    eprintln!("{}", found.table().trim_fmt());
    let message = format!(
        "{} has {} siblings, and a write must not choose among them unasked. Merge them and write the result with \
         --context {}, or add one more with --blind",
        key.key,
        found.versions.len(),
        found.context.as_deref().unwrap_or_default(),
    );
    Err(failure(REFUSED, message))
}

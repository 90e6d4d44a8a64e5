//! `gramme get`: the value to standard output, everything else to standard error.

use std::io::Write;
use std::time::Duration;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use comfy_table::{Table, presets};
use serde_json::json;

use crate::cli::{GetArgs, KeyArgs, Output};
use crate::commands::remote::{Answer, Call, Remote, key_request};
use crate::exit::{NOT_FOUND, REFUSED, USAGE, failure};

/// One version of a key, as HTTP shows it.
pub(crate) struct Version {
    pub(crate) tag: String,
    pub(crate) content_type: String,
    pub(crate) modified: String,
    pub(crate) expires: String,
    /// `None` is a delete.
    pub(crate) value: Option<Vec<u8>>,
}

/// A read: its versions, and the context to write with.
pub(crate) struct Versions {
    pub(crate) context: Option<String>,
    pub(crate) versions: Vec<Version>,
}

impl Versions {
    /// Whether there is nothing but deletes, or nothing at all.
    pub(crate) fn is_absent(&self) -> bool {
        self.versions.iter().all(|version| version.value.is_none())
    }

    /// A line for each version.
    pub(crate) fn table(&self) -> Table {
        let mut table = Table::new();
        table
            .load_preset(presets::NOTHING)
            .set_header(["", "tag", "modified", "expires", "type", "size", "value"]);
        for (at, version) in self.versions.iter().enumerate() {
            let size = version.value.as_ref().map_or_else(String::new, |value| value.len().to_string());
            let shown = version.value.as_ref().map_or_else(|| "(deleted)".to_owned(), |value| preview(value));
            let Version { tag, modified, expires, content_type, .. } = version;
            table.add_row([&(at + 1).to_string(), tag, modified, expires, content_type, &size, &shown]);
        }
        table
    }
}

/// The first letters of a value, if it is text.
fn preview(value: &[u8]) -> String {
    match std::str::from_utf8(value) {
        Ok(text) if !text.contains(char::is_control) => {
            let short: String = text.chars().take(40).collect();
            if short.len() < text.len() { short + "…" } else { short }
        }
        _ => "(not text)".to_owned(),
    }
}

/// Reads a key with all its versions.
pub(crate) fn read(
    remote: &Remote,
    key: &KeyArgs,
    r: Option<String>,
    session: &[String],
) -> anyhow::Result<Versions> {
    let mut path = key_request(key)?;
    if let Some(r) = r {
        path += &format!("&r={r}");
    }
    let mut headers = vec![("accept", "multipart/mixed, application/json".to_owned())];
    headers.extend(session.iter().map(|context| ("x-gramme-session", context.clone())));
    let answer = remote.call(&Call { method: "GET", path, headers, body: Vec::new() })?;
    let context = answer.header("x-gramme-context").map(str::to_owned);
    match answer.status {
        200 => Ok(Versions { context, versions: vec![single(&answer)] }),
        300 => {
            let versions = parse_multipart(&answer).context("the node's list of siblings cannot be read")?;
            Ok(Versions { context, versions })
        }
        404 if answer.header("x-riak-deleted").is_some() => {
            Ok(Versions { context, versions: vec![Version { value: None, ..single(&answer) }] })
        }
        404 if error_code(&answer) == "not-found" => Ok(Versions { context, versions: Vec::new() }),
        _ => Err(answer.error()),
    }
}

fn error_code(answer: &Answer) -> String {
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    body["error"].as_str().unwrap_or_default().to_owned()
}

fn single(answer: &Answer) -> Version {
    let header = |name| answer.header(name).unwrap_or_default().to_owned();
    Version {
        tag: header("etag").trim_matches('"').to_owned(),
        content_type: header("content-type"),
        modified: header("last-modified"),
        expires: header("x-gramme-expires"),
        value: Some(answer.body.clone()),
    }
}

fn parse_multipart(answer: &Answer) -> Option<Vec<Version>> {
    let content_type = answer.header("content-type")?;
    let boundary = content_type.split_once("boundary=")?.1;
    let delimiter = format!("\r\n--{boundary}").into_bytes();
    let mut parts = split(&answer.body, &delimiter).into_iter().skip(1);
    let mut versions = Vec::new();
    for part in &mut parts {
        if part.starts_with(b"--") {
            return Some(versions);
        }
        versions.push(parse_part(part)?);
    }
    None
}

fn split<'a>(mut body: &'a [u8], delimiter: &[u8]) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    while let Some(at) = body.windows(delimiter.len()).position(|window| window == delimiter) {
        parts.push(&body[..at]);
        body = &body[at + delimiter.len()..];
    }
    parts.push(body);
    parts
}

fn parse_part(part: &[u8]) -> Option<Version> {
    let part = part.strip_prefix(b"\r\n")?;
    let end = part.windows(4).position(|window| window == b"\r\n\r\n")?;
    let (headers, body) = (std::str::from_utf8(&part[..end]).ok()?, &part[end + 4..]);
    let header = |wanted: &str| {
        let mut lines = headers.split("\r\n").filter_map(|line| line.split_once(": "));
        lines.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.to_owned())
    };
    let deleted = header("x-riak-deleted").is_some();
    Some(Version {
        tag: header("etag").unwrap_or_default().trim_matches('"').to_owned(),
        content_type: header("content-type").unwrap_or_default(),
        modified: header("last-modified").unwrap_or_default(),
        expires: header("x-gramme-expires").unwrap_or_default(),
        value: (!deleted).then(|| body.to_vec()),
    })
}

pub(crate) fn run(args: &GetArgs) -> anyhow::Result<()> {
    let remote = Remote::new(&args.key.endpoint, Duration::from_millis(args.key.timeout.into()))?;
    let read = read(&remote, &args.key, args.r.map(|r| r.to_string()), &args.session)?;
    match args.output {
        Output::Table if !read.versions.is_empty() => {
            write_out(format!("{}\n", read.table().trim_fmt()).as_bytes())?;
        }
        Output::Json => write_out(format!("{}\n", as_json(&read)).as_bytes())?,
        Output::Raw | Output::Table => {}
    }
    if read.is_absent() {
        let what = if read.versions.is_empty() { "there is no such key" } else { "the key was deleted" };
        return Err(failure(NOT_FOUND, format!("{}: {what}", args.key.key)));
    }
    if args.output == Output::Raw { show_value(args, &read) } else { Ok(()) }
}

fn show_value(args: &GetArgs, read: &Versions) -> anyhow::Result<()> {
    let version = match (args.sibling, read.versions.as_slice()) {
        (Some(sibling), versions) => versions.get(usize::from(sibling) - 1).ok_or_else(|| {
            failure(USAGE, format!("there is no sibling {sibling}; the key has {}", versions.len()))
        })?,
        (None, [version]) => version,
        (None, versions) => {
            eprintln!("{}", read.table().trim_fmt());
            let message = format!(
                "{} has {} siblings: concurrent versions that nobody has merged. Show one with `gramme get {} \
                 --sibling N`; write the merged value with `gramme put {} VALUE --context {}`",
                args.key.key,
                versions.len(),
                args.key.key,
                args.key.key,
                read.context.as_deref().unwrap_or_default(),
            );
            return Err(failure(REFUSED, message));
        }
    };
    match &version.value {
        Some(value) => write_out(value),
        None => Err(failure(NOT_FOUND, "this sibling is a delete")),
    }
}

fn as_json(read: &Versions) -> serde_json::Value {
    let version = |version: &Version| {
        json!({
            "tag": version.tag,
            "content_type": version.content_type,
            "last_modified": version.modified,
            "expires": Some(&version.expires).filter(|expires| !expires.is_empty()),
            "deleted": version.value.is_none(),
            "value_base64": version.value.as_ref().map(|value| STANDARD.encode(value)),
        })
    };
    json!({ "context": read.context, "versions": read.versions.iter().map(version).collect::<Vec<_>>() })
}

pub(crate) fn write_out(bytes: &[u8]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).context("cannot write to standard output")
}

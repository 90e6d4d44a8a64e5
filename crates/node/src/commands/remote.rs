//! The command line's HTTP client.

use std::time::Duration;

use gramme_object::limits;
use serde_json::Value;

use crate::cli::{Endpoint, KeyArgs};
use crate::commands::cluster_file::ClusterFile;
use crate::exit::{NOT_FOUND, REFUSED, UNREACHABLE, USAGE, failure};
use crate::interfaces::http::encode_segment;

/// How much longer we wait than we ask the node to, so that its answer finds us.
const GRACE: Duration = Duration::from_millis(500);
/// A node on this machine or near it accepts at once, or not at all.
const CONNECT: Duration = Duration::from_secs(1);
/// Siblings together may be larger than one value.
const MAX_ANSWER: u64 = limits::MAX_VALUE as u64 * 100;

/// An answer, whole.
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: ureq::http::HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The error that an unsuccessful answer tells of.
    pub(crate) fn error(&self) -> anyhow::Error {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let message = body["message"].as_str().unwrap_or("the node gave no reason");
        let code = body["error"].as_str().unwrap_or("error");
        let exit = match self.status {
            404 => NOT_FOUND,
            _ => REFUSED,
        };
        failure(exit, format!("{message} ({code}, HTTP {})", self.status))
    }
}

/// The nodes that a command may talk to, in order.
pub(crate) struct Remote {
    addresses: Vec<String>,
    agent: ureq::Agent,
}

/// What a request says beside its path.
#[derive(Default)]
pub(crate) struct Call<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: String,
    pub(crate) headers: Vec<(&'a str, String)>,
    pub(crate) body: Vec<u8>,
}

impl Remote {
    pub(crate) fn new(endpoint: &Endpoint, timeout: Duration) -> anyhow::Result<Self> {
        let addresses = match &endpoint.node {
            Some(node) => vec![address(node)?],
            None => ClusterFile::last()?.nodes.into_iter().map(|node| node.http).collect(),
        };
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(timeout + GRACE))
            .timeout_connect(Some(CONNECT))
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .build()
            .into();
        Ok(Self { addresses, agent })
    }

    /// Asks the first node that accepts a connection. A request that has left is not sent to another.
    pub(crate) fn call(&self, call: &Call<'_>) -> anyhow::Result<Answer> {
        let mut refused = Vec::new();
        for address in &self.addresses {
            match self.call_one(address, call) {
                Ok(answer) => return Ok(answer),
                Err(ureq::Error::BadUri(why)) => {
                    return Err(failure(USAGE, format!("--node {address}: {why}")));
                }
                // A read may be asked of the next node whatever became of it.
                Err(error) if call.method == "GET" || is_not_sent(&error) => {
                    refused.push(format!("{address}: {error}"));
                }
                Err(error) => {
                    let message = format!(
                        "{address}: {error}; the request had left, and may have been done: read before you write again"
                    );
                    return Err(failure(REFUSED, message));
                }
            }
        }
        Err(failure(UNREACHABLE, format!("no node is reachable ({})", refused.join("; "))))
    }

    /// Asks for something that is done or shown at once; returns the body.
    pub(crate) fn admin(&self, method: &str, path: &str) -> anyhow::Result<Vec<u8>> {
        let answer = self.call(&Call { method, path: path.to_owned(), ..Call::default() })?;
        if answer.status == 200 { Ok(answer.body) } else { Err(answer.error()) }
    }

    fn call_one(&self, address: &str, call: &Call<'_>) -> Result<Answer, ureq::Error> {
        let mut request =
            ureq::http::Request::builder().method(call.method).uri(format!("http://{address}{}", call.path));
        for (name, value) in &call.headers {
            request = request.header(*name, value);
        }
        let mut response = if matches!(call.method, "PUT" | "POST") {
            self.agent.run(request.body(&call.body[..])?)?
        } else {
            self.agent.run(request.body(())?)?
        };
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let body = response.body_mut().with_config().limit(MAX_ANSWER).read_to_vec()?;
        Ok(Answer { status, headers, body })
    }
}

/// The address that was typed, with or without the scheme that it has anyway.
fn address(typed: &str) -> anyhow::Result<String> {
    let address = typed.trim_start_matches("http://").trim_end_matches('/');
    let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    if port.is_none_or(|port| port == 0) {
        return Err(failure(
            USAGE,
            format!("--node {typed}: HOST:PORT is wanted, with a port from 1 to 65535"),
        ));
    }
    Ok(address.to_owned())
}

fn is_not_sent(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::Io(error) => matches!(
            error.kind(),
            std::io::ErrorKind::ConnectionRefused
                | std::io::ErrorKind::HostUnreachable
                | std::io::ErrorKind::NetworkUnreachable
        ),
        ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => true,
        ureq::Error::Timeout(which) => matches!(which, ureq::Timeout::Connect | ureq::Timeout::Resolve),
        _ => false,
    }
}

/// The bucket and key that were typed, as they stand in a path.
fn names(typed: &str) -> anyhow::Result<(String, String)> {
    let Some((bucket, key)) = typed.split_once('/') else {
        return Err(failure(USAGE, format!("'{typed}': BUCKET/KEY is wanted")));
    };
    if bucket.is_empty() || key.is_empty() {
        return Err(failure(USAGE, format!("'{typed}': bucket and key have at least one letter each")));
    }
    Ok((encode_segment(bucket.as_bytes()), encode_segment(key.as_bytes())))
}

/// The path of a key's explanation.
pub(crate) fn explain_path(bucket_type: &str, typed: &str) -> anyhow::Result<String> {
    let (bucket, key) = names(typed)?;
    Ok(format!("/admin/explain/types/{}/{bucket}/{key}", encode_segment(bucket_type.as_bytes())))
}

/// The path of a request about a key, with what every such request says.
pub(crate) fn key_request(args: &KeyArgs) -> anyhow::Result<String> {
    let (bucket, key) = names(&args.key)?;
    let bucket_type = encode_segment(args.bucket_type.as_bytes());
    let sloppy = args.sloppy.map(|sloppy| format!("&sloppy={sloppy}")).unwrap_or_default();
    Ok(format!("/types/{bucket_type}/buckets/{bucket}/keys/{key}?timeout={}{sloppy}", args.timeout))
}

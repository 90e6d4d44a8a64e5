//! A small HTTP client, and assertions on what it gets.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;

/// A node, over HTTP.
#[derive(Clone)]
pub(crate) struct Http {
    base: String,
    agent: ureq::Agent,
}

/// An answer, whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: ureq::http::HeaderMap,
    pub(crate) body: Vec<u8>,
}

pub(crate) type Headers<'a> = &'a [(&'a str, &'a str)];

impl Http {
    pub(crate) fn new(address: &str) -> Self {
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(20)))
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .max_idle_connections(0)
            .build()
            .into();
        Self { base: format!("http://{address}"), agent }
    }

    pub(crate) fn send(
        &self,
        method: &str,
        path: &str,
        headers: Headers<'_>,
        body: &[u8],
    ) -> anyhow::Result<Answer> {
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let sent = if matches!(method, "PUT" | "POST") {
            self.agent.run(request.body(body)?)
        } else {
            self.agent.run(request.body(())?)
        };
        let mut response = sent.with_context(|| format!("{method} {path}"))?;
        let body = response.body_mut().with_config().limit(200 << 20).read_to_vec()?;
        Ok(Answer { status: response.status().as_u16(), headers: response.headers().clone(), body })
    }

    pub(crate) fn get(&self, path: &str) -> anyhow::Result<Answer> {
        self.send("GET", path, &[], b"")
    }

    /// Writes text, with more headers.
    pub(crate) fn put(&self, path: &str, headers: Headers<'_>, body: &[u8]) -> anyhow::Result<Answer> {
        let mut all = vec![("content-type", "text/plain")];
        all.extend_from_slice(headers);
        self.send("PUT", path, &all, body)
    }
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The context that came with it.
    pub(crate) fn context(&self) -> anyhow::Result<&str> {
        self.header("x-gramme-context").with_context(|| format!("no context came: {self:?}"))
    }

    pub(crate) fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_slice(&self.body).with_context(|| String::from_utf8_lossy(&self.body).into_owned())
    }

    /// Checks the status.
    pub(crate) fn is(self, status: u16) -> anyhow::Result<Self> {
        ensure!(
            self.status == status,
            "{status} was expected, and {} came: {}",
            self.status,
            String::from_utf8_lossy(&self.body)
        );
        Ok(self)
    }

    /// Checks that it is this error, with a message for a person and no context.
    pub(crate) fn fails(self, status: u16, code: &str) -> anyhow::Result<Self> {
        let answer = self.is(status)?;
        let body = answer.json()?;
        ensure!(body["error"] == code, "{code} was expected: {body}");
        ensure!(body["message"].as_str().is_some_and(|message| message.len() > 10), "no message: {body}");
        ensure!(body["detail"].is_object(), "no detail: {body}");
        let is_tombstone = answer.header("x-riak-deleted").is_some();
        ensure!(is_tombstone || answer.header("x-gramme-context").is_none(), "an error carries a context");
        Ok(answer)
    }

    pub(crate) fn body_is(self, body: &[u8]) -> anyhow::Result<Self> {
        ensure!(self.body == body, "another body: {:?}", String::from_utf8_lossy(&self.body));
        Ok(self)
    }

    pub(crate) fn header_is(self, name: &str, value: &str) -> anyhow::Result<Self> {
        ensure!(
            self.header(name) == Some(value),
            "{name}: {:?}, and {value} was expected",
            self.header(name)
        );
        Ok(self)
    }
}

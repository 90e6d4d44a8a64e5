//! Counters and latencies as Prometheus reads them.

mod process;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use gramme_replica::{ClientRequest, Response};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeLabelValue, EncodeMetric, text};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::driver::Shared;

use self::process::Process;

/// The content type of [`render`]'s text.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What a client asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "the names are the labels' values")]
pub(crate) enum Operation {
    get,
    put,
    delete,
    other,
}

impl Operation {
    pub(crate) const fn of(request: &ClientRequest) -> Self {
        match request {
            ClientRequest::Get { .. } => Self::get,
            ClientRequest::Put(put) if put.content.is_none() => Self::delete,
            ClientRequest::Put(_) => Self::put,
            ClientRequest::Properties { .. }
            | ClientRequest::Keys { .. }
            | ClientRequest::SetProperties { .. }
            | ClientRequest::Losses
            | ClientRequest::AcceptLoss
            | ClientRequest::Admit { .. }
            | ClientRequest::Plan(_)
            | ClientRequest::Ring
            | ClientRequest::Transfers
            | ClientRequest::Explain { .. }
            | ClientRequest::Status => Self::other,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "the names are the labels' values")]
enum Result {
    ok,
    error,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    operation: Operation,
    result: Result,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StallLabels {
    what: String,
}

/// What is counted outside the replica.
pub(crate) struct Metrics {
    /// Of clients' requests, from when the node took them to when it answered.
    latency: Family<Labels, Histogram, fn() -> Histogram>,
    /// What held up the driver's loop, and how often.
    stalls: Family<StallLabels, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        // 50 µs to 26 s.
        let histogram: fn() -> Histogram = || Histogram::new(exponential_buckets(0.000_05, 2.0, 20));
        Self { latency: Family::new_with_constructor(histogram), stalls: Family::default() }
    }
}

impl Metrics {
    /// Something held up the driver's loop.
    pub(crate) fn note_stall(&self, what: String) {
        self.stalls.get_or_create(&StallLabels { what }).inc();
    }

    pub(crate) fn observe(&self, operation: Operation, response: &Response, took: Duration) {
        let failed = match response {
            Response::Get(result) => result.is_err(),
            Response::Put(result) => result.is_err(),
            Response::Keys(result) => result.is_err(),
            Response::Properties(result) => result.is_err(),
            Response::SetProperties(result) => result.is_err(),
            Response::Explained(result) => result.is_err(),
            Response::Plan(result) => result.is_err(),
            Response::Status(_)
            | Response::Losses(_)
            | Response::Admitted
            | Response::Ring(_)
            | Response::Transfers(_) => false,
        };
        let result = if failed { Result::error } else { Result::ok };
        self.latency.get_or_create(&Labels { operation, result }).observe(took.as_secs_f64());
    }
}

/// Everything, in the OpenMetrics text format.
pub(crate) fn render(shared: &Arc<Shared>) -> std::result::Result<String, fmt::Error> {
    let mut all = Registry::default();
    all.register_collector(Box::new(Process));
    let registry = all.sub_registry_with_prefix("gramme");
    registry.register_with_unit(
        "request_duration",
        "Requests of clients, from when the node took them to when it answered",
        Unit::Seconds,
        shared.metrics.latency.clone(),
    );
    registry.register(
        "loop_stalls",
        "What held up the node's thread for more than 5 milliseconds",
        shared.metrics.stalls.clone(),
    );
    registry.register_collector(Box::new(Counts { shared: Arc::clone(shared) }));
    let mut out = String::new();
    text::encode(&mut out, &all)?;
    Ok(out)
}

/// The driver's plain counters, read when they are asked for.
struct Counts {
    shared: Arc<Shared>,
}

impl fmt::Debug for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Counts")
    }
}

impl Collector for Counts {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for (name, help, value) in self.counters() {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        for (name, help, value) in self.gauges() {
            let gauge = ConstGauge::new(value as f64);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}

type Row = (&'static str, &'static str, u64);

impl Counts {
    fn counters(&self) -> Vec<Row> {
        let figures = self.shared.figures();
        let (replica, storage) = (figures.replica, figures.storage);
        let [none, one, two, three, more] = replica.versions_read;
        vec![
            ("gets_coordinated", "Gets that this node coordinated.", replica.gets),
            ("gets_failed", "Gets that too few replicas answered.", replica.gets_failed),
            (
                "gets_asked_again",
                "Gets in which owners differed, and were asked again.",
                replica.gets_asked_again,
            ),
            ("values_withheld", "Large values left out of answers to coordinators.", replica.values_withheld),
            ("versions_asked", "Owners asked for a value or a version's fate.", replica.versions_asked),
            ("puts_coordinated", "Puts and deletes that this node coordinated.", replica.puts),
            ("puts_failed", "Puts that too few replicas acknowledged.", replica.puts_failed),
            ("puts_forwarded", "Puts handed to an owner.", replica.forwards),
            ("puts_forwarded_unknown", "Forwarded puts whose outcome is unknown.", replica.forwards_unknown),
            ("puts_too_many_siblings", "Puts refused because of siblings.", replica.puts_too_many_siblings),
            ("requests_busy", "Requests refused because too many were under way.", replica.busy),
            ("replica_reads", "Reads answered for other coordinators.", replica.replica_reads),
            ("replica_writes", "Writes taken from other coordinators.", replica.replica_writes),
            ("versions_refused", "Versions refused: seen before, and replaced.", replica.versions_refused),
            ("read_repairs", "Read repairs sent or made.", replica.read_repairs),
            ("put_duplicates", "Duplicates of puts, answered as the first.", replica.duplicates),
            ("replica_busy", "Requests of other nodes refused: too much waits.", replica.replica_busy),
            ("too_large", "Repairs given up: the versions together are too large.", replica.too_large),
            ("puts_restarted", "Puts that went on at a later epoch.", replica.puts_restarted),
            ("standings_refused", "Memories of this node that were damaged.", replica.standings_refused),
            ("hints_stored", "Copies kept for others.", replica.hints_stored),
            ("hints_refused", "Copies not kept: there are as many as may be.", replica.hints_refused),
            ("hints_lost", "Copies kept for others that were damaged or gone.", replica.hints_lost),
            ("hints_handed_on", "Copies handed on, and durable where they belong.", replica.hints_handed_on),
            ("hints_unwanted", "Copies that their nodes would not take.", replica.hints_unwanted),
            ("hints_failed", "Deliveries of copies that failed, to be tried again.", replica.hints_failed),
            ("hints_received", "Copies that others had kept for this node.", replica.hints_received),
            ("exchanges", "Exchanges with other replicas that went through.", replica.exchanges),
            ("exchanges_failed", "Exchanges that were broken off.", replica.exchanges_failed),
            ("leaves_compared", "Leaves whose keys were compared.", replica.leaves_compared),
            ("keys_mended", "Keys that exchanges mended, here or there.", replica.keys_mended),
            ("exchange_bytes", "Bytes that exchanges compared and sent.", replica.exchange_bytes),
            ("versions_buried", "Versions here that others had seen replaced.", replica.versions_buried),
            ("values_purged", "Values that had expired and were dropped.", replica.values_purged),
            ("pulls", "Partitions pulled from another replica as a whole.", replica.pulls),
            ("pulls_late", "Pulls in which something came late from elsewhere.", replica.pulls_late),
            ("reclaimed", "Keys of which a tombstone or a context was forgotten.", replica.reclaimed),
            ("tenures_closed", "Dead tenures that were closed.", replica.tenures_closed),
            ("scrubs", "Times that all rows were gone through.", replica.scrubs),
            ("rows_scrubbed", "Rows that were gone through.", replica.rows_scrubbed),
            (
                "background_slowed",
                "Seconds in which background work was slowed down.",
                replica.background_slowed,
            ),
            ("losses", "Times that data was found to be lost.", replica.losses),
            ("rows_damaged", "Damaged rows that were found.", replica.rows_damaged),
            ("rows_lost", "Damaged rows that were lost here.", replica.rows_lost),
            ("gossip_messages", "Messages of gossip sent.", replica.gossip_messages),
            ("gossip_bytes", "Bytes of gossip sent.", replica.gossip_bytes),
            ("load_failures", "Rows that could not be read.", replica.load_failures),
            ("reads_without_version", "Gets that saw no version.", none),
            ("reads_one_version", "Gets that saw one version.", one),
            ("reads_two_versions", "Gets that saw two versions.", two),
            ("reads_three_versions", "Gets that saw three versions.", three),
            ("reads_more_versions", "Gets that saw more than three versions.", more),
            ("log_batches", "Batches committed.", storage.batches),
            ("log_writes", "Writes to the commit log.", storage.log_writes),
            ("log_bytes", "Bytes appended to the commit log.", storage.log_bytes),
            ("log_syncs", "Syncs of the commit log.", storage.syncs),
            ("checkpoints", "Checkpoints completed.", storage.checkpoints),
            ("engine_rows", "Rows written to the engine.", storage.engine_rows),
            ("compactions", "Times that the engine was copied to give back disk space.", storage.compactions),
        ]
    }

    fn gauges(&self) -> Vec<Row> {
        let figures = self.shared.figures();
        vec![
            ("keys", "Keys stored on this node.", figures.replica.keys),
            ("object_bytes", "Bytes of objects stored on this node.", figures.replica.bytes),
            (
                "amnesiac_partitions",
                "Partitions that cannot prove that they hold what they acknowledged.",
                figures.replica.amnesiac_partitions,
            ),
            (
                "unproven_partitions",
                "Partitions that were not yet compared with what the others remember.",
                figures.replica.unproven_partitions,
            ),
            ("hints", "Copies kept for others now.", figures.replica.hints),
            ("hint_bytes", "Bytes of copies kept for others now.", figures.replica.hint_bytes),
            (
                "reclaim_waiting",
                "Keys that forget their past once every owner has seen it.",
                figures.replica.reclaim_waiting,
            ),
            (
                "partitions_closing",
                "Partitions of which dead tenures are being closed.",
                figures.replica.partitions_closing,
            ),
            ("members_suspect", "Other members that are suspect.", figures.replica.members_suspect),
            ("members_down", "Other members that are down.", figures.replica.members_down),
            (
                "background_bytes_per_second",
                "What work that nobody waits for may take now.",
                figures.replica.background_rate,
            ),
            (
                "foreground_p99_microseconds",
                "What 99 of 100 rows read and batches written took in the last second; 0 if there were none.",
                figures.replica.foreground_p99,
            ),
            ("staged_bytes", "Bytes on their way to the disk.", figures.replica.staged_bytes),
            ("staged_batches", "Batches on their way to the disk.", figures.replica.staged_batches),
            (
                "clock_off_microseconds",
                "How far the clock is from the median of the other nodes'; 0 while it is near.",
                figures.replica.clock_off,
            ),
            ("buffer_bytes", "Bytes in the object buffer.", figures.storage.buffer_bytes),
            (
                "replay_bytes",
                "Bytes of commit log that a restart would replay.",
                figures.storage.replay_bytes,
            ),
            ("engine_bytes", "Bytes that the engine's files take on the disk.", figures.storage.engine_bytes),
            ("disk_full", "1 while the disk is too full to take writes.", figures.storage.disk_full),
            (
                "http_connections",
                "HTTP connections that are open.",
                self.shared.http_connections.load(Ordering::Relaxed),
            ),
            (
                "ready",
                "1 while a quorum of the owners of any key can be reached and counts.",
                u64::from(self.shared.is_ready()),
            ),
        ]
    }

    /// The counters alone, as HTTP's `/stats` shows them.
    fn all(&self) -> Vec<Row> {
        let mut rows = self.counters();
        rows.extend(self.gauges());
        rows
    }
}

/// All counters and gauges by name.
pub(crate) fn figures(shared: &Arc<Shared>) -> serde_json::Value {
    let counts = Counts { shared: Arc::clone(shared) };
    let rows = counts.all().into_iter().map(|(name, _, value)| (name.to_owned(), value.into()));
    serde_json::Value::Object(rows.collect())
}

//! What the process takes of the machine, under the names that every Prometheus exporter uses.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use rustix::param::page_size;
use rustix::time::{ClockId, clock_gettime};

/// Read when it is asked for.
#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let cpu = ConstCounter::new(cpu_seconds());
        let help = "Processor time of the process, the system's on its behalf included.";
        let descriptor =
            encoder.encode_descriptor("process_cpu", help, Some(&Unit::Seconds), cpu.metric_type())?;
        cpu.encode(descriptor)?;
        // Where the system doesn't tell, there is no figure rather than a wrong one.
        let Some(bytes) = resident_bytes() else { return Ok(()) };
        let memory = ConstGauge::new(bytes as f64);
        let help = "Memory of the process that is in RAM.";
        let unit = Some(&Unit::Bytes);
        memory.encode(encoder.encode_descriptor(
            "process_resident_memory",
            help,
            unit,
            memory.metric_type(),
        )?)
    }
}

fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn resident_bytes() -> Option<u64> {
    let pages = fs::read_to_string("/proc/self/statm").ok()?;
    Some(pages.split(' ').nth(1)?.parse::<u64>().ok()? * page_size() as u64)
}

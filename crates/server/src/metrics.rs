//! What `/metrics` shows: counters and gauges of the shell, in Prometheus' text form.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use crate::logging;

/// Upper bounds of a histogram's buckets, in microseconds.
const BUCKETS_MICROS: [u64; 12] =
    [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 500_000, 2_500_000];

/// How long something took, in buckets.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    /// The last one is for all that took longer.
    buckets: [AtomicU64; BUCKETS_MICROS.len() + 1],
    sum_micros: AtomicU64,
}

impl Histogram {
    pub(crate) fn add(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS_MICROS.partition_point(|bound| *bound < micros);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_micros.fetch_add(micros, Ordering::Relaxed);
    }

    fn show(&self, name: &str, help: &str, text: &mut String) {
        header(name, help, "histogram", text);
        let mut count = 0;
        for (bucket, bound) in self.buckets.iter().zip(BUCKETS_MICROS) {
            count += bucket.load(Ordering::Relaxed);
            line(text, format_args!("{name}_bucket{{le=\"{}\"}} {count}", seconds(bound)));
        }
        count += self.buckets[BUCKETS_MICROS.len()].load(Ordering::Relaxed);
        line(text, format_args!("{name}_bucket{{le=\"+Inf\"}} {count}"));
        let sum = seconds(self.sum_micros.load(Ordering::Relaxed));
        line(text, format_args!("{name}_sum {sum}"));
        line(text, format_args!("{name}_count {count}"));
    }
}

/// Links to other nodes.
#[derive(Debug, Default)]
pub(crate) struct LinkCounts {
    pub(crate) open: AtomicI64,
    /// Streams of the mesh that stand in for links.
    pub(crate) detours: AtomicI64,
    pub(crate) frames_sent: AtomicU64,
    pub(crate) frames_received: AtomicU64,
}

/// Programs that are connected.
#[derive(Debug, Default)]
pub(crate) struct ProgramCounts {
    pub(crate) open: AtomicI64,
    /// Connections of other users of this machine.
    pub(crate) refused: AtomicU64,
    pub(crate) bytes_read: AtomicU64,
    pub(crate) bytes_written: AtomicU64,
}

impl ProgramCounts {
    fn show(&self, text: &mut String) {
        for (name, help, value) in [
            ("amrita_program_bytes_read_total", "What programs said.", &self.bytes_read),
            ("amrita_program_bytes_written_total", "What they were told.", &self.bytes_written),
            (
                "amrita_programs_refused_total",
                "Connections to AMBROSIA's ports by users of this machine that may not.",
                &self.refused,
            ),
        ] {
            header(name, help, "counter", text);
            line(text, format_args!("{name} {}", value.load(Ordering::Relaxed)));
        }
    }
}

/// The node's log on the disk.
#[derive(Debug, Default)]
pub(crate) struct LogCounts {
    pub(crate) records: AtomicU64,
    pub(crate) segments: AtomicI64,
    pub(crate) bytes: AtomicI64,
    pub(crate) sync_seconds: Histogram,
}

/// The disk that the sandbox is on.
#[derive(Debug, Default)]
pub(crate) struct DiskCounts {
    free: AtomicU64,
    /// 1 while no writes are taken for want of room.
    is_full: AtomicU64,
    /// What is in memory and has to get into the files of the state store still.
    waiting: AtomicU64,
}

impl DiskCounts {
    pub(crate) fn note(&self, free: u64, is_roomy: bool, waiting: u64) {
        self.free.store(free, Ordering::Relaxed);
        self.is_full.store(u64::from(!is_roomy), Ordering::Relaxed);
        self.waiting.store(waiting, Ordering::Relaxed);
    }

    fn show(&self, text: &mut String) {
        for (name, help, value) in [
            ("amrita_disk_free_bytes", "Bytes free on the disk of the sandbox.", &self.free),
            ("amrita_disk_full", "1 while no writes are taken for want of room.", &self.is_full),
            (
                "amrita_state_waiting_bytes",
                "Bytes written that are not in the files of the state store so far.",
                &self.waiting,
            ),
        ] {
            header(name, help, "gauge", text);
            line(text, format_args!("{name} {}", value.load(Ordering::Relaxed)));
        }
    }
}

/// What the node's thread does.
#[derive(Debug, Default)]
pub(crate) struct ThreadCounts {
    pub(crate) rounds: AtomicU64,
    pub(crate) inputs: AtomicU64,
    /// What waits for it.
    pub(crate) queue_depth: AtomicI64,
}

/// Requests of clients.
#[derive(Debug, Default)]
struct Clients {
    /// By method and status.
    requests: Mutex<BTreeMap<(&'static str, u16), u64>>,
    seconds: Histogram,
}

/// What is done on other threads than the node's own.
#[derive(Debug, Default)]
pub(crate) struct Work {
    /// Of turns of queries, and of large answers.
    pub(crate) job_seconds: Histogram,
    /// States of groups that were wrong here and were filled anew.
    pub(crate) states_filled: AtomicU64,
    /// How often a task was found that has not ended and will take no further step.
    pub(crate) tasks_without_next_event: AtomicU64,
    /// Calls of handlers that took long without having said so, by factory.
    handlers_slow: Mutex<BTreeMap<String, u64>>,
}

/// All that the shell counts. The cores count nothing; they are asked through REST.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    clients: Clients,
    pub(crate) work: Work,
    pub(crate) connections: AtomicI64,
    pub(crate) links: LinkCounts,
    pub(crate) programs: ProgramCounts,
    pub(crate) log: LogCounts,
    pub(crate) disk: DiskCounts,
    pub(crate) persist_seconds: Histogram,
    pub(crate) thread: ThreadCounts,
}

impl Metrics {
    pub(crate) fn request(&self, method: &'static str, status: u16, took: Duration) {
        self.clients.seconds.add(took);
        let mut requests = self.clients.requests.lock().expect("no one panics while counting");
        *requests.entry((method, status)).or_default() += 1;
    }

    pub(crate) fn handler_was_slow(&self, factory: &str) {
        let mut slow = self.work.handlers_slow.lock().expect("no one panics while counting");
        *slow.entry(factory.to_owned()).or_default() += 1;
    }

    /// The whole page, with what the account of memory stands at.
    pub(crate) fn show(&self, bytes_held: usize) -> String {
        let mut text = String::with_capacity(4096);
        let name = "amrita_requests_total";
        header(name, "Requests of clients that were answered.", "counter", &mut text);
        for ((method, status), count) in self.clients.requests.lock().expect("as above").iter() {
            let labels = format_args!("{{method=\"{method}\",status=\"{status}\"}}");
            line(&mut text, format_args!("{name}{labels} {count}"));
        }
        let name = "amrita_handlers_slow_total";
        header(name, "Calls of handlers that took long, by factory.", "counter", &mut text);
        for (factory, count) in self.work.handlers_slow.lock().expect("as above").iter() {
            line(&mut text, format_args!("{name}{{factory=\"{factory}\"}} {count}"));
        }
        let help = "From the whole request read to the answer ready.";
        self.clients.seconds.show("amrita_request_seconds", help, &mut text);
        let help = "One write and sync of the log, with all that waited for it.";
        self.log.sync_seconds.show("amrita_log_sync_seconds", help, &mut text);
        let help = "One sync of the state store.";
        self.persist_seconds.show("amrita_state_persist_seconds", help, &mut text);
        let help = "Turns of queries, and of large answers, on the threads for jobs.";
        self.work.job_seconds.show("amrita_job_seconds", help, &mut text);
        for (name, help, value) in [
            ("amrita_log_records_total", "Records written to the log.", &self.log.records),
            ("amrita_node_rounds_total", "Wake-ups of the node's thread.", &self.thread.rounds),
            ("amrita_node_inputs_total", "Inputs the node took.", &self.thread.inputs),
            ("amrita_link_frames_sent_total", "Frames to other nodes.", &self.links.frames_sent),
            (
                "amrita_link_frames_received_total",
                "Frames of other nodes.",
                &self.links.frames_received,
            ),
            (
                "amrita_states_filled_total",
                "States of groups that differed from a majority's and were filled anew.",
                &self.work.states_filled,
            ),
            (
                "amrita_tasks_without_next_event_total",
                "Tasks, found once a minute, that have not ended and take no further step.",
                &self.work.tasks_without_next_event,
            ),
        ] {
            header(name, help, "counter", &mut text);
            line(&mut text, format_args!("{name} {}", value.load(Ordering::Relaxed)));
        }
        for (name, help, value) in [
            (
                "amrita_queue_depth",
                "Events that wait for the node's thread.",
                &self.thread.queue_depth,
            ),
            ("amrita_connections", "Open connections of clients.", &self.connections),
            ("amrita_log_segments", "Segments of the log in use.", &self.log.segments),
            ("amrita_log_bytes", "Bytes that they take on the disk.", &self.log.bytes),
            ("amrita_links_up", "Open links to other nodes.", &self.links.open),
            ("amrita_detours", "Nodes that are reached by a detour.", &self.links.detours),
            ("amrita_programs", "Programs that are connected.", &self.programs.open),
        ] {
            header(name, help, "gauge", &mut text);
            line(&mut text, format_args!("{name} {}", value.load(Ordering::Relaxed)));
        }
        self.programs.show(&mut text);
        self.disk.show(&mut text);
        let name = "amrita_bytes_held";
        header(name, "Bytes held for clients, programs and peers.", "gauge", &mut text);
        line(&mut text, format_args!("{name} {bytes_held}"));
        let name = "amrita_log_lines_dropped_total";
        header(name, "Log lines that standard error did not take.", "counter", &mut text);
        line(&mut text, format_args!("{name} {}", logging::dropped_lines()));
        text
    }
}

fn header(name: &str, help: &str, kind: &str, text: &mut String) {
    line(text, format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("writing to memory cannot fail");
}

fn seconds(micros: u64) -> String {
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Prometheus' convention: a counter ends in `_total`, a histogram in its unit, a gauge in
    /// neither `_total` nor a part of a histogram; and a quick request is told from a quicker one.
    #[test]
    fn the_names_are_as_prometheus_wants_them() {
        let metrics = Metrics::default();
        metrics.request("GET", 200, Duration::from_micros(300));
        let page = metrics.show(0);
        let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let types: Vec<(&str, &str)> = types.filter_map(|line| line.split_once(' ')).collect();
        assert!(types.len() > 20, "{types:?}");
        for (name, kind) in &types {
            assert!(name.starts_with("amrita_"), "{name}");
            let is_right = match *kind {
                "counter" => name.ends_with("_total"),
                "histogram" => name.ends_with("_seconds"),
                "gauge" => !["_total", "_count", "_sum"].iter().any(|end| name.ends_with(end)),
                _ => false,
            };
            assert!(is_right, "{name} is no name of a {kind}");
            assert!(page.contains(&format!("# HELP {name} ")), "{name} is not explained");
            assert_eq!(types.iter().filter(|(other, _)| other == name).count(), 1, "{name}");
        }
        let under_a_millisecond = BUCKETS_MICROS.iter().filter(|bound| **bound < 1_000).count();
        assert!(under_a_millisecond >= 3, "{BUCKETS_MICROS:?}");
    }

    #[test]
    fn the_page_counts_what_happened() {
        let metrics = Metrics::default();
        metrics.request("GET", 200, Duration::from_micros(300));
        metrics.request("GET", 200, Duration::from_secs(9));
        let page = metrics.show(0);
        for line in [
            "amrita_requests_total{method=\"GET\",status=\"200\"} 2",
            "amrita_request_seconds_bucket{le=\"0.000250\"} 0",
            "amrita_request_seconds_bucket{le=\"0.000500\"} 1",
            "amrita_request_seconds_bucket{le=\"+Inf\"} 2",
            "amrita_request_seconds_sum 9.000300",
        ] {
            assert!(page.contains(line), "{line} is not in\n{page}");
        }
    }
}

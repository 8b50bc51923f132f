//! Log lines on standard error.
//!
//! Who reads them may have gone, or may read no more: neither ends a node or holds it up. The lines
//! wait in memory for a thread of their own, which writes them. What is over the bound, and what
//! standard error does not take, is dropped and counted.

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use serde_json::json;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::Failure;
use crate::config::{LogFormat, LogSettings};

/// Libraries that say more than anyone wants to read at the level of our own lines.
const QUIET: &str = "fjall=warn,lsm_tree=warn,hyper=warn,hyper_util=warn,h2=warn";

/// The most bytes of log lines that wait for standard error. More are dropped and counted.
const LOG_BYTES_WAITING_MAX: usize = 1 << 20;

/// How long the end of the process waits for the last lines to be written.
const FLUSH_MAX: Duration = Duration::from_millis(500);

/// The lines of this process: there is one standard error, and so one of these.
static LINES: OnceLock<Arc<Lines>> = OnceLock::new();

/// Starts telling, at a level or by a list of them (`warn,amrita=debug`), in lines of that format.
///
/// # Errors
/// When the text is no level, or when this was called before.
pub fn start_logging(settings: &LogSettings) -> Result<(), Failure> {
    let LogSettings { level, format } = settings;
    let wrong = |why: String| {
        Failure::new(format!("'{level}' is not a log level: {why}"))
            .advise("use error, warn, info, debug or trace, or a list as warn,amrita=debug")
    };
    // A lone word that is no level would be taken for the name of a module.
    let lone = !level.contains(['=', ',']);
    if lone {
        level.parse::<tracing::Level>().map_err(|error| wrong(error.to_string()))?;
    }
    let filter = if lone { format!("{level},{QUIET}") } else { level.clone() };
    let filter = EnvFilter::try_new(filter).map_err(|error| wrong(error.to_string()))?;
    let failed = |why: String| Failure::new(format!("log lines cannot be written: {why}"));
    let lines = Arc::new(Lines::new(*format));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(Writer(Arc::clone(&lines)))
        // It would tell of a failed write on standard error, and panic when that fails as well.
        .log_internal_errors(false);
    let started = match format {
        LogFormat::Text => subscriber.with_ansi(io::stderr().is_terminal()).try_init(),
        LogFormat::Json => subscriber.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| failed(error.to_string()))?;
    let writing = Arc::clone(&lines);
    let thread = std::thread::Builder::new().name("amrita-log-lines".into());
    thread
        .spawn(move || writing.write_for_ever(&mut io::stderr()))
        .map_err(|error| failed(error.to_string()))?;
    LINES.get_or_init(|| lines);
    Ok(())
}

/// Waits a little for the lines told so far to be written: for the end of the process.
pub(crate) fn flush() {
    if let Some(lines) = LINES.get() {
        lines.flush(FLUSH_MAX);
    }
}

/// How many log lines were dropped so far.
pub(crate) fn dropped_lines() -> u64 {
    LINES.get().map_or(0, |lines| lines.lock().dropped)
}

struct Lines {
    format: LogFormat,
    waiting: Mutex<Waiting>,
    /// Rung when a line comes.
    come: Condvar,
    /// Rung when all that waited is written.
    gone: Condvar,
}

#[derive(Default)]
struct Waiting {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// The thread has lines that are not written so far.
    is_writing: bool,
    dropped: u64,
}

impl Lines {
    fn new(format: LogFormat) -> Self {
        let (waiting, come, gone) = Default::default();
        Self { format, waiting, come, gone }
    }

    /// What stands in the place of lines that nobody took.
    fn dropped_line(&self, count: u64) -> String {
        let text = format!("{count} log lines were dropped: nobody took them");
        match self.format {
            LogFormat::Text => text,
            LogFormat::Json => json!({ "level": "WARN", "message": text }).to_string(),
        }
    }

    fn put(&self, line: &[u8]) {
        let mut waiting = self.lock();
        if waiting.bytes + line.len() > LOG_BYTES_WAITING_MAX {
            waiting.dropped += 1;
            return;
        }
        waiting.bytes += line.len();
        waiting.lines.push_back(line.to_owned());
        drop(waiting);
        self.come.notify_one();
    }

    fn write_for_ever(&self, output: &mut impl Write) {
        let mut dropped_told = 0;
        loop {
            let (lines, dropped) = self.next_lines();
            if dropped > dropped_told {
                let count = dropped - dropped_told;
                let told = writeln!(output, "{}", self.dropped_line(count));
                dropped_told = if told.is_ok() { dropped } else { dropped_told };
            }
            let lost = lines.iter().filter(|line| output.write_all(line).is_err()).count();
            let mut waiting = self.lock();
            waiting.dropped += u64::try_from(lost).expect("a count fits");
            waiting.is_writing = false;
            drop(waiting);
            self.gone.notify_all();
        }
    }

    /// Waits for lines, and takes all that are there; with them the count of dropped ones.
    fn next_lines(&self) -> (VecDeque<Vec<u8>>, u64) {
        let idle = |waiting: &mut Waiting| waiting.lines.is_empty();
        let waited = self.come.wait_while(self.lock(), idle);
        let mut waiting = waited.expect(NO_PANIC);
        waiting.is_writing = true;
        waiting.bytes = 0;
        (std::mem::take(&mut waiting.lines), waiting.dropped)
    }

    fn flush(&self, max: Duration) {
        let busy = |waiting: &mut Waiting| waiting.is_writing || !waiting.lines.is_empty();
        drop(self.gone.wait_timeout_while(self.lock(), max, busy));
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().expect(NO_PANIC)
    }
}

const NO_PANIC: &str = "no one panics while holding the log lines";

/// Takes one line at a time, whole.
#[derive(Clone)]
struct Writer(Arc<Lines>);

impl Write for Writer {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.put(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Writer {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A standard error whose reader has gone, until somebody opens it again.
    #[derive(Clone, Default)]
    struct Output(Arc<Mutex<(bool, Vec<u8>)>>);

    impl Write for Output {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut inner = self.0.lock().unwrap();
            if !inner.0 {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            inner.1.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_nobody_takes_are_dropped_and_counted() {
        let lines = Arc::new(Lines::new(LogFormat::Text));
        lines.put(&vec![b'x'; LOG_BYTES_WAITING_MAX]);
        lines.put(b"too much\n");
        assert_eq!(lines.lock().dropped, 1);
        let output = Output::default();
        let (writing, mut sink) = (Arc::clone(&lines), output.clone());
        std::thread::spawn(move || writing.write_for_ever(&mut sink));
        lines.flush(Duration::from_secs(20));
        assert_eq!(lines.lock().dropped, 2, "the long line met a closed pipe");
        output.0.lock().unwrap().0 = true;
        lines.put(b"heard again\n");
        lines.flush(Duration::from_secs(20));
        let text = String::from_utf8(output.0.lock().unwrap().1.clone()).unwrap();
        assert_eq!(text, "2 log lines were dropped: nobody took them\nheard again\n");
    }
}

//! A program beside a node: a process of its own, what it says and when, and what is typed to it.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

/// Lines that were read and not yet looked at; the program waits when there are this many.
const LINES_MAX: usize = 100_000;

/// How long a line may be awaited.
const SAID_WITHIN: Duration = Duration::from_secs(30);

/// A line and when it was read.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) at: Instant,
    pub(crate) text: String,
}

pub(crate) struct Program {
    /// As it is spoken of: `client1`, `the server's copy on n2`.
    pub(crate) name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    heard: Receiver<Line>,
    /// All that it has said in this life.
    said: Vec<Line>,
    /// How much of it was given as news.
    told: usize,
}

impl Program {
    /// Starts it; what it complains about goes to the log.
    pub(crate) fn start(
        name: &str,
        binary: &Path,
        arguments: &[String],
        log: &Path,
    ) -> Result<Self, String> {
        let failed = |error| format!("{name} cannot be started: {error}");
        let log = File::options().create(true).append(true).open(log).map_err(failed)?;
        let mut child = Command::new(binary)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(failed)?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().expect("it is piped");
        let (tell, heard) = sync_channel(LINES_MAX);
        std::thread::spawn(move || {
            for text in BufReader::new(stdout).lines().map_while(Result::ok) {
                if tell.send(Line { at: Instant::now(), text }).is_err() {
                    break;
                }
            }
        });
        Ok(Self { name: name.to_owned(), child, stdin, heard, said: Vec::new(), told: 0 })
    }

    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    /// All that it has said in this life.
    pub(crate) fn said(&mut self) -> &[Line] {
        self.said.extend(self.heard.try_iter());
        &self.said
    }

    /// What it has said since this was asked last.
    pub(crate) fn news(&mut self) -> Vec<Line> {
        self.said.extend(self.heard.try_iter());
        let news = self.said[self.told..].to_vec();
        self.told = self.said.len();
        news
    }

    /// Waits until it has said a line with these words in it, `times` times in all.
    pub(crate) async fn wait_for(&mut self, words: &str, times: usize) -> Result<(), String> {
        let began = Instant::now();
        loop {
            let found = self.said().iter().filter(|line| line.text.contains(words)).count();
            if found >= times {
                return Ok(());
            }
            let ended = self.child.try_wait().ok().flatten();
            if began.elapsed() > SAID_WITHIN || ended.is_some() {
                let state =
                    ended.map_or("it still runs".to_owned(), |how| format!("it ended: {how}"));
                return Err(format!(
                    "{} did not say '{words}' {times} times ({state}); its last words: {}",
                    self.name,
                    self.last_words()
                ));
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    pub(crate) fn last_words(&self) -> String {
        let from = self.said.len().saturating_sub(5);
        let words: Vec<&str> = self.said[from..].iter().map(|line| line.text.as_str()).collect();
        format!("{words:?}")
    }

    /// A line at its keyboard.
    pub(crate) fn type_line(&mut self, text: &str) -> Result<(), String> {
        let failed = |error| format!("nothing can be typed to {}: {error}", self.name);
        let Some(stdin) = &mut self.stdin else {
            return Err(format!("{} has no keyboard", self.name));
        };
        writeln!(stdin, "{text}").map_err(failed)?;
        stdin.flush().map_err(failed)
    }

    /// SIGKILL. What it had said can still be asked for.
    pub(crate) fn kill(&mut self) -> Result<(), String> {
        let failed = |error| format!("a program cannot be killed: {error}");
        self.child.kill().map_err(failed)
    }

    /// After a kill: all that it had said.
    pub(crate) fn last_said(&mut self) -> Result<&[Line], String> {
        self.child.wait().map_err(|error| format!("{}: {error}", self.name))?;
        // The pipe is at its end now, so this comes to one, too.
        self.said.extend(self.heard.iter());
        Ok(&self.said)
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ended(&mut self) -> Result<(), String> {
        let began = Instant::now();
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(format!("{} ended with {status}", self.name)),
                Ok(None) if began.elapsed() > SAID_WITHIN => {
                    return Err(format!("{} does not end", self.name));
                }
                Ok(None) => tokio::time::sleep(Duration::from_millis(5)).await,
                Err(error) => return Err(format!("{}: {error}", self.name)),
            }
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to do.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

//! What the process does when it is told to end.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

use crate::inbox::{Event, Inbox};

/// The exit code of a process that ended itself because of a second SIGINT (128 + 2, as shells
/// have it).
const INTERRUPTED: i32 = 130;

/// Stops the node at the first signal, and the process at the second SIGINT.
pub(crate) async fn stop(inbox: &Inbox) -> io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    tracing::info!(target: "amrita", "stopping in good order; Ctrl-C once more ends it at once");
    inbox.put(Event::Stop);
    interrupt.recv().await;
    end_now()
}

#[expect(clippy::exit, reason = "the user insists; what was acknowledged is on the disk")]
fn end_now() -> ! {
    crate::logging::flush();
    std::process::exit(INTERRUPTED)
}

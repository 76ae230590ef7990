//! How a person or a scheduler asks the process to stop.

use std::io;

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// SIGTERM, from a scheduler.
    Terminate,
    /// Ctrl-C, from a person.
    Interrupt,
}

/// Listens from now on; ready when either comes.
///
/// # Errors
/// When the system lets nobody listen.
#[cfg(unix)]
pub(crate) fn stop_signal() -> io::Result<impl Future<Output = Stop>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => Stop::Terminate,
            _ = interrupt.recv() => Stop::Interrupt,
        }
    })
}

/// The same, with Ctrl-C alone.
#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "as on Unix")]
pub(crate) fn stop_signal() -> io::Result<impl Future<Output = Stop>> {
    Ok(async {
        // Without a handler for Ctrl-C there is nothing to wait for but the end of the process.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        Stop::Interrupt
    })
}

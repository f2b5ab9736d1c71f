//! From the signal to the last request.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use async_trait::async_trait;
use pingora::server::{RunArgs, Server, ShutdownSignal, ShutdownSignalWatch};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::drain::Drain;
use super::handover::Sockets;
use super::{notify, successor};
use crate::edge::{Connections, LINGER};
use crate::observe::access_log::AccessLog;

/// What may tell the gateway to stop.
#[derive(Clone)]
pub struct Signals(Source);

#[derive(Clone)]
enum Source {
    Process,
    Handle(watch::Receiver<Stop>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    No,
    Drain,
    Now,
}

/// Stops a gateway that runs inside another process.
pub struct StopHandle(watch::Sender<Stop>);

impl Signals {
    /// SIGTERM drains, SIGINT stops at once.
    pub fn of_the_process() -> Self {
        Signals(Source::Process)
    }

    pub fn by_handle() -> (StopHandle, Self) {
        let (sender, receiver) = watch::channel(Stop::No);
        (StopHandle(sender), Signals(Source::Handle(receiver)))
    }

    async fn wait(&self) -> Stop {
        match &self.0 {
            Source::Process => {
                let (Ok(mut terminate), Ok(mut interrupt)) = (
                    signal(SignalKind::terminate()),
                    signal(SignalKind::interrupt()),
                ) else {
                    log::error!("cannot hear signals; stop this process with SIGKILL");
                    return std::future::pending().await;
                };
                tokio::select! {
                    _ = terminate.recv() => Stop::Drain,
                    _ = interrupt.recv() => Stop::Now,
                }
            }
            Source::Handle(receiver) => {
                let mut receiver = receiver.clone();
                // A dropped handle stops too: nobody could ever do it later.
                match receiver.wait_for(|stop| *stop != Stop::No).await {
                    Ok(stop) => *stop,
                    Err(_) => Stop::Now,
                }
            }
        }
    }
}

impl Signals {
    /// Whoever began the drain has lost patience: SIGINT, or the handle's `now`.
    async fn impatience(&self) {
        match &self.0 {
            Source::Process => match signal(SignalKind::interrupt()) {
                Ok(mut interrupt) => {
                    interrupt.recv().await;
                }
                Err(_) => std::future::pending().await,
            },
            Source::Handle(receiver) => {
                let mut receiver = receiver.clone();
                // A handle that is gone lets the drain take its time.
                if receiver.wait_for(|stop| *stop == Stop::Now).await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        }
    }

    /// SIGHUP would end the process, which has no file that it could read again; who sends it wants no outage.
    fn outlive_hangup(&self) {
        let (Source::Process, Ok(mut hangup)) = (&self.0, signal(SignalKind::hangup())) else {
            return;
        };
        tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                log::warn!("SIGHUP: there is no file to be read again");
            }
        });
    }
}

impl StopHandle {
    pub fn drain(&self) {
        self.0.send_replace(Stop::Drain);
    }

    pub fn now(&self) {
        self.0.send_replace(Stop::Now);
    }
}

/// Fails readiness first, waits `pre_stop`, and only then lets Pingora close the listeners.
struct Watch {
    signals: Signals,
    /// SIGHUP is heard by somebody else.
    reloads: bool,
    drain: Drain,
    pre_stop: Duration,
    may_hand_over: bool,
    sockets: Sockets,
    handed_over: watch::Receiver<bool>,
}

/// What ending needs of a gateway, whose generations come and go.
pub(super) struct Ending {
    pub(super) drain: Drain,
    pub(super) access_log: Arc<AccessLog>,
    pub(super) connections: Arc<Connections>,
    pub(super) pre_stop: Duration,
    pub(super) may_hand_over: bool,
    /// Those that are held for a successor.
    pub(super) sockets: Sockets,
    pub(super) handed_over: watch::Receiver<bool>,
    /// This process was to take over, and cannot.
    pub(super) failed: Arc<AtomicBool>,
}

#[async_trait]
impl ShutdownSignalWatch for Watch {
    async fn recv(&self) -> ShutdownSignal {
        if !self.reloads {
            self.signals.outlive_hangup();
        }
        if matches!(self.signals.0, Source::Process) {
            successor::keep_listening(self.may_hand_over);
        }
        let mut handed_over = self.handed_over.clone();
        let stop = tokio::select! {
            stop = self.signals.wait() => stop,
            Ok(_) = handed_over.wait_for(|done| *done) => {
                // Whoever asks the sockets asks the successor: nothing has to be noticed by anybody.
                self.drain.stop();
                self.hear_impatience();
                self.drain.close();
                self.sockets.close();
                return ShutdownSignal::GracefulTerminate;
            }
        };
        self.drain.stop();
        // A service manager asks the new process, if there is one.
        notify::stopping();
        match stop {
            Stop::Now | Stop::No => ShutdownSignal::FastShutdown,
            Stop::Drain => {
                log::info!("stopping: readiness fails, requests in flight may finish");
                self.hear_impatience();
                tokio::time::sleep(self.pre_stop).await;
                self.drain.close();
                self.sockets.close();
                ShutdownSignal::GracefulTerminate
            }
        }
    }
}

impl Watch {
    fn hear_impatience(&self) {
        let (signals, drain) = (self.signals.clone(), self.drain.clone());
        tokio::spawn(async move {
            signals.impatience().await;
            log::warn!("told to stop again: requests in flight are cut off");
            drain.abandon();
        });
    }
}

/// Runs Pingora on a thread of its own, because its shutdown always sleeps the whole grace period: this returns as
/// soon as the last request is done.
pub(super) fn run(server: Server, signals: Signals, reloads: bool, ending: &Ending) -> ExitCode {
    let watch = Watch {
        signals,
        reloads,
        drain: ending.drain.clone(),
        pre_stop: ending.pre_stop,
        may_hand_over: ending.may_hand_over,
        sockets: ending.sockets.clone(),
        handed_over: ending.handed_over.clone(),
    };
    let (done, finished) = channel();
    let pingora = std::thread::Builder::new()
        .name("pingora".to_owned())
        .spawn(move || {
            server.run(RunArgs {
                shutdown_signal: Box::new(watch),
            });
            let _ = done.send(());
        });
    if let Err(error) = pingora {
        log::error!("cannot start a thread: {error}");
        return ExitCode::from(1);
    }
    const LOOK: Duration = Duration::from_millis(20);
    /// An idle gateway should not wake up for nothing.
    const GLANCE: Duration = Duration::from_millis(250);
    /// The listeners close a moment after they are told to; what they took in that moment counts.
    const CLOSING: Duration = Duration::from_millis(250);
    let mut closed_for = Duration::ZERO;
    loop {
        let pause = if ending.drain.stopping() {
            LOOK
        } else {
            GLANCE
        };
        match finished.recv_timeout(pause) {
            Ok(()) => break,
            Err(RecvTimeoutError::Disconnected) => {
                log::error!("the server panicked");
                return ExitCode::from(1);
            }
            Err(RecvTimeoutError::Timeout) => {
                if ending.drain.closed() {
                    closed_for += pause;
                }
                if ending.failed.load(Ordering::Acquire) {
                    return ExitCode::from(1);
                }
                let nobody = ending.connections.open() == 0 || closed_for >= LINGER;
                let quiet = closed_for >= CLOSING && ending.drain.active() == 0 && nobody;
                if quiet || ending.drain.abandoned() {
                    break;
                }
            }
        }
    }
    ending.access_log.close();
    log::info!("stopped");
    ExitCode::SUCCESS
}

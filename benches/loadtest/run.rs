//! The closed and the open loop.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::sleep,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
};

use crate::{
    ask::Asker,
    mix::Kind,
    record::{Record, Sent},
    schedule::{Arrivals, Clock, Schedule, pace},
    status::Status,
    summary::Summary,
    workload::Workload,
};

/// Pause of a closed loop's client whose connection failed: without it, it would only count how fast it fails.
const LOST_PAUSE: Duration = Duration::from_millis(100);
/// Longest sleep of the schedule, so that a stop is seen.
const SLEEP_MAX: Duration = Duration::from_millis(50);

/// How requests are sent.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Load {
    /// Each client sends its next request when its answer came.
    Closed { clients: u32 },
    /// Requests are sent when they are due, however long the answers take.
    Open { rate: f64, arrivals: Arrivals, in_flight_max: u32 },
}

/// What a run needs; the same for every run of the process.
#[derive(Debug, Clone)]
pub(crate) struct Generator {
    pub(crate) asker: Arc<Asker>,
    pub(crate) workload: Arc<Workload>,
    pub(crate) seed: u64,
    pub(crate) deadline: Duration,
    /// Turns true when the process should end.
    pub(crate) stop: watch::Receiver<bool>,
}

/// A run that goes on.
#[derive(Debug)]
pub(crate) struct Run {
    generator: Generator,
    start: Instant,
    end: Duration,
    record: Mutex<Record>,
    /// Number of the next query.
    next: AtomicU64,
    in_flight: AtomicU64,
}

impl Run {
    /// Prepares a run whose time begins now.
    pub(crate) fn new(generator: Generator, warm_up_seconds: u32, seconds: u32) -> Arc<Self> {
        let record = Record::new(Duration::from_secs(warm_up_seconds.into()), seconds, generator.deadline);
        let (next, in_flight) = (AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(Self {
            generator,
            start: Instant::now(),
            end: record.end,
            record: Mutex::new(record),
            next,
            in_flight,
        })
    }

    /// Sends until the run's time is over or it is stopped, and waits for every answer, each as long as it may take.
    pub(crate) async fn go(self: &Arc<Self>, load: Load) -> Summary {
        match load {
            Load::Closed { clients } => self.closed(clients).await,
            Load::Open { rate, arrivals, in_flight_max } => {
                self.open(Schedule::new(arrivals, rate, self.generator.seed), in_flight_max).await;
            }
        }
        Summary::of(&self.record())
    }

    /// What was counted so far.
    pub(crate) fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Requests that were sent and not answered yet.
    pub(crate) fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    async fn closed(self: &Arc<Self>, clients: u32) {
        let mut tasks = JoinSet::new();
        for _ in 0..clients {
            let run = Arc::clone(self);
            tasks.spawn(async move {
                while run.now() < run.end && !run.stopped() {
                    if run.ask(None).await == Status::ConnectionLost {
                        tokio::time::sleep(LOST_PAUSE).await;
                    }
                }
                run.end_if_stopped();
            });
        }
        tasks.join_all().await;
    }

    async fn open(self: &Arc<Self>, schedule: Schedule, in_flight_max: u32) {
        let places = Arc::new(Semaphore::new(usize::try_from(in_flight_max).unwrap_or(Semaphore::MAX_PERMITS)));
        // On a thread of its own: a timer of the runtime is late by up to a millisecond, and later while it is busy.
        let (run, free) = (Arc::clone(self), Arc::clone(&places));
        let scheduled = tokio::task::spawn_blocking(move || {
            pace(schedule, run.end, &*run, |due| {
                if let Ok(place) = Arc::clone(&free).try_acquire_owned() {
                    let run = Arc::clone(&run);
                    tokio::spawn(async move {
                        run.ask(Some(due)).await;
                        drop(place);
                    });
                } else {
                    let (kind, _) = run.next_query();
                    run.record().not_sent(kind, due);
                }
            });
            run.end_if_stopped();
        });
        drop(scheduled.await);
        // All places are free when every request has ended, which each does by itself.
        drop(places.acquire_many(in_flight_max).await);
    }

    /// Sends the next query, waits for its answer and counts it.
    async fn ask(&self, due: Option<Duration>) -> Status {
        let (kind, frame) = self.next_query();
        let sent = self.now();
        let request = Sent { kind, due: due.unwrap_or(sent), sent, bytes: frame.len() };
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        let outcome = self.generator.asker.ask(kind.method(), frame).await;
        let at = self.now();
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        let status = outcome.status;
        self.record().ended(request, outcome, at);
        status
    }

    fn next_query(&self) -> (Kind, Bytes) {
        self.generator.workload.query(self.next.fetch_add(1, Ordering::Relaxed))
    }

    fn end_if_stopped(&self) {
        if self.stopped() {
            self.record().end_at(self.now());
        }
    }
}

impl Clock for Run {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn wait_until(&self, then: Duration) {
        while !self.stopped()
            && let Some(rest) = then.checked_sub(self.now()).filter(|rest| !rest.is_zero())
        {
            sleep(rest.min(SLEEP_MAX));
        }
    }

    fn stopped(&self) -> bool {
        *self.generator.stop.borrow()
    }
}

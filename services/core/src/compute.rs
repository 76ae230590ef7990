//! A bounded pool of threads for work that would hold up an async thread, such as decoding a picture. It has two lanes:
//! what a person waits for goes before what a job waits for.

use std::{
    collections::VecDeque,
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Instant,
};

use tokio::sync::{Semaphore, oneshot};

use crate::{embed::Lane, meter};

/// Why work was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ComputeError {
    /// As much work as the lane takes is waiting or running.
    #[error("{queue} queue is full ({capacity} waiting)")]
    Full {
        /// Name of the pool.
        queue: &'static str,
        /// Its bound.
        capacity: usize,
    },
    /// The work panicked: our own bug. The pool goes on.
    #[error("work in the {queue} pool panicked")]
    Panicked {
        /// Name of the pool.
        queue: &'static str,
    },
}

/// Does what waits for the disk or another process on a thread that may wait.
///
/// # Errors
/// [`ComputeError::Panicked`].
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ComputeError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| ComputeError::Panicked { queue: "blocking" })
}

type Work = Box<dyn FnOnce() + Send>;

/// The pool. Dropping it lets its threads finish what runs, and joins them.
///
/// Its threads sleep while there is nothing to do: a pool made for splitting work, such as rayon's, looks for more for a
/// while after each piece.
#[derive(Debug)]
pub struct ComputePool {
    name: &'static str,
    capacity: usize,
    interactive: Arc<Semaphore>,
    bulk: Arc<Semaphore>,
    waiting: Arc<Waiting>,
    threads: Vec<JoinHandle<()>>,
}

/// What no thread has begun yet.
#[derive(Default)]
struct Waiting {
    lanes: Mutex<Lanes>,
    changed: Condvar,
}

#[derive(Default)]
struct Lanes {
    interactive: VecDeque<Work>,
    bulk: VecDeque<Work>,
    closed: bool,
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting").finish_non_exhaustive()
    }
}

impl Waiting {
    fn push(&self, lane: Lane, work: Work) {
        let mut lanes = self.lanes();
        match lane {
            Lane::Interactive => lanes.interactive.push_back(work),
            Lane::Bulk => lanes.bulk.push_back(work),
        }
        drop(lanes);
        self.changed.notify_one();
    }

    /// Blocks until there is work; `None` when the pool is closed.
    fn pop(&self) -> Option<Work> {
        let mut lanes = self.lanes();
        loop {
            if lanes.closed {
                return None;
            }
            if let Some(work) = lanes.interactive.pop_front().or_else(|| lanes.bulk.pop_front()) {
                return Some(work);
            }
            lanes = self.changed.wait(lanes).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        // No code that holds the lock leaves the lanes half-changed.
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ComputePool {
    fn drop(&mut self) {
        // Not under the lock: work may hold what comes back here when it is dropped.
        let left = {
            let mut lanes = self.waiting.lanes();
            lanes.closed = true;
            (std::mem::take(&mut lanes.interactive), std::mem::take(&mut lanes.bulk))
        };
        drop(left);
        self.waiting.changed.notify_all();
        // Work that holds the last use of the pool drops it on one of the pool's own threads.
        let own = thread::current().id();
        for thread in self.threads.drain(..).filter(|thread| thread.thread().id() != own) {
            if thread.join().is_err() {
                tracing::error!(pool = self.name, "a thread of the pool had panicked");
            }
        }
    }
}

impl ComputePool {
    /// Starts the threads. At most `capacity` pieces of work of each lane wait or run at once.
    ///
    /// # Errors
    /// When the system gives no threads.
    pub fn new(name: &'static str, threads: usize, capacity: usize) -> io::Result<Self> {
        let [interactive, bulk] = [(); 2].map(|()| Arc::new(Semaphore::new(capacity)));
        let mut pool = Self { name, capacity, interactive, bulk, waiting: Arc::default(), threads: Vec::new() };
        for number in 0..threads {
            let waiting = Arc::clone(&pool.waiting);
            let thread = thread::Builder::new().name(format!("{name}-{number}"));
            pool.threads.push(thread.spawn(move || {
                while let Some(work) = waiting.pop() {
                    work();
                }
            })?);
        }
        Ok(pool)
    }

    /// Does the work on one of the threads. Work whose caller left before it began is not done.
    ///
    /// # Errors
    /// See [`ComputeError`]. A full lane refuses at once.
    pub async fn run<T: Send + 'static>(
        &self,
        lane: Lane,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ComputeError> {
        let full = ComputeError::Full { queue: self.name, capacity: self.capacity };
        let place = Arc::clone(self.places(lane)).try_acquire_owned().map_err(|_| {
            meter::queue_refused(self.name, lane.name());
            full
        })?;
        let (reply, result) = oneshot::channel();
        let (pool, submitted) = (self.name, Instant::now());
        let work = move || {
            let _place = place;
            if reply.is_closed() {
                return meter::queue_dropped(pool, 1);
            }
            let started = Instant::now();
            let outcome = catch_unwind(AssertUnwindSafe(work));
            meter::compute_done(pool, started - submitted, started.elapsed());
            drop(reply.send(outcome));
        };
        self.waiting.push(lane, Box::new(work));
        match result.await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(_)) | Err(_) => Err(ComputeError::Panicked { queue: self.name }),
        }
    }

    fn places(&self, lane: Lane) -> &Arc<Semaphore> {
        match lane {
            Lane::Interactive => &self.interactive,
            Lane::Bulk => &self.bulk,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_fails_its_own_work_only() {
        let pool = ComputePool::new("test", 1, 4).unwrap();
        let panicked = pool.run(Lane::Bulk, || panic!("on purpose")).await;
        assert_eq!(panicked, Err::<(), _>(ComputeError::Panicked { queue: "test" }));
        assert_eq!(pool.run(Lane::Bulk, || 7).await, Ok(7));
    }

    #[tokio::test]
    async fn a_full_lane_refuses_at_once_and_the_other_does_not() {
        let pool = Arc::new(ComputePool::new("test", 1, 1).unwrap());
        let (open, gate) = std::sync::mpsc::channel::<()>();
        let busy = tokio::spawn({
            let pool = Arc::clone(&pool);
            async move { pool.run(Lane::Bulk, move || gate.recv().is_ok()).await }
        });
        while pool.bulk.available_permits() > 0 || !pool.waiting.lanes().bulk.is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(pool.run(Lane::Bulk, || 1).await, Err(ComputeError::Full { queue: "test", capacity: 1 }));
        let mut person = std::pin::pin!(pool.run(Lane::Interactive, || 2));
        assert!(futures::poll!(person.as_mut()).is_pending());
        open.send(()).unwrap();
        assert_eq!(busy.await.unwrap(), Ok(true));
        assert_eq!(person.await, Ok(2));
        while pool.bulk.available_permits() == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(pool.run(Lane::Bulk, || 3).await, Ok(3));
    }

    #[tokio::test]
    async fn what_a_person_waits_for_goes_before_what_jobs_queued() {
        let pool = ComputePool::new("test", 1, 8).unwrap();
        let (open, gate) = std::sync::mpsc::channel::<()>();
        let (done, order) = std::sync::mpsc::channel();
        let say = |name: &'static str| {
            let done = done.clone();
            move || done.send(name).unwrap()
        };
        let mut busy = std::pin::pin!(pool.run(Lane::Bulk, move || gate.recv().unwrap()));
        assert!(futures::poll!(busy.as_mut()).is_pending());
        while !pool.waiting.lanes().bulk.is_empty() {
            tokio::task::yield_now().await;
        }
        let mut job = std::pin::pin!(pool.run(Lane::Bulk, say("job")));
        let mut person = std::pin::pin!(pool.run(Lane::Interactive, say("person")));
        assert!(futures::poll!(job.as_mut()).is_pending() && futures::poll!(person.as_mut()).is_pending());
        open.send(()).unwrap();
        assert_eq!((busy.await, job.await, person.await), (Ok(()), Ok(()), Ok(())));
        assert_eq!(order.try_iter().collect::<Vec<_>>(), ["person", "job"]);
    }
}

//! A bounded pool of threads for work that would hold up an async thread, such as decoding a picture.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use tokio::sync::{Semaphore, oneshot};

/// Why work was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ComputeError {
    /// As much work as the pool takes is waiting or running.
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

/// The pool. Dropping it lets its threads finish what runs.
#[derive(Debug)]
pub struct ComputePool {
    name: &'static str,
    capacity: usize,
    places: Arc<Semaphore>,
    threads: rayon::ThreadPool,
}

impl ComputePool {
    /// Starts the threads. At most `capacity` pieces of work wait or run at once.
    ///
    /// # Errors
    /// When the system gives no threads.
    pub fn new(name: &'static str, threads: usize, capacity: usize) -> Result<Self, rayon::ThreadPoolBuildError> {
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(move |number| format!("{name}-{number}"))
            .build()?;
        Ok(Self { name, capacity, places: Arc::new(Semaphore::new(capacity)), threads })
    }

    /// Does the work on one of the threads. Work whose caller left before it began is not done.
    ///
    /// # Errors
    /// See [`ComputeError`]. A full pool refuses at once.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, ComputeError> {
        let full = ComputeError::Full { queue: self.name, capacity: self.capacity };
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| full)?;
        let (reply, result) = oneshot::channel();
        self.threads.spawn(move || {
            let _place = place;
            if !reply.is_closed() {
                drop(reply.send(catch_unwind(AssertUnwindSafe(work))));
            }
        });
        match result.await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(_)) | Err(_) => Err(ComputeError::Panicked { queue: self.name }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_fails_its_own_work_only() {
        let pool = ComputePool::new("test", 1, 4).unwrap();
        let panicked = pool.run(|| panic!("on purpose")).await;
        assert_eq!(panicked, Err::<(), _>(ComputeError::Panicked { queue: "test" }));
        assert_eq!(pool.run(|| 7).await, Ok(7));
    }

    #[tokio::test]
    async fn a_full_pool_refuses_at_once() {
        let pool = Arc::new(ComputePool::new("test", 1, 1).unwrap());
        let (open, gate) = std::sync::mpsc::channel::<()>();
        let busy = tokio::spawn({
            let pool = Arc::clone(&pool);
            async move { pool.run(move || gate.recv().is_ok()).await }
        });
        while pool.places.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(pool.run(|| 1).await, Err(ComputeError::Full { queue: "test", capacity: 1 }));
        open.send(()).unwrap();
        assert_eq!(busy.await.unwrap(), Ok(true));
        while pool.places.available_permits() == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(pool.run(|| 2).await, Ok(2));
    }
}

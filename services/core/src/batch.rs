//! A bounded queue in front of work that is done in batches by a few threads, such as inference sessions.
//!
//! A batch is formed when a thread is free, not before. It takes its thread's share of what waits, interactive before
//! bulk. Entries whose caller left or whose deadline passed never reach the work.

use std::{
    collections::VecDeque,
    io, mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use crate::embed::{CallContext, Lane};

/// How batches are formed.
#[derive(Debug, Clone, Copy)]
pub struct BatchConfig {
    /// Most entries in one batch.
    pub batch_size_max: usize,
    /// Longest wait of a batch's first entry for company; zero never waits.
    pub batch_wait_max: Duration,
    /// Most entries waiting in each lane.
    pub queue_size_max: usize,
}

/// Why an entry has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError<E> {
    /// The lane was full; nothing was enqueued.
    #[error("{queue} queue is full ({capacity} waiting)")]
    Full {
        /// Name of the queue.
        queue: &'static str,
        /// Its bound.
        capacity: usize,
    },
    /// The deadline passed first.
    #[error("deadline passed in the {queue} queue")]
    DeadlineExceeded {
        /// Name of the queue.
        queue: &'static str,
    },
    /// A thread has died, and with it the others.
    #[error("the {queue} threads have stopped")]
    Stopped {
        /// Name of the queue.
        queue: &'static str,
    },
    /// The work failed on this entry.
    #[error(transparent)]
    Work(E),
}

/// The queue and its threads. Dropping it lets each thread finish its batch and joins it.
#[derive(Debug)]
pub struct Batcher<I, O, E> {
    name: &'static str,
    config: BatchConfig,
    queue: Arc<Queue<I, O, E>>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Queue<I, O, E> {
    lanes: Mutex<Lanes<I, O, E>>,
    changed: Condvar,
}

#[derive(Debug)]
struct Lanes<I, O, E> {
    interactive: VecDeque<Entry<I, O, E>>,
    bulk: VecDeque<Entry<I, O, E>>,
    open: bool,
}

#[derive(Debug)]
struct Entry<I, O, E> {
    item: I,
    deadline: Option<Instant>,
    enqueued: Instant,
    reply: oneshot::Sender<Result<O, E>>,
}

impl<I, O, E> Batcher<I, O, E>
where
    I: Send + 'static,
    O: Send + 'static,
    E: Send + 'static,
{
    /// Starts a thread for each of `workers`, which gets 1 to `batch_size_max` items and answers with one result for
    /// each, in order.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn spawn<W>(name: &'static str, config: BatchConfig, workers: Vec<W>) -> io::Result<Self>
    where
        W: FnMut(Vec<I>) -> Vec<Result<O, E>> + Send + 'static,
    {
        let lanes = Lanes { interactive: VecDeque::new(), bulk: VecDeque::new(), open: true };
        let queue = Arc::new(Queue { lanes: Mutex::new(lanes), changed: Condvar::new() });
        let mut batcher = Self { name, config, queue, threads: Vec::new() };
        let shares = workers.len();
        for work in workers {
            let queue = Arc::clone(&batcher.queue);
            let thread = thread::Builder::new().name(name.to_owned());
            batcher.threads.push(thread.spawn(move || queue.serve(config, shares, work))?);
        }
        Ok(batcher)
    }

    /// Waits for the result of one item.
    ///
    /// # Errors
    /// See [`BatchError`]. A full lane refuses at once.
    pub async fn submit(&self, item: I, call: CallContext) -> Result<O, BatchError<E>> {
        let queue = self.name;
        let reply = self.enqueue(item, call)?;
        let outcome = call.until_deadline(reply).await.ok_or(BatchError::DeadlineExceeded { queue })?;
        match outcome {
            Ok(result) => result.map_err(BatchError::Work),
            // A thread drops an entry unanswered when its deadline has passed, or when it dies.
            Err(_) if call.deadline.is_some_and(|deadline| deadline <= Instant::now()) => {
                Err(BatchError::DeadlineExceeded { queue })
            }
            Err(_) => Err(BatchError::Stopped { queue }),
        }
    }

    /// Whether all threads run.
    pub fn is_alive(&self) -> bool {
        self.threads.iter().all(|thread| !thread.is_finished())
    }

    fn enqueue(&self, item: I, call: CallContext) -> Result<oneshot::Receiver<Result<O, E>>, BatchError<E>> {
        let (reply, receiver) = oneshot::channel();
        let entry = Entry { item, deadline: call.deadline, enqueued: Instant::now(), reply };
        let mut lanes = self.queue.lock();
        if !lanes.open {
            return Err(BatchError::Stopped { queue: self.name });
        }
        let lane = match call.lane {
            Lane::Interactive => &mut lanes.interactive,
            Lane::Bulk => &mut lanes.bulk,
        };
        if lane.len() >= self.config.queue_size_max {
            lane.retain(Entry::is_wanted);
        }
        if lane.len() >= self.config.queue_size_max {
            return Err(BatchError::Full { queue: self.name, capacity: self.config.queue_size_max });
        }
        lane.push_back(entry);
        drop(lanes);
        self.queue.changed.notify_one();
        Ok(receiver)
    }
}

impl<I, O, E> Drop for Batcher<I, O, E> {
    fn drop(&mut self) {
        self.queue.lock().open = false;
        self.queue.changed.notify_all();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!(queue = self.name, "batch thread had panicked");
            }
        }
    }
}

impl<I, O, E> Queue<I, O, E> {
    fn lock(&self) -> MutexGuard<'_, Lanes<I, O, E>> {
        // No code that holds the lock leaves the lanes half-changed.
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, config: BatchConfig, shares: usize, mut work: impl FnMut(Vec<I>) -> Vec<Result<O, E>>) {
        /// Refuses and drops everything when the thread ends, by whatever way.
        struct Close<'a, I, O, E>(&'a Queue<I, O, E>);
        impl<I, O, E> Drop for Close<'_, I, O, E> {
            fn drop(&mut self) {
                let mut lanes = self.0.lock();
                lanes.open = false;
                lanes.interactive.clear();
                lanes.bulk.clear();
                drop(lanes);
                self.0.changed.notify_all();
            }
        }

        let close = Close(self);
        while let Some(batch) = close.0.next_batch(config, shares) {
            let (items, replies): (Vec<_>, Vec<_>) = batch.into_iter().map(|entry| (entry.item, entry.reply)).unzip();
            for (reply, result) in replies.into_iter().zip(work(items)) {
                // A caller that left does not want its result.
                drop(reply.send(result));
            }
        }
    }

    /// Blocks until something waits; `None` when the queue is closed and empty.
    fn next_batch(&self, config: BatchConfig, shares: usize) -> Option<Vec<Entry<I, O, E>>> {
        let mut lanes = self.lock();
        loop {
            lanes.forget_unwanted();
            let Some(first) = lanes.oldest() else {
                if !lanes.open {
                    return None;
                }
                lanes = self.changed.wait(lanes).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let patience = (first + config.batch_wait_max).saturating_duration_since(Instant::now());
            if patience.is_zero() || lanes.len() >= config.batch_size_max || !lanes.open {
                let share = lanes.len().div_ceil(shares).min(config.batch_size_max);
                return Some(lanes.take(share));
            }
            lanes = self.changed.wait_timeout(lanes, patience).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl<I, O, E> Lanes<I, O, E> {
    fn len(&self) -> usize {
        self.interactive.len() + self.bulk.len()
    }

    fn oldest(&self) -> Option<Instant> {
        let front = |lane: &VecDeque<Entry<I, O, E>>| lane.front().map(|entry| entry.enqueued);
        front(&self.interactive).into_iter().chain(front(&self.bulk)).min()
    }

    fn forget_unwanted(&mut self) {
        self.interactive.retain(Entry::is_wanted);
        self.bulk.retain(Entry::is_wanted);
    }

    fn take(&mut self, size_max: usize) -> Vec<Entry<I, O, E>> {
        let mut batch = Vec::with_capacity(size_max.min(self.len()));
        for lane in [&mut self.interactive, &mut self.bulk] {
            let room = size_max - batch.len();
            if lane.len() <= room {
                batch.extend(mem::take(lane));
            } else {
                batch.extend(lane.drain(..room));
            }
        }
        batch
    }
}

impl<I, O, E> Entry<I, O, E> {
    fn is_wanted(&self) -> bool {
        !self.reply.is_closed() && self.deadline.is_none_or(|deadline| deadline > Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    type TestBatcher = Batcher<u32, u32, String>;

    const CONFIG: BatchConfig = BatchConfig { batch_size_max: 4, batch_wait_max: Duration::ZERO, queue_size_max: 3 };

    fn soon() -> CallContext {
        CallContext::interactive(Instant::now() + Duration::from_secs(30))
    }

    /// A batcher whose work reports each batch and then waits to be let go.
    fn gated(config: BatchConfig) -> (Arc<TestBatcher>, mpsc::Receiver<Vec<u32>>, mpsc::Sender<()>) {
        let (report, reported) = mpsc::channel();
        let (open, gate) = mpsc::channel();
        let batcher = Batcher::spawn(
            "test",
            config,
            vec![move |items: Vec<u32>| {
                report.send(items.clone()).unwrap();
                gate.recv().unwrap();
                items
                    .into_iter()
                    .map(|item| if item == 13 { Err("unlucky".to_owned()) } else { Ok(item * 2) })
                    .collect()
            }],
        );
        (Arc::new(batcher.unwrap()), reported, open)
    }

    fn submit(
        batcher: &Arc<TestBatcher>,
        item: u32,
        call: CallContext,
    ) -> tokio::task::JoinHandle<Result<u32, BatchError<String>>> {
        let batcher = Arc::clone(batcher);
        tokio::spawn(async move { batcher.submit(item, call).await })
    }

    /// Waits until the queue holds `count` entries.
    async fn until_waiting(batcher: &TestBatcher, count: usize) {
        while batcher.queue.lock().len() != count {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn what_waits_while_the_thread_is_busy_becomes_one_batch_interactive_first() {
        let (batcher, reported, open) = gated(CONFIG);
        let first = submit(&batcher, 1, soon());
        assert_eq!(tokio::task::spawn_blocking(move || (reported.recv().unwrap(), reported)).await.unwrap().0, [1]);
        drop(first);
        drop(open);
        let (batcher, reported, open) = gated(CONFIG);
        let first = submit(&batcher, 1, soon());
        let (batch, reported) =
            tokio::task::spawn_blocking(move || (reported.recv().unwrap(), reported)).await.unwrap();
        assert_eq!(batch, [1]);
        let bulk = submit(&batcher, 2, CallContext::bulk());
        until_waiting(&batcher, 1).await;
        let person = submit(&batcher, 13, soon());
        until_waiting(&batcher, 2).await;
        open.send(()).unwrap();
        open.send(()).unwrap();
        assert_eq!(first.await.unwrap(), Ok(2));
        assert_eq!(bulk.await.unwrap(), Ok(4));
        assert_eq!(person.await.unwrap(), Err(BatchError::Work("unlucky".to_owned())));
        assert_eq!(reported.recv().unwrap(), [13, 2]);
    }

    #[tokio::test]
    async fn full_queue_refuses_at_once_and_enqueues_nothing() {
        let (batcher, reported, open) = gated(CONFIG);
        let _first = submit(&batcher, 1, soon());
        let reported = tokio::task::spawn_blocking(move || (reported.recv().unwrap(), reported)).await.unwrap().1;
        let waiting: Vec<_> = (2..5).map(|item| submit(&batcher, item, soon())).collect();
        until_waiting(&batcher, 3).await;
        assert_eq!(batcher.submit(5, soon()).await, Err(BatchError::Full { queue: "test", capacity: 3 }));
        assert_eq!(batcher.queue.lock().len(), 3);
        open.send(()).unwrap();
        open.send(()).unwrap();
        for (item, handle) in (2..).zip(waiting) {
            assert_eq!(handle.await.unwrap(), Ok(item * 2));
        }
        assert_eq!(reported.recv().unwrap(), [2, 3, 4]);
    }

    #[tokio::test]
    async fn entries_whose_caller_left_or_is_late_never_reach_the_work() {
        let (batcher, reported, open) = gated(CONFIG);
        let first = submit(&batcher, 1, soon());
        let reported = tokio::task::spawn_blocking(move || (reported.recv().unwrap(), reported)).await.unwrap().1;
        let left = submit(&batcher, 2, soon());
        until_waiting(&batcher, 1).await;
        left.abort();
        assert!(left.await.unwrap_err().is_cancelled());
        let late = batcher.submit(3, CallContext::interactive(Instant::now())).await;
        assert_eq!(late, Err(BatchError::DeadlineExceeded { queue: "test" }));
        let last = submit(&batcher, 4, soon());
        until_waiting(&batcher, 3).await;
        open.send(()).unwrap();
        open.send(()).unwrap();
        assert_eq!(first.await.unwrap(), Ok(2));
        assert_eq!(last.await.unwrap(), Ok(8));
        assert_eq!(reported.recv().unwrap(), [4]);
    }

    #[tokio::test]
    async fn a_thread_that_dies_is_noticed() {
        let batcher =
            Batcher::spawn("test", CONFIG, vec![|_: Vec<u32>| -> Vec<Result<u32, String>> { panic!("on purpose") }]);
        let batcher: TestBatcher = batcher.unwrap();
        assert_eq!(batcher.submit(1, soon()).await, Err(BatchError::Stopped { queue: "test" }));
        while batcher.is_alive() {
            tokio::task::yield_now().await;
        }
        assert_eq!(batcher.submit(2, soon()).await, Err(BatchError::Stopped { queue: "test" }));
    }

    #[tokio::test]
    async fn threads_share_what_waits() {
        let config = BatchConfig { queue_size_max: 9, ..CONFIG };
        let (report, reported) = mpsc::channel();
        let gate = Arc::new(std::sync::Barrier::new(2));
        let workers = [(); 2].map(|()| {
            let (report, gate) = (report.clone(), Arc::clone(&gate));
            move |items: Vec<u32>| -> Vec<Result<u32, String>> {
                // Nobody goes on before both have something to do.
                gate.wait();
                report.send(items.len()).unwrap();
                items.into_iter().map(Ok).collect()
            }
        });
        let batcher: Arc<TestBatcher> = Arc::new(Batcher::spawn("test", config, workers.into()).unwrap());
        let all: Vec<_> = (0..2).map(|item| submit(&batcher, item, soon())).collect();
        for (item, handle) in (0..).zip(all) {
            assert_eq!(handle.await.unwrap(), Ok(item));
        }
        assert_eq!([reported.recv().unwrap(), reported.recv().unwrap()], [1, 1]);
    }

    #[tokio::test]
    async fn a_batch_waits_for_company_up_to_its_size() {
        let config = BatchConfig { batch_size_max: 2, batch_wait_max: Duration::from_secs(30), queue_size_max: 9 };
        let (batcher, reported, open) = gated(config);
        open.send(()).unwrap();
        let (one, two) = (submit(&batcher, 1, soon()), submit(&batcher, 2, soon()));
        assert_eq!((one.await.unwrap(), two.await.unwrap()), (Ok(2), Ok(4)));
        assert_eq!(reported.recv().unwrap().len(), 2);
    }
}

//! A bounded queue in front of work that is done in batches by a few threads, such as inference sessions.
//!
//! A batch is formed when a thread is free, not before. It takes its thread's share of what waits, interactive before
//! bulk, and of that what is of about one length: what is padded is computed, too. Entries whose caller left or whose deadline passed never reach the work, and an entry that would wait past its
//! deadline is refused at once: under overload the work is then done for those who still want its result.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use crate::{
    embed::{CallContext, Lane},
    meter,
};

/// The part of a batch that may be padding is one in so many.
/// 8: a batch of four texts saves the bundled model a fifth of what they cost alone (`benches/README.md` compares one by
/// one with a batch); padding must not eat that up.
const PADDING_PART: usize = 8;

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
        /// Its bound, or as many as the deadline leaves no time for.
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
    name: &'static str,
    lanes: Mutex<Lanes<I, O, E>>,
    changed: Condvar,
}

#[derive(Debug)]
struct Lanes<I, O, E> {
    interactive: VecDeque<Entry<I, O, E>>,
    bulk: VecDeque<Entry<I, O, E>>,
    /// Places that are taken for items still being made.
    reserved_interactive: usize,
    reserved_bulk: usize,
    /// Items that the threads are at.
    in_work: usize,
    /// What an item has taken a thread, on a moving average; zero before the first.
    item_time: Duration,
    open: bool,
}

/// A place in a queue for an item that is still being made. Dropping it gives the place back.
#[derive(Debug)]
pub struct Place<'a, I, O, E> {
    queue: &'a Queue<I, O, E>,
    call: CallContext,
}

impl<I, O, E> Drop for Place<'_, I, O, E> {
    fn drop(&mut self) {
        *self.queue.lock().reserved(self.call.lane) -= 1;
    }
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
    /// `length` says how long an item is, in any unit: a batch costs its longest item, times their number.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn spawn<W>(
        name: &'static str,
        config: BatchConfig,
        length: fn(&I) -> usize,
        workers: Vec<W>,
    ) -> io::Result<Self>
    where
        W: FnMut(Vec<I>) -> Vec<Result<O, E>> + Send + 'static,
    {
        let lanes = Lanes {
            interactive: VecDeque::new(),
            bulk: VecDeque::new(),
            reserved_interactive: 0,
            reserved_bulk: 0,
            in_work: 0,
            item_time: Duration::ZERO,
            open: true,
        };
        let queue = Arc::new(Queue { name, lanes: Mutex::new(lanes), changed: Condvar::new() });
        let mut batcher = Self { name, config, queue, threads: Vec::new() };
        let shares = workers.len();
        for work in workers {
            let queue = Arc::clone(&batcher.queue);
            let thread = thread::Builder::new().name(name.to_owned());
            batcher.threads.push(thread.spawn(move || queue.serve(config, shares, length, work))?);
        }
        Ok(batcher)
    }

    /// Takes a place for an item before the item is made.
    ///
    /// # Errors
    /// At once, when the lane is full, when the item's turn would come after its deadline, or the threads have stopped.
    pub fn reserve(&self, call: CallContext) -> Result<Place<'_, I, O, E>, BatchError<E>> {
        let place = self.try_reserve(call);
        if matches!(place, Err(BatchError::Full { .. })) {
            meter::queue_refused(self.name, call.lane.name());
        }
        place
    }

    fn try_reserve(&self, call: CallContext) -> Result<Place<'_, I, O, E>, BatchError<E>> {
        let queue = self.name;
        let mut lanes = self.queue.lock();
        if !lanes.open {
            return Err(BatchError::Stopped { queue });
        }
        let capacity = self.config.queue_size_max;
        if lanes.taken(call.lane) >= capacity {
            meter::queue_dropped(queue, lanes.forget_unwanted());
        }
        if lanes.taken(call.lane) >= capacity {
            return Err(BatchError::Full { queue, capacity });
        }
        let ahead = lanes.ahead(call.lane);
        let turns = u32::try_from((ahead + 1).div_ceil(self.threads.len().max(1))).unwrap_or(u32::MAX);
        // Half as long again: what is still being made competes for the same cores.
        let done = Instant::now() + lanes.item_time.saturating_mul(turns) * 3 / 2;
        // With nothing ahead it is tried, so that one slow item cannot close the queue for good.
        if ahead > 0 && call.deadline.is_some_and(|deadline| deadline < done) {
            let late = call.deadline.is_some_and(|deadline| deadline <= Instant::now());
            let full = BatchError::Full { queue, capacity: ahead };
            return Err(if late { BatchError::DeadlineExceeded { queue } } else { full });
        }
        *lanes.reserved(call.lane) += 1;
        drop(lanes);
        Ok(Place { queue: &self.queue, call })
    }

    /// Waits for the result of one item.
    ///
    /// # Errors
    /// See [`BatchError`] and [`Batcher::reserve`].
    pub async fn submit(&self, item: I, call: CallContext) -> Result<O, BatchError<E>> {
        let place = self.reserve(call)?;
        self.submit_in(place, item).await
    }

    /// The same in a place that was taken before.
    ///
    /// # Errors
    /// See [`BatchError`].
    pub async fn submit_in(&self, place: Place<'_, I, O, E>, item: I) -> Result<O, BatchError<E>> {
        let (queue, call) = (self.name, place.call);
        let reply = self.enqueue(item, place)?;
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

    fn enqueue(&self, item: I, place: Place<'_, I, O, E>) -> Result<oneshot::Receiver<Result<O, E>>, BatchError<E>> {
        let call = place.call;
        drop(place);
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

    fn serve(
        &self,
        config: BatchConfig,
        shares: usize,
        length: fn(&I) -> usize,
        mut work: impl FnMut(Vec<I>) -> Vec<Result<O, E>>,
    ) {
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
        while let Some(batch) = close.0.next_batch(config, shares, length) {
            meter::batch_formed(close.0.name, batch.iter().map(|entry| entry.enqueued.elapsed()));
            let (items, replies): (Vec<_>, Vec<_>) = batch.into_iter().map(|entry| (entry.item, entry.reply)).unzip();
            let (count, started) = (items.len(), Instant::now());
            let results = work(items);
            let time = started.elapsed();
            close.0.lock().finish(count, time);
            meter::batch_done(close.0.name, time);
            for (reply, result) in replies.into_iter().zip(results) {
                // A caller that left does not want its result.
                drop(reply.send(result));
            }
        }
    }

    /// Blocks until something waits; `None` when the queue is closed and empty.
    fn next_batch(&self, config: BatchConfig, shares: usize, length: fn(&I) -> usize) -> Option<Vec<Entry<I, O, E>>> {
        let mut lanes = self.lock();
        loop {
            meter::queue_dropped(self.name, lanes.forget_unwanted());
            let Some(first) = lanes.oldest() else {
                if !lanes.open {
                    return None;
                }
                lanes = self.changed.wait(lanes).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let patience = (first + config.batch_wait_max).saturating_duration_since(Instant::now());
            if patience.is_zero() || lanes.len() >= config.batch_size_max || !lanes.open {
                return Some(lanes.take(config.batch_size_max, shares, length));
            }
            lanes = self.changed.wait_timeout(lanes, patience).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl<I, O, E> Lanes<I, O, E> {
    fn len(&self) -> usize {
        self.interactive.len() + self.bulk.len()
    }

    fn reserved(&mut self, lane: Lane) -> &mut usize {
        match lane {
            Lane::Interactive => &mut self.reserved_interactive,
            Lane::Bulk => &mut self.reserved_bulk,
        }
    }

    /// Places of a lane that are not free.
    fn taken(&self, lane: Lane) -> usize {
        match lane {
            Lane::Interactive => self.interactive.len() + self.reserved_interactive,
            Lane::Bulk => self.bulk.len() + self.reserved_bulk,
        }
    }

    /// Items that come before a new one of a lane.
    fn ahead(&self, lane: Lane) -> usize {
        let interactive = self.in_work + self.taken(Lane::Interactive);
        match lane {
            Lane::Interactive => interactive,
            Lane::Bulk => interactive + self.taken(Lane::Bulk),
        }
    }

    /// Notes what a batch took its thread.
    fn finish(&mut self, count: usize, time: Duration) {
        self.in_work -= count;
        let each = time / u32::try_from(count).unwrap_or(u32::MAX).max(1);
        self.item_time = if self.item_time.is_zero() { each } else { (self.item_time * 7 + each) / 8 };
    }

    fn oldest(&self) -> Option<Instant> {
        let front = |lane: &VecDeque<Entry<I, O, E>>| lane.front().map(|entry| entry.enqueued);
        front(&self.interactive).into_iter().chain(front(&self.bulk)).min()
    }

    /// Answers how many were forgotten.
    fn forget_unwanted(&mut self) -> usize {
        let before = self.len();
        self.interactive.retain(Entry::is_wanted);
        self.bulk.retain(Entry::is_wanted);
        before - self.len()
    }

    /// One of `shares` parts of the lane that goes first: its oldest entry, and those behind it that are of about the
    /// same length. Lanes are not mixed: nobody who waits in person waits for a job's items in his own batch.
    fn take(&mut self, size_max: usize, shares: usize, length: fn(&I) -> usize) -> Vec<Entry<I, O, E>> {
        let lane = if self.interactive.is_empty() { &mut self.bulk } else { &mut self.interactive };
        let size_max = lane.len().div_ceil(shares).min(size_max);
        let (mut longest, mut total) = (0, 0);
        let (mut batch, mut left) = (Vec::with_capacity(size_max), VecDeque::with_capacity(lane.len()));
        for entry in lane.drain(..) {
            let own = length(&entry.item).max(1);
            let (padded, filled) = (longest.max(own) * (batch.len() + 1), total + own);
            if batch.len() < size_max && (padded - filled) * PADDING_PART <= padded {
                (longest, total) = (longest.max(own), filled);
                batch.push(entry);
            } else {
                left.push_back(entry);
            }
        }
        *lane = left;
        self.in_work += batch.len();
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
            // Only large numbers differ in length.
            |item| usize::try_from(*item).unwrap().max(100),
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
    async fn what_waits_while_the_thread_is_busy_becomes_batches_interactive_first() {
        let (batcher, reported, open) = gated(CONFIG);
        let first = submit(&batcher, 1, soon());
        let (batch, reported) =
            tokio::task::spawn_blocking(move || (reported.recv().unwrap(), reported)).await.unwrap();
        assert_eq!(batch, [1]);
        let jobs = [2, 3].map(|item| submit(&batcher, item, CallContext::bulk()));
        until_waiting(&batcher, 2).await;
        let person = submit(&batcher, 13, soon());
        until_waiting(&batcher, 3).await;
        (0..3).for_each(|_| open.send(()).unwrap());
        assert_eq!(first.await.unwrap(), Ok(2));
        assert_eq!(person.await.unwrap(), Err(BatchError::Work("unlucky".to_owned())));
        for (job, result) in jobs.into_iter().zip([4, 6]) {
            assert_eq!(job.await.unwrap(), Ok(result));
        }
        assert_eq!(reported.iter().take(2).collect::<Vec<_>>(), [vec![13], vec![2, 3]]);
    }

    #[tokio::test]
    async fn a_batch_is_of_about_one_length_and_begins_with_the_oldest() {
        let (batcher, reported, open) = gated(BatchConfig { queue_size_max: 9, ..CONFIG });
        let first = submit(&batcher, 1, soon());
        let reported = tokio::task::spawn_blocking(move || (reported.recv().unwrap(), reported)).await.unwrap().1;
        let mut waiting = Vec::new();
        for (count, item) in (1..).zip([100, 300, 110, 105, 290]) {
            waiting.push(submit(&batcher, item, soon()));
            until_waiting(&batcher, count).await;
        }
        (0..3).for_each(|_| open.send(()).unwrap());
        assert_eq!(first.await.unwrap(), Ok(2));
        for handle in waiting {
            assert!(handle.await.unwrap().is_ok());
        }
        assert_eq!(reported.iter().take(2).collect::<Vec<_>>(), [vec![100, 110, 105], vec![300, 290]]);
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
    async fn a_reserved_place_is_taken_until_it_is_dropped() {
        let (batcher, _reported, _open) = gated(CONFIG);
        let places = [(); 3].map(|()| batcher.reserve(soon()).unwrap());
        assert_eq!(batcher.submit(1, soon()).await, Err(BatchError::Full { queue: "test", capacity: 3 }));
        drop(places);
        assert!(batcher.reserve(soon()).is_ok());
    }

    #[tokio::test]
    async fn an_item_whose_turn_comes_after_its_deadline_is_refused_at_once() {
        let config = BatchConfig { batch_size_max: 1, queue_size_max: 99, ..CONFIG };
        let batcher = Batcher::spawn(
            "test",
            config,
            |_| 1,
            vec![|items: Vec<u32>| -> Vec<Result<u32, String>> {
                thread::sleep(Duration::from_millis(50) * items[0]);
                items.into_iter().map(Ok).collect()
            }],
        );
        let batcher: Arc<TestBatcher> = Arc::new(batcher.unwrap());
        assert_eq!(batcher.submit(1, soon()).await, Ok(1));
        let _long = submit(&batcher, 10, soon());
        while batcher.queue.lock().in_work == 0 {
            tokio::task::yield_now().await;
        }
        let hurried = CallContext::interactive(Instant::now() + Duration::from_millis(60));
        assert_eq!(batcher.submit(1, hurried).await, Err(BatchError::Full { queue: "test", capacity: 1 }));
        let late = CallContext::interactive(Instant::now());
        assert_eq!(batcher.submit(1, late).await, Err(BatchError::DeadlineExceeded { queue: "test" }));
        assert!(batcher.reserve(soon()).is_ok());
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
        let late = CallContext::interactive(Instant::now() + Duration::from_millis(5));
        let late = batcher.submit(3, late).await;
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
        let batcher = Batcher::spawn(
            "test",
            CONFIG,
            |_| 1,
            vec![|_: Vec<u32>| -> Vec<Result<u32, String>> { panic!("on purpose") }],
        );
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
        let batcher: Arc<TestBatcher> = Arc::new(Batcher::spawn("test", config, |_| 1, workers.into()).unwrap());
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

//! What waits to be asked for. Nothing waits for company: it waits while as many calls as the pool gets at once are
//! under way, and what has gathered by then goes out together.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tokio::sync::{Notify, oneshot};
use vitrine_core::{
    embed::{CallContext, EmbedError, Embedding, Lane},
    limits::{EMBED_INPUTS_MAX, MESSAGE_BYTES_MAX},
    meter,
    signal::{Photo, QueryText},
};
use vitrine_proto::v1::{self as pb, embed_input::Source};

/// Its name in errors and metrics.
const NAME: &str = "embedding pool";
/// Most inputs in one call. 16: what `EmbeddingService` works on at once of one request; more would wait there, where
/// no other endpoint can take them.
const CALL_SIZE_MAX: usize = 16;
const _: () = assert!(CALL_SIZE_MAX <= EMBED_INPUTS_MAX);
/// Most bytes of what an input brings along: tags, lengths, region and time.
const INPUT_BYTES_EXTRA: usize = 96;
/// Most bytes of inputs in one call. The largest photo, 20 MiB, is well below it by itself.
const CALL_BYTES_MAX: usize = MESSAGE_BYTES_MAX - 1024;

/// What is to be embedded. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) enum Input {
    /// Its bytes as they are: whoever has the model decodes them.
    Photo(Photo),
    /// Words.
    Text(QueryText),
}

impl Input {
    /// As the contract has it.
    pub(crate) fn source(&self) -> Source {
        match self {
            Self::Text(text) => Source::Text(text.as_str().to_owned()),
            Self::Photo(photo) => {
                let region = photo.region().map(|region| region.edges());
                let region = region.map(|[left, top, right, bottom]| pb::Region { left, top, right, bottom });
                Source::Photo(pb::Photo { content: photo.content().clone(), region })
            }
        }
    }

    fn bytes(&self) -> usize {
        INPUT_BYTES_EXTRA
            + match self {
                Self::Photo(photo) => photo.content().len(),
                Self::Text(text) => text.as_str().len(),
            }
    }

    /// Texts do not wait in one call with photos, which take longer.
    fn is_photo(&self) -> bool {
        matches!(self, Self::Photo(_))
    }
}

/// An input, and who waits for its vector.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) input: Input,
    pub(crate) bypass_cache: bool,
    pub(crate) deadline: Option<Instant>,
    pub(crate) reply: oneshot::Sender<Result<Embedding, EmbedError>>,
}

impl Entry {
    pub(crate) fn is_wanted(&self) -> bool {
        !self.reply.is_closed() && self.deadline.is_none_or(|deadline| deadline > Instant::now())
    }

    fn goes_with(&self, other: &Self) -> bool {
        self.bypass_cache == other.bypass_cache && self.input.is_photo() == other.input.is_photo()
    }
}

/// What goes out in one call: of one lane, all photos or all texts.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) lane: Lane,
    pub(crate) entries: Vec<Entry>,
}

/// Two bounded lanes.
#[derive(Debug)]
pub(crate) struct Queue {
    size_max: usize,
    lanes: Mutex<Lanes>,
    pub(crate) changed: Notify,
}

#[derive(Debug, Default)]
struct Lanes {
    interactive: VecDeque<Entry>,
    bulk: VecDeque<Entry>,
}

impl Lanes {
    fn of(&mut self, lane: Lane) -> &mut VecDeque<Entry> {
        match lane {
            Lane::Interactive => &mut self.interactive,
            Lane::Bulk => &mut self.bulk,
        }
    }
}

impl Queue {
    pub(crate) fn new(size_max: usize) -> Self {
        Self { size_max, lanes: Mutex::default(), changed: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Lanes> {
        // No code that holds the lock leaves the lanes half-changed.
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts an input into its lane. Dropping the receiver takes it out again.
    ///
    /// # Errors
    /// [`EmbedError::Overloaded`], at once, when the lane is full.
    pub(crate) fn push(
        &self,
        input: Input,
        call: CallContext,
    ) -> Result<oneshot::Receiver<Result<Embedding, EmbedError>>, EmbedError> {
        let (reply, receiver) = oneshot::channel();
        let entry = Entry { input, bypass_cache: call.bypass_cache, deadline: call.deadline, reply };
        {
            let mut lanes = self.lock();
            let lane = lanes.of(call.lane);
            if lane.len() >= self.size_max {
                meter::queue_dropped(NAME, forget_unwanted(lane));
            }
            if lane.len() >= self.size_max {
                meter::queue_refused(NAME, call.lane.name());
                return Err(EmbedError::Overloaded { queue: NAME, capacity: self.size_max });
            }
            lane.push_back(entry);
        }
        self.changed.notify_one();
        Ok(receiver)
    }

    /// Takes one of `shares` parts of a lane: its oldest entry, and those behind it that fit into the same call.
    pub(crate) fn take(&self, lane: Lane, shares: usize) -> Option<Batch> {
        let mut lanes = self.lock();
        let waiting = lanes.of(lane);
        meter::queue_dropped(NAME, forget_unwanted(waiting));
        let size_max = waiting.len().div_ceil(shares.max(1)).min(CALL_SIZE_MAX);
        let first = waiting.pop_front()?;
        let mut bytes = first.input.bytes();
        let mut entries = vec![first];
        let mut left = VecDeque::with_capacity(waiting.len());
        for entry in waiting.drain(..) {
            let (own, fits) = (entry.input.bytes(), entries.first().is_some_and(|first| entry.goes_with(first)));
            if fits && entries.len() < size_max && bytes + own <= CALL_BYTES_MAX {
                bytes += own;
                entries.push(entry);
            } else {
                left.push_back(entry);
            }
        }
        *waiting = left;
        Some(Batch { lane, entries })
    }
}

/// Answers how many were forgotten.
fn forget_unwanted(lane: &mut VecDeque<Entry>) -> usize {
    let before = lane.len();
    lane.retain(Entry::is_wanted);
    before - lane.len()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use prost::Message as _;
    use vitrine_core::{limits::PHOTO_BYTES_MAX, signal::Region};

    use super::*;

    fn text(text: &str) -> Input {
        Input::Text(QueryText::new(text, "").unwrap())
    }

    fn photo(bytes: usize) -> Input {
        let region = Region::new(0.1, 0.2, 0.3, 0.4).unwrap();
        Input::Photo(Photo::new(Bytes::from(vec![7; bytes]), Some(region)).unwrap())
    }

    fn shown(batch: Option<Batch>) -> Vec<String> {
        let text = |entry: &Entry| match &entry.input {
            Input::Text(text) => text.as_str().to_owned(),
            Input::Photo(photo) => format!("{} bytes", photo.content().len()),
        };
        batch.map(|batch| batch.entries.iter().map(text).collect()).unwrap_or_default()
    }

    #[test]
    fn what_waits_is_shared_out_by_kind_and_oldest_first() {
        let queue = Queue::new(99);
        let bypassing = CallContext { bypass_cache: true, ..CallContext::bulk() };
        let mut receivers = Vec::new();
        for (input, call) in [
            (text("a"), CallContext::bulk()),
            (photo(1), CallContext::bulk()),
            (text("b"), bypassing),
            (text("c"), CallContext::bulk()),
            (text("d"), CallContext::bulk()),
        ] {
            receivers.push(queue.push(input, call).unwrap());
        }
        assert!(queue.take(Lane::Interactive, 1).is_none());
        assert_eq!(shown(queue.take(Lane::Bulk, 2)), ["a", "c", "d"]);
        assert_eq!(shown(queue.take(Lane::Bulk, 1)), ["1 bytes"]);
        assert_eq!(shown(queue.take(Lane::Bulk, 1)), ["b"]);
        assert!(queue.take(Lane::Bulk, 1).is_none());
    }

    #[test]
    fn a_call_has_as_many_inputs_as_the_service_works_on_at_once() {
        let queue = Queue::new(99);
        let _receivers: Vec<_> = (0..40).map(|_| queue.push(text("a"), CallContext::bulk()).unwrap()).collect();
        assert_eq!([(); 3].map(|()| queue.take(Lane::Bulk, 1).unwrap().entries.len()), [16, 16, 8]);
    }

    #[test]
    fn the_largest_photos_fill_a_message_and_do_not_overflow_it() {
        let queue = Queue::new(99);
        let rest = CALL_BYTES_MAX - PHOTO_BYTES_MAX - 2 * INPUT_BYTES_EXTRA;
        let sizes = [PHOTO_BYTES_MAX, PHOTO_BYTES_MAX, rest + 1, rest];
        let _receivers: Vec<_> = sizes.map(|size| queue.push(photo(size), CallContext::bulk()).unwrap()).into();
        let batch = queue.take(Lane::Bulk, 1).unwrap();
        let time = prost_types::Duration { seconds: i64::MAX, nanos: i32::MAX };
        let input = |entry: &Entry| pb::EmbedInput { source: Some(entry.input.source()), timeout: Some(time) };
        let inputs: Vec<_> = batch.entries.iter().map(input).collect();
        let message = pb::EmbedRequest { inputs, priority: 2, bypass_cache: true }.encoded_len();
        assert!((MESSAGE_BYTES_MAX - 2048..=MESSAGE_BYTES_MAX).contains(&message), "{message}");
        assert_eq!(shown(Some(batch)), [format!("{PHOTO_BYTES_MAX} bytes"), format!("{rest} bytes")]);
    }

    #[test]
    fn a_full_lane_refuses_at_once_and_who_left_or_is_late_makes_room() {
        let queue = Queue::new(2);
        let late = CallContext { deadline: Some(Instant::now()), ..CallContext::bulk() };
        let (left, _late) = (queue.push(text("left"), CallContext::bulk()).unwrap(), queue.push(text("late"), late));
        drop(left);
        let _receivers = ["a", "b"].map(|word| queue.push(text(word), CallContext::bulk()).unwrap());
        let refused = queue.push(text("c"), CallContext::bulk()).unwrap_err();
        assert_eq!(refused, EmbedError::Overloaded { queue: NAME, capacity: 2 });
        let soon = CallContext::interactive(Instant::now() + Duration::from_secs(30));
        let _person = queue.push(text("person"), soon).unwrap();
        assert_eq!(shown(queue.take(Lane::Bulk, 1)), ["a", "b"]);
    }
}

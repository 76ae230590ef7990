//! The queries of a run, as the bytes that are sent.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use bytes::{BufMut as _, Bytes, BytesMut};
use fastrand::Rng;
use prost::Message;
use vitrine_core::limits::{MESSAGE_BYTES_MAX, PHOTO_BYTES_MAX, TEXT_BYTES_MAX};
use vitrine_proto::v1::{
    EmbedInput, EmbedPriority, EmbedRequest, Filter, Photo, SearchRequest, Signal, embed_input, signal::Source,
};

use crate::{
    cli::Arguments,
    mix::{Kind, Mix},
};

/// Most bytes of pictures that are read into memory.
const PHOTOS_BYTES_MAX: usize = 2 * 1024 * 1024 * 1024;
/// Pictures in a request of `bulk`. 8: enough that none waits for the request, few enough that it does not take long.
const BULK_PHOTOS: usize = 8;

/// Everything that a run can send, framed once: a request only shares its bytes.
#[derive(Debug)]
pub(crate) struct Workload {
    mix: Mix,
    seed: u64,
    frames: BTreeMap<Kind, Vec<Bytes>>,
}

impl Workload {
    /// Reads pictures and texts.
    ///
    /// # Errors
    /// Everything that is wrong, each naming its flag.
    pub(crate) fn read(arguments: &Arguments) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let mut note = |problem| problems.push(problem);
        let photos = arguments.photos.as_deref().map_or(Ok(Vec::new()), read_photos);
        let photos = photos.unwrap_or_else(|problem| {
            note(format!("--photos {problem}"));
            Vec::new()
        });
        let texts = arguments.texts.as_deref().map_or(Ok(Vec::new()), read_texts);
        let texts = texts.unwrap_or_else(|problem| {
            note(format!("--texts {problem}"));
            Vec::new()
        });
        let filter = arguments.filter.as_deref().map(vitrine_server::parse_filter).transpose();
        let filter = filter.unwrap_or_else(|problem| {
            note(format!("--filter: {problem}"));
            None
        });
        if !problems.is_empty() {
            return Err(problems);
        }
        let sources = Sources { photos, texts, filter };
        let mix = match &arguments.mix {
            None => Mix::of(|kind| sources.lack(kind).is_none())
                .ok_or_else(|| vec!["--photos or --texts is needed: there is nothing to send".to_owned()])?,
            Some(mix) => {
                let lack = |kind: Kind| Some(format!("--mix: {} needs {}", kind.name(), sources.lack(kind)?));
                let problems: Vec<_> = mix.kinds().filter_map(lack).collect();
                if !problems.is_empty() {
                    return Err(problems);
                }
                mix.clone()
            }
        };
        let frames: BTreeMap<_, _> = mix.kinds().map(|kind| (kind, sources.frames(kind, arguments))).collect();
        let bulk = frames.get(&Kind::Bulk).into_iter().flatten();
        if let Some(large) = bulk.map(Bytes::len).find(|length| *length > MESSAGE_BYTES_MAX) {
            let limit =
                format!("{BULK_PHOTOS} pictures are {large} bytes, more than the {MESSAGE_BYTES_MAX} of a message");
            return Err(vec![format!("--mix: bulk: {limit}")]);
        }
        Ok(Self { mix, seed: arguments.seed, frames })
    }

    /// The query of that number: its kind and its framed message. Follows from the seed and the number alone.
    pub(crate) fn query(&self, number: u64) -> (Kind, Bytes) {
        let mut rng = Rng::with_seed(self.seed ^ number.wrapping_mul(SPREAD));
        let kind = self.mix.kind_at(rng.u32(..self.mix.total())).expect("a place below the total has a kind");
        let frames = self.frames.get(&kind).expect("every kind of the mix has queries");
        (kind, rng.choice(frames).expect("no kind is without queries").clone())
    }

    /// The mix, and how many different queries each kind has.
    pub(crate) fn describe(&self) -> String {
        let counts: Vec<_> =
            self.frames.iter().map(|(kind, frames)| format!("{} {}", frames.len(), kind.name())).collect();
        format!("{} of {} queries", self.mix, counts.join(", "))
    }
}

/// 2⁶⁴ divided by the golden ratio: seeds of neighbouring numbers lie far from each other.
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;

struct Sources {
    photos: Vec<Bytes>,
    texts: Vec<String>,
    filter: Option<Filter>,
}

impl Sources {
    /// What a kind of query would need that is not there.
    fn lack(&self, kind: Kind) -> Option<&'static str> {
        match kind {
            Kind::Photo | Kind::Bulk => self.photos.is_empty().then_some("--photos"),
            Kind::Text => self.texts.is_empty().then_some("--texts"),
            Kind::Repeat => (self.photos.is_empty() && self.texts.is_empty()).then_some("--photos or --texts"),
            Kind::Filtered if self.texts.is_empty() => Some("--texts"),
            Kind::Filtered => self.filter.is_none().then_some("--filter"),
        }
    }

    fn frames(&self, kind: Kind, arguments: &Arguments) -> Vec<Bytes> {
        let photo = |content: &Bytes| Source::Photo(Photo { content: content.clone(), region: None });
        let text = |text: &String| Source::Text(text.clone());
        let request = |source| SearchRequest {
            catalog: arguments.catalog.clone(),
            signals: vec![Signal { source: Some(source), weight: None }],
            page_size: arguments.page_size,
            bypass_cache: kind != Kind::Repeat && !arguments.no_bypass,
            filter: if kind == Kind::Filtered { self.filter.clone() } else { None },
            ..SearchRequest::default()
        };
        let frame_all = |sources: Vec<Source>| sources.into_iter().map(|source| frame(&request(source))).collect();
        match kind {
            Kind::Photo => frame_all(self.photos.iter().map(photo).collect()),
            Kind::Text | Kind::Filtered => frame_all(self.texts.iter().map(text).collect()),
            Kind::Repeat => {
                let mut rng = Rng::with_seed(arguments.seed);
                // Half and half, where there are both.
                let photos_count =
                    if self.texts.is_empty() { arguments.repeat_count } else { arguments.repeat_count.div_ceil(2) };
                let photos = rng.choose_multiple(self.photos.iter(), photos_count).into_iter().map(photo);
                let mut sources: Vec<_> = photos.collect();
                let texts_count = arguments.repeat_count - sources.len();
                sources.extend(rng.choose_multiple(self.texts.iter(), texts_count).into_iter().map(text));
                frame_all(sources)
            }
            Kind::Bulk => {
                // So many that each picture is in one; the last begins again at the first.
                let count = self.photos.len().div_ceil(BULK_PHOTOS);
                let mut photos = self.photos.iter().cycle();
                let batches = (0..count).map(|_| photos.by_ref().take(BULK_PHOTOS).collect());
                batches.map(|photos: Vec<_>| frame(&bulk(&photos, arguments))).collect()
            }
        }
    }
}

fn bulk(photos: &[&Bytes], arguments: &Arguments) -> EmbedRequest {
    let photo = |content: &&Bytes| Photo { content: Bytes::clone(content), region: None };
    let inputs = photos
        .iter()
        .map(|content| EmbedInput { source: Some(embed_input::Source::Photo(photo(content))), timeout: None });
    EmbedRequest { inputs: inputs.collect(), priority: EmbedPriority::Bulk.into(), bypass_cache: !arguments.no_bypass }
}

/// A message as gRPC frames it: not compressed, its length, itself.
fn frame(request: &impl Message) -> Bytes {
    let length = request.encoded_len();
    let mut frame = BytesMut::with_capacity(5 + length);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length).expect("a few photos are far below 4 GiB"));
    request.encode(&mut frame).expect("the buffer grows");
    frame.freeze()
}

/// Reads every picture of a directory and those below it, in the order of their paths.
fn read_photos(directory: &Path) -> Result<Vec<Bytes>, String> {
    let mut paths = Vec::new();
    find_photos(directory, &mut paths).map_err(|error| format!("{}: {error}", directory.display()))?;
    if paths.is_empty() {
        return Err(format!("{}: has no .jpg, .jpeg, .png or .webp", directory.display()));
    }
    paths.sort();
    let mut total = 0;
    let mut photos = Vec::with_capacity(paths.len());
    for path in paths {
        let wrong = |problem: String| format!("{}: {problem}", path.display());
        let photo = fs::read(&path).map_err(|error| wrong(error.to_string()))?;
        total += photo.len();
        if photo.len() > PHOTO_BYTES_MAX {
            return Err(wrong(format!("is {} bytes, and no server takes more than {PHOTO_BYTES_MAX}", photo.len())));
        }
        if total > PHOTOS_BYTES_MAX {
            return Err(wrong(format!("with it the pictures are more than {PHOTOS_BYTES_MAX} bytes in all")));
        }
        photos.push(photo.into());
    }
    Ok(photos)
}

fn find_photos(directory: &Path, paths: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        // A link to a directory is not followed: it could lead in a circle.
        if entry.file_type()?.is_dir() {
            find_photos(&path, paths)?;
            continue;
        }
        let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
        if ["jpg", "jpeg", "png", "webp"].iter().any(|known| extension == *known) && path.is_file() {
            paths.push(path);
        }
    }
    Ok(())
}

fn read_texts(file: &Path) -> Result<Vec<String>, String> {
    let content = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let mut texts = Vec::new();
    for (number, line) in content.lines().enumerate() {
        let text = line.trim();
        if text.len() > TEXT_BYTES_MAX {
            let length = text.len();
            let line = number + 1;
            return Err(format!("{}: line {line} is {length} bytes, more than {TEXT_BYTES_MAX}", file.display()));
        }
        if !text.is_empty() {
            texts.push(text.to_owned());
        }
    }
    if texts.is_empty() { Err(format!("{}: has no text", file.display())) } else { Ok(texts) }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    /// A directory with pictures at two depths, something else, and a file of texts.
    fn sources() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("deeper")).unwrap();
        for (name, content) in
            [("b.JPG", "b"), ("deeper/a.webp", "a"), ("notes.md", "no"), ("texts", "mug\n\n a red sofa \n")]
        {
            fs::write(directory.path().join(name), content).unwrap();
        }
        directory
    }

    fn read(directory: &tempfile::TempDir, more: &[&str]) -> Result<Workload, Vec<String>> {
        let path = |name: &str| directory.path().join(name).display().to_string();
        let arguments = more.iter().map(|argument| argument.replace("DIR", &path("")).replace("TEXTS", &path("texts")));
        let arguments = ["loadtest", "--clients", "1"].into_iter().map(str::to_owned).chain(arguments);
        Workload::read(&Arguments::try_parse_from(arguments).unwrap())
    }

    fn requests(workload: &Workload, kind: Kind) -> Vec<SearchRequest> {
        let frames = workload.frames.get(&kind).map(Vec::as_slice).unwrap_or_default();
        frames.iter().map(|frame| SearchRequest::decode(&frame[5..]).unwrap()).collect()
    }

    const SEARCHES: [Kind; 4] = [Kind::Photo, Kind::Text, Kind::Repeat, Kind::Filtered];

    const EVERYTHING: [&str; 6] = ["--photos", "DIR", "--texts", "TEXTS", "--filter", "price < 50"];

    #[test]
    fn only_repeated_queries_may_come_from_the_caches() {
        let directory = sources();
        let workload = read(&directory, &EVERYTHING).unwrap();
        assert_eq!(
            workload.describe(),
            "photo=4,text=3,repeat=2,filtered=1 of 2 photo, 2 text, 4 repeat, 2 filtered queries"
        );
        for kind in SEARCHES {
            let requests = requests(&workload, kind);
            assert!(requests.iter().all(|request| request.bypass_cache == (kind != Kind::Repeat)), "{kind:?}");
            assert!(requests.iter().all(|request| request.filter.is_some() == (kind == Kind::Filtered)), "{kind:?}");
        }
        let cacheable = read(&directory, &[&EVERYTHING[..], &["--no-bypass"]].concat()).unwrap();
        assert!(SEARCHES.iter().all(|kind| requests(&cacheable, *kind).iter().all(|request| !request.bypass_cache)));
    }

    #[test]
    fn bulk_has_every_picture_in_batches_of_eight_and_is_only_sent_when_asked_for() {
        let directory = sources();
        for number in 0..7 {
            fs::write(directory.path().join(format!("more-{number}.png")), [number]).unwrap();
        }
        assert!(!read(&directory, &EVERYTHING).unwrap().frames.contains_key(&Kind::Bulk));
        let workload = read(&directory, &[&EVERYTHING[..], &["--mix", "bulk=1,text=9"]].concat()).unwrap();
        let frames = workload.frames.get(&Kind::Bulk).unwrap();
        let requests: Vec<_> = frames.iter().map(|frame| EmbedRequest::decode(&frame[5..]).unwrap()).collect();
        assert_eq!(requests.iter().map(|request| request.inputs.len()).collect::<Vec<_>>(), [8, 8]);
        assert!(requests.iter().all(|request| request.bypass_cache && request.priority() == EmbedPriority::Bulk));
        let mut sent: Vec<_> =
            requests.iter().flat_map(|request| &request.inputs).map(Message::encode_to_vec).collect();
        sent.sort();
        sent.dedup();
        assert_eq!(sent.len(), 9);
    }

    #[test]
    fn pictures_are_found_at_every_depth_and_texts_on_every_line() {
        let workload = read(&sources(), &EVERYTHING).unwrap();
        let of = |kind| requests(&workload, kind).into_iter().filter_map(|request| request.signals[0].source.clone());
        let photo = |content: &'static str| Source::Photo(Photo { content: content.into(), region: None });
        assert_eq!(of(Kind::Photo).collect::<Vec<_>>(), [photo("b"), photo("a")]);
        assert_eq!(of(Kind::Text).collect::<Vec<_>>(), [Source::Text("mug".into()), Source::Text("a red sofa".into())]);
    }

    #[test]
    fn a_frame_says_how_long_its_message_is() {
        let workload = read(&sources(), &EVERYTHING).unwrap();
        let (_, frame) = workload.query(0);
        let length = u32::from_be_bytes(frame[1..5].try_into().unwrap());
        assert_eq!((frame[0], usize::try_from(length).unwrap()), (0, frame.len() - 5));
    }

    #[test]
    fn the_same_seed_sends_the_same() {
        let directory = sources();
        let sent = |seed: &str| {
            let workload = read(&directory, &[&EVERYTHING[..], &["--seed", seed]].concat()).unwrap();
            (0..200).map(|number| workload.query(number)).collect::<Vec<_>>()
        };
        assert_eq!(sent("7"), sent("7"));
        assert_ne!(sent("7"), sent("8"));
    }

    #[test]
    fn kinds_come_as_often_as_they_weigh() {
        let workload = read(&sources(), &EVERYTHING).unwrap();
        let count = |kind| (0..10_000).filter(|number| workload.query(*number).0 == kind).count();
        for (kind, expected) in [(Kind::Photo, 4000), (Kind::Text, 3000), (Kind::Repeat, 2000), (Kind::Filtered, 1000)]
        {
            assert!(count(kind).abs_diff(expected) < 150, "{kind:?}: {}", count(kind));
        }
    }

    #[test]
    fn what_a_mix_lacks_is_named_by_its_flag() {
        let directory = sources();
        for (arguments, problem) in [
            (&["--mix", "photo=1"][..], "photo needs --photos"),
            (&["--mix", "bulk=1", "--texts", "TEXTS"], "bulk needs --photos"),
            (&["--mix", "filtered=1", "--texts", "TEXTS"], "filtered needs --filter"),
            (&["--photos", "DIR/deeper/none"], "--photos"),
            (&["--texts", "TEXTS", "--filter", "price <"], "--filter"),
            (&[], "--photos or --texts is needed"),
        ] {
            let problems = read(&directory, arguments).unwrap_err();
            assert!(problems.iter().any(|found| found.contains(problem)), "{problems:?}");
        }
    }
}

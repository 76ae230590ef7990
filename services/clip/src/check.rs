//! `vitrine model check`: whether a folder can serve, said in words.

use std::{
    fmt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use vitrine_core::embed::Embedding;

use crate::{
    Execution, ModelError, ModelFolder, Precision, Runtime,
    load::{Loader, Towers, cosine_worst},
    session::{Facts, TextTower, VisionTower},
};

/// How far vectors of the same input may lie apart, by cosine, between a batch of one and a batch of several: rounding
/// of the quantised towers, whose scales depend on the batch, is below it.
const BATCH_COSINE_MIN: f32 = 0.98;

/// How grave a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Good,
    /// It works, and the operator should know.
    Note,
    /// Answers would be wrong.
    Bad,
}

/// One thing that was looked at.
#[derive(Debug, Clone)]
pub struct Finding {
    /// How grave it is.
    pub verdict: Verdict,
    /// What was seen.
    pub text: String,
}

/// What was found in a folder.
#[derive(Debug, Clone)]
pub struct Report {
    /// In the order in which it was looked at.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether the folder can serve.
    pub fn can_serve(&self) -> bool {
        self.findings.iter().all(|finding| finding.verdict != Verdict::Bad)
    }

    fn add(&mut self, verdict: Verdict, text: impl Into<String>) {
        self.findings.push(Finding { verdict, text: text.into() });
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Finding { verdict, text } in &self.findings {
            let mark = match verdict {
                Verdict::Good => "ok  ",
                Verdict::Note => "note",
                Verdict::Bad => "BAD ",
            };
            writeln!(f, "{mark}  {text}")?;
        }
        Ok(())
    }
}

/// Loads a folder and tries it on inputs of its own making; then compares each of its other files with the exact ones.
///
/// # Errors
/// When it cannot be loaded at all.
pub fn check(runtime: &Runtime, path: &Path, precision: Precision, execution: Execution) -> Result<Report, ModelError> {
    let folder = ModelFolder::open(path, precision)?;
    let loader = Loader::open(runtime, &folder, execution)?;
    let Towers { vision, text } = loader.towers(1)?;
    let (Some(mut vision), Some(mut text)) = (vision.into_iter().next(), text.into_iter().next()) else {
        return Err(ModelError::unusable(path, "was not loaded"));
    };
    let mut report = Report { findings: Vec::new() };
    let name = |path: &Path| path.strip_prefix(&folder.path).unwrap_or(path).display().to_string();
    report.add(Verdict::Good, format!("{} and {} load", name(vision.path()), name(text.path())));
    report
        .add(Verdict::Good, format!("fingerprint {}, {} dimensions", folder.fingerprint()?, vision.facts().dimensions));
    report.add(Verdict::Good, format!("pictures: {}", loader.preprocess));
    report.add(
        Verdict::Good,
        match text.length() {
            Some(length) => format!("texts: always padded to {length} tokens"),
            None => format!("texts: up to {} tokens, padded to the longest of a batch", loader.tokenize.length_max()),
        },
    );

    let failed = |error: String| ModelError::unusable(path, error);
    let alone_and_together = both_ways(&loader.pictures, vision.facts(), |batch| vision.run(batch)).map_err(failed)?;
    compare(&mut report, "picture", &alone_and_together);
    normalised(&mut report, "image_embeds", vision.facts());

    let alone_and_together = both_ways(&loader.texts, text.facts(), |batch| text.run(batch)).map_err(failed)?;
    compare(&mut report, "text", &alone_and_together);
    normalised(&mut report, "text_embeds", text.facts());

    let picture = sample(&mut vision, VisionTower::run, &loader.pictures).map_err(failed)?;
    let words = sample(&mut text, TextTower::run, &loader.texts).map_err(failed)?;
    let times = format!("a picture {:.1?}, a short text {:.1?}", picture.time, words.time);
    report.add(Verdict::Good, format!("inference by {execution}: {times}"));
    drop((vision, text));

    let see = |file: &Path| sample(&mut loader.vision(file)?, VisionTower::run, &loader.pictures).map_err(failed);
    compare_files(&mut report, &folder.vision.all, name, see);
    let read = |file: &Path| sample(&mut loader.text(file)?, TextTower::run, &loader.texts).map_err(failed);
    compare_files(&mut report, &folder.text.all, name, read);
    Ok(report)
}

/// What a tower makes of some inputs one by one, and how long the first takes it.
struct Sample {
    embeddings: Vec<Embedding>,
    time: Duration,
}

fn sample<T, I>(
    tower: &mut T,
    run: impl Fn(&mut T, &[I]) -> Result<Vec<Embedding>, String>,
    inputs: &[I],
) -> Result<Sample, String> {
    let embeddings = inputs.chunks(1).map(|input| run(tower, input)).collect::<Result<Vec<_>, _>>()?.concat();
    let first = inputs.get(..1).unwrap_or_default();
    Ok(Sample { embeddings, time: median_time(|| run(tower, first).map(drop))? })
}

/// Says how the files of a tower differ from the first of them in vectors and time.
fn compare_files(
    report: &mut Report,
    files: &[PathBuf],
    name: impl Fn(&Path) -> String,
    mut sample: impl FnMut(&Path) -> Result<Sample, ModelError>,
) {
    let [exact, others @ ..] = files else { return };
    if others.is_empty() {
        return;
    }
    let first = match sample(exact) {
        Ok(first) => first,
        Err(error) => return report.add(Verdict::Note, format!("{} does not run: {error}", name(exact))),
    };
    report.add(Verdict::Note, format!("{}: {:.1?}", name(exact), first.time));
    for file in others {
        let said = match sample(file) {
            Ok(other) => {
                let worst = cosine_worst(&first.embeddings, &other.embeddings);
                format!("{}: {:.1?}, cosine to {} at worst {worst:.5}", name(file), other.time, name(exact))
            }
            Err(error) => format!("{} does not run: {error}", name(file)),
        };
        report.add(Verdict::Note, said);
    }
}

/// The vectors of inputs, each embedded alone, and all of them side by side as far as the graph takes that.
fn both_ways<T>(
    inputs: &[T],
    tower: Facts,
    mut run: impl FnMut(&[T]) -> Result<Vec<Embedding>, String>,
) -> Result<[Vec<Embedding>; 2], String> {
    let mut embed = |batch_size: usize| -> Result<Vec<Embedding>, String> {
        Ok(inputs.chunks(batch_size).map(&mut run).collect::<Result<Vec<_>, _>>()?.concat())
    };
    Ok([embed(1)?, embed(tower.batch_size_max.unwrap_or(inputs.len()))?])
}

fn compare(report: &mut Report, input: &str, [alone, together]: &[Vec<Embedding>; 2]) {
    let worst = cosine_worst(alone, together);
    let verdict = if worst >= BATCH_COSINE_MIN { Verdict::Good } else { Verdict::Bad };
    report.add(verdict, format!("a {input}'s vector is the same alone and in a batch (cosine {worst:.5})"));
    let nearest = alone.iter().zip(alone.iter().skip(1)).map(|(a, b)| a.cosine(b)).fold(-1.0, f32::max);
    let verdict = if nearest < 0.9999 { Verdict::Good } else { Verdict::Bad };
    report.add(verdict, format!("different {input}s have different vectors (cosine {nearest:.3})"));
}

fn normalised(report: &mut Report, output: &str, tower: Facts) {
    if tower.unit_length {
        report.add(Verdict::Good, format!("{output} have length 1"));
    } else {
        report.add(Verdict::Note, format!("{output} are not normalised by the graph; Vitrine does it"));
    }
}

fn median_time(mut work: impl FnMut() -> Result<(), String>) -> Result<Duration, String> {
    let mut times = Vec::new();
    for _ in 0..5 {
        let started = Instant::now();
        work()?;
        times.push(started.elapsed());
    }
    times.sort();
    Ok(times.get(times.len() / 2).copied().unwrap_or_default())
}

//! `vitrine model check`: whether a folder can serve, said in words.

use std::{
    fmt,
    path::Path,
    time::{Duration, Instant},
};

use image::{Rgb, RgbImage};
use vitrine_core::embed::Embedding;

use crate::{ModelError, ModelFolder, Precision, Runtime, embedder::Parts, session::Facts};

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

/// Loads a folder and tries it on inputs of its own making.
///
/// # Errors
/// When it cannot be loaded at all.
pub fn check(runtime: &Runtime, path: &Path, precision: Precision, threads: usize) -> Result<Report, ModelError> {
    let folder = ModelFolder::open(path, precision)?;
    let Parts { preprocess, tokenize, vision, text } = Parts::load(runtime, &folder, 1, threads)?;
    let (Some(mut vision), Some(mut text)) = (vision.into_iter().next(), text.into_iter().next()) else {
        return Err(ModelError::unusable(path, "was not loaded"));
    };
    let mut report = Report { findings: Vec::new() };
    let name = |path: &Path| path.strip_prefix(&folder.path).unwrap_or(path).display().to_string();
    report.add(Verdict::Good, format!("{} and {} load", name(&folder.vision), name(&folder.text)));
    report
        .add(Verdict::Good, format!("fingerprint {}, {} dimensions", folder.fingerprint()?, vision.facts().dimensions));
    report.add(Verdict::Good, format!("pictures: {preprocess}"));
    report.add(
        Verdict::Good,
        match text.length() {
            Some(length) => format!("texts: always padded to {length} tokens"),
            None => format!("texts: up to {} tokens, padded to the longest of a batch", tokenize.length_max()),
        },
    );

    let failed = |error: String| ModelError::unusable(path, error);
    let pictures = [red_disc(), checks()].map(|picture| preprocess.tensor(&preprocess.pixels(&picture)));
    let alone_and_together = both_ways(&pictures, vision.facts(), |batch| vision.run(batch)).map_err(failed)?;
    compare(&mut report, "picture", &alone_and_together);
    normalised(&mut report, "image_embeds", vision.facts());

    let words = ["a red disc", "a long description of a checkerboard in black and white, in five by five squares"];
    let texts = words.iter().map(|words| tokenize.tokens(words)).collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let alone_and_together = both_ways(&texts, text.facts(), |batch| text.run(batch)).map_err(failed)?;
    compare(&mut report, "text", &alone_and_together);
    normalised(&mut report, "text_embeds", text.facts());

    let chosen = sample(&pictures, |batch| vision.run(batch)).map_err(failed)?;
    let words = sample(&texts, |batch| text.run(batch)).map_err(failed)?;
    let times = format!("a picture {:.1?}, a short text {:.1?}", chosen.time, words.time);
    report.add(Verdict::Good, format!("inference on {threads} threads: {times}"));
    drop((vision, text));

    for other in [Precision::Fp32, Precision::Fp16, Precision::Int8] {
        let Ok(other) = ModelFolder::open(path, other) else { continue };
        let Parts { vision, text, .. } = Parts::load(runtime, &other, 1, threads)?;
        for mut tower in vision.into_iter().filter(|_| other.vision != folder.vision) {
            let sampled = sample(&pictures, |batch| tower.run(batch)).map_err(failed)?;
            chosen.compare(&mut report, &name(&other.vision), &sampled);
        }
        for mut tower in text.into_iter().filter(|_| other.text != folder.text) {
            let sampled = sample(&texts, |batch| tower.run(batch)).map_err(failed)?;
            words.compare(&mut report, &name(&other.text), &sampled);
        }
    }
    Ok(report)
}

/// What a tower makes of some inputs one by one, and how long the first takes it.
struct Sample {
    embeddings: Vec<Embedding>,
    time: Duration,
}

fn sample<T>(inputs: &[T], mut run: impl FnMut(&[T]) -> Result<Vec<Embedding>, String>) -> Result<Sample, String> {
    let embeddings = inputs.chunks(1).map(&mut run).collect::<Result<Vec<_>, _>>()?.concat();
    let first = inputs.get(..1).unwrap_or_default();
    Ok(Sample { embeddings, time: median_time(|| run(first).map(drop))? })
}

impl Sample {
    /// Says how another file for the same tower differs.
    fn compare(&self, report: &mut Report, file: &str, other: &Self) {
        let worst = self.embeddings.iter().zip(&other.embeddings).map(|(a, b)| a.cosine(b)).fold(1.0, f32::min);
        let times = format!("{:.1?} for {:.1?}", other.time, self.time);
        report.add(Verdict::Note, format!("{file} is there, too: {times}, cosine {worst:.5} to the file above"));
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
    let worst = alone.iter().zip(together).map(|(a, b)| a.cosine(b)).fold(1.0, f32::min);
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

fn red_disc() -> RgbImage {
    let inside = |x: u32, y: u32| x.abs_diff(160).pow(2) + y.abs_diff(120).pow(2) < 80 * 80;
    RgbImage::from_fn(320, 240, |x, y| if inside(x, y) { Rgb([200, 30, 30]) } else { Rgb([240, 240, 240]) })
}

fn checks() -> RgbImage {
    RgbImage::from_fn(250, 250, |x, y| if (x / 50 + y / 50) % 2 == 0 { Rgb([0; 3]) } else { Rgb([255; 3]) })
}

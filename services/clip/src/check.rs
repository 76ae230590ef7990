//! `vitrine model check`: whether a folder can serve, said in words.

use std::{
    fmt,
    path::Path,
    time::{Duration, Instant},
};

use image::{Rgb, RgbImage};
use vitrine_core::embed::Embedding;

use crate::{ModelError, ModelFolder, Precision, Runtime, embedder::load_parts, tokenize::Tokens};

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
    let (preprocess, tokenize, mut vision, mut text) = load_parts(runtime, &folder, threads)?;
    let mut report = Report { findings: Vec::new() };
    let name = |path: &Path| path.strip_prefix(&folder.path).unwrap_or(path).display().to_string();
    report.add(Verdict::Good, format!("{} and {} load", name(&folder.vision), name(&folder.text)));
    report.add(Verdict::Good, format!("fingerprint {}, {} dimensions", folder.fingerprint()?, vision.dimensions()));
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
    let vision_max = vision.batch_size_max().unwrap_or(pictures.len());
    let alone = pictures.iter().map(|picture| vision.run(std::slice::from_ref(picture)).map_err(failed));
    let alone: Vec<Embedding> = alone.collect::<Result<Vec<_>, _>>()?.concat();
    let together = pictures.chunks(vision_max).map(|batch| vision.run(batch).map_err(failed));
    let together = together.collect::<Result<Vec<_>, _>>()?.concat();
    agree(&mut report, "a picture's vector is the same alone and in a batch", &alone, &together);
    differ(&mut report, "different pictures have different vectors", &alone);
    normalised(&mut report, "image_embeds", vision.unit_length());

    let words = ["a red disc", "a long description of a checkerboard in black and white, in five by five squares"];
    let texts: Vec<Tokens> =
        words.iter().map(|words| tokenize.tokens(words).map_err(failed)).collect::<Result<_, _>>()?;
    let text_max = text.batch_size_max().unwrap_or(texts.len());
    let alone_texts = texts.iter().map(|text_| text.run(std::slice::from_ref(text_)).map_err(failed));
    let alone_texts: Vec<Embedding> = alone_texts.collect::<Result<Vec<_>, _>>()?.concat();
    let together = texts.chunks(text_max).map(|batch| text.run(batch).map_err(failed));
    let together = together.collect::<Result<Vec<_>, _>>()?.concat();
    agree(&mut report, "a text's vector is the same alone and padded in a batch", &alone_texts, &together);
    differ(&mut report, "different texts have different vectors", &alone_texts);
    normalised(&mut report, "text_embeds", text.unit_length());

    let [picture, _] = &pictures;
    let photo = median_time(|| vision.run(std::slice::from_ref(picture)).map(drop)).map_err(failed)?;
    let short = texts.first().map_or(&[][..], std::slice::from_ref);
    let words = median_time(|| text.run(short).map(drop)).map_err(failed)?;
    report
        .add(Verdict::Good, format!("inference on {threads} threads: a picture {photo:.1?}, a short text {words:.1?}"));
    Ok(report)
}

fn agree(report: &mut Report, what: &str, left: &[Embedding], right: &[Embedding]) {
    let worst = left.iter().zip(right).map(|(a, b)| a.cosine(b)).fold(1.0, f32::min);
    let verdict = if worst >= BATCH_COSINE_MIN { Verdict::Good } else { Verdict::Bad };
    report.add(verdict, format!("{what} (cosine {worst:.5})"));
}

fn differ(report: &mut Report, what: &str, embeddings: &[Embedding]) {
    let cosine =
        embeddings.windows(2).map(|pair| if let [a, b] = pair { a.cosine(b) } else { 0.0 }).fold(-1.0, f32::max);
    let verdict = if cosine < 0.9999 { Verdict::Good } else { Verdict::Bad };
    report.add(verdict, format!("{what} (cosine {cosine:.3})"));
}

fn normalised(report: &mut Report, output: &str, unit_length: bool) {
    if unit_length {
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

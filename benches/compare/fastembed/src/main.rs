//! What the crate `fastembed` needs for a photo or a text: takes orders as lines of JSON, answers in the same, like
//! `client.py`. `compare.py` starts it, with ONNX Runtime's library in `ORT_DYLIB_PATH`.
//!
//! ```text
//! vitrine-compare-fastembed MODEL_DIR VISION_FILE TEXT_FILE TOKENS_MAX
//! ```

use std::{
    collections::BTreeMap,
    env, fs,
    io::{Write as _, stdin, stdout},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use fastembed::{
    ImageEmbedding, ImageInitOptionsUserDefined, InitOptionsUserDefined, TextEmbedding, TokenizerFiles,
    UserDefinedEmbeddingModel, UserDefinedImageEmbeddingModel,
};
use rustix::time::{ClockId, clock_gettime};
use serde::Deserialize;
use serde_json::{Value, json};

/// Threads that spin between runs cost without working; the bound does without them, too.
const NO_SPINNING: (&str, &str) = ("session.intra_op.allow_spinning", "0");

/// What is to be done with some inputs, all of one kind.
#[derive(Debug, Deserialize)]
struct Order {
    order: What,
    items: Vec<Item>,
    threads: usize,
    batch: usize,
    #[serde(default)]
    seconds: f64,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum What {
    /// Answers with the vectors.
    Embed,
    /// Answers with the CPU-seconds for each input.
    Measure,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Item {
    Photo(PathBuf),
    Text(String),
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [folder, vision, text, tokens_max] = arguments.as_slice() else {
        anyhow::bail!("usage: vitrine-compare-fastembed MODEL_DIR VISION_FILE TEXT_FILE TOKENS_MAX");
    };
    let files = Files {
        folder: folder.into(),
        vision: vision.into(),
        text: text.into(),
        tokens_max: tokens_max.parse().context("TOKENS_MAX")?,
    };
    let mut models = Models { files, photos: BTreeMap::new(), vision: BTreeMap::new(), text: BTreeMap::new() };
    for line in stdin().lines() {
        let outcome = serde_json::from_str(&line?).map_err(Into::into).and_then(|order| models.carry_out(&order));
        let outcome = match outcome {
            Ok(done) => json!({ "done": done }),
            Err(error) => json!({ "failed": format!("{error:#}") }),
        };
        writeln!(stdout(), "{outcome}")?;
    }
    Ok(())
}

struct Files {
    folder: PathBuf,
    vision: PathBuf,
    text: PathBuf,
    tokens_max: usize,
}

/// The towers, by number of threads, and the photos' bytes; each loaded when it is first needed.
struct Models {
    files: Files,
    photos: BTreeMap<PathBuf, Vec<u8>>,
    vision: BTreeMap<usize, ImageEmbedding>,
    text: BTreeMap<usize, TextEmbedding>,
}

impl Models {
    fn carry_out(&mut self, order: &Order) -> anyhow::Result<Value> {
        let Order { order: what, items, threads, batch, seconds } = order;
        let (threads, batch) = (*threads, *batch);
        anyhow::ensure!(batch > 0 && !items.is_empty(), "there is nothing to do");
        self.load(items, threads)?;
        match what {
            What::Embed => Ok(json!(self.embed(items, threads, batch)?)),
            What::Measure => {
                let mut rest = items.iter().cycle();
                let mut next = || rest.by_ref().take(batch).cloned().collect::<Vec<_>>();
                // Not counted: it plans memory.
                self.embed(&next(), threads, batch)?;
                let (mut done, began, deadline) = (0, cpu_time(), Instant::now() + Duration::from_secs_f64(*seconds));
                while done == 0 || Instant::now() < deadline {
                    self.embed(&next(), threads, batch)?;
                    done += batch;
                }
                Ok(json!({ "items": done, "cpu_seconds": (cpu_time() - began).as_secs_f64() / done as f64 }))
            }
        }
    }

    /// Loads what these items need, so that it is not measured.
    fn load(&mut self, items: &[Item], threads: usize) -> anyhow::Result<()> {
        for item in items {
            match item {
                Item::Photo(path) => {
                    if !self.photos.contains_key(path) {
                        self.photos.insert(path.clone(), read(path)?);
                    }
                    if !self.vision.contains_key(&threads) {
                        self.vision.insert(threads, self.files.vision(threads)?);
                    }
                }
                Item::Text(_) => {
                    if !self.text.contains_key(&threads) {
                        self.text.insert(threads, self.files.text(threads)?);
                    }
                }
            }
        }
        Ok(())
    }

    fn embed(&mut self, items: &[Item], threads: usize, batch: usize) -> anyhow::Result<Vec<Vec<f32>>> {
        let (mut photos, mut texts) = (Vec::new(), Vec::new());
        for item in items {
            match item {
                Item::Photo(path) => photos.push(self.photos.get(path).context("a photo was not read")?.as_slice()),
                Item::Text(text) => texts.push(text),
            }
        }
        if photos.is_empty() {
            let tower = self.text.get_mut(&threads).context("the text tower was not loaded")?;
            Ok(tower.embed(&texts, Some(batch))?)
        } else {
            anyhow::ensure!(texts.is_empty(), "photos and texts are mixed");
            let tower = self.vision.get_mut(&threads).context("the picture tower was not loaded")?;
            Ok(tower.embed_bytes(&photos, Some(batch))?)
        }
    }
}

impl Files {
    fn vision(&self, threads: usize) -> anyhow::Result<ImageEmbedding> {
        let model = UserDefinedImageEmbeddingModel::new(
            read(&self.vision)?,
            read(&self.folder.join("preprocessor_config.json"))?,
        );
        let options = ImageInitOptionsUserDefined::new()
            .with_intra_threads(threads)
            .with_session_config(NO_SPINNING.0, NO_SPINNING.1);
        ImageEmbedding::try_new_from_user_defined(model, options).context("load the picture tower")
    }

    fn text(&self, threads: usize) -> anyhow::Result<TextEmbedding> {
        let model = UserDefinedEmbeddingModel::new(read(&self.text)?, self.tokenizer()?);
        let options = InitOptionsUserDefined::new()
            .with_max_length(self.tokens_max)
            .with_intra_threads(threads)
            .with_session_config(NO_SPINNING.0, NO_SPINNING.1);
        TextEmbedding::try_new_from_user_defined(model, options).context("load the text tower")
    }

    /// The tokenizer's files. Two that fastembed insists on are not in every folder: what is read of them stands in
    /// `tokenizer.json`, too.
    fn tokenizer(&self) -> anyhow::Result<TokenizerFiles> {
        let tokenizer_file = read(&self.folder.join("tokenizer.json"))?;
        let tokenizer: Value = serde_json::from_slice(&tokenizer_file).context("tokenizer.json")?;
        let padding = tokenizer["padding"]["pad_token"].as_str().unwrap_or("[PAD]");
        let made = json!({ "model_max_length": self.tokens_max, "pad_token": padding });
        let optional = |name: &str, otherwise: Value| {
            let path = self.folder.join(name);
            if path.is_file() { read(&path) } else { Ok(otherwise.to_string().into_bytes()) }
        };
        Ok(TokenizerFiles {
            config_file: read(&self.folder.join("config.json"))?,
            special_tokens_map_file: optional("special_tokens_map.json", json!({}))?,
            tokenizer_config_file: optional("tokenizer_config.json", made)?,
            tokenizer_file,
        })
    }
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("read {}", path.display()))
}

/// CPU time of this process, all its threads.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

//! The two towers: tensors in, vectors out, each in batches by one caller at a time.
//!
//! Names, shapes and precisions are read from the graph and checked when it is loaded.

use std::{
    borrow::Cow,
    path::{Path, PathBuf},
};

use half::f16;
use ort::{
    session::{Session, SessionInputValue},
    value::{DynValue, Outlet, Tensor, TensorElementType},
};
use vitrine_core::embed::Embedding;

use crate::{Execution, ModelError, Runtime, tokenize::Tokens};

/// The picture tower.
#[derive(Debug)]
pub struct VisionTower {
    graph: Graph,
    half: bool,
    input: String,
    height: u32,
    width: u32,
}

/// The text tower.
#[derive(Debug)]
pub struct TextTower {
    graph: Graph,
    inputs: Vec<TextInput>,
    /// The only length that the graph takes, or that its model was trained with; else any up to the model's longest.
    length: Option<usize>,
    padding: u32,
}

/// An input of the text tower.
#[derive(Debug)]
struct TextInput {
    name: String,
    role: TextRole,
    /// Whether it is i32, not i64.
    narrow: bool,
}

/// What a text tower reads of a text, by the names that exports give it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TextRole {
    /// `input_ids`
    Ids,
    /// `attention_mask`: 1 where there is a token, 0 where there is padding.
    Mask,
    /// `token_type_ids`: 0, since there is one text only.
    Types,
}

impl TextRole {
    fn of(name: &str) -> Option<Self> {
        match name {
            "input_ids" => Some(Self::Ids),
            "attention_mask" => Some(Self::Mask),
            "token_type_ids" => Some(Self::Types),
            _ => None,
        }
    }
}

/// What the texts of a model are like.
#[derive(Debug)]
pub struct TextsOf<'a> {
    /// `model_type` of `config.json`.
    pub model_type: &'a str,
    /// Most tokens of one text.
    pub length_max: usize,
    /// The token that fills up short texts.
    pub padding: u32,
    /// A short text to try the tower on.
    pub probe: Tokens,
}

/// Least cosine of two vectors that differ by rounding only; the 8-bit towers' rounding follows the inputs beside it.
const SAME_COSINE_MIN: f32 = 0.999;

/// What a tower's graph is like.
#[derive(Debug, Clone, Copy, Default)]
pub struct Facts {
    /// Length of the vectors.
    pub dimensions: usize,
    /// Most inputs that it takes at once, if it has a bound.
    pub batch_size_max: Option<usize>,
    /// Whether it scales its vectors to length 1 itself, as seen on the last run.
    pub unit_length: bool,
}

/// A loaded graph and the output that is read.
#[derive(Debug)]
struct Graph {
    path: PathBuf,
    session: Session,
    output: String,
    facts: Facts,
}

impl VisionTower {
    /// Loads and checks the graph, and runs it once. `height` and `width` are those of the preprocessing.
    ///
    /// # Errors
    /// When it is not a picture tower whose input fits the preprocessing.
    pub fn load(
        runtime: &Runtime,
        path: &Path,
        execution: Execution,
        (height, width): (u32, u32),
    ) -> Result<Self, ModelError> {
        let graph = Graph::load(runtime, path, execution, "image_embeds")?;
        let unusable = |problem: &str| ModelError::unusable(path, problem);
        let [input] = graph.session.inputs() else {
            let names = names(graph.session.inputs());
            return Err(unusable(&format!("has the inputs {names}; a picture tower has `pixel_values` only")));
        };
        let (kind, shape) = tensor(input).ok_or_else(|| unusable("input is not a tensor"))?;
        let half = kind == TensorElementType::Float16;
        if !half && kind != TensorElementType::Float32 {
            return Err(unusable(&format!("input `{}` is {kind}, not f32 or f16", input.name())));
        }
        let fits = |dimension: i64, wanted: u32| dimension < 0 || dimension == i64::from(wanted);
        match shape {
            [_, 3, h, w] if fits(*h, height) && fits(*w, width) => {}
            _ => {
                let wanted = format!("[batch, 3, {height}, {width}] as preprocessor_config.json makes it");
                return Err(unusable(&format!("input `{}` has the shape {shape:?}, not {wanted}", input.name())));
            }
        }
        let batch_size_max = fixed_batch(shape).map_err(|problem| unusable(&problem))?;
        let mut tower = Self { input: input.name().to_owned(), graph, half, height, width };
        tower.graph.facts.batch_size_max = batch_size_max;
        let grey = vec![0.0; tower.tensor_length()];
        tower.graph.facts.dimensions = tower.run_raw(&[grey])?.1;
        Ok(tower)
    }

    /// Embeds pictures. In: one tensor of [`crate::preprocess::Preprocess::tensor`] for each. Out: one vector for
    /// each, in order.
    ///
    /// # Errors
    /// When the session fails, or a vector has no direction.
    pub fn run(&mut self, pictures: &[Vec<f32>]) -> Result<Vec<Embedding>, String> {
        self.run_raw(pictures).map_err(|error| error.to_string()).and_then(|(values, width)| unit(&values, width))
    }

    /// What its graph is like.
    pub fn facts(&self) -> Facts {
        self.graph.facts
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.graph.path
    }

    fn tensor_length(&self) -> usize {
        usize::try_from(3 * u64::from(self.height) * u64::from(self.width)).unwrap_or(usize::MAX)
    }

    fn run_raw(&mut self, pictures: &[Vec<f32>]) -> Result<(Vec<f32>, usize), ModelError> {
        if let Some(wrong) = pictures.iter().find(|picture| picture.len() != self.tensor_length()) {
            let problem = format!("a picture has {} values, not {}", wrong.len(), self.tensor_length());
            return Err(ModelError::unusable(&self.graph.path, problem));
        }
        let shape = [length(pictures.len()), 3, i64::from(self.height), i64::from(self.width)];
        let values = pictures.concat();
        let tensor: ort::Result<DynValue> = if self.half {
            let values: Vec<f16> = values.into_iter().map(f16::from_f32).collect();
            Tensor::from_array((shape, values)).map(Tensor::into_dyn)
        } else {
            Tensor::from_array((shape, values)).map(Tensor::into_dyn)
        };
        let tensor = tensor.map_err(|error| ModelError::unusable(&self.graph.path, error))?;
        self.graph.run(vec![(self.input.clone(), tensor)], pictures.len())
    }
}

impl TextTower {
    /// Loads and checks the graph, and runs it once.
    ///
    /// A tower without an attention mask is tried on a text of `texts`: one that reads nothing behind a text's end, as
    /// CLIP's, answers the same however far it is padded, and is given no more padding than a batch needs. Another is
    /// right only where its model was trained on padding.
    ///
    /// # Errors
    /// When it is not a text tower, or would take padding for words.
    pub fn load(runtime: &Runtime, path: &Path, execution: Execution, texts: &TextsOf<'_>) -> Result<Self, ModelError> {
        let TextsOf { model_type, length_max, padding, .. } = *texts;
        let graph = Graph::load(runtime, path, execution, "text_embeds")?;
        let unusable = |problem: &str| ModelError::unusable(path, problem);
        let mut inputs = Vec::new();
        for input in graph.session.inputs() {
            let name = input.name().to_owned();
            let role = TextRole::of(&name)
                .ok_or_else(|| unusable(&format!("has the input `{name}`, which no text tower known here has")))?;
            let kind = tensor(input).map(|(kind, _)| kind);
            let narrow = kind == Some(TensorElementType::Int32);
            if !narrow && kind != Some(TensorElementType::Int64) {
                return Err(unusable(&format!("input `{name}` is {}, not i64 or i32", input.dtype())));
            }
            inputs.push(TextInput { name, role, narrow });
        }
        let masked = inputs.iter().any(|input| input.role == TextRole::Mask);
        let ids = graph.session.inputs().iter().find(|input| input.name() == "input_ids").and_then(tensor);
        let shape = match ids {
            Some((_, shape)) if shape.len() == 2 => shape.to_vec(),
            Some((_, shape)) => {
                return Err(unusable(&format!("`input_ids` has the shape {shape:?}, not [batch, sequence]")));
            }
            None => {
                let names = names(graph.session.inputs());
                return Err(unusable(&format!("has the inputs {names}, no `input_ids`")));
            }
        };
        let sequence = shape.last().copied().unwrap_or(-1);
        let fixed = usize::try_from(sequence).ok();
        if let Some(fixed) = fixed.filter(|fixed| *fixed < length_max) {
            return Err(unusable(&format!("takes {fixed} tokens, but the tokenizer makes up to {length_max}")));
        }
        let batch_size_max = fixed_batch(&shape).map_err(|problem| unusable(&problem))?;
        let mut tower = Self { graph, inputs, length: fixed, padding };
        tower.graph.facts.batch_size_max = batch_size_max;
        tower.graph.facts.dimensions = tower.run_raw(std::slice::from_ref(&texts.probe))?.1;
        if fixed.is_none() && !masked && tower.reads_padding(texts)? {
            if !model_type.starts_with("siglip") {
                let problem = format!(
                    "has no `attention_mask` input, and a model of type `{model_type}` would take padding for words; \
                     export it with its attention mask"
                );
                return Err(ModelError::unusable(path, problem));
            }
            tower.length = Some(length_max);
        }
        Ok(tower)
    }

    /// Whether padding behind a text changes its vector.
    fn reads_padding(&mut self, texts: &TextsOf<'_>) -> Result<bool, ModelError> {
        let mut padded = texts.probe.clone();
        padded.0.resize(texts.length_max, self.padding);
        let mut embed = |text: &Tokens| {
            let vectors = self.run(std::slice::from_ref(text));
            let vectors = vectors.map_err(|problem| ModelError::unusable(&self.graph.path, problem))?;
            vectors.into_iter().next().ok_or_else(|| ModelError::unusable(&self.graph.path, "answered nothing"))
        };
        let (short, long) = (embed(&texts.probe)?, embed(&padded)?);
        Ok(short.cosine(&long) < SAME_COSINE_MIN)
    }

    /// Embeds texts, padded to the longest of them where the graph allows it. Out: one vector for each, in order.
    ///
    /// # Errors
    /// When the session fails, or a vector has no direction.
    pub fn run(&mut self, texts: &[Tokens]) -> Result<Vec<Embedding>, String> {
        self.run_raw(texts).map_err(|error| error.to_string()).and_then(|(values, width)| unit(&values, width))
    }

    /// What its graph is like.
    pub fn facts(&self) -> Facts {
        self.graph.facts
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.graph.path
    }

    /// The one length that texts are padded to, if there is one.
    pub fn length(&self) -> Option<usize> {
        self.length
    }

    fn run_raw(&mut self, texts: &[Tokens]) -> Result<(Vec<f32>, usize), ModelError> {
        let longest = texts.iter().map(|text| text.0.len()).max().unwrap_or(0);
        let columns = self.length.unwrap_or(longest);
        let shape = [length(texts.len()), length(columns)];
        let cell = |role: TextRole, id: Option<u32>| match role {
            TextRole::Ids => id.unwrap_or(self.padding),
            TextRole::Mask => u32::from(id.is_some()),
            TextRole::Types => 0,
        };
        let tensors = self.inputs.iter().map(|TextInput { name, role, narrow }| {
            let rows = texts.iter().flat_map(|text| (0..columns).map(|column| text.0.get(column).copied()));
            let cells = rows.map(|id| cell(*role, id));
            let tensor: ort::Result<DynValue> = if *narrow {
                let cells: Vec<i32> = cells.map(|cell| i32::try_from(cell).unwrap_or(0)).collect();
                Tensor::from_array((shape, cells)).map(Tensor::into_dyn)
            } else {
                let cells: Vec<i64> = cells.map(i64::from).collect();
                Tensor::from_array((shape, cells)).map(Tensor::into_dyn)
            };
            tensor.map(|tensor| (name.clone(), tensor)).map_err(|error| ModelError::unusable(&self.graph.path, error))
        });
        let tensors = tensors.collect::<Result<Vec<_>, _>>()?;
        self.graph.run(tensors, texts.len())
    }
}

impl Graph {
    fn load(runtime: &Runtime, path: &Path, execution: Execution, output: &str) -> Result<Self, ModelError> {
        let unusable = |error: &dyn std::fmt::Display| ModelError::unusable(path, error);
        let builder = Session::builder(runtime.environment())
            .map_err(|error| unusable(&error))?
            .with_intra_threads(execution.threads)
            .map_err(|error| unusable(&error))?
            // Threads that spin between batches take the cores from decoding and from the index.
            .with_intra_op_spinning(false)
            .map_err(|error| unusable(&error))?;
        let session = execution.register(builder)?.commit_from_file(path).map_err(|error| unusable(&error))?;
        let outputs = session.outputs();
        let chosen = [output, "pooler_output"].into_iter().find_map(|name| outputs.iter().find(|o| o.name() == name));
        let chosen = chosen.ok_or_else(|| {
            unusable(&format!("has the outputs {}, neither `{output}` nor `pooler_output`", names(outputs)))
        })?;
        if !matches!(tensor(chosen), Some((TensorElementType::Float32 | TensorElementType::Float16, [_, _]))) {
            let problem =
                format!("output `{}` is {}, not [batch, dimensions] of f32 or f16", chosen.name(), chosen.dtype());
            return Err(unusable(&problem));
        }
        let output = chosen.name().to_owned();
        let path = path.to_owned();
        Ok(Self { path, session, output, facts: Facts::default() })
    }

    /// Runs the graph. Out: `rows` vectors, one behind the other, and their length.
    fn run(&mut self, inputs: Vec<(String, DynValue)>, rows: usize) -> Result<(Vec<f32>, usize), ModelError> {
        let unusable = |problem: &dyn std::fmt::Display| ModelError::unusable(&self.path, problem);
        let inputs: Vec<(Cow<'_, str>, SessionInputValue<'_>)> =
            inputs.into_iter().map(|(name, value)| (Cow::from(name), SessionInputValue::from(value))).collect();
        let outputs = self.session.run(inputs).map_err(|error| unusable(&error))?;
        let output = outputs.get(&self.output).ok_or_else(|| unusable(&"the chosen output is gone"))?;
        let (shape, values) = if let Ok((shape, values)) = output.try_extract_tensor::<f32>() {
            (shape.to_vec(), values.to_vec())
        } else {
            let (shape, values) = output.try_extract_tensor::<f16>().map_err(|error| unusable(&error))?;
            (shape.to_vec(), values.iter().map(|value| value.to_f32()).collect())
        };
        let width = match shape.as_slice() {
            [batch, width] if *batch == length(rows) => usize::try_from(*width).unwrap_or(0),
            _ => return Err(unusable(&format!("answered with the shape {shape:?} for a batch of {rows}"))),
        };
        if width == 0 || values.iter().any(|value| !value.is_finite()) {
            return Err(unusable(&"answered with a value that is not finite, or with none"));
        }
        let norm = |row: &[f32]| row.iter().map(|value| value * value).sum::<f32>().sqrt();
        self.facts.unit_length = values.chunks(width).all(|row| (norm(row) - 1.0).abs() < 1e-3);
        Ok((values, width))
    }
}

fn unit(values: &[f32], width: usize) -> Result<Vec<Embedding>, String> {
    let rows = values.chunks(width).map(|row| Embedding::normalized(row.to_vec()));
    rows.collect::<Option<_>>().ok_or_else(|| "the model answered with a vector of length zero".to_owned())
}

fn tensor(outlet: &Outlet) -> Option<(TensorElementType, &[i64])> {
    Some((outlet.dtype().tensor_type()?, outlet.dtype().tensor_shape()?))
}

fn names(outlets: &[Outlet]) -> String {
    outlets.iter().map(|outlet| format!("`{}`", outlet.name())).collect::<Vec<_>>().join(", ")
}

fn fixed_batch(shape: &[i64]) -> Result<Option<usize>, String> {
    match shape.first() {
        Some(1) => Ok(Some(1)),
        Some(batch) if *batch > 1 => Err(format!("takes batches of {batch} only; export it with a free batch size")),
        _ => Ok(None),
    }
}

fn length(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

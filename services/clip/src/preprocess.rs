//! Pixels to the vision tower's input, as `preprocessor_config.json` says.

use std::fmt;

use image::RgbImage;
use serde_json::{Map, Value};

use crate::resample::{Filter, Side, resample};

/// How pictures become tensors.
///
/// Source: `CLIPImageProcessor`, `SiglipImageProcessor` and `ViTImageProcessor`, Hugging Face transformers 4 with the
/// PIL back end, whose results these equal.
#[derive(Debug, Clone, PartialEq)]
pub struct Preprocess {
    resize: Option<(Size, Filter)>,
    crop: Option<Extent>,
    rescale_factor: f32,
    mean: [f32; 3],
    std: [f32; 3],
}

/// How many times the size that it is resized to a picture that was decoded smaller has at least. 3 / 2: its embedding is that
/// of the full picture to a cosine of 0.995 (`tests/tests/golden.rs`), and 12 megapixels may be read at an eighth.
const ENOUGH: (u32, u32) = (3, 2);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Extent {
    width: u32,
    height: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Size {
    ShortestEdge(u32),
    Exactly(Extent),
}

/// What of a resized picture is seen, and where in the output.
#[derive(Debug, Clone, Copy)]
struct Window {
    /// Size of the output.
    canvas: Extent,
    /// Size of the whole resized picture.
    resized: Extent,
    /// Where the seen part begins in the resized picture.
    from: (u32, u32),
    /// Where the seen part begins in the output; the rest is zero.
    to: (u32, u32),
    /// Size of the seen part.
    seen: Extent,
}

impl Preprocess {
    /// Reads `preprocessor_config.json`.
    ///
    /// # Errors
    /// When it is not JSON, a key has a value of the wrong kind, or it asks for a step that is not known here; says
    /// which key.
    pub fn from_json(json: &str) -> Result<Self, String> {
        let config: Map<String, Value> = serde_json::from_str(json).map_err(|error| error.to_string())?;
        let kind = config.get("image_processor_type").or_else(|| config.get("feature_extractor_type"));
        let kind = kind.and_then(Value::as_str).unwrap_or("CLIPImageProcessor");
        for unknown in ["crop_pct", "size_divisor", "do_flip_channel_order", "do_pad"] {
            if config.get(unknown).is_some_and(|value| !matches!(value, Value::Null | Value::Bool(false))) {
                return Err(format!("`{unknown}` is not supported"));
            }
        }
        // A bare number is the shortest edge to CLIP's processor, and both edges to the others.
        let clip = kind.starts_with("CLIP") || kind.starts_with("ChineseCLIP");
        let resize = if flag(&config, "do_resize", true)? {
            let size = config.get("size").ok_or("`size` is missing")?;
            Some((parse_size(size, clip)?, parse_resample(config.get("resample"), clip)?))
        } else {
            None
        };
        let crop = if flag(&config, "do_center_crop", clip)? {
            match parse_size(config.get("crop_size").ok_or("`crop_size` is missing")?, false)? {
                Size::Exactly(extent) => Some(extent),
                Size::ShortestEdge(_) => return Err("`crop_size` has no height and width".to_owned()),
            }
        } else {
            None
        };
        let rescale_factor = if flag(&config, "do_rescale", true)? {
            match config.get("rescale_factor") {
                None => 1.0 / 255.0,
                Some(value) => finite(value).ok_or("`rescale_factor` is not a finite number")?,
            }
        } else {
            1.0
        };
        let normalize = flag(&config, "do_normalize", true)?;
        let channels =
            |key: &str, neutral: f32| if normalize { parse_channels(&config, key) } else { Ok([neutral; 3]) };
        let (mean, std) = (channels("image_mean", 0.0)?, channels("image_std", 1.0)?);
        if std.contains(&0.0) {
            return Err("`image_std` has a zero".to_owned());
        }
        Ok(Self { resize, crop, rescale_factor, mean, std })
    }

    /// Height and width of the output, if they are the same for every picture.
    ///
    /// # Errors
    /// When they depend on the picture, so that pictures could not share a batch.
    pub fn output_size(&self) -> Result<(u32, u32), String> {
        match (self.crop, self.resize) {
            (Some(extent), _) | (None, Some((Size::Exactly(extent), _))) => Ok((extent.height, extent.width)),
            (None, _) => Err("neither `crop_size` nor an exact `size` fixes the size of the input".to_owned()),
        }
    }

    /// Resizes and crops. Out: RGB, as large as [`Preprocess::output_size`], channel values 0 to 255; what the picture
    /// does not cover is black.
    ///
    /// Only the part that the crop keeps is resized, so a long line of pixels costs no more memory than its output.
    pub fn pixels(&self, picture: &RgbImage) -> RgbImage {
        let window = self.window(Extent { width: picture.width(), height: picture.height() });
        let Window { canvas, resized, from, to, seen } = window;
        let filter = self.resize.map_or(Filter::Nearest, |(_, filter)| filter);
        let across = Side { resized: resized.width, from: from.0, length: seen.width };
        let down = Side { resized: resized.height, from: from.1, length: seen.height };
        let part = resample(picture, across, down, filter);
        if seen == canvas {
            return part;
        }
        let mut padded = RgbImage::new(canvas.width, canvas.height);
        image::imageops::replace(&mut padded, &part, to.0.into(), to.1.into());
        padded
    }

    /// The size that is as good as a picture of the given one: half as large again as what it is resized to.
    pub fn enough(&self, (width, height): (u32, u32)) -> (u32, u32) {
        if self.resize.is_none() {
            return (width, height);
        }
        let Extent { width, height } = self.window(Extent { width, height }).resized;
        let enough = |side: u32| side.saturating_mul(ENOUGH.0).div_ceil(ENOUGH.1);
        (enough(width), enough(height))
    }

    /// The tensor of [`Preprocess::pixels`]: `[3, height, width]` f32, channel planes in the order R, G, B,
    /// rescaled and normalised.
    pub fn tensor(&self, pixels: &RgbImage) -> Vec<f32> {
        let channel = |mean: f32, std: f32| -> Vec<f32> {
            (0..=u8::MAX).map(|level| (f32::from(level) * self.rescale_factor - mean) / std).collect()
        };
        let ([mean_r, mean_g, mean_b], [std_r, std_g, std_b]) = (self.mean, self.std);
        let levels = [channel(mean_r, std_r), channel(mean_g, std_g), channel(mean_b, std_b)];
        let pixels = pixels.as_raw().as_chunks::<3>().0;
        let mut tensor = vec![0.0; 3 * pixels.len()];
        for (number, (plane, levels)) in tensor.chunks_exact_mut(pixels.len().max(1)).zip(&levels).enumerate() {
            for (value, pixel) in plane.iter_mut().zip(pixels) {
                let level = pixel.get(number).copied().unwrap_or_default();
                *value = levels.get(usize::from(level)).copied().unwrap_or_default();
            }
        }
        tensor
    }

    fn window(&self, source: Extent) -> Window {
        let resized = match self.resize {
            None => source,
            Some((Size::Exactly(extent), _)) => extent,
            Some((Size::ShortestEdge(edge), _)) => shortest_edge(source, edge),
        };
        let canvas = self.crop.unwrap_or(resized);
        let along = |resized: u32, canvas: u32| {
            // Halves are rounded as `center_crop` of transformers rounds them.
            let from = resized.saturating_sub(canvas) / 2;
            let to = canvas.saturating_sub(resized).div_ceil(2);
            (from, to, resized.min(canvas))
        };
        let (from_x, to_x, width) = along(resized.width, canvas.width);
        let (from_y, to_y, height) = along(resized.height, canvas.height);
        Window { canvas, resized, from: (from_x, from_y), to: (to_x, to_y), seen: Extent { width, height } }
    }
}

impl fmt::Display for Preprocess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.resize {
            None => write!(f, "no resize")?,
            Some((Size::ShortestEdge(edge), _)) => write!(f, "shortest edge to {edge}")?,
            Some((Size::Exactly(Extent { width, height }), _)) => write!(f, "resize to {width}×{height}")?,
        }
        if let Some((_, filter)) = self.resize {
            write!(f, " ({filter:?})")?;
        }
        if let Some(Extent { width, height }) = self.crop {
            write!(f, ", centre crop {width}×{height}")?;
        }
        write!(f, ", mean {:?}, std {:?}", self.mean, self.std)
    }
}

/// The longer edge in proportion, its fraction cut off, as Python's `int(size * long / short)` does.
fn shortest_edge(source: Extent, edge: u32) -> Extent {
    let long = |long: u32, short: u32| {
        let scaled = u64::from(edge) * u64::from(long) / u64::from(short.max(1));
        u32::try_from(scaled).unwrap_or(u32::MAX)
    };
    if source.width <= source.height {
        Extent { width: edge, height: long(source.height, source.width) }
    } else {
        Extent { width: long(source.width, source.height), height: edge }
    }
}

fn flag(config: &Map<String, Value>, key: &str, default: bool) -> Result<bool, String> {
    match config.get(key) {
        None | Some(Value::Null) => Ok(default),
        Some(value) => value.as_bool().ok_or_else(|| format!("`{key}` is not true or false")),
    }
}

fn parse_size(size: &Value, number_is_shortest_edge: bool) -> Result<Size, String> {
    let edge = |value: &Value| {
        let edge = value.as_u64().and_then(|edge| u32::try_from(edge).ok()).filter(|edge| (1..=4096).contains(edge));
        edge.ok_or_else(|| format!("size {value} is not a whole number from 1 to 4096"))
    };
    if size.is_number() {
        let edge = edge(size)?;
        let square = Size::Exactly(Extent { width: edge, height: edge });
        return Ok(if number_is_shortest_edge { Size::ShortestEdge(edge) } else { square });
    }
    match (size.get("shortest_edge"), size.get("height"), size.get("width")) {
        (Some(shortest), None, None) if size.get("longest_edge").is_none() => Ok(Size::ShortestEdge(edge(shortest)?)),
        (None, Some(height), Some(width)) => Ok(Size::Exactly(Extent { width: edge(width)?, height: edge(height)? })),
        _ => Err(format!("size {size} has neither `shortest_edge` alone nor `height` and `width`")),
    }
}

fn parse_resample(resample: Option<&Value>, clip: bool) -> Result<Filter, String> {
    // The processors' own defaults: bicubic for CLIP, bilinear for ViT; SigLIP's files always say.
    let default = if clip { 3 } else { 2 };
    let code = match resample {
        None | Some(Value::Null) => default,
        Some(value) => value.as_u64().ok_or_else(|| format!("`resample` is {value}, not one of PIL's numbers"))?,
    };
    match code {
        0 => Ok(Filter::Nearest),
        1 => Ok(Filter::Lanczos),
        2 => Ok(Filter::Bilinear),
        3 => Ok(Filter::Bicubic),
        4 => Ok(Filter::Box),
        5 => Ok(Filter::Hamming),
        other => Err(format!("`resample` is {other}, not one of PIL's numbers 0 to 5")),
    }
}

fn parse_channels(config: &Map<String, Value>, key: &str) -> Result<[f32; 3], String> {
    let values = config.get(key).and_then(Value::as_array).ok_or_else(|| format!("`{key}` is not a list"))?;
    let values: Option<Vec<f32>> = values.iter().map(finite).collect();
    let values = values.and_then(|values| <[f32; 3]>::try_from(values).ok());
    values.ok_or_else(|| format!("`{key}` is not three finite numbers"))
}

fn finite(value: &Value) -> Option<f32> {
    #[expect(clippy::as_conversions, clippy::cast_possible_truncation, reason = "to the precision of the tensor")]
    value.as_f64().map(|value| value as f32).filter(|value| value.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIP: &str = r#"{"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 224},
        "crop_size": {"height": 224, "width": 224}, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.25, 0.5]}"#;

    #[test]
    fn bare_numbers_and_missing_keys_mean_what_each_processor_takes_them_for() {
        let old = r#"{"feature_extractor_type": "CLIPFeatureExtractor", "size": 224, "crop_size": 224,
            "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.25, 0.5]}"#;
        assert_eq!(Preprocess::from_json(old), Preprocess::from_json(CLIP));
        let vit = r#"{"image_processor_type": "ViTImageProcessor", "size": 96, "do_normalize": false}"#;
        assert_eq!(Preprocess::from_json(vit).unwrap().output_size(), Ok((96, 96)));
    }

    #[test]
    fn configurations_that_cannot_be_followed_name_the_key() {
        for (json, key) in [
            (r#"{"size": {"longest_edge": 5}}"#, "size"),
            (r#"{"size": 0}"#, "size"),
            (r#"{"size": 224, "crop_size": {"shortest_edge": 2}}"#, "crop_size"),
            (r#"{"size": 224, "crop_size": 224, "resample": 9}"#, "resample"),
            (r#"{"size": 224, "crop_size": 224, "image_mean": [0, 0]}"#, "image_mean"),
            (r#"{"size": 224, "crop_size": 224, "image_mean": [0, 0, 0], "image_std": [1, 0, 1]}"#, "image_std"),
            (r#"{"size": 224, "do_pad": true}"#, "do_pad"),
        ] {
            assert!(Preprocess::from_json(json).unwrap_err().contains(key), "{json}");
        }
    }

    #[test]
    fn tensors_are_channel_planes() {
        let mut picture = RgbImage::new(224, 224);
        picture.put_pixel(1, 0, image::Rgb([255, 255, 0]));
        let clip = Preprocess::from_json(CLIP).unwrap();
        let tensor = clip.tensor(&clip.pixels(&picture));
        assert_eq!(tensor.len(), 3 * 224 * 224);
        for (channel, value) in [1.0, 2.0, -1.0].into_iter().enumerate() {
            assert!((tensor[channel * 224 * 224 + 1] - value).abs() < 1e-5, "{channel}");
        }
    }

    #[test]
    fn a_line_of_a_million_pixels_costs_its_output_only() {
        let clip = Preprocess::from_json(CLIP).unwrap();
        let line = clip.pixels(&RgbImage::from_pixel(1_000_000, 1, image::Rgb([9, 8, 7])));
        assert_eq!((line.width(), line.height(), line.get_pixel(100, 100).0), (224, 224, [9, 8, 7]));
    }
}

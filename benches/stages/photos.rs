//! Photos that are made, not stored: the same at every run and on every machine.

use std::io::Cursor;

use image::{ImageFormat, Rgb, RgbImage, codecs::jpeg::JpegEncoder};

/// Of JPEG and WebP: a shop's usual.
const QUALITY: u8 = 88;
/// Most levels by which a pixel's grain is lighter or darker than what it is on.
const GRAIN: u32 = 12;

/// A thumbnail, a shop's product picture, a phone's photo: width and height.
pub(crate) const SIZES: [(u32, u32); 3] = [(400, 533), (1024, 1024), (4000, 3000)];

/// A format, as files of it are named.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Format {
    Jpeg,
    Png,
    /// Lossy, as shops have it.
    Webp,
}

impl Format {
    pub(crate) const ALL: [Self; 3] = [Self::Jpeg, Self::Png, Self::Webp];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "jpeg",
            Self::Png => "png",
            Self::Webp => "webp",
        }
    }

    pub(crate) fn encode(self, picture: &RgbImage) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        match self {
            Self::Jpeg => picture.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, QUALITY)).unwrap(),
            Self::Png => picture.write_to(&mut bytes, ImageFormat::Png).unwrap(),
            Self::Webp => {
                let encoder = webp::Encoder::from_rgb(picture.as_raw(), picture.width(), picture.height());
                return encoder.encode(QUALITY.into()).to_vec();
            }
        }
        bytes.into_inner()
    }
}

/// Soft shapes under the grain of a sensor: a file of it is about as large as a photo's.
pub(crate) fn photo((width, height): (u32, u32)) -> RgbImage {
    let mut noise = fastrand::Rng::with_seed(20);
    // A grain has two pixels, as a sensor's colour filter makes it.
    let columns = width.div_ceil(2);
    let grains: Vec<u32> = (0..columns * height.div_ceil(2)).map(|_| noise.u32(0..=2 * GRAIN)).collect();
    RgbImage::from_fn(width, height, |x, y| {
        let place = usize::try_from(y / 2 * columns + x / 2).unwrap();
        let grain = grains.get(place).copied().unwrap_or(GRAIN);
        Rgb([(x, width, 3), (y, height, 5), (x + y, width + height, 7)].map(|(place, length, waves)| {
            // A triangle of 0 to 200, `waves` times along the edge.
            let phase = u64::from(place) * 400 * waves / u64::from(length) % 400;
            let level = u32::try_from(phase.min(400 - phase)).unwrap() + 30 + grain - GRAIN;
            u8::try_from(level).unwrap_or(u8::MAX)
        }))
    })
}

/// How a size is written: `400x533`.
pub(crate) fn written((width, height): (u32, u32)) -> String {
    format!("{width}x{height}")
}

//! Encoded bytes to upright RGB pixels.
//!
//! Policy, the same as in the reference that the golden tests compare with: the first frame; EXIF orientation applied;
//! samples of 16 bits rounded to 8; transparency composed on white; grey and palette expanded; CMYK converted.
//!
//! A JPEG picture much larger than the model's input is decoded at a half, a quarter or an eighth of its size, by
//! transforming fewer coefficients of each block.

use std::{
    io::{self, Cursor},
    panic::catch_unwind,
};

use image::{
    DynamicImage, ImageDecoder as _, ImageError, ImageFormat, ImageReader, Limits, RgbImage, RgbaImage,
    metadata::Orientation,
};
use vitrine_core::{
    Invalid,
    limits::{PHOTO_EDGE_MAX, PHOTO_PIXELS_MAX},
    signal::Region,
};

/// Most memory that decoding one photo may take, in bytes: 64 megapixels of 16-bit RGBA, twice over.
const DECODE_BYTES_MAX: u64 = 1 << 30;
/// libjpeg's scales are counted in eighths.
const EIGHTHS: u8 = 8;

/// Width and height in pixels.
pub type Size = (u32, u32);

/// Decodes a photo, or the given part of it.
///
/// `enough` answers, for the size of the part, the size that is as good as it: the picture may come out smaller than it
/// is, but not smaller than that.
///
/// # Errors
/// When it is not a whole JPEG, PNG, WebP, GIF or BMP picture, or has more than [`PHOTO_PIXELS_MAX`] pixels, which is
/// read from its header. The error's field is `content`.
pub fn decode(content: &[u8], region: Option<Region>, enough: impl Fn(Size) -> Size) -> Result<RgbImage, Invalid> {
    let unreadable =
        |error: &dyn std::fmt::Display| Invalid::new("content", format_args!("cannot be decoded: {error}"));
    let reader = ImageReader::new(Cursor::new(content)).with_guessed_format().map_err(|error| unreadable(&error))?;
    let format = reader.format().ok_or_else(not_a_picture)?;
    let mut decoder = reader.into_decoder().map_err(|error| {
        if matches!(error, ImageError::Unsupported(_)) { not_a_picture() } else { unreadable(&error) }
    })?;

    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > PHOTO_PIXELS_MAX {
        let megapixels = PHOTO_PIXELS_MAX / 1_000_000;
        let problem = format!("is {width}×{height} pixels, more than the limit of {megapixels} megapixels");
        return Err(Invalid::new("content", problem));
    }
    if width.max(height) > PHOTO_EDGE_MAX {
        let problem = format!("is {width}×{height} pixels, with an edge beyond the limit of {PHOTO_EDGE_MAX}");
        return Err(Invalid::new("content", problem));
    }
    if format == ImageFormat::Jpeg && !jpeg_is_whole(content) {
        return Err(Invalid::new("content", "cannot be decoded: the JPEG data ends too early"));
    }
    let mut limits = Limits::default();
    limits.max_alloc = Some(DECODE_BYTES_MAX);
    decoder.set_limits(limits).map_err(|error| unreadable(&error))?;
    let orientation = decoder.orientation().map_err(|error| unreadable(&error))?;
    let shrunk = if format == ImageFormat::Jpeg {
        let upright = if turns(orientation) { (height, width) } else { (width, height) };
        let part = region.map_or(upright, |region| size(pixel_edges(region, upright.0, upright.1)));
        shrunk_jpeg(content, divisor(part, enough(part)))
    } else {
        None
    };
    let mut picture = match shrunk {
        Some(picture) => picture,
        None => DynamicImage::from_decoder(decoder).map_err(|error| unreadable(&error))?,
    };
    picture.apply_orientation(orientation);
    if let Some(region) = region {
        let [left, top, right, bottom] = pixel_edges(region, picture.width(), picture.height());
        picture = picture.crop_imm(left, top, right - left, bottom - top);
    }
    Ok(if picture.has_alpha() { on_white(&picture.into_rgba8()) } else { picture.into_rgb8() })
}

/// Whether width and height change places.
fn turns(orientation: Orientation) -> bool {
    match orientation {
        Orientation::Rotate90 | Orientation::Rotate270 | Orientation::Rotate90FlipH | Orientation::Rotate270FlipH => {
            true
        }
        Orientation::NoTransforms
        | Orientation::Rotate180
        | Orientation::FlipHorizontal
        | Orientation::FlipVertical => false,
    }
}

/// The largest of 8, 4, 2 and 1 that may divide a picture which need not be larger than `enough`.
fn divisor((width, height): Size, enough: Size) -> u8 {
    let may = |divisor: &u8| width / u32::from(*divisor) >= enough.0 && height / u32::from(*divisor) >= enough.1;
    [8, 4, 2].into_iter().find(may).unwrap_or(1)
}

/// The picture at a part of its size; `None` where that is not possible, and the picture is to be decoded in full.
fn shrunk_jpeg(content: &[u8], divisor: u8) -> Option<DynamicImage> {
    if divisor == 1 {
        return None;
    }
    // libjpeg's errors come out as panics that no hook hears of.
    let decoded = catch_unwind(|| {
        let mut decoder = mozjpeg::Decompress::new_mem(content)?;
        decoder.scale(EIGHTHS / divisor);
        let mut rows = decoder.rgb()?;
        let (width, height) = (rows.width(), rows.height());
        let pixels = rows.read_scanlines::<u8>()?;
        rows.finish()?;
        io::Result::Ok((width, height, pixels))
    });
    let (width, height, pixels) = decoded.ok()?.ok()?;
    RgbImage::from_raw(width.try_into().ok()?, height.try_into().ok()?, pixels).map(DynamicImage::ImageRgb8)
}

fn not_a_picture() -> Invalid {
    Invalid::new("content", "is not a JPEG, PNG, WebP, GIF or BMP picture")
}

/// Whether a JPEG file reaches its end-of-image marker. The decoder itself fills what is missing with grey.
///
/// Source: ITU-T T.81, annex B.
fn jpeg_is_whole(bytes: &[u8]) -> bool {
    let mut rest = bytes.get(2..).unwrap_or_default();
    loop {
        // Entropy-coded data has no marker but these: 0xFF00 is a stuffed byte, 0xFFD0 to 0xFFD7 are restarts.
        let Some(start) = rest.iter().position(|&byte| byte == 0xFF) else { return false };
        rest = rest.get(start..).unwrap_or_default();
        match rest {
            [0xFF, 0xD9, ..] => return true,
            [0xFF, 0x00 | 0x01 | 0xD0..=0xD8, ..] => rest = rest.get(2..).unwrap_or_default(),
            [0xFF, 0xFF, ..] => rest = rest.get(1..).unwrap_or_default(),
            [0xFF, _, high, low, ..] => {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                rest = rest.get(2 + length..).unwrap_or_default();
            }
            _ => return false,
        }
    }
}

/// Left, top, right and bottom in pixels: every pixel that the region touches, at least one.
#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an edge in 0 to 1 times a u32 is a u32"
)]
fn pixel_edges(region: Region, width: u32, height: u32) -> [u32; 4] {
    let [left, top, right, bottom] = region.edges().map(f64::from);
    let first = |edge: f64, size: u32| ((edge * f64::from(size)).floor() as u32).min(size.saturating_sub(1));
    let last =
        |edge: f64, size: u32, first: u32| ((edge * f64::from(size)).ceil() as u32).clamp(first + 1, size.max(1));
    let (x, y) = (first(left, width), first(top, height));
    [x, y, last(right, width, x), last(bottom, height, y)]
}

fn size([left, top, right, bottom]: [u32; 4]) -> Size {
    (right - left, bottom - top)
}

fn on_white(picture: &RgbaImage) -> RgbImage {
    let mut opaque = RgbImage::new(picture.width(), picture.height());
    for (to, from) in opaque.pixels_mut().zip(picture.pixels()) {
        let [r, g, b, alpha] = from.0;
        to.0 = [r, g, b].map(|channel| {
            let (channel, alpha) = (u16::from(channel), u16::from(alpha));
            let mixed = (u32::from(channel) * u32::from(alpha) + 255 * u32::from(255 - alpha) + 127) / 255;
            u8::try_from(mixed).unwrap_or(u8::MAX)
        });
    }
    opaque
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(format: ImageFormat) -> Vec<u8> {
        let picture =
            RgbImage::from_fn(40, 30, |x, y| image::Rgb([x * 6, y * 8, 99].map(|level| u8::try_from(level).unwrap())));
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn truncated_pictures_are_refused_at_every_length() {
        for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::Gif, ImageFormat::WebP, ImageFormat::Bmp] {
            let bytes = encoded(format);
            assert!(decode(&bytes, None, |full| full).is_ok());
            for length in (0..bytes.len() - 16).step_by(7) {
                assert_eq!(
                    decode(&bytes[..length], None, |full| full).unwrap_err().field,
                    "content",
                    "{format:?} {length}"
                );
            }
        }
    }

    #[test]
    fn a_huge_picture_is_refused_by_its_header() {
        for (width, height, problem) in [
            (50_000_u32, 50_000_u32, "is 50000×50000 pixels, more than the limit of 64 megapixels"),
            (1, 64_000_000, "is 1×64000000 pixels, with an edge beyond the limit of 65535"),
        ] {
            let mut png = encoded(ImageFormat::Png);
            png[16..20].copy_from_slice(&width.to_be_bytes());
            png[20..24].copy_from_slice(&height.to_be_bytes());
            let checksum = crc32(&png[12..29]);
            png[29..33].copy_from_slice(&checksum.to_be_bytes());
            assert_eq!(decode(&png, None, |full| full).unwrap_err().problem, problem);
        }
    }

    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0_u32, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 })
        })
    }

    #[test]
    fn a_region_takes_every_pixel_it_touches() {
        let edges = |l, t, r, b| pixel_edges(Region::new(l, t, r, b).unwrap(), 10, 4);
        assert_eq!(edges(0.0, 0.0, 1.0, 1.0), [0, 0, 10, 4]);
        assert_eq!(edges(0.25, 0.5, 0.5, 0.75), [2, 2, 5, 3]);
        assert_eq!(edges(0.9999, 0.9999, 1.0, 1.0), [9, 3, 10, 4]);
        let half = decode(&encoded(ImageFormat::Png), Region::new(0.5, 0.0, 1.0, 1.0).ok(), |full| full).unwrap();
        assert_eq!((half.width(), half.height(), half.get_pixel(0, 0).0), (20, 30, [120, 0, 99]));
    }

    #[test]
    fn a_large_jpeg_comes_out_no_smaller_than_is_enough() {
        let mut bytes = Cursor::new(Vec::new());
        let picture =
            RgbImage::from_fn(403, 300, |x, y| image::Rgb([x / 2, y / 2, 99].map(|l| u8::try_from(l).unwrap())));
        picture.write_to(&mut bytes, ImageFormat::Jpeg).unwrap();
        let upright = bytes.into_inner();
        let turned = [&upright[..2], EXIF_ORIENTATION_6, &upright[2..]].concat();
        let half = Region::new(0.5, 0.0, 1.0, 1.0).ok();
        for (bytes, region, enough, size) in [
            (&upright, None, (50, 37), (51, 38)),
            (&upright, None, (51, 37), (101, 75)),
            (&upright, None, (10, 76), (202, 150)),
            (&upright, None, (202, 1), (403, 300)),
            (&upright, half, (50, 37), (51, 75)),
            (&turned, None, (37, 50), (38, 51)),
            (&turned, None, (50, 37), (75, 101)),
        ] {
            let full = decode(bytes, region, |full| full).unwrap();
            let small = decode(bytes, region, |_| enough).unwrap();
            assert_eq!(small.dimensions(), size, "{region:?} {enough:?}");
            let at = |picture: &RgbImage| picture.get_pixel(picture.width() / 4, picture.height() / 4).0;
            assert!(at(&full).iter().zip(at(&small)).all(|(a, b)| a.abs_diff(b) < 8), "{enough:?}");
        }
    }

    /// An APP1 segment that says that the picture's top is its right side.
    const EXIF_ORIENTATION_6: &[u8] =
        b"\xFF\xE1\0\x22Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
}

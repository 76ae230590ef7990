//! Pictures and texts to try a model on before anybody's are there.

use image::{Rgb, RgbImage};

/// Texts of different lengths.
pub(crate) const TEXTS: [&str; 4] = [
    "a red disc",
    "a long description of a checkerboard in black and white, in five by five squares",
    "women's waterproof hiking boots, brown leather",
    "desk lamp",
];

/// Pictures with flat colours, sharp edges, soft changes and fine grain.
pub(crate) fn pictures() -> [RgbImage; 4] {
    [red_disc(), checks(), sunset(), cloth()]
}

fn red_disc() -> RgbImage {
    let inside = |x: u32, y: u32| x.abs_diff(160).pow(2) + y.abs_diff(120).pow(2) < 80 * 80;
    RgbImage::from_fn(320, 240, |x, y| if inside(x, y) { Rgb([200, 30, 30]) } else { Rgb([240, 240, 240]) })
}

fn checks() -> RgbImage {
    RgbImage::from_fn(250, 250, |x, y| if (x / 50 + y / 50) % 2 == 0 { Rgb([0; 3]) } else { Rgb([255; 3]) })
}

fn sunset() -> RgbImage {
    RgbImage::from_fn(256, 256, |x, y| Rgb([level(255 - y / 4), level(y * 3 / 4), level(x / 2 + y / 4)]))
}

/// Threads of two colours, with the grain of a hash.
fn cloth() -> RgbImage {
    RgbImage::from_fn(240, 300, |x, y| {
        let grain = (x.wrapping_mul(0x9E37_79B1) ^ y.wrapping_mul(0x85EB_CA77)).wrapping_mul(0xC2B2_AE3D) >> 27;
        let thread = if (x / 3 + y / 5) % 2 == 0 { [40, 60, 110] } else { [150, 120, 90] };
        Rgb(thread.map(|channel| level(channel + grain)))
    })
}

fn level(value: u32) -> u8 {
    u8::try_from(value).unwrap_or(u8::MAX)
}

//! Resizing RGB pictures exactly as the reference does: to the last level of the last pixel.
//!
//! Faster resizers round their weights to 16 bits, which moves levels by one or two; on a regular pattern that moves
//! an embedding by a hundredth.
//!
//! Source: Pillow's `Resample.c`: weights in 22-bit fixed point, across first, rounded to whole levels in between.

use image::RgbImage;
use pulp::Arch;

/// Bits behind the point of a weight: 32, less 8 of a level and 2 for the overshoot of bicubic and Lanczos.
const PRECISION: u32 = 32 - 8 - 2;

/// How pixels between pixels are made up; the numbers are PIL's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filter {
    /// 0
    Nearest,
    /// 1, of three lobes
    Lanczos,
    /// 2
    Bilinear,
    /// 3, with a = -0.5
    Bicubic,
    /// 4
    Box,
    /// 5
    Hamming,
}

/// Which pixels of a resized side are wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Side {
    /// Length of the whole side after resizing, at least 1.
    pub(crate) resized: u32,
    /// The first pixel that is wanted.
    pub(crate) from: u32,
    /// How many are wanted; `from + length` is at most `resized`.
    pub(crate) length: u32,
}

/// The pixels of one side that one output pixel is made of: the first, and a weight for each.
struct Tap {
    first: usize,
    weights: Vec<i32>,
}

/// Numbers of a pixel in a row that is mixed: red, green, blue, nothing.
const CHANNELS: usize = 4;
/// Numbers that are mixed at once: two pixels, which fill a vector register of 256 bits.
const LANES: usize = 2 * CHANNELS;

/// The wanted part of a picture, resized. Nothing else of the resized picture is made.
pub(crate) fn resample(picture: &RgbImage, across: Side, down: Side, filter: Filter) -> RgbImage {
    // Compiled for each generation of processors; the loops are plain, and vectorised by the compiler.
    Arch::new().dispatch(|| resample_here(picture, across, down, filter))
}

#[expect(clippy::inline_always, reason = "code that is not inlined is compiled for the oldest processors")]
#[inline(always)]
fn resample_here(picture: &RgbImage, across: Side, down: Side, filter: Filter) -> RgbImage {
    let (columns, rows) = (taps(picture.width(), across, filter), taps(picture.height(), down, filter));
    let columns: Vec<Tap> = columns.into_iter().map(for_each_lane).collect();
    let first_row = rows.iter().map(|tap| tap.first).min().unwrap_or(0);
    let last_row = rows.iter().map(|tap| tap.first + tap.weights.len()).max().unwrap_or(0);
    let stride = 3 * index(picture.width());
    let used = picture.as_raw().chunks_exact(stride.max(1)).skip(first_row).take(last_row - first_row);
    let mut narrow = vec![0; 3 * columns.len() * used.len()];
    // One pixel more, which has no weight, for an odd number of them.
    let mut wide = vec![0; CHANNELS * (index(picture.width()) + 1)];
    for (row, narrow) in used.zip(narrow.chunks_exact_mut((3 * columns.len()).max(1))) {
        for (wide, pixel) in wide.as_chunks_mut::<CHANNELS>().0.iter_mut().zip(row.as_chunks().0) {
            let [r, g, b] = pixel.map(i32::from);
            *wide = [r, g, b, 0];
        }
        for (to, tap) in narrow.as_chunks_mut().0.iter_mut().zip(&columns) {
            *to = mix_pixels(&wide, tap);
        }
    }

    let stride = 3 * index(across.length);
    let mut pixels = vec![0; stride * index(down.length)];
    let mut sums = vec![0_i32; stride];
    for (pixels, Tap { first, weights }) in pixels.chunks_exact_mut(stride.max(1)).zip(&rows) {
        sums.fill(1 << (PRECISION - 1));
        let used = narrow.chunks_exact(stride.max(1)).skip(first - first_row);
        for (row, weight) in used.zip(weights) {
            for (sum, level) in sums.iter_mut().zip(row) {
                *sum += i32::from(*level) * weight;
            }
        }
        for (pixel, sum) in pixels.iter_mut().zip(&sums) {
            *pixel = level(*sum);
        }
    }
    RgbImage::from_raw(across.length, down.length, pixels).unwrap_or_default()
}

/// The same in numbers of a widened row: a weight for each of a pixel's channels, for an even number of pixels.
fn for_each_lane(Tap { first, weights }: Tap) -> Tap {
    let mut weights: Vec<i32> = weights.into_iter().flat_map(|weight| [weight; CHANNELS]).collect();
    weights.resize(weights.len().next_multiple_of(LANES), 0);
    Tap { first: CHANNELS * first, weights }
}

/// One output pixel of a row.
#[expect(clippy::inline_always, reason = "as above")]
#[inline(always)]
fn mix_pixels(row: &[i32], Tap { first, weights }: &Tap) -> [u8; 3] {
    let levels = row.get(*first..).unwrap_or_default().as_chunks::<LANES>().0;
    let mut sums = [0; LANES];
    for (levels, weights) in levels.iter().zip(weights.as_chunks::<LANES>().0) {
        for ((sum, level), weight) in sums.iter_mut().zip(levels).zip(weights) {
            *sum += level * weight;
        }
    }
    let [r, g, b, _, r_next, g_next, b_next, _] = sums;
    [r + r_next, g + g_next, b + b_next].map(|sum| level(sum + (1 << (PRECISION - 1))))
}

#[expect(clippy::inline_always, reason = "as above")]
#[inline(always)]
fn level(sum: i32) -> u8 {
    u8::try_from((sum >> PRECISION).clamp(0, 255)).unwrap_or_default()
}

/// What each wanted pixel of a side of `source` pixels is made of.
#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "positions in a picture, and weights of at most 2 in 22-bit fixed point"
)]
fn taps(source: u32, side: Side, filter: Filter) -> Vec<Tap> {
    let wanted = side.from..side.from + side.length;
    if source == side.resized {
        // A pass that changes nothing is left out.
        return wanted.map(|position| Tap { first: index(position), weights: vec![1 << PRECISION] }).collect();
    }
    let scale = f64::from(source) / f64::from(side.resized);
    let Some((reach, weigh)) = kernel(filter) else {
        let nearest = |position: u32| ((f64::from(position) + 0.5) * scale) as usize;
        return wanted.map(|position| Tap { first: nearest(position), weights: vec![1 << PRECISION] }).collect();
    };
    let spread = scale.max(1.0);
    let support = reach * spread;
    let tap = |position: u32| {
        let center = (f64::from(position) + 0.5) * scale;
        let first = (center - support + 0.5).max(0.0) as usize;
        let last = ((center + support + 0.5) as usize).min(index(source));
        let shares: Vec<f64> = (first..last).map(|at| weigh((at as f64 - center + 0.5) / spread)).collect();
        let total: f64 = shares.iter().sum();
        let fixed = |share: &f64| (share / total * f64::from(1 << PRECISION)).round() as i32;
        Tap { first, weights: shares.iter().map(fixed).collect() }
    };
    wanted.map(tap).collect()
}

/// What a pixel weighs, by its distance in output pixels.
type Weigh = fn(f64) -> f64;

/// How far a filter reaches, in output pixels, and its weights; none for the nearest pixel alone.
fn kernel(filter: Filter) -> Option<(f64, Weigh)> {
    fn sinc(x: f64) -> f64 {
        let x = x * std::f64::consts::PI;
        if x == 0.0 { 1.0 } else { x.sin() / x }
    }
    match filter {
        Filter::Nearest => None,
        Filter::Box => Some((0.5, |x| f64::from(u8::from(x > -0.5 && x <= 0.5)))),
        Filter::Bilinear => Some((1.0, |x| (1.0 - x.abs()).max(0.0))),
        Filter::Hamming => Some((1.0, |x| {
            let window = 0.54 + 0.46 * (x * std::f64::consts::PI).cos();
            if x.abs() >= 1.0 { 0.0 } else { sinc(x) * window }
        })),
        Filter::Bicubic => Some((2.0, |x| {
            let (x, a) = (x.abs(), -0.5);
            if x < 1.0 {
                ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
            } else if x < 2.0 {
                (((x - 5.0) * x + 8.0) * x - 4.0) * a
            } else {
                0.0
            }
        })),
        Filter::Lanczos => Some((3.0, |x| if (-3.0..3.0).contains(&x) { sinc(x) * sinc(x / 3.0) } else { 0.0 })),
    }
}

fn index(position: u32) -> usize {
    usize::try_from(position).unwrap_or(usize::MAX)
}

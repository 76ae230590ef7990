//! The bounds that every part keeps. Over a limit is [`Invalid`](crate::Invalid), naming the field and the limit.

/// Largest gRPC message, in bytes: a photo and room for the rest.
pub const MESSAGE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Largest photo, in bytes as uploaded.
pub const PHOTO_BYTES_MAX: usize = 20 * 1024 * 1024;
/// Largest photo, in pixels; read from its header, before anything is decoded.
pub const PHOTO_PIXELS_MAX: u64 = 64_000_000;
/// Longest edge of a photo, in pixels: JPEG's own limit. A line of millions of pixels costs far more to resize than its
/// number of pixels says.
pub const PHOTO_EDGE_MAX: u32 = 65_535;
/// Longest text of a signal, in bytes of UTF-8.
pub const TEXT_BYTES_MAX: usize = 1024;
/// Most signals in one search.
pub const SIGNALS_MAX: usize = 16;
/// Largest absolute weight of a signal.
pub const SIGNAL_WEIGHT_MAX: f32 = 10.0;
/// Deepest filter tree, in levels.
pub const FILTER_DEPTH_MAX: usize = 8;
/// Most nodes in one filter.
pub const FILTER_NODES_MAX: usize = 256;
/// Most listed values in one filter.
pub const FILTER_VALUES_MAX: usize = 10_000;
/// Most products in one page.
pub const PAGE_SIZE_MAX: usize = 200;
/// Products in a page of a request that does not say.
pub const PAGE_SIZE_DEFAULT: usize = 10;
/// Most products that the pages of one search reach together: beyond it no shopper scrolls, and the cost of a page
/// grows with its depth.
pub const RESULTS_MAX: usize = 2000;
/// Most inputs in one batch of embeddings.
pub const EMBED_INPUTS_MAX: usize = 256;
/// Longest product identifier, in bytes.
pub const PRODUCT_ID_BYTES_MAX: usize = 256;
/// Longest attribute value that can be filtered by, in bytes; longer ones are stored as prose.
pub const KEYWORD_BYTES_MAX: usize = 256;
/// Longest stored text of a product (a description, a link), in bytes.
pub const PROSE_BYTES_MAX: usize = 64 * 1024;
/// Most different words of one product that are kept to be found by.
pub const KEYWORDS_OF_PRODUCT_MAX: usize = 256;
/// Most different words of one search that are looked for.
pub const KEYWORDS_OF_QUERY_MAX: usize = 64;
/// Most pictures of one product.
pub const PICTURES_MAX: usize = 16;

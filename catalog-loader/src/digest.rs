//! How a load knows again what has not changed.

use vitrine_core::{index::Digest, product::Product};

/// Goes into every digest. To be raised when the same feed and pictures are to be embedded, or kept, in another way.
const VERSION: &[u8] = b"vitrine 1";

/// Over a product as its feed has it, and the hashes of what each of its pictures' files has in it, in the order of
/// `image_links`.
pub(crate) fn digest(product: &Product, pictures: &[blake3::Hash]) -> Option<Digest> {
    let product = serde_json::to_vec(product).ok()?;
    let pictures = pictures.iter().map(|picture| picture.as_bytes().as_slice());
    Some(Digest::of([VERSION, &product].into_iter().chain(pictures)))
}

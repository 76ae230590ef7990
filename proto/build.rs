//! Compiles the contract with protox, so that no system `protoc` is needed.

use std::{env, error::Error, path::PathBuf};

use prost::Message as _;

const FILES: [&str; 6] = [
    "vitrine/v1/product.proto",
    "vitrine/v1/filter.proto",
    "vitrine/v1/signal.proto",
    "vitrine/v1/recommendation_service.proto",
    "vitrine/v1/catalog_service.proto",
    "vitrine/v1/embedding_service.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=vitrine");
    let descriptors = protox::compile(FILES, ["."])?;
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    std::fs::write(out_dir.join("vitrine.v1.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes("vitrine.v1.Photo.content")
        .bytes("vitrine.v1.SearchUploadRequest.chunk")
        .compile_fds(descriptors)?;
    Ok(())
}

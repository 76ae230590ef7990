//! Finding and loading ONNX Runtime's shared library.

use std::{
    env::consts::{DLL_PREFIX, DLL_SUFFIX},
    path::{Path, PathBuf},
    sync::Mutex,
};

use ort::environment::Environment;

use crate::ModelError;

/// ONNX Runtime allows one environment in a process, and none after it was dropped: so it stays.
static LOADED: Mutex<Option<Environment>> = Mutex::new(None);

/// ONNX Runtime, loaded. Cheap to clone.
#[derive(Clone)]
pub struct Runtime {
    environment: Environment,
}

impl Runtime {
    /// Loads the shared library: `configured` if given, else `onnxruntime/` in the directory of the executable or one of
    /// the three above it (where `make onnxruntime` puts it beside the build, and a package beside the program).
    ///
    /// # Errors
    /// When there is none, or it is older than ONNX Runtime 1.24.
    pub fn load(configured: Option<&Path>, executable: &Path) -> Result<Self, ModelError> {
        let mut loaded = LOADED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(environment) = &*loaded {
            return Ok(Self { environment: environment.clone() });
        }
        let library = locate(configured, executable)?;
        let unusable = |error: &dyn std::fmt::Display| ModelError::RuntimeUnusable(error.to_string());
        let environment = ort::init_from(&library)
            .map_err(|error| unusable(&error))?
            .with_name("vitrine")
            .with_telemetry(false)
            .build()
            .map_err(|error| unusable(&error))?;
        tracing::debug!(library = %library.display(), "loaded ONNX Runtime");
        *loaded = Some(environment.clone());
        Ok(Self { environment })
    }

    pub(crate) fn environment(&self) -> &Environment {
        &self.environment
    }
}

fn locate(configured: Option<&Path>, executable: &Path) -> Result<PathBuf, ModelError> {
    let file_name = format!("{DLL_PREFIX}onnxruntime{DLL_SUFFIX}");
    let candidates: Vec<_> = match configured {
        Some(path) => vec![path.to_owned()],
        // Test executables lie two directories deeper than the build folder.
        None => executable.ancestors().skip(1).take(4).map(|dir| dir.join("onnxruntime").join(&file_name)).collect(),
    };
    let found = candidates.iter().find(|path| path.is_file()).cloned();
    found.ok_or(ModelError::RuntimeMissing { tried: candidates })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_library_says_where_it_was_looked_for_and_what_to_do() {
        let error = locate(Some(Path::new("/nowhere/lib.so")), Path::new("/x")).unwrap_err().to_string();
        assert!(error.contains("/nowhere/lib.so") && error.contains("make onnxruntime"), "{error}");
    }

    #[test]
    fn the_library_is_found_in_a_folder_above_the_executable() {
        let dir = tempfile::tempdir().unwrap();
        let library = dir.path().join("onnxruntime").join(format!("{DLL_PREFIX}onnxruntime{DLL_SUFFIX}"));
        std::fs::create_dir_all(library.parent().unwrap()).unwrap();
        std::fs::write(&library, b"").unwrap();
        assert_eq!(locate(None, &dir.path().join("debug/deps/test")).unwrap(), library);
    }
}

//! What runs the graphs: ONNX Runtime's own processor code, or an execution provider that replaces it.
//!
//! `openvino` is compared with the default in `benches/README.md`. `cuda`, `tensorrt` and `coreml` are written after
//! ONNX Runtime's documentation and have not been run: no machine of this project has what they need.

use std::{fmt, str::FromStr};

use ort::{ep::ExecutionProviderDispatch, session::builder::SessionBuilder};

use crate::ModelError;

/// Who does the arithmetic of the graphs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ExecutionProvider {
    /// ONNX Runtime's own code for processors.
    #[default]
    Cpu,
    /// Intel's OpenVINO, on the processor.
    OpenVino,
    /// NVIDIA's CUDA, on the first device.
    Cuda,
    /// NVIDIA's TensorRT, with CUDA for what it does not know.
    TensorRt,
    /// Apple's Core ML.
    CoreMl,
}

impl ExecutionProvider {
    const ALL: [Self; 5] = [Self::Cpu, Self::OpenVino, Self::Cuda, Self::TensorRt, Self::CoreMl];

    /// Its name in settings, and that of the cargo feature that compiles it in.
    fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::OpenVino => "openvino",
            Self::Cuda => "cuda",
            Self::TensorRt => "tensorrt",
            Self::CoreMl => "coreml",
        }
    }
}

impl FromStr for ExecutionProvider {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|provider| provider.name() == text);
        known.ok_or_else(|| format!("is `{text}`, not cpu, openvino, cuda, tensorrt or coreml"))
    }
}

impl fmt::Display for ExecutionProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a session runs its graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Execution {
    /// Who does the arithmetic.
    pub provider: ExecutionProvider,
    /// Threads of the session; 0 is one for each core.
    pub threads: usize,
    /// Whether matrices are multiplied in bf16, which only [`ExecutionProvider::OpenVino`] does.
    pub bf16: bool,
}

impl Execution {
    /// ONNX Runtime's own code on so many threads.
    pub fn cpu(threads: usize) -> Self {
        Self { provider: ExecutionProvider::Cpu, threads, bf16: false }
    }

    /// Checks that this program and the loaded ONNX Runtime can do it.
    ///
    /// # Errors
    /// [`ModelError::ProviderMissing`], with what to do.
    pub(crate) fn check(self) -> Result<(), ModelError> {
        if self.bf16 && self.provider != ExecutionProvider::OpenVino {
            return Err(missing(self.provider, "it has no bf16 arithmetic; choose openvino, or another precision"));
        }
        self.providers().map(drop)
    }

    /// Registers the provider with a session to be.
    pub(crate) fn register(self, builder: SessionBuilder) -> Result<SessionBuilder, ModelError> {
        let providers = self.providers()?;
        let failed = |error: &dyn fmt::Display| missing(self.provider, format_args!("it does not start: {error}"));
        builder.with_execution_providers(providers).map_err(|error| failed(&error))
    }

    fn providers(self) -> Result<Vec<ExecutionProviderDispatch>, ModelError> {
        match self.provider {
            ExecutionProvider::Cpu => Ok(Vec::new()),
            ExecutionProvider::OpenVino => self.openvino(),
            ExecutionProvider::Cuda => self.cuda(),
            ExecutionProvider::TensorRt => self.tensorrt(),
            ExecutionProvider::CoreMl => self.coreml(),
        }
    }

    #[cfg(feature = "openvino")]
    fn openvino(self) -> Result<Vec<ExecutionProviderDispatch>, ModelError> {
        use ort::ep::{ArbitrarilyConfigurableExecutionProvider as _, OpenVINO};
        let threads = if self.threads == 0 {
            std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
        } else {
            self.threads
        };
        let arithmetic = if self.bf16 { "bf16" } else { "f32" };
        // Without a stream of its own for each session, OpenVINO makes as many as there are cores. With pinning, the
        // sessions of one process all get the same first cores.
        let config = format!(
            r#"{{"CPU": {{"INFERENCE_PRECISION_HINT": "{arithmetic}", "INFERENCE_NUM_THREADS": "{threads}", "NUM_STREAMS": "1", "ENABLE_CPU_PINNING": "NO"}}}}"#
        );
        available::<OpenVINO>(self.provider, "`make onnxruntime-openvino` gets one that has it")?;
        let provider = OpenVINO::default().with_device_type("CPU").with_arbitrary_config("load_config", config);
        Ok(vec![provider.build().error_on_failure()])
    }

    #[cfg(feature = "cuda")]
    fn cuda(self) -> Result<Vec<ExecutionProviderDispatch>, ModelError> {
        use ort::ep::CUDA;
        available::<CUDA>(self.provider, GPU_LIBRARY)?;
        Ok(vec![CUDA::default().build().error_on_failure()])
    }

    #[cfg(feature = "tensorrt")]
    fn tensorrt(self) -> Result<Vec<ExecutionProviderDispatch>, ModelError> {
        use ort::ep::{CUDA, TensorRT};
        available::<TensorRT>(self.provider, GPU_LIBRARY)?;
        Ok(vec![TensorRT::default().build().error_on_failure(), CUDA::default().build()])
    }

    #[cfg(feature = "coreml")]
    fn coreml(self) -> Result<Vec<ExecutionProviderDispatch>, ModelError> {
        use ort::ep::CoreML;
        available::<CoreML>(self.provider, "the official package for macOS has it")?;
        Ok(vec![CoreML::default().build().error_on_failure()])
    }

    #[cfg(not(feature = "openvino"))]
    fn openvino(self) -> Result<Vec<ExecutionProviderDispatch>, ModelError> {
        Err(not_compiled(self.provider))
    }

    #[cfg(not(feature = "cuda"))]
    fn cuda(self) -> Result<Vec<ExecutionProviderDispatch>, ModelError> {
        Err(not_compiled(self.provider))
    }

    #[cfg(not(feature = "tensorrt"))]
    fn tensorrt(self) -> Result<Vec<ExecutionProviderDispatch>, ModelError> {
        Err(not_compiled(self.provider))
    }

    #[cfg(not(feature = "coreml"))]
    fn coreml(self) -> Result<Vec<ExecutionProviderDispatch>, ModelError> {
        Err(not_compiled(self.provider))
    }
}

impl fmt::Display for Execution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {} threads{}", self.provider, self.threads, if self.bf16 { ", in bf16" } else { "" })
    }
}

#[cfg(any(feature = "cuda", feature = "tensorrt"))]
const GPU_LIBRARY: &str = "the package `onnxruntime-gpu` of the Python index carries one that has it";

/// Whether the loaded ONNX Runtime was built with a provider.
#[cfg(any(feature = "openvino", feature = "cuda", feature = "tensorrt", feature = "coreml"))]
fn available<E: ort::ep::ExecutionProvider>(provider: ExecutionProvider, advice: &str) -> Result<(), ModelError> {
    match E::is_available() {
        Ok(true) => Ok(()),
        Ok(false) => Err(missing(
            provider,
            format_args!("the loaded ONNX Runtime was built without it; {advice}, to be named in ORT_DYLIB_PATH"),
        )),
        Err(error) => Err(missing(provider, error)),
    }
}

#[cfg(not(all(feature = "openvino", feature = "cuda", feature = "tensorrt", feature = "coreml")))]
fn not_compiled(provider: ExecutionProvider) -> ModelError {
    missing(provider, format_args!("this program was built without the cargo feature `{provider}`"))
}

fn missing(provider: ExecutionProvider, problem: impl fmt::Display) -> ModelError {
    ModelError::ProviderMissing { provider, problem: problem.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_provider_is_chosen_by_the_name_that_it_is_shown_by() {
        for provider in ExecutionProvider::ALL {
            assert_eq!(provider.to_string().parse(), Ok(provider));
        }
        let error = "gpu".parse::<ExecutionProvider>().unwrap_err();
        assert_eq!(error, "is `gpu`, not cpu, openvino, cuda, tensorrt or coreml");
    }

    #[test]
    fn arithmetic_that_a_provider_does_not_have_is_refused() {
        let error = Execution { bf16: true, ..Execution::cpu(1) }.check().unwrap_err().to_string();
        assert_eq!(error, "execution provider `cpu`: it has no bf16 arithmetic; choose openvino, or another precision");
    }

    #[test]
    #[cfg(not(feature = "cuda"))]
    fn a_provider_that_was_not_compiled_in_names_its_feature() {
        let error = Execution { provider: ExecutionProvider::Cuda, ..Execution::cpu(1) }.check().unwrap_err();
        assert!(error.to_string().ends_with("this program was built without the cargo feature `cuda`"), "{error}");
    }
}

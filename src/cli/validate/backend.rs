//! The backend that the flags name, with everything that has to be looked up for it.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::checkpoint::{Checkpoint, SourceFormat};
use crate::cli::args::{BackendId, ValidateArgs};
use crate::decode::{Engine, Renderer};
use crate::device;
use crate::dtype::Dtype;
use crate::foreign;
use crate::model::ModelSpec;
use crate::quantize;
use crate::runtime::{RuntimeProfile, profile};
use crate::scheme::{Container, Scheme};
use crate::validate::{self, Backend};

/// The address of llama-server by default, and of Ollama.
const LLAMA_SERVER: &str = "http://127.0.0.1:8080";
const OLLAMA: &str = "http://127.0.0.1:11434";

/// A backend whose program, file or address is known.
pub(super) enum ResolvedBackend {
    /// This program's decoder, on the checkpoint.
    Decoder,
    /// llama-bench, on a file here.
    LlamaBench { program: PathBuf, gguf: PathBuf },
    /// A server with OpenAI's completions.
    OpenAi { url: String, served: Option<String> },
    /// An Ollama server.
    Ollama { url: String, served: String },
}

impl ResolvedBackend {
    /// The backend as the library takes it.
    pub(super) fn backend<'a>(
        &'a self,
        checkpoint: &'a Checkpoint,
        spec: &'a ModelSpec,
        runtime: &RuntimeProfile,
        renderer: &'a Renderer,
    ) -> Backend<'a> {
        match self {
            ResolvedBackend::Decoder => Backend::Candle {
                checkpoint,
                spec,
                engine: match runtime.backend {
                    profile::ComputeBackend::Cpu => Engine::Cpu,
                    profile::ComputeBackend::Cuda => Engine::Cuda,
                },
                renderer,
            },
            ResolvedBackend::LlamaBench { program, gguf } => Backend::LlamaBench {
                program,
                launcher: &renderer.program,
                model: gguf,
            },
            ResolvedBackend::OpenAi { url, served } => Backend::OpenAi {
                url,
                served: served.as_deref(),
            },
            ResolvedBackend::Ollama { url, served } => Backend::Ollama { url, served },
        }
    }
}

/// Resolves the backend of `args` for `model` in `checkpoint`; refuses flags that it does not take.
pub(super) fn resolve(
    args: &ValidateArgs,
    checkpoint: &Checkpoint,
    model: &ModelSpec,
) -> anyhow::Result<ResolvedBackend> {
    let url = |usual: &str| -> anyhow::Result<String> {
        let url = args.url.clone().unwrap_or_else(|| usual.to_owned());
        if validate::local_port(&url).is_none() && args.device.eq_ignore_ascii_case(device::HOST) {
            bail!(
                "{url} is another machine: name its board with --device, such as --device orin-nano-8gb"
            );
        }
        Ok(url)
    };
    let is_server = matches!(args.backend, BackendId::Openai | BackendId::Ollama);
    if args.url.is_some() && !is_server {
        bail!(
            "--url is for --backend openai and ollama; {} runs here",
            args.backend.name()
        );
    }
    if args.threads.is_some() && args.backend != BackendId::LlamaBench {
        bail!(
            "--threads is for --backend llama-bench; a server has its own setting, and candle reads CANDLE_NUM_THREADS"
        );
    }
    if args.program.is_some() && args.backend != BackendId::LlamaBench {
        bail!("--program is for --backend llama-bench");
    }
    Ok(match args.backend {
        BackendId::Candle if run_as(args, checkpoint, model).is_some() => ResolvedBackend::Decoder,
        BackendId::Candle => gguf(args, checkpoint).map(|_| ResolvedBackend::Decoder)?,
        BackendId::LlamaBench => ResolvedBackend::LlamaBench {
            gguf: gguf(args, checkpoint)?,
            program: program(args)?,
        },
        BackendId::Openai => ResolvedBackend::OpenAi {
            url: url(LLAMA_SERVER)?,
            served: args.served_model.clone(),
        },
        BackendId::Ollama => ResolvedBackend::Ollama {
            url: url(OLLAMA)?,
            served: match (&args.served_model, Path::new(&args.model.model).exists()) {
                (Some(name), _) => name.clone(),
                (None, false) => args.model.model.clone(),
                (None, true) => bail!(
                    "{} is a file: name its Ollama tag with --served-model",
                    args.model.model
                ),
            },
        },
    })
}

/// The scheme in which this program's decoder runs a Hugging Face checkpoint as it is: its 16-bit format, if no other
/// is asked for. Packed weights are unpacked to it only where it is named.
pub(super) fn run_as(
    args: &ValidateArgs,
    checkpoint: &Checkpoint,
    model: &ModelSpec,
) -> Option<&'static str> {
    let format = quantize::float_format(checkpoint);
    if checkpoint.format != SourceFormat::Safetensors || format == Dtype::F32 {
        return None;
    }
    let own = Scheme::of_half(format).id;
    let is_meant = match &args.scheme {
        Some(named) => named.eq_ignore_ascii_case(own),
        None => model.prequantized.is_none(),
    };
    (args.backend == BackendId::Candle && is_meant).then_some(own)
}

fn program(args: &ValidateArgs) -> anyhow::Result<PathBuf> {
    match &args.program {
        // A file, as the user named it: a bare name is not searched elsewhere.
        Some(program) => Ok(std::path::absolute(program)?),
        None => Ok(validate::find_llama_bench(
            std::env::var_os("PATH").as_deref(),
        )?),
    }
}

/// The GGUF to run; of a split one the first part, which names the others.
fn gguf(args: &ValidateArgs, checkpoint: &Checkpoint) -> anyhow::Result<PathBuf> {
    let model = &args.model.model;
    if checkpoint.format == SourceFormat::Config {
        bail!("{model} is a configuration without weights: there is nothing to run");
    }
    if checkpoint.format != SourceFormat::Gguf {
        let is_file = |scheme: &&Scheme| scheme.container == Container::Gguf;
        let scheme = args.scheme.as_deref().and_then(Scheme::get).filter(is_file);
        let scheme = scheme.map_or("q4_k_m", |scheme| scheme.id);
        let backend = args.backend.name();
        // Another scheme than its own was asked for, or it has none of 16 bits.
        let (runs, flag) = match args.backend {
            BackendId::Candle => (
                "a GGUF, or 16-bit weights in their own format",
                String::new(),
            ),
            _ => ("a GGUF", format!(" --backend {backend}")),
        };
        bail!(
            "{model} is not a GGUF, but --backend {backend} runs {runs}: make one with `orinplan quantize {} --scheme {scheme} --output model.gguf`, then `orinplan validate model.gguf{flag}`",
            foreign::shell_path(model)
        );
    }
    let file = checkpoint
        .files
        .first()
        .context("the checkpoint has no file")?;
    if crate::input::is_header_only(&file.path) {
        bail!(
            "{} is a header without weights: there is nothing to run",
            file.path.display()
        );
    }
    Ok(file.path.clone())
}

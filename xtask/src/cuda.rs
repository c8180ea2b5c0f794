//! `cargo xtask cuda`: the program with `--features cuda`, its kernels compiled for a Jetson Orin and the
//! rest checked. No GPU is needed, and no toolkit either: without `nvcc` in the PATH the compiler comes
//! from PyPI, into `target/cuda`.
//!
//! Nothing is linked, so neither CUDA's libraries nor its driver have to be there.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::available_parallelism;

use anyhow::{Context, ensure};

use crate::interop::environment;

/// The compute capability of every Jetson Orin.
const ORIN: &str = "87";

pub(crate) fn run() -> anyhow::Result<()> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let work = root.join("../target/cuda");
    std::fs::create_dir_all(&work)?;
    let mut check = Command::new("cargo");
    check
        .args(["clippy", "--locked", "--features", "cuda", "--"])
        .args(["-D", "warnings"])
        .current_dir(root.join(".."))
        .env("CARGO_TARGET_DIR", work.join("build"))
        .env("CUDA_COMPUTE_CAP", ORIN)
        // Left alone, the kernels take half of the cores.
        .env("CUDAFORGE_THREADS", available_parallelism()?.to_string());
    if !environment::runs("nvcc") {
        let requirements = root.join("cuda/requirements.txt");
        let python = environment::python(&work, "python", &[&requirements])?;
        let home = toolkit(&python)?;
        let bin = home.join("bin");
        let paths = env::var_os("PATH").unwrap_or_default();
        let paths = std::iter::once(bin).chain(env::split_paths(&paths));
        check
            .env("PATH", env::join_paths(paths)?)
            .env("CUDA_HOME", &home)
            // Nobody runs them: for the check they need not be fast, and are compiled in a sixth of the time.
            .env("NVCC_APPEND_FLAGS", "--Ofast-compile=max");
    }
    ensure!(check.status()?.success(), "the build with CUDA fails");
    println!("ok    --features cuda, kernels for compute capability {ORIN}");
    Ok(())
}

/// Where the packages have put the toolkit.
fn toolkit(python: &Path) -> anyhow::Result<PathBuf> {
    let script = "import sysconfig; print(sysconfig.get_path('purelib'))";
    let output = Command::new(python).args(["-c", script]).output()?;
    let packages = PathBuf::from(String::from_utf8(output.stdout)?.trim());
    let home = packages.join("nvidia/cu13");
    let home = home.canonicalize();
    home.with_context(|| format!("no toolkit in {}", packages.display()))
}

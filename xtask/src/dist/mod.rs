//! `cargo xtask dist [TARGET]..`: release archives and Debian packages under `target/dist`, each program tried before
//! it is packed.
//!
//! In: this working tree. Out: `orinplan-VERSION-TARGET.tar.gz`, `orinplan_VERSION_ARCH.deb`, `SHA256SUMS` and `install.sh`.
//! Needs Python (Zig and cargo-zigbuild come from PyPI), `tar`, and for packages `dpkg-deb`. Another processor's program is
//! tried where `qemu-user` is installed; packages are installed and removed where `debootstrap` is.

mod clean_root;
mod script;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use crate::interop::environment;
use clean_root::CleanRoot;

/// A build.
struct Target {
    /// Rust's name of it.
    triple: &'static str,
    /// The newest glibc whose symbols it may need; none is linked statically.
    glibc: Option<[u32; 2]>,
    /// Debian's name of the architecture, if a package is made.
    debian: Option<&'static str>,
    /// The program that runs it on another processor.
    emulator: &'static str,
    /// Where its libraries are for the emulator.
    libraries: &'static str,
}

/// glibc of Ubuntu 20.04, on which JetPack 5 is built; JetPack 6 has 2.35.
const JETPACK_5: Option<[u32; 2]> = Some([2, 31]);

const TARGETS: &[Target] = &[
    Target {
        triple: "aarch64-unknown-linux-gnu",
        glibc: JETPACK_5,
        debian: Some("arm64"),
        emulator: "qemu-aarch64",
        libraries: "/usr/aarch64-linux-gnu",
    },
    Target {
        triple: "x86_64-unknown-linux-gnu",
        glibc: JETPACK_5,
        debian: Some("amd64"),
        emulator: "qemu-x86_64",
        libraries: "/usr/x86_64-linux-gnu",
    },
    Target {
        triple: "aarch64-unknown-linux-musl",
        glibc: None,
        debian: None,
        emulator: "qemu-aarch64",
        libraries: "/",
    },
    Target {
        triple: "x86_64-unknown-linux-musl",
        glibc: None,
        debian: None,
        emulator: "qemu-x86_64",
        libraries: "/",
    },
];

/// The fixture that each program plans, from the folder of the project.
const FIXTURE: &str = "fixtures/qwen3-0.6b";

const PLANNED: [&str; 6] = [
    "fit",
    FIXTURE,
    "--device",
    "orin-nano-8gb",
    "--format",
    "json",
];

const SHELLS: [(&str, &str); 3] = [
    ("bash", "orinplan"),
    ("zsh", "_orinplan"),
    ("fish", "orinplan.fish"),
];

/// Dependencies whose code runs for each weight, byte or token.
const HOT: [&str; 8] = [
    "aho-corasick",
    "fancy-regex",
    "gemm-common",
    "gemm-f16",
    "half",
    "memchr",
    "regex-automata",
    "ring",
];

/// Inlines little more than what is shorter than its call: compilers take 225 or more, and a third of the program was
/// copies of code that runs once. Kernels are made of functions that are inlined in any case.
const INLINING: &str = "-Cllvm-args=-inline-threshold=20";

/// A panic ends the program, so nothing reads the tables by which functions are unwound: a million bytes of the program.
const WITHOUT_TABLES: &str = "\
SECTIONS { /DISCARD/ : { *(.eh_frame) *(.eh_frame_hdr) *(.gcc_except_table .gcc_except_table.*) } } INSERT AFTER .text;
";

/// Files that every archive has beside the program.
const PAPERS: [&str; 4] = ["README.md", "CHANGELOG.md", "LICENSE-APACHE", "LICENSE-MIT"];

impl Target {
    /// Whether this machine's processor runs it.
    fn is_own(&self) -> bool {
        self.triple.starts_with(std::env::consts::ARCH)
    }

    /// What runs its program here; `None` where there is no emulator.
    fn command(&self, program: &Path) -> Option<Command> {
        if self.is_own() {
            return Some(Command::new(program));
        }
        environment::runs(self.emulator).then(|| {
            let mut emulator = Command::new(self.emulator);
            emulator.args(["-L", self.libraries]).arg(program);
            emulator
        })
    }
}

struct Dist {
    root: PathBuf,
    work: PathBuf,
    version: String,
    description: String,
    /// The folder of `cargo-zigbuild`.
    tools: PathBuf,
    /// What this machine's own build plans.
    expected: Vec<u8>,
    /// Manual pages and completion scripts, which that build wrote.
    texts: PathBuf,
    /// Where packages are installed, if that can be here.
    clean_root: Option<CleanRoot>,
}

pub(crate) fn run(names: &[&str]) -> anyhow::Result<()> {
    let known = |name: &str| TARGETS.iter().any(|target| target.triple == name);
    if let Some(name) = names.iter().find(|name| !known(name)) {
        let known: Vec<&str> = TARGETS.iter().map(|target| target.triple).collect();
        bail!("`{name}` is no target; known are {}", known.join(", "));
    }
    let dist = Dist::new()?;
    let mut made = Vec::new();
    let mut skipped = Vec::new();
    for target in TARGETS {
        let is_named = names.contains(&target.triple);
        if !names.is_empty() && !is_named {
            continue;
        }
        match dist.add(target) {
            Ok(()) => made.extend(dist.target(target)?),
            Err(error) if is_named => return Err(error),
            Err(error) => {
                println!("skip  {}: {error:#}", target.triple);
                skipped.push(target.triple);
            }
        }
    }
    ensure!(!made.is_empty(), "nothing was made");
    let mut sums = Command::new("sha256sum");
    let sums = sums.args(&made).current_dir(&dist.work).output()?;
    ensure!(sums.status.success(), "sha256sum fails");
    fs::write(dist.work.join("SHA256SUMS"), sums.stdout)?;
    script::write(&dist.root, &dist.work, &dist.version)?;
    let own = |target: &&Target| target.is_own();
    // The script takes the one with glibc.
    let mut taken = TARGETS
        .iter()
        .filter(own)
        .filter(|target| target.glibc.is_some());
    if taken.any(|target| names.is_empty() || names.contains(&target.triple)) {
        script::try_out(&dist.work, &dist.tools.join("python"))?;
    }
    println!(
        "ok    {} files, SHA256SUMS and install.sh in {}",
        made.len(),
        dist.work.display()
    );
    if !skipped.is_empty() {
        println!("no release: without {}", skipped.join(", "));
    }
    Ok(())
}

impl Dist {
    /// The tools, and what this machine's own build says.
    fn new() -> anyhow::Result<Dist> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("..")
            .canonicalize()?;
        let work = root.join("target/dist");
        fs::create_dir_all(&work)?;
        let requirements = root.join("xtask/dist/requirements.txt");
        let python = environment::python(&work, "python", &[&requirements])?;
        let tools = python.parent().context("no folder")?.to_owned();
        run_in(
            &root,
            Command::new("cargo").args(["build", "--quiet", "--locked"]),
        )?;
        let own = root.join("target/debug/orinplan");
        let expected = output_of(&root, Command::new(&own).args(PLANNED))?;
        let words = ["metadata", "--no-deps", "--format-version", "1"];
        let manifest = output_of(&root, Command::new("cargo").args(words))?;
        let manifest: Value = serde_json::from_slice(&manifest)?;
        let packages = manifest["packages"].as_array().context("no packages")?;
        let package = packages
            .iter()
            .find(|package| package["name"] == "orinplan");
        let of_package = |key: &str| -> anyhow::Result<String> {
            let value = package.and_then(|package| package[key].as_str());
            Ok(value.with_context(|| format!("no {key}"))?.to_owned())
        };
        let texts = work.join("texts");
        fs::create_dir_all(texts.join("man"))?;
        run_in(&texts, Command::new(&own).args(["man", "--output", "man"]))?;
        for (shell, file) in SHELLS {
            let script = output_of(&texts, Command::new(&own).args(["completions", shell]))?;
            fs::write(texts.join(file), script)?;
        }
        let clean_root = CleanRoot::new(&work)?;
        Ok(Dist {
            clean_root,
            root,
            work,
            version: of_package("version")?,
            description: of_package("description")?,
            tools,
            expected,
            texts,
        })
    }

    /// Builds, tries and packs one target; the names of its files.
    fn target(&self, target: &Target) -> anyhow::Result<Vec<String>> {
        let program = self.build(target)?;
        let bytes = fs::read(&program)?;
        ensure!(
            bytes.len() < LARGEST,
            "{}: {} bytes, and {LARGEST} are the most",
            target.triple,
            bytes.len()
        );
        let newest = newest_glibc(&bytes);
        ensure!(
            newest <= target.glibc,
            "{}: needs glibc {newest:?}",
            target.triple
        );
        let tried = self.try_out(target, &program)?;
        println!(
            "ok    {}: {:.1} MB, {}, {tried}",
            target.triple,
            bytes.len() as f64 / 1e6,
            newest.map_or("static".to_owned(), |[major, minor]| {
                format!("glibc {major}.{minor}")
            }),
        );
        let mut made = vec![self.archive(target, &program)?];
        if let Some(architecture) = target.debian {
            let package = self.package(architecture, &program)?;
            if let Some(clean) = &self.clean_root {
                let path = self.work.join(&package);
                let tried = clean.try_out(&path, target, &self.root, &self.expected);
                tried.with_context(|| package.clone())?;
                println!("ok    {package}: installed, planned with and removed");
            }
            made.push(package);
        }
        Ok(made)
    }

    /// Rust's standard library for the target.
    ///
    /// # Errors
    /// rustup's, where there is none here and none can be fetched.
    fn add(&self, target: &Target) -> anyhow::Result<()> {
        let mut rustup = Command::new("rustup");
        output_of(&self.root, rustup.args(["target", "add", target.triple]))
            .context("its standard library cannot be installed")?;
        Ok(())
    }

    /// A program that compiles this package, not its dependencies, as [`INLINING`] says. It has the dependencies' code once
    /// more when it is linked, so that the rule is theirs too.
    fn small_compiler(&self, target: &Target) -> anyhow::Result<PathBuf> {
        let mut lines = format!("set -- \"$@\" {INLINING}\n");
        // A program that the system links reads tables of its own libraries.
        if target.glibc.is_none() {
            let script = self.work.join("without-tables.ld");
            fs::write(&script, WITHOUT_TABLES)?;
            let script = script.display();
            lines += &format!(
                "case \"$*\" in *'--crate-type bin'*panic=abort*)\n\
                 set -- \"$@\" -Clink-arg=-Wl,--no-eh-frame-hdr -Clink-arg=-Wl,-T,'{script}' ;;\n\
                 esac\n"
            );
        }
        let script = self.work.join(format!("rustc-small-{}", target.triple));
        fs::write(&script, format!("#!/bin/sh\n{lines}exec \"$@\"\n"))?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
        Ok(script)
    }

    fn build(&self, target: &Target) -> anyhow::Result<PathBuf> {
        let triple = target.triple;
        let linked = match target.glibc {
            Some([major, minor]) => format!("{triple}.{major}.{minor}"),
            None => triple.to_owned(),
        };
        let build = self.work.join("build");
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::iter::once(self.tools.clone()).chain(std::env::split_paths(&path));
        let mut command = Command::new(self.tools.join("cargo-zigbuild"));
        command
            .args([
                "zigbuild",
                "--release",
                "--locked",
                "--package",
                "orinplan",
                "--bin",
                "orinplan",
            ])
            .args(["--target", &linked])
            .env("PATH", std::env::join_paths(folders)?)
            .env("CARGO_TARGET_DIR", &build)
            .env("RUSTC_WORKSPACE_WRAPPER", self.small_compiler(target)?)
            .env("CARGO_PROFILE_RELEASE_STRIP", "symbols")
            // Smaller by a quarter, and slower to build.
            .env("CARGO_PROFILE_RELEASE_LTO", "fat")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
            // A panic ends the program in either way: without the tables that unwinding needs.
            .env("CARGO_PROFILE_RELEASE_PANIC", "abort");
        // What is not hot is made small.
        for (package, level) in [("\"*\"", "\"s\"")]
            .into_iter()
            .chain(HOT.map(|package| (package, "3")))
        {
            let setting = format!("profile.release.package.{package}.opt-level={level}");
            command.args(["--config", &setting]);
        }
        run_in(&self.root, &mut command)?;
        Ok(build.join(triple).join("release/orinplan"))
    }

    /// Plans a fixture; it must say what this machine's own build says.
    fn try_out(&self, target: &Target, program: &Path) -> anyhow::Result<&'static str> {
        let Some(mut command) = target.command(program) else {
            return Ok("not tried: no emulator here");
        };
        let said = output_of(&self.root, command.args(PLANNED))?;
        ensure!(
            said == self.expected,
            "{}: plans another model than the build of this machine",
            target.triple
        );
        Ok(if target.is_own() {
            "plans a fixture"
        } else {
            "plans a fixture under emulation"
        })
    }

    fn archive(&self, target: &Target, program: &Path) -> anyhow::Result<String> {
        let name = format!("orinplan-{}-{}", self.version, target.triple);
        let folder = self.fresh(&name)?;
        install(program, &folder.join("orinplan"))?;
        for paper in PAPERS {
            fs::copy(self.root.join(paper), folder.join(paper))?;
        }
        copy_all(&self.texts.join("man"), &folder.join("man"))?;
        for (_, file) in SHELLS {
            let to = folder.join("completions").join(file);
            fs::create_dir_all(folder.join("completions"))?;
            fs::copy(self.texts.join(file), to)?;
        }
        let archive = format!("{name}.tar.gz");
        // The same bytes from the same files.
        let words = [
            "--sort=name",
            "--mtime=@0",
            "--owner=0",
            "--group=0",
            "--numeric-owner",
        ];
        let mut tar = Command::new("tar");
        tar.args(words)
            .args(["--use-compress-program=gzip -n", "-cf", &archive, &name]);
        run_in(&self.work, &mut tar)?;
        fs::remove_dir_all(folder)?;
        Ok(archive)
    }

    fn package(&self, architecture: &str, program: &Path) -> anyhow::Result<String> {
        let name = format!("orinplan_{}_{architecture}", self.version);
        let folder = self.fresh(&name)?;
        install(program, &folder.join("usr/bin/orinplan"))?;
        let pages = folder.join("usr/share/man/man1");
        copy_all(&self.texts.join("man"), &pages)?;
        let places = [
            "usr/share/bash-completion/completions",
            "usr/share/zsh/vendor-completions",
            "usr/share/fish/vendor_completions.d",
        ];
        for ((_, file), place) in SHELLS.iter().zip(places) {
            fs::create_dir_all(folder.join(place))?;
            fs::copy(self.texts.join(file), folder.join(place).join(file))?;
        }
        let papers = folder.join("usr/share/doc/orinplan");
        fs::create_dir_all(&papers)?;
        for paper in PAPERS {
            fs::copy(self.root.join(paper), papers.join(paper))?;
        }
        fs::create_dir_all(folder.join("DEBIAN"))?;
        let control = format!(
            "Package: orinplan\nVersion: {}\nArchitecture: {architecture}\nMaintainer: orinplan <orinplan@localhost>\n\
             Section: utils\nPriority: optional\nDepends: libc6 (>= 2.31)\nDescription: {}\n",
            self.version, self.description,
        );
        fs::write(folder.join("DEBIAN/control"), control)?;
        let package = format!("{name}.deb");
        let mut build = Command::new("dpkg-deb");
        build
            .args(["--root-owner-group", "--build", &name, &package])
            .env("SOURCE_DATE_EPOCH", "0");
        run_in(&self.work, &mut build)?;
        fs::remove_dir_all(folder)?;
        self.installs(&package, architecture)?;
        Ok(package)
    }

    /// Unpacks the package into an empty root: every file is where Debian has such files, and the program is there.
    fn installs(&self, package: &str, architecture: &str) -> anyhow::Result<()> {
        let root = self.fresh("root")?;
        let mut unpack = Command::new("dpkg-deb");
        run_in(&self.work, unpack.args(["--extract", package, "root"]))?;
        for file in [
            "usr/bin/orinplan",
            "usr/share/man/man1/orinplan-fit.1",
            "usr/share/bash-completion/completions/orinplan",
            "usr/share/doc/orinplan/LICENSE-MIT",
        ] {
            ensure!(root.join(file).is_file(), "{package} has no {file}");
        }
        fs::remove_dir_all(root)?;
        println!("ok    {package} for {architecture}");
        Ok(())
    }

    /// An empty folder below the working folder.
    fn fresh(&self, name: &str) -> anyhow::Result<PathBuf> {
        let folder = self.work.join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }
}

/// Bytes that a program must stay below.
const LARGEST: usize = 15_000_000;

/// The newest version of glibc among the symbols of a program, if it needs any.
fn newest_glibc(program: &[u8]) -> Option<[u32; 2]> {
    const MARK: &[u8] = b"GLIBC_";
    let starts = program.windows(MARK.len()).enumerate();
    let starts = starts
        .filter(|(_, window)| *window == MARK)
        .map(|(at, _)| at + MARK.len());
    let version = |at: usize| {
        let rest = &program[at..];
        let end = rest.iter().position(|byte| *byte == 0)?;
        let mut numbers = std::str::from_utf8(&rest[..end]).ok()?.split('.');
        Some([numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?])
    };
    starts.filter_map(version).max()
}

fn install(program: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to.parent().context("no folder")?)?;
    fs::copy(program, to).with_context(|| program.display().to_string())?;
    Ok(())
}

fn copy_all(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}

fn run_in(folder: &Path, command: &mut Command) -> anyhow::Result<()> {
    let status = command.current_dir(folder).status();
    let status = status.with_context(|| format!("{command:?}"))?;
    ensure!(status.success(), "{command:?} fails");
    Ok(())
}

/// Standard output, without the settings of the user.
fn output_of(folder: &Path, command: &mut Command) -> anyhow::Result<Vec<u8>> {
    let command = command
        .current_dir(folder)
        .env("XDG_CONFIG_HOME", "/nonexistent");
    let output = command.output();
    let output = output.with_context(|| format!("{command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_symbol_counts() {
        assert_eq!(newest_glibc(b"none"), None);
        let program = b"\0GLIBC_2.4\0x\0GLIBC_2.29\0GLIBC_2.17\0GLIBC_PRIVATE\0";
        assert_eq!(newest_glibc(program), Some([2, 29]));
        assert_eq!(newest_glibc(b"GLIBC_2.2.5\0"), Some([2, 2]));
        assert!(newest_glibc(program) <= JETPACK_5);
        assert!(newest_glibc(b"GLIBC_2.39\0") > JETPACK_5);
    }
}

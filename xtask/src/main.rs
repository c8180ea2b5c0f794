//! Development tasks. `cargo xtask fixtures` writes `fixtures/` anew; `cargo xtask fixtures --check`
//! fails if that would change anything; `cargo xtask bench` measures what planning and encoding
//! cost.

mod bench;
mod bench_encoders;
mod fixtures;
mod shapes;
mod speed;
mod tiny;

use anyhow::bail;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["fixtures"] => fixtures::write(),
        ["fit-speed"] => speed::run(),
        ["fixtures", "--check"] => fixtures::check(),
        ["bench", "encoders"] => bench_encoders::run(),
        ["bench", ref rest @ ..] => bench::run(rest),
        _ => bail!("usage: cargo xtask fixtures [--check] | bench [plan | encoders]"),
    }
}

//! Development tasks. `cargo xtask fixtures` writes `fixtures/` anew; `cargo xtask fixtures --check`
//! fails if that would change anything; `cargo xtask bench` measures what planning, encoding and
//! quantizing cost, how fast the decoder is, how far predictions are off and how calibration does on a busy machine; `cargo xtask interop` puts
//! written files before the programs that read them; `cargo xtask catalog` checks the catalogue of models; `cargo xtask cuda` checks the build for a GPU;
//! `cargo xtask dist` makes release archives and packages; `cargo xtask architectures` writes `docs/architectures.md`.

mod architectures;
mod bench;
mod bench_calibrate;
mod bench_decode;
mod bench_encoders;
mod bench_predict;
mod bench_quality;
mod bench_quantize;
mod bench_stream;
mod catalog;
mod cuda;
mod dist;
mod fixtures;
mod interop;
mod peer;
mod random;
mod shapes;
mod speed;
mod tiny;

use anyhow::bail;

const USAGE: &str = "usage: cargo xtask
    fixtures [--check]
    bench [plan | decode | encoders | quantize | stream | quality | predict | calibrate]
    interop [PART].. [--family NAME].. [--data DIR] [--full]
    catalog [refresh ID [PATH] [--write]]
    architectures [--check]
    cuda
    dist [TARGET]..
    fit-speed";

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["fixtures"] => fixtures::write(),
        ["fit-speed"] => speed::run(),
        ["fixtures", "--check"] => fixtures::check(),
        ["interop", ref rest @ ..] => interop::run(rest),
        ["catalog", ref rest @ ..] => catalog::run(rest),
        ["cuda"] => cuda::run(),
        ["dist", ref rest @ ..] => dist::run(rest),
        ["architectures"] => architectures::write(),
        ["architectures", "--check"] => architectures::check(),
        ["bench"] | ["bench", "plan"] => bench::plan(),
        ["bench", "decode", ref rest @ ..] => bench_decode::run(rest),
        ["bench", "encoders"] => bench_encoders::run(),
        ["bench", "quantize", ref rest @ ..] => bench_quantize::run(rest),
        ["bench", "stream", ref rest @ ..] => bench_stream::run(rest),
        ["bench", "quality", ref rest @ ..] => bench_quality::run(rest),
        ["bench", "predict", ref rest @ ..] => bench_predict::run(rest),
        ["bench", "calibrate", ref rest @ ..] => bench_calibrate::run(rest),
        _ => bail!("{USAGE}"),
    }
}

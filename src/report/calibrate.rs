//! `orinplan calibrate`: every measured number of this machine, those of its processors in `devices show host` too.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::table::{Align, Table};
use super::{learned, line, rounded};
use crate::device::Cpu;
use crate::foreign::Foreign;
use crate::report::screen::Screen;
use crate::runtime::learned::{Added, Learned, Pair, Run};
use crate::units::counted;
#[cfg(feature = "decode")]
use crate::validate::not_timed;

/// The document's first key.
pub const SCHEMA: &str = "orinplan.calibrate/1";

/// What llama-bench measured on the GPU.
#[derive(Debug, Default)]
pub struct GpuRuns {
    /// The board's name.
    pub device: String,
    /// The runs of synthetic models.
    pub runs: Vec<GpuRun>,
    /// Why there are no more of them, if some are missing.
    pub missing: Option<String>,
    /// The file that keeps them.
    pub path: PathBuf,
    /// Why they could not be kept, if so.
    pub not_kept: Option<String>,
    /// Whether that file has runs of earlier calibrations of this board in this mode, where none of these was added to it.
    pub has_older: bool,
    /// What the runs on record say of the runtime on this board in this power mode.
    pub learned: Option<Learned>,
    /// Ids of the runtimes whose plans they refine.
    pub refined: Vec<String>,
}

/// A run of a synthetic model.
#[derive(Debug)]
pub struct GpuRun {
    /// As it is kept.
    pub run: Run,
    /// Tokens of the prompt whose rate was measured; 0 for none.
    pub prompt: u64,
    /// Tokens in the cache before it decoded.
    pub depth: u64,
    /// Why a rate that was to be measured is not kept, for each such rate.
    pub rejected: Vec<String>,
    /// What was done with it; `None` where keeping the runs failed.
    pub added: Option<Added>,
}

/// What a run is called by its decode rate.
pub fn decode_words(depth: u64) -> String {
    match depth {
        0 => "decode".to_owned(),
        depth => format!("decode after {depth}"),
    }
}

/// What it is called by its prompt's rate.
pub fn prompt_words(tokens: u64) -> String {
    format!("a prompt of {tokens}")
}

impl GpuRuns {
    fn count(&self, added: Added) -> u64 {
        let same = self.runs.iter().filter(|one| one.added == Some(added));
        same.count() as u64
    }

    /// The runs that were not added to those on record, in words.
    fn left_out(&self) -> Vec<String> {
        let counts = [
            (Added::Outweighed, "outweighed by undisturbed ones"),
            (Added::Empty, "without a plausible rate"),
        ];
        let counts = counts.map(|(added, why)| (self.count(added), why));
        let some = counts.into_iter().filter(|(count, _)| *count > 0);
        some.map(|(count, why)| format!("{count} {why}")).collect()
    }

    /// Why no run was kept; `None` if one was.
    pub fn nothing_kept(&self) -> Option<String> {
        if let Some(why) = &self.not_kept {
            return Some(why.clone());
        }
        if self.count(Added::Kept) > 0 {
            return None;
        }
        let older = if self.has_older {
            format!(
                "; the runs of an earlier calibration stay in {}, which `orinplan calibrate --reset` removes",
                self.path.display()
            )
        } else {
            String::new()
        };
        Some(format!(
            "no run was kept: {}{older}",
            self.left_out().join(", ")
        ))
    }
}

/// The whole document: the processors and the GPU, each if it was to be measured, the GPU perhaps with why it was not.
pub fn document(cpu: Option<&Cpu>, gpu: Option<&Result<GpuRuns, String>>) -> Value {
    let gpu = gpu.map(|gpu| match gpu {
        Ok(gpu) => gpu_json(gpu),
        Err(why) => json!({ "measured": false, "not_measured": why }),
    });
    let mut document = json!({ "schema": SCHEMA, "gpu": gpu });
    let mut numbers = serde_json::to_value(cpu).unwrap_or_default();
    if let (Some(document), Some(numbers)) = (document.as_object_mut(), numbers.as_object_mut()) {
        numbers.remove("schema");
        document.append(numbers);
    }
    rounded(document)
}

fn gpu_json(gpu: &GpuRuns) -> Value {
    let pair = |pair: &Option<Pair>| {
        let pair = pair.as_ref()?;
        Some(json!({ "predicted": pair.predicted, "measured": pair.measured }))
    };
    let runs = gpu.runs.iter().map(|one| {
        let run = &one.run;
        json!({
            "model": run.model,
            "format": run.scheme,
            "prompt_tokens": one.prompt,
            "depth": one.depth,
            "decode_tokens_per_second": pair(&run.decode),
            "prefill_tokens_per_second": pair(&run.prefill),
            "disturbed": run.disturbed,
            "rejected": one.rejected,
            "kept": one.added == Some(Added::Kept),
        })
    });
    let place = gpu.runs.first().map(|one| &one.run);
    let nothing_kept = gpu.nothing_kept();
    // A file that cannot be written makes no run unmeasured.
    let measured = nothing_kept.is_none() || gpu.not_kept.is_some();
    let why = gpu.missing.iter().chain(nothing_kept.as_ref());
    let why = why.map(String::as_str).collect::<Vec<_>>().join("; ");
    json!({
        "measured": measured,
        "not_measured": Some(why).filter(|why| !why.is_empty()),
        "device": place.map(|run| &run.device),
        "power_mode": place.map(|run| &run.power_mode),
        "runtime": place.map(|run| &run.runtime),
        "engine": place.map(|run| &run.engine),
        "refined_runtimes": gpu.refined,
        "runs": runs.collect::<Vec<_>>(),
        "learned": gpu.learned.as_ref().map(learned::json),
    })
}

/// The report for a terminal: the processors with the file that keeps their numbers, and the GPU.
pub fn text(
    cpu: Option<(&Cpu, &Path)>,
    gpu: Option<&Result<GpuRuns, String>>,
    columns: Option<usize>,
) -> String {
    let mut out = String::new();
    if let Some((cpu, path)) = cpu {
        out.push_str(&figures(cpu, columns));
        line(
            &mut out,
            format_args!(
                "\nkept in {}; plans with --device host use it",
                path.display()
            ),
        );
    }
    if cpu.is_some() && gpu.is_some() {
        out.push('\n');
    }
    match gpu {
        Some(Ok(gpu)) => out.push_str(&gpu_text(gpu, columns)),
        Some(Err(why)) => {
            let mut said = Screen::new(columns);
            said.prose(&format!("The GPU was not measured: {}", Foreign(why)));
            out.push_str(&said.finish());
        }
        None => {}
    }
    out
}

/// The runs, predicted without what was learned and measured, and then what they say of each parameter.
fn gpu_text(gpu: &GpuRuns, columns: Option<usize>) -> String {
    let mut out = Screen::new(columns);
    let Some(place) = gpu.runs.first().map(|one| &one.run) else {
        return out.finish();
    };
    out.prose(&format!(
        "The GPU in {}, by {} of synthetic models with {}, on {}; predicted without runs on record",
        Foreign(&place.power_mode),
        counted(gpu.runs.len() as u64, "run", "runs"),
        Foreign(&place.engine),
        Foreign(&gpu.device),
    ));
    let mut table = Table::new([
        ("model", Align::Left),
        ("format", Align::Left),
        ("tokens/s of", Align::Left),
        ("predicted", Align::Right),
        ("measured", Align::Right),
    ]);
    for one in &gpu.runs {
        let run = &one.run;
        let rows = [
            (prompt_words(one.prompt), &run.prefill),
            (decode_words(one.depth), &run.decode),
        ];
        let rows = rows
            .into_iter()
            .filter_map(|(what, pair)| Some((what, (*pair)?)));
        for (what, pair) in rows {
            table.row([
                run.model.clone(),
                run.scheme.clone(),
                what,
                format!("{:.1}", pair.predicted),
                format!("{:.1}", pair.measured),
            ]);
        }
    }
    out.table(&table, "  ");
    for one in &gpu.runs {
        for why in &one.rejected {
            out.line(format_args!(
                "  {}: not measured: {}",
                one.run.model,
                Foreign(why)
            ));
        }
    }
    let mut disturbed: Vec<&str> = gpu
        .runs
        .iter()
        .flat_map(|one| &one.run.disturbed)
        .map(String::as_str)
        .collect();
    disturbed.sort_unstable();
    disturbed.dedup();
    if !disturbed.is_empty() {
        out.prose(&format!(
            "disturbed ({}): such runs count only while there are no others",
            disturbed.join(", ")
        ));
    }
    if let Some(why) = &gpu.missing {
        out.prose(&format!("the other runs are missing: {}", Foreign(why)));
    }
    if let Some(learned) = &gpu.learned {
        out.line(format_args!(
            "refined, as factors on times, +-: one standard deviation"
        ));
        for phrase in learned.phrases(None) {
            out.line(format_args!("  {phrase}"));
        }
    }
    if let Some(why) = &gpu.not_kept {
        out.prose(&format!("not kept: {}", Foreign(why)));
    } else if let Some(why) = gpu.nothing_kept() {
        out.prose(&format!("The GPU was not measured: {}", Foreign(&why)));
    } else {
        let kept = counted(gpu.count(Added::Kept), "run", "runs");
        let mut counts = vec![format!("{kept} kept")];
        counts.extend(gpu.left_out());
        out.prose(&format!(
            "{} ({}); plans for {} on this board in {} use them, and in other modes less surely",
            counts.join(", "),
            Foreign(&gpu.path.display().to_string()),
            gpu.refined.join(" and "),
            Foreign(&place.power_mode),
        ));
    }
    out.finish()
}

/// A standard deviation of a logarithm, in percent.
fn percent(deviation: f64) -> String {
    format!("{:.0} %", deviation.exp_m1() * 100.0)
}

/// The numbers, and what they were measured with.
pub fn figures(cpu: &Cpu, columns: Option<usize>) -> String {
    let mut out = Screen::new(columns);
    out.prose(&format!(
        "Measured on {} by orinplan {} ({}) with {} in {:.0} s, on {}",
        cpu.date,
        cpu.version,
        cpu.runtime,
        counted(cpu.threads, "thread", "threads"),
        cpu.seconds,
        cpu.processor
    ));
    let mut table = Table::new([
        ("format", Align::Left),
        ("decode, GB/s", Align::Right),
        ("+-", Align::Right),
        ("prefill, G multiply-adds/s", Align::Right),
        ("+-", Align::Right),
    ]);
    for (name, rate) in &cpu.formats {
        table.row([
            name.clone(),
            format!("{:.1}", rate.decode_bytes_per_second / 1e9),
            percent(rate.decode_uncertainty),
            format!("{:.1}", rate.prefill_macs_per_second / 1e9),
            percent(rate.prefill_uncertainty),
        ]);
    }
    out.table(&table, "  ");
    let sure = &cpu.uncertainty;
    let facts = [
        format!(
            "memory, all threads: {:.1} GB/s",
            cpu.bandwidth_bytes_per_second / 1e9
        ),
        format!(
            "cached keys and values: {:.1} GB/s +- {}",
            cpu.cache_bytes_per_second / 1e9,
            percent(sure.cache)
        ),
        format!(
            "attention of a prompt: {:.1} G multiply-adds/s +- {}",
            cpu.attention_macs_per_second / 1e9,
            percent(sure.attention)
        ),
        format!(
            "a layer: {:.1} us +- {}",
            cpu.layer_seconds * 1e6,
            percent(sure.layer)
        ),
        format!(
            "an output row: {:.2} ns +- {}",
            cpu.row_seconds * 1e9,
            percent(sure.row)
        ),
        format!(
            "an activation of a product: {:.2} ns +- {}",
            cpu.column_seconds * 1e9,
            percent(sure.column)
        ),
        format!(
            "a token: {:.1} us +- {}",
            cpu.token_seconds * 1e6,
            percent(sure.token)
        ),
        format!(
            "an output row of a prompt's token: {:.2} ns +- {}",
            cpu.prompt_row_seconds * 1e9,
            percent(sure.prompt_row)
        ),
        format!(
            "load noise, a short run against the mean: {} in decode, {} in prefill",
            percent(sure.decode_load_noise),
            percent(sure.prefill_load_noise)
        ),
    ];
    for fact in facts {
        out.line(format_args!("  {fact}"));
    }
    caveats(&mut out, cpu);
    out.finish()
}

/// A cost with this uncertainty, a factor of two, is not measured but expected of such a machine.
const EXPECTED: f64 = std::f64::consts::LN_2;

/// What there was no time to measure.
fn caveats(out: &mut Screen, cpu: &Cpu) {
    let longer = format!(
        "`orinplan calibrate --seconds {:.0}` measures longer",
        cpu.seconds.clamp(1.0, 3600.0)
    );
    let missing = not_timed(cpu);
    if !missing.is_empty() {
        out.prose(&format!(
            "not timed, so plans have no rate for them: {}; {longer}",
            missing.join(", ")
        ));
    }
    let sure = &cpu.uncertainty;
    let shared = [
        sure.layer,
        sure.row,
        sure.column,
        sure.token,
        sure.prompt_row,
        sure.cache,
        sure.attention,
    ];
    let rates = cpu.formats.values();
    let rates = rates.flat_map(|rate| [rate.decode_uncertainty, rate.prefill_uncertainty]);
    if rates.chain(shared).any(|deviation| deviation > EXPECTED) {
        out.prose(&format!(
                "numbers with +- {} or more are estimates: there was too little time to measure them, so predicted ranges are wide; {longer}",
                percent(EXPECTED)
            ));
    }
}

/// Which formats the decoder would have timed is not known without it.
#[cfg(not(feature = "decode"))]
fn not_timed(_: &Cpu) -> Vec<&'static str> {
    Vec::new()
}

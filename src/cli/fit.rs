//! `orinplan fit`: open, describe, plan, report.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::args::{BoardArgs, FitArgs, Format, ModelArgs, WorkloadArgs};
use super::{Outcome, output, print, settings, show};
use crate::checkpoint::{self, Checkpoint, SourceFormat};
use crate::convert::ConvertError;
use crate::device::{self, Choice, DeviceProfile, PowerMode, Session};
use crate::foreign::{self, Foreign};
use crate::gguf::{self, Value};
use crate::input;
use crate::model::{self, ModelSpec, Unknown, accept};
use crate::plan::advise::advise;
use crate::plan::candidates::{Header, Wanted, candidates, smaller_candidates};
use crate::plan::fit::Target;
use crate::plan::{Fit, Plan, Workload, fit};
use crate::quantize::{self, Readiness};
use crate::report;
use crate::report::fit::{Given, Report, Start};
use crate::runtime::{self, RuntimeProfile, Version};
use crate::scheme::{Container, SCHEMES, Scheme};
use crate::units::{Bytes, counted};

pub(super) fn run(args: &FitArgs) -> anyhow::Result<Outcome> {
    if args.explain && args.format == Format::Json {
        bail!(
            "--explain is for people: use it with --format text or markdown; JSON has every number"
        );
    }
    let saved = args.check.as_deref().map(read_saved).transpose()?;
    let (checkpoint, model) = open(&args.model)?;
    let inputs = output::inputs(&checkpoint, args.check.clone());
    let outputs: Vec<&Path> = [&args.save, &args.output]
        .into_iter()
        .filter_map(Option::as_deref)
        .collect();
    output::check_all(&outputs, &inputs)?;
    let board = Board::open(&args.board)?;
    let target = board.target(args.workload.l4t);
    let workload = workload(&args.workload, &model, &board.runtime)?;
    let wanted = wanted(&args.workload.scheme);
    // The file type is one number whatever it is: neither a size nor a refusal depends on it.
    let metadata = quantize::metadata(&checkpoint, &model, 0);
    let header = header(&checkpoint, &model, &board.runtime, &metadata)?;
    let candidates = candidates(
        &checkpoint,
        &model,
        &board.runtime,
        &wanted,
        args.workload.rules,
        &header,
    )?;
    if candidates.is_empty() {
        bail!(
            "{} loads no format that {} can have; try another --runtime",
            board.runtime.name,
            model.name
        );
    }
    let fit = fit::fit(&model, candidates, target, &workload);
    // Where nothing that was asked for fits, advice may name what was not, and other boards.
    let (others, boards) = match fit.recommended() {
        Some(_) => (Fit::default(), Vec::new()),
        None => {
            let others = smaller_candidates(
                &checkpoint,
                &model,
                &board.runtime,
                args.workload.rules,
                &header,
            );
            let others = fit::fit(&model, others, target, &workload);
            (others, device::list()?)
        }
    };
    let advice = advise(&model, &fit, &others, &boards, target, &workload);
    let recommended = fit.recommended();
    let start = Start {
        readiness: recommended.map_or(Readiness::Ready { requantizes: false }, |plan| {
            let made = to_be_made(plan, &board.runtime);
            quantize::readiness(&checkpoint, &model, made, args.workload.rules, metadata)
        }),
        rules: args.workload.rules,
        version: board.version,
        given: Given {
            power_mode: args.board.power_mode.is_some(),
            kv_type_of_each: args
                .workload
                .kv_type_k
                .or(args.workload.kv_type_v)
                .is_some(),
        },
    };
    let report = Report {
        checkpoint: &checkpoint,
        model: &model,
        target,
        choice: board.choice,
        workload: &workload,
        fit: &fit,
        advice: &advice,
        start: &start,
    };

    let document = report::fit::document(&report);
    inputs.check()?;
    if let Some(path) = &args.save {
        output::write_file(path, &report::json(&document))?;
    }
    if let Some((path, saved)) = saved {
        let differences = report::fit::differences(&saved, &document);
        return check(&path, &differences);
    }
    let mut text = match args.format {
        Format::Text => foreign::lines(&report::fit::text(&report)),
        Format::Json => report::json(&document),
        Format::Markdown => foreign::lines(&report::fit::markdown(&report)),
    };
    if args.explain {
        let shown = fit.recommended().or_else(|| fit.plans.first());
        let explained = shown.map(|plan| report::fit::explain(&report, plan));
        let explained = foreign::lines(&explained.unwrap_or_default());
        text.push_str(&match args.format {
            Format::Markdown => format!(
                "\n{}\n",
                foreign::fenced("text", explained.trim_matches('\n'))
            ),
            _ => explained,
        });
    }
    match &args.output {
        Some(path) => output::write_file(path, &text)?,
        None if args.format == Format::Text && super::wants_colour() => {
            print(&report::fit::painted(&text))?;
        }
        None => print(&text)?,
    }
    Ok(if fit.plans.iter().any(Plan::fits) {
        Outcome::Yes
    } else {
        Outcome::No
    })
}

/// The scheme of the file that a plan needs made by `quantize`: none where it is there, or where the
/// runtime brings its own converter or loads the checkpoint as it is.
fn to_be_made(plan: &Plan, runtime: &RuntimeProfile) -> Option<&'static Scheme> {
    let loads = &runtime.loads;
    let is_made = !plan.assignment.is_stored() && !loads.own_converter;
    let named = |scheme: &&Scheme| scheme.id == plan.assignment.scheme;
    let scheme = SCHEMES.iter().find(named).filter(|_| is_made)?;
    let is_loaded = match scheme.container {
        Container::Gguf => loads.files.iter().any(|file| file == "gguf"),
        Container::Safetensors => true,
    };
    is_loaded.then_some(scheme)
}

/// What a GGUF made from the checkpoint would have before its tensors.
///
/// # Errors
/// Where `runtime` loads a GGUF that `quantize` makes, and it would make none of the checkpoint because that is wrong.
pub(super) fn header(
    checkpoint: &Checkpoint,
    model: &ModelSpec,
    runtime: &RuntimeProfile,
    metadata: &Result<Vec<(String, Value)>, ConvertError>,
) -> anyhow::Result<Header> {
    let lacks_tokenizer =
        checkpoint.format == SourceFormat::Safetensors && !checkpoint.has_tokenizer();
    let is_made = runtime.loads.files.iter().any(|file| file == "gguf")
        && checkpoint.format == SourceFormat::Safetensors
        && model.assumed.is_none();
    Ok(match metadata {
        Ok(metadata) => {
            if is_made {
                quantize::check(checkpoint, model, metadata)?;
            }
            Header {
                metadata_bytes: gguf::metadata_bytes(metadata).0,
                incomplete: None,
                lacks_tokenizer,
            }
        }
        Err(error) if is_made && error.blames_checkpoint() => bail!("{error}"),
        Err(error) => {
            // Reports name no directory: the same model gives the same report wherever it lies.
            let directory = checkpoint.directory.as_deref().unwrap_or(Path::new(""));
            let said = error.to_string();
            let bare = said
                .strip_prefix(&directory.display().to_string())
                .unwrap_or(&said);
            let why = bare.trim_start_matches(['/', ':', ' ']).to_owned();
            Header {
                metadata_bytes: 0,
                incomplete: Some(why),
                lacks_tokenizer,
            }
        }
    })
}

/// Opens a checkpoint and describes its model.
pub(super) fn open(args: &ModelArgs) -> anyhow::Result<(Checkpoint, ModelSpec)> {
    let unknown = match &args.assume_kv {
        None => Unknown::Refuse,
        Some(name) => Unknown::Assume(model::known_architecture(name)?),
    };
    let checkpoint = checkpoint::open(&args.model)?;
    let model = model::read(&checkpoint, unknown).with_context(|| args.model.clone())?;
    accept::checkpoint(&checkpoint, &model).with_context(|| args.model.clone())?;
    Ok((checkpoint, model))
}

/// What `--device` names or, without it, stands for; this machine with its calibration, if it has one.
pub(super) fn open_device(device: Option<&str>) -> anyhow::Result<(DeviceProfile, Choice)> {
    let (found, choice) = device::choose(device, &super::machine_root())?;
    let is_here = choice == Choice::ThisMachine;
    let calibration = is_here.then(settings::calibration).flatten();
    let found = match calibration {
        Some(cpu) => found.calibrated(cpu),
        None => found,
    };
    Ok((found, choice))
}

/// Where a model runs.
pub(super) struct Board {
    pub(super) device: DeviceProfile,
    pub(super) choice: Choice,
    pub(super) mode: PowerMode,
    pub(super) runtime: RuntimeProfile,
    /// The runtime's version, where it is not today's.
    pub(super) version: Option<Version>,
}

impl Board {
    pub(super) fn open(args: &BoardArgs) -> anyhow::Result<Board> {
        let (mut device, choice) = open_device(args.device.as_deref())?;
        let mut mode = match &args.power_mode {
            Some(name) => device.mode(name)?.clone(),
            None => device.default_mode.clone(),
        };
        let id = match &args.runtime {
            Some(id) => id,
            None if device.gpu.is_none() => "llama.cpp-cpu",
            None => "llama.cpp",
        };
        let runtime = runtime::find(id)?;
        if let Some(version) = args
            .runtime_version
            .filter(|_| !runtime.lines.depend_on_version())
        {
            bail!(
                "--runtime-version {version}: {} is started in one way, whatever its version",
                runtime.name
            );
        }
        let learned = settings::runs().learned(&runtime.id, &device.id, &mode.name);
        let runtime = runtime.refined(learned);
        for change in &args.what_if {
            change.apply(&mut device, &mut mode);
        }
        if !args.what_if.is_empty() {
            let changes: Vec<String> = args.what_if.iter().map(|change| change.text()).collect();
            mode.name = format!("{} with {}", mode.name, changes.join(" and "));
        }
        Ok(Board {
            device,
            choice,
            mode,
            runtime,
            version: args.runtime_version,
        })
    }

    /// What to plan against; without a release that of the machine at hand holds.
    pub(super) fn target(&self, release: Option<device::L4tRelease>) -> Target<'_> {
        Target {
            device: &self.device,
            mode: &self.mode,
            release: release.or(self.device.release()),
            runtime: &self.runtime,
        }
    }
}

/// The schemes that `--scheme` names.
pub(super) fn wanted(ids: &[String]) -> Wanted {
    match ids {
        [] => Wanted::Common,
        ids if ids.iter().any(|id| id.eq_ignore_ascii_case("all")) => Wanted::All,
        ids => {
            let mut named: Vec<String> = Vec::new();
            for id in ids {
                if !named.iter().any(|known| known.eq_ignore_ascii_case(id)) {
                    named.push(id.clone());
                }
            }
            Wanted::Named(named)
        }
    }
}

/// The workload that the flags describe; the context defaults to 4096 or the model's limit, and the prompt to
/// 512 tokens or that context.
fn workload(
    args: &WorkloadArgs,
    model: &ModelSpec,
    runtime: &RuntimeProfile,
) -> anyhow::Result<Workload> {
    let limit = match model.dims.context {
        0 => u64::MAX,
        limit => limit,
    };
    let context = args.context.unwrap_or(4096.min(limit));
    let prompt_tokens = args.prompt_tokens.unwrap_or(512.min(context));
    if prompt_tokens > context {
        bail!(
            "--prompt-tokens {prompt_tokens} are more than the {context} tokens of context: raise --context, or lower --prompt-tokens"
        );
    }
    let workload = Workload {
        context,
        type_k: args.kv_type_k.unwrap_or(args.kv_type),
        type_v: args.kv_type_v.unwrap_or(args.kv_type),
        parallel: args.parallel,
        ubatch: args.ubatch,
        prompt_tokens,
        outputs: args.outputs,
        flash_attention: !args.no_flash_attention,
        session: if args.desktop {
            Session::Desktop
        } else {
            Session::Headless
        },
        reserve: args.reserve.unwrap_or(Bytes(0)),
        budget: args.budget,
        text_only: args.text_only,
    };
    for dtype in [workload.type_k, workload.type_v] {
        let known = &runtime.loads.kv_types;
        if !known
            .iter()
            .any(|name| name.eq_ignore_ascii_case(dtype.name()))
        {
            let name = dtype.name().to_lowercase();
            bail!(
                "{} has no {name} KV cache; it has {}",
                runtime.name,
                known.join(", ")
            );
        }
    }
    Ok(workload)
}

/// A saved prediction has some kB a scheme.
const SAVED_LIMIT: Bytes = Bytes(16 << 20);

fn read_saved(path: &Path) -> anyhow::Result<(PathBuf, serde_json::Value)> {
    let shown = path.display();
    let text = input::read_text(path, SAVED_LIMIT).context("cannot read the saved prediction")?;
    let document: serde_json::Value = serde_json::from_str(&text).with_context(|| {
        format!("{shown} is not JSON; a saved prediction is what `orinplan fit MODEL --save FILE` writes")
    })?;
    let schema = document.get("schema").and_then(|schema| schema.as_str());
    if schema != Some(report::fit::SCHEMA) {
        bail!(
            "{shown} is not a saved prediction: its schema is {}, not {}",
            schema.unwrap_or("missing"),
            report::fit::SCHEMA
        );
    }
    Ok((path.to_owned(), document))
}

fn check(path: &Path, differences: &[String]) -> anyhow::Result<Outcome> {
    let shown = path.display();
    if differences.is_empty() {
        show(&format!("the prediction equals {shown}\n"))?;
        return Ok(Outcome::Yes);
    }
    let places = counted(differences.len(), "place", "places");
    let lines = differences.iter();
    let lines: Vec<String> = lines.map(|line| Foreign(line).to_string()).collect();
    show(&format!(
        "the prediction differs from {shown} in {places}:\n  {}\n",
        lines.join("\n  ")
    ))?;
    Ok(Outcome::No)
}

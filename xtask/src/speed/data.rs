//! The measurements with their models resolved: what each row did, operation by operation.

use anyhow::{Context, ensure};
use orinplan::checkpoint::{Checkpoint, RawConfig, SourceFormat};
use orinplan::device::{self, DeviceProfile};
use orinplan::dtype::Dtype;
use orinplan::evidence::{MEASUREMENTS, MODELS, Measurement, parse};
use orinplan::model::{self, DecodeAccess, ModelSpec, Unknown};
use orinplan::plan::Workload;
use orinplan::plan::fit::gpu;
use orinplan::plan::operations::{decode_operations, prompt_work};
use orinplan::plan::speed::{ClockedGpu, Operation, PromptWork};
use orinplan::planner::assigned;
use orinplan::runtime;
use orinplan::scheme::{self, Assignment, Overrides, Rules, Scheme, TypeOverride};
use serde_json::Value;

/// Where a source does not say how long its answers were: between a short prompt's and a long one's.
const USUAL_DEPTH: u64 = 256;

/// A row and what its runtime had to do.
pub(crate) struct Observation {
    pub(crate) row: Measurement,
    #[cfg(test)]
    pub(crate) assignment: Assignment,
    pub(crate) gpu: ClockedGpu,
    pub(crate) layers: u64,
    /// Of a decode step at the row's depth.
    pub(crate) operations: Vec<Operation>,
    /// The prompt, where its length is known.
    pub(crate) prompt: Option<PromptWork>,
}

/// Every row of the built-in table.
pub(crate) fn observations() -> anyhow::Result<Vec<Observation>> {
    let models: Value = serde_json::from_str(MODELS).context("profiles/models.json")?;
    let rows = parse(MEASUREMENTS).context("profiles/measurements.csv")?;
    let read = rows.into_iter().map(|row| {
        let id = row.id.clone();
        observe(&models, row).with_context(|| format!("measurement {id}"))
    });
    read.collect()
}

fn observe(models: &Value, row: Measurement) -> anyhow::Result<Observation> {
    let model = spec(models, &row.model)?;
    let assignment = assignment(&model, &row.format, &row.runtime)?;
    let board = board(&row.board)?;
    let mode = board.mode(&row.power_mode)?;
    let depth = row.depth.or(row.prompt_tokens).unwrap_or(USUAL_DEPTH);
    let workload = |prompt_tokens| Workload {
        prompt_tokens,
        cached_tokens: row.cached_tokens.unwrap_or(0),
        flash_attention: row.flash_attention(),
        ..Workload::default()
    };
    let prompt = row
        .prompt_tokens
        .map(|tokens| prompt_work(&model, &workload(tokens)));
    Ok(Observation {
        gpu: gpu(mode).context("the mode's clock or bandwidth is not known")?,
        layers: model.layers.len() as u64,
        operations: decode_operations(&model, &assignment, &workload(depth)),
        prompt,
        #[cfg(test)]
        assignment,
        row,
    })
}

pub(crate) fn board(id: &str) -> anyhow::Result<DeviceProfile> {
    Ok(device::open(id, std::path::Path::new("/"))?)
}

/// The model called `name` in `profiles/models.json`.
fn spec(models: &Value, name: &str) -> anyhow::Result<ModelSpec> {
    let config = models.get(name);
    let config = config.with_context(|| format!("profiles/models.json has no `{name}`"))?;
    let checkpoint = Checkpoint::of(
        name,
        SourceFormat::Config,
        RawConfig::HuggingFace(config.clone()),
    );
    model::read(&checkpoint, Unknown::Refuse).with_context(|| name.to_owned())
}

/// Before the name of a format: of a file that has it for every matrix, as `llama-quantize --pure` makes them.
const PURE: &str = "pure_";

/// INT4 whose attention, linear attention and shared experts stay in 16 bits, as the GPTQ checkpoints that Qwen publishes of
/// its 3.5 mixtures have it (`dynamic` of their `quantization_config`): only routed experts are packed.
const PACKED_EXPERTS: &str = "int4_experts";

/// The types of a scheme or, for a format that is no scheme, that format for every matrix. The models that were trained
/// for Q1_0 and Q2_0 are published with every matrix in them too, which llama-quantize's schemes of that name do not do.
fn assignment(model: &ModelSpec, format: &str, runtime: &str) -> anyhow::Result<Assignment> {
    if format == PACKED_EXPERTS {
        let mut assignment = self::assignment(model, "int4", runtime)?;
        for (tensor, assigned) in model.tensors.iter().zip(&mut assignment.tensors) {
            let is_routed = tensor.role.info().access == DecodeAccess::Experts;
            if assigned.dtype == Dtype::INT4 && !is_routed {
                assigned.dtype = Dtype::F16;
                assigned.bytes = Dtype::F16.bytes(&tensor.shape).context("no such row")?;
            }
        }
        return Ok(assignment);
    }
    let mixed = |scheme: &&Scheme| !matches!(scheme.base, Dtype::Q1_0 | Dtype::Q2_0);
    if let Some(scheme) = Scheme::get(format).filter(mixed) {
        return Ok(assigned(
            model,
            scheme,
            &runtime::find(runtime)?,
            Rules::default(),
        ));
    }
    let dtype = Dtype::from_name(format.strip_prefix(PURE).unwrap_or(format));
    let dtype = dtype.with_context(|| format!("`{format}` is neither a scheme nor a format"))?;
    ensure!(dtype.is_quantized(), "`{format}` is not quantized");
    let everywhere: TypeOverride = format!("weight={}", dtype.name()).parse()?;
    let overrides = Overrides {
        exact: Default::default(),
        tensors: vec![everywhere],
        token_embedding: Some(dtype),
        output: Some(dtype),
        pure: true,
        importance: false,
    };
    let base = Scheme::get("q8_0").context("Q8_0 is a scheme")?;
    Ok(scheme::assign_with(
        model,
        base,
        Rules::default(),
        &overrides,
    ))
}

//! Commands of runtimes with a converter of their own (MLC, TensorRT Edge-LLM), and of this program's own decoder.

use super::super::Report;
use super::{CommandBlock, names, unusual_ubatch};
use crate::foreign::shell_path;
use crate::plan::Plan;
use crate::scheme::Container;

/// Weights, configuration and library, then the server.
pub(super) fn mlc(report: &Report<'_>, plan: &Plan) -> Vec<CommandBlock> {
    let quantization = match plan.assignment.scheme.as_str() {
        "int4" => "q4f16_1",
        "bf16" => "q0bf16",
        _ => "q0f16",
    };
    let workload = report.workload;
    let from = names::directory_word(report);
    let to = shell_path(&format!("{}-{quantization}-MLC", names::base(report)));
    // Plain text where MLC has no template.
    let conversation = report.model.quirks.mlc_template.unwrap_or("LM");
    let context = workload.context / workload.parallel.max(1);
    let parallel = workload.parallel;
    let chunk = unusual_ubatch(report);
    let chunk = chunk.map_or(String::new(), |tokens| {
        format!(" --prefill-chunk-size {tokens}")
    });
    let make = vec![
        format!(
            "mlc_llm convert_weight {from} --quantization {quantization} --device cuda -o {to}"
        ),
        format!(
            "mlc_llm gen_config {from} --quantization {quantization} --conv-template {conversation} --context-window-size {context} --max-batch-size {parallel}{chunk} -o {to}"
        ),
        format!("mlc_llm compile {to}/mlc-chat-config.json --device cuda -o {to}/model.so"),
    ];
    let run = format!("mlc_llm serve {to} --model-lib {to}/model.so --device cuda");
    vec![
        CommandBlock::make("Make the files with MLC's converter", make),
        CommandBlock::run("Run it with MLC", vec![run]),
    ]
}

/// Export on a machine with an NVIDIA GPU and PyTorch, engine and inference on the board.
pub(super) fn tensorrt_edge_llm(report: &Report<'_>, plan: &Plan) -> Vec<CommandBlock> {
    const BUILT: &str = r#""${EDGE_LLM:-$HOME/TensorRT-Edge-LLM}"/build/examples"#;
    let workload = report.workload;
    let name = names::base(report);
    let given = names::directory_word(report);
    let is_int4 = plan.assignment.scheme == "int4";
    let wants_quantizing = is_int4 && !plan.assignment.is_stored();
    let quantized = shell_path(&format!("{name}-int4_awq"));
    let (onnx, engine) = (
        shell_path(&format!("{name}-onnx")),
        shell_path(&format!("{name}-engine")),
    );
    let from = if wants_quantizing { &quantized } else { &given };
    // Lowers the memory that building the engine takes on a small board.
    let outside = if report.checkpoint.tensors.is_empty() || !plan.assignment.is_quantized() {
        ""
    } else {
        " --externalize-weights int4_ffn"
    };
    let quantize = wants_quantizing.then(|| {
        format!(
            "tensorrt-edgellm-quantize llm --model_dir {given} --output_dir {quantized} --quantization int4_awq"
        )
    });
    let export = format!("tensorrt-edgellm-export {from} {onnx}{outside}");
    let context = workload.context / workload.parallel.max(1);
    let build = format!(
        "{BUILT}/llm/llm_build --onnxDir {onnx}/llm --engineDir {engine} --maxBatchSize {} --maxInputLen {} --maxKVCacheCapacity {context}",
        workload.parallel,
        workload.prompt_tokens.min(context),
    );
    let sees = !report.model.towers.is_empty() && !workload.text_only;
    let visual = sees.then(|| {
        format!(
            "{BUILT}/multimodal/visual_build --onnxDir {onnx}/visual --engineDir {engine}/visual"
        )
    });
    let with_visual = if sees {
        format!(" --multimodalEngineDir {engine}/visual")
    } else {
        String::new()
    };
    let run = format!(
        "{BUILT}/llm/llm_inference --engineDir {engine}{with_visual} --inputFile input.json --outputFile output.json"
    );
    vec![
        CommandBlock::make(
            "Export it on a machine with an NVIDIA GPU",
            quantize.into_iter().chain([export]).collect(),
        ),
        CommandBlock::make(
            "Build the engine on the board",
            [build].into_iter().chain(visual).collect(),
        ),
        CommandBlock::run(
            "Run it with TensorRT Edge-LLM, prompts in input.json",
            vec![run],
        ),
    ]
}

/// `validate`, which decodes one sequence, or makes vectors of texts, and measures its speed.
pub(super) fn candle(report: &Report<'_>, plan: &Plan) -> Vec<CommandBlock> {
    let workload = report.workload;
    let runs = plan.assignment.container == Container::Gguf
        && workload.parallel == 1
        && workload.type_k == workload.type_v;
    // `validate` takes an Ollama tag as it is.
    let model = names::gguf(report, plan);
    let model = model.unwrap_or_else(|| report.checkpoint.origin.text().to_owned());
    let line = match report.model.retrieval {
        Some(_) => format!(
            "orinplan validate {} --context {} --prompt-tokens {}",
            shell_path(&model),
            workload.context,
            workload.prompt_tokens,
        ),
        None => format!(
            "orinplan validate {} --context {} --kv-type {} --ubatch {}",
            shell_path(&model),
            workload.context,
            workload.type_k.name().to_lowercase(),
            workload.ubatch,
        ),
    };
    runs.then(|| CommandBlock::run("Run it with orinplan's own decoder", vec![line]))
        .into_iter()
        .collect()
}

//! The fixtures, and two ways to plan them: the command itself, and the library for many plans.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use orinplan::checkpoint::{Checkpoint, RawConfig, SourceFormat};
use orinplan::device::{self, Choice, DeviceProfile, PowerMode};
use orinplan::evidence::MODELS;
use orinplan::model::{self, ModelSpec, Unknown};
use orinplan::plan::advise::advise;
use orinplan::plan::fit::Target;
use orinplan::plan::operations::{decode_operations, prompt_attention, prompt_work};
use orinplan::plan::speed::{Operation, PromptWork};
use orinplan::plan::{Fit, Workload, fit};
use orinplan::planner::{
    BoardRequest, GgufHeader, GivenFlags, LaunchContext, Planner, Request, Schemes,
};
use orinplan::quantize::Readiness;
use orinplan::report;
use orinplan::report::fit::{Report, View, document};
use orinplan::runtime::RuntimeProfile;
use orinplan::scheme::{Rules, Scheme, assign};
use serde_json::Value as Json;

/// Every fixture by its name in `fixtures/`, sorted.
pub(crate) fn fixtures() -> Vec<String> {
    let entries = std::fs::read_dir(root().join("fixtures")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let is_model =
        |name: &String| name.ends_with(".gguf") || root().join("fixtures").join(name).is_dir();
    let mut names: Vec<String> = names.filter(is_model).collect();
    names.sort();
    assert!(names.len() >= 11, "{names:?}");
    names
}

/// The fixtures that are Hugging Face directories.
pub(crate) fn hugging_face_fixtures() -> Vec<String> {
    let mut names = fixtures();
    names.retain(|name| !name.ends_with(".gguf"));
    names
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn path(fixture: &str) -> PathBuf {
    root().join("fixtures").join(fixture)
}

/// Runs `orinplan fit` on a fixture with these further words.
pub(crate) fn run(fixture: &str, words: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_orinplan"))
        .current_dir(root())
        .env("ORINPLAN_ROOT", root().join("tests/recorded/x86-laptop"))
        .arg("fit")
        .arg(format!("fixtures/{fixture}"))
        .args(words.split_whitespace())
        .output()
        .unwrap()
}

/// The document that `orinplan fit` prints.
pub(crate) fn printed(fixture: &str, words: &str) -> Json {
    let output = run(fixture, &format!("{words} --format json"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.is_empty(), "{fixture} {words}: {said}");
    crate::schema::document(&String::from_utf8(output.stdout).unwrap())
}

/// A fixture that is read once and planned often.
pub(crate) struct Model {
    pub(crate) name: String,
    planner: Planner,
}

/// Reads a fixture.
pub(crate) fn open(fixture: &str) -> Model {
    Model {
        name: fixture.to_owned(),
        planner: Planner::open(path(fixture).to_str().unwrap()).unwrap(),
    }
}

/// The boards of the registry.
pub(crate) fn boards() -> Vec<DeviceProfile> {
    device::list().unwrap()
}

impl Model {
    /// 4096 tokens of context, or what the model was made for.
    pub(crate) fn workload(&self) -> Workload {
        Workload {
            context: 4096.min(self.planner.model().dims.context),
            ..Workload::default()
        }
    }

    /// What one token does behind `depth` others.
    pub(crate) fn operations(&self, scheme: &str, depth: u64) -> Vec<Operation> {
        let assignment = assign(
            self.planner.model(),
            Scheme::get(scheme).unwrap(),
            Rules::default(),
        );
        let workload = Workload {
            prompt_tokens: depth,
            ..Workload::default()
        };
        decode_operations(self.planner.model(), &assignment, &workload)
    }

    /// Bytes of the tokenizer of llama.cpp with so many merges, or of one that is not at hand.
    pub(crate) fn tokenizer_bytes(&self, merges: Option<u64>) -> u64 {
        let model = self.planner.model();
        let assignment = assign(model, Scheme::get("f16").unwrap(), Rules::default());
        let runtime = orinplan::runtime::find("llama.cpp").unwrap();
        let workload = Workload {
            merges,
            ..Workload::default()
        };
        let ledger = orinplan::plan::memory::ledger(model, &assignment, &runtime, &workload);
        ledger.runtime.tokenizer.0
    }

    /// Multiply-accumulates of attention over a prompt.
    pub(crate) fn prompt_attention(&self, tokens: u64) -> u64 {
        prompt_attention(self.planner.model(), tokens)
    }

    /// The work of reading a prompt of which the cache holds `cached_tokens`.
    pub(crate) fn prompt_work(&self, prompt_tokens: u64, cached_tokens: u64) -> PromptWork {
        let workload = Workload {
            prompt_tokens,
            cached_tokens,
            ..Workload::default()
        };
        self.prompt_work_of(&workload)
    }

    /// The work of reading the prompt of `workload`.
    pub(crate) fn prompt_work_of(&self, workload: &Workload) -> PromptWork {
        prompt_work(self.planner.model(), workload)
    }

    /// What a terminal shows of the plans for a runtime on the usual board; `None` where the runtime does not load it.
    pub(crate) fn text(&self, runtime: &str, view: View) -> Option<String> {
        let board = BoardRequest {
            device: Some("orin-nano-8gb".to_owned()),
            runtime: Some(runtime.to_owned()),
            ..BoardRequest::default()
        };
        let request = Request {
            board,
            ..Request::default()
        };
        let planned = self.planner.plan(&request).ok()?;
        let report = Report::new(&self.planner, &planned);
        Some(report::fit::text(&report, None, view))
    }

    /// The document for those of `schemes` that the runtime loads; `None` where it loads none.
    pub(crate) fn document(
        &self,
        device: &DeviceProfile,
        mode: &PowerMode,
        runtime: &RuntimeProfile,
        workload: &Workload,
        schemes: &[&str],
    ) -> Option<Json> {
        let target = Target {
            device,
            mode,
            release: None,
            clocks: None,
            runtime,
        };
        let (rules, header) = (Rules::default(), GgufHeader::default());
        let (checkpoint, spec) = (self.planner.checkpoint(), self.planner.model());
        let found = self
            .planner
            .candidates(runtime, &Schemes::All, rules, &header);
        let mut found = found.unwrap();
        found.retain(|candidate| schemes.contains(&candidate.assignment.scheme.as_str()));
        if found.is_empty() {
            return None;
        }
        let fit = fit(spec, found, target, workload);
        let advice = advise(spec, &fit, &Fit::default(), &boards(), target, workload);
        Some(document(&Report {
            checkpoint,
            model: spec,
            target,
            choice: Choice::Named,
            workload,
            fit: &fit,
            advice: &advice,
            launch: &LaunchContext {
                readiness: Readiness::Ready { requantizes: false },
                rules: Rules::default(),
                version: None,
                given: GivenFlags::default(),
                types: None,
            },
        }))
    }
}

/// A model of the table, as its `config.json` alone describes it.
pub(crate) fn described(name: &str) -> (Checkpoint, ModelSpec) {
    let models: Json = serde_json::from_str(MODELS).unwrap();
    let checkpoint = Checkpoint::of(
        name,
        SourceFormat::Config,
        RawConfig::HuggingFace(models[name].clone()),
    );
    let model = model::read(&checkpoint, Unknown::Refuse).unwrap();
    (checkpoint, model)
}

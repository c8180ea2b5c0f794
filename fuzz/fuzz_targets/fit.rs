//! Any bytes as the header of a GGUF file, or behind a first byte as a config.json, planned as `orinplan fit` plans
//! it: every report is made, or there is an error.
#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use orinplan::device::{self, Choice, DeviceProfile};
use orinplan::plan::advise::advise;
use orinplan::plan::fit::Target;
use orinplan::plan::{Workload, fit};
use orinplan::planner::{GgufHeader, GivenFlags, LaunchContext, Planner, Schemes};
use orinplan::quantize::Readiness;
use orinplan::report::{self, fit::Report};
use orinplan::runtime::{self, RuntimeProfile};
use orinplan::scheme::{Rules, SCHEMES};

/// A folder in memory, of this process alone.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let name = format!("orinplan-fuzz-{}", std::process::id());
    let folder = ["/dev/shm", "/tmp"].map(PathBuf::from);
    let folder = folder.into_iter().find(|folder| folder.is_dir());
    let folder = folder.expect("a folder in memory").join(name);
    fs::create_dir_all(&folder).expect("room for a folder");
    folder
});

static BOARD: LazyLock<(DeviceProfile, RuntimeProfile)> = LazyLock::new(|| {
    let device = device::open("orin-nano-8gb", &FOLDER).expect("a board of ours");
    (
        device,
        runtime::find("llama.cpp").expect("a runtime of ours"),
    )
});

fuzz_target!(|bytes: &[u8]| {
    let (name, content) = match bytes.strip_prefix(b"C") {
        Some(config) => ("config.json", config),
        None => ("model.header.gguf", bytes),
    };
    let path = FOLDER.join(name);
    fs::write(&path, content).expect("room for a small file");
    reports(path.to_str().expect("a plain name"), bytes.len());
});

/// All schemes for some inputs, for most but one: to plan every scheme takes most of a run's time.
fn schemes(bytes: usize) -> Schemes {
    match SCHEMES.get(bytes % (SCHEMES.len() + 1)) {
        Some(scheme) => Schemes::Named(vec![scheme.id.to_owned()]),
        None => Schemes::All,
    }
}

fn reports(path: &str, bytes: usize) -> Option<()> {
    let planner = Planner::open(path).ok()?;
    let (checkpoint, model) = (planner.checkpoint(), planner.model());
    let (device, runtime) = &*BOARD;
    let target = Target {
        device,
        mode: &device.default_mode,
        release: None,
        clocks: None,
        runtime,
    };
    let workload = Workload::default();
    let rules = Rules::default();
    let header = GgufHeader::of(checkpoint, model, runtime).ok()?;
    header.check(checkpoint, model).ok()?;
    let candidates = planner.candidates(runtime, &schemes(bytes), rules, &header);
    let fit = fit(model, candidates.ok()?, target, &workload);
    let advice = advise(model, &fit, &fit, &[], target, &workload);
    let launch = LaunchContext {
        readiness: Readiness::Ready { requantizes: false },
        rules,
        version: None,
        given: GivenFlags::default(),
        types: None,
    };
    let report = Report {
        checkpoint,
        model,
        target,
        choice: Choice::Named,
        workload: &workload,
        fit: &fit,
        advice: &advice,
        launch: &launch,
    };
    let document = report::fit::document(&report);
    let again = serde_json::from_str(&report::json(&document)).expect("valid JSON");
    assert!(report::fit::differences(&again, &document).is_empty());
    let view = report::fit::View {
        columns: None,
        formats: true,
        all: true,
        explain: true,
    };
    report::fit::text(&report, None, view);
    report::fit::markdown(&report);
    if let Some(plan) = fit.plans.first() {
        report::fit::explain(&report, plan, None);
    }
    report::inspect::text(checkpoint, model, None, None, None);
    report::json(&report::inspect::document(checkpoint, model, None, None));
    Some(())
}

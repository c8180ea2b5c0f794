//! Any text as a calibration or as the runs on record: one that is written and read back the same and
//! can be learned from, or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use orinplan::device::Cpu;
use orinplan::runtime::{self, Runs};

fuzz_target!(|text: &str| {
    if let Ok(cpu) = Cpu::parse(text, "calibration.toml") {
        let again = Cpu::parse(&cpu.text(), "calibration.toml").expect("what we write");
        assert_eq!(again, cpu);
    }
    if let Ok((runs, _)) = Runs::parse(text, "runs.toml") {
        let again = Runs::parse(&runs.text(), "runs.toml").expect("what we write");
        assert_eq!(again, (runs.clone(), Vec::new()));
        let runtime = runtime::find("llama.cpp").expect("a runtime of ours");
        for device in ["orin-nano-8gb", "host"] {
            runs.of_device(device);
            let learned = runs.learned(&runtime, device, "25W");
            if let Some(correction) = learned.as_ref().and_then(|learned| learned.decode.as_ref()) {
                correction.decoding(&runtime.speed, "model");
            }
            let _ = runtime.clone().refined(learned);
        }
    }
});

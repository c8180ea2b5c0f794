//! Devices as JSON documents. The keys are a contract.

use serde_json::{Value, json};

use crate::device::{
    DEFAULT_BOARD, DetectedDevice, DeviceProfile, Estimate, Gpu, MemoryNow, Pitfall, PowerMode,
    Quantity, Session,
};
use crate::report;
use crate::runtime::Runs;
use crate::runtime::learned::LearnedThere;
use crate::sourced::Sourced;
use crate::units::Bytes;

/// The `schema` key of every document here.
const SCHEMA: &str = "orinplan.devices/1";

/// One object per device, as [`super::list_text`] has one row.
pub fn list_json(devices: &[DeviceProfile]) -> String {
    let rows: Vec<Value> = devices.iter().map(summary).collect();
    document(json!({ "schema": SCHEMA, "default": DEFAULT_BOARD, "devices": rows }))
}

fn summary(device: &DeviceProfile) -> Value {
    json!({
        "id": device.id,
        "name": device.name,
        "memory_total_bytes": device.total_memory.value,
        "memory_available_bytes": device.available(Session::Headless),
        "memory_available_desktop_bytes": device.available(Session::Desktop),
        "memory_bandwidth_bytes_per_second": device.default_mode.bandwidth.as_ref().map(|rate| rate.value),
        "default_power_mode": device.default_mode.name,
        "power_modes": device.modes.iter().map(|mode| mode.name.as_str()).collect::<Vec<_>>(),
    })
}

/// Every number of a device as an object with its unit in the key, its source, trust and note; the calibration of its
/// processors; and the corrections learned from `runs` on it.
pub fn show_json(device: &DeviceProfile, runs: &Runs) -> String {
    let learned = runs.of_device(&device.id);
    let learned: Vec<Value> = learned.iter().map(learned_from_runs).collect();
    document(json!({ "schema": SCHEMA, "device": full(device), "learned": learned }))
}

fn learned_from_runs(there: &LearnedThere) -> Value {
    let mut object = report::learned::json(&there.learned);
    object["runtime"] = there.runtime.as_str().into();
    object["power_mode"] = there.power_mode.as_str().into();
    object["runs_of"] = there.learned.runs_of.as_slice().into();
    object
}

fn full(device: &DeviceProfile) -> Value {
    json!({
        "id": device.id,
        "name": device.name,
        "compatible": device.compatible,
        "memory_available_bytes": device.available(Session::Headless),
        "memory_available_desktop_bytes": device.available(Session::Desktop),
        "memory_idle_bytes": device.at_hand.as_ref().and_then(|here| here.idle),
        "memory_total": number(&device.total_memory),
        "memory_fragmented": device.fragmented.as_ref().map(number),
        "system_headless": estimate(&device.system_headless),
        "system_desktop": estimate(&device.system_desktop),
        "processors": device.cpu,
        "bus_bits": device.bus_bits.as_ref().map(number),
        "gpu": device.gpu.as_ref().map(gpu_json),
        "default_power_mode": device.default_mode.name,
        "power_modes": device.modes.iter().map(mode_json).collect::<Vec<_>>(),
        "allocation_limits": device.allocation_limits.iter().map(|limit| json!({
            "from_release": limit.from.to_string(),
            "until_release": limit.until.map(|until| until.to_string()),
            "largest": number(&limit.largest),
            "refused": limit.refused.as_ref().map(number),
            "granted": limit.granted.as_ref().map(number),
        })).collect::<Vec<_>>(),
        "pitfalls": pitfalls(&device.pitfalls),
    })
}

fn gpu_json(gpu: &Gpu) -> Value {
    json!({
        "compute_capability": sourced(&gpu.compute_capability, "value", gpu.compute_capability.value.as_str().into()),
        "sm_count": number(&gpu.sm_count),
        "cuda_cores": number(&gpu.cuda_cores),
        "tensor_cores": number(&gpu.tensor_cores),
        "fp16_per_sm_clock": number(&gpu.fp16_per_sm_clock),
        "int8_sparse_per_sm_clock": number(&gpu.int8_sparse_per_sm_clock),
        "fp32_per_sm_clock": number(&gpu.fp32_per_sm_clock),
    })
}

fn mode_json(mode: &PowerMode) -> Value {
    json!({
        "name": mode.name,
        "nvpmodel_names": mode.nvpmodel,
        "since_release": mode.since.map(|since| since.to_string()),
        "power": mode.watts.as_ref().map(number),
        "gpu_clock": mode.gpu.as_ref().map(number),
        "sm_count": mode.sm_count.as_ref().map(number),
        "cpu_clock": mode.cpu.as_ref().map(number),
        "memory_clock": mode.emc.as_ref().map(number),
        "memory_bandwidth": mode.bandwidth.as_ref().map(number),
        "fp16_peak": mode.fp16.as_ref().map(number),
        "int8_sparse_peak": mode.int8_sparse.as_ref().map(number),
        "fp32_peak": mode.fp32.as_ref().map(number),
    })
}

/// The machine at hand, with its whole profile under `device`.
pub fn detect_json(found: &DetectedDevice) -> String {
    let MemoryNow {
        total,
        available,
        free,
        swap_free,
        cma_total,
    } = found.memory;
    document(json!({
        "schema": SCHEMA,
        "detected": {
            "model": found.model,
            "l4t_release": found.l4t.map(|release| release.to_string()),
            "clocks": found.profile.clocks().map(|clocks| clocks.name()),
            "jetpack": found.l4t.and_then(|release| release.jetpack()),
            "power_mode": found.power_mode,
            "gpu_clock_now_hertz": found.gpu_now,
            "logical_cpus": found.cpu_count,
            "memory_total_bytes": total,
            "memory_available_bytes": available,
            "memory_free_bytes": free,
            "swap_free_bytes": swap_free,
            "cma_total_bytes": cma_total,
            "notes": pitfalls(&found.notes),
        },
        "device": full(&found.profile),
    }))
}

fn document(value: Value) -> String {
    report::json(&report::rounded(value))
}

fn pitfalls(pitfalls: &[Pitfall]) -> Vec<Value> {
    let object = |p: &Pitfall| json!({ "code": p.code, "text": p.text, "source": p.source });
    pitfalls.iter().map(object).collect()
}

fn number<T: Quantity>(number: &Sourced<T>) -> Value {
    sourced(number, T::KEY_UNIT, number.value.json())
}

fn sourced<T>(number: &Sourced<T>, key: &str, value: Value) -> Value {
    json!({ key: value, "source": number.source, "trust": number.trust.word(), "note": number.note })
}

fn estimate(estimate: &Estimate<Sourced<Bytes>>) -> Value {
    json!({ "low": number(&estimate.low), "expected": number(&estimate.expected), "high": number(&estimate.high) })
}

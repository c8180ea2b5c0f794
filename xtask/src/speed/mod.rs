//! `cargo xtask fit-speed`: fits the speed of every runtime to `profiles/measurements.csv` and writes
//! what it found into `profiles/runtimes/*.toml`.

mod data;
mod fit;
mod form;
mod minimise;

use fit::{Kind, quantile};

pub(crate) fn run() -> anyhow::Result<()> {
    let observations = data::observations()?;
    for family in form::FAMILIES {
        let t = std::time::Instant::now();
        let fitted = fit::fit(family, &observations)?;
        println!("{:?} {:?}", family.members, t.elapsed());
        for (id, s) in &fitted.speeds {
            println!("  {id} reach {:.3} row {:.1} state {:.4} launch {:.2e} host {:.2e} batch {:.2} spread {:.2} {:.2} pre q {:.5} f {:.5} a {:.4} ul {:.1e} req {:.4} scale {:.2} {:.2}", s.reach.expected, s.row_cycles.value, s.state_cycles.value, s.launch_seconds.expected, s.host_seconds.expected, s.batch_share.value, s.spread.low, s.spread.high, s.prefill.quantized_cycles.value, s.prefill.float_cycles.value, s.prefill.attention_cycles.value, s.prefill.ubatch_layer_seconds.value, s.prefill.request_seconds.expected, s.prefill.scale.low, s.prefill.scale.high);
            println!("   {:?}", s.cost.iter().map(|(k, c)| format!("{k} {:.4}", c.cycles)).collect::<Vec<_>>());
        }
        type Pick = fn(&orinplan::evidence::Measurement) -> bool;
        let groups: [(&str, Pick); 8] = [
            ("all", |_| true),
            ("A", |r| r.grade == orinplan::evidence::Grade::A),
            ("nano A", |r| r.grade == orinplan::evidence::Grade::A && r.board == "orin-nano-8gb"),
            ("nano A+B not 1-2 bit", |r| r.board == "orin-nano-8gb" && !["q1_0", "q2_0"].contains(&r.format.as_str())),
            ("ladder", |r| r.id.starts_with("smolhub") && !["q1_0", "q2_0"].contains(&r.format.as_str())),
            ("pp512 nano", |r| r.prompt_tokens == Some(512) && r.board == "orin-nano-8gb"),
            ("agx", |r| r.board.starts_with("agx")),
            ("ollama", |r| r.runtime == "ollama"),
        ];
        for kind in [Kind::Decode, Kind::Prefill] {
            for (name, pick) in groups {
                let rows: Vec<_> = fitted.left.iter().filter(|l| l.kind == kind && pick(&observations[l.index].row)).collect();
                if rows.is_empty() { continue; }
                let s: Vec<f64> = rows.iter().map(|l| (l.seen.exp() - 1.0).abs() * 100.0).collect();
                let l: Vec<f64> = rows.iter().map(|l| (l.left_out.exp() - 1.0).abs() * 100.0).collect();
                println!("  {kind:?} {name:22} n {:3} seen {:5.1} {:5.1}   left out {:5.1} {:5.1}", rows.len(), quantile(&s, 0.5), quantile(&s, 0.9), quantile(&l, 0.5), quantile(&l, 0.9));
            }
            if std::env::var("V").is_ok() {
                for l in fitted.left.iter().filter(|l| l.kind == kind) {
                    let r = &observations[l.index].row;
                    println!("    {} {} {} {} {} {:?} {:?} {:+.1} {:+.1}", r.id, r.runtime, r.model, r.format, r.power_mode, r.decode_tps, r.prompt_tokens, 100.0 * l.seen, 100.0 * l.left_out);
                }
            }
        }
    }
    Ok(())
}

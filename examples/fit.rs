//! Plans a model on a board: `cargo run --example fit -- MODEL [BOARD] [CONTEXT]`.

use orinplan::planner::{BoardRequest, WorkloadRequest};
use orinplan::{Planner, Request};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let model = words.next().unwrap_or("fixtures/qwen3-0.6b".to_owned());
    let device = words.next().unwrap_or("orin-nano-8gb".to_owned());
    let context = words.next().map(|tokens| tokens.parse()).transpose()?;
    let request = Request {
        board: BoardRequest {
            device: Some(device),
            ..BoardRequest::default()
        },
        workload: WorkloadRequest {
            context,
            ..WorkloadRequest::default()
        },
        ..Request::default()
    };
    let planner = Planner::open(&model)?;
    let planned = planner.plan(&request)?;
    println!("{} on {}", planner.model().name, planned.board.device.name);
    for plan in &planned.fit.plans {
        let rates = plan.speeds.as_ref().map(|speeds| {
            let rate = &speeds.decode.tokens_per_second;
            format!("{:.0} to {:.0} tokens/s", rate.low, rate.high)
        });
        println!(
            "{:8} {:>10} of {}, up to {} tokens of context, {}",
            plan.assignment.scheme,
            plan.memory.total().to_string(),
            plan.available,
            plan.max_context,
            rates.unwrap_or("speed unknown".to_owned()),
        );
    }
    match planned.fit.recommended() {
        Some(plan) => println!("take {}", plan.assignment.scheme),
        None => println!("nothing fits"),
    }
    Ok(())
}

//! The boards that a model fits, with what it reaches on each: `cargo run --example boards -- MODEL`.

use orinplan::planner::BoardRequest;
use orinplan::{Planner, Request, device};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let model = std::env::args().nth(1);
    let planner = Planner::open(model.as_deref().unwrap_or("fixtures/gemma-3-1b-it"))?;
    for id in device::ids() {
        let request = Request {
            board: BoardRequest {
                device: Some(id.to_owned()),
                ..BoardRequest::default()
            },
            ..Request::default()
        };
        let planned = planner.plan(&request)?;
        match planned.fit.recommended() {
            Some(plan) => println!(
                "{id}: {} with up to {} tokens of context",
                plan.assignment.scheme, plan.max_context
            ),
            None => println!("{id}: nothing fits"),
        }
    }
    Ok(())
}

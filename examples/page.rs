//! Writes the page of a plan: `cargo run --example page -- MODEL > plan.html`.

use orinplan::report::{fit::Report, html};
use orinplan::{Planner, Request};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let model = std::env::args().nth(1);
    let planner = Planner::open(model.as_deref().unwrap_or("fixtures/qwen3-0.6b"))?;
    let planned = planner.plan(&Request::default())?;
    print!("{}", html::fit(&Report::new(&planner, &planned)).html()?);
    Ok(())
}

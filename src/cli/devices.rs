//! `orinplan devices`: boards, and the machine at hand.

use super::args::{DevicesArgs, DevicesCommand, PlainFormat};
use super::{Outcome, request, settings, show};
use crate::device;
use crate::foreign;
use crate::report::devices::{self as report, Links};

pub(super) fn run(args: &DevicesArgs) -> anyhow::Result<Outcome> {
    let is_text = args.format == PlainFormat::Text;
    let text = match args.command.as_ref().unwrap_or(&DevicesCommand::List) {
        DevicesCommand::List => {
            let all = device::list()?;
            if is_text {
                report::list_text(&all, super::columns())
            } else {
                report::list_json(&all)
            }
        }
        DevicesCommand::Show { device } => {
            let found = request::open_device(Some(device))?;
            let runs = settings::runs();
            if is_text && super::wants_colour() {
                let text = report::show_text(&found, &runs, super::columns(), Links::Hidden);
                super::print(&report::linked(&foreign::lines(&text)))?;
                return Ok(Outcome::Yes);
            } else if is_text {
                report::show_text(&found, &runs, super::columns(), Links::Written)
            } else {
                report::show_json(&found, &runs)
            }
        }
        DevicesCommand::Detect => {
            let found = device::detect(&super::machine_root())?;
            if is_text {
                report::detect_text(&found, super::columns())
            } else {
                report::detect_json(&found)
            }
        }
    };
    show(&text)?;
    Ok(Outcome::Yes)
}

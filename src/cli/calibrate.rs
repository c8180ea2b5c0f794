//! `orinplan calibrate`: measure this machine, or forget what was measured.

use super::args::CalibrateArgs;
use super::{Outcome, print, settings};

pub(super) fn run(args: &CalibrateArgs) -> anyhow::Result<Outcome> {
    if args.reset {
        let removed = settings::forget()?;
        let lines = removed
            .iter()
            .map(|path| format!("removed {}\n", path.display()));
        let said: String = lines.collect();
        print(if said.is_empty() {
            "nothing was measured yet\n"
        } else {
            &said
        })?;
        return Ok(Outcome::Yes);
    }
    anyhow::bail!("not yet")
}

//! `orinplan completions` and `orinplan man`, made from the flag declarations.

use anyhow::Context;
use clap::CommandFactory;

use super::args::{Cli, CompletionsArgs, ManArgs};
use super::{Outcome, print};

pub(super) fn completions(args: &CompletionsArgs) -> anyhow::Result<Outcome> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "orinplan", &mut script);
    print(&String::from_utf8(script)?)?;
    Ok(Outcome::Yes)
}

pub(super) fn man(args: &ManArgs) -> anyhow::Result<Outcome> {
    match &args.output {
        Some(directory) => clap_mangen::generate_to(Cli::command(), directory)
            .with_context(|| format!("cannot write man pages to {}", directory.display()))?,
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut page)?;
            print(&String::from_utf8(page)?)?;
        }
    }
    Ok(Outcome::Yes)
}

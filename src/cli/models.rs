//! `orinplan models`: plan the catalogue, rank it, report.

use anyhow::bail;

use super::args::{ModelsArgs, ReportFormat, TaskArg};
use super::{Outcome, pages, print, request};
use crate::catalog::{Catalog, Task, Wish};
use crate::device;
use crate::foreign;
use crate::nearest;
use crate::note::KvProblem;
use crate::planner::{Board, BoardRequest};
use crate::report::{self, models::Report};

pub(super) fn run(args: &ModelsArgs) -> anyhow::Result<Outcome> {
    request::counted(&args.workload)?;
    pages::check(&args.figure, args.format)?;
    let catalog = Catalog::shipped()?;
    let wish = wish(args, &catalog)?;
    let request = request::models(args);
    let workload = &request.workload;
    let dtype = workload.type_v.unwrap_or(workload.kv_type);
    if dtype.is_quantized() && !workload.flash_attention {
        bail!(KvProblem::QuantizedValues { dtype });
    }
    let board = request::open_board(&request.board)?;
    let boards = if args.all {
        larger_boards(&request.board)?
    } else {
        Vec::new()
    };
    let ranking = catalog.rank(&wish, &board, &boards, &request)?;
    let report = Report {
        ranking: &ranking,
        board: &board,
        wish: &wish,
        request: &request,
        catalogue: catalog.entries.len(),
        all: args.all,
    };
    print(&match args.format {
        ReportFormat::Json => report::json(&report::models::document(&report)),
        ReportFormat::Text => foreign::lines(&report::models::text(&report, super::columns())),
        ReportFormat::Markdown => foreign::lines(&report::models::markdown(&report)),
        form @ (ReportFormat::Html | ReportFormat::Svg) => {
            pages::rendered(&report::html::models(&report), form, &args.figure)?
        }
    })?;
    Ok(if ranking.runs.is_empty() {
        Outcome::No
    } else {
        Outcome::Yes
    })
}

fn wish(args: &ModelsArgs, catalog: &Catalog) -> anyhow::Result<Wish> {
    let known = catalog.licenses();
    let is_known = |name: &&String| known.iter().any(|known| known.eq_ignore_ascii_case(name));
    if let Some(name) = args.license.iter().find(|name| !is_known(name)) {
        let hint = nearest::hint(name, known.iter().copied());
        bail!(
            "no model of the catalogue has the licence `{name}`{hint}; its licences are {}",
            known.join(", ")
        );
    }
    Ok(Wish {
        task: args.task.map(|task| match task {
            TaskArg::Chat => Task::Chat,
            TaskArg::Vision => Task::Vision,
            TaskArg::Embedding => Task::Embedding,
            TaskArg::Code => Task::Code,
        }),
        licenses: args.license.clone(),
    })
}

/// The shipped boards as they are by default, the smallest first, with the runtime asked for.
fn larger_boards(asked: &BoardRequest) -> anyhow::Result<Vec<Board>> {
    let boards = device::ids().map(|id| {
        let request = BoardRequest {
            device: Some(id.to_owned()),
            runtime: asked.runtime.clone(),
            runtime_version: asked.runtime_version,
            ..BoardRequest::default()
        };
        anyhow::Ok(Board::open(&request)?)
    });
    boards.collect()
}

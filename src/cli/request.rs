//! Flags as the requests that the library takes.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use super::args::{
    BoardArgs, FitArgs, ModelsArgs, Parallel, PreferArg, PreferenceArgs, ProjectorPlace, ReadArgs,
    SharedArgs, WorkloadArgs,
};
use super::{config, remote, settings};
use crate::device::{DeviceProfile, L4tRelease, Session};
use crate::evidence::quality::MeasuredQuality;
use crate::gguf;
use crate::hub::Purpose;
use crate::input;
use crate::model::{self, Unknown};
use crate::plan::draft::{Draft, Drafter};
use crate::plan::{Prefer, Preference};
use crate::planner::{Board, BoardRequest, Planner, Request, Schemes, WorkloadRequest};
use crate::quantize::Importance;
use crate::report::fit::View;
use crate::scheme::{ListedTypes, TypeList, parse_types};
use crate::units::Bytes;

/// The largest file of a model's quality that is read; one has a few hundred bytes for each tensor.
const QUALITY_LIMIT: Bytes = Bytes(16 << 20);

/// A model that is planned.
pub(super) fn open(model: &str, args: &ReadArgs) -> anyhow::Result<Planner> {
    open_for(Purpose::Plan, model, args)
}

pub(super) fn open_for(purpose: Purpose, model: &str, args: &ReadArgs) -> anyhow::Result<Planner> {
    let unknown = match &args.assume_kv {
        None => Unknown::Refuse,
        Some(name) => Unknown::Assume(model::known_architecture(name)?),
    };
    let stores = remote::stores(purpose);
    Ok(Planner::open_in(model, &stores, |_| unknown)?)
}

/// The request of `fit`, with what was read of the model's quality and of the types of its tensors.
pub(super) fn fit(
    args: &FitArgs,
    quality: Option<MeasuredQuality>,
    types: Option<TypeList>,
) -> Request {
    let planned = planned(&args.board, &args.workload, &args.preference);
    Request {
        quality,
        schemes: types.map_or(planned.schemes, Schemes::Types),
        workload: WorkloadRequest {
            energy_budget: args.energy_budget,
            generated_tokens: args.generate,
            ..planned.workload
        },
        ..planned
    }
}

/// What drafts, with the model that `--draft` names opened.
pub(super) fn draft(args: &FitArgs, board: &Board) -> anyhow::Result<Option<Draft>> {
    let Some(named) = args.draft.draft.as_deref() else {
        return Ok(None);
    };
    let by = match named {
        "mtp" => Drafter::Mtp,
        "eagle3" => Drafter::Eagle3,
        "lookup" => Drafter::Lookup,
        model => open(model, &args.read)?.drafter(&board.runtime)?,
    };
    Ok(Some(Draft {
        by,
        acceptance: args.draft.acceptance,
    }))
}

/// The types of the tensors in a list.
pub(super) fn types(path: &Path) -> anyhow::Result<TypeList> {
    let file = path.display().to_string();
    let listed = listed(path)?;
    let importance = imatrix(path, &listed).map(|imatrix| opened(path, &imatrix));
    let metadata = importance.transpose()?.map(|matrix| matrix.metadata());
    Ok(TypeList {
        file,
        imatrix_bytes: metadata.map_or(Bytes(0), |metadata| gguf::metadata_bytes(&metadata)),
        listed,
    })
}

/// What a list of types says.
pub(super) fn listed(path: &Path) -> anyhow::Result<ListedTypes> {
    /// A model of a thousand tensors has a list of some 40 kB.
    const LIMIT: Bytes = Bytes(16 << 20);
    let text = input::read_text(path, LIMIT)?;
    parse_types(&text).with_context(|| path.display().to_string())
}

/// The importance matrix that a list names.
pub(super) fn imatrix(list: &Path, listed: &ListedTypes) -> Option<PathBuf> {
    let folder = list.parent().unwrap_or(Path::new(""));
    listed.imatrix.as_ref().map(|path| folder.join(path))
}

/// The open importance matrix of a list.
pub(super) fn opened(list: &Path, imatrix: &Path) -> anyhow::Result<Importance> {
    Importance::open(imatrix).with_context(|| {
        format!(
            "{} names the importance matrix that its file was made with; put it back, or remove that line",
            list.display()
        )
    })
}

/// The request that each model of `board` begins with.
pub(super) fn shared(args: &SharedArgs) -> Request {
    planned(&args.board, &args.workload, &args.preference)
}

/// The request of `models`.
pub(super) fn models(args: &ModelsArgs) -> Request {
    planned(&args.board, &args.workload, &args.preference)
}

fn planned(board: &BoardArgs, load: &WorkloadArgs, preference: &PreferenceArgs) -> Request {
    let prefer = preference
        .prefer
        .map_or(Prefer::Balance, |prefer| match prefer {
            PreferArg::Speed => Prefer::Speed,
            PreferArg::Quality => Prefer::Quality,
            PreferArg::Size => Prefer::Size,
        });
    Request {
        preference: Preference {
            prefer,
            min_speed: preference.min_speed,
        },
        quality: None,
        board: BoardRequest {
            clocks: load.clocks,
            ..self::board(board, load.l4t)
        },
        schemes: Schemes::of(&load.scheme),
        rules: load.rules,
        workload: workload(load),
    }
}

/// The file of the board, if it is one of the user's own: it is read, and an id is the name of none.
pub(super) fn board_file(args: &BoardArgs) -> Option<PathBuf> {
    let named = args.device.as_ref().map(PathBuf::from);
    named.filter(|file| file.is_file())
}

pub(super) fn board(args: &BoardArgs, release: Option<L4tRelease>) -> BoardRequest {
    BoardRequest {
        power_mode: args.power_mode.clone(),
        runtime: args.runtime.clone(),
        runtime_version: args.runtime_version,
        release,
        what_if: args.what_if.clone(),
        ..device(args.device.as_deref())
    }
}

/// The request for a device that `--device` names, or for the default one, with the settings folder of this user.
pub(super) fn device(named: Option<&str>) -> BoardRequest {
    BoardRequest {
        device: named.map(str::to_owned),
        is_preferred: config::names_the_device(),
        root: super::machine_root(),
        settings: settings::directory(),
        ..BoardRequest::default()
    }
}

/// Opens a board, and prints its warnings.
pub(super) fn open_board(request: &BoardRequest) -> anyhow::Result<Board> {
    Ok(warned(Board::open(request)?))
}

/// Prints the warnings of a board.
pub(super) fn warned(board: Board) -> Board {
    board.warnings.iter().for_each(|line| super::warn(line));
    board
}

/// Opens a device without a runtime, and prints its warnings.
pub(super) fn open_device(named: Option<&str>) -> anyhow::Result<DeviceProfile> {
    let found = Board::device(&device(named))?;
    found.warnings.iter().for_each(|line| super::warn(line));
    Ok(found.device)
}

/// Refuses a number of sequences that is to be found, where several models are planned.
pub(super) fn counted(args: &WorkloadArgs) -> anyhow::Result<()> {
    ensure!(
        args.parallel != Parallel::Auto,
        "--parallel auto works only with `fit` and one model: give a number"
    );
    Ok(())
}

fn workload(args: &WorkloadArgs) -> WorkloadRequest {
    WorkloadRequest {
        context: args.context,
        kv_type: args.kv_cache.kv_type,
        type_k: args.kv_cache.kv_type_k,
        type_v: args.kv_cache.kv_type_v,
        parallel: args.parallel.count(),
        ubatch: args.ubatch,
        prompt_tokens: args.prompt_tokens,
        cached_tokens: args.cached_tokens.unwrap_or(0),
        generated_tokens: None,
        outputs: args.outputs,
        flash_attention: !args.no_flash_attention,
        cuda_graphs: !args.no_cuda_graphs,
        session: if args.desktop {
            Session::Desktop
        } else {
            Session::Headless
        },
        reserve: args.reserve.unwrap_or(Bytes(0)),
        budget: args.budget,
        energy_budget: None,
        text_only: args.text_only,
        images: args
            .images
            .images
            .unwrap_or(u64::from(args.images.image.is_some())),
        image: args.images.image,
        projector_on_cpu: args.images.projector == ProjectorPlace::Cpu,
        draft: None,
        adapters: Vec::new(),
    }
}

/// What a file says about a model's quality.
pub(super) fn quality(path: &Path) -> anyhow::Result<MeasuredQuality> {
    let text = input::read_text(path, QUALITY_LIMIT).context("cannot read the quality")?;
    Ok(MeasuredQuality::parse(&path.display().to_string(), &text)?)
}

/// How much the report shows. Formats that were asked for by name are all shown.
pub(super) fn view(args: &FitArgs) -> View {
    View {
        columns: super::columns().filter(|_| args.report.output.is_none()),
        formats: !args.workload.scheme.is_empty(),
        all: args.all,
        explain: args.explain,
    }
}

//! The front door of the library: open a checkpoint, then plan it.
//!
//! In: a path as `orinplan fit` takes it, and a [`Request`], whose default is that of the command line. Out: a
//! [`Planned`], from which [`crate::report::fit`] makes its documents. Reads files; prints nothing.

mod board;
mod candidates;
mod cluster;
mod drafting;
mod error;
mod gguf_header;
mod quality;
mod mixes;
mod request;
mod settings;
mod shared;
mod shared_file;
mod throughput;

use std::sync::Arc;

use crate::checkpoint::{self, Checkpoint, Origin, SourceFormat, Stores};
use crate::convert;
use crate::device;
use crate::evidence::quality::{Basis, CacheCosts};
use crate::model::{self, ModelSpec, Tower, Unknown, accept};
use crate::note::Note;
use crate::plan::advise::{Advice, advise};
use crate::plan::draft::{DraftModel, Drafter};
use crate::plan::fit::Candidate;
use crate::plan::{Fit, Plan, Workload, fit};
use crate::quantize::Readiness;
use crate::runtime::{RuntimeProfile, Version};
use crate::scheme::{Container, Rules, SCHEMES, Scheme};
use quality::KnownQuality;

pub use board::{Board, FoundDevice};
pub use candidates::assigned;
pub use cluster::{Cluster, ClusterRequest, NamedBoard, OneBoard, SplitMode};
pub use error::{CandidateError, OpenError, PlanError};
pub use gguf_header::GgufHeader;
pub use mixes::MixPlanner;
pub use request::{BoardRequest, CONTEXT, Request, Schemes, WorkloadRequest};
pub use settings::{CALIBRATION, RUNS, SettingsError, runs, runs_or_none};
pub use shared::{Program, SharedMember, SharedModel, SharedPlan, SharedRequest, Storage};
pub use shared_file::{SharedFile, SharedFileError};
pub use throughput::together;

/// A checkpoint that was opened, described and found to be one that runtimes load.
#[derive(Debug)]
pub struct Planner {
    checkpoint: Checkpoint,
    model: ModelSpec,
}

/// The plans of a model on a board, with what they were made from.
#[derive(Debug)]
pub struct Planned {
    /// Where it would run.
    pub board: Board,
    /// What it is asked to do.
    pub workload: Workload,
    /// One plan for each format, and the one to take.
    pub fit: Fit,
    /// What to change if none fits.
    pub advice: Vec<Advice>,
    /// What the commands depend on that make and start the recommended plan.
    pub launch: LaunchContext,
}

/// What the commands that make the file of a plan and start it depend on, beside the plan itself.
#[derive(Clone, Debug, PartialEq)]
pub struct LaunchContext {
    /// Whether the file to run is there or can be made of the checkpoint.
    pub readiness: Readiness,
    /// The rules that the types follow.
    pub rules: Rules,
    /// The runtime's version, if it was given; otherwise the newest known.
    pub version: Option<Version>,
    /// Flags that were given and that advice has to take into account.
    pub given: GivenFlags,
    /// The file of the types that tensors are to have, if they are not those of a scheme.
    pub types: Option<String>,
}

/// Flags that were given and that advice has to take into account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GivenFlags {
    /// A power mode, which another board may not have.
    pub power_mode: bool,
    /// A type for cached keys or for values alone, which overrides that of both.
    pub kv_type_of_each: bool,
}

impl Planner {
    /// Opens what the command line calls MODEL: a Hugging Face directory, a `.safetensors` or `.gguf` file, a
    /// `config.json`, or a hub id or Ollama tag that is in the local cache.
    ///
    /// # Errors
    /// [`OpenError`] where there is no such checkpoint, where it is no language model of a known architecture, or
    /// where no runtime would load it.
    pub fn open(model: &str) -> Result<Planner, OpenError> {
        Planner::open_as(model, Unknown::Refuse)
    }

    /// The same, with `unknown` for what to do about an architecture that is not known.
    ///
    /// # Errors
    /// As [`Planner::open`].
    pub fn open_as(model: &str, unknown: Unknown) -> Result<Planner, OpenError> {
        Planner::open_in(model, &Stores::from_env(), |_| unknown)
    }

    /// The same with these stores, which may have a server to ask, and where the checkpoint decides what to do about an
    /// unknown architecture.
    ///
    /// # Errors
    /// As [`Planner::open`].
    pub fn open_in(
        model: &str,
        stores: &Stores,
        unknown: impl FnOnce(&Checkpoint) -> Unknown,
    ) -> Result<Planner, OpenError> {
        let checkpoint = checkpoint::open_in(model, stores)?;
        let unknown = unknown(&checkpoint);
        Planner::described(checkpoint, unknown)
    }

    /// Describes a checkpoint that is already open, and finds whether runtimes load it.
    ///
    /// # Errors
    /// As [`Planner::open`], but for what opening says.
    pub fn described(checkpoint: Checkpoint, unknown: Unknown) -> Result<Planner, OpenError> {
        let name = || checkpoint.origin.text().to_owned();
        let model = model::read(&checkpoint, unknown).map_err(|source| OpenError::Model {
            model: name(),
            source,
        })?;
        accept::checkpoint(&checkpoint, &model).map_err(|source| OpenError::Accept {
            model: name(),
            source,
        })?;
        Ok(Planner { checkpoint, model })
    }

    /// The same planner, if its model writes text.
    ///
    /// # Errors
    /// [`OpenError::Retrieval`] for a model that turns texts into numbers.
    pub fn writing(self) -> Result<Planner, OpenError> {
        match &self.model.retrieval {
            None => Ok(self),
            Some(retrieval) => Err(OpenError::Retrieval {
                model: self.checkpoint.origin.text().to_owned(),
                what: retrieval.kind.what.clone(),
                is_decoded: model::unknown_pass(&self.model).is_none(),
            }),
        }
    }

    /// The planner of a checkpoint that is already open, and of its model.
    pub fn of(checkpoint: Checkpoint, model: ModelSpec) -> Planner {
        Planner { checkpoint, model }
    }

    /// The checkpoint that was opened.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Adds a tower that the checkpoint has and the opened part of it does not show.
    pub fn add_tower(&mut self, tower: Tower) {
        self.model.towers.push(tower);
    }

    /// The model in it.
    pub fn model(&self) -> &ModelSpec {
        &self.model
    }

    /// Plans the model as `request` asks: verdict, memory, context and speed for each format, the one to take,
    /// and what to change where none fits. That nothing fits is a result, not an error.
    ///
    /// # Errors
    /// As [`Board::open`], [`WorkloadRequest::of`], [`GgufHeader::of`] and [`Planner::candidates`];
    /// [`PlanError::NoFormat`] where the runtime loads no format that the model can have.
    pub fn plan(&self, request: &Request) -> Result<Planned, PlanError> {
        self.plan_on(Board::open(&request.board)?, request)
    }

    /// The same on a board that is open already: of `request.board` only the flags count that advice has to know of.
    ///
    /// # Errors
    /// As [`Planner::plan`].
    pub fn plan_on(&self, board: Board, request: &Request) -> Result<Planned, PlanError> {
        let (workload, header) = self.prepare(&board, request)?;
        self.plan_with(board, request, workload, &header)
    }

    /// What `request` asks of the model on `board`, and the header of the files that it has there: both are the same for all
    /// formats.
    fn prepare(
        &self,
        board: &Board,
        request: &Request,
    ) -> Result<(Workload, GgufHeader), PlanError> {
        let mut workload = request.workload.of(&self.model, &board.runtime)?;
        if workload.draft.is_some() {
            let drafts = board.runtime.lines.drafts.as_ref();
            let of = || format!("{} for --draft", board.runtime.name);
            PlanError::of_version(request.board.runtime_version, drafts, of)?;
        }
        let mut header = GgufHeader::of(&self.checkpoint, &self.model, &board.runtime)?;
        workload.merges = header.merges();
        if let Schemes::Types(list) = &request.schemes {
            header.metadata_bytes += list.imatrix_bytes.0;
        }
        Ok((workload, header))
    }

    fn plan_with(
        &self,
        board: Board,
        request: &Request,
        workload: Workload,
        header: &GgufHeader,
    ) -> Result<Planned, PlanError> {
        let mut fit = self.fit_with(&board, request, &workload, header)?;
        let (rules, preference) = (request.rules, request.preference);
        let known = known(request, &workload);
        let target = board.target();
        // Where none of the schemes asked for fits, advice may name others, and larger boards.
        let (others, boards) = match fit.recommended() {
            Some(_) => (Fit::default(), Vec::new()),
            None => {
                let others = self.common_candidates(&board.runtime, rules, header, known);
                let others = fit::fit(&self.model, others, target, &workload).by(preference);
                (others, device::list()?)
            }
        };
        let advice = advise(&self.model, &fit, &others, &boards, target, &workload);
        // A measured cache that is advised is a use of the file that measured it.
        if advice.iter().any(Advice::is_measured) {
            for plan in &mut fit.plans {
                plan.notes
                    .retain(|note| !matches!(note, Note::QualityUnused { .. }));
            }
        }
        let launch = self.launch(&board, request, header, fit.recommended())?;
        Ok(Planned {
            board,
            workload,
            fit,
            advice,
            launch,
        })
    }

    /// What the commands for `plan` depend on.
    fn launch(
        &self,
        board: &Board,
        request: &Request,
        header: &GgufHeader,
        plan: Option<&Plan>,
    ) -> Result<LaunchContext, PlanError> {
        let readiness = match plan {
            Some(plan) => header.readiness(
                &self.checkpoint,
                &self.model,
                to_be_made(plan, &board.runtime, &request.schemes, &self.model),
                request.rules,
            )?,
            None => {
                header.check(&self.checkpoint, &self.model)?;
                Readiness::Ready { requantizes: false }
            }
        };
        Ok(LaunchContext {
            readiness,
            rules: request.rules,
            version: request.board.runtime_version,
            given: GivenFlags {
                power_mode: request.board.power_mode.is_some(),
                kv_type_of_each: request.workload.kv_type_of_each(),
            },
            types: match &request.schemes {
                Schemes::Types(list) => Some(list.file.clone()),
                _ => None,
            },
        })
    }

    /// The plans alone, without what to change where none fits and without what commands depend on.
    ///
    /// # Errors
    /// As [`Planner::plan`].
    pub fn fit_on(&self, board: &Board, request: &Request) -> Result<(Workload, Fit), PlanError> {
        let (workload, header) = self.prepare(board, request)?;
        let fit = self.fit_with(board, request, &workload, &header)?;
        Ok((workload, fit))
    }

    fn fit_with(
        &self,
        board: &Board,
        request: &Request,
        workload: &Workload,
        header: &GgufHeader,
    ) -> Result<Fit, PlanError> {
        let measured = request.quality.as_ref();
        measured.map_or(Ok(()), |measured| measured.check(&self.model))?;
        let known = known(request, workload);
        let (schemes, rules) = (&request.schemes, request.rules);
        let mut candidates = self.candidates_of(&board.runtime, schemes, rules, header, known)?;
        let qualities = candidates.iter().filter_map(|found| found.quality.as_ref());
        let unused = measured.and_then(|measured| measured.unused(qualities));
        let unused = unused.map(|(file, measured)| Note::QualityUnused { file, measured });
        // Within the window the answers are the model's.
        let lost = convert::lost_window(&self.model).filter(|lost| lost.tokens < workload.context);
        let lost = lost.filter(|_| self.checkpoint.format != SourceFormat::Gguf);
        let lost = lost.map(Note::LostWindow);
        let cache_costs = CacheCosts::of(measured);
        let cache_loss = cache_loss(&cache_costs, &self.model, workload);
        for candidate in &mut candidates {
            let is_gguf = candidate.assignment.container == Container::Gguf;
            let of_file = lost.iter().filter(|_| is_gguf);
            candidate
                .notes
                .extend(unused.iter().chain(&cache_loss).chain(of_file).cloned());
        }
        if candidates.is_empty() {
            return Err(PlanError::NoFormat {
                runtime: board.runtime.name.clone(),
                model: self.model.name.clone(),
            });
        }
        let preference = request.preference;
        let fit = Fit {
            cache_costs,
            ..fit::fit(&self.model, candidates, board.target(), workload).by(preference)
        };
        if preference.min_speed.is_some() && fit.plans.iter().all(|plan| plan.speeds.is_none()) {
            return Err(no_rates(board, "--min-speed"));
        }
        Ok(fit)
    }

    /// The model as one that drafts for others under `runtime`: in the types that it is stored in, or else in the first
    /// format that the runtime loads.
    ///
    /// # Errors
    /// As [`Planner::candidates`]; [`PlanError::NoFormat`] where the runtime loads no format of it.
    pub fn drafter(&self, runtime: &RuntimeProfile) -> Result<Drafter, PlanError> {
        let header = GgufHeader::of(&self.checkpoint, &self.model, runtime)?;
        let found = self.candidates(runtime, &Schemes::Common, Rules::default(), &header)?;
        let first = found.into_iter().next();
        let candidate = first.ok_or_else(|| PlanError::NoFormat {
            runtime: runtime.name.clone(),
            model: self.model.name.clone(),
        })?;
        let scheme = candidate.assignment.scheme.to_uppercase();
        let name = self.model.name.rsplit('/').next().unwrap_or_default();
        let asked = || self.checkpoint.origin.text().to_owned();
        let first = self.checkpoint.files.first();
        let (path, made_from) = match (self.checkpoint.format, candidate.assignment.container) {
            (SourceFormat::Gguf, _) => (
                first.map_or_else(asked, |file| file.path.to_string_lossy().into_owned()),
                None,
            ),
            (format, Container::Gguf) => {
                // A description alone gives no file.
                let has_weights = format == SourceFormat::Safetensors;
                let made_from = has_weights.then(asked);
                (format!("{name}-{scheme}.gguf"), made_from)
            }
            (_, Container::Safetensors) => (asked(), None),
        };
        Ok(Drafter::Model(Arc::new(DraftModel {
            path,
            made_from,
            is_hub_id: matches!(self.checkpoint.origin, Origin::Hub(_)),
            model: self.model.clone(),
            assignment: candidate.assignment,
        })))
    }

    /// The scheme whose types the tensors of a GGUF or 16-bit checkpoint have; `None` where they are those of none.
    pub fn stored_scheme(&self) -> Option<&'static Scheme> {
        candidates::exact_scheme(&self.checkpoint, &self.model)
    }

    /// The formats that `runtime` could run the model in: what the checkpoint is now, then the others, best quality first.
    ///
    /// # Errors
    /// [`CandidateError`] where a named scheme is not known, is not loaded by `runtime`, or cannot be made of this
    /// checkpoint.
    pub fn candidates(
        &self,
        runtime: &RuntimeProfile,
        schemes: &Schemes,
        rules: Rules,
        header: &GgufHeader,
    ) -> Result<Vec<Candidate>, CandidateError> {
        self.candidates_of(runtime, schemes, rules, header, KnownQuality::default())
    }

    fn candidates_of(
        &self,
        runtime: &RuntimeProfile,
        schemes: &Schemes,
        rules: Rules,
        header: &GgufHeader,
        known: KnownQuality<'_>,
    ) -> Result<Vec<Candidate>, CandidateError> {
        candidates::candidates(
            &self.checkpoint,
            &self.model,
            runtime,
            schemes,
            rules,
            header,
            known,
        )
    }

    /// Every common scheme that `runtime` loads, whatever the checkpoint is now: for a quantized GGUF, the sizes that its
    /// original would have.
    fn common_candidates(
        &self,
        runtime: &RuntimeProfile,
        rules: Rules,
        header: &GgufHeader,
        known: KnownQuality<'_>,
    ) -> Vec<Candidate> {
        let loads = |scheme: &Scheme| runtime.loads.schemes.iter().any(|id| id == scheme.id);
        let common = SCHEMES
            .iter()
            .filter(|scheme| scheme.common && loads(scheme));
        let candidate = |scheme: &Scheme| {
            let named = Schemes::Named(vec![scheme.id.to_owned()]);
            self.candidates_of(runtime, &named, rules, header, known)
                .unwrap_or_default()
        };
        common.flat_map(candidate).collect()
    }
}

/// What a quantized cache costs in quality, which counts in that of every format, or that nobody knows.
fn cache_loss(costs: &CacheCosts, model: &ModelSpec, workload: &Workload) -> Option<Note> {
    let kv_types = [workload.type_k, workload.type_v];
    let cost = costs.of_types(model, kv_types);
    let [keys, values] = kv_types.map(|dtype| dtype.name().to_lowercase());
    let is_lossless = cost
        .as_ref()
        .is_some_and(|cost| cost.basis == Basis::Original);
    (!is_lossless).then(|| Note::CacheLoss {
        cache: match keys == values {
            true => keys,
            false => format!("{keys} and {values}"),
        },
        cost: cost.map(|cost| [cost.kld, cost.low, cost.high]),
    })
}

/// What is known of the quality of the formats that `request` asks for.
fn known<'a>(request: &'a Request, workload: &Workload) -> KnownQuality<'a> {
    KnownQuality {
        measured: request.quality.as_ref(),
        kv_types: [workload.type_k, workload.type_v],
    }
}

/// Why no rate can be held against what a flag asks for.
fn no_rates(board: &Board, flag: &'static str) -> PlanError {
    PlanError::NoRates {
        flag,
        runtime: board.runtime.name.clone(),
        device: board.device.name.clone(),
        way_out: if board.device.at_hand.is_some() {
            "measure this machine with `orinplan calibrate`"
        } else {
            "leave it out"
        },
    }
}

/// The scheme of the file that `quantize` has to make for a plan: none where the file is there, or where the
/// runtime has its own converter or loads the checkpoint as it is.
fn to_be_made(
    plan: &Plan,
    runtime: &RuntimeProfile,
    schemes: &Schemes,
    model: &ModelSpec,
) -> Option<&'static Scheme> {
    let loads = &runtime.loads;
    let is_made = !plan.assignment.is_stored() && !loads.own_converter;
    let scheme = match schemes {
        Schemes::Types(list) => Some(list.listed.scheme(model)),
        _ => Scheme::get(&plan.assignment.scheme),
    };
    let scheme = scheme.filter(|_| is_made)?;
    let is_loaded = match scheme.container {
        Container::Gguf => loads.reads(Container::Gguf),
        Container::Safetensors => true,
    };
    is_loaded.then_some(scheme)
}

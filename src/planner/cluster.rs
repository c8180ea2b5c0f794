//! A model planned on several boards: the boards of a request, a division for each format, and the format to take.
//!
//! In: a [`Request`] and a [`ClusterRequest`]. Out: a [`Cluster`].

use std::str::FromStr;

use super::error::PlanError;
use super::request::{BoardRequest, Request};
use super::{Board, LaunchContext, Planned, Planner, known};
use crate::device;
use crate::evidence::boards::{Engine, Link, engine, tensor_split_bytes};
use crate::model::ModelSpec;
use crate::plan::Plan;
use crate::plan::boards::{self, BoardsAdvice, ServerPlace, Split};
use crate::plan::fit::Target;
use crate::plan::fit::{self, Candidate};
use crate::plan::recommend::{Choice, Offer};
use crate::units::Bytes;

/// The most boards of a cluster: llama.cpp has 16 devices (`llama_max_devices`).
const MOST: usize = 16;

/// A board of a cluster as it is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedBoard {
    /// A board's id, or a profile file.
    pub device: String,
    /// Its power mode, if not that of the request.
    pub power_mode: Option<String>,
}

/// What is divided between boards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SplitMode {
    /// Runs of blocks.
    #[default]
    Layer,
    /// Every tensor.
    Tensor,
}

/// Several boards, as they are asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterRequest {
    /// The boards in the order of their blocks.
    pub boards: Vec<NamedBoard>,
    /// The link between any two.
    pub link: Link,
    /// Where the server runs.
    pub server: ServerPlace,
    /// Blocks of each board, if they are given.
    pub layers: Option<Vec<usize>>,
    /// What is divided.
    pub mode: SplitMode,
    /// Where the server reaches each board that it does not run on, in their order; names of the kind `board-1` without.
    pub addresses: Vec<String>,
}

/// A model on several boards.
#[derive(Debug)]
pub struct Cluster {
    /// The boards in the order of their blocks.
    pub boards: Vec<Board>,
    /// What the model would be on the server's board alone, in each format.
    pub alone: Planned,
    /// A division for each of those formats.
    pub splits: Vec<Split>,
    /// Each of those formats on the one board that is best for it.
    pub best_alone: Vec<OneBoard>,
    /// The format to take.
    pub choice: Choice,
    /// What to change if no format fits.
    pub advice: Vec<BoardsAdvice>,
    /// What its commands depend on.
    pub launch: LaunchContext,
    /// How the runtime runs a model on several boards.
    pub engine: &'static Engine,
}

/// A format on one of several boards: the fastest on which it fits, else the one on which it lacks least.
#[derive(Clone, Debug)]
pub struct OneBoard {
    /// Its place among the boards.
    pub board: usize,
    /// The plan on it.
    pub plan: Plan,
}

impl FromStr for NamedBoard {
    type Err = String;

    /// Reads `orin-nano-8gb` and `orin-nx-16gb@25W`.
    fn from_str(text: &str) -> Result<NamedBoard, String> {
        let (device, mode) = match text.split_once('@') {
            Some((device, mode)) => (device.trim(), Some(mode.trim())),
            None => (text.trim(), None),
        };
        if device.is_empty() || mode.is_some_and(str::is_empty) {
            return Err(forms(text));
        }
        Ok(NamedBoard {
            device: device.to_owned(),
            power_mode: mode.map(str::to_owned),
        })
    }
}

fn forms(text: &str) -> String {
    format!(
        "`{text}` names no boards: write 2xorin-nano-8gb, or a list such as orin-nx-16gb@25W,orin-nano-8gb"
    )
}

impl ClusterRequest {
    /// The boards of a list: `2xorin-nano-8gb`, `orin-nano-8gb,orin-nx-16gb@25W`.
    ///
    /// # Errors
    /// A sentence that says what may be written.
    pub fn named(text: &str) -> Result<Vec<NamedBoard>, String> {
        let mut boards = Vec::new();
        for part in text.split(',') {
            let part = part.trim();
            let digits = part.bytes().take_while(u8::is_ascii_digit).count();
            let (count, rest) = part.split_at(digits);
            let (count, board) = match rest.strip_prefix(['x', 'X', '*']) {
                Some(board) if digits > 0 => (count.parse().unwrap_or(usize::MAX), board),
                _ => (1, part),
            };
            if !(1..=MOST).contains(&count) || boards.len() + count > MOST {
                return Err(format!("`{text}`: llama.cpp has at most {MOST} boards"));
            }
            let board: NamedBoard = board.parse().map_err(|_| forms(text))?;
            boards.extend(std::iter::repeat_n(board, count));
        }
        if boards.len() < 2 {
            return Err(format!(
                "`{text}` is one board, which --device names; several are 2xorin-nano-8gb, or a list"
            ));
        }
        Ok(boards)
    }

    fn open(&self, request: &BoardRequest) -> Result<Vec<Board>, PlanError> {
        let board = |named: &NamedBoard| {
            Board::open(&BoardRequest {
                device: Some(named.device.clone()),
                is_preferred: false,
                power_mode: named.power_mode.clone().or(request.power_mode.clone()),
                ..request.clone()
            })
        };
        self.boards.iter().map(board).collect()
    }

    /// Whether `model` can be divided as asked for.
    fn check(&self, model: &ModelSpec) -> Result<(), PlanError> {
        let name = || model.name.clone();
        if self.mode == SplitMode::Tensor {
            let elements = model.layers.len() as f64 * model.dims.hidden as f64;
            let bytes = Bytes((tensor_split_bytes().unwrap_or(0.0) * elements) as u64);
            return Err(PlanError::TensorSplit {
                link: self.link.name.clone(),
                model: name(),
                bytes,
                milliseconds: self.link.seconds(bytes) * 1e3,
            });
        }
        let has_rows_of_blocks = model.dims.streams > 1 || model.dims.per_layer_embedding > 0;
        let why = if model.retrieval.is_some() {
            Some("a model that turns texts into numbers is small and not divided")
        } else if has_rows_of_blocks {
            Some("every block has its own embedding, and its traffic on the link is not planned")
        } else {
            None
        };
        if let Some(why) = why {
            return Err(PlanError::NotDivided { model: name(), why });
        }
        let (blocks, boards) = (model.layers.len(), self.boards.len());
        let own = usize::from(self.server != ServerPlace::Apart);
        let (given, needed) = (self.addresses.len(), boards - own);
        if given > 0 && given != needed {
            return Err(PlanError::Addresses { given, needed });
        }
        let is_fine = match &self.layers {
            None => blocks >= boards,
            Some(layers) => {
                layers.len() == boards
                    && layers.iter().all(|&count| count > 0)
                    && layers.iter().try_fold(0usize, |sum, &n| sum.checked_add(n)) == Some(blocks)
            }
        };
        if is_fine {
            return Ok(());
        }
        let given = self.layers.iter().flatten().map(usize::to_string);
        let given = given.collect::<Vec<_>>().join(",");
        Err(PlanError::Layers {
            model: name(),
            blocks,
            boards,
            given: if given.is_empty() {
                "none".to_owned()
            } else {
                given
            },
        })
    }
}

impl Planner {
    /// Plans the model on several boards, in each format that `request` asks for.
    ///
    /// # Errors
    /// As [`Planner::plan`]; where the runtime has no engine for it, and where the model cannot be divided as asked for.
    pub fn plan_cluster(
        &self,
        request: &Request,
        asked: &ClusterRequest,
    ) -> Result<Cluster, PlanError> {
        let boards = asked.open(&request.board)?;
        let targets: Vec<Target<'_>> = boards.iter().map(Board::target).collect();
        let cluster = boards::Cluster {
            targets: &targets,
            link: &asked.link,
            server: asked.server,
            layers: asked.layers.as_deref(),
        };
        let at = cluster.server_at().unwrap_or(0);
        let home = boards.get(at).or(boards.first()).cloned();
        let home = home.ok_or_else(|| PlanError::NotDivided {
            model: self.model.name.clone(),
            why: "no board is named",
        })?;
        let runtime = &home.runtime;
        let engine = engine(&runtime.id).ok_or_else(|| PlanError::OneBoard {
            runtime: runtime.name.clone(),
        })?;
        if engine.own_device.is_none() && asked.server != ServerPlace::Apart {
            return Err(PlanError::NoOwnDevice {
                runtime: runtime.name.clone(),
            });
        }
        asked.check(&self.model)?;
        let (workload, header) = self.prepare(&home, request)?;
        let alone = self.plan_with(home, request, workload, &header)?;
        let best_alone = best_alone(&self.model, &alone, &targets);
        let split = |plan: &Plan| cluster.split(&self.model, &plan.assignment, &alone.workload);
        let splits: Vec<Split> = alone.fit.plans.iter().map(split).collect();
        let choice = request
            .preference
            .choose(&offers(&alone.fit.plans, &splits));
        let taken = choice.taken.and_then(|taken| alone.fit.plans.get(taken));
        let launch = self.launch(&alone.board, request, &header, taken)?;
        let advice = if splits.iter().any(Split::fits) {
            Vec::new()
        } else {
            let known = known(request, &alone.workload);
            let others =
                self.common_candidates(&alone.board.runtime, request.rules, &header, known);
            let others = fit::fit(&self.model, others, alone.board.target(), &alone.workload);
            let plans: Vec<&Plan> = alone.fit.plans.iter().chain(&others.plans).collect();
            let wanted = choice.wanted.and_then(|wanted| plans.get(wanted).copied());
            let advice = wanted.map(|wanted| {
                let asked = boards::Asked {
                    model: &self.model,
                    wanted,
                    plans: &plans,
                    workload: &alone.workload,
                    cache_costs: &alone.fit.cache_costs,
                };
                Ok::<_, PlanError>(boards::advise(&cluster, asked, &device::list()?))
            });
            advice.transpose()?.unwrap_or_default()
        };
        drop(targets);
        Ok(Cluster {
            boards,
            splits,
            best_alone,
            choice,
            advice,
            launch,
            engine,
            alone,
        })
    }
}

/// Each format on the best of the boards, of which `alone` has the plans of one.
fn best_alone(model: &ModelSpec, alone: &Planned, targets: &[Target<'_>]) -> Vec<OneBoard> {
    let is_same = |a: &Target<'_>, b: &Target<'_>| {
        (&a.device.id, &a.mode.name) == (&b.device.id, &b.mode.name)
    };
    let formats = || {
        let plans = alone.fit.plans.iter();
        plans.map(|plan| Candidate {
            assignment: plan.assignment.clone(),
            file_bytes: plan.file_bytes,
            quality: plan.quality.clone(),
            notes: Vec::new(),
        })
    };
    let mut best: Vec<OneBoard> = Vec::new();
    for (board, target) in targets.iter().enumerate() {
        if targets
            .iter()
            .take(board)
            .any(|other| is_same(other, target))
        {
            continue;
        }
        let plans = if is_same(target, &alone.board.target()) {
            alone.fit.plans.clone()
        } else {
            fit::fit(model, formats().collect(), *target, &alone.workload).plans
        };
        let here = plans.into_iter().map(|plan| OneBoard { board, plan });
        if best.is_empty() {
            best = here.collect();
            continue;
        }
        for (best, here) in best.iter_mut().zip(here) {
            if is_better(&here.plan, &best.plan) {
                *best = here;
            }
        }
    }
    best
}

fn is_better(plan: &Plan, than: &Plan) -> bool {
    match (plan.fits(), than.fits()) {
        (true, true) => plan.rate() > than.rate(),
        (false, false) => plan.headroom() > than.headroom(),
        (fits, _) => fits,
    }
}

/// What each format offers on the boards.
fn offers(plans: &[Plan], splits: &[Split]) -> Vec<Offer> {
    let offer = |(plan, split): (&Plan, &Split)| Offer {
        fits: split.fits(),
        is_quantized_already: plan.assignment.is_stored() && plan.assignment.is_quantized(),
        rate: split.rates.map(|rates| rates.decode.expected),
        kld: plan.quality.as_ref().map(|quality| quality.kld),
        tensor_bytes: plan.tensor_bytes,
        file_bytes: plan.file_bytes,
    };
    plans.iter().zip(splits).map(offer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boards_are_counted_or_listed() {
        let named = |text: &str| {
            ClusterRequest::named(text).map(|boards| {
                let words = boards.iter().map(|board| match &board.power_mode {
                    Some(mode) => format!("{}@{mode}", board.device),
                    None => board.device.clone(),
                });
                words.collect::<Vec<_>>().join(" ")
            })
        };
        assert_eq!(
            named("2x orin-nano-8gb").unwrap(),
            "orin-nano-8gb orin-nano-8gb"
        );
        assert_eq!(
            named("2xorin-nano-8gb@15W, orin-nx-16gb").unwrap(),
            "orin-nano-8gb@15W orin-nano-8gb@15W orin-nx-16gb"
        );
        for bad in [
            "",
            "orin-nano-8gb",
            "0xa",
            "17xa",
            "99999999999999999999xa",
            "a,",
            "a@,b",
            "2x",
        ] {
            assert!(named(bad).is_err(), "{bad}");
        }
    }
}

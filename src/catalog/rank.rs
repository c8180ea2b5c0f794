//! Which models run on a board, and in which order they are worth a look.
//!
//! In: entries, a board and a request. Out: a [`Ranking`]. The plans are those of [`Planner::fit_on`]: this file only
//! sorts them.
//!
//! The rule: what decodes at reading speed or faster in a format near the original comes first. Among these the larger
//! size class comes first (a class is twice the one before), within a class the newer model, then the larger one.

use std::cmp::Reverse;
use std::thread;

use super::error::RankError;
use super::{Catalog, Entry, Task};
use crate::parallel;
use crate::plan::{Plan, Workload};
use crate::planner::{Board, Planner, Request};

/// What a user looks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wish {
    /// A task; without: any.
    pub task: Option<Task>,
    /// Licences by name, in any case; empty: any.
    pub licenses: Vec<String>,
}

/// The models of a catalogue on a board.
#[derive(Debug, Default)]
pub struct Ranking<'a> {
    /// What runs as asked, in the order of the rule.
    pub runs: Vec<Ranked<'a>>,
    /// What fits and is slower than asked.
    pub too_slow: Vec<&'a Entry>,
    /// What has no room.
    pub too_large: Vec<Larger<'a>>,
    /// What was not trained for a context as long as asked.
    pub too_short: Vec<&'a Entry>,
    /// Where images are asked for: what has no image encoder of a known kind.
    pub no_images: Vec<&'a Entry>,
}

/// A model that runs.
#[derive(Debug)]
pub struct Ranked<'a> {
    /// The model.
    pub entry: &'a Entry,
    /// The model as it was planned.
    pub planner: Planner,
    /// What it was planned for.
    pub workload: Workload,
    /// Its plan in the recommended format.
    pub plan: Plan,
}

/// A model that does not fit.
#[derive(Clone, Debug)]
pub struct Larger<'a> {
    /// The model.
    pub entry: &'a Entry,
    /// The id of the smallest shipped board on which it runs as asked, if there is one and it was looked for.
    pub board: Option<String>,
}

/// Tokens a second that a reader takes in: 238 words a minute (silent reading of English non-fiction, Brysbaert 2019,
/// doi.org/10.1016/j.jml.2019.104047) of 4/3 tokens each.
const READING: f64 = 238.0 / 60.0 * 4.0 / 3.0;

/// The divergence from the original, in nats a token, up to which a format counts as near it: Q4_K_M is below it and
/// Q3_K_S above it for Llama-3-8B (`profiles/quality.csv`).
const NEAR: f64 = 0.1;

/// Parameters of the largest model of the smallest size class.
const SMALLEST_CLASS: u64 = 750_000_000;

/// The size class of a number of parameters: 0 up to 0.75 B, and one more for each doubling.
pub fn size_class(parameters: u64) -> u32 {
    parameters
        .div_ceil(SMALLEST_CLASS)
        .max(1)
        .next_power_of_two()
        .ilog2()
}

impl Ranked<'_> {
    /// Whether it decodes slower than people read.
    pub fn is_slow(&self) -> bool {
        let rate = self.plan.rate();
        self.entry.writes() && rate.is_some_and(|rate| rate < READING)
    }

    /// Whether the recommended format is known to be far from the original.
    pub fn is_coarse(&self) -> bool {
        let quality = self.plan.quality.as_ref();
        quality.is_some_and(|quality| quality.kld > NEAR)
    }

    /// The place in the ranking: less is better.
    fn place(&self) -> impl Ord + use<'_> {
        let parameters = self.entry.parameters.count;
        (
            self.is_slow() || self.is_coarse(),
            Reverse(size_class(parameters)),
            Reverse(&self.entry.released),
            Reverse(parameters),
            &self.entry.id,
        )
    }
}

impl Wish {
    /// Whether an entry is what the user looks for.
    fn is_met(&self, entry: &Entry) -> bool {
        let is_licensed = |name: &String| name.eq_ignore_ascii_case(&entry.license);
        self.task.is_none_or(|task| entry.is_for(task))
            && (self.licenses.is_empty() || self.licenses.iter().any(is_licensed))
    }
}

impl Catalog {
    /// Plans every entry that meets `wish` on `board` as `request` asks, and ranks what runs. `boards` are searched, the
    /// first before the others, for what has no room; without any, nothing is searched.
    ///
    /// # Errors
    /// [`RankError::Plan`] for a request that nothing can be planned with.
    pub fn rank(
        &self,
        wish: &Wish,
        board: &Board,
        boards: &[Board],
        request: &Request,
    ) -> Result<Ranking<'_>, RankError> {
        let wished = self.entries.iter().filter(|entry| wish.is_met(entry));
        let wished: Vec<&Entry> = wished.collect();
        let mut ranking = Ranking::default();
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let outcomes = parallel::map(threads, wished.iter(), |entry| {
            outcome(entry, board, boards, request)
        });
        for outcome in outcomes {
            match outcome? {
                Outcome::Runs(ranked) => ranking.runs.push(*ranked),
                Outcome::TooSlow(entry) => ranking.too_slow.push(entry),
                Outcome::TooShort(entry) => ranking.too_short.push(entry),
                Outcome::TakesNoImages(entry) => ranking.no_images.push(entry),
                Outcome::TooLarge(larger) => ranking.too_large.push(larger),
            }
        }
        ranking.runs.sort_by(|a, b| a.place().cmp(&b.place()));
        Ok(ranking)
    }
}

/// Where an entry belongs.
enum Outcome<'a> {
    Runs(Box<Ranked<'a>>),
    TooSlow(&'a Entry),
    TooShort(&'a Entry),
    TakesNoImages(&'a Entry),
    TooLarge(Larger<'a>),
}

fn outcome<'a>(
    entry: &'a Entry,
    board: &Board,
    boards: &[Board],
    request: &Request,
) -> Result<Outcome<'a>, RankError> {
    let planner = entry.open()?;
    if !reaches(planner.model().dims.context, request) {
        return Ok(Outcome::TooShort(entry));
    }
    if request.workload.images > 0 && planner.model().projector.is_none() {
        return Ok(Outcome::TakesNoImages(entry));
    }
    let (workload, mut fit) = planner.fit_on(board, request)?;
    if let Some(taken) = fit.choice.taken {
        let plan = fit.plans.swap_remove(taken);
        return Ok(Outcome::Runs(Box::new(Ranked {
            entry,
            planner,
            workload,
            plan,
        })));
    }
    if fit.plans.iter().any(Plan::fits) {
        return Ok(Outcome::TooSlow(entry));
    }
    for larger in boards {
        let (_, fit) = planner.fit_on(larger, request)?;
        if fit.recommended().is_some() {
            let board = Some(larger.device.id.clone());
            return Ok(Outcome::TooLarge(Larger { entry, board }));
        }
    }
    Ok(Outcome::TooLarge(Larger { entry, board: None }))
}

/// Whether a model that was trained for `limit` tokens, if that is stated, can take the context and the prompt asked for
/// in each sequence.
fn reaches(limit: u64, request: &Request) -> bool {
    let workload = &request.workload;
    let asked = workload.context.map(|all| all / workload.parallel.max(1));
    let asked = asked.max(workload.prompt_tokens).unwrap_or(0);
    limit == 0 || asked <= limit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_class_is_twice_the_one_before() {
        let class = |billions: f64| size_class((billions * 1e9) as u64);
        assert_eq!(class(0.0), 0);
        assert_eq!(class(0.75), 0);
        assert_eq!(class(0.76), 1);
        assert_eq!((class(1.5), class(1.51)), (1, 2));
        assert_eq!((class(3.0), class(3.1), class(6.0)), (2, 3, 3));
        assert_eq!((class(7.6), class(12.0), class(12.2)), (4, 4, 5));
    }
}

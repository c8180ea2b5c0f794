//! `orinplan --version`: the release, what it was built with, the kernels of this processor, and the data it carries.

use crate::catalog::CATALOG;
use crate::device;
use crate::evidence::boards::{LINKS, PIPELINES};
use crate::evidence::quality::QUALITY;
use crate::evidence::speculation::{METHODS, SPECULATION};
use crate::evidence::{self, MEASUREMENTS, MODELS, POWER};
use crate::runtime;

/// The version in several lines.
pub(super) fn long() -> String {
    let features = [
        ("cli", true),
        ("decode", cfg!(feature = "decode")),
        ("hub", cfg!(feature = "hub")),
        ("pages", cfg!(feature = "pages")),
        ("cuda", cfg!(feature = "cuda")),
    ];
    let features = features.iter().filter(|(_, is_built)| *is_built);
    let features: Vec<&str> = features.map(|(name, _)| *name).collect();
    // A row a line, under a header.
    let rows = |table: &str| table.lines().count().saturating_sub(1);
    format!(
        "{}\nfeatures: {}\nkernels: {}\ndata: version {}; {} measurements of speed, {} of quality; catalogue of {} models",
        env!("CARGO_PKG_VERSION"),
        features.join(", "),
        kernels(),
        data(),
        rows(MEASUREMENTS),
        rows(QUALITY),
        models(),
    )
}

/// The version of the data: programs that print the same one predict from the same numbers.
fn data() -> String {
    let mut texts = vec![
        CATALOG,
        LINKS,
        MEASUREMENTS,
        METHODS,
        MODELS,
        PIPELINES,
        POWER,
        QUALITY,
        SPECULATION,
    ];
    texts.extend(device::texts());
    texts.extend(runtime::texts());
    evidence::fingerprint(&texts)
}

/// Models of the catalogue: an entry a line. Parsing it takes longer than all else that a help text needs.
fn models() -> usize {
    let lines = CATALOG.lines();
    lines.filter(|line| line.starts_with("    { id = ")).count()
}

#[cfg(feature = "decode")]
fn kernels() -> &'static str {
    crate::decode::kernels()
}

#[cfg(not(feature = "decode"))]
fn kernels() -> &'static str {
    "none, since this build runs no models"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;

    #[test]
    fn every_model_of_the_catalogue_is_counted() {
        assert_eq!(models(), Catalog::shipped().unwrap().entries.len());
    }
}

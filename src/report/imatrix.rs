//! `orinplan imatrix`: what was collected.

use std::path::Path;

use crate::foreign::Foreign;
use crate::quantize::ActivationSums;
use crate::report::screen::Screen;
use crate::units::counted;

/// The report for a terminal.
pub fn text(sums: &ActivationSums, path: &Path, columns: Option<usize>) -> String {
    let mut out = Screen::new(columns);
    let chunks = counted(u64::from(sums.chunks), "chunk", "chunks");
    let tensors = counted(sums.len() as u64, "tensor", "tensors");
    out.prose(&format!(
        "{} is the importance of the columns of {tensors}, over {chunks} of {} tokens of {}",
        Foreign(&path.to_string_lossy()),
        sums.chunk_tokens,
        Foreign(&sums.dataset),
    ));
    let (unreached, all) = sums.unreached();
    if unreached > 0 {
        out.prose(&format!(
                "note: no token reached {unreached} of {all} matrices of experts; all their columns count alike; use a longer text"
            ));
    }
    out.finish()
}

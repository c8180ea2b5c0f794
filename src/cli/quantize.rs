//! `orinplan quantize`: open, describe, assign, write, report.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, bail};

use super::args::QuantizeArgs;
use super::{Outcome, mix, output, projector, request, written};
use crate::checkpoint::{Checkpoint, SourceFormat};
use crate::model::Unknown;
use crate::planner::Planner;
use crate::quantize::{self, Importance, Job, Options};
use crate::scheme::{Container, Overrides, Rules, SCHEMES, Scheme, check_types};

pub(super) fn run(args: &QuantizeArgs) -> anyhow::Result<Outcome> {
    let listed = args.types.as_deref().map(request::listed).transpose()?;
    let scheme = match (&args.scheme, &listed) {
        (Some(id), _) => Some(scheme(id)?),
        (None, Some(_)) => None,
        (None, None) => return mix::run(args),
    };
    if let Some(scheme) = scheme.filter(|_| args.projector) {
        return projector::run(args, scheme);
    }
    if let Some(scheme) = scheme.filter(|scheme| scheme.container == Container::Safetensors) {
        refuse_gguf_options(args, scheme)?;
        refuse_file_name(args, scheme)?;
    }
    let stores = written::stores(args);
    let planner = Planner::open_in(&args.model, &stores, unknown)?;
    let (checkpoint, model) = (planner.checkpoint(), planner.model());
    written::refuse_keep_source(args, checkpoint)?;
    let list = args.types.as_deref().unwrap_or(Path::new(""));
    let listed = listed.unwrap_or_default();
    if args.types.is_some() {
        check_types(&listed.types, model).with_context(|| list.display().to_string())?;
    }
    let scheme = scheme.unwrap_or_else(|| listed.scheme(model));
    // The matrix of the list makes the file of the list again; another one may be named instead.
    let of_list = request::imatrix(list, &listed).filter(|_| args.imatrix.is_none());
    let importance = match (&args.imatrix, &of_list) {
        (Some(path), _) => Some(Importance::open(path)?),
        (None, Some(path)) => Some(request::opened(list, path)?),
        (None, None) => None,
    };
    let options = Options {
        rules: args.rules,
        overrides: Overrides {
            exact: listed.types,
            ..overrides(args)
        },
        importance: importance.as_ref(),
        allow_requantize: args.allow_requantize,
        ..Options::of(scheme)
    };
    let files = quantize::weight_files(checkpoint, scheme)?;
    let job = Job::new(checkpoint, &files, model, &options)?;
    let read = [args.imatrix.clone(), args.types.clone(), of_list];
    let inputs = output::inputs(checkpoint, read.into_iter().flatten());
    written::make(args, &planner, &job, scheme, inputs)
}

/// Refuses the flags that only GGUF files have, for a safetensors scheme.
fn refuse_gguf_options(args: &QuantizeArgs, scheme: &Scheme) -> anyhow::Result<()> {
    let given = [
        ("--imatrix", args.imatrix.is_some()),
        ("--tensor-type", !args.tensor_type.is_empty()),
        (
            "--token-embedding-type",
            args.token_embedding_type.is_some(),
        ),
        ("--output-tensor-type", args.output_tensor_type.is_some()),
        ("--pure", args.pure),
        ("--allow-requantize", args.allow_requantize),
        ("--rules", args.rules != Rules::default()),
    ];
    let given: Vec<&str> = given
        .iter()
        .filter(|(_, is)| *is)
        .map(|(name, _)| *name)
        .collect();
    if given.is_empty() {
        return Ok(());
    }
    bail!(
        "{} is for GGUF files, but scheme {} makes a directory of safetensors; leave it out, or choose a scheme such as q4_k_m",
        given.join(", "),
        scheme.id
    )
}

/// Refuses a directory whose name ends like a file's: it would be taken for one.
fn refuse_file_name(args: &QuantizeArgs, scheme: &Scheme) -> anyhow::Result<()> {
    let Some(output) = args.output.as_deref() else {
        return Ok(());
    };
    let end = output.extension().and_then(|end| end.to_str());
    let end = end.map(str::to_ascii_lowercase).unwrap_or_default();
    if !["gguf", "safetensors"].contains(&end.as_str()) {
        return Ok(());
    }
    let way_out = match end.as_str() {
        "gguf" => ", or choose a scheme such as q4_k_m, which makes a GGUF",
        _ => "",
    };
    bail!(
        "{}: is named like a file, but scheme {} makes a directory; name it {}{way_out}",
        output.display(),
        scheme.id,
        output.with_extension("").display(),
    )
}

/// The scheme of an id.
pub(super) fn scheme(id: &str) -> anyhow::Result<&'static Scheme> {
    let Some(scheme) = Scheme::get(id) else {
        let ids = || SCHEMES.iter().map(|scheme| scheme.id);
        bail!(
            "there is no scheme `{id}`{}; known: {}",
            crate::nearest::hint(id, ids()),
            ids().collect::<Vec<_>>().join(", ")
        );
    };
    Ok(scheme)
}

/// A GGUF is quantized tensor by tensor, whether or not its architecture is known.
fn unknown(checkpoint: &Checkpoint) -> Unknown {
    match checkpoint.format {
        SourceFormat::Gguf => Unknown::WeightsOnly,
        _ => Unknown::Refuse,
    }
}

fn overrides(args: &QuantizeArgs) -> Overrides {
    Overrides {
        exact: BTreeMap::new(),
        tensors: args.tensor_type.clone(),
        token_embedding: args.token_embedding_type,
        output: args.output_tensor_type,
        pure: args.pure,
        importance: args.imatrix.is_some(),
    }
}

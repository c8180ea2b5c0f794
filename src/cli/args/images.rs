//! The flags of models that look at images.

use clap::{Args, ValueEnum};

use super::parse::parse_image;
use crate::model::projector::ImageSize;

/// What the model looks at.
#[derive(Debug, Args)]
pub(in crate::cli) struct ImageArgs {
    /// Size of the images, such as 1024x768 [default: the image encoder's own]
    #[arg(long, value_name = "WxH", value_parser = parse_image, conflicts_with = "text_only")]
    pub image: Option<ImageSize>,
    /// Number of images; their tokens are added to those of --prompt-tokens [default: 1 with --image, else 0]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=4096), conflicts_with = "text_only")]
    pub images: Option<u64>,
    /// Where the image encoder runs; memory is the same, the CPU is slower
    #[arg(
        long,
        value_enum,
        value_name = "WHERE",
        default_value_t,
        conflicts_with = "text_only"
    )]
    pub projector: ProjectorPlace,
}

/// Where the image encoder runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum ProjectorPlace {
    /// With the model
    #[default]
    Gpu,
    /// On the CPU
    Cpu,
}

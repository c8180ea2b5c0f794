//! The flags of several boards, and the form of their list that has a space.

use std::ffi::OsString;

use clap::{Args, ValueEnum};

use crate::evidence::boards::Link;
use crate::plan::boards::ServerPlace;
use crate::planner::{ClusterRequest, NamedBoard, SplitMode};

/// Flags about one board. Each flag about several is declared to conflict with them: a flag that merely requires --boards
/// is allowed without it beside one of these.
const OF_ONE_BOARD: [&str; 3] = ["device", "draft", "explain"];

/// Several boards that share a model.
#[derive(Debug, Args)]
#[command(next_help_heading = "Several boards")]
pub(in crate::cli) struct BoardsArgs {
    /// Boards that share the model by llama.cpp's RPC engine, in the order of their blocks: 2xorin-nano-8gb, or a list
    /// such as orin-nx-16gb@25W,orin-nano-8gb
    #[arg(long, value_name = "LIST", value_parser = parse_boards, conflicts_with_all = OF_ONE_BOARD)]
    pub boards: Option<NamedBoards>,
    /// Link between them: 1gbe, 2.5gbe, 10gbe, or payload rate and round trip such as 110MB/s,0.3ms [default: 1gbe]
    #[arg(long, value_name = "KIND|RATE,LATENCY", requires = "boards", conflicts_with_all = OF_ONE_BOARD, value_parser = Link::named)]
    pub link: Option<Link>,
    /// Where llama-server runs: on the board with the last blocks, so that logits stay there; with the first; or on a
    /// machine beside the boards
    #[arg(
        long,
        value_enum,
        value_name = "WHERE",
        requires = "boards",
        conflicts_with_all = OF_ONE_BOARD,
        default_value_t
    )]
    pub server_on: ServerOn,
    /// Blocks of each board, such as 26,22 [default: the division that fits and whose slowest board is fastest]
    #[arg(long, value_name = "N,..", requires = "boards", conflicts_with_all = OF_ONE_BOARD, value_delimiter = ',')]
    pub layers: Option<Vec<usize>>,
    /// What to divide, by llama.cpp's names: layer (tensor is refused with the reason)
    #[arg(
        long,
        value_enum,
        value_name = "MODE",
        requires = "boards",
        conflicts_with_all = OF_ONE_BOARD,
        default_value_t
    )]
    pub split_mode: SplitModeArg,
    /// Addresses of the boards that llama-server does not run on, for the printed lines [default: board-1:50052 and so on]
    #[arg(long, value_name = "HOST:PORT,..", requires = "boards", conflicts_with_all = OF_ONE_BOARD, value_delimiter = ',', value_parser = parse_address)]
    pub rpc: Vec<String>,
}

/// A list of boards.
#[derive(Clone, Debug)]
pub(in crate::cli) struct NamedBoards(pub Vec<NamedBoard>);

/// Where the server runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum ServerOn {
    /// On the board with the last blocks
    #[default]
    Last,
    /// On the board with the first blocks
    First,
    /// On a machine beside the boards
    Apart,
}

/// What is divided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum SplitModeArg {
    /// Runs of blocks
    #[default]
    Layer,
    /// Every tensor
    Tensor,
}

impl BoardsArgs {
    /// What is asked of several boards, if it is.
    pub(in crate::cli) fn request(&self) -> Option<ClusterRequest> {
        let boards = self.boards.as_ref()?;
        Some(ClusterRequest {
            boards: boards.0.clone(),
            link: self.link.clone().unwrap_or_else(Link::usual),
            server: match self.server_on {
                ServerOn::Last => ServerPlace::Last,
                ServerOn::First => ServerPlace::First,
                ServerOn::Apart => ServerPlace::Apart,
            },
            layers: self.layers.clone(),
            mode: match self.split_mode {
                SplitModeArg::Layer => SplitMode::Layer,
                SplitModeArg::Tensor => SplitMode::Tensor,
            },
            addresses: self.rpc.clone(),
        })
    }
}

fn parse_boards(text: &str) -> Result<NamedBoards, String> {
    ClusterRequest::named(text).map(NamedBoards)
}

fn parse_address(text: &str) -> Result<String, String> {
    let is_plain = |host: &str| {
        let known = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        !host.is_empty() && host.chars().all(known)
    };
    let parts = text.rsplit_once(':');
    let fine = parts.is_some_and(|(host, port)| {
        is_plain(host) && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    fine.then(|| text.to_owned())
        .ok_or_else(|| "an address reads 192.168.1.11:50052 or board-1:50052".to_owned())
}

/// `arguments` with `--boards 2x orin-nano-8gb` as one value: so it is often written.
pub(in crate::cli) fn joined(arguments: Vec<OsString>) -> Vec<OsString> {
    let mut joined: Vec<OsString> = Vec::with_capacity(arguments.len());
    let mut after_flag = false;
    let mut open = false;
    for argument in arguments {
        match joined.last_mut().filter(|_| open) {
            Some(count) => {
                count.push(&argument);
                (open, after_flag) = (false, false);
            }
            None => {
                let text = argument.to_str().unwrap_or_default();
                let digits = text.trim_end_matches(['x', 'X']);
                let is_count = digits.len() + 1 == text.len()
                    && !digits.is_empty()
                    && digits.bytes().all(|byte| byte.is_ascii_digit());
                open = after_flag && is_count;
                after_flag = text == "--boards";
                joined.push(argument);
            }
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_and_a_board_are_one_value() {
        let joined = |line: &str| {
            let words = joined(line.split(' ').map(OsString::from).collect());
            let words = words.iter().map(|word| word.to_string_lossy().into_owned());
            words.collect::<Vec<_>>().join("|")
        };
        assert_eq!(
            joined("orinplan fit m --boards 2x orin-nano-8gb --link 1gbe"),
            "orinplan|fit|m|--boards|2xorin-nano-8gb|--link|1gbe"
        );
        for same in [
            "fit --boards 2xa m",
            "fit --boards a,b m",
            "fit 2x m",
            "fit --boards",
            "fit --boards 2x",
        ] {
            assert_eq!(joined(same), same.replace(' ', "|"), "{same}");
        }
    }
}

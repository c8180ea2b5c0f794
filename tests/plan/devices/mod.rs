//! Boards: the shipped ones, the machine at hand, and a user's own file.

mod boards;
mod detect;
mod files;

//! The binary as a user runs it: its messages and exit codes, and what it survives.

mod command_line;
mod doctor;
mod merge;

#[path = "../support/common.rs"]
mod common;

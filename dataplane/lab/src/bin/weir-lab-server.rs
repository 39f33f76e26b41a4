//! The application that runs inside the pods of tests and benchmarks; see
//! [`weir_lab::server`].

use std::process::ExitCode;

fn main() -> ExitCode {
    weir_lab::server::main(std::env::args_os())
}

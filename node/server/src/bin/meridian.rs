//! The command line.

fn main() -> std::process::ExitCode {
    meridian_server::cli::meridian()
}

//! A regional node.

fn main() -> std::process::ExitCode {
    meridian_server::cli::node(meridian_server::roles::regional)
}

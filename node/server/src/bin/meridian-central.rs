//! A central node.

fn main() -> std::process::ExitCode {
    meridian_server::cli::node(meridian_server::roles::central)
}

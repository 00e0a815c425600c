//! The live channel by itself.

fn main() -> std::process::ExitCode {
    meridian_server::cli::node(
        meridian_server::config::Role::Live,
        "The live channel by itself: as an edge serves it, beside nothing else",
        meridian_server::roles::live,
    )
}

//! A regional node.

fn main() -> std::process::ExitCode {
    meridian_server::cli::node(
        meridian_server::config::Role::Regional,
        "A regional node: a full copy for its region and the edges below",
        meridian_server::roles::regional,
    )
}

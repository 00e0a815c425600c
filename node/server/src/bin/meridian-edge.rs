//! An edge node.

fn main() -> std::process::ExitCode {
    meridian_server::cli::node(
        meridian_server::config::Role::Edge,
        "An edge node: answers checks by the part it holds, and passes the rest on",
        meridian_server::roles::edge,
    )
}

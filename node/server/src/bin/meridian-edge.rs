//! An edge node.

fn main() -> std::process::ExitCode {
    meridian_server::cli::node(
        "An edge node: answers checks by the part it holds, and passes the rest on",
        meridian_server::roles::edge,
    )
}

//! A central node.

fn main() -> std::process::ExitCode {
    meridian_server::cli::node(
        meridian_server::config::Role::Central,
        "A central node: the truth and the only writer of a product",
        meridian_server::roles::central,
    )
}

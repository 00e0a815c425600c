//! x
fn main() {
    println!("{}", meridian_server::api::grpc::SERVICE);
}

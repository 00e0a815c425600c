use super::*;

/// What the system holds for a client that reads nothing, when it takes no more.
async fn held(prepare: impl Fn(&TcpStream)) -> u64 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap());
    let (client, accepted) = tokio::join!(client, listener.accept());
    let (client, (stream, _)) = (client.unwrap(), accepted.unwrap());
    prepare(&stream);
    let mut written = 0;
    // It takes more until nothing is on its way any longer.
    while tokio::time::timeout(Duration::from_millis(200), stream.writable())
        .await
        .is_ok()
    {
        if let Ok(bytes) = stream.try_write(&[0; 4096]) {
            written += u64::try_from(bytes).unwrap();
        }
    }
    written - rustix::io::ioctl_fionread(&client).unwrap()
}

#[tokio::test]
async fn little_is_held_for_a_client_that_reads_nothing() {
    let bytes = HttpConnection::UNSENT.unwrap();
    let bounded = held(|stream| hold_at_most(stream, bytes)).await;
    // It counts by segments, which are large here.
    assert!(bounded <= u64::from(bytes) + 64 * 1024, "{bounded}");
    assert!(held(|_| ()).await > 4 * bounded);
}

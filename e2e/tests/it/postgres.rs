use meridian_e2e::Postgres;

/// What `psql` prints for one statement.
pub(crate) async fn sql(url: &str, statement: &str) -> String {
    meridian_e2e::sql(url, statement).await.unwrap()
}

#[tokio::test]
async fn data_and_address_survive_a_stop_and_a_crash() {
    let mut server = Postgres::start().await.unwrap();
    let url = server.url();
    assert_eq!(sql(&url, "show fsync").await, "on");
    sql(&url, "create table kept as select 'stop' as after").await;

    server.stop().await.unwrap();
    assert!(!server.process().is_running().unwrap());
    server.start_again().await.unwrap();
    sql(&url, "insert into kept values ('crash')").await;

    server.kill().await;
    server.start_again().await.unwrap();
    assert_eq!(sql(&url, "select after from kept").await, "stop\ncrash");
    assert_eq!(server.url(), url);
}

#[tokio::test]
async fn two_servers_stand_side_by_side() {
    let (one, other) = tokio::join!(Postgres::start(), Postgres::start());
    assert_ne!(one.unwrap().url(), other.unwrap().url());
}

//! A node's database over TLS, with a certificate made for the test.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use meridian_e2e::{Postgres, Process, Workdir, free_port, tools};

use crate::system::{Node, Role};
use crate::until::{heavy, until};

const SOON: Duration = Duration::from_secs(30);
const KEY: [&str; 5] = [
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:prime256v1",
    "-nodes",
];

#[tokio::test]
async fn postgres_is_reached_over_tls_and_only_by_its_own_certificate() {
    let _leave = heavy().await;
    let server = Postgres::start().await.unwrap();
    let url = server.database("central").await.unwrap();
    let dir = Workdir::new("tls").unwrap();
    certify(dir.path());
    serve_certificate(&server, dir.path()).await;

    let authority = dir.path().join("ca.crt");
    let trusted = format!("sslmode=verify-full&sslrootcert={}", authority.display());
    let by_name = url.replace("127.0.0.1", "localhost");
    for parameters in ["sslmode=require", &trusted] {
        let mut central = node(&dir, &format!("{by_name}?{parameters}"));
        central.start().await;
        let plain = sql(
            &server,
            "select count(*) from pg_stat_activity join pg_stat_ssl using (pid) where datname = 'central' and not ssl",
        );
        assert_eq!(plain.await, "0", "{parameters}");
        central.process.stop().await.unwrap();
    }

    for (url, why) in [
        (format!("{by_name}?sslmode=verify-full"), "UnknownIssuer"),
        (format!("{url}?{trusted}"), "not valid for name"),
    ] {
        let mut central = node(&dir, &url);
        central.process.start().unwrap();
        central.listening().await;
        until(&format!("'{why}' in the log"), SOON, async || {
            let log = central.log();
            if log.contains(why) { Ok(()) } else { Err(log) }
        })
        .await;
        central.process.stop().await.unwrap();
    }
}

fn node(dir: &Workdir, url: &str) -> Node {
    let nobody = format!("127.0.0.1:{}", free_port().unwrap());
    let datastore = format!("datastore: {{url: \"{url}\", minConnections: 2, acquireTimeout: 2s}}");
    Node::new(Role::Central, dir, &nobody, &datastore)
}

/// Makes an authority, and a certificate of it for `localhost`.
fn certify(dir: &Path) {
    let openssl = |args: &[&str]| {
        let made = Command::new("openssl")
            .args(args)
            .current_dir(dir)
            .output()
            .unwrap_or_else(|why| panic!("openssl, which comes with PostgreSQL: {why}"));
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
    };
    let request = ["req", "-subj", "/CN=test authority", "-x509", "-days", "2"];
    openssl(&[&request[..], &KEY, &["-keyout", "ca.key", "-out", "ca.crt"]].concat());
    let request = [
        "req",
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=DNS:localhost",
    ];
    openssl(
        &[
            &request[..],
            &KEY,
            &["-keyout", "server.key", "-out", "server.csr"],
        ]
        .concat(),
    );
    openssl(&[
        "x509",
        "-req",
        "-in",
        "server.csr",
        "-CA",
        "ca.crt",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-copy_extensions",
        "copy",
        "-days",
        "2",
        "-out",
        "server.crt",
    ]);
}

/// Has the server use the certificate. It writes the files itself, since it refuses a key that others can read.
async fn serve_certificate(server: &Postgres, dir: &Path) {
    for file in ["server.key", "server.crt"] {
        let text = fs::read_to_string(dir.join(file)).unwrap();
        let lines = text.trim().replace('\n', "'),('");
        let copy = format!("copy (values ('{lines}')) to program 'umask 077; cat > {file}'");
        sql(server, &copy).await;
    }
    sql(server, "alter system set ssl = on").await;
    sql(server, "select pg_reload_conf()").await;
    until("the server offers TLS", SOON, async || {
        let ssl = sql(server, "show ssl").await;
        if ssl == "on" { Ok(()) } else { Err(ssl) }
    })
    .await;
}

async fn sql(server: &Postgres, statement: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let psql = tools::postgres_bin().unwrap().join("psql");
    let mut psql = Process::new("psql", psql, dir.path())
        .args([
            "--no-psqlrc",
            "--tuples-only",
            "--no-align",
            "--set=ON_ERROR_STOP=1",
        ])
        .args(["--command", statement])
        .args([server.url()]);
    psql.start().unwrap();
    psql.finish(SOON).await.unwrap();
    fs::read_to_string(psql.log()).unwrap().trim().to_owned()
}

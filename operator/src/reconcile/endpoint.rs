//! Names of servers and databases, made alike where they mean the same.

/// `host:port`, in one form for all ways to write it in a namespace of this cluster.
#[must_use]
pub fn endpoint(address: &str, default_port: &str, namespace: &str) -> String {
    let address = address.trim();
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => {
            (host, port)
        }
        _ => (address, default_port),
    };
    let host = host.to_ascii_lowercase();
    let host = host.trim_end_matches('.');
    let host = host.strip_suffix(".cluster.local").unwrap_or(host);
    let host = host.strip_suffix(".svc").unwrap_or(host);
    let is_bare = !host.contains(['.', ':']) && host != "localhost";
    if is_bare {
        format!("{host}.{namespace}:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// The database on a server that a URL leads to, without user and options; `None` where it is not on a server.
#[must_use]
pub fn database(url: &str, namespace: &str) -> Option<String> {
    const PORT: &str = "5432";
    let (scheme, rest) = url.trim().split_once("://")?;
    if !matches!(scheme, "postgres" | "postgresql") {
        return None;
    }
    let rest = rest.split(['?', '#']).next().unwrap_or(rest);
    let (authority, name) = rest.split_once('/').unwrap_or((rest, ""));
    let (user, address) = authority.rsplit_once('@').unwrap_or(("", authority));
    // A database that is not named is that of the user's name.
    let user = user.split(':').next().unwrap_or(user);
    let name = if name.is_empty() { user } else { name };
    Some(format!("{}/{name}", endpoint(address, PORT, namespace)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_the_same_is_written_alike() {
        for (one, other, same) in [
            ("kafka:9092", "kafka.shop.svc.cluster.local.:9092", true),
            ("KAFKA.shop", "kafka:9092", true),
            ("kafka:9092", "kafka.other:9092", false),
            ("kafka:9092", "kafka:9093", false),
            ("[::1]:9092", "[::1]", true),
            ("10.0.0.1", "10.0.0.1:9092", true),
            ("kafka.example.com:9092", "kafka.example.com.", true),
        ] {
            let alike = endpoint(one, "9092", "shop") == endpoint(other, "9092", "shop");
            assert_eq!(alike, same, "{one} {other}");
        }
    }

    #[test]
    fn a_database_is_the_same_whoever_asks_and_how() {
        let database = |url| database(url, "shop");
        let found = database("postgres://meridian:se:cret@DB:5432/eu?sslmode=require");
        assert_eq!(found.as_deref(), Some("db.shop:5432/eu"));
        assert_eq!(database("postgresql://other@db.shop.svc/eu"), found);
        assert_ne!(database("postgres://db/us"), found);
        assert_eq!(database("postgres://eu@db"), found);
        for none in ["sqlite:///var/lib/a.db", "memory:", "value"] {
            assert_eq!(database(none), None);
        }
    }
}

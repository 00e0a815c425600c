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

/// The database on a server that a URL leads to, without user and options; `None` where it is not on a server. Parts are
/// understood as nodes' database driver does: what the query says comes before what the rest does, the last before others.
#[must_use]
pub fn database(url: &str, namespace: &str) -> Option<String> {
    let (scheme, rest) = url.trim().split_once("://")?;
    // MySQL's driver takes nothing of the place from the query but a socket.
    let (default_port, is_mysql) = match scheme.to_ascii_lowercase().as_str() {
        "postgres" | "postgresql" => ("5432", false),
        "mysql" | "mariadb" => ("3306", true),
        _ => return None,
    };
    let rest = rest.split('#').next().unwrap_or(rest);
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, name) = place.split_once('/').unwrap_or((place, ""));
    let (user, address) = authority.rsplit_once('@').unwrap_or(("", authority));
    let user = decoded(user.split(':').next().unwrap_or(user));
    let name = decoded(name.trim_start_matches('/'));
    let (host, port) = host_and_port(address);
    let said = |keys: &[&str]| {
        let pairs = query.split('&').rev();
        let mut pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let (_, value) = pairs.find(|(key, _)| keys.contains(&of_form(key).as_str()))?;
        Some(of_form(value))
    };
    if is_mysql && said(&["socket"]).is_some() {
        return None;
    }
    let said = |keys: &[&str]| said(keys).filter(|_| !is_mysql);
    let host = said(&["host", "hostaddr"]).unwrap_or_else(|| decoded(host));
    // A socket is a file on the node's own machine.
    if host.starts_with('/') {
        return None;
    }
    let host = if host.is_empty() { "localhost" } else { &host };
    let port = said(&["port"]).or_else(|| port.map(str::to_owned));
    let port = port.unwrap_or_else(|| default_port.to_owned());
    let host = match host.contains(':') && !host.starts_with('[') {
        true => format!("[{host}]"),
        false => host.to_owned(),
    };
    // A database of PostgreSQL that is not named is that of the user's name.
    let named = said(&["dbname"]).unwrap_or(name);
    let name = match named.is_empty() && !is_mysql {
        true => said(&["user"]).unwrap_or(user),
        false => named,
    };
    Some(format!(
        "{}/{name}",
        endpoint(&format!("{host}:{port}"), default_port, namespace)
    ))
}

fn host_and_port(address: &str) -> (&str, Option<&str>) {
    match address.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => {
            (host, Some(port).filter(|port| !port.is_empty()))
        }
        _ => (address, None),
    }
}

/// A part of a query: `+` is a space there.
fn of_form(text: &str) -> String {
    decoded(&text.replace('+', " "))
}

/// With `%41` and the like as what they stand for.
fn decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let hex = part
            .get(..2)
            .filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                bytes.extend(part.bytes().skip(2));
            }
            None => {
                bytes.push(b'%');
                bytes.extend(part.bytes());
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
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
        for same in [
            "postgres:///eu?host=db",
            "postgres://u@elsewhere:1/other?dbname=eu&host=db&port=5432",
            "postgres://u@db/us?dbname=us&dbname=eu",
            "postgres://u@db/%65u",
            "postgres://u@db//eu#fragment",
            "postgres://u@elsewhere/?host=db&dbname=e%75",
            "postgres://other@db:5432?user=eu",
            "POSTGRES://db/eu?ho%73t=db",
        ] {
            assert_eq!(database(same), found, "{same}");
        }
        let six = database("postgres://u@[fd00::1]:5433/eu");
        assert_eq!(six.as_deref(), Some("[fd00::1]:5433/eu"));
        for same in [
            "postgres://u@db/eu?host=fd00::1&port=5433",
            "postgres://u@db/eu?port=5433&hostaddr=fd00::1",
        ] {
            assert_eq!(database(same), six);
        }
        let mysql = database("mysql://eu:secret@db/eu");
        assert_eq!(mysql.as_deref(), Some("db.shop:3306/eu"));
        for same in ["mysql://db.shop:3306/eu?host=us", "mariadb://other@DB/eu"] {
            assert_eq!(database(same), mysql, "{same}");
        }
        let odd = database("postgres://u@db/100%+%zz");
        assert_eq!(odd.as_deref(), Some("db.shop:5432/100%+%zz"));
        for none in [
            "sqlite:///var/lib/a.db",
            "memory:",
            "value",
            "postgres://%2Fvar%2Frun/eu",
            "postgres:///eu?host=/var/run",
            "mysql://db/eu?socket=/run/mysqld.sock",
        ] {
            assert_eq!(database(none), None);
        }
    }
}

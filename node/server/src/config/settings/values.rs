//! How values of each kind are written in the environment, and shown.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use humantime_serde::re::humantime::{format_duration, parse_duration};

use crate::api::authzen::BaseUrl;
use crate::config::authn::{Method, Secrets};
use crate::config::live::Scope;

/// Seconds of a day.
const DAY: u64 = 24 * 60 * 60;

/// A value that can be compared with a range.
#[derive(Clone, Copy)]
pub(super) enum Amount {
    Count(u64),
    Time(Duration),
}

/// How a setting of some kind is written in the environment.
pub(super) trait Value: Sized {
    /// Reads it.
    ///
    /// # Errors
    /// What it must look like.
    fn read(text: &str) -> Result<Self, &'static str>;

    /// As it would be written; nothing for one that is not set.
    fn show(&self) -> String;

    /// What a range bounds of it.
    fn amount(&self) -> Option<Amount> {
        None
    }

    /// Whether it is a list in the file.
    fn is_list(&self) -> bool {
        false
    }
}

/// A time as people write it.
pub(super) fn words(time: Duration) -> String {
    let days = time.as_secs() / DAY;
    if days > 1 {
        // Years and months would not be whole.
        return format!("{days}days");
    }
    format_duration(time).to_string()
}

macro_rules! numbers {
    ($($number:ty),+) => {$(
        impl Value for $number {
            fn read(text: &str) -> Result<Self, &'static str> {
                text.parse().map_err(|_| "use a whole number that is not below 0, and not beyond its range")
            }

            fn show(&self) -> String {
                self.to_string()
            }

            fn amount(&self) -> Option<Amount> {
                u64::try_from(*self).ok().map(Amount::Count)
            }
        }
    )+};
}

numbers!(u16, u32, u64, usize);

impl Value for bool {
    fn read(text: &str) -> Result<Self, &'static str> {
        text.parse().map_err(|_| "use true or false")
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for Scope {
    fn read(text: &str) -> Result<Self, &'static str> {
        match text {
            "product" => Ok(Self::Product),
            "region" => Ok(Self::Region),
            _ => Err("use product or region"),
        }
    }

    fn show(&self) -> String {
        format!("{self:?}").to_lowercase()
    }
}

impl Value for f64 {
    fn read(text: &str) -> Result<Self, &'static str> {
        text.parse().map_err(|_| "use a number, like 0.05")
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for Duration {
    /// Like `1m30s`, as Go writes it too; so also plain 0.
    fn read(text: &str) -> Result<Self, &'static str> {
        if text == "0" {
            return Ok(Self::ZERO);
        }
        parse_duration(text).map_err(|_| "use a time with its unit, like 500ms, 3s or 1m30s")
    }

    fn show(&self) -> String {
        words(*self)
    }

    fn amount(&self) -> Option<Amount> {
        Some(Amount::Time(*self))
    }
}

impl Value for String {
    fn read(text: &str) -> Result<Self, &'static str> {
        Ok(text.to_owned())
    }

    fn show(&self) -> String {
        self.clone()
    }
}

impl Value for SocketAddr {
    /// `IP:port`; as OpenFGA's server also `:port` and `localhost:port`.
    fn read(text: &str) -> Result<Self, &'static str> {
        let named = || {
            let (host, port) = text.rsplit_once(':')?;
            let ip = match host {
                "" => Ipv4Addr::UNSPECIFIED,
                "localhost" => Ipv4Addr::LOCALHOST,
                _ => return None,
            };
            Some(Self::new(IpAddr::V4(ip), port.parse().ok()?))
        };
        let address = text.parse().ok();
        address
            .or_else(named)
            .ok_or("use IP:port, like 0.0.0.0:8081")
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for PathBuf {
    fn read(text: &str) -> Result<Self, &'static str> {
        Ok(text.into())
    }

    fn show(&self) -> String {
        self.display().to_string()
    }
}

impl Value for BaseUrl {
    fn read(text: &str) -> Result<Self, &'static str> {
        let told = "use a URL like https://pdp.example.com, without user, query and fragment";
        text.parse().map_err(|_| told)
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for Method {
    fn read(text: &str) -> Result<Self, &'static str> {
        match text {
            "none" => Ok(Self::None),
            "preshared" => Ok(Self::Preshared),
            "oidc" => Ok(Self::Oidc),
            _ => Err("use none, preshared or oidc"),
        }
    }

    fn show(&self) -> String {
        format!("{self:?}").to_lowercase()
    }
}

impl Value for Vec<String> {
    fn read(text: &str) -> Result<Self, &'static str> {
        let parts = text.split(',').map(str::trim);
        Ok(parts
            .filter(|part| !part.is_empty())
            .map(str::to_owned)
            .collect())
    }

    fn show(&self) -> String {
        self.join(",")
    }

    fn is_list(&self) -> bool {
        true
    }
}

impl Value for Secrets {
    fn read(text: &str) -> Result<Self, &'static str> {
        Vec::read(text).map(Self::new)
    }

    fn show(&self) -> String {
        String::new()
    }

    fn is_list(&self) -> bool {
        true
    }
}

impl<T: Value> Value for Option<T> {
    /// Nothing is what is not set.
    fn read(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() {
            return Ok(None);
        }
        T::read(text).map(Some)
    }

    fn show(&self) -> String {
        self.as_ref().map(T::show).unwrap_or_default()
    }

    fn amount(&self) -> Option<Amount> {
        self.as_ref().and_then(T::amount)
    }
}

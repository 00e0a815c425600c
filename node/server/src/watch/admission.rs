//! Who may connect, and how many. Those who may watch have seats that nobody else takes: who has not shown who it is waits in a
//! place of another kind, of which there are few for each address.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use http::{HeaderMap, StatusCode, Uri, header};
use meridian_live_channel::sockets::{self, Counts, Taken};
use meridian_model::{ApiError, Code};

use super::Watch;
use super::asked::Asked;
use crate::api::cors;
use crate::authn::{Caller, Unknown};

/// Sockets of a node that have shown no good token.
const WAITING: usize = 1000;
/// Those of one address.
const WAITING_OF_ADDRESS: usize = 10;

/// Why a connection is not upgraded: a status, a code, and what to do.
pub(super) struct Refused(
    pub(super) StatusCode,
    pub(super) &'static str,
    pub(super) String,
);

/// The places of a node.
#[derive(Default)]
pub(super) struct Places {
    seats: Arc<Counts<()>>,
    waiting: Arc<Counts<()>>,
    addresses: Arc<Counts<IpAddr>>,
}

/// A place, until it is dropped.
#[expect(
    dead_code,
    reason = "what is taken is held, and given back by dropping it"
)]
pub(super) enum Place {
    /// Of one who may watch.
    Seat(Taken<()>),
    /// Of one who has shown no good token, of the node and of its address.
    Waiting(Taken<()>, Option<Taken<IpAddr>>),
}

/// Who watches, and when its token expires.
pub(super) type Shown = (Caller, Option<SystemTime>);

/// One who connects.
pub(super) struct Guest {
    /// Who it is; `None` until it says so.
    pub(super) shown: Option<Result<Shown, Unknown>>,
    pub(super) place: Place,
}

impl Watch {
    /// Lets somebody in who asks with this request. Whoever brings a token along is known, or not, before there is a socket.
    pub(super) async fn admit(
        &self,
        peer: Option<IpAddr>,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<(Asked, Guest), Refused> {
        if self.stop.is_cancelled() {
            let why = "the node stops; connect to another".to_owned();
            return Err(Refused(StatusCode::SERVICE_UNAVAILABLE, "unavailable", why));
        }
        let origin = headers.get(header::ORIGIN);
        if origin.is_some_and(|origin| !cors::is_among(&self.settings.origins, origin.as_bytes())) {
            let why = "pages of this origin may not connect (http.corsAllowedOrigins)".to_owned();
            return Err(Refused(StatusCode::FORBIDDEN, "origin_not_allowed", why));
        }
        let asked = Asked::of(uri)
            .map_err(|why| Refused(StatusCode::BAD_REQUEST, "validation_error", why))?;
        let token = sockets::token(headers);
        let shown = match token.is_none() && self.authenticator.is_on() {
            true => None,
            false => Some(self.verify(token.as_deref()).await),
        };
        let crowded = |why| Refused(StatusCode::TOO_MANY_REQUESTS, "too_many_connections", why);
        let place = match shown {
            Some(Ok(_)) => self.seat(),
            Some(Err(_)) | None => self.waiting(peer, headers),
        };
        let place = place.map_err(crowded)?;
        Ok((asked, Guest { shown, place }))
    }

    /// A seat of one who may watch.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn seat(&self) -> Result<Place, String> {
        let most = self.settings.connections;
        let seat = Counts::take(&self.places.seats, (), most).map(Place::Seat);
        seat.ok_or_else(|| {
            format!("{most} watch this node already (watch.connections); try again later")
        })
    }

    fn waiting(&self, peer: Option<IpAddr>, headers: &HeaderMap) -> Result<Place, String> {
        let of_node = Counts::take(&self.places.waiting, (), WAITING).ok_or_else(|| {
            format!("{WAITING} have shown no good token yet; send it with the request, or try again later")
        })?;
        let address = peer.map(|peer| self.settings.proxies.client(peer, headers));
        let of_address = address.map(|address| {
            let taken = Counts::take(&self.places.addresses, address, WAITING_OF_ADDRESS);
            taken.ok_or_else(|| {
                format!("{WAITING_OF_ADDRESS} from this address have shown no good token yet; send it with the request, or try again later")
            })
        });
        Ok(Place::Waiting(of_node, of_address.transpose()?))
    }

    /// Finds out who shows a token, in the time that there is for that.
    pub(super) async fn verify(&self, token: Option<&str>) -> Result<Shown, Unknown> {
        let verifying = self.authenticator.verify(token);
        let verified = tokio::time::timeout(self.settings.hello_timeout, verifying).await;
        verified.unwrap_or_else(|_| {
            let why = "nobody said in time whose the token is; try again";
            Err(ApiError::new(Code::Unavailable, why).into())
        })
    }
}

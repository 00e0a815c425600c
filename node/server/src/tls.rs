//! TLS of this node's ports. Certificates are files, and change while the node runs.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::config::transport::Files;

/// How long a client may take for its part of the handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// HTTP/2, which gRPC needs.
pub const H2: &[u8] = b"h2";
/// HTTP/1.
pub const HTTP_1: &[u8] = b"http/1.1";

/// Why a certificate cannot be used. What is in a key's file is never shown.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {0}")]
    Unreadable(PathBuf, #[source] io::Error),
    /// A file is not PEM, or has nothing of its kind in it.
    #[error("{0} has no {1} in PEM")]
    Missing(PathBuf, &'static str, #[source] Option<pem::Error>),
    /// They do not belong together, or are of a kind that is not known.
    #[error("the certificate in {0} and the key in {1} cannot be used together")]
    Unusable(PathBuf, PathBuf, #[source] rustls::Error),
}

/// What a port shows who it is by: a certificate and its key, as they are in their files now.
pub struct Identity {
    /// The setting that names them.
    setting: &'static str,
    cert: PathBuf,
    key: PathBuf,
    protocols: Vec<Vec<u8>>,
    handshake: Duration,
    current: ArcSwap<Loaded>,
}

struct Loaded {
    /// What was in the files.
    bytes: (Vec<u8>, Vec<u8>),
    config: Arc<ServerConfig>,
}

impl Identity {
    /// Reads the files that `setting` names, of a port that speaks `protocols`; `None` where none are named.
    ///
    /// # Errors
    /// [`TlsError`] naming the file.
    pub fn load(
        setting: &'static str,
        files: &Files,
        protocols: &[&[u8]],
    ) -> Result<Option<Arc<Self>>, TlsError> {
        let Some((cert, key)) = files.both() else {
            return Ok(None);
        };
        let protocols: Vec<_> = protocols.iter().map(|name| name.to_vec()).collect();
        let bytes = read(cert, key)?;
        let config = configured(cert, key, &bytes, &protocols)?;
        Ok(Some(Arc::new(Self {
            setting,
            cert: cert.to_owned(),
            key: key.to_owned(),
            protocols,
            handshake: HANDSHAKE,
            current: ArcSwap::from_pointee(Loaded { bytes, config }),
        })))
    }

    /// Shakes hands with a client.
    ///
    /// # Errors
    /// When it does not speak TLS, or not in time.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let acceptor = TlsAcceptor::from(Arc::clone(&self.current.load().config));
        tokio::time::timeout(self.handshake, acceptor.accept(stream)).await?
    }

    /// Takes in what the files become, until `stop`: new connections are made by it. While they cannot be used, what was
    /// there before goes on; that is told once for each content. They are looked at again and again, since watching them
    /// for events misses what Kubernetes does to those of a Secret.
    pub async fn follow(self: Arc<Self>, every: Duration, stop: CancellationToken) {
        let mut refused = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(every) => {}
            }
            let this = Arc::clone(&self);
            let read = tokio::task::spawn_blocking(move || read(&this.cert, &this.key)).await;
            // Else the runtime ends.
            let Ok(read) = read else { return };
            let seen = read.as_ref().ok().cloned();
            if seen.as_ref() == Some(&self.current.load().bytes) {
                refused = None;
                continue;
            }
            if refused.as_ref() == Some(&seen) {
                continue;
            }
            let (setting, cert) = (self.setting, self.cert.display());
            match read.and_then(|bytes| self.take(bytes)) {
                Ok(()) => {
                    refused = None;
                    tracing::info!(setting, %cert, "a new certificate is in use");
                }
                Err(error) => {
                    refused = Some(seen);
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(setting, %cert, error, "a new certificate cannot be used; the one before stays");
                }
            }
        }
    }

    fn take(&self, bytes: (Vec<u8>, Vec<u8>)) -> Result<(), TlsError> {
        let config = configured(&self.cert, &self.key, &bytes, &self.protocols)?;
        self.current.store(Arc::new(Loaded { bytes, config }));
        Ok(())
    }
}

fn read(cert: &Path, key: &Path) -> Result<(Vec<u8>, Vec<u8>), TlsError> {
    let read =
        |file: &Path| std::fs::read(file).map_err(|why| TlsError::Unreadable(file.to_owned(), why));
    Ok((read(cert)?, read(key)?))
}

fn configured(
    cert: &Path,
    key: &Path,
    bytes: &(Vec<u8>, Vec<u8>),
    protocols: &[Vec<u8>],
) -> Result<Arc<ServerConfig>, TlsError> {
    let missing = |what, why| TlsError::Missing(cert.to_owned(), what, why);
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes.0).collect();
    let chain = chain.map_err(|why| missing("certificate", Some(why)))?;
    if chain.is_empty() {
        return Err(missing("certificate", None));
    }
    let private = PrivateKeyDer::from_pem_slice(&bytes.1)
        .map_err(|why| TlsError::Missing(key.to_owned(), "private key", Some(why)))?;
    let unusable = |why| TlsError::Unusable(cert.to_owned(), key.to_owned(), why);
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(unusable)?;
    config.alpn_protocols = protocols.to_vec();
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// Whoever connects and says nothing would else hold a connection for ever.
    #[tokio::test]
    async fn a_client_that_never_shakes_hands_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let (cert_file, key_file) = (folder.path().join("cert"), folder.path().join("key"));
        std::fs::write(&cert_file, params.self_signed(&key).unwrap().pem()).unwrap();
        std::fs::write(&key_file, key.serialize_pem()).unwrap();
        let files = Files {
            cert: Some(cert_file),
            key: Some(key_file),
        };
        let mut identity = Identity::load("tls.grpc", &files, &[H2]).unwrap().unwrap();
        Arc::get_mut(&mut identity).unwrap().handshake = Duration::from_millis(20);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let silent = TcpStream::connect(listener.local_addr().unwrap());
        let (_silent, accepted) = tokio::join!(silent, listener.accept());
        let (stream, _) = accepted.unwrap();
        let patience = Duration::from_secs(30);
        let shaken = tokio::time::timeout(patience, identity.accept(stream)).await;
        let error = shaken.expect("it is given up").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}

//! TLS, by rustls

use std::fmt;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};

use crate::web::tls_stream::TlsStream;

/// Certificate chain and key of a [`Server`](crate::Server); clones share them.
///
/// It can be replaced at any time: new connections use the new certificate, and open ones are unaffected.
///
/// Supports TLS 1.2 and 1.3 with rustls' safe defaults, and HTTP/1.1 by ALPN.
///
/// ```no_run
/// use roomcast_server::server::Tls;
/// use roomcast_server::{Io, Server};
///
/// # async fn main_() -> Result<(), Box<dyn std::error::Error>> {
/// let tls = Tls::from_files("fullchain.pem", "privkey.pem")?;
/// let renewed = tls.clone(); // somewhere else, when there is a new one: renewed.reload()?
/// Server::new(Io::new()).tls(tls).bind("0.0.0.0:443")?.serve().await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Tls(Arc<Inner>);

struct Inner {
    files: Option<(PathBuf, PathBuf)>,
    config: RwLock<Arc<ServerConfig>>,
}

impl Tls {
    /// Reads a PEM certificate chain, the server's certificate first, and its PEM private key.
    ///
    /// # Errors
    /// Returns an error if a file cannot be read or the certificate and key do not match.
    pub fn from_files(certificate: impl AsRef<Path>, key: impl AsRef<Path>) -> Result<Self, TlsError> {
        let files = (certificate.as_ref().to_owned(), key.as_ref().to_owned());
        let config = RwLock::new(read(&files.0, &files.1)?);
        Ok(Self(Arc::new(Inner { files: Some(files), config })))
    }

    /// Loads the same as [`from_files`](Self::from_files) from memory.
    ///
    /// # Errors
    /// Returns an error if the input is not PEM or the certificate and key do not match.
    pub fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let config = RwLock::new(config(certificate, key)?);
        Ok(Self(Arc::new(Inner { files: None, config })))
    }

    /// Uses a rustls configuration as it is, for all other TLS settings.
    ///
    /// Its ALPN list should contain `http/1.1` or be empty.
    pub fn from_config(config: Arc<ServerConfig>) -> Self {
        Self(Arc::new(Inner { files: None, config: RwLock::new(config) }))
    }

    /// Reloads the files; new connections use their certificate.
    ///
    /// Blocks while reading. Does nothing without files.
    ///
    /// # Errors
    /// Returns an error if the files are unusable; the former certificate stays in use.
    pub fn reload(&self) -> Result<(), TlsError> {
        if let Some((certificate, key)) = &self.0.files {
            self.set(read(certificate, key)?);
        }
        Ok(())
    }

    /// Replaces the certificate for new connections.
    ///
    /// # Errors
    /// Returns an error if the certificate is unusable; the former one stays in use.
    pub fn replace(&self, certificate: &[u8], key: &[u8]) -> Result<(), TlsError> {
        self.set(config(certificate, key)?);
        Ok(())
    }

    fn set(&self, config: Arc<ServerConfig>) {
        *self.0.config.write().unwrap_or_else(PoisonError::into_inner) = config;
    }

    /// Performs the handshake.
    pub(super) fn accept(
        &self,
        stream: TcpStream,
    ) -> impl Future<Output = io::Result<TlsStream>> + Send + use<> {
        let config = self.0.config.read().unwrap_or_else(PoisonError::into_inner).clone();
        let accepting = TlsAcceptor::from(config).accept(stream);
        async move { Ok(TlsStream::new(accepting.await?)) }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("files", &self.0.files).finish_non_exhaustive()
    }
}

/// Error of loading a certificate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read
    #[error("cannot read {}", path.display())]
    Read {
        /// Path of the file
        path: PathBuf,
        /// Error of the read
        source: io::Error,
    },
    /// The certificate is malformed
    #[error("no certificate found; expected a PEM block BEGIN CERTIFICATE ({0})")]
    Certificate(String),
    /// The private key is malformed
    #[error("no private key found; expected a PEM block BEGIN PRIVATE KEY ({0})")]
    Key(String),
    /// The certificate and key do not match or are not supported
    #[error("certificate and private key rejected")]
    Unusable(#[source] rustls::Error),
}

fn read(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let read =
        |path: &Path| std::fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source });
    config(&read(certificate)?, &read(key)?)
}

fn config(certificate: &[u8], key: &[u8]) -> Result<Arc<ServerConfig>, TlsError> {
    let chain: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(certificate).collect();
    let chain = chain.map_err(|error| TlsError::Certificate(error.to_string()))?;
    if chain.is_empty() {
        return Err(TlsError::Certificate("it has no such block".into()));
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| TlsError::Key(error.to_string()))?;
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(TlsError::Unusable)?;
    let mut config =
        builder.with_no_client_auth().with_single_cert(chain, key).map_err(TlsError::Unusable)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Tickets allow resumption; their key is in this process's memory only.
    config.ticketer = ring::Ticketer::new().map_err(TlsError::Unusable)?;
    Ok(Arc::new(config))
}

//! TLS client on non-blocking sockets.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, HandshakeKind, NamedGroup, RootCertStore,
    SignatureScheme,
};

use crate::Error;
use crate::socket::{self, ReadOutcome};

/// Accepted server certificates.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trust {
    /// PEM file with certificate authorities; the system's if `None`.
    pub(crate) authorities: Option<PathBuf>,
    /// Accept any certificate.
    pub(crate) anything: bool,
    /// Resumption of sessions of earlier connections.
    pub(crate) resumption: Resume,
}

/// Resumption of TLS sessions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Resume {
    /// Up to eight tickets are kept, as by default in rustls.
    #[default]
    Usual,
    /// Each handshake is a full one.
    Never,
    /// All tickets are kept, so that many clients can resume at the same time.
    Always,
}

/// TLS configuration for a server.
#[derive(Clone)]
pub(crate) struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Tls {
    /// Creates a configuration for the server name `host`, which the certificate must match.
    pub(crate) fn new(host: &str, trust: &Trust) -> Result<Self, Error> {
        let usage = |problem: String| Error::Usage(problem);
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| usage(format!("{host} is not a valid server name for TLS")))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| usage(error.to_string()))?;
        let builder = if trust.anything {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AcceptAnyCertificate(provider)))
        } else {
            builder.with_root_certificates(authorities(trust.authorities.as_deref())?)
        };
        let mut config = builder.with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        match trust.resumption {
            Resume::Usual => {}
            Resume::Never => config.resumption = Resumption::disabled(),
            Resume::Always => config.resumption = Resumption::store(Arc::new(AllTickets::default())),
        }
        Ok(Self { config: Arc::new(config), name })
    }

    pub(crate) fn connect(&self) -> io::Result<TlsStream> {
        let connection = ClientConnection::new(Arc::clone(&self.config), self.name.clone());
        connection.map(|connection| TlsStream(Box::new(connection))).map_err(io::Error::other)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("name", &self.name).finish_non_exhaustive()
    }
}

/// TLS state of a connection; the caller owns the socket.
pub(crate) struct TlsStream(Box<ClientConnection>);

impl TlsStream {
    /// Sends handshake data and as much of `bytes` as fits; returns the number of bytes accepted.
    pub(crate) fn send(&mut self, socket: &OwnedFd, bytes: &[u8]) -> io::Result<usize> {
        let mut taken = 0;
        loop {
            // rustls accepts a few records at a time, and during the handshake only up to its buffer limit.
            let more = self.0.writer().write(&bytes[taken..])?;
            taken += more;
            while self.0.wants_write() {
                match self.0.write_tls(&mut Socket(socket)) {
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(taken),
                    Err(error) => return Err(error),
                }
            }
            if more == 0 || taken == bytes.len() {
                return Ok(taken);
            }
        }
    }

    /// Returns whether the handshake resumed an earlier session.
    pub(crate) fn is_resumed(&self) -> bool {
        self.0.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Returns whether encrypted data waits to be sent.
    pub(crate) fn has_more(&self) -> bool {
        self.0.wants_write()
    }

    /// Receives available data; call until it returns [`ReadOutcome::Nothing`].
    pub(crate) fn receive(&mut self, socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<ReadOutcome> {
        loop {
            match self.0.reader().read(buffer) {
                Ok(0) => return Ok(ReadOutcome::Closed),
                Ok(received) => return Ok(ReadOutcome::Bytes(received)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // Many servers close without a close_notify alert.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(ReadOutcome::Closed),
                Err(error) => return Err(error),
            }
            match self.0.read_tls(&mut Socket(socket)) {
                // The reader reports the end of stream after all data before it.
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(ReadOutcome::Nothing),
                Err(error) => return Err(error),
            }
            if let Err(error) = self.0.process_new_packets() {
                // Sends the alert to the server.
                let _ = self.send(socket, b"");
                return Err(io::Error::new(io::ErrorKind::InvalidData, explain(&error)));
            }
        }
    }
}

/// All TLS 1.3 tickets of one server; sessions of TLS 1.2 are not resumed.
#[derive(Debug, Default)]
struct AllTickets {
    group: Mutex<Option<NamedGroup>>,
    tickets: Mutex<Vec<Tls13ClientSessionValue>>,
}

impl ClientSessionStore for AllTickets {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        *self.group.lock().unwrap_or_else(PoisonError::into_inner) = Some(group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        *self.group.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        self.tickets.lock().unwrap_or_else(PoisonError::into_inner).push(ticket);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.tickets.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
}

fn explain(error: &rustls::Error) -> String {
    let repair = match error {
        rustls::Error::InvalidCertificate(_) => {
            "; pass --ca FILE to trust its authority, or --insecure to accept any certificate"
        }
        rustls::Error::InvalidMessage(_) => "; does the server speak TLS on this port?",
        _ => "",
    };
    format!("{error}{repair}")
}

/// Adapter from a socket to the I/O traits of rustls.
struct Socket<'a>(&'a OwnedFd);

impl io::Read for Socket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match socket::receive(self.0, buffer)? {
            ReadOutcome::Bytes(received) => Ok(received),
            ReadOutcome::Closed => Ok(0),
            ReadOutcome::Nothing => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl io::Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match socket::send(self.0, bytes)? {
            0 if !bytes.is_empty() => Err(io::ErrorKind::WouldBlock.into()),
            sent => Ok(sent),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Loads the certificate authorities from a file, or else from the system.
fn authorities(file: Option<&Path>) -> Result<RootCertStore, Error> {
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let found = || SYSTEM.iter().map(PathBuf::from).find(|path| path.exists());
    let path = file.map(Path::to_owned).or(named).or_else(found);
    let path = path.ok_or_else(|| {
        Error::Usage("no system certificate authorities found; pass --ca FILE, or --insecure".into())
    })?;
    let wrong = |problem: String| Error::Usage(format!("{}: {problem}", path.display()));
    let certificates = CertificateDer::pem_file_iter(&path).map_err(|error| wrong(error.to_string()))?;
    let certificates: Result<Vec<_>, _> = certificates.collect();
    let mut roots = RootCertStore::empty();
    // The system store may contain unreadable certificates.
    let (added, _) = roots.add_parsable_certificates(certificates.map_err(|error| wrong(error.to_string()))?);
    if added == 0 { Err(wrong("no PEM certificate found".into())) } else { Ok(roots) }
}

/// Certificate bundles of Debian, Fedora, SUSE and Alpine.
const SYSTEM: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Accepts any certificate, but verifies that the server holds its key.
#[derive(Debug)]
struct AcceptAnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

//! TLS by rustls: the certificates that are trusted, and the words for those that are not.
//!
//! A server is trusted if an authority of the system or of `tls_ca` has signed its certificate for its name; if the
//! certificate itself is in `tls_ca`, as a self-signed one is; or if it has the fingerprint of the configuration, which
//! then is the only thing that counts.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use ring::digest::{SHA256, digest};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring as provider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore,
    SignatureScheme,
};

use super::problem::{Problem, broken};
use crate::config::{Fingerprint, Push};

/// The files in which distributions keep the authorities of the system, the first that exists counts: Debian, Fedora.
const SYSTEM: [&str; 2] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem"];

/// The most bytes that wait for the socket in encrypted form.
const MOST_WAITING: usize = 16 * 1024;

/// An encrypted connection over a socket that does not block.
pub(super) struct TlsStream {
    connection: ClientConnection,
    socket: TcpStream,
    verifier: Arc<Verifier>,
}

impl TlsStream {
    /// Begins an encrypted connection as the push says. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// The file of authorities cannot be read.
    pub(super) fn new(push: &Push, socket: TcpStream) -> Result<TlsStream, Problem> {
        let provider = Arc::new(provider::default_provider());
        let verifier = Arc::new(Verifier::new(push, &provider)?);
        let failed = |error: Error| Problem::failed(format!("TLS cannot be used: {error}"));
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(failed)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&verifier) as Arc<dyn ServerCertVerifier>)
            .with_no_client_auth();
        let name = ServerName::try_from(push.to.host.clone())
            .map_err(|_| Problem::failed(format!("{} is no name for a certificate", push.to.host)))?;
        let mut connection = ClientConnection::new(Arc::new(config), name).map_err(failed)?;
        connection.set_buffer_limit(Some(MOST_WAITING));
        Ok(TlsStream { connection, socket, verifier })
    }

    /// Returns `true` until both sides have their keys.
    pub(super) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Goes on with the handshake as far as that needs no waiting.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if the server has to say something first.
    pub(super) fn shake_hands(&mut self) -> io::Result<()> {
        let (read, written) = self.connection.complete_io(&mut self.socket)?;
        match self.is_handshaking() && read + written == 0 {
            true => Err(io::ErrorKind::UnexpectedEof.into()),
            false => Ok(()),
        }
    }

    /// Returns the problem that an error of the handshake means.
    pub(super) fn problem(&self, error: &io::Error) -> Problem {
        let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
            return match error.kind() {
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => Problem::unreachable(
                    "the server ended the connection instead of TLS: is this port for icecasts://?",
                ),
                _ => broken(error),
            };
        };
        let seen = self.verifier.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let has =
            seen.map(|seen| format!("; the certificate has the fingerprint {seen}")).unwrap_or_default();
        let remedy = "name its authority, or a self-signed certificate itself, in `tls_ca`, or its fingerprint in \
                      `tls_fingerprint`";
        Problem::refused(match error {
            Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure) => {
                format!("the server's certificate is another one than that of `tls_fingerprint`{has}")
            }
            Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::Other(_)) => {
                format!("nobody whom this machine trusts has signed the server's certificate: {remedy}{has}")
            }
            Error::InvalidCertificate(
                CertificateError::Expired | CertificateError::ExpiredContext { .. },
            ) => format!("the server's certificate has expired, or the clock of this machine is wrong{has}"),
            Error::InvalidCertificate(
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
            ) => format!(
                "the server's certificate is not valid yet, or the clock of this machine is wrong{has}"
            ),
            Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            ) => format!("the server's certificate is for another name than that in `to`{has}"),
            Error::InvalidCertificate(_) => {
                format!("the server's certificate is not accepted ({error}): {remedy}{has}")
            }
            Error::InvalidMessage(_) => {
                return Problem::unreachable("the server answers without TLS: is this port for icecasts://?");
            }
            error => return Problem::unreachable(format!("TLS fails: {error}")),
        })
    }

    /// Returns the socket.
    pub(super) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Sends what waits in encrypted form.
    fn send_waiting(&mut self) -> io::Result<()> {
        while self.connection.wants_write() {
            if self.connection.write_tls(&mut self.socket)? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }
}

impl Write for TlsStream {
    /// Takes bytes once all before them were sent.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.send_waiting()?;
        let taken = self.connection.writer().write(bytes)?;
        match self.send_waiting() {
            // The bytes are taken, and the next call goes on with them.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(taken),
            result => result.map(|()| taken),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send_waiting()
    }
}

impl Read for TlsStream {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.connection.reader().read(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // An end without TLS's own farewell is an end: servers are killed.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                result => return result,
            }
            if self.connection.read_tls(&mut self.socket)? == 0 {
                return Ok(0);
            }
            self.connection.process_new_packets().map_err(io::Error::other)?;
        }
    }
}

/// The certificates that are trusted.
#[derive(Debug)]
struct Verifier {
    fingerprint: Option<Fingerprint>,
    /// Certificates of `tls_ca`, which are trusted as they are.
    own: Vec<CertificateDer<'static>>,
    /// Authorities of `tls_ca` or of the system; `None` where there is none.
    authorities: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
    /// The fingerprint of the certificate that the server has shown.
    seen: Mutex<Option<Fingerprint>>,
}

impl Verifier {
    fn new(push: &Push, provider: &Arc<CryptoProvider>) -> Result<Verifier, Problem> {
        let (fingerprint, mut own, mut authorities) = (push.tls_fingerprint, Vec::new(), None);
        if fingerprint.is_none() {
            let file = push.tls_ca.as_deref();
            let system = SYSTEM.iter().map(Path::new).find(|file| file.exists());
            let read = match file.or(system) {
                Some(file) => certificates(file)?,
                None => {
                    return Err(Problem::failed(
                        "this machine knows no authorities: install ca-certificates, or name a file in `tls_ca`",
                    ));
                }
            };
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(read.iter().cloned());
            if !roots.is_empty() {
                let builder =
                    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
                authorities = builder.build().ok();
            }
            if file.is_some() {
                own = read;
            }
        }
        let (provider, seen) = (Arc::clone(provider), Mutex::new(None));
        Ok(Verifier { fingerprint, own, authorities, provider, seen })
    }
}

/// Reads the certificates of a file.
fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let shown = file.display();
    let problem = |error: &dyn std::fmt::Display| {
        Problem::failed(format!("the certificates in {shown} cannot be read: {error}"))
    };
    let all = CertificateDer::pem_file_iter(file).map_err(|error| problem(&error))?;
    let all: Vec<_> = all.collect::<Result<_, _>>().map_err(|error| problem(&error))?;
    match all.is_empty() {
        true => Err(problem(&"it holds none in PEM")),
        false => Ok(all),
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let mut shown = Fingerprint([0; 32]);
        shown.0.copy_from_slice(digest(&SHA256, end_entity).as_ref());
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(shown);
        if let Some(fingerprint) = self.fingerprint {
            return match fingerprint == shown {
                true => Ok(ServerCertVerified::assertion()),
                false => Err(CertificateError::ApplicationVerificationFailure.into()),
            };
        }
        if self.own.iter().any(|own| own == end_entity) {
            return Ok(ServerCertVerified::assertion());
        }
        match &self.authorities {
            Some(all) => all.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now),
            None => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

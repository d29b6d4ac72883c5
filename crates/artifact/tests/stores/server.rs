//! A web server that misbehaves when it is told to.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// What a client asked for.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Decoded.
    pub(crate) path: String,
    pub(crate) query: String,
    /// Names in lower case.
    headers: Vec<(String, String)>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// What the server says if it behaves.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// A file, or the part of it that is asked for.
    pub(crate) fn file(request: &Request, content: &[u8], e_tag: &str) -> Self {
        if request.header("if-match").is_some_and(|wanted| wanted != e_tag) {
            return Self::new(412, "");
        }
        let asked = request.header("range").or_else(|| request.header("x-ms-range"));
        let size = content.len();
        let answer = match asked.and_then(|text| range(text, size)) {
            None => Self::new(200, content),
            Some(range) => Self::new(206, &content[range.clone()])
                .with("content-range", format!("bytes {}-{}/{size}", range.start, range.end - 1)),
        };
        answer.with("etag", e_tag).with("accept-ranges", "bytes")
    }
}

fn range(text: &str, size: usize) -> Option<Range<usize>> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
    (first < size).then(|| first..size.min(last + 1))
}

/// How the server misbehaves.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// Says something else.
    Status(u16),
    /// Wants to be left alone for so many seconds.
    Later(u64),
    /// Ends the connection after so many bytes of the body.
    Truncate(usize),
    /// As [`Fault::Truncate`], by a reset.
    Reset(usize),
    /// Says that the body is longer than it is, by so much, and ends the connection after it.
    Longer(usize),
    /// Sends so many bytes of the body and then nothing, but stays.
    Stall(usize),
    /// Sends a body in which one bit is another.
    Flip,
    /// Sends all of the file, whichever part was asked for, and does not say that it has parts.
    NoRanges,
    /// Sends a part that begins later than was asked for.
    WrongPart,
    /// Ends the connection before it says anything.
    HangUp,
}

type Handler = dyn Fn(&Request) -> Answer + Send + Sync;

/// Faults that are still to come: for requests whose path contains the text.
type Faults = Arc<Mutex<VecDeque<(&'static str, Fault)>>>;

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    faults: Faults,
    requests: Arc<Mutex<Vec<Request>>>,
    /// Its authority, PEM; none if it speaks plain HTTP.
    pub(crate) authority: Option<String>,
}

impl Server {
    pub(crate) async fn plain(
        handler: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::start(None, handler).await
    }

    /// With a certificate for `localhost` by an authority of its own.
    pub(crate) async fn tls(handler: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let authority = params.self_signed(&key).unwrap();
        let issuer = rcgen::Issuer::new(params, key);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        let certificate = certificate.signed_by(&key, &issuer).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        Self::start(Some((TlsAcceptor::from(Arc::new(config)), authority.pem())), handler).await
    }

    async fn start(
        tls: Option<(TlsAcceptor, String)>,
        handler: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (faults, requests) = (Faults::default(), Arc::<Mutex<Vec<Request>>>::default());
        let site = Arc::new(Site {
            handler: Box::new(handler),
            faults: Arc::clone(&faults),
            requests: Arc::clone(&requests),
        });
        let (acceptor, authority) = tls.unzip();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (site, acceptor) = (Arc::clone(&site), acceptor.clone());
                tokio::spawn(async move {
                    match acceptor {
                        None => site.serve(socket, reset).await,
                        Some(acceptor) => {
                            if let Ok(socket) = acceptor.accept(socket).await {
                                site.serve(socket, drop).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, faults, requests, authority }
    }

    pub(crate) fn url(&self) -> String {
        match self.authority {
            None => format!("http://{}", self.address),
            Some(_) => format!("https://localhost:{}", self.address.port()),
        }
    }

    /// Misbehaves in answer to the next `times` requests for a path that contains `part`.
    pub(crate) fn misbehave(&self, part: &'static str, fault: Fault, times: usize) {
        self.faults.lock().unwrap().extend(std::iter::repeat_n((part, fault), times));
    }

    /// What it was asked for, and forgets it.
    pub(crate) fn asked(&self) -> Vec<Request> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }

    /// How many faults nobody has met.
    pub(crate) fn unmet(&self) -> usize {
        self.faults.lock().unwrap().len()
    }
}

/// A connection that is reset: what was sent and not read yet is lost, too.
fn reset(socket: TcpStream) {
    socket.set_zero_linger().unwrap();
    drop(socket);
}

struct Site {
    handler: Box<Handler>,
    faults: Faults,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Site {
    async fn serve<S: AsyncRead + AsyncWrite + Unpin>(&self, mut socket: S, reset: fn(S)) {
        while let Some(request) = read_request(&mut socket).await {
            let fault = self.next_fault(&request);
            self.requests.lock().unwrap().push(request.clone());
            let mut answer = (self.handler)(&request);
            if let Some(fault) = fault {
                self.spoil(&mut answer, &request, fault);
            }
            let mut sent = answer.body.len();
            let mut stated = sent;
            match fault {
                Some(Fault::HangUp) => return,
                Some(Fault::Truncate(bytes) | Fault::Reset(bytes) | Fault::Stall(bytes)) => {
                    sent = sent.min(bytes);
                }
                Some(Fault::Longer(bytes)) => stated += bytes,
                _ => {}
            }
            let mut head = format!("HTTP/1.1 {} Words\r\n", answer.status);
            for (name, value) in &answer.headers {
                write!(head, "{name}: {value}\r\n").unwrap();
            }
            write!(head, "content-length: {stated}\r\n\r\n").unwrap();
            let body = if request.method == "HEAD" { &[] } else { &answer.body[..sent] };
            if socket.write_all(head.as_bytes()).await.is_err()
                || socket.write_all(body).await.is_err()
                || socket.flush().await.is_err()
            {
                return;
            }
            match fault {
                Some(Fault::Reset(_)) => {
                    // Time for what was sent to be read.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    return reset(socket);
                }
                Some(Fault::Stall(_)) => std::future::pending().await,
                Some(Fault::Truncate(_) | Fault::Longer(_)) => {
                    drop(socket.shutdown().await);
                    return;
                }
                _ => {}
            }
        }
    }

    fn spoil(&self, answer: &mut Answer, request: &Request, fault: Fault) {
        match fault {
            Fault::Status(status) => *answer = Answer::new(status, "as it was told to"),
            Fault::Later(seconds) => {
                *answer = Answer::new(429, "").with("retry-after", seconds.to_string());
            }
            Fault::Flip => {
                if let Some(byte) = answer.body.last_mut() {
                    *byte ^= 1;
                }
            }
            Fault::NoRanges => {
                let mut whole = request.clone();
                whole.headers.retain(|(name, _)| name != "range");
                *answer = (self.handler)(&whole);
                answer.headers.retain(|(name, _)| name != "accept-ranges");
            }
            Fault::WrongPart => {
                for (name, value) in &mut answer.headers {
                    if name == "content-range" {
                        let (range, size) = value.split_once('/').unwrap();
                        let (first, last) = range["bytes ".len()..].split_once('-').unwrap();
                        let first: u64 = first.parse().unwrap();
                        *value = format!("bytes {}-{last}/{size}", first + 1);
                    }
                }
            }
            Fault::Truncate(_)
            | Fault::Reset(_)
            | Fault::Longer(_)
            | Fault::Stall(_)
            | Fault::HangUp => {}
        }
    }

    fn next_fault(&self, request: &Request) -> Option<Fault> {
        let mut faults = self.faults.lock().unwrap();
        let index = faults.iter().position(|(part, _)| request.path.contains(part))?;
        faults.remove(index).map(|(_, fault)| fault)
    }
}

/// None when the client has left.
async fn read_request(socket: &mut (impl AsyncRead + Unpin)) -> Option<Request> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.lines();
    let mut line = lines.next()?.split(' ');
    let (method, target) = (line.next()?.to_owned(), line.next()?);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let header = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    };
    Some(Request {
        method,
        path: decode(path),
        query: query.to_owned(),
        headers: lines.filter_map(header).collect(),
    })
}

fn decode(path: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next().unwrap(), rest.next().unwrap()];
            let digits = std::str::from_utf8(&digits).unwrap().to_owned();
            bytes.push(u8::from_str_radix(&digits, 16).unwrap());
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).unwrap()
}

//! As little of an HTTP client as keeps one connection busy.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

const TIMEOUT: Duration = Duration::from_secs(90);

/// How a request was answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Code {
    Ok,
    TooMany,
    Other(u16),
}

/// One connection, which is opened again when the server closes it.
pub(crate) struct Client {
    address: String,
    /// A line of its own, or nothing.
    authorization: String,
    stream: Option<BufReader<TcpStream>>,
}

impl Client {
    pub(crate) fn new(address: &str) -> Self {
        Self { address: address.to_owned(), authorization: String::new(), stream: None }
    }

    /// With this token in every request.
    pub(crate) fn with_bearer(self, token: &str) -> Self {
        Self { authorization: format!("authorization: Bearer {token}\r\n"), ..self }
    }

    /// Asks, and reads the whole answer. A connection that was closed between two requests is opened
    /// again.
    pub(crate) fn post(&mut self, path: &str, body: &str) -> Result<Code> {
        let is_fresh = self.stream.is_none();
        match self.try_post(path, body) {
            Ok(code) => Ok(code),
            Err(_) if !is_fresh => {
                self.stream = None;
                self.try_post(path, body)
            }
            Err(error) => Err(error),
        }
    }

    fn try_post(&mut self, path: &str, body: &str) -> Result<Code> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.connect()?,
        };
        let (length, authorization) = (body.len(), &self.authorization);
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n\
             {authorization}content-length: {length}\r\n\r\n{body}"
        );
        stream.get_mut().write_all(request.as_bytes())?;
        let mut status = String::new();
        stream.read_line(&mut status)?;
        let code = status.split(' ').nth(1).and_then(|code| code.parse().ok());
        let code: u16 = code.with_context(|| format!("{status:?} is no answer"))?;
        let (mut length, mut closes) = (None, false);
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line)? == 0 {
                bail!("the answer has no end");
            }
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = Some(value.trim().parse::<u64>()?);
            }
            closes |= line == "connection: close";
        }
        let length = length.context("the answer does not say how long it is")?;
        std::io::copy(&mut (&mut stream).take(length), &mut std::io::sink())?;
        if !closes {
            self.stream = Some(stream);
        }
        Ok(match code {
            200 => Code::Ok,
            429 => Code::TooMany,
            other => Code::Other(other),
        })
    }

    fn connect(&self) -> Result<BufReader<TcpStream>> {
        let stream = TcpStream::connect(&self.address)
            .with_context(|| format!("cannot connect to {}", self.address))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        Ok(BufReader::new(stream))
    }
}

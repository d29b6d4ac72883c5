//! Waiting for a component to be of use, while it is alive.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use crate::command::last_lines;
use crate::component::Component;
use crate::error::Error;
use crate::layout::Layout;
use crate::process;
use crate::wait::{self, Look};

const CONNECT: Duration = Duration::from_secs(1);
const ANSWER: Duration = Duration::from_secs(3);

/// Waits for a condition that a component brings about. Ends early if the component does.
pub(crate) fn wait(
    layout: &Layout,
    component: Component,
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Result<Look<()>, Error>,
) -> Result<(), Error> {
    let outcome = wait::until(limit, || {
        let look = look()?;
        if matches!(look, Look::Pending(_)) && process::running(layout, component).is_none() {
            return Err(process::ended(layout, component));
        }
        Ok(look)
    })?;
    outcome.map_err(|seen| {
        let log = layout.log(component.name());
        let said = last_lines(&fs::read_to_string(&log).unwrap_or_default(), 1);
        let last = format!("{seen}; last in its log: {said}");
        Error::NotReady { what: what.to_owned(), waited: limit, last, log }
    })
}

/// Waits until a component answers 200 to plain HTTP on loopback.
pub(crate) fn http(
    layout: &Layout,
    component: Component,
    port: u16,
    path: &str,
    limit: Duration,
) -> Result<(), Error> {
    wait(layout, component, component.name(), limit, || {
        Ok(match status_line(port, path) {
            Ok(line) if line.contains(" 200 ") => Look::Ready(()),
            Ok(line) => Look::Pending(format!("port {port} answers {line}")),
            Err(error) => Look::Pending(format!("port {port}: {error}")),
        })
    })
}

/// Waits until a component accepts connections on loopback.
pub(crate) fn port(
    layout: &Layout,
    component: Component,
    port: u16,
    limit: Duration,
) -> Result<(), Error> {
    wait(layout, component, component.name(), limit, || {
        Ok(match connect(port) {
            Ok(_) => Look::Ready(()),
            Err(error) => Look::Pending(format!("port {port}: {error}")),
        })
    })
}

fn connect(port: u16) -> std::io::Result<TcpStream> {
    TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), CONNECT)
}

fn status_line(port: u16, path: &str) -> std::io::Result<String> {
    let mut stream = connect(port)?;
    stream.set_read_timeout(Some(ANSWER))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(4096).read_to_end(&mut answer)?;
    let text = String::from_utf8_lossy(&answer);
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

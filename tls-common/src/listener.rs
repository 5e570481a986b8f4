//! [`Listener`]: a bound port, optionally one that moves to a new listening socket at each generation.

mod reuseport;

use reuseport::ReusePortGroup;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::SocketAddr;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

/// Connections that have finished TCP's handshake and wait for `accept`.
const BACKLOG: i32 = 1024;

/// A listening port.
#[derive(Debug)]
pub struct Listener {
    local_addr: SocketAddr,
    sockets: Sockets,
}

#[derive(Debug)]
enum Sockets {
    Fixed(TcpListener),
    Rebinding(ReusePortGroup),
}

impl Listener {
    /// Binds `addr`; port 0 takes any.
    ///
    /// # Errors
    /// The address is in use or not ours.
    pub async fn bind(addr: SocketAddr) -> io::Result<Self> {
        let socket = listening_socket(addr, false)?;
        Ok(Self { local_addr: socket.local_addr()?, sockets: Sockets::Fixed(socket) })
    }

    /// Binds `addr` such that [`crate::serve`] gives it a new listening socket on the same port at each generation,
    /// without refusing or resetting a single connection.
    ///
    /// Where the system cannot steer connections among the sockets of a port (anything but Linux), the socket stays.
    ///
    /// # Errors
    /// The address is in use or not ours.
    pub async fn bind_rebinding(addr: SocketAddr) -> io::Result<Self> {
        // Another process of the same user could share a port that allows it: see first that nobody listens there.
        if addr.port() != 0 {
            drop(listening_socket(addr, false)?);
        }
        let group = ReusePortGroup::new(addr)?;
        Ok(Self { local_addr: group.local_addr(), sockets: Sockets::Rebinding(group) })
    }

    /// Where it listens, with the port the system chose.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The next connection, and who it is from.
    pub(crate) async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        match &mut self.sockets {
            Sockets::Fixed(socket) => socket.accept().await,
            Sockets::Rebinding(group) => group.accept().await,
        }
    }

    /// A new listening socket on the same port, if this listener does that; on any error the old one stays.
    /// Returns whether there is a new one.
    pub(crate) fn rebind(&mut self) -> bool {
        let Sockets::Rebinding(group) = &mut self.sockets else { return false };
        match group.rebind(Instant::now()) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(address = %self.local_addr, %error, "no new listening socket; the old one goes on");
                false
            }
        }
    }
}

fn listening_socket(addr: SocketAddr, share_port: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    #[cfg(unix)]
    if share_port {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

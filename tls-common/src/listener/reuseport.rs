//! Several listening sockets on one port, of which only the newest gets new connections.
//!
//! Closing a listening socket resets the connections in its queue, so an old socket may be closed only when nothing can
//! arrive there any more. With `SO_REUSEPORT` alone the kernel goes on spreading connections over all sockets of the
//! port. A one-instruction classic BPF program steers them instead: it returns the newest socket's index in the kernel's
//! array. The array appends on `listen` and fills the hole of a closed socket with its last element
//! (`__reuseport_detach_sock`), which `Vec::swap_remove` mirrors. An index out of range falls back to spreading, so
//! after each close the remaining old sockets stay for a while longer.

use super::listening_socket;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep_until};

/// An old socket is kept at least this long after the kernel was told not to use it: handshakes under way end there.
const LINGER: Duration = Duration::from_secs(1);

/// And this long after any other socket of the port was closed.
const LINGER_AFTER_CLOSE: Duration = Duration::from_millis(100);

/// Old sockets kept at once; past it a rebind waits for the next generation.
const MAX_OLD_SOCKETS: usize = 16;

/// The sockets of one port in the kernel's order.
#[derive(Debug)]
pub(super) struct ReusePortGroup {
    addr: SocketAddr,
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    socket: TcpListener,
    /// `None` for the newest.
    close_at: Option<Instant>,
}

impl ReusePortGroup {
    pub(super) fn new(addr: SocketAddr) -> io::Result<Self> {
        let socket = listening_socket(addr, true)?;
        let addr = socket.local_addr()?;
        Ok(Self { addr, members: vec![Member { socket, close_at: None }] })
    }

    pub(super) fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Listens on a new socket, steers new connections to it, and lets the old one drain.
    pub(super) fn rebind(&mut self, now: Instant) -> io::Result<()> {
        if !cfg!(target_os = "linux") {
            return Err(io::ErrorKind::Unsupported.into());
        }
        if self.members.len() > MAX_OLD_SOCKETS {
            return Err(io::Error::other("too many old sockets are still draining"));
        }
        let socket = listening_socket(self.addr, true)?;
        if let Err(error) = steer(&socket, self.members.len()) {
            // Unsteered it may have been given connections already: it must be accepted from, too, and cannot be closed
            // safely. It simply becomes one more socket of the port.
            self.members.push(Member { socket, close_at: None });
            return Err(error);
        }
        for member in &mut self.members {
            member.close_at.get_or_insert(now + LINGER);
        }
        self.members.push(Member { socket, close_at: None });
        Ok(())
    }

    /// The next connection of any of the sockets, oldest first so that draining ones empty.
    pub(super) async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        loop {
            let next_close = self.members.iter().filter_map(|member| member.close_at).min();
            let accepted = {
                let mut accept = pin!(std::future::poll_fn(|cx| self.poll_accept(cx)));
                match next_close {
                    None => Some(accept.await),
                    Some(at) => tokio::select! {
                        biased;
                        accepted = &mut accept => Some(accepted),
                        () = sleep_until(at) => None,
                    },
                }
            };
            match accepted {
                Some(result) => return result,
                None => self.close_due(Instant::now()),
            }
        }
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        for member in &self.members {
            if let Poll::Ready(accepted) = member.socket.poll_accept(cx) {
                return Poll::Ready(accepted);
            }
        }
        Poll::Pending
    }

    /// Closes one old socket whose time has come. `accept` polled it empty just before.
    fn close_due(&mut self, now: Instant) {
        let Some(index) = self.members.iter().position(|member| member.close_at.is_some_and(|at| at <= now)) else {
            return;
        };
        drop(self.members.swap_remove(index));
        let Some(newest) = self.members.iter().position(|member| member.close_at.is_none()) else { return };
        if let Some(member) = self.members.get(newest)
            && let Err(error) = steer(&member.socket, newest)
        {
            tracing::warn!(address = %self.addr, %error, "cannot steer connections to the newest listening socket");
        }
        for member in &mut self.members {
            if let Some(at) = &mut member.close_at {
                *at = (*at).max(now + LINGER_AFTER_CLOSE);
            }
        }
    }
}

/// Tells the kernel to give every new connection of the port to the socket at `index`.
#[cfg(target_os = "linux")]
fn steer(socket: &TcpListener, index: usize) -> io::Result<()> {
    use nix::libc::{BPF_K, BPF_RET, sock_filter, sock_fprog};
    use nix::sys::socket::{setsockopt, sockopt::AttachReusePortCbpf};

    let index = u32::try_from(index).map_err(io::Error::other)?;
    let code = u16::try_from(BPF_RET | BPF_K).map_err(io::Error::other)?;
    let mut program = [sock_filter { code, jt: 0, jf: 0, k: index }];
    let fprog = sock_fprog { len: 1, filter: program.as_mut_ptr() };
    setsockopt(socket, AttachReusePortCbpf, &fprog).map_err(io::Error::from)
}

#[cfg(not(target_os = "linux"))]
fn steer(_socket: &TcpListener, _index: usize) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

//! Where the doors are: an address that takes both families, and IPv4 alone on a machine without IPv6.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
};

use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;

/// Connections that may wait to be accepted.
const WAITING: i32 = 1024;

/// Listens at an address; at every address of IPv4, where that is every address of a machine without IPv6. Must be called
/// within a runtime.
///
/// # Errors
///
/// Why the address is not to be had.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let (socket, instead) = listen_by(address, bind)?;
    if let Some(instead) = instead {
        tracing::info!(%address, %instead, "this machine has no IPv6, so what is served is served by IPv4 alone");
    }
    TcpListener::from_std(socket.into())
}

/// What is listened at, and the address of IPv4 if it is that.
fn listen_by<T>(
    address: SocketAddr,
    bind: impl Fn(SocketAddr) -> io::Result<T>,
) -> io::Result<(T, Option<SocketAddr>)> {
    let refused = match bind(address) {
        Ok(bound) => return Ok((bound, None)),
        Err(refused) => refused,
    };
    let is_about_ipv6 = address.ip() == Ipv6Addr::UNSPECIFIED
        && !matches!(refused.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied);
    if !is_about_ipv6 {
        return Err(refused);
    }
    let instead = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
    bind(instead).map(|bound| (bound, Some(instead)))
}

fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        // A machine may be set up so that an address of IPv6 takes nothing else.
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(WAITING)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: &str) -> SocketAddr {
        address.parse().unwrap()
    }

    /// What is listened at where addresses of IPv6 are refused for that reason.
    fn without_ipv6(address: &str, refusal: io::ErrorKind) -> io::Result<SocketAddr> {
        let bind = |address: SocketAddr| {
            if address.is_ipv6() { Err(io::Error::from(refusal)) } else { Ok(address) }
        };
        listen_by(at(address), bind).map(|(bound, instead)| {
            assert_eq!(instead.is_some(), bound != at(address));
            bound
        })
    }

    #[test]
    fn without_ipv6_every_address_is_every_address_of_ipv4() {
        let bound = without_ipv6("[::]:8080", io::ErrorKind::Unsupported);
        assert_eq!(bound.unwrap(), at("0.0.0.0:8080"));
        assert_eq!(without_ipv6("127.0.0.1:8080", io::ErrorKind::Unsupported).unwrap(), at("127.0.0.1:8080"));
        for (address, kind) in [
            ("[::1]:8080", io::ErrorKind::AddrNotAvailable),
            ("[::]:8080", io::ErrorKind::AddrInUse),
            ("[::]:80", io::ErrorKind::PermissionDenied),
        ] {
            assert_eq!(without_ipv6(address, kind).unwrap_err().kind(), kind, "{address}");
        }
    }

    #[tokio::test]
    async fn every_address_is_reached_by_ipv4_too() {
        let listener = listen(at("[::]:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (accepted, connected) =
            tokio::join!(listener.accept(), tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)));
        assert!(accepted.is_ok() && connected.is_ok());
    }
}

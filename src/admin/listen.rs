//! Listens on the admin address: on IPv6 and IPv4, or on IPv4 alone on a machine without IPv6.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
};

use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// Listens on an address. On a machine without IPv6, `[::]` means every IPv4 address. Must be called within a runtime.
///
/// # Errors
///
/// Why the address cannot be used.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let (socket, instead) = bind_either(address, bind)?;
    if let Some(instead) = instead {
        tracing::info!(%address, %instead, "this machine has no IPv6; serving on IPv4 only");
    }
    TcpListener::from_std(socket.into())
}

/// Binds the address, or else the IPv4 address in its place, which is then returned too.
fn bind_either<T>(
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
        // Some machines are set up so that an IPv6 address accepts no IPv4 connections.
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: &str) -> SocketAddr {
        address.parse().unwrap()
    }

    /// The address that is bound where IPv6 addresses are refused for this reason.
    fn without_ipv6(address: &str, refusal: io::ErrorKind) -> io::Result<SocketAddr> {
        let bind = |address: SocketAddr| {
            if address.is_ipv6() { Err(io::Error::from(refusal)) } else { Ok(address) }
        };
        bind_either(at(address), bind).map(|(bound, instead)| {
            assert_eq!(instead.is_some(), bound != at(address));
            bound
        })
    }

    #[test]
    fn without_ipv6_every_address_means_every_ipv4_address() {
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
    async fn every_address_is_reachable_over_ipv4() {
        let listener = listen(at("[::]:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        // The kernel accepts it, whether or not the listener does.
        tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        listener.accept().await.unwrap();
    }

    #[tokio::test]
    async fn every_address_is_reachable_over_ipv6_where_the_machine_has_it() {
        if std::net::TcpListener::bind("[::1]:0").is_err() {
            return;
        }
        let listener = listen(at("[::]:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::net::TcpStream::connect((Ipv6Addr::LOCALHOST, port)).await.unwrap();
        listener.accept().await.unwrap();
    }
}

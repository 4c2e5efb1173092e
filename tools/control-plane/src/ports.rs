//! Free ports of the loopback interface.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::RangeInclusive;

use rand::RngExt as _;

/// Below the ports that the kernel assigns automatically, to connections and to servers that name none. So a server that is
/// stopped for a while finds its port free again.
const PORTS: RangeInclusive<u16> = 20_000..=29_999;
/// How many ports are tried before none counts as free.
const PORT_ATTEMPTS: u32 = 100;

/// Different ports that are free now.
pub(crate) fn free_ports<const COUNT: usize>() -> io::Result<[u16; COUNT]> {
    let mut listeners = Vec::with_capacity(COUNT);
    let mut ports = [0; COUNT];
    for port in &mut ports {
        let listener = listen()?;
        *port = listener.local_addr()?.port();
        listeners.push(listener);
    }
    Ok(ports)
}

/// Listens on a random port that is free.
fn listen() -> io::Result<TcpListener> {
    let mut listener = Err(io::ErrorKind::AddrInUse.into());
    for _ in 0..PORT_ATTEMPTS {
        listener = TcpListener::bind((Ipv4Addr::LOCALHOST, rand::rng().random_range(PORTS)));
        if listener.is_ok() {
            break;
        }
    }
    listener
}

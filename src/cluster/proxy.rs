//! The proxy to the API server, if any: chosen as kubectl chooses it. Pure.

use std::net::IpAddr;

use http::Uri;
use url::Url;

/// The variables that name a proxy for https.
const HTTPS_PROXY: [&str; 2] = ["HTTPS_PROXY", "https_proxy"];
/// The variables that name the hosts without a proxy.
const NO_PROXY: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// The protocol of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// HTTP with CONNECT.
    Http,
    /// HTTPS with CONNECT.
    Https,
    /// SOCKS 5; the proxy resolves names.
    Socks5,
}

/// A proxy. It has no `Debug` and no `Display`, because it may hold a password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Proxy {
    pub(crate) protocol: Protocol,
    /// Its address, without user and password.
    pub(crate) address: Uri,
    /// User and password.
    pub(crate) credentials: Option<(String, String)>,
}

/// The setting with this name is not the address of a proxy. The error does not quote it, because it may hold a
/// password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0} must be the address of a proxy, which begins with http://, https:// or socks5://, such as \
     http://proxy.example:3128; a user and a password go before the host as user:password@, percent-encoded"
)]
pub struct InvalidProxy(&'static str);

/// The proxy to the API server, if any: `proxy-url` of the kubeconfig first, then `HTTPS_PROXY`. There is none for a
/// server on this machine, and for one that `NO_PROXY` names.
///
/// # Errors
///
/// [`InvalidProxy`].
pub(crate) fn proxy(
    server: &Uri,
    of_kubeconfig: Option<&str>,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Option<Proxy>, InvalidProxy> {
    let variable = |names: [&'static str; 2]| {
        names.into_iter().find_map(|name| {
            environment(name).filter(|value| !value.trim().is_empty()).map(|value| (name, value))
        })
    };
    let host = server.host().unwrap_or_default().trim_matches(['[', ']']).trim_end_matches('.');
    let host = host.to_ascii_lowercase();
    let is_https = server.scheme_str() == Some("https");
    let named = match of_kubeconfig.filter(|address| !address.trim().is_empty()) {
        Some(address) => Some(("proxy-url of the kubeconfig", address.to_owned())),
        None if is_https => variable(HTTPS_PROXY),
        None => None,
    };
    let Some((source, address)) = named.filter(|_| !is_this_machine(&host)) else { return Ok(None) };
    let port = server.port_u16().unwrap_or(if is_https { 443 } else { 80 });
    if variable(NO_PROXY).is_some_and(|(_, list)| is_excluded(&list, &host, port)) {
        return Ok(None);
    }
    parse(address.trim()).map(Some).ok_or(InvalidProxy(source))
}

fn is_this_machine(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

fn parse(address: &str) -> Option<Proxy> {
    let url =
        if address.contains("://") { Url::parse(address) } else { Url::parse(&format!("http://{address}")) };
    let url = url.ok()?;
    let (protocol, port) = match url.scheme() {
        "http" => (Protocol::Http, 80),
        "https" => (Protocol::Https, 443),
        "socks5" | "socks5h" => (Protocol::Socks5, 1080),
        _ => return None,
    };
    let host = url.host_str().filter(|host| !host.is_empty())?;
    let scheme = if protocol == Protocol::Https { "https" } else { "http" };
    let address = format!("{scheme}://{host}:{}", url.port().unwrap_or(port)).parse().ok()?;
    let credentials = if url.username().is_empty() && url.password().is_none() {
        None
    } else {
        Some((percent_decode(url.username())?, percent_decode(url.password().unwrap_or_default())?))
    };
    Some(Proxy { protocol, address, credentials })
}

/// Percent-decodes a part of a URL; nothing if it is not UTF-8.
fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped =
            after.get(..2).filter(|digits| *first == b'%' && digits.iter().all(u8::is_ascii_hexdigit));
        let byte = escaped
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    String::from_utf8(bytes).ok()
}

/// Whether the list of `NO_PROXY` names a host: by its name, a parent domain, its address or a network, each with or
/// without a port, or by `*`. Invalid entries name no host.
fn is_excluded(list: &str, host: &str, port: u16) -> bool {
    let address = host.parse::<IpAddr>().ok();
    list.split([',', ' ']).map(|entry| entry.trim().to_ascii_lowercase()).any(|entry| {
        if entry == "*" {
            return true;
        }
        if let Some((network, prefix)) = entry.split_once('/') {
            let (Ok(network), Ok(prefix)) = (network.parse(), prefix.parse()) else { return false };
            return address.is_some_and(|address| is_within(address, network, prefix));
        }
        let (name, of_port) = split_port(&entry);
        if name.is_empty() || of_port.is_some_and(|of_port| of_port != port) {
            return false;
        }
        if let Ok(named) = name.parse::<IpAddr>() {
            return address.is_some_and(|address| address.to_canonical() == named.to_canonical());
        }
        let name = name.strip_prefix('*').unwrap_or(name);
        match name.strip_prefix('.') {
            Some(domain) => is_below(host, domain),
            None => host == name || is_below(host, name),
        }
    })
}

/// An entry without its port, and the port.
fn split_port(entry: &str) -> (&str, Option<u16>) {
    if let Some(rest) = entry.strip_prefix('[') {
        let Some((address, rest)) = rest.split_once(']') else { return (entry, None) };
        return (address, rest.strip_prefix(':').and_then(|port| port.parse().ok()));
    }
    match entry.split_once(':') {
        Some((name, port)) if !port.contains(':') => match port.parse() {
            Ok(port) => (name, Some(port)),
            Err(_) => (entry, None),
        },
        // More colons make an IPv6 address.
        Some(_) | None => (entry, None),
    }
}

fn is_below(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain).is_some_and(|before| before.len() > 1 && before.ends_with('.'))
}

fn is_within(address: IpAddr, network: IpAddr, prefix: u32) -> bool {
    let share = |address: u128, network: u128, bits: u32| {
        prefix <= bits && (prefix == 0 || (address ^ network) >> (bits - prefix) == 0)
    };
    match (address.to_canonical(), network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            share(u128::from(address.to_bits()), u128::from(network.to_bits()), 32)
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => share(address.to_bits(), network.to_bits(), 128),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: &str = "https://kubernetes.default.svc";

    /// The address of the proxy to a server; nothing for a direct connection.
    fn address_of(server: &str, of_kubeconfig: Option<&str>, environment: &[(&str, &str)]) -> Option<String> {
        let variable = |name: &str| {
            environment.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        let proxy = proxy(&server.parse().unwrap(), of_kubeconfig, variable).unwrap();
        proxy.map(|proxy| proxy.address.to_string())
    }

    #[test]
    fn the_kubeconfig_names_the_proxy_or_else_the_environment_does() {
        let environment = [("HTTPS_PROXY", "http://upper:1"), ("https_proxy", "http://lower:2")];
        let of = |address: &str| Some(format!("{address}/"));
        assert_eq!(address_of(SERVER, Some("http://config:3"), &environment), of("http://config:3"));
        assert_eq!(address_of(SERVER, Some(""), &environment), of("http://upper:1"));
        assert_eq!(address_of(SERVER, None, &environment[1..]), of("http://lower:2"));
        assert_eq!(address_of(SERVER, None, &[("HTTPS_PROXY", ""), environment[1]]), of("http://lower:2"));
        assert_eq!(address_of(SERVER, None, &[("HTTPS_PROXY", "proxy:3128")]), of("http://proxy:3128"));
        assert_eq!(address_of(SERVER, None, &[("HTTPS_PROXY", "https://proxy")]), of("https://proxy:443"));
        assert_eq!(address_of(SERVER, None, &[]), None);
        assert_eq!(address_of("http://plain.example", None, &environment), None);
    }

    #[test]
    fn a_server_on_this_machine_is_never_connected_through_a_proxy() {
        for server in
            ["https://127.0.0.1:6443", "https://localhost:6443", "https://[::1]:6443", "https://127.9.9.9"]
        {
            for no_proxy in [None, Some(("NO_PROXY", "example.com"))] {
                let environment: Vec<_> =
                    std::iter::once(("HTTPS_PROXY", "http://proxy:1")).chain(no_proxy).collect();
                assert_eq!(address_of(server, Some("http://proxy:1"), &environment), None, "{server}");
            }
        }
    }

    #[test]
    fn no_proxy_is_compared_with_the_servers_host_and_not_with_the_proxys() {
        let cases = [
            (SERVER, "proxy", false),
            (SERVER, "*", true),
            (SERVER, "localhost, .svc", true),
            (SERVER, "*.default.svc", true),
            (SERVER, "default.svc", true),
            (SERVER, "KUBERNETES.default.svc", true),
            (SERVER, ".kubernetes.default.svc", false),
            (SERVER, "netes.default.svc", false),
            (SERVER, "kubernetes.default.svc:443", true),
            (SERVER, "kubernetes.default.svc:6443", false),
            ("https://kubernetes.default.svc.:6443", "svc:6443", true),
            ("https://10.96.0.1", "10.0.0.0/8", true),
            ("https://10.96.0.1", "169.254/16,,10.96.0.0/16,", true),
            ("https://10.96.0.1", "10.97.0.0/16,10.96.0.1:80", false),
            ("https://10.96.0.1", "0.0.0.0/0", true),
            ("https://10.96.0.1", "10.96.0.1/33", false),
            ("https://[fd00::1]:6443", "fd00::/8", true),
            ("https://[fd00::1]:6443", "fd00::1", true),
            ("https://[fd00::1]:6443", "[fd00::1]:6443", true),
            ("https://[fd00::1]:6443", "[fd00::1]:443,fd01::/16", false),
        ];
        for (server, no_proxy, is_direct) in cases {
            let environment = [("HTTPS_PROXY", "http://proxy:1"), ("NO_PROXY", no_proxy)];
            assert_eq!(address_of(server, None, &environment).is_none(), is_direct, "{server} {no_proxy}");
            let lower = [("HTTPS_PROXY", "http://proxy:1"), ("no_proxy", no_proxy)];
            assert_eq!(address_of(server, None, &lower).is_none(), is_direct, "{server} {no_proxy}");
            assert_eq!(
                address_of(server, Some("http://proxy:1"), &lower).is_none(),
                is_direct,
                "{server} {no_proxy}"
            );
        }
    }

    #[test]
    fn a_user_and_a_password_are_taken_from_the_address_and_decoded() {
        let server = SERVER.parse().unwrap();
        let of = |address| proxy(&server, Some(address), |_| None).unwrap().unwrap();
        let known = of("http://user:p%40ss%3A%+1@proxy:3128");
        assert_eq!(known.credentials, Some(("user".to_owned(), "p@ss:%+1".to_owned())));
        assert_eq!(known.address, "http://proxy:3128");
        assert_eq!(of("socks5://proxy").address, "http://proxy:1080");
        assert!(
            of("socks5://proxy").protocol == Protocol::Socks5 && of("socks5://proxy").credentials.is_none()
        );
    }

    #[test]
    fn an_invalid_proxy_is_refused_with_the_name_of_its_setting() {
        let server = SERVER.parse().unwrap();
        for address in ["ftp://user:hunter2@proxy", "http://user:hunter2@", "http://user:hunter2@pro xy"] {
            let of_kubeconfig = proxy(&server, Some(address), |_| None).err().unwrap().to_string();
            assert!(of_kubeconfig.starts_with("proxy-url of the kubeconfig must be"), "{of_kubeconfig}");
            let variable = |name: &str| (name == "https_proxy").then(|| address.to_owned());
            let of_environment = proxy(&server, None, variable).err().unwrap().to_string();
            assert!(of_environment.starts_with("https_proxy must be the address"), "{of_environment}");
            assert!(!(of_kubeconfig + &of_environment).contains("hunter2"));
        }
    }
}

//! Reads metrics of a process over HTTP. Connects to the loopback interface.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

const WITHIN: Duration = Duration::from_secs(10);

/// The body of a successful response over plain HTTP.
pub(super) fn get(address: SocketAddr, path: &str) -> Result<String> {
    let context = || format!("request http://{address}{path}");
    let mut stream = TcpStream::connect_timeout(&address, WITHIN).with_context(context)?;
    stream.set_read_timeout(Some(WITHIN)).with_context(context)?;
    // With HTTP/1.0 the response is not chunked and ends with the connection.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").with_context(context)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).with_context(context)?;
    let (head, body) = answer.split_once("\r\n\r\n").with_context(context)?;
    let status = head.lines().next().unwrap_or_default();
    ensure!(status.contains(" 200 "), "http://{address}{path} responded {status}");
    Ok(body.to_owned())
}

/// The sum of all samples of this name whose labels match.
pub(super) fn sum(text: &str, name: &str, matches: impl Fn(&Labels<'_>) -> bool) -> f64 {
    text.lines()
        .filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let (labels, value) = match rest.strip_prefix('{') {
                Some(rest) => rest.rsplit_once("} ")?,
                None => ("", rest.strip_prefix(' ')?),
            };
            matches(&Labels(labels)).then(|| value.split(' ').next()?.parse::<f64>().ok())?
        })
        // The sum of nothing would be -0.
        .fold(0.0, |sum, value| sum + value)
}

/// The labels of one sample.
pub(super) struct Labels<'a>(&'a str);

impl Labels<'_> {
    /// Whether this label has this value. Does not understand values with quotes or commas.
    pub(super) fn has(&self, name: &str, value: &str) -> bool {
        self.0.split(',').any(|label| {
            label
                .split_once('=')
                .is_some_and(|(key, quoted)| key == name && quoted.trim_matches('"') == value)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_added_up_by_their_labels() {
        let text = "# TYPE a counter\na_total{verb=\"GET\",code=\"200\"} 2\na_total{verb=\"PATCH\"} 3 1700\na_totals 9\na_total 4\n";
        assert!((sum(text, "a_total", |_| true) - 9.0).abs() < 1e-9);
        assert!((sum(text, "a_total", |labels| labels.has("verb", "GET")) - 2.0).abs() < 1e-9);
    }
}

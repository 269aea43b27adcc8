//! Addresses in the settings.

/// Replaces port 0 in `HOST:0` or `https://HOST:0` by the port that was bound.
pub fn with_port(address: &str, port: u16) -> String {
    match address.strip_suffix(":0") {
        Some(host) => format!("{host}:{port}"),
        None => address.to_owned(),
    }
}

/// Whether `text` is `HOST:PORT` with a host that can stand in a URL and nothing after the port.
pub(crate) fn is_host_and_port(text: &str) -> bool {
    let host_byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']');
    text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty()
            && host.bytes().all(host_byte)
            && host.contains(':') == host.starts_with('[')
            && !port.is_empty()
            && port.bytes().all(|b| b.is_ascii_digit())
            && port.parse::<u16>().is_ok()
    })
}

/// Whether `url` is `https://HOST` or `https://HOST:PORT`, as a browser's address bar has it.
pub(super) fn is_origin(url: &str) -> bool {
    let host = url.strip_prefix("https://").unwrap_or_default();
    let has_port = host.rfind(':') > host.rfind(']');
    is_host_and_port(host) || (!has_port && is_host_and_port(&format!("{host}:443")))
}

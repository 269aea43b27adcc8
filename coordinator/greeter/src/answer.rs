//! As much of HTTP/1.1 (RFC 9112) as two GET requests need: one request per connection, then it is closed.

use std::fmt::Write as _;
use std::io::{self, Read};

use crate::settings::Settings;

const HEAD_BYTES_MAX: usize = 8 * 1024;

/// Reads up to the empty line that ends a request's head. `before_read` sets the time that is left, or refuses.
pub fn read_head<S: Read + Copy>(mut stream: S, before_read: impl Fn(S) -> io::Result<()>) -> io::Result<String> {
    let mut head = Vec::new();
    let mut part = [0; 1024];
    while !head.windows(4).any(|four| four == b"\r\n\r\n") {
        before_read(stream)?;
        let count = match stream.read(&mut part) {
            // A signal does not end a request; nor does the kernel go on by itself where there is a limit of time.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        if count == 0 || head.len() + count > HEAD_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        head.extend(part.iter().take(count));
    }
    String::from_utf8(head).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// The whole answer to a request's head.
pub fn to_request(head: &str, settings: &Settings) -> String {
    let mut words = head.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    let (status, body) = match (method, path) {
        ("GET" | "HEAD", "/") => (200, greeting(settings)),
        ("GET" | "HEAD", "/health") => (settings.health_status, health(settings)),
        ("GET" | "HEAD", _) => (404, r#"{"error":"there is / and /health"}"#.to_owned()),
        _ => (405, r#"{"error":"only GET is answered"}"#.to_owned()),
    };
    let length = body.len();
    let body = if method == "HEAD" { String::new() } else { body };
    format!(
        "HTTP/1.1 {status} {}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}",
        phrase(status)
    )
}

fn greeting(settings: &Settings) -> String {
    let (version, message) = (quoted(&settings.version), quoted(&settings.message));
    format!(r#"{{"app":"greeter","version":{version},"message":{message}}}"#)
}

fn health(settings: &Settings) -> String {
    format!(r#"{{"healthy":{}}}"#, (200..400).contains(&settings.health_status))
}

fn phrase(status: u16) -> &'static str {
    match status {
        200..300 => "OK",
        404 => "Not Found",
        405 => "Method Not Allowed",
        500.. => "Server Error",
        _ => "Other",
    }
}

/// A JSON string (RFC 8259 section 7).
fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            // Writing to a String cannot fail.
            c if c.is_control() => drop(write!(out, "\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings::parse("version = 1.2.0\nmessage = Say \"hi\"\nhealth_status = 500").unwrap()
    }

    fn status(request: &str) -> String {
        let answer = to_request(request, &settings());
        answer.split(' ').nth(1).unwrap_or_default().to_owned()
    }

    #[test]
    fn the_greeting_is_json_with_version_and_message() {
        let answer = to_request("GET / HTTP/1.1\r\n\r\n", &settings());
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, r#"{"app":"greeter","version":"1.2.0","message":"Say \"hi\""}"#);
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
    }

    #[test]
    fn health_has_the_status_that_the_release_asks_for() {
        assert_eq!(status("GET /health?x=1 HTTP/1.1\r\n\r\n"), "500");
        assert_eq!(status("GET /elsewhere HTTP/1.1\r\n\r\n"), "404");
        assert_eq!(status("POST / HTTP/1.1\r\n\r\n"), "405");
        assert_eq!(status("\r\n\r\n"), "405");
    }

    #[test]
    fn a_head_that_does_not_end_or_is_too_long_is_dropped() {
        let read = |bytes: &[u8]| {
            let file = std::cell::RefCell::new(io::Cursor::new(bytes.to_vec()));
            read_head(Shared(&file), |_| Ok(()))
        };
        assert_eq!(read(b"GET / HTTP/1.1\r\n\r\n").unwrap(), "GET / HTTP/1.1\r\n\r\n");
        assert!(read(b"GET / HTTP/1.1\r\n").is_err());
        assert!(read(&vec![b'x'; HEAD_BYTES_MAX + 10]).is_err());
    }

    /// Is interrupted before each byte.
    #[derive(Clone, Copy)]
    struct Interrupted<'a>(&'a std::cell::RefCell<(bool, io::Cursor<&'static [u8]>)>);

    impl Read for Interrupted<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let (interrupted, bytes) = &mut *self.0.borrow_mut();
            *interrupted = !*interrupted;
            if *interrupted { Err(io::ErrorKind::Interrupted.into()) } else { bytes.read(out.get_mut(..1).unwrap()) }
        }
    }

    #[test]
    fn a_signal_does_not_end_a_request() {
        let stream = std::cell::RefCell::new((false, io::Cursor::new(b"GET / HTTP/1.1\r\n\r\n".as_slice())));
        assert_eq!(read_head(Interrupted(&stream), |_| Ok(())).unwrap(), "GET / HTTP/1.1\r\n\r\n");
    }

    #[derive(Clone, Copy)]
    struct Shared<'a>(&'a std::cell::RefCell<io::Cursor<Vec<u8>>>);

    impl Read for Shared<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            self.0.borrow_mut().read(out)
        }
    }
}

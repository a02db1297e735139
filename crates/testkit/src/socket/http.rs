//! HTTP/1.1 client with one persistent connection.

use std::io::{BufRead, BufReader, Read, Write};

use super::dial::{Dial, Stream};

/// Persistent connection for sequential requests.
#[derive(Debug)]
pub struct Http(BufReader<Box<dyn Stream>>);

/// Response with its complete body.
#[derive(Debug)]
pub struct Answer {
    /// Status.
    pub status: u16,
    /// Headers, their names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body, if it is not compressed.
    pub body: String,
    /// Body bytes, if compressed.
    pub bytes: Vec<u8>,
}

impl Http {
    /// Connects.
    pub fn open(dial: &Dial) -> Self {
        Self(BufReader::new(dial.open()))
    }

    /// Sends a GET and waits for the response.
    pub fn get(&mut self, target: &str) -> Answer {
        self.send("GET", target, b"");
        self.answer()
    }

    /// Sends a POST and waits for the response.
    pub fn post(&mut self, target: &str, body: &[u8]) -> Answer {
        self.send("POST", target, body);
        self.answer()
    }

    /// Sends a request without a body, with headers such as `"Accept: */*\r\n"`.
    pub fn request(&mut self, method: &str, target: &str, headers: &str) -> Answer {
        let head = format!("{method} {target} HTTP/1.1\r\nHost: test\r\n{headers}\r\n");
        self.0.get_mut().write_all(head.as_bytes()).expect("connection is open");
        self.answer()
    }

    /// Sends a request without waiting for the response.
    pub fn send(&mut self, method: &str, target: &str, body: &[u8]) {
        let len = body.len();
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: test\r\nContent-Type: text/plain;charset=UTF-8\r\n\
             Content-Length: {len}\r\n\r\n"
        );
        let request = [head.as_bytes(), body].concat();
        self.0.get_mut().write_all(&request).expect("connection is open");
    }

    /// Waits for the response to a sent request.
    pub fn answer(&mut self) -> Answer {
        let status = self.line();
        let status = status.split(' ').nth(1).and_then(|code| code.parse().ok());
        let mut headers = Vec::new();
        loop {
            let line = self.line();
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').expect("header line");
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let status = status.expect("status line");
        let mut answer = Answer { status, headers, body: String::new(), bytes: Vec::new() };
        let len = answer.header("content-length").map_or(0, |len| len.parse().expect("numeric length"));
        let len = if status == 304 || status == 101 { 0 } else { len };
        assert_eq!(answer.header("transfer-encoding"), None, "responses have a known length");
        let mut body = vec![0; len];
        self.0.read_exact(&mut body).expect("complete body");
        match answer.header("content-encoding") {
            None => answer.body = String::from_utf8(body).expect("body is UTF-8"),
            Some(_) => answer.bytes = body,
        }
        answer
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("server responds");
        assert!(line.ends_with('\n'), "connection closed by the server: {line:?}");
        line.trim_end().to_owned()
    }
}

impl Answer {
    /// Returns a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }
}

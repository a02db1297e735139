//! The official browser clients, served from memory

use std::fs::File;
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Read};
use std::path::Path;
use std::sync::OnceLock;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use roomcast_core::ResponseBody;

use crate::web::compression::{Coding, compress, replace};

/// Client files found at startup.
pub(crate) struct ClientFiles(Vec<ClientFile>);

struct ClientFile {
    name: &'static str,
    bytes: Bytes,
    etag: HeaderValue,
    gzip: OnceLock<Bytes>,
    deflate: OnceLock<Bytes>,
}

/// Contents of the folder `client-dist` of npm's `socket.io`
const NAMES: [&str; 8] = [
    "socket.io.js",
    "socket.io.js.map",
    "socket.io.min.js",
    "socket.io.min.js.map",
    "socket.io.esm.min.js",
    "socket.io.esm.min.js.map",
    "socket.io.msgpack.min.js",
    "socket.io.msgpack.min.js.map",
];

/// Maximum size of a file; the largest has a third of a megabyte
const MAX_FILE: u64 = 8 * 1024 * 1024;

impl ClientFiles {
    pub(crate) fn read(folder: &Path) -> io::Result<Self> {
        let mut files = Vec::new();
        for name in NAMES {
            let path = folder.join(name);
            match read(&path) {
                Ok(bytes) => files.push(ClientFile::new(name, bytes)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(io::Error::new(error.kind(), format!("{}: {error}", path.display())));
                }
            }
        }
        if files.is_empty() {
            let text = format!(
                "{} has none of the official clients, such as socket.io.js; they are in the folder client-dist of \
                 npm's socket.io",
                folder.display()
            );
            return Err(io::Error::new(io::ErrorKind::NotFound, text));
        }
        Ok(Self(files))
    }

    /// Answers a request for a client file; `None` for any other request.
    pub(crate) fn answer(
        &self,
        method: &Method,
        name: &str,
        headers: &HeaderMap,
    ) -> Option<Response<ResponseBody>> {
        let file = self.0.iter().find(|file| file.name == name)?;
        matches!(*method, Method::GET | Method::HEAD).then(|| file.answer(headers))
    }
}

/// Answers a request for a client file where none is served; `None` for any other request.
pub(crate) fn not_served(method: &Method, name: &str) -> Option<Response<ResponseBody>> {
    if !NAMES.contains(&name) || !matches!(*method, Method::GET | Method::HEAD) {
        return None;
    }
    let mut response = Response::new(ResponseBody::Full(Bytes::from_static(NOT_SERVED.as_bytes())));
    *response.status_mut() = StatusCode::NOT_FOUND;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    Some(response)
}

const NOT_SERVED: &str = "The Socket.IO client is not served here. Take it from npm (`npm install socket.io-client`) \
    or a CDN, or have it served: install npm's `socket.io`, and name its folder `client-dist` by \
    `IoBuilder::serve_client`, or by the flag `--serve-client` of the command.";

impl ClientFile {
    fn new(name: &'static str, bytes: Bytes) -> Self {
        // A fixed key, so that servers with the same file agree.
        let mut hasher = DefaultHasher::new();
        hasher.write(&bytes);
        let etag = format!("\"{:016x}\"", hasher.finish());
        let etag = HeaderValue::try_from(etag).unwrap_or_else(|_| HeaderValue::from_static("\"\""));
        Self { name, bytes, etag, gzip: OnceLock::new(), deflate: OnceLock::new() }
    }

    fn answer(&self, headers: &HeaderMap) -> Response<ResponseBody> {
        let mut response = Response::new(ResponseBody::Empty);
        let told = response.headers_mut();
        told.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=0"));
        told.insert(ETAG, self.etag.clone());
        told.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
        if self.is_known(headers) {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return response;
        }
        told.insert(
            CONTENT_TYPE,
            HeaderValue::from_static(if self.name.ends_with(".map") {
                "application/json; charset=utf-8"
            } else {
                "application/javascript; charset=utf-8"
            }),
        );
        *response.body_mut() = ResponseBody::Full(self.bytes.clone());
        if let Some(coding) = Coding::accepted(headers) {
            let kept = match coding {
                Coding::Gzip => &self.gzip,
                Coding::Deflate => &self.deflate,
            };
            let small = kept.get_or_init(|| compress(coding, LEVEL, &self.bytes)).clone();
            replace(&mut response, coding, small);
        }
        response
    }

    /// Returns whether the browser's copy is current (RFC 9110 section 13.1.2).
    fn is_known(&self, headers: &HeaderMap) -> bool {
        let values = headers.get_all(IF_NONE_MATCH).into_iter().filter_map(|value| value.to_str().ok());
        let mut tags = values.flat_map(|value| value.split(','));
        tags.any(|tag| {
            let tag = tag.trim();
            let strong = tag.strip_prefix("W/").unwrap_or(tag);
            tag == "*" || strong.as_bytes() == self.etag.as_bytes()
        })
    }
}

/// Files are compressed once, so a slow level is affordable
const LEVEL: u32 = 6;

fn read(path: &Path) -> io::Result<Bytes> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "more than 8 MiB"));
    }
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_folder_without_client_files() {
        let error = ClientFiles::read(Path::new("no/such/folder")).err().expect("nothing is there");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().starts_with("no/such/folder has none of the official clients"), "{error}");
    }

    #[test]
    fn hints_only_for_client_file_names() {
        for (method, name, told) in [
            (Method::GET, "socket.io.js", true),
            (Method::HEAD, "socket.io.esm.min.js.map", true),
            (Method::POST, "socket.io.js", false),
            (Method::GET, "", false),
            (Method::GET, "socket.io.css", false),
        ] {
            assert_eq!(not_served(&method, name).is_some(), told, "{method} {name}");
        }
    }

    #[test]
    fn answers_304_for_cached_file() {
        let file = ClientFile::new("socket.io.js", Bytes::from_static(b"let io;"));
        let etag = file.etag.to_str().expect("text");
        let status = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(IF_NONE_MATCH, HeaderValue::try_from(value).expect("a header"));
            file.answer(&headers).status().as_u16()
        };
        for known in [etag.to_owned(), format!("W/{etag}"), format!("\"a\", {etag}"), "*".to_owned()] {
            assert_eq!(status(&known), 304, "{known}");
        }
        for unknown in ["", "\"\"", "\"a\"", etag.trim_matches('"')] {
            assert_eq!(status(unknown), 200, "{unknown}");
        }
        let other = ClientFile::new("socket.io.js", Bytes::from_static(b"let io; "));
        assert_ne!(file.etag, other.etag);
    }
}

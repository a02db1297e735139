//! Compression of poll responses

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use http::header::{ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use roomcast_core::memory::Charge;
use roomcast_core::{Frame, Message, ResponseBody, Wire, WireKey};
use tokio::task::yield_now;

/// Compression of poll responses, by gzip or deflate as the client prefers.
///
/// A broadcast is compressed once and kept with its frame while queued; a message to one client is compressed per
/// response. Responses stay uncompressed if the client does not accept a coding or if compression would not shrink
/// them.
///
/// The compressed length of a response with both a secret and attacker-chosen text leaks the secret (the BREACH
/// attack). Where that matters turn compression [off](crate::config::HttpConfig::compression).
///
/// ```
/// use roomcast_server::http::HttpCompression;
/// use roomcast_server::Config;
///
/// let config = Config::new().http(|http| http.compression(HttpCompression::default().threshold(4096)));
/// let off = Config::new().http(|http| http.compression(None));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct HttpCompression {
    threshold: usize,
    level: u32,
}

impl Default for HttpCompression {
    fn default() -> Self {
        Self { threshold: 1024, level: 1 }
    }
}

impl HttpCompression {
    /// Sets the minimum size of a compressed response, in bytes. Default: 1024.
    pub fn threshold(mut self, bytes: usize) -> Self {
        self.threshold = bytes;
        self
    }

    /// Sets the compression level, from 1 (fast) to 9 (small). Default: 1; Node uses 6.
    pub fn level(mut self, level: u32) -> Self {
        self.level = level.clamp(1, 9);
        self
    }

    /// Returns whether a body is long enough.
    pub(crate) fn reaches(&self, body: &ResponseBody) -> bool {
        body.bytes().is_some_and(|bytes| bytes.len() >= self.threshold)
    }

    /// Returns whether this response is long enough, and its transport allows compression.
    pub(crate) fn concerns(&self, response: &Response<ResponseBody>) -> bool {
        let fixed =
            response.headers().get(CACHE_CONTROL).is_some_and(|value| value == "no-store, no-transform");
        response.status() == StatusCode::OK && self.reaches(response.body()) && !fixed
    }

    /// Compresses a poll response if that shrinks it.
    pub(crate) async fn apply(&self, coding: Coding, response: &mut Response<ResponseBody>) {
        let Some(bytes) = response.body().bytes() else { return };
        if !self.concerns(response) {
            return;
        }
        let small = match response.body().frame() {
            Some(frame) if bytes.len() <= CHUNK || frame.is_shared() => {
                // Kept with the frame and charged with it while being sent.
                frame.clone().attach(self.kept(coding, frame, bytes))
            }
            _ if bytes.len() <= CHUNK => charged(compress(coding, self.level, bytes)),
            _ => {
                let bytes = bytes.clone();
                charged(compress_in_turn(coding, self.level, &bytes).await)
            }
        };
        replace(response, coding, small);
    }

    /// Returns the compressed form of a frame; the first user creates it.
    ///
    /// It is compressed before it is stored, so other forms of the frame need not wait. Concurrent threads may compress
    /// it twice.
    fn kept(&self, coding: Coding, frame: &Frame, bytes: &Bytes) -> Bytes {
        let key = WireKey::of::<Self>(self.level << 1 | coding as u32);
        let known = frame.rendered(key).cloned();
        known.unwrap_or_else(|| frame.wire(&Made { key, bytes: compress(coding, self.level, bytes) }))
    }
}

/// Returns the same bytes, charged until they are sent.
fn charged(bytes: Bytes) -> Bytes {
    Charge::new(bytes.len()).attach(bytes)
}

/// Bytes compressed between yields, about half a millisecond's worth
const CHUNK: usize = 64 * 1024;

/// Cached form of a frame.
struct Made {
    key: WireKey,
    bytes: Bytes,
}

impl Wire for Made {
    fn key(&self) -> WireKey {
        self.key
    }

    fn render(&self, _: &[Message]) -> Bytes {
        self.bytes.clone()
    }
}

/// Content coding that clients may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    Gzip,
    /// In the zlib format, as HTTP defines it (RFC 9110 section 8.4.1.2)
    Deflate,
}

impl Coding {
    /// Returns the client's preferred coding (RFC 9110 section 12.5.3); the first named on a tie.
    pub(crate) fn accepted(headers: &HeaderMap) -> Option<Self> {
        let values = headers.get_all(ACCEPT_ENCODING).into_iter().filter_map(|value| value.to_str().ok());
        let (mut gzip, mut deflate, mut any) = (None, None, None);
        for (place, item) in values.flat_map(|value| value.split(',')).take(MAX_CODINGS).enumerate() {
            let (name, parameters) = item.split_once(';').unwrap_or((item, ""));
            let liking = Some((weight(parameters), usize::MAX - place));
            match name.trim() {
                name if name.eq_ignore_ascii_case("gzip") => gzip = liking,
                name if name.eq_ignore_ascii_case("deflate") => deflate = liking,
                "*" => any = liking,
                _ => {}
            }
        }
        let liked = |coding: Self, own: Option<(u16, usize)>| {
            own.or(any).filter(|(weight, _)| *weight > 0).map(|liking| (liking, coding))
        };
        let (gzip, deflate) = (liked(Self::Gzip, gzip), liked(Self::Deflate, deflate));
        match (gzip, deflate) {
            (Some((first, _)), Some((second, coding))) if second > first => Some(coding),
            (Some((_, coding)), _) | (None, Some((_, coding))) => Some(coding),
            (None, None) => None,
        }
    }

    fn name(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        })
    }
}

/// Codings examined in a header; real clients send fewer
const MAX_CODINGS: usize = 32;

/// Returns a quality value in thousandths.
fn weight(parameters: &str) -> u16 {
    let mut named = parameters.split(';').filter_map(|parameter| parameter.split_once('='));
    let Some((_, value)) = named.find(|(name, _)| name.trim().eq_ignore_ascii_case("q")) else { return 1000 };
    let liked: f32 = value.trim().parse().unwrap_or(0.0);
    // Numbers outside this range are invalid.
    if (0.0..=1.0).contains(&liked) { (liked * 1000.0) as u16 } else { 0 }
}

/// Replaces the body by the compressed bytes, if they are fewer.
pub(crate) fn replace(response: &mut Response<ResponseBody>, coding: Coding, small: Bytes) {
    let len = http_body::Body::size_hint(response.body()).exact().unwrap_or(0);
    if small.len() as u64 >= len {
        return;
    }
    response.body_mut().replace(small);
    response.headers_mut().remove(CONTENT_LENGTH);
    response.headers_mut().insert(CONTENT_ENCODING, coding.name());
}

/// Compresses all bytes at once.
pub(crate) fn compress(coding: Coding, level: u32, bytes: &[u8]) -> Bytes {
    let mut encoder = Encoder::new(coding, level, bytes.len());
    encoder.put(bytes);
    encoder.finish()
}

/// Compresses in chunks, yielding between them.
async fn compress_in_turn(coding: Coding, level: u32, bytes: &[u8]) -> Bytes {
    let mut encoder = Encoder::new(coding, level, bytes.len());
    for piece in bytes.chunks(CHUNK) {
        encoder.put(piece);
        yield_now().await;
    }
    encoder.finish()
}

enum Encoder {
    Gzip(GzEncoder<Vec<u8>>),
    Deflate(ZlibEncoder<Vec<u8>>),
}

impl Encoder {
    fn new(coding: Coding, level: u32, len: usize) -> Self {
        let (level, out) = (Compression::new(level), Vec::with_capacity(len / 4));
        match coding {
            Coding::Gzip => Self::Gzip(GzEncoder::new(out, level)),
            Coding::Deflate => Self::Deflate(ZlibEncoder::new(out, level)),
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        // Writing to memory cannot fail.
        let _ = match self {
            Self::Gzip(encoder) => encoder.write_all(bytes),
            Self::Deflate(encoder) => encoder.write_all(bytes),
        };
    }

    fn finish(self) -> Bytes {
        let finished = match self {
            Self::Gzip(encoder) => encoder.finish(),
            Self::Deflate(encoder) => encoder.finish(),
        };
        finished.unwrap_or_default().into()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::{GzDecoder, ZlibDecoder};

    use super::*;

    fn accepted(values: &[&'static str]) -> Option<Coding> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(ACCEPT_ENCODING, HeaderValue::from_static(value));
        }
        Coding::accepted(&headers)
    }

    #[test]
    fn honors_accepted_encodings() {
        for (values, expected) in [
            (&["gzip, deflate, br"][..], Some(Coding::Gzip)),
            (&["deflate, gzip"], Some(Coding::Deflate)),
            (&["deflate", "gzip"], Some(Coding::Deflate)),
            (&["gzip;q=0.5, deflate;q=0.8"], Some(Coding::Deflate)),
            (&["GZIP"], Some(Coding::Gzip)),
            (&["gzip;q=0, deflate"], Some(Coding::Deflate)),
            (&["*"], Some(Coding::Gzip)),
            (&["gzip;q=0, *"], Some(Coding::Deflate)),
            (&["*;q=0"], None),
            (&["gzip; q = 0"], None),
            (&["gzip;q=2"], None),
            (&["gzip;q=x"], None),
            (&["br, zstd, identity"], None),
            (&["identity;q=1, gzip;q=0.001"], Some(Coding::Gzip)),
            (&[""], None),
            (&[], None),
        ] {
            assert_eq!(accepted(values), expected, "{values:?}");
        }
    }

    fn inflated(response: &Response<ResponseBody>) -> (Option<&str>, Vec<u8>) {
        let ResponseBody::Full(bytes) = response.body() else { panic!("{:?}", response.body()) };
        let mut out = Vec::new();
        let coding = response.headers().get(CONTENT_ENCODING).and_then(|coding| coding.to_str().ok());
        match coding {
            Some("gzip") => GzDecoder::new(&bytes[..]).read_to_end(&mut out).expect("gzip"),
            Some("deflate") => ZlibDecoder::new(&bytes[..]).read_to_end(&mut out).expect("zlib"),
            _ => out.write(bytes).expect("memory"),
        };
        (coding, out)
    }

    #[tokio::test]
    async fn long_answers_survive_compression() {
        let rules = HttpCompression::default();
        for len in [1024, CHUNK, CHUNK + 1, 1_000_000] {
            let text = "chat ".repeat(len).into_bytes()[..len].to_vec();
            for (coding, name) in [(Coding::Gzip, "gzip"), (Coding::Deflate, "deflate")] {
                let mut response = Response::new(ResponseBody::Full(text.clone().into()));
                rules.apply(coding, &mut response).await;
                assert_eq!(inflated(&response), (Some(name), text.clone()), "{len}");
            }
        }
    }

    #[tokio::test]
    async fn compressed_answers_stay_tracked() {
        let rules = HttpCompression::default();
        // Compresses to about half, which is more than one slice.
        let hex: String = noise(100_000).iter().map(|byte| format!("{byte:02x}")).collect();
        let frame = Frame::new(hex.clone());
        for body in
            [ResponseBody::Full(hex.clone().into()), ResponseBody::Rendered(frame, hex.clone().into())]
        {
            let progress = roomcast_core::BodyProgress::new();
            let mut response = Response::new(body.track(&progress));
            rules.apply(Coding::Gzip, &mut response).await;
            assert!(matches!(response.body(), ResponseBody::Tracked(_)), "{:?}", response.body());
            let small =
                http_body_util::BodyExt::collect(response.into_body()).await.expect("memory").to_bytes();
            let mut out = String::new();
            GzDecoder::new(&small[..]).read_to_string(&mut out).expect("gzip");
            assert!(out == hex && small.len() < hex.len());
            assert_eq!(progress.moved(), small.len() as u64);
        }
    }

    /// The high bits of a linear congruence are as good as random here.
    fn noise(len: usize) -> Vec<u8> {
        let noise =
            std::iter::successors(Some(1u64), |n| Some(n.wrapping_mul(6364136223846793005).wrapping_add(1)));
        noise.take(len).map(|n| (n >> 56) as u8).collect()
    }

    #[tokio::test]
    async fn leaves_short_and_incompressible_answers_alone() {
        let rules = HttpCompression::default();
        let mut short = Response::new(ResponseBody::Full(vec![b'a'; 1023].into()));
        rules.apply(Coding::Gzip, &mut short).await;
        assert_eq!(inflated(&short).0, None);
        let mut error = Response::new(ResponseBody::Full(vec![b'a'; 5000].into()));
        *error.status_mut() = StatusCode::BAD_REQUEST;
        rules.apply(Coding::Gzip, &mut error).await;
        assert_eq!(inflated(&error).0, None);
        let noise = noise(4096);
        let mut response = Response::new(ResponseBody::Full(noise.clone().into()));
        rules.apply(Coding::Gzip, &mut response).await;
        assert_eq!(inflated(&response), (None, noise));
    }

    #[tokio::test]
    async fn compresses_shared_payload_once() {
        let rules = HttpCompression::default();
        let frame = Frame::new("news ".repeat(1000));
        let bytes = Bytes::from(frame.messages()[0].as_bytes().to_vec());
        let mut sent = Vec::new();
        for coding in [Coding::Gzip, Coding::Deflate, Coding::Gzip, Coding::Deflate] {
            let mut response = Response::new(ResponseBody::Rendered(frame.clone(), bytes.clone()));
            rules.apply(coding, &mut response).await;
            assert_eq!(inflated(&response).1, bytes);
            let ResponseBody::Full(small) = response.into_body() else { panic!("it is whole") };
            sent.push(small.as_ptr());
        }
        assert_eq!((sent[0], sent[1]), (sent[2], sent[3]));
        assert_ne!(sent[0], sent[1]);
    }
}

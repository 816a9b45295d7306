//! How does the admin port speak HTTP? hyper, on a thread of its own that no executor waits for. What is answered is
//! decided by a [`Pages`]; whoever asks for too much at once waits, and nobody for longer than [`PATIENCE`].

pub mod commands;
pub mod metrics;
pub mod stored;
pub mod topology;
pub mod zk;

use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// Connections at a time; others wait until one of these ends.
const CONNECTIONS_MAX: usize = 64;
/// Answers that are made at a time.
const ANSWERS_MAX: usize = 4;
/// How long a request's head may take, and an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of a request's head at most.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Page {
    /// HTTP status.
    pub code: u16,
    /// Content type.
    pub kind: &'static str,
    /// The text.
    pub body: String,
}

impl Page {
    /// JSON text.
    pub fn json(code: u16, body: String) -> Self {
        Self { code, kind: "application/json", body }
    }

    /// A probe's answer.
    pub fn probe(key: &str, good: bool) -> Self {
        Self::json(if good { 200 } else { 503 }, format!("{{\"{key}\":{good}}}\n"))
    }

    /// There is nothing at that path, but at these.
    pub fn unknown(paths: &[&str]) -> Self {
        Self::json(404, format!("{}\n", serde_json::json!({ "paths": paths })))
    }
}

/// What there is to be asked for. Called on a thread that may wait.
pub trait Pages: Send + Sync + 'static {
    /// The answer to `GET path?query`.
    fn get(&self, path: &str, query: &str) -> Page;
}

/// Serves at `addr`, from a thread of its own, until the process ends.
///
/// # Errors
/// If the port can't be had.
pub fn serve(addr: &str, pages: Arc<dyn Pages>) -> Result<(), String> {
    let wrong = |e: std::io::Error| format!("admin port {addr}: {e}");
    let listener = zoolog_core::rt::listen(addr)?;
    listener.set_nonblocking(true).map_err(wrong)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(ANSWERS_MAX)
        .thread_name("admin")
        .build()
        .map_err(wrong)?;
    let listener = {
        let _within = runtime.enter();
        TcpListener::from_std(listener).map_err(wrong)?
    };
    std::thread::Builder::new()
        .name("admin".into())
        .spawn(move || runtime.block_on(accept(listener, pages)))
        .map_err(wrong)?;
    Ok(())
}

async fn accept(listener: TcpListener, pages: Arc<dyn Pages>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let place = room.clone().acquire_owned().await.expect("it is never closed");
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(e) => {
                // Too many open files, say: later there may be fewer.
                tracing::warn!("the admin port takes no connection: {e}");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        let pages = pages.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| respond(request, pages.clone()));
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(PATIENCE).max_buf_size(HEAD_BYTES_MAX);
            // Who hangs up before the answer doesn't get it.
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
            drop(place);
        });
    }
}

async fn respond(
    request: Request<Incoming>,
    pages: Arc<dyn Pages>,
) -> Result<Response<Full<hyper::body::Bytes>>, Infallible> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut answer = Response::new(Full::default());
        *answer.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return Ok(answer);
    }
    let (path, query) = (request.uri().path().to_string(), request.uri().query().unwrap_or("").to_string());
    let made = tokio::task::spawn_blocking(move || pages.get(&path, &query));
    let page = match tokio::time::timeout(PATIENCE, made).await {
        Ok(Ok(page)) => page,
        Ok(Err(_)) | Err(_) => Page::json(503, "{\"error\":\"no answer in time\"}\n".into()),
    };
    let mut answer = Response::new(Full::from(page.body));
    *answer.status_mut() = StatusCode::from_u16(page.code).expect("a status");
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(page.kind));
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    struct Echo;

    impl Pages for Echo {
        fn get(&self, path: &str, query: &str) -> Page {
            Page { code: 203, kind: "text/plain", body: format!("{path} {query}") }
        }
    }

    fn say(addr: &str, text: &str) -> String {
        let mut stream = std::net::TcpStream::connect(addr).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn pages_are_served_and_nothing_else() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        serve(&free, Arc::new(Echo)).unwrap();
        let page = say(&free, "GET /a/b?c=d HTTP/1.0\r\n\r\n");
        assert!(page.starts_with("HTTP/1.0 203") && page.ends_with("\r\n\r\n/a/b c=d"), "{page}");
        let two = "GET /x HTTP/1.1\r\nhost: h\r\n\r\nGET /y HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";
        let both = say(&free, two);
        assert!(both.contains("/x ") && both.ends_with("/y "), "{both}");
        let post = say(&free, "POST /a HTTP/1.0\r\ncontent-length: 3\r\n\r\nabc");
        assert!(post.starts_with("HTTP/1.0 405") && post.contains("allow: GET, HEAD"), "{post}");
        assert!(say(&free, "ruok\r\n\r\n").starts_with("HTTP/1.1 400"));
        assert!(serve(&free, Arc::new(Echo)).unwrap_err().contains("in use"));
    }
}

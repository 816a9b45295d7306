//! How does a command ask a ZooKeeper server, ours or another's? Over one connection, many questions under way,
//! answers in order.

use crate::exit::{Code, Failure};
use std::io::{BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;
use zoolog_zk::jute::{ConnectRequest, ConnectResponse, ErrorCode, ReplyHeader, Request, xid};

/// How long a server may take for an answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Session timeout asked for.
const SESSION_MS: i32 = 30_000;
/// Longest frame taken.
const FRAME_BYTES_MAX: usize = 256 << 20;

/// A session at a server.
#[derive(Debug)]
pub struct Client {
    addr: String,
    stream: BufReader<TcpStream>,
    out: Vec<u8>,
    xid: i32,
}

impl Client {
    /// Opens one, and proves these identities, each `SCHEME:PROOF`.
    ///
    /// # Errors
    /// If nobody is there, or an identity is refused.
    pub fn open(addr: &str, identities: &[String]) -> Result<Self, Failure> {
        let unreachable = |why: String| {
            Failure::new(Code::Unavailable, format!("{addr}: {why}: is a ZooKeeper server listening there?"))
        };
        let at = addr.to_socket_addrs().map_err(|e| unreachable(e.to_string()))?.next();
        let at = at.ok_or_else(|| unreachable("no such host".into()))?;
        let stream = TcpStream::connect_timeout(&at, PATIENCE).map_err(|e| unreachable(e.to_string()))?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(|e| unreachable(e.to_string()))?;
        stream.set_nodelay(true).map_err(|e| unreachable(e.to_string()))?;
        let stream = BufReader::with_capacity(64 << 10, stream);
        let mut client = Self { addr: addr.into(), stream, out: Vec::new(), xid: 0 };
        let hello = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: 0,
            timeout_ms: SESSION_MS,
            session: 0,
            password: &[0; 16],
            read_only: Some(false),
        };
        hello.encode(&mut client.out);
        client.flush()?;
        let answer = client.frame()?;
        let session = ConnectResponse::decode(&answer).map_err(|e| unreachable(e.to_string()))?;
        if session.is_refusal() {
            return Err(unreachable("it refuses sessions".into()));
        }
        for identity in identities {
            let (scheme, proof) = identity.split_once(':').ok_or_else(|| {
                Failure::new(
                    Code::Usage,
                    format!("`{identity}` is no identity: SCHEME:PROOF, such as digest:me:secret"),
                )
            })?;
            let auth = Request::Auth { scheme: scheme.into(), auth: proof.as_bytes() };
            auth.encode(xid::AUTH, &mut client.out);
            client.flush()?;
            let (error, _) = client.answer_to(xid::AUTH)?;
            if error != 0 {
                return Err(format!("{addr} refuses the identity {scheme}:..").into());
            }
        }
        Ok(client)
    }

    /// Puts a question behind those under way; [`flush`](Self::flush) sends them.
    pub fn ask(&mut self, request: &Request<'_>) -> i32 {
        self.xid = self.xid.wrapping_add(1).max(1);
        request.encode(self.xid, &mut self.out);
        self.xid
    }

    /// Sends what was asked.
    ///
    /// # Errors
    /// If the connection is gone.
    pub fn flush(&mut self) -> Result<(), Failure> {
        let out = std::mem::take(&mut self.out);
        self.stream.get_mut().write_all(&out).map_err(|e| self.gone(&e))
    }

    /// The record that answers that question, or the error.
    ///
    /// # Errors
    /// If the connection is gone, or the answer is another's.
    pub fn answer(&mut self, to: i32) -> Result<Result<Vec<u8>, ErrorCode>, Failure> {
        let (error, record) = self.answer_to(to)?;
        match error {
            0 => Ok(Ok(record)),
            n => ErrorCode::from_code(n)
                .map(Err)
                .ok_or_else(|| format!("{}: unknown error {n}", self.addr).into()),
        }
    }

    /// A question by itself.
    ///
    /// # Errors
    /// As [`answer`](Self::answer).
    pub fn call(&mut self, request: &Request<'_>) -> Result<Result<Vec<u8>, ErrorCode>, Failure> {
        let xid = self.ask(request);
        self.flush()?;
        self.answer(xid)
    }

    fn answer_to(&mut self, to: i32) -> Result<(i32, Vec<u8>), Failure> {
        let frame = self.frame()?;
        let (header, r) = ReplyHeader::decode(&frame).map_err(|e| format!("{}: {e}", self.addr))?;
        if header.xid != to {
            return Err(format!("{}: an answer to {} instead of {to}", self.addr, header.xid).into());
        }
        Ok((header.err, r.rest().to_vec()))
    }

    fn frame(&mut self) -> Result<Vec<u8>, Failure> {
        let mut len = [0; 4];
        self.stream.read_exact(&mut len).map_err(|e| self.gone(&e))?;
        let len = u32::from_be_bytes(len) as usize;
        if len > FRAME_BYTES_MAX {
            return Err(format!("{}: a frame of {len} bytes: is it a ZooKeeper server?", self.addr).into());
        }
        let mut frame = vec![0; len];
        self.stream.read_exact(&mut frame).map_err(|e| self.gone(&e))?;
        Ok(frame)
    }

    fn gone(&self, e: &std::io::Error) -> Failure {
        Failure::new(Code::Unavailable, format!("{}: the connection broke off: {e}", self.addr))
    }
}

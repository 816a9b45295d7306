//! What is wrong with a server, and what can the user do about it? Said in words at the end of a run that it
//! spoiled.

use zoolog_zk::jute::ErrorCode;

/// Bytes of a foreign answer that are shown.
const SHOWN_BYTES: usize = 32;

/// Why sessions can't be had, or went away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// No connection came to be.
    Unreachable(String),
    /// The server closed the connection instead of answering the connect request.
    Closed,
    /// The server answers nothing at all, for so many milliseconds.
    Silent(u64),
    /// What answers is no ZooKeeper; how its answer begins.
    Foreign(String),
    /// The server gives no session.
    Refused,
    /// The server wants credentials, or does not like those it got.
    Denied(i32),
    /// The server allows nothing where the load is to be.
    Forbidden,
    /// A request of the set-up failed.
    Failed(String),
    /// A connection that was up ended.
    Lost(String),
}

impl Cause {
    /// What came instead of an answer of ZooKeeper's.
    pub fn foreign(bytes: &[u8]) -> Self {
        Self::Foreign(bytes[..bytes.len().min(SHOWN_BYTES)].escape_ascii().to_string())
    }

    /// What an error number means for the run as a whole, if anything.
    pub fn of_error(code: i32) -> Option<Self> {
        match ErrorCode::from_code(code)? {
            ErrorCode::AuthFailed | ErrorCode::SessionClosedRequireSaslAuth => Some(Self::Denied(code)),
            ErrorCode::NoAuth => Some(Self::Forbidden),
            _ => None,
        }
    }

    /// Whether it is no use to try again.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Foreign(_) | Self::Denied(_) | Self::Forbidden | Self::Failed(_))
    }
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreachable(why) => {
                write!(f, "no connection ({why}): start the server, or correct --servers")
            }
            Self::Closed => f.write_str(
                "closed the connection without an answer: is it the client port, has the server a quorum, does \
                 its limit of connections per client (maxClientCnxns) allow so many --sessions?",
            ),
            Self::Silent(ms) => write!(
                f,
                "takes connections but has answered nothing for {ms} ms: is it stopped, without a quorum, or a \
                 port that waits for TLS? A longer --connect-timeout waits longer"
            ),
            Self::Foreign(bytes) => write!(
                f,
                "what answers is no ZooKeeper (it says \"{bytes}\"): --servers wants client ports, 2181 unless \
                 configured otherwise"
            ),
            Self::Refused => f.write_str(
                "the server refuses to give a session: it may be starting, read-only or shutting down; its log \
                 says why",
            ),
            Self::Denied(code) => {
                let name = ErrorCode::from_code(*code).map_or(String::new(), |e| format!("{e:?}, "));
                write!(
                    f,
                    "wants credentials or refused those given (error {name}{code}): give --auth \
                     digest:USER:PASSWORD, or use a server that does not enforce authentication"
                )
            }
            Self::Forbidden => f.write_str(
                "permits nothing under the --prefix (error NoAuth, -102): choose another --prefix, or give --auth",
            ),
            Self::Failed(what) => write!(f, "{what}"),
            Self::Lost(why) => {
                write!(f, "the connection was lost ({why}): did the server die? Its log says why")
            }
        }
    }
}

/// What was last wrong with each server.
#[derive(Clone, Debug, Default)]
pub struct Troubles {
    causes: Vec<Option<Cause>>,
    changed: bool,
}

impl Troubles {
    /// Of `servers` servers, nothing known.
    pub fn new(servers: usize) -> Self {
        Self { causes: vec![None; servers], changed: false }
    }

    /// This is wrong with `server`. What is final stays.
    pub fn note(&mut self, server: usize, cause: Cause) {
        let known = &mut self.causes[server];
        if !known.as_ref().is_some_and(Cause::is_final) {
            *known = Some(cause);
            self.changed = true;
        }
    }

    /// A session is up at `server`.
    pub fn cured(&mut self, server: usize) {
        let known = &mut self.causes[server];
        if known.as_ref().is_some_and(|c| !c.is_final()) {
            *known = None;
            self.changed = true;
        }
    }

    /// All that is known, if that is news.
    pub fn news(&mut self) -> Option<&Self> {
        std::mem::take(&mut self.changed).then_some(&*self)
    }

    /// Adds what another found.
    pub fn merge(&mut self, other: &Self) {
        for (server, cause) in other.causes.iter().enumerate() {
            if let Some(cause) = cause {
                self.note(server, cause.clone());
            }
        }
    }

    /// Whether some server can never serve this run.
    pub fn is_final(&self) -> bool {
        self.causes.iter().flatten().any(Cause::is_final)
    }

    /// One line per server that something is wrong with.
    pub fn told(&self, servers: &[String]) -> String {
        let lines =
            servers.iter().zip(&self.causes).filter_map(|(server, cause)| Some((server, cause.as_ref()?)));
        lines.map(|(server, cause)| format!("\n  {server}: {cause}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_final_cause_stays_others_come_and_go() {
        let mut t = Troubles::new(2);
        t.note(0, Cause::Closed);
        t.cured(0);
        assert!(t.news().is_some() && t.news().is_none());
        t.note(1, Cause::foreign(b"HTTP/1.1 400\r\n"));
        t.note(1, Cause::Closed);
        t.cured(1);
        assert!(t.is_final());
        let told = t.told(&["a:1".to_owned(), "b:2".to_owned()]);
        assert!(
            told.contains("b:2: what answers is no ZooKeeper") && told.contains("HTTP/1.1 400\\r\\n"),
            "{told}"
        );
        assert!(!told.contains("a:1"));
    }

    #[test]
    fn errors_that_spoil_a_run_are_known() {
        assert_eq!(Cause::of_error(-124), Some(Cause::Denied(-124)));
        assert_eq!(Cause::of_error(-102), Some(Cause::Forbidden));
        assert_eq!(Cause::of_error(-101), None);
    }
}

//! How is a node? Asked over its own port, with a deadline.

use crate::exit::{Code, Failure};
use bytes::{Bytes, BytesMut};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;
use zoolog_core::rt::clock;
use zoolog_core::view::View;
use zoolog_core::wire::{self, Hello, Message, OrderIs, Role, Status, WatchCuts};
use zoolog_core::{ClusterId, Incarnation};

const TIMEOUT: Duration = Duration::from_millis(1000);
/// How long a leader is waited for: an election takes less than a second.
const ELECTION: Duration = Duration::from_secs(2);
/// Pause before all are asked again.
const PAUSE: Duration = Duration::from_millis(50);
/// Longest answer to a four-letter word, bytes.
const WORD_BYTES_MAX: u64 = 16 << 20;
/// Longest answer, bytes.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// Asks the orderer or slot at `addr`.
///
/// # Errors
/// With the address in the text.
pub fn ask(addr: &str) -> Result<Value, String> {
    ask_for(addr, Status { request: 1 })
}

/// Asks the orderer or slot at `addr` something that it answers with JSON.
///
/// # Errors
/// With the address in the text.
pub fn ask_for(addr: &str, question: impl Into<Message>) -> Result<Value, String> {
    let json = converse(addr, &[wire::encode(question)], |answer| match answer {
        Message::StatusIs(is) => Some(is.json),
        _ => None,
    })?;
    serde_json::from_str(&json).map_err(|e| format!("{addr}: {e}"))
}

/// Asks the orderer at `addr` for the view; `None` if it does not lead.
///
/// # Errors
/// With the address in the text.
pub fn view(addr: &str) -> Result<Option<View>, String> {
    of_leader(addr, WatchCuts { request: 1 }, order_is).map(|order| order.map(|order| order.view))
}

/// The order so far, as the leader among `orderers` says.
///
/// # Errors
/// If none of them leads.
pub fn order(orderers: &[String]) -> Result<OrderIs, Failure> {
    ask_leader(orderers, WatchCuts { request: 1 }, order_is)
}

fn order_is(answer: Message) -> Option<OrderIs> {
    match answer {
        Message::OrderIs(is) => Some(is),
        _ => None,
    }
}

/// Asks the leader among `orderers` how it is.
///
/// # Errors
/// If none of them leads.
pub fn leader(orderers: &[String]) -> Result<Value, Failure> {
    first_leader(orderers, |addr| ask(addr).map(|status| (status["leader"] == true).then_some(status)))
}

/// Asks each of `orderers` until one leads and gives the answer that `pick` takes.
///
/// # Errors
/// If none of them leads.
pub fn ask_leader<T>(
    orderers: &[String],
    question: impl Into<Message>,
    pick: impl Fn(Message) -> Option<T>,
) -> Result<T, Failure> {
    let question = question.into();
    first_leader(orderers, |addr| of_leader(addr, question.clone(), &pick))
}

/// The same of that cluster's only.
///
/// # Errors
/// If none of them leads.
pub fn ask_leader_of<T>(
    cluster: ClusterId,
    orderers: &[String],
    question: impl Into<Message>,
    pick: impl Fn(Message) -> Option<T>,
) -> Result<T, Failure> {
    let question = question.into();
    first_leader(orderers, |addr| {
        converse_as(cluster, addr, &[wire::encode_ref(&question, &[])], |answer| match answer {
            Message::NotLeader(_) => Some(None),
            other => pick(other).map(Some),
        })
    })
}

/// The answer of the first that leads. While some are there and none leads, as during an election, they are asked again
/// for a while.
fn first_leader<T>(
    orderers: &[String],
    ask: impl Fn(&str) -> Result<Option<T>, String>,
) -> Result<T, Failure> {
    let since = clock::now();
    let mut all = orderers.to_vec();
    loop {
        let mut problems = Vec::new();
        for addr in &all {
            match ask(addr) {
                Ok(Some(answer)) => return Ok(answer),
                Ok(None) => {}
                Err(why) => problems.push(why),
            }
        }
        if problems.len() == all.len() || clock::now().since(since) > ELECTION {
            return Err(nobody_leads(&all, &problems));
        }
        learn(&mut all);
        pause();
    }
}

/// Others may have come since these addresses were written down: those that are there know them.
fn learn(orderers: &mut Vec<String>) {
    for addr in orderers.clone() {
        let status = ask(&addr).unwrap_or_default();
        let now = status["orderers"].as_array().into_iter().flatten().filter_map(|o| o["addr"].as_str());
        for new in now.filter(|new| !orderers.iter().any(|known| known == new)).collect::<Vec<_>>() {
            orderers.push(new.to_string());
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a command that has nothing else to do meanwhile")]
fn pause() {
    std::thread::sleep(PAUSE);
}

/// `None` if the orderer at `addr` does not lead.
fn of_leader<T>(
    addr: &str,
    question: impl Into<Message>,
    pick: impl Fn(Message) -> Option<T>,
) -> Result<Option<T>, String> {
    converse(addr, &[wire::encode(question)], |answer| match answer {
        Message::NotLeader(_) => Some(None),
        other => pick(other).map(Some),
    })
}

fn nobody_leads(orderers: &[String], problems: &[String]) -> Failure {
    let text = if problems.len() == orderers.len() {
        format!(
            "no orderer answers ({}): are they running, and are these their addresses?",
            problems.join("; ")
        )
    } else {
        format!(
            "none of {} leads: a majority of the orderers must run{}",
            orderers.join(","),
            problems.iter().map(|p| format!("; {p}")).collect::<String>()
        )
    };
    Failure::new(Code::Unavailable, text)
}

/// Sends these frames as a client, and waits for the answer that `pick` takes.
///
/// # Errors
/// With the address in the text. What was asked for may have been done all the same.
pub fn converse<T>(addr: &str, question: &[Bytes], pick: impl Fn(Message) -> Option<T>) -> Result<T, String> {
    converse_as(ClusterId(0), addr, question, pick)
}

/// The same, of that cluster: a node of another one refuses.
fn converse_as<T>(
    cluster: ClusterId,
    addr: &str,
    question: &[Bytes],
    pick: impl Fn(Message) -> Option<T>,
) -> Result<T, String> {
    let wrong = |what: String| format!("{addr}: {what}");
    let at = addr.to_socket_addrs().map_err(|e| wrong(e.to_string()))?.next();
    let at = at.ok_or_else(|| wrong("no address".into()))?;
    let mut stream = TcpStream::connect_timeout(&at, TIMEOUT).map_err(|e| wrong(e.to_string()))?;
    stream.set_read_timeout(Some(TIMEOUT)).map_err(|e| wrong(e.to_string()))?;
    let hello = Hello { role: Role::Client, cluster, node: 0, slot: 0, incarnation: Incarnation(0) };
    let mut frames = wire::encode(hello).to_vec();
    question.iter().for_each(|frame| frames.extend_from_slice(frame));
    stream.write_all(&frames).map_err(|e| wrong(e.to_string()))?;
    let mut got = BytesMut::new();
    loop {
        while let Some(len) = wire::frame_length(&got, ANSWER_BYTES_MAX).map_err(|e| wrong(e.to_string()))? {
            if got.len() < len {
                break;
            }
            let frame: Bytes = got.split_to(len).freeze();
            let answer = wire::decode(frame).map_err(|e| wrong(e.to_string()))?.message;
            if let Message::Refused(refused) = &answer {
                return Err(wrong(refused.text.clone()));
            }
            if let Some(picked) = pick(answer) {
                return Ok(picked);
            }
        }
        let mut chunk = [0u8; 4096];
        match stream.read(&mut chunk).map_err(|e| wrong(e.to_string()))? {
            0 => return Err(wrong("it closed the connection".into())),
            n => got.extend_from_slice(&chunk[..n]),
        }
    }
}

/// Asks a ZooKeeper node a four-letter word.
///
/// # Errors
/// With the address in the text.
pub fn four_letters(addr: &str, word: &str) -> Result<String, String> {
    let wrong = |e: std::io::Error| format!("{addr}: {e}");
    let at = addr.to_socket_addrs().map_err(wrong)?.next().ok_or_else(|| format!("{addr}: no address"))?;
    let mut stream = TcpStream::connect_timeout(&at, TIMEOUT).map_err(wrong)?;
    stream.set_read_timeout(Some(TIMEOUT)).map_err(wrong)?;
    stream.write_all(word.as_bytes()).map_err(wrong)?;
    let mut text = String::new();
    stream.take(WORD_BYTES_MAX).read_to_string(&mut text).map_err(wrong)?;
    Ok(text)
}

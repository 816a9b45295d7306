//! What is in a running ZooKeeper, ours or another's? Every node is asked for, level by level of a path, many at a time.
//! It is not of one moment: what changes meanwhile is read before or after.

use super::client::Client;
use super::{Sink, is_own, unless_open};
use crate::exit::{Code, Failure};
use zoolog_zk::jute::{ErrorCode, Reader, Request};
use zoolog_zk::txn::{Acl, ImportedNode, Stat};

/// Nodes that are asked for at a time.
const AT_A_TIME: usize = 256;

/// Reads all of it that these identities may see.
///
/// # Errors
/// If it can't be reached, or there is something that they may not see.
pub fn read(addr: &str, identities: &[String], sink: &mut dyn Sink) -> Result<(), Failure> {
    let mut client = Client::open(addr, identities)?;
    let mut open = vec![String::from("/")];
    while !open.is_empty() {
        let mut some = open.split_off(open.len().saturating_sub(AT_A_TIME));
        some.reverse();
        for (path, children) in ask(&mut client, addr, &some, sink)?.into_iter().rev() {
            let below = path.trim_end_matches('/');
            open.extend(children.iter().rev().map(|name| format!("{below}/{name}")));
        }
    }
    Ok(())
}

/// Asks for these nodes; gives each one's children.
fn ask(
    client: &mut Client,
    addr: &str,
    paths: &[String],
    sink: &mut dyn Sink,
) -> Result<Vec<(String, Vec<String>)>, Failure> {
    let mut asked = Vec::with_capacity(paths.len());
    for path in paths {
        let path = path.as_str();
        let acl = client.ask(&Request::GetAcl { path: path.into() });
        let data = client.ask(&Request::GetData { path: path.into(), watch: false });
        client.ask(&Request::GetChildren { path: path.into(), watch: false, with_stat: true });
        asked.push((path, acl, data));
    }
    client.flush()?;
    let mut found = Vec::with_capacity(paths.len());
    for (path, acl, data) in asked {
        let answers =
            [client.answer(acl)?, client.answer(data)?, client.answer(data.wrapping_add(1).max(1))?];
        let refused = |error: ErrorCode| {
            let text = format!(
                "{addr}: {path}: {error:?}: give an identity that may read everything, such as --auth \
                 digest:super:PASSWORD"
            );
            Failure::new(Code::Fault, text)
        };
        let [Ok(acl), Ok(data), Ok(children)] = answers else {
            match answers.into_iter().find_map(Result::err) {
                Some(ErrorCode::NoNode) => continue, // it went meanwhile
                Some(error) => return Err(refused(error)),
                None => unreachable!("one of them is an error"),
            }
        };
        let wrong = |e| Failure::from(format!("{addr}: {path}: {e}"));
        let acl = Reader::new(&acl).acls().map_err(wrong)?;
        let mut r = Reader::new(&data);
        let data = r.buffer().map_err(wrong)?.map(<[u8]>::to_vec);
        let stat = r.stat().map_err(wrong)?;
        let mut r = Reader::new(&children);
        let mut names: Vec<String> = r.strings().map_err(wrong)?.into_iter().map(Into::into).collect();
        names.sort_unstable();
        if stat.ephemeral_owner > 0 {
            sink.ephemeral();
        } else if !is_own(path) {
            sink.node(node(path, data, acl, &stat))?;
        }
        found.push((path.to_owned(), names));
    }
    Ok(found)
}

fn node(path: &str, data: Option<Vec<u8>>, acl: Vec<Acl>, stat: &Stat) -> ImportedNode {
    // Creates plus deletes of children, and children are creates less deletes.
    let created = (i64::from(stat.cversion) + i64::from(stat.num_children)) / 2;
    ImportedNode {
        path: path.into(),
        data,
        acl: unless_open(acl),
        owner: 0,
        created: u64::try_from(created).unwrap_or(0),
        versions: [stat.version, stat.aversion],
        times: [stat.ctime, stat.mtime],
    }
}

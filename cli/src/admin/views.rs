//! `zoolog admin finalize`, `rebuild` and `want-shards`: what an operator decides about the shards.

use crate::args::{AskArgs, FinalizeArgs, WantShardsArgs};
use crate::exit::{Code, Failure};
use crate::{out, status};
use serde_json::json;
use zoolog_core::ShardId;
use zoolog_core::view::{ShardState, View};
use zoolog_core::wire::{self, Decided, Finalize, Message, RebuildShard, WantShards};

/// Ends a shard.
///
/// # Errors
/// If there is no such shard, or it can't be ended now.
pub fn finalize(args: &FinalizeArgs) -> Result<(), Failure> {
    let shard = ShardId(args.shard);
    let view = view(&args.ask)?;
    match view.shard(shard).map(|s| s.state == ShardState::Live) {
        None => {
            let ids: Vec<String> = view.shards.iter().map(|s| s.id.to_string()).collect();
            let text = format!("there is no shard {shard}; there are {}", ids.join(", "));
            return Err(Failure::new(Code::NotFound, text));
        }
        Some(false) => return say(&args.ask, view.number.0, &format!("shard {shard} was finalized before")),
        Some(true) => {}
    }
    let decided = decide(&args.ask, Finalize { request: 1, shard })?;
    say(
        &args.ask,
        decided.view.0,
        &format!("shard {shard} is finalized: it takes no appends, and stays readable"),
    )
}

/// Has a copy made in place of one that a shard has lost.
///
/// # Errors
/// If nothing is lost, or it can't be made now.
pub fn rebuild(args: &FinalizeArgs) -> Result<(), Failure> {
    let shard = ShardId(args.shard);
    let decided = decide(&args.ask, RebuildShard { request: 1, shard })?;
    let text = format!("a copy of shard {shard} is being made: `zoolog admin shards` shows how far it is");
    say(&args.ask, decided.view.0, &text)
}

/// Says how many shards are to take appends.
///
/// # Errors
/// If it can't be decided now, or there can't be so many.
pub fn want(args: &WantShardsArgs) -> Result<(), Failure> {
    let decided = decide(&args.ask, WantShards { request: 1, shards: args.shards })?;
    let text = format!(
        "{} shards are wanted: those that lack are formed as there are servers for them",
        args.shards
    );
    say(&args.ask, decided.view.0, &text)
}

fn view(ask: &AskArgs) -> Result<View, Failure> {
    Ok(status::order(&ask.place.orderers()?)?.view)
}

fn say(ask: &AskArgs, view: u64, text: &str) -> Result<(), Failure> {
    if ask.json { out::print(json!({ "view": view, "text": text })) } else { out::print(text) }
}

/// Has the leader decide.
fn decide(ask: &AskArgs, wish: impl Into<Message>) -> Result<Decided, Failure> {
    let orderers = ask.place.orderers()?;
    let leader = status::leader(&orderers)?;
    let Some(addr) = leader["leader_addr"].as_str() else {
        return Err(Failure::new(Code::Unavailable, "the leader just changed: try again"));
    };
    let decided = status::converse(addr, &[wire::encode(wish)], |answer| match answer {
        Message::Decided(is) => Some(Some(is)),
        Message::NotLeader(_) => Some(None),
        _ => None,
    });
    match decided {
        Ok(Some(is)) if is.refused.is_empty() => Ok(is),
        Ok(Some(is)) => {
            let code = if is.retry { Code::Unavailable } else { Code::Fault };
            Err(Failure::new(code, format!("refused: {}", is.refused)))
        }
        Ok(None) => Err(Failure::new(Code::Unavailable, "the leader just changed: try again")),
        Err(why) => Err(Failure::new(
            Code::Unknown,
            format!(
                "{why}: whether it was decided is unknown. `zoolog admin shards` shows it; asking again does no harm"
            ),
        )),
    }
}

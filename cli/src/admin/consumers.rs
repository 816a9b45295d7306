//! `zoolog admin consumers`: who holds the trim point back, and how to let go of one that won't come back.

use crate::args::{AskArgs, ConsumersArgs, ConsumersCommand};
use crate::exit::{Code, Failure};
use crate::{out, status};
use serde_json::{Value, json};
use zoolog_core::Gsn;
use zoolog_core::wire::{ForgetConsumer, Message};

/// Carries it out.
///
/// # Errors
/// If no orderer leads, or there is no consumer of that name.
pub fn run(args: &ConsumersArgs) -> Result<(), Failure> {
    match &args.command {
        None => show(&args.ask),
        Some(ConsumersCommand::Forget { name, ask }) => forget(name, ask),
    }
}

fn show(args: &AskArgs) -> Result<(), Failure> {
    let leader = status::leader(&args.place.orderers()?)?;
    let (trim, tail) = (position(&leader["trim"]), position(&leader["tail"]));
    let consumers: Vec<(&String, u64)> = leader["consumers"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, at)| (name, position(at)))
        .collect();
    if args.json {
        let all: Vec<Value> = consumers
            .iter()
            .map(|(name, at)| json!({ "name": name, "position": at, "behind": tail.saturating_sub(*at) }))
            .collect();
        return out::print(format!("{:#}", json!({ "trim": trim, "tail": tail, "consumers": all })));
    }
    out::print(format!("The log goes from {trim} to {tail}."))?;
    if consumers.is_empty() {
        return out::print("There is no consumer: nothing is trimmed by itself.");
    }
    let lowest = consumers.iter().map(|c| c.1).min();
    let mut table = out::table(["consumer", "position", "behind", "note"], 1..3);
    for (name, at) in consumers {
        let note = if Some(at) == lowest { "nothing from here on is trimmed" } else { "" };
        table.add_row([name.clone(), at.to_string(), tail.saturating_sub(at).to_string(), note.into()]);
    }
    out::print(table)
}

fn position(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

fn forget(name: &str, args: &AskArgs) -> Result<(), Failure> {
    let orderers = args.place.orderers()?;
    let leader = status::leader(&orderers)?;
    let known = leader["consumers"].as_object();
    if !known.is_some_and(|all| all.contains_key(name)) {
        let near =
            known.into_iter().flatten().map(|c| c.0).min_by_key(|k| strsim::damerau_levenshtein(k, name));
        let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        return Err(Failure::new(Code::NotFound, format!("there is no consumer `{name}`{hint}")));
    }
    let question = ForgetConsumer { request: 1, name: name.to_string() };
    let (upto, trim): (Option<Gsn>, Gsn) = status::ask_leader(&orderers, question, |answer| match answer {
        Message::ConsumerIs(is) => Some((is.upto, is.trim)),
        _ => None,
    })?;
    if let Some(at) = upto {
        let text = format!("`{name}` registered again, at {at}: it still runs. Stop it first");
        return Err(Failure::new(Code::Fault, text));
    }
    if args.json {
        return out::print(json!({ "forgotten": name, "trim": trim.0 }));
    }
    out::print(format!("`{name}` is forgotten; the log begins at {trim}, and is trimmed as the others go on"))
}

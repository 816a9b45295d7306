//! Who are the orderers, and who is to be one? A table; and changes, asked of whoever leads until they are decided.

use super::cell;
use crate::args::AskArgs;
use crate::exit::{Code, Failure};
use crate::{out, status};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use std::time::Duration;
use zoolog_core::rt::clock;
use zoolog_core::wire::{self, ChangeOrderers, ChangeOutcome, Message, NewOrderer, OrdererChange};
use zoolog_core::{Instant, OrdererId};

/// Pause before asking again.
const PAUSE: Duration = Duration::from_millis(100);

/// `zoolog admin orderers`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct OrderersArgs {
    /// What to change; without it they are listed
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    ask: AskArgs,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Add an orderer that waits for it (`zoolog order --join`): it catches up, then it votes
    Add {
        /// Its id: above all ids that were ever used
        id: u64,
        /// Where it is reached, `host:port`
        addr: String,
        /// The id of the orderer that goes the moment the new one votes
        #[arg(long, value_name = "ID")]
        replace: Option<u64>,
        /// Return once it is decided that it comes, without waiting until it votes
        #[arg(long)]
        no_wait: bool,
        #[command(flatten)]
        how: How,
    },
    /// Remove an orderer for good: its id and data directory are never used again
    Remove {
        /// Its id
        id: u64,
        #[command(flatten)]
        how: How,
    },
    /// Have another orderer lead
    Transfer {
        /// Its id
        id: u64,
        #[command(flatten)]
        how: How,
    },
}

/// How a change is asked for.
#[derive(Debug, Args)]
struct How {
    #[command(flatten)]
    ask: AskArgs,
    /// How long it may take, seconds
    #[arg(long, value_name = "S", default_value_t = 60)]
    timeout: u64,
}

/// Carries out `zoolog admin orderers ...`.
///
/// # Errors
/// With the exit code, and a text for a person.
pub fn run(args: &OrderersArgs) -> Result<(), Failure> {
    match &args.action {
        None => list(&Cluster::of(&args.ask, 0)?.ask()?, args.ask.json),
        Some(Action::Add { id, addr, replace, no_wait, how }) => {
            let mut cluster = Cluster::of(&how.ask, how.timeout)?;
            let new = NewOrderer { id: OrdererId(*id), addr: addr.clone(), replaces: replace.map(OrdererId) };
            cluster.change(OrdererChange::Add(new))?;
            if !no_wait {
                let voter = json!("voter");
                cluster.wait(
                    &format!("orderer {id} catches up"),
                    &format!("check that it answers at {addr} and was started with --join"),
                    |all| is(all, *id, "role", &voter) && replace.is_none_or(|old| find(all, old).is_none()),
                )?;
            }
            say(how, &format!("orderer {id} {}", if *no_wait { "comes" } else { "votes" }))
        }
        Some(Action::Remove { id, how }) => {
            let mut cluster = Cluster::of(&how.ask, how.timeout)?;
            let now = cluster.ask()?;
            if is(&now, *id, "leader", &json!(true))
                && let Some(heir) = heir(&now, *id)
            {
                cluster.hand_over(heir)?;
            }
            cluster.change(OrdererChange::Remove(OrdererId(*id)))?;
            say(how, &format!("orderer {id} is removed; its process ends by itself"))
        }
        Some(Action::Transfer { id, how }) => {
            Cluster::of(&how.ask, how.timeout)?.hand_over(*id)?;
            say(how, &format!("orderer {id} leads"))
        }
    }
}

fn say(how: &How, text: &str) -> Result<(), Failure> {
    if how.ask.json { out::print(json!({ "text": text })) } else { out::print(text) }
}

/// What one orderer says of all.
type Orderers = Vec<Value>;

fn find(all: &Orderers, id: u64) -> Option<&Value> {
    all.iter().find(|o| o["id"] == id)
}

fn is(all: &Orderers, id: u64, key: &str, value: &Value) -> bool {
    find(all, id).is_some_and(|o| o[key] == *value)
}

/// Who could lead in place of `id`: who lags least.
fn heir(all: &Orderers, id: u64) -> Option<u64> {
    let voters = all.iter().filter(|o| o["role"] == "voter" && o["id"] != id);
    voters.min_by_key(|o| o["lag"].as_u64().unwrap_or(u64::MAX))?["id"].as_u64()
}

/// The orderers as they are asked.
struct Cluster {
    addrs: Vec<String>,
    until: Instant,
}

impl Cluster {
    fn of(ask: &AskArgs, timeout_s: u64) -> Result<Self, Failure> {
        Ok(Self { addrs: ask.place.orderers()?, until: clock::now() + Duration::from_secs(timeout_s) })
    }

    /// Waits a little; whether there is still time.
    fn pause(&self) -> bool {
        let there_is = clock::now() < self.until;
        if there_is {
            nap();
        }
        there_is
    }

    /// What the leader says of all; without a leader, what one says that answers.
    fn ask(&mut self) -> Result<Orderers, Failure> {
        let mut wrong = Vec::new();
        let mut best: Option<Value> = None;
        let mut i = 0;
        while let Some(addr) = self.addrs.get(i).cloned() {
            i += 1;
            match status::ask(&addr) {
                Ok(status) => {
                    // Others may have come since the addresses were written down.
                    let all = status["orderers"].as_array().into_iter().flatten();
                    for new in all.filter_map(|o| o["addr"].as_str()) {
                        if !self.addrs.iter().any(|a| a == new) {
                            self.addrs.push(new.to_string());
                        }
                    }
                    let leads = status["leader"] == true;
                    let applied = |s: &Value| s["applied"].as_u64();
                    if leads || best.as_ref().is_none_or(|b| applied(b) < applied(&status)) {
                        best = Some(status);
                    }
                    if leads {
                        break;
                    }
                }
                Err(e) => wrong.push(e),
            }
        }
        match best {
            Some(status) => Ok(status["orderers"].as_array().cloned().unwrap_or_default()),
            None => {
                let text = format!("no orderer answers ({}): are they running?", wrong.join("; "));
                Err(Failure::new(Code::Unavailable, text))
            }
        }
    }

    /// Asks for a change until it is decided. What is so already counts as decided, so asking again does no harm.
    fn change(&mut self, change: OrdererChange) -> Result<(), Failure> {
        let question = [wire::encode(ChangeOrderers { request: 1, change })];
        let (mut turn, mut hint, mut asked, mut last) = (0, None, false, String::new());
        loop {
            let addr = hint.take().unwrap_or_else(|| {
                turn += 1;
                self.addrs[turn % self.addrs.len()].clone()
            });
            let answer = status::converse(&addr, &question, |answer| match answer {
                Message::OrderersChanged(m) => Some(Ok(m.outcome)),
                Message::NotLeader(m) => Some(Err(m.leader)),
                _ => None,
            });
            match answer {
                Ok(Ok(ChangeOutcome::Done)) => return Ok(()),
                Ok(Ok(ChangeOutcome::Refused(text))) => return Err(Failure::new(Code::Fault, text)),
                Ok(Ok(ChangeOutcome::Later(text))) => last = text,
                Ok(Err(Some(leader))) if leader != addr => hint = Some(leader),
                Ok(Err(_)) => last = format!("{addr} knows of no leader"),
                Err(e) => {
                    asked = true;
                    last = e;
                }
            }
            if !self.pause() {
                let (code, so) = match asked {
                    true => {
                        (Code::Unknown, "whether it was decided is unknown: `zoolog admin orderers` shows it")
                    }
                    false => (Code::Unavailable, "nothing was changed"),
                };
                return Err(Failure::new(code, format!("it takes too long: {last}; {so}")));
            }
        }
    }

    /// Has `id` lead, and waits until it does.
    fn hand_over(&mut self, id: u64) -> Result<(), Failure> {
        self.change(OrdererChange::Transfer(OrdererId(id)))?;
        let hint = "it may have lost the election: try again";
        self.wait(&format!("orderer {id} takes over"), hint, |all| is(all, id, "leader", &json!(true)))
    }

    /// Waits until `done`, and shows that it does.
    fn wait(&mut self, what: &str, hint: &str, done: impl Fn(&Orderers) -> bool) -> Result<(), Failure> {
        let bar = ProgressBar::new_spinner().with_message(what.to_string());
        bar.set_style(ProgressStyle::with_template("{spinner} {msg} ({elapsed})").expect("a sound template"));
        loop {
            let all = self.ask().unwrap_or_default();
            if done(&all) {
                bar.finish_and_clear();
                return Ok(());
            }
            if let Some(learner) = all.iter().find(|o| o["role"] == "learner") {
                bar.set_message(format!("{what}: {} entries behind", learner["lag"]));
            }
            bar.tick();
            if !self.pause() {
                bar.finish_and_clear();
                return Err(Failure::new(Code::NotYet, format!("{what}, but it takes too long: {hint}")));
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a command that has nothing else to do meanwhile")]
fn nap() {
    std::thread::sleep(PAUSE);
}

fn list(all: &Orderers, as_json: bool) -> Result<(), Failure> {
    if as_json {
        out::print(format!("{:#}", json!({ "orderers": all })))?;
    } else {
        let mut table = out::table(["id", "address", "role", "leader", "matched", "lag"], 4..6);
        for o in all {
            let leads = if o["leader"] == true { "yes" } else { "" };
            let [id, addr, role, matched, lag] =
                ["id", "addr", "role", "matched", "lag"].map(|key| cell(&o[key]));
            table.add_row([id, addr, role, leads.into(), matched, lag]);
        }
        out::print(table)?;
    }
    match all.iter().any(|o| o["leader"] == true) {
        true => Ok(()),
        false => Err(Failure::new(Code::Unavailable, "no orderer leads: a majority of them must run")),
    }
}

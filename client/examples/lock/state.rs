//! Locks with fencing tokens, replicated, and a resource that they protect: all there is to it.

use std::collections::BTreeMap;
use zoolog_client::replicated::rkyv::{Archive, Archived, Deserialize, Serialize};
use zoolog_client::replicated::{Image, StateMachine, unarchive};
use zoolog_core::Gsn;

/// Locks that are held, and resources, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Locks {
    held: BTreeMap<String, Held>,
    /// What was written last, and with which token.
    resources: BTreeMap<String, (u64, String)>,
    /// The latest time that anybody has said.
    now_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
struct Held {
    owner: String,
    token: u64,
    until_ms: u64,
}

/// What changes them.
#[derive(Clone, Debug, Archive, Serialize, Deserialize)]
pub enum Command {
    Lock {
        name: String,
        owner: String,
        now_ms: u64,
        lease_ms: u64,
    },
    Unlock {
        name: String,
        token: u64,
    },
    /// Of the resource that the lock protects.
    Write {
        name: String,
        token: u64,
        text: String,
    },
}

/// What a command came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    Yours { token: u64 },
    Held { owner: String, for_ms: u64 },
    Unlocked(bool),
    Written(bool),
}

impl Locks {
    pub fn read(&self, name: &str) -> &str {
        self.resources.get(name).map_or("", |(_, text)| text)
    }
}

impl StateMachine for Locks {
    type Command = Command;
    type Outcome = Told;

    fn apply(&mut self, gsn: Gsn, command: &Archived<Command>) -> Told {
        match command {
            Archived::<Command>::Lock { name, owner, now_ms, lease_ms } => {
                self.now_ms = self.now_ms.max(now_ms.to_native());
                let held = self.held.get(name.as_str()).filter(|h| h.until_ms > self.now_ms);
                if let Some(h) = held.filter(|h| h.owner != owner.as_str()) {
                    return Told::Held { owner: h.owner.clone(), for_ms: h.until_ms - self.now_ms };
                }
                let token = held.map_or(gsn.0, |h| h.token);
                let until_ms = self.now_ms.saturating_add(lease_ms.to_native());
                self.held.insert(name.to_string(), Held { owner: owner.to_string(), token, until_ms });
                Told::Yours { token }
            }
            Archived::<Command>::Unlock { name, token } => {
                let held = self.held.get(name.as_str()).is_some_and(|h| h.token == token.to_native());
                Told::Unlocked(held && self.held.remove(name.as_str()).is_some())
            }
            Archived::<Command>::Write { name, token, text } => {
                let (newest, kept) = self.resources.entry(name.to_string()).or_default();
                let is_current = *newest <= token.to_native();
                if is_current {
                    (*newest, *kept) = (token.to_native(), text.to_string());
                }
                Told::Written(is_current)
            }
        }
    }

    fn snapshot(&self) -> Image {
        Image::archive(self)
    }

    fn restore(image: &[u8]) -> Result<Self, String> {
        unarchive(image)
    }
}

//! A key-value map, replicated: all there is to it.

use std::collections::BTreeMap;
use zoolog_client::replicated::rkyv::{Archive, Archived, Deserialize, Serialize};
use zoolog_client::replicated::{Image, StateMachine, unarchive};
use zoolog_core::Gsn;

/// The map. Ordered, so that equal maps have equal bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Map(BTreeMap<String, String>);

/// What changes it.
#[derive(Clone, Debug, Archive, Serialize, Deserialize)]
pub enum Command {
    Put {
        key: String,
        value: String,
    },
    Delete {
        key: String,
    },
    /// Puts `new` only where `old` is.
    Swap {
        key: String,
        old: String,
        new: String,
    },
}

impl Map {
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl StateMachine for Map {
    type Command = Command;
    /// The value that there was before.
    type Outcome = Option<String>;

    fn apply(&mut self, _: Gsn, command: &Archived<Command>) -> Option<String> {
        match command {
            Archived::<Command>::Put { key, value } => self.0.insert(key.to_string(), value.to_string()),
            Archived::<Command>::Delete { key } => self.0.remove(key.as_str()),
            Archived::<Command>::Swap { key, old, new } => {
                let value = self.0.get_mut(key.as_str())?;
                let before = value.clone();
                if before == old.as_str() {
                    *value = new.to_string();
                }
                Some(before)
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

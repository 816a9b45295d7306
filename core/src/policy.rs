//! What may somebody choose who keeps a state on the log? How records come to him, when a write is answered, what a read
//! shows. What each choice promises is in `docs/POLICIES.md`.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

macro_rules! policy {
    ($(#[$doc:meta])* $name:ident { $($(#[$of:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub enum $name { $($(#[$of])* $variant,)* }

        impl $name {
            /// All there are.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// As in settings.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                let known: Vec<_> = Self::ALL.iter().map(|p| p.name()).collect();
                let found = Self::ALL.iter().find(|p| p.name() == text);
                found.copied().ok_or_else(|| format!("`{text}` is none of: {}", known.join(", ")))
            }
        }
    };
}

policy! {
    /// How records come to a consumer.
    Fetch {
        /// They are pushed to it as soon as they are durable.
        #[default]
        Streamed = "streamed",
        /// Now and then it asks all shards at once for all that is new.
        Batched = "batched",
        /// Now and then it asks for what is new, one range of positions after the other.
        Deferred = "deferred",
        /// It asks likewise, but only when somebody waits for something.
        Lazy = "lazy",
    }
}

policy! {
    /// When a write is answered.
    Acks {
        /// Once it is applied: with what it came to.
        #[default]
        Applied = "applied",
        /// Once it is in the log, whatever it will come to: a plain create, and a delete of any version. All others are
        /// answered with what only applying them can tell, and wait for that.
        Logged = "logged",
    }
}

policy! {
    /// What a read shows.
    Reads {
        /// What is applied here, its session's own writes included.
        #[default]
        Session = "session",
        /// All that was answered to anybody before it came: it waits for the log's tail, shared by the reads of a turn.
        Linearizable = "linearizable",
        /// The same, by a record of its own in the log.
        Log = "log",
    }
}

impl Fetch {
    /// Whether records are asked for, not pushed.
    pub const fn is_pulled(self) -> bool {
        !matches!(self, Self::Streamed)
    }

    /// Whether one range is asked for after the other.
    pub const fn is_serial(self) -> bool {
        matches!(self, Self::Deferred | Self::Lazy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for policy in Fetch::ALL {
            assert_eq!(policy.to_string().parse(), Ok(*policy));
        }
        assert!("eager".parse::<Fetch>().unwrap_err().contains("streamed, batched, deferred, lazy"));
        assert_eq!((Acks::default().name(), Reads::default().name()), ("applied", "session"));
    }
}

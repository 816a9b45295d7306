//! What is in each message? The bodies, by conversation.

macro_rules! body {
    ($(#[$doc:meta])* $name:ident { $( $(#[$fdoc:meta])* $field:ident: $ty:ty, )* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
        pub struct $name { $( $(#[$fdoc])* pub $field: $ty, )* }
    };
}

macro_rules! plain_enum {
    ($(#[$doc:meta])* $name:ident { $( $(#[$vdoc:meta])* $variant:ident, )* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
        pub enum $name { $( $(#[$vdoc])* $variant, )* }
    };
}

mod append;
mod grown;
mod hello;
mod members;
mod mend;
mod names;
mod offers;
mod order;
mod read;
mod replicate;
mod resolve;
mod room;
mod succession;
mod trim;
mod views;

pub use append::*;
pub use grown::*;
pub use hello::*;
pub use members::*;
pub use mend::*;
pub use names::*;
pub use offers::*;
pub use order::*;
pub use read::*;
pub use replicate::*;
pub use resolve::*;
pub use room::*;
pub use succession::*;
pub use trim::*;
pub use views::*;

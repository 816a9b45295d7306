//! The slot machine among others of its kind: real logs, virtual connections, one action at a time.

mod append;
mod bad_input;
mod copies;
mod hostile;
mod lend;
mod random;
mod read;
mod restart;
mod room;
mod rot;
mod seal;
mod stages;
mod subscribe;
mod trim;
mod world;

//! Tests of the node, on a log in memory.

mod chaos;
mod fifo;
mod limits;
mod memlog;
mod sessions;
mod watches;
mod words;
mod world;

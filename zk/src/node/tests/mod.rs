//! Tests of the node, on a log in memory.

mod chaos;
mod fifo;
mod held;
mod limits;
mod memlog;
mod sessions;
mod snapshots;
mod watches;
mod words;
mod world;

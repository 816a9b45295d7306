//! Tests of the node, on a log in memory.

mod chaos;
mod executors;
mod fifo;
mod held;
mod limits;
mod member;
mod memlog;
mod sessions;
mod several;
mod snapshots;
mod watches;
mod words;
mod world;

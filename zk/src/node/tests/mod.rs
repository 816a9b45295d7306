//! Tests of the node, on a log in memory.

mod acl;
mod again;
mod bad_input;
mod behind;
mod chaos;
mod divergence;
mod executors;
mod fifo;
mod held;
mod limits;
mod lives;
mod member;
mod memlog;
mod multi;
mod policies;
mod read_only;
mod sessions;
mod several;
mod snapshots;
mod standing;
mod steps;
mod watches;
mod words;
mod world;

//! Does the log client keep its promises? Single rules by scripted peers, and whole runs against a model
//! cluster.

mod bench;
mod consumers;
mod delivery;
mod rules;

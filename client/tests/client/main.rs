//! Does the log client keep its promises? Single rules by scripted peers, a conversation a file, and whole runs
//! against a model cluster (`delivery`).

mod bad_input;
mod bench;
mod conditional;
mod consumers;
mod delivery;
mod garbage;
mod leaving;
mod names;
mod offers;
mod order;
mod pulled;
mod reads;
mod sealing;
mod stranded;
mod subscription;
mod tails;
mod trims;
mod writer;
